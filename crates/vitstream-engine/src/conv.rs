//! Convolutions packed for the kernels.

use std::cell::Cell;

use crate::kernels::{
    Arena, Block, ConvTask, Epilogue, Kernels, TransformTask, Weights, WinogradTask, narrow,
};
use crate::lag::Edge;
use crate::line::{LINE, Line, SMALL, aligned, floats, floats_mut, halves, halves_mut, padded, zeros};
use crate::rows::Rows;
use crate::spec::{ConvSpec, UpSpec};
use crate::winograd::Plan;

/// The convolution method of a [`Decoder`](crate::Decoder). Each gives the same bits for every division of an
/// utterance into pushes and for any number of threads. An [`Encoder`](crate::Encoder) always uses Winograd's
/// method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Mode {
    /// Winograd's method where it needs fewer multiplications and its tiles wait for at most one additional
    /// frame.
    #[default]
    Winograd,
    /// Direct sums everywhere: the simplest computation, for comparison. The audio differs by rounding, less
    /// than 2e-5.
    Direct,
}

/// Parameters of packing besides the weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) kernels: Kernels,
    /// The destination of the weights.
    pub(crate) arena: &'a Arena,
    /// The tiles of Winograd's method that may be used, if any.
    pub(crate) tiles: Option<Tiles>,
    pub(crate) halves: &'a Halves,
}

/// The number of weights in convolutions, and the number of those kept as float16.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HalfWeights {
    /// The number of weights kept as float16.
    pub kept: usize,
    /// The number of all weights.
    pub all: usize,
}

/// Whether weights may be kept as float16, and how many are.
#[derive(Debug)]
pub(crate) struct Halves {
    wanted: bool,
    counted: Cell<HalfWeights>,
}

impl Halves {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { wanted, counted: Cell::default() }
    }

    fn count(&self, weights: usize, half: bool) {
        let HalfWeights { kept, all } = self.counted.get();
        self.counted.set(HalfWeights { kept: kept + if half { weights } else { 0 }, all: all + weights });
    }

    pub(crate) fn counted(&self) -> HalfWeights {
        self.counted.get()
    }
}

/// Limits on the tiles of Winograd's method.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiles {
    /// Set for layers before the generator's up-sampling, where errors are amplified.
    pub(crate) accurate: bool,
    /// Set if tiles are computed even if there are only few rows. Otherwise they are computed only if there are
    /// enough, so the result is independent of the division only for a whole sequence.
    ///
    /// Weights of such tiles are stored transformed, which takes up to twice the memory and pays if few rows share
    /// them. Other weights, and those stored as float16, are transformed whenever they are used.
    pub(crate) always: bool,
    /// The end of the known input of a stream, and the number of rows for which a tile may wait beyond it.
    pub(crate) wait: Option<(Edge, i64)>,
}

impl Tiles {
    /// The plan with the fewest multiplications for a kernel.
    fn plan(self, kernel: usize, dilation: usize, c_in: usize) -> Option<Plan> {
        let waits = |plan: &Plan| {
            self.wait.is_none_or(|(edge, most)| edge.wait((plan.outputs() * dilation) as i64) <= most)
        };
        Plan::choices(kernel, self.accurate).filter(|_| c_in >= MIN_CHANNELS).find(waits)
    }
}

/// Input channels below which the transforms cost more than they save.
const MIN_CHANNELS: usize = 32;

/// Number of tiles below which transforming the weights costs more than it saves.
const MIN_TILES: usize = 8;

/// Weights in the order in which the kernels read them: panels of two registers of output channels (the last
/// one may have a single register, depending on the padded channels), each `[taps][c_in][channels of the
/// panel]`.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    weights: Block,
    /// Set if the weights are float16.
    half: bool,
    /// In panel order.
    bias: Vec<Line>,
    taps: usize,
    c_in: usize,
    /// Channels of the panels.
    channels: usize,
}

impl Panels {
    /// Packs into `weights`, which must be zeros.
    fn pack(mut weights: Block, lanes: usize, bias: Vec<Line>, taps: &Taps<'_>) -> Self {
        taps.pack(lanes, floats_mut(&mut weights));
        Self::new(weights, false, bias, taps)
    }

    fn new(weights: Block, half: bool, bias: Vec<Line>, taps: &Taps<'_>) -> Self {
        Self { weights, half, bias, taps: taps.taps, c_in: taps.c_in, channels: taps.starts.len() }
    }

    /// Packs the weights as float16 if that changes none of them.
    fn pack_halves(target: Target<'_>, taps: &Taps<'_>) -> Option<Block> {
        let mut packed = None;
        if target.halves.wanted {
            let lines = taps.floats().div_ceil(LINE);
            target.arena.with_scratch(lines + lines.div_ceil(2), |scratch| {
                let (from, to) = scratch.split_at_mut(lines);
                let from = &mut floats_mut(from)[..taps.floats()];
                taps.pack(target.kernels.lanes(), from);
                if narrow(from, halves_mut(to)) {
                    packed.insert(target.arena.zeros(to.len())).copy_from_slice(to);
                }
            });
        }
        target.halves.count(taps.floats(), packed.is_some());
        packed
    }

    fn weights(&self) -> Weights<'_> {
        if self.half { Weights::Half(halves(&self.weights)) } else { Weights::Single(floats(&self.weights)) }
    }

    /// Panels of computed values, with one tap and without bias: `value(o, c) = values[o * o_step + c *
    /// c_step]` for a `shape` of output channels and `c_in`.
    pub(crate) fn of_values(
        kernels: Kernels,
        (channels, c_in): (usize, usize),
        values: &[f32],
        (o_step, c_step): (usize, usize),
    ) -> Self {
        let starts: Vec<_> =
            (0..padded(channels)).map(|o| if o < channels { o * o_step } else { PADS }).collect();
        let bias = zeros(starts.len());
        let weights = zeros(starts.len() * c_in).into();
        let taps =
            Taps { data: values, starts, c_in, c_step: c_step as isize, taps: 1, tap_step: 0, factor: 1.0 };
        Self::pack(weights, kernels.lanes(), bias, &taps)
    }

    /// `value(o, c) = rows[o * stride + c]` for a `shape` of output channels and `c_in`, for [`Panels::multiply`].
    pub(crate) fn set_rows(&mut self, kernels: Kernels, shape: (usize, usize), rows: &[f32], stride: usize) {
        let (width, c_in) = (2 * kernels.lanes(), shape.1);
        let panels = self.fit(shape).chunks_mut(width * c_in);
        for (panel, rows) in panels.zip(rows.chunks(width * stride)) {
            let width = panel.len() / c_in;
            for (o, row) in rows.chunks_exact(stride).enumerate() {
                for (out, v) in panel[o..].iter_mut().step_by(width).zip(&row[..c_in]) {
                    *out = *v;
                }
            }
        }
    }

    /// The same for `value(o, c) = rows[c * stride + o]`; the rows are zeros past their channels.
    pub(crate) fn set_columns(
        &mut self,
        kernels: Kernels,
        shape: (usize, usize),
        rows: &[f32],
        stride: usize,
    ) {
        let (width, c_in) = (2 * kernels.lanes(), shape.1);
        let panels = self.fit(shape).chunks_mut(width * c_in);
        for (i, panel) in panels.enumerate() {
            let (first, width) = (i * width, panel.len() / c_in);
            for (out, row) in panel.chunks_exact_mut(width).zip(rows.chunks_exact(stride)) {
                out.copy_from_slice(&row[first..][..width]);
            }
        }
    }

    /// Resizes to panels of zeros with one tap and no bias, unless they already have this shape. Returns
    /// their values.
    fn fit(&mut self, (channels, c_in): (usize, usize)) -> &mut [f32] {
        let channels = padded(channels);
        if (self.channels, self.c_in, self.taps) != (channels, c_in, 1) {
            let (weights, bias) = (zeros(channels * c_in).into(), zeros(channels));
            *self = Self { weights, half: false, bias, taps: 1, c_in, channels };
        }
        floats_mut(&mut self.weights)
    }

    /// `out[r, o] (+)= sum over c of x[r, c] * value(o, c)` for whole rows.
    pub(crate) fn multiply(
        &self,
        kernels: Kernels,
        (x, x_stride): (&[f32], usize),
        rows: usize,
        out: &mut [f32],
        accumulate: bool,
    ) {
        let bias = floats(&self.bias);
        kernels.conv(ConvTask {
            x,
            x_stride,
            tap_step: 0,
            taps: 1,
            c_in: self.c_in,
            weights: self.weights(),
            bias,
            rows,
            step: out.len() / rows,
            epilogue: Epilogue::Linear {
                residual: None,
                addend: None,
                accumulate,
                raw: Some(out),
                act: None,
            },
        });
    }

    /// The same for Winograd's method, `[products][groups][c_in][channels of the panel]`; `target` provides
    /// scratch memory for the intermediate panels.
    fn transformed(target: Target<'_>, plan: Plan, bias: Vec<Line>, taps: &Taps<'_>) -> Self {
        let (channels, c_in) = (taps.starts.len(), taps.c_in);
        let products = plan.products() * plan.groups;
        let mut weights = target.arena.zeros((channels * c_in * products).div_ceil(LINE));
        target.arena.with_scratch(taps.floats().div_ceil(LINE), |scratch| {
            let scratch = &mut floats_mut(scratch)[..taps.floats()];
            taps.pack(target.kernels.lanes(), scratch);
            target.kernels.transform_weights(&mut TransformTask {
                plan,
                kernel: taps.taps,
                c_in,
                channels,
                weights: scratch,
                out: floats_mut(&mut weights),
            });
        });
        Self { taps: products, ..Self::new(weights, false, bias, taps) }
    }

    /// The bias in panel order, which is replaced for a speaker.
    pub(crate) fn bias(&self) -> &[Line] {
        &self.bias
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.weights) + size_of_val(self.bias.as_slice())
    }
}

/// The location of a convolution's weights: `data[start of the channel + c * c_step + tap * tap_step] *
/// factor`.
#[derive(Debug)]
struct Taps<'a> {
    data: &'a [f32],
    /// Start of each channel of the panels; [`PADS`] for a padding channel.
    starts: Vec<usize>,
    c_in: usize,
    c_step: isize,
    taps: usize,
    tap_step: isize,
    factor: f32,
}

/// The start of a padding channel: whatever is added to it is outside every slice.
const PADS: usize = usize::MAX / 2;

impl Taps<'_> {
    /// Number of floats of the panels.
    fn floats(&self) -> usize {
        self.starts.len() * self.c_in * self.taps
    }

    /// Writes every float of the panels, for registers of `lanes` floats.
    fn pack(&self, lanes: usize, mut out: &mut [f32]) {
        for starts in self.starts.chunks(2 * lanes) {
            let (panel, rest) = out.split_at_mut(starts.len() * self.c_in * self.taps);
            out = rest;
            // The taps of one input channel after the other, so that adjacent memory is read.
            for c in 0..self.c_in {
                for tap in 0..self.taps {
                    let offset = c as isize * self.c_step + tap as isize * self.tap_step;
                    let row = &mut panel[(tap * self.c_in + c) * starts.len()..][..starts.len()];
                    for (out, start) in row.iter_mut().zip(starts) {
                        *out = self.data.get(start.wrapping_add_signed(offset)).copied().unwrap_or(0.0);
                    }
                    for out in row {
                        let weight = *out * self.factor;
                        *out = if weight.abs() < SMALL { 0.0 } else { weight };
                    }
                }
            }
        }
    }
}

/// `value(channel)` for `channels` channels of panels.
fn packed_bias(channels: usize, value: impl Fn(usize) -> f32) -> Vec<Line> {
    let mut lines = zeros(channels);
    for (c, bias) in floats_mut(&mut lines)[..channels].iter_mut().enumerate() {
        *bias = value(c);
    }
    lines
}

/// Changes to a convolution's channels made by the engine's own algebra while packing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fold {
    /// Factor of the weights.
    pub(crate) weight: f32,
    /// Factor of the bias.
    pub(crate) bias: f32,
    /// Input channels in reverse order: a `Flip` before.
    pub(crate) flip_in: bool,
    /// Output channels in reverse order: a `Flip` after.
    pub(crate) flip_out: bool,
}

impl Default for Fold {
    fn default() -> Self {
        Self { weight: 1.0, bias: 1.0, flip_in: false, flip_out: false }
    }
}

/// A convolution with one output row per input row.
#[derive(Debug)]
pub(crate) struct Conv {
    packed: Packed,
    /// Context rows on each side.
    reach: usize,
    /// Output channel for each channel of the panels; `None` for padding.
    order: Vec<Option<usize>>,
}

/// Panels and the method to compute with them.
#[derive(Debug)]
struct Packed {
    panels: Panels,
    /// Taps of the convolution.
    kernel: usize,
    dilation: usize,
    winograd: Option<Winograd>,
}

/// The parameters of Winograd's method for a convolution.
#[derive(Debug)]
struct Winograd {
    plan: Plan,
    /// Set if the direct method is never used.
    always: bool,
    /// Set if the panels are stored transformed.
    transformed: bool,
}

impl Conv {
    /// Packs `outputs` (a range of output channels) and `inputs` of a checked, ungrouped convolution.
    pub(crate) fn part(
        target: Target<'_>,
        spec: &ConvSpec<'_>,
        inputs: std::ops::Range<usize>,
        outputs: std::ops::Range<usize>,
        fold: Fold,
    ) -> Self {
        let order = (0..padded(outputs.len()))
            .map(|i| {
                (i < outputs.len())
                    .then(|| if fold.flip_out { outputs.end - 1 - i } else { outputs.start + i })
            })
            .collect();
        Self::ordered(target, spec, inputs, order, fold)
    }

    /// Packs all of a checked, ungrouped convolution.
    pub(crate) fn new(target: Target<'_>, spec: &ConvSpec<'_>, fold: Fold) -> Self {
        Self::part(target, spec, 0..spec.c_in, 0..spec.c_out, fold)
    }

    /// Packs a gate: the channels of tanh and of sigmoid interleaved, one register of each per panel.
    pub(crate) fn gate(target: Target<'_>, spec: &ConvSpec<'_>) -> Self {
        let lanes = target.kernels.lanes();
        let hidden = spec.c_out / 2;
        let order = (0..2 * padded(hidden))
            .map(|i| {
                let (panel, half, lane) = (i / (2 * lanes), i / lanes % 2, i % lanes);
                let channel = panel * lanes + lane;
                (channel < hidden).then_some(channel + half * hidden)
            })
            .collect();
        Self::ordered(target, spec, 0..spec.c_in, order, Fold::default())
    }

    fn ordered(
        target: Target<'_>,
        spec: &ConvSpec<'_>,
        inputs: std::ops::Range<usize>,
        order: Vec<Option<usize>>,
        fold: Fold,
    ) -> Self {
        let (first, c_step) = if fold.flip_in { (inputs.end - 1, -1) } else { (inputs.start, 1) };
        let weight = spec.weight.elements();
        let taps = Taps {
            data: &weight,
            starts: order.iter().map(|o| o.map_or(PADS, |o| (o * spec.c_in + first) * spec.kernel)).collect(),
            c_in: inputs.len(),
            c_step: c_step * spec.kernel as isize,
            taps: spec.kernel,
            tap_step: 1,
            factor: fold.weight,
        };
        let bias = packed_bias(order.len(), |i| match (order[i], &spec.bias) {
            (Some(o), Some(bias)) => bias[o] * fold.bias,
            _ => 0.0,
        });
        let plan = target.tiles.and_then(|tiles| tiles.plan(spec.kernel, spec.dilation, inputs.len()));
        let packed = Packed::new(target, plan, spec.dilation, bias, &taps);
        Self { packed, reach: spec.reach(), order }
    }

    pub(crate) fn reach(&self) -> usize {
        self.reach
    }

    /// Rows of a block that must be computed at once.
    pub(crate) fn block(&self) -> usize {
        self.packed.block()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.packed.panels.bytes()
    }

    /// The packed bias plus `extra[channel]`, for a speaker.
    pub(crate) fn bias_with(&self, extra: &[f32]) -> Vec<Line> {
        let mut bias = self.packed.panels.bias().to_vec();
        for (b, o) in floats_mut(&mut bias).iter_mut().zip(&self.order) {
            if let Some(o) = o {
                *b += extra[*o];
            }
        }
        bias
    }

    /// Computes the rows `from..to` of `input`'s time, in whole blocks from `from` on; the last block may be
    /// incomplete.
    pub(crate) fn run(
        &self,
        kernels: Kernels,
        input: &Rows,
        (from, to): (i64, i64),
        bias: Option<&[Line]>,
        step: usize,
        epilogue: Epilogue<'_>,
    ) {
        let x = (input.since(from - self.reach as i64), input.stride());
        self.packed.run(kernels, x, (to - from) as usize, bias, step, epilogue);
    }
}

impl Packed {
    fn new(
        target: Target<'_>,
        plan: Option<Plan>,
        dilation: usize,
        bias: Vec<Line>,
        taps: &Taps<'_>,
    ) -> Self {
        let always = target.tiles.is_some_and(|tiles| tiles.always);
        let halves = Panels::pack_halves(target, taps);
        let transformed = always && halves.is_none();
        let winograd = plan.map(|plan| Winograd { plan, always, transformed });
        let panels = match (halves, winograd.as_ref()) {
            (Some(weights), _) => Panels::new(weights, true, bias, taps),
            (None, Some(&Winograd { plan, transformed: true, .. })) => {
                Panels::transformed(target, plan, bias, taps)
            }
            (None, _) => {
                let weights = target.arena.zeros(taps.floats().div_ceil(LINE));
                Panels::pack(weights, target.kernels.lanes(), bias, taps)
            }
        };
        Self { panels, kernel: taps.taps, dilation, winograd }
    }

    /// Rows of a block that must be computed at once.
    fn block(&self) -> usize {
        self.winograd.as_ref().map_or(1, |winograd| winograd.plan.outputs() * self.dilation)
    }

    /// Computes `rows` rows; `x` starts with the input of tap 0 for the first row.
    fn run(
        &self,
        kernels: Kernels,
        (x, x_stride): (&[f32], usize),
        rows: usize,
        bias: Option<&[Line]>,
        step: usize,
        epilogue: Epilogue<'_>,
    ) {
        let Self { panels, kernel, dilation, .. } = self;
        let (c_in, weights) = (panels.c_in, panels.weights());
        let bias = floats(bias.unwrap_or(&panels.bias));
        let bias = &bias[..panels.channels];
        let enough = |w: &&Winograd| w.always || rows >= MIN_TILES * w.plan.outputs();
        match self.winograd.as_ref().filter(enough) {
            Some(&Winograd { plan, transformed, .. }) => kernels.winograd(WinogradTask {
                x,
                x_stride,
                dilation: *dilation,
                kernel: *kernel,
                c_in,
                plan,
                weights,
                transformed,
                bias,
                rows,
                step,
                epilogue,
            }),
            None => kernels.conv(ConvTask {
                x,
                x_stride,
                tap_step: dilation * x_stride,
                taps: *kernel,
                c_in,
                weights,
                bias,
                rows,
                step,
                epilogue,
            }),
        }
    }
}

/// `ConvTranspose1d` as a convolution for each of its phases: sample `q * stride + r` of the output is a sum
/// over the input rows `q + ahead - taps < t <= q + ahead` with every `stride`-th tap of the kernel.
#[derive(Debug)]
pub(crate) struct Up {
    phases: Vec<Phase>,
    channels: usize,
}

#[derive(Debug)]
struct Phase {
    packed: Packed,
    /// The last input row used, counted from the output's own.
    ahead: usize,
}

impl Up {
    pub(crate) fn new(target: Target<'_>, spec: &UpSpec<'_>, factor: f32) -> Self {
        let channels = padded(spec.c_out);
        // All phases are computed for the same input rows, so tiles must have one length.
        let taps = spec.kernel / spec.stride;
        let tiles = target.tiles.filter(|_| spec.kernel.is_multiple_of(spec.stride));
        let plan = tiles.and_then(|tiles| tiles.plan(taps, 1, spec.c_in));
        let weight = spec.weight.elements();
        let phases = (0..spec.stride)
            .map(|r| {
                let (ahead, first) = ((r + spec.padding) / spec.stride, (r + spec.padding) % spec.stride);
                let taps = (spec.kernel - first).div_ceil(spec.stride);
                // Tap 0 reads the earliest row, which is multiplied by the kernel's last tap of this phase.
                let last = first + (taps - 1) * spec.stride;
                let taps = Taps {
                    data: &weight,
                    starts: (0..channels)
                        .map(|o| if o < spec.c_out { o * spec.kernel + last } else { PADS })
                        .collect(),
                    c_in: spec.c_in,
                    c_step: (spec.c_out * spec.kernel) as isize,
                    taps,
                    tap_step: -(spec.stride as isize),
                    factor,
                };
                let bias = packed_bias(channels, |o| match &spec.bias {
                    Some(bias) if o < spec.c_out => bias[o],
                    _ => 0.0,
                });
                let packed = Packed::new(target, plan, 1, bias, &taps);
                Phase { packed, ahead }
            })
            .collect();
        Self { phases, channels }
    }

    pub(crate) fn stride(&self) -> usize {
        self.phases.len()
    }

    /// Input rows of a block that must be computed at once.
    pub(crate) fn block(&self) -> usize {
        self.phases[0].packed.block()
    }

    /// Context rows before and after.
    pub(crate) fn reach(&self) -> (usize, usize) {
        let before = self.phases.iter().map(|p| (p.packed.kernel - 1).saturating_sub(p.ahead)).max();
        let after = self.phases.iter().map(|p| p.ahead).max();
        (before.unwrap_or(0), after.unwrap_or(0))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.phases.iter().map(|p| p.packed.panels.bytes()).sum()
    }

    /// Computes the output rows for the input rows `from..to`; the slices begin at the first of them.
    pub(crate) fn run(
        &self,
        kernels: Kernels,
        input: &Rows,
        (from, to): (i64, i64),
        mut raw: Option<&mut [f32]>,
        mut act: Option<(&mut [f32], f32)>,
    ) {
        for (r, phase) in self.phases.iter().enumerate() {
            let first = r * self.channels;
            let x = input.since(from + phase.ahead as i64 - (phase.packed.kernel - 1) as i64);
            let epilogue = Epilogue::Linear {
                residual: None,
                addend: None,
                accumulate: false,
                raw: raw.as_deref_mut().map(|s| &mut s[first..]),
                act: act.as_mut().map(|(s, slope)| (&mut s[first..], *slope)),
            };
            let (rows, step) = ((to - from) as usize, self.stride() * self.channels);
            phase.packed.run(kernels, (x, input.stride()), rows, None, step, epilogue);
        }
    }
}

/// The convolution to a single channel that ends the generator.
#[derive(Debug)]
pub(crate) struct ConvPost {
    /// `[taps][padded c_in]`.
    pub(crate) weights: Vec<Line>,
    pub(crate) bias: f32,
    pub(crate) reach: usize,
    pub(crate) dilation: usize,
}

impl ConvPost {
    pub(crate) fn new(spec: &ConvSpec<'_>, factor: f32) -> Self {
        let weight = spec.weight.elements();
        let mut row = vec![0.0; padded(spec.c_in) * spec.kernel];
        for (tap, row) in row.chunks_exact_mut(padded(spec.c_in)).enumerate() {
            for (c, w) in row.iter_mut().take(spec.c_in).enumerate() {
                *w = weight[c * spec.kernel + tap] * factor;
            }
        }
        let bias = spec.bias.as_ref().map_or(0.0, |b| b[0]);
        Self { weights: aligned(&row), bias, reach: spec.reach(), dilation: spec.dilation }
    }
}

const _: () = assert!(LINE == 16, "panels assume that a padded row is a whole number of registers");
