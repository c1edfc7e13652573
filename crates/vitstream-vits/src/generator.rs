//! The vocoder (`dec`): upstream's `Generator`, which is HiFi-GAN's (Kong et al. 2020).

use vitstream_onnx::{ConvAxis, GraphBuilder, ValueId};

use crate::elements::reversed_chunks;
use crate::hparams::{HParams, ResBlockKind};
use crate::modules::{Conv1d, ConvShape};
use crate::read_back::{self, ReadBack, key};
use crate::strided::Strided;
use crate::timeline::{Signal, Timeline, add};
use crate::upsample::ConvTranspose1d;
use crate::weights::{Scope, WeightsError};

/// Upstream's `modules.LRELU_SLOPE`.
const LRELU_SLOPE: f32 = 0.1;

/// PyTorch's default, used by upstream's last `leaky_relu`.
const LAST_LRELU_SLOPE: f32 = 0.01;

/// Taps of the first and the last convolution, fixed upstream.
const EDGE_KERNEL: usize = 7;

/// Upstream's `ResBlock1`.
pub struct ResBlock1 {
    /// Dilated.
    pub convs1: Vec<Conv1d>,
    /// Undilated.
    pub convs2: Vec<Conv1d>,
}

/// Upstream's `ResBlock2`.
pub struct ResBlock2 {
    /// Dilated.
    pub convs: Vec<Conv1d>,
}

/// One of the two blocks.
pub enum ResBlock {
    /// Pairs of convolutions.
    One(ResBlock1),
    /// Single convolutions.
    Two(ResBlock2),
}

impl ResBlock {
    fn load(
        w: &Scope<'_>,
        kind: ResBlockKind,
        channels: usize,
        kernel: usize,
        dilations: &[usize],
    ) -> Result<Self, WeightsError> {
        let list = |name: &str, dilations: &[usize]| {
            let conv = |(i, &dilation): (usize, &usize)| {
                let shape = ConvShape { c_in: channels, c_out: channels, kernel, dilation };
                Conv1d::load_weight_norm(&w.pp(name).pp(i), shape)
            };
            dilations.iter().enumerate().map(conv).collect::<Result<Vec<_>, _>>()
        };
        Ok(match kind {
            ResBlockKind::ResBlock1 => Self::One(ResBlock1 {
                convs1: list("convs1", dilations)?,
                convs2: list("convs2", &vec![1; dilations.len()])?,
            }),
            ResBlockKind::ResBlock2 => Self::Two(ResBlock2 { convs: list("convs", dilations)? }),
        })
    }

    /// The layers, each a chain of convolutions with one residual around it.
    fn layers(&self) -> Vec<Vec<(&'static str, &Conv1d)>> {
        match self {
            Self::One(block) => block
                .convs1
                .iter()
                .zip(&block.convs2)
                .map(|(c1, c2)| vec![("convs1", c1), ("convs2", c2)])
                .collect(),
            Self::Two(block) => block.convs.iter().map(|c| vec![("convs", c)]).collect(),
        }
    }

    /// Steps on each side on which an output depends.
    fn reach(&self) -> usize {
        self.layers().iter().flatten().map(|(_, conv)| conv.padding()).sum()
    }

    /// The two signals whose sum is the output of the block: the result of its last convolution, and the
    /// residual around that. For each convolution of a layer, `lags` has the widest reach among the stage's
    /// blocks. All blocks of a stage use it, so that their results meet without further delay.
    fn emit(
        &self,
        g: &mut GraphBuilder,
        time: &mut dyn Timeline,
        mut x: Signal,
        lags: &[Vec<usize>],
    ) -> (Signal, Signal) {
        let (mut y, mut residual) = (x, x);
        for (i, layer) in self.layers().iter().enumerate() {
            if i > 0 {
                x = add(g, time, y, residual);
                y = x;
            }
            for (j, (name, conv)) in layer.iter().enumerate() {
                y = g.scope(&format!("{name}.{i}"), |g| match j {
                    0 => {
                        time.window(y, conv.padding(), lags[i][j]);
                        time.conv_of_leaky(g, y, LRELU_SLOPE, conv)
                    }
                    _ => {
                        let active = y.with(g.leaky_relu(y.value, LRELU_SLOPE));
                        time.window(active, conv.padding(), lags[i][j]);
                        time.conv(g, active, conv)
                    }
                });
            }
            residual = time.align(g, &[y, x])[1];
            if i == 0 {
                // All of the stage's blocks share this residual.
                residual = time.addend(g, residual);
            }
        }
        (y, residual)
    }

    /// Reads back the block at `path` and returns its dilations; `None` if there is no block.
    fn read_back(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<Option<Vec<usize>>> {
        let has = |convs: &str| r.has(&format!("/{path}/{convs}.0/Conv"));
        let lists: &[&str] = match (has("convs1"), has("convs")) {
            (true, _) => &["convs1", "convs2"],
            (false, true) => &["convs"],
            (false, false) => return Ok(None),
        };
        let mut dilations = Vec::new();
        for &list in lists {
            for layer in 0.. {
                let path = format!("{path}/{list}.{layer}");
                if !r.has(&format!("/{path}/Conv")) {
                    break;
                }
                let conv = Conv1d::find(r, &path)?;
                if list != "convs2" {
                    dilations.push(conv.dilation);
                }
                r.put_conv(&key(&path), conv)?;
            }
        }
        Ok(Some(dilations))
    }
}

/// For each layer and each of its convolutions, the widest reach of any block.
fn stage_lags(blocks: &[ResBlock]) -> Vec<Vec<usize>> {
    let mut lags: Vec<Vec<usize>> = Vec::new();
    for block in blocks {
        for (i, layer) in block.layers().iter().enumerate() {
            if lags.len() <= i {
                lags.push(vec![0; layer.len()]);
            }
            for (lag, (_, conv)) in lags[i].iter_mut().zip(layer) {
                *lag = (*lag).max(conv.padding());
            }
        }
    }
    lags
}

/// Upstream's `Generator`.
pub struct Generator {
    /// inter → initial channels
    pub conv_pre: Conv1d,
    /// Speaker → initial channels.
    pub cond: Option<Conv1d>,
    /// The up-sampling stages.
    pub ups: Vec<ConvTranspose1d>,
    /// The parallel blocks of each stage.
    pub resblocks: Vec<Vec<ResBlock>>,
    /// To one channel; no bias.
    pub conv_post: Conv1d,
}

impl Generator {
    pub(crate) fn load(w: &Scope<'_>, hp: &HParams) -> Result<Self, WeightsError> {
        let initial = hp.upsample_initial_channel;
        let kernels = hp.resblock_kernel_sizes.len();
        let mut generator = Self {
            conv_pre: Conv1d::load(
                &w.pp("conv_pre"),
                ConvShape { c_in: hp.inter_channels, c_out: initial, kernel: EDGE_KERNEL, dilation: 1 },
            )?,
            cond: None,
            ups: Vec::new(),
            resblocks: Vec::new(),
            conv_post: Conv1d::load_without_bias(
                &w.pp("conv_post"),
                ConvShape {
                    c_in: hp.stage_channels(hp.upsample_rates.len() - 1),
                    c_out: 1,
                    kernel: EDGE_KERNEL,
                    dilation: 1,
                },
            )?,
        };
        if hp.multi_speaker() {
            generator.cond =
                Some(Conv1d::load(&w.pp("cond"), ConvShape::pointwise(hp.gin_channels, initial))?);
        }
        for (i, (&rate, &kernel)) in hp.upsample_rates.iter().zip(&hp.upsample_kernel_sizes).enumerate() {
            let c_in = initial >> i;
            let c_out = hp.stage_channels(i);
            generator.ups.push(ConvTranspose1d::load(&w.pp("ups").pp(i), c_in, c_out, kernel, rate)?);
            let blocks = hp.resblock_kernel_sizes.iter().zip(&hp.resblock_dilation_sizes).enumerate();
            let blocks = blocks.map(|(j, (&kernel, dilations))| {
                ResBlock::load(&w.pp("resblocks").pp(i * kernels + j), hp.resblock, c_out, kernel, dilations)
            });
            generator.resblocks.push(blocks.collect::<Result<_, _>>()?);
        }
        Ok(generator)
    }

    /// Latent `f32[b, inter, 1, t]`, masked → samples `f32[b, 1, 1, t * hop]`. `speaker: f32[b, gin, 1, 1]`.
    /// With `flipped`, the latent's channels are in reverse order.
    pub(crate) fn emit(
        &self,
        g: &mut GraphBuilder,
        time: &mut dyn Timeline,
        z: Signal,
        flipped: bool,
        speaker: Option<ValueId>,
    ) -> Signal {
        let conv_pre = if flipped { self.conv_pre.reversed_inputs() } else { self.conv_pre.clone() };
        let mut x = g.scope("conv_pre", |g| time.conv(g, z, &conv_pre));
        if let (Some(cond), Some(speaker)) = (&self.cond, speaker) {
            let row = g.scope("cond", |g| cond.emit_2d(g, speaker, ConvAxis::default()));
            x = time.add_row(g, x, row);
        }
        // LeakyReLU commutes with positive factors: the mean over a stage's blocks is computed as a sum, and
        // its factor is folded into the weights that follow.
        let mut share = 1.0;
        for (i, (up, blocks)) in self.ups.iter().zip(&self.resblocks).enumerate() {
            let mut active = x.with(g.leaky_relu(x.value, LRELU_SLOPE));
            // The first stage has enough channels for several threads, and few steps.
            if i == 1 {
                active = g.scope("rows", |g| time.fold(g, active, self.reach_of_stages(i)));
            }
            let x0 = g.scope(&format!("ups.{i}"), |g| time.upsample(g, active, &up.scaled(share)));
            let lags = stage_lags(blocks);
            let widest = lags[0][0];
            time.window(x0, widest, widest);
            let sums: Vec<(Signal, Signal)> = blocks
                .iter()
                .enumerate()
                .map(|(j, block)| {
                    let name = format!("resblocks.{}", i * blocks.len() + j);
                    g.scope(&name, |g| block.emit(g, time, x0, &lags))
                })
                .collect();
            // The residuals are added first, because a convolution fuses one addition, not two.
            let residuals = sums.iter().map(|&(_, residual)| residual);
            let residuals = residuals.reduce(|a, b| add(g, time, a, b)).unwrap_or(x0);
            let residuals = time.addend(g, residuals);
            x = sums.iter().fold(residuals, |total, &(y, _)| add(g, time, y, total));
            share = 1.0 / blocks.len().max(1) as f32;
        }
        let x = x.with(g.leaky_relu(x.value, LAST_LRELU_SLOPE));
        let samples = g.scope("conv_post", |g| time.conv_post(g, x, &self.conv_post.scaled(share)));
        g.scope("rows", |g| time.unfold(g, samples))
    }

    /// With `reversed`, the latent's channels are in reverse order.
    pub(crate) fn read_back(r: &mut ReadBack<'_>, path: &str, reversed: bool) -> read_back::Result<()> {
        let conv_pre = format!("{path}/conv_pre");
        let mut pre = Conv1d::find(r, &conv_pre)?;
        let [initial, inter, kernel] = r.expect(&format!("{}.weight", key(&conv_pre)), &pre.weight)?;
        if reversed {
            pre.weight.data = reversed_chunks(&pre.weight.data, inter, kernel);
        }
        r.put_conv(&key(&conv_pre), pre)?;
        let cond = format!("{path}/cond");
        if r.has(&format!("/{cond}/Conv")) {
            Conv1d::read_back(r, &cond)?;
        }
        let mut stages = 0;
        while r.has(&format!("/{path}/ups.{stages}/phases.0/Conv")) {
            stages += 1;
        }
        let mut blocks = Vec::new();
        while let Some(dilations) = ResBlock::read_back(r, &format!("{path}/resblocks.{}", blocks.len()))? {
            blocks.push(dilations);
        }
        if stages == 0 || blocks.len() % stages != 0 {
            let problem = format!("{} blocks for {stages} stages", blocks.len());
            return Err(r.error(format!("{}.resblocks", key(path)), problem));
        }
        blocks.truncate(blocks.len() / stages);
        // The mean over a stage's blocks is folded into the weights that follow.
        let share = 1.0 / blocks.len().max(1) as f32;
        r.untold.resblock_dilation_sizes = blocks;
        for stage in 0..stages {
            let c_out = initial.checked_shr(stage as u32 + 1).unwrap_or(0);
            let share = if stage == 0 { 1.0 } else { share };
            ConvTranspose1d::read_back(r, &format!("{path}/ups.{stage}"), c_out, share)?;
        }
        Strided::read_back(r, &format!("{path}/conv_post"), share)
    }

    /// Frames on each side on which a sample depends.
    pub fn receptive_field(&self) -> usize {
        self.reach_of_stages(0) + self.conv_pre.padding()
    }

    /// Steps on each side, at the input of stage `first`, on which a sample depends. Walks back from the
    /// samples, one rate at a time.
    fn reach_of_stages(&self, first: usize) -> usize {
        let mut reach = self.conv_post.padding();
        for (up, blocks) in self.ups.iter().zip(&self.resblocks).skip(first).rev() {
            reach += blocks.iter().map(ResBlock::reach).max().unwrap_or(0);
            // A sample at most `reach` away, plus the kernel's overhang, depends on one of these inputs.
            reach = (reach + up.padding()).div_ceil(up.stride);
        }
        reach
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vitstream_onnx::{DType, Dim};

    use super::*;
    use crate::SynthesizerTrn;
    use crate::modules::dim;
    use crate::support::{self, Array, CASES, Net, assert_close};
    use crate::whole::Whole;

    /// The generator alone: from `z: f32[b, c, 1, t]`, and a speaker if the network has one, to samples.
    fn whole(model: &SynthesizerTrn) -> Net {
        let hp = &model.hparams;
        let mut builder = GraphBuilder::new("dec", 15);
        let g = &mut builder;
        let (b, t) = (Dim::symbol("b"), Dim::symbol("t"));
        let z = g.input("z", DType::F32, vec![b.clone(), dim(hp.inter_channels), dim(1), t]);
        let speaker = hp
            .multi_speaker()
            .then(|| g.input("g", DType::F32, vec![b, dim(hp.gin_channels), dim(1), dim(1)]));
        let z = Signal { value: z, lag: 0, rate: 1 };
        let samples = model.dec.emit(g, &mut Whole::new(BTreeMap::new()), z, false, speaker);
        assert_eq!((samples.lag, samples.rate), (0, hp.hop_length()));
        g.output("samples", samples.value);
        Net::new(builder.finish().unwrap())
    }

    #[test]
    fn samples_equal_pytorch() {
        for fixture in support::all() {
            let model = fixture.model();
            let hp = &model.hparams;
            let c = hp.inter_channels;
            let net = whole(&model);

            for case_name in CASES {
                let Some(case) = fixture.case(case_name) else { continue };
                let (z, y_mask) = (case.get("z"), case.get("y_mask").floats());
                let (b, t) = (z.dims[0], z.dims[2]);
                let rows = z.floats().chunks_exact(t).enumerate();
                let masked =
                    rows.flat_map(|(row, z)| z.iter().zip(&y_mask[row / c * t..]).map(|(z, m)| z * m));
                let z = Array::f32(&[b, c, 1, t], masked.collect());
                let speaker = case.find("g").map(|g| g.reshaped(&[b, g.dims[1], 1, 1]));
                let mut fed = vec![("z", &z)];
                fed.extend(speaker.as_ref().map(|speaker| ("g", speaker)));
                let audio = case.get("audio");
                let found = net.run(fed).remove(0).reshaped(&audio.dims);
                assert_close(&found, audio, 2e-5, &format!("{} {case_name}: audio", fixture.name));
            }
        }
    }
    /// Compares a signal that is long enough to be cut into rows with its parts, which are not, wherever a
    /// row ends.
    #[test]
    fn rows_change_nothing() {
        for fixture in support::committed() {
            let model = fixture.model();
            let (hp, reach) = (&model.hparams, model.dec.receptive_field());
            let (c, hop) = (hp.inter_channels, hp.hop_length());
            let net = whole(&model);
            let speaker = hp.multi_speaker().then(|| Array::noise(&[1, hp.gin_channels, 1, 1], 2));
            let decode = |z: &Array| {
                let mut fed = vec![("z", z)];
                fed.extend(speaker.as_ref().map(|speaker| ("g", speaker)));
                net.run(fed).remove(0)
            };
            for rows in [2_usize, 3, 8, 9] {
                let t = (rows * 1024 + 7).div_ceil(hp.upsample_rates[0]);
                let z = Array::noise(&[1, c, 1, t], rows as u64);
                let samples = decode(&z);
                assert_eq!(samples.dims, [1, 1, 1, t * hop]);
                for from in (0..t).step_by(97) {
                    let to = t.min(from + 97);
                    let (before, after) = (from.saturating_sub(reach), t.min(to + reach));
                    let part = decode(&z.slice(3, before..after));
                    let part = part.slice(3, (from - before) * hop..(to - before) * hop);
                    let found = samples.slice(3, from * hop..to * hop);
                    assert_close(&found, &part, 1e-5, &format!("{}, {rows} rows, from {from}", fixture.name));
                }
            }
        }
    }
}
