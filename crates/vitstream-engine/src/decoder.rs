//! Flow and generator: from the latent `z_p` to samples, in pushes of any length.

use std::sync::Arc;

use crate::conv::{Conv, ConvPost, Fold, HalfWeights, Halves, Mode, Target, Tiles, Up};
use crate::error::{Error, input, shape};
use crate::kernels::{Arena, Isa, Kernels};
use crate::lag::Edge;
use crate::line::SMALL;
use crate::options::Options;
use crate::program::{Buf, Cond, Kind, Op, Program, State};
use crate::spec::{ConvSpec, CouplingSpec, DecoderSpec, FlowSpec, GeneratorSpec, ResBlockSpec, limit};
use crate::winograd::Plan;
use crate::workers::Workers;

/// Number of frames processed at once: longer pushes are divided, so that memory does not grow with them.
const BLOCK: usize = 56;

/// Number of rows that a stage of the generator computes at once.
const STAGE_BLOCK: usize = 448;

/// Slope of every LeakyReLU of the generator but the last (`modules.LRELU_SLOPE`).
const SLOPE: f32 = 0.1;
/// Slope of the last: upstream calls `F.leaky_relu(x)` there, with PyTorch's default.
const LAST_SLOPE: f32 = 0.01;

/// Upstream's `flow` in reverse and `dec`, packed for the kernels. Cheap to clone: weights are shared.
#[derive(Debug, Clone)]
pub struct Decoder {
    program: Arc<Program>,
    workers: Workers,
    ports: Ports,
    shape: Shape,
    halves: HalfWeights,
}

/// The inputs of the latent: the halves that the couplings exchange.
#[derive(Debug, Clone, Copy)]
struct Ports {
    a: Buf,
    b: Buf,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    channels: usize,
    gin: usize,
    hop: usize,
    reach: usize,
    look_ahead: usize,
}

impl Decoder {
    /// Checks and packs a network.
    ///
    /// # Errors
    /// When shapes disagree, weights are not finite, sizes exceed the limits, or `options` request something
    /// that this machine lacks.
    pub fn new(spec: &DecoderSpec<'_>, options: Options) -> Result<Self, Error> {
        let kernels = Kernels::new(options.isa, options.threads)?;
        let workers = Workers::new(options.threads)?;
        let hop = check_generator(&spec.generator, spec.flow.channels)?;
        check_flow(&spec.flow)?;
        let gin = gin_channels(spec)?;
        let mut program = Program::new(kernels);
        let arena = &Arena::default();
        let counted = &Halves::new(options.half_weights);
        let packer = Packer { kernels, arena, mode: options.mode, halves: counted };
        let halves = build_flow(&mut program, packer, &spec.flow)?;
        let ports = build_generator(&mut program, packer, &spec.generator, halves, spec.flow.layers.len())?;
        let (reach, look_ahead) = (reach(spec), program.finish()?);
        let shape = Shape { channels: spec.flow.channels, gin, hop, reach, look_ahead };
        Ok(Self { program: Arc::new(program), workers, ports, shape, halves: counted.counted() })
    }

    /// Opens a stream for one utterance. `g: [gin_channels]` is the speaker's embedding, given exactly if the
    /// network has speakers.
    ///
    /// # Errors
    /// When `g` is missing, unexpected, of the wrong length or not finite.
    pub fn stream(&self, g: Option<&[f32]>) -> Result<Stream, Error> {
        let g = g.unwrap_or_default();
        if g.len() != self.shape.gin {
            return Err(input("speaker embedding g", format!("{} values", self.shape.gin), g.len()));
        }
        finite("speaker embedding g", g)?;
        let state = State::new(Arc::clone(&self.program), g);
        Ok(Stream {
            state,
            workers: self.workers.clone(),
            ports: self.ports,
            shape: self.shape,
            frames: 0,
            given: 0,
            early: Vec::new(),
            finished: false,
        })
    }

    /// `inter_channels`: the rows of a latent.
    pub fn channels(&self) -> usize {
        self.shape.channels
    }

    /// Length of `g`; 0 without speakers.
    pub fn gin_channels(&self) -> usize {
        self.shape.gin
    }

    /// Samples per frame: the product of `upsample_rates`.
    pub fn hop(&self) -> usize {
        self.shape.hop
    }

    /// Frames on each side on which a sample depends, rounded up.
    pub fn receptive_field(&self) -> usize {
        self.shape.reach
    }

    /// Frames by which the samples lag behind the pushes, until the end: the receptive field, up to one
    /// additional row at each rate, because all phases of an input row are computed at once, plus the frames
    /// that tiles wait for.
    pub fn look_ahead(&self) -> usize {
        self.shape.look_ahead
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.program.kernels.isa()
    }

    /// Number of weights kept as float16; see [`Options::half_weights`].
    pub fn half_weights(&self) -> HalfWeights {
        self.halves
    }

    /// Size of the packed weights in bytes.
    pub fn weight_bytes(&self) -> usize {
        self.program.bytes()
    }
}

/// One utterance being decoded.
#[derive(Debug)]
pub struct Stream {
    state: State,
    workers: Workers,
    ports: Ports,
    shape: Shape,
    frames: usize,
    /// Number of samples returned so far.
    given: usize,
    /// Samples that are known before they are due.
    early: Vec<f32>,
    finished: bool,
}

impl Stream {
    /// Takes the next `frames` frames and appends the samples of as many frames to `out`, or, near the
    /// beginning, those of the frames that are followed by more than [`Decoder::look_ahead`] frames.
    ///
    /// `z`: `[inter_channels, frames]`, row-major, as upstream's `z_p`.
    ///
    /// # Errors
    /// When the stream is finished, `frames` is 0, or `z` has the wrong size or a value that is not finite;
    /// nothing is consumed then. When a sample is NaN: nothing is appended then, and the stream is finished.
    pub fn push(&mut self, z: &[f32], frames: usize, out: &mut Vec<f32>) -> Result<(), Error> {
        self.push_strided(z, frames, frames, out)
    }

    /// [`Stream::push`] for `frames` columns of a longer latent: channel `c` begins at `z[c * stride]`.
    ///
    /// # Errors
    /// As for [`Stream::push`].
    pub fn push_strided(
        &mut self,
        z: &[f32],
        stride: usize,
        frames: usize,
        out: &mut Vec<f32>,
    ) -> Result<(), Error> {
        if self.finished {
            return Err(Error::Finished);
        }
        if frames == 0 {
            return Err(input("frames", "at least 1", 0));
        }
        let needed = stride.checked_mul(self.shape.channels - 1).and_then(|n| n.checked_add(frames));
        if stride < frames || needed.is_none_or(|n| z.len() < n) {
            return Err(input(
                "latent z",
                format!("{} channels of {frames} frames, {stride} apart", self.shape.channels),
                format!("{} values", z.len()),
            ));
        }
        for row in z.chunks(stride).take(self.shape.channels) {
            finite("latent z", &row[..frames])?;
        }
        let half = self.shape.channels / 2;
        for first in (0..frames).step_by(BLOCK) {
            let n = BLOCK.min(frames - first);
            for (buf, channels) in [(self.ports.a, 0..half), (self.ports.b, half..self.shape.channels)] {
                let rows = self.state.input(buf);
                let from = rows.end();
                rows.extend_to(from + n as i64);
                let width = rows.stride();
                for (t, row) in rows.since_mut(from).chunks_exact_mut(width).enumerate() {
                    row.fill(0.0);
                    for (v, c) in row.iter_mut().zip(channels.clone()) {
                        let value = z[c * stride + first + t];
                        *v = if value.abs() < SMALL { 0.0 } else { value };
                    }
                }
            }
            self.frames += n;
            self.workers.run(|| self.state.advance(&mut self.early));
        }
        let due = self.frames.saturating_sub(self.shape.look_ahead) * self.shape.hop;
        self.give(due, out)
    }

    /// Appends the samples up to sample `due`, if all available samples are finite.
    fn give(&mut self, due: usize, out: &mut Vec<f32>) -> Result<(), Error> {
        if let Some(at) = self.early.iter().position(|sample| !sample.is_finite()) {
            self.finished = true;
            return Err(Error::NotANumber { sample: self.given + at });
        }
        out.extend(self.early.drain(..due - self.given));
        self.given = due;
        Ok(())
    }

    /// Ends the utterance and appends the remaining samples: `frames * hop` in total.
    ///
    /// # Errors
    /// When the stream is already finished, or no frame was pushed. When a sample is NaN: nothing is appended
    /// then.
    pub fn finish(&mut self, out: &mut Vec<f32>) -> Result<(), Error> {
        if self.finished {
            return Err(Error::Finished);
        }
        if self.frames == 0 {
            return Err(input("frames", "at least 1 before the end", 0));
        }
        self.finished = true;
        self.state.complete(self.frames as i64);
        self.workers.run(|| self.state.advance(&mut self.early));
        self.give(self.frames * self.shape.hop, out)
    }

    /// Number of frames pushed.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Size in bytes of the memory held besides the weights: constant except for the longest push so far.
    pub fn bytes(&self) -> usize {
        self.state.bytes()
    }
}

fn finite(what: &'static str, values: &[f32]) -> Result<(), Error> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(i) => Err(input(what, "finite values", format!("{} at {i}", values[i]))),
    }
}

fn check_flow(flow: &FlowSpec<'_>) -> Result<(), Error> {
    limit("flow", "channels", flow.channels, 2..=65_536, "2 to 65536")?;
    if !flow.channels.is_multiple_of(2) {
        return Err(shape("flow", "an even number of channels", flow.channels));
    }
    let half = flow.channels / 2;
    for (i, CouplingSpec { pre, wn, post }) in flow.layers.iter().enumerate() {
        let name = |part: &str| coupling(i, part);
        let hidden = pre.c_out;
        limit(&name("pre"), "channels", hidden, 1..=65_536, "1 to 65536")?;
        pointwise(&name("pre"), pre)?;
        pre.check(&name("pre"), half, hidden)?;
        pointwise(&name("post"), post)?;
        post.check(&name("post"), hidden, half)?;
        let layers = wn.in_layers.len();
        if layers == 0 || layers != wn.res_skip_layers.len() {
            return Err(shape(
                &name("enc"),
                "as many in_layers as res_skip_layers, at least one",
                format!("{layers} and {}", wn.res_skip_layers.len()),
            ));
        }
        for (l, conv) in wn.in_layers.iter().enumerate() {
            ungrouped(&name(&format!("enc.in_layers.{l}")), conv)?;
            conv.check(&name(&format!("enc.in_layers.{l}")), hidden, 2 * hidden)?;
        }
        for (l, conv) in wn.res_skip_layers.iter().enumerate() {
            let outputs = if l + 1 < layers { 2 * hidden } else { hidden };
            pointwise(&name(&format!("enc.res_skip_layers.{l}")), conv)?;
            conv.check(&name(&format!("enc.res_skip_layers.{l}")), hidden, outputs)?;
        }
        if let Some(cond) = &wn.cond_layer {
            pointwise(&name("enc.cond_layer"), cond)?;
            cond.check(&name("enc.cond_layer"), cond.c_in, 2 * hidden * layers)?;
        }
    }
    Ok(())
}

/// The name of a coupling's part; a `Flip` follows each coupling.
fn coupling(index: usize, part: &str) -> String {
    format!("flow.flows.{}.{part}", 2 * index)
}

fn ungrouped(layer: &str, conv: &ConvSpec<'_>) -> Result<(), Error> {
    if conv.groups == 1 { Ok(()) } else { Err(shape(layer, "1 group", conv.groups)) }
}

fn pointwise(layer: &str, conv: &ConvSpec<'_>) -> Result<(), Error> {
    ungrouped(layer, conv)?;
    if conv.kernel == 1 { Ok(()) } else { Err(shape(layer, "kernel 1", conv.kernel)) }
}

/// Checks the generator; returns the samples per frame.
fn check_generator(spec: &GeneratorSpec<'_>, channels: usize) -> Result<usize, Error> {
    let initial = spec.conv_pre.c_out;
    ungrouped("dec.conv_pre", &spec.conv_pre)?;
    limit("dec.conv_pre", "channels", initial, 1..=65_536, "1 to 65536")?;
    spec.conv_pre.check("dec.conv_pre", channels, initial)?;
    if let Some(cond) = &spec.cond {
        pointwise("dec.cond", cond)?;
        cond.check("dec.cond", cond.c_in, initial)?;
    }
    limit("dec.ups", "stages", spec.ups.len(), 1..=16, "1 to 16")?;
    let kernels = spec.resblocks.len() / spec.ups.len();
    if kernels == 0 || kernels * spec.ups.len() != spec.resblocks.len() {
        return Err(shape(
            "dec.resblocks",
            format!("a multiple of {} blocks", spec.ups.len()),
            spec.resblocks.len(),
        ));
    }
    let (mut c, mut hop) = (initial, 1usize);
    for (i, up) in spec.ups.iter().enumerate() {
        up.check(&format!("dec.ups.{i}"), c)?;
        c = up.c_out;
        hop = hop.saturating_mul(up.stride);
        for j in i * kernels..(i + 1) * kernels {
            check_resblock(&format!("dec.resblocks.{j}"), &spec.resblocks[j], c)?;
        }
    }
    limit("dec.ups", "samples per frame", hop, 1..=65_536, "1 to 65536")?;
    ungrouped("dec.conv_post", &spec.conv_post)?;
    spec.conv_post.check("dec.conv_post", c, 1)?;
    Ok(hop)
}

fn check_resblock(layer: &str, spec: &ResBlockSpec<'_>, c: usize) -> Result<(), Error> {
    let lists: &[(&str, &[ConvSpec<'_>])] = match spec {
        ResBlockSpec::One { convs1, convs2 } => {
            if convs1.len() != convs2.len() {
                return Err(shape(layer, format!("{} convs2", convs1.len()), convs2.len()));
            }
            &[("convs1", convs1), ("convs2", convs2)]
        }
        ResBlockSpec::Two { convs } => &[("convs", convs)],
    };
    for (list, convs) in lists {
        limit(layer, "convolutions", convs.len(), 1..=64, "1 to 64")?;
        for (i, conv) in convs.iter().enumerate() {
            ungrouped(&format!("{layer}.{list}.{i}"), conv)?;
            conv.check(&format!("{layer}.{list}.{i}"), c, c)?;
        }
    }
    Ok(())
}

/// The length of the speaker embedding, on which all conditioned layers must agree.
fn gin_channels(spec: &DecoderSpec<'_>) -> Result<usize, Error> {
    let flows = spec.flow.layers.iter().enumerate();
    let conds: Vec<(String, Option<usize>)> = flows
        .map(|(i, layer)| (format!("flow.flows.{}.enc.cond_layer", 2 * i), layer.wn.cond_layer.as_ref()))
        .chain([("dec.cond".to_owned(), spec.generator.cond.as_ref())])
        .map(|(name, cond)| (name, cond.map(|c| c.c_in)))
        .collect();
    let gin = conds.iter().find_map(|c| c.1);
    for (name, found) in conds {
        match (gin, found) {
            (Some(gin), Some(found)) if found != gin || gin == 0 => {
                return Err(shape(&name, format!("{gin} channels of g, as in other layers"), found));
            }
            _ => {}
        }
    }
    Ok(gin.unwrap_or(0))
}

fn branch_reach(spec: &ResBlockSpec<'_>) -> usize {
    match spec {
        ResBlockSpec::One { convs1, convs2 } => convs1.iter().chain(convs2).map(ConvSpec::reach).sum(),
        ResBlockSpec::Two { convs } => convs.iter().map(ConvSpec::reach).sum(),
    }
}

/// Frames on each side on which a sample depends.
fn reach(spec: &DecoderSpec<'_>) -> usize {
    let generator = &spec.generator;
    let kernels = generator.resblocks.len() / generator.ups.len();
    // From the samples back to frames, in rows of each rate.
    let mut reach = generator.conv_post.reach();
    for (up, blocks) in generator.ups.iter().zip(generator.resblocks.chunks(kernels)).rev() {
        let branches = blocks.iter().map(branch_reach).max().unwrap_or(0);
        reach = (reach + branches + up.padding).div_ceil(up.stride);
    }
    let flow: usize = spec.flow.layers.iter().flat_map(|l| &l.wn.in_layers).map(ConvSpec::reach).sum();
    reach + generator.conv_pre.reach() + flow
}

/// Packs the weights of operations according to their places in the program.
#[derive(Clone, Copy)]
struct Packer<'a> {
    kernels: Kernels,
    arena: &'a Arena,
    mode: Mode,
    halves: &'a Halves,
}

impl<'a> Packer<'a> {
    /// The target for an operation that needs `after` more rows of a stream with the end `edge`.
    ///
    /// Among the tiles that save the most multiplications, it uses those that wait for at most one additional
    /// frame: no sample is known before a tile is full, so every such frame must be computed before the first
    /// audio.
    fn target(self, edge: Edge, after: usize, accurate: bool) -> Target<'a> {
        let Self { kernels, arena, mode, halves } = self;
        let wait = Some((edge.behind(after as i64), edge.rate()));
        let tiles = Tiles { accurate, always: true, wait };
        Target { kernels, arena, tiles: (mode == Mode::Winograd).then_some(tiles), halves }
    }
}

/// Builds the couplings in reverse. A `Flip` reverses all channels: the halves swap places, and the reversal
/// within each half is folded into the channel order of the next weights.
fn build_flow(program: &mut Program, packer: Packer<'_>, flow: &FlowSpec<'_>) -> Result<[Buf; 2], Error> {
    let half = flow.channels / 2;
    program.segment(BLOCK, 1);
    let halves = [(); 2].map(|()| program.buffer(half, 1));
    let target = |program: &Program, buf, after| packer.target(program.edge(buf), after, true);
    for (step, (i, CouplingSpec { pre, wn, post })) in flow.layers.iter().enumerate().rev().enumerate() {
        let name = |part: &str| coupling(i, part);
        let flipped = step % 2 == 0;
        let (source, sink) = if flipped { (1, 0) } else { (0, 1) };
        let hidden = pre.c_out;
        let mut h = program.buffer(hidden, 1);
        let fold = Fold { flip_in: flipped, ..Fold::default() };
        let pre = Conv::new(target(program, halves[source], 0), &pre.at_hand(&name("pre"))?, fold);
        program.push(Op::new(Kind::Conv(pre), halves[source]).store(h));
        let output = program.buffer(hidden, 1);
        let cond_layer =
            wn.cond_layer.as_ref().map(|cond| cond.at_hand(&name("enc.cond_layer"))).transpose()?;
        let layers = wn.in_layers.len();
        for (l, (in_layer, res_skip)) in wn.in_layers.iter().zip(&wn.res_skip_layers).enumerate() {
            let acts = program.buffer(hidden, 1);
            let in_layer = in_layer.at_hand(&name(&format!("enc.in_layers.{l}")))?;
            let gate = Conv::gate(target(program, h, in_layer.reach()), &in_layer);
            let gate = program.push(Op::new(Kind::Gate(gate), h).store(acts));
            if let Some(cond) = &cond_layer {
                let rows = l * 2 * hidden..(l + 1) * 2 * hidden;
                program.conds.push(Cond {
                    op: gate,
                    weight: cond.weight.elements()[rows.start * cond.c_in..rows.end * cond.c_in].to_vec(),
                    bias: cond.bias.as_ref().map_or_else(Vec::new, |b| b[rows].to_vec()),
                });
            }
            let last = l + 1 == layers;
            let target = target(program, acts, 0);
            let res_skip = &res_skip.at_hand(&name(&format!("enc.res_skip_layers.{l}")))?;
            if !last {
                let next = program.buffer(hidden, 1);
                let res = Conv::part(target, res_skip, 0..hidden, 0..hidden, Fold::default());
                program.push(Op::new(Kind::Conv(res), acts).residual(h).store(next));
                h = next;
            }
            let outputs = if last { 0..hidden } else { hidden..2 * hidden };
            let skip = Kind::Conv(Conv::part(target, res_skip, 0..hidden, outputs, Fold::default()));
            let skip = Op::new(skip, acts);
            program.push(if l == 0 { skip.store(output) } else { skip.accumulate(output) });
        }
        // x1 - m, so m is computed with its sign changed.
        let fold = Fold { weight: -1.0, bias: -1.0, flip_out: flipped, ..Fold::default() };
        let post = Conv::new(target(program, output, 0), &post.at_hand(&name("post"))?, fold);
        program.push(Op::new(Kind::Conv(post), output).accumulate(halves[sink]));
    }
    Ok(halves)
}

fn build_generator(
    program: &mut Program,
    packer: Packer<'_>,
    spec: &GeneratorSpec<'_>,
    halves: [Buf; 2],
    flips: usize,
) -> Result<Ports, Error> {
    let pre = &spec.conv_pre.at_hand("dec.conv_pre")?;
    let half = pre.c_in / 2;
    let flipped = flips % 2 == 1;
    let raw = program.buffer(pre.c_out, 1);
    let mut act = program.buffer(pre.c_out, 1);
    // The halves lag differently, so each has its own part of the convolution.
    let inputs = if flipped { [half..pre.c_in, 0..half] } else { [0..half, half..pre.c_in] };
    // The last coupling's target is the slower of the two, and completes the sum.
    let mut parts: Vec<(Buf, std::ops::Range<usize>)> = halves.into_iter().zip(inputs).collect();
    if flipped {
        parts.reverse();
    }
    let mut ops = Vec::new();
    for (buf, inputs) in parts {
        let bias = if inputs.start == 0 { 1.0 } else { 0.0 };
        let fold = Fold { flip_in: flipped, bias, ..Fold::default() };
        let target = packer.target(program.edge(buf), pre.reach(), true);
        let op = Op::new(Kind::Conv(Conv::part(target, pre, inputs, 0..pre.c_out, fold)), buf);
        let first = ops.is_empty();
        ops.push(program.push(if first { op.store(raw) } else { op.addend(raw).activate(act, SLOPE) }));
    }
    if let Some(cond) = &spec.cond {
        program.conds.push(Cond {
            op: ops[0],
            weight: cond.at_hand("dec.cond")?.weight.elements().into_owned(),
            bias: cond.bias.as_ref().map_or_else(Vec::new, |b| b.to_vec()),
        });
    }

    let stages = spec.ups.len();
    let num_kernels = spec.resblocks.len() / stages;
    // The mean over the branches: LeakyReLU commutes with positive factors, so the next weights can include
    // it.
    let mut factor = 1.0;
    let mut rate = 1;
    for (i, (up, blocks)) in spec.ups.iter().zip(spec.resblocks.chunks(num_kernels)).enumerate() {
        program.segment((STAGE_BLOCK / up.stride).max(Plan::MAX_OUTPUTS), up.stride);
        rate *= up.stride;
        let channels = up.c_out;
        let x = Stage { raw: program.buffer(channels, rate), act: program.buffer(channels, rate) };
        let target = packer.target(program.edge(act), up.padding.div_ceil(up.stride), false);
        let up = Up::new(target, &up.at_hand(&format!("dec.ups.{i}"))?, factor);
        program.push(Op::new(Kind::Up(up), act).store(x.raw).activate(x.act, SLOPE));
        act = program.buffer(channels, rate);
        let slope = if i + 1 < stages { SLOPE } else { LAST_SLOPE };
        let sum = program.buffer(channels, rate);
        // A branch that looks further ahead lags further behind, and must find the sum of the others
        // complete.
        let mut branches: Vec<(usize, &ResBlockSpec<'_>)> = blocks.iter().enumerate().collect();
        branches.sort_by_key(|(_, block)| branch_reach(block));
        for (j, (branch, block)) in branches.into_iter().enumerate() {
            let layer = format!("dec.resblocks.{}", i * num_kernels + branch);
            build_resblock(program, packer, (&layer, block), x, (channels, rate), |op| {
                match (j == 0, j + 1 == num_kernels) {
                    (true, true) => op.activate(act, slope),
                    (true, false) => op.store(sum),
                    (false, false) => op.accumulate(sum),
                    (false, true) => op.addend(sum).activate(act, slope),
                }
            })?;
        }
        factor = 1.0 / num_kernels as f32;
    }
    let post = ConvPost::new(&spec.conv_post.at_hand("dec.conv_post")?, factor);
    program.push(Op::new(Kind::Post(post), act));
    Ok(Ports { a: halves[0], b: halves[1] })
}

/// A stream of rows, unchanged and after LeakyReLU.
#[derive(Clone, Copy)]
struct Stage {
    raw: Buf,
    act: Buf,
}

fn build_resblock(
    program: &mut Program,
    packer: Packer<'_>,
    (layer, spec): (&str, &ResBlockSpec<'_>),
    mut x: Stage,
    (channels, rate): (usize, usize),
    last: impl Fn(Op) -> Op,
) -> Result<(), Error> {
    let conv = |program: &Program, input, name: &str, spec: &ConvSpec<'_>| {
        let target = packer.target(program.edge(input), spec.reach(), false);
        let conv = Conv::new(target, &spec.at_hand(&format!("{layer}.{name}"))?, Fold::default());
        Ok::<_, Error>(Op::new(Kind::Conv(conv), input))
    };
    let (units, list): (Vec<(Option<&ConvSpec<'_>>, &ConvSpec<'_>)>, _) = match spec {
        ResBlockSpec::One { convs1, convs2 } => (convs1.iter().map(Some).zip(convs2).collect(), "convs2"),
        ResBlockSpec::Two { convs } => (convs.iter().map(|c| (None, c)).collect(), "convs"),
    };
    let count = units.len();
    for (i, (first, second)) in units.into_iter().enumerate() {
        let mut input = x.act;
        if let Some(first) = first {
            let between = program.buffer(channels, rate);
            let op = conv(program, input, &format!("convs1.{i}"), first)?;
            program.push(op.activate(between, SLOPE));
            input = between;
        }
        let op = conv(program, input, &format!("{list}.{i}"), second)?.residual(x.raw);
        if i + 1 == count {
            program.push(last(op));
        } else {
            let next = Stage { raw: program.buffer(channels, rate), act: program.buffer(channels, rate) };
            program.push(op.store(next.raw).activate(next.act, SLOPE));
            x = next;
        }
    }
    Ok(())
}
