//! Both duration predictors, as they run at inference.

use super::attention::pointwise;
use super::layers::{Depthwise, Linear, Norm, Sequence};
use super::spline;
use crate::conv::Target;
use crate::error::{Error, shape};
use crate::kernels::Kernels;
use crate::program::dot;
use crate::spec::{
    ConvFlowSpec, ConvSpec, DdsConvSpec, DurationPredictorSpec, StochasticDurationPredictorSpec, limit,
    tensor,
};

/// The addition of a speaker's vector to every row: `weight @ g + bias`.
#[derive(Debug)]
pub(super) struct Cond {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Cond {
    fn new(
        layer: &str,
        spec: Option<&ConvSpec<'_>>,
        c_out: usize,
        gin: usize,
    ) -> Result<Option<Self>, Error> {
        let Some(spec) = spec else { return Ok(None) };
        if gin == 0 {
            return Err(shape(
                layer,
                "no such layer, since there is no emb_g",
                format!("{} channels of g", spec.c_in),
            ));
        }
        let spec = pointwise(layer, spec, gin, c_out)?;
        let bias = spec.bias.as_ref().map_or_else(|| vec![0.0; c_out], |b| b.to_vec());
        Ok(Some(Self { weight: spec.weight.elements().into_owned(), bias }))
    }

    fn of(&self, g: &[f32]) -> Vec<f32> {
        self.weight.chunks_exact(g.len()).zip(&self.bias).map(|(row, bias)| dot(row, g) + bias).collect()
    }
}

/// `DDSConv`.
#[derive(Debug)]
struct DdsConv {
    layers: Vec<(Depthwise, Norm, Linear, Norm)>,
}

impl DdsConv {
    fn new(target: Target<'_>, layer: &str, spec: &DdsConvSpec<'_>, channels: usize) -> Result<Self, Error> {
        let n = spec.convs_sep.len();
        let lengths = [spec.convs_1x1.len(), spec.norms_1.len(), spec.norms_2.len()];
        if n == 0 || lengths != [n; 3] {
            return Err(shape(
                layer,
                "equal numbers of convs_sep, convs_1x1, norms_1 and norms_2",
                format!("{n}, {lengths:?}"),
            ));
        }
        let layers = (0..n).map(|i| {
            let name = format!("{layer}.convs_sep.{i}");
            let sep = spec.convs_sep[i].checked(&name, channels, channels)?;
            if sep.groups != channels {
                return Err(shape(&name, format!("{channels} groups"), sep.groups));
            }
            let name = format!("{layer}.convs_1x1.{i}");
            let conv = pointwise(&name, &spec.convs_1x1[i], channels, channels)?;
            Ok((
                Depthwise::new(&sep),
                Norm::new(&format!("{layer}.norms_1.{i}"), &spec.norms_1[i], channels)?,
                Linear::new(target, &conv),
                Norm::new(&format!("{layer}.norms_2.{i}"), &spec.norms_2[i], channels)?,
            ))
        });
        Ok(Self { layers: layers.collect::<Result<_, _>>()? })
    }

    fn run(&self, kernels: Kernels, mut x: Sequence) -> Sequence {
        let mut z = Sequence::default();
        for (sep, norm_1, conv, norm_2) in &self.layers {
            let mut y = sep.run(kernels, &x);
            norm_1.run(kernels, &mut y, true);
            conv.run_into(kernels, &y, false, None, &mut z);
            norm_2.run(kernels, &mut z, true);
            x.add(&z);
        }
        x
    }
}

/// `ConvFlow` on two channels.
#[derive(Debug)]
struct ConvFlow {
    /// `[filter]`: the weights of a convolution from one channel.
    pre: Vec<f32>,
    pre_bias: Vec<f32>,
    convs: DdsConv,
    proj: Linear,
    bins: usize,
    /// `1 / sqrt(filter_channels)`.
    scale: f32,
    tail_bound: f32,
}

impl ConvFlow {
    fn new(
        target: Target<'_>,
        layer: &str,
        spec: &ConvFlowSpec<'_>,
        filter: usize,
        tail_bound: f32,
    ) -> Result<Self, Error> {
        let pre = pointwise(&format!("{layer}.pre"), &spec.pre, 1, filter)?;
        let bins = (spec.proj.c_out + 1) / 3;
        let proj = pointwise(&format!("{layer}.proj"), &spec.proj, filter, 3 * bins.max(1) - 1)?;
        limit(&format!("{layer}.proj"), "bins", bins, 2..=spline::MAX_BINS, "2 to 32")?;
        Ok(Self {
            pre: pre.weight.elements().into_owned(),
            pre_bias: pre.bias.as_ref().map_or_else(|| vec![0.0; filter], |b| b.to_vec()),
            convs: DdsConv::new(target, &format!("{layer}.convs"), &spec.convs, filter)?,
            proj: Linear::new(target, &proj),
            bins,
            scale: 1.0 / (filter as f32).sqrt(),
            tail_bound,
        })
    }

    /// Reverses `x1` in place, given `x0` and the conditioning rows.
    fn reverse(&self, kernels: Kernels, x0: &[f32], x1: &mut [f32], g: &Sequence) {
        let mut h = Sequence::new(self.pre.len(), x0.len(), 0);
        let stride = h.stride();
        for (row, &x) in h.rows_mut().chunks_exact_mut(stride).zip(x0) {
            for (v, (w, b)) in row.iter_mut().zip(self.pre.iter().zip(&self.pre_bias)) {
                *v = w * x + b;
            }
        }
        h.add(g);
        let h = self.proj.run(kernels, &self.convs.run(kernels, h), false);
        let mut row = vec![0.0; 3 * self.bins - 1];
        for (x, h) in x1.iter_mut().zip(h.rows().chunks_exact(h.stride())) {
            for (i, (v, &h)) in row.iter_mut().zip(h).enumerate() {
                *v = if i < 2 * self.bins { h * self.scale } else { h };
            }
            *x = spline::inverse(*x, &row, self.bins, self.tail_bound);
        }
    }
}

/// `StochasticDurationPredictor`, reversed.
#[derive(Debug)]
pub(super) struct StochasticDurationPredictor {
    pre: Linear,
    cond: Option<Cond>,
    convs: DdsConv,
    proj: Linear,
    m: [f32; 2],
    /// `exp(-logs)`.
    scale: [f32; 2],
    flows: Vec<ConvFlow>,
}

impl StochasticDurationPredictor {
    pub(super) fn new(
        target: Target<'_>,
        spec: &StochasticDurationPredictorSpec<'_>,
        hidden: usize,
        gin: usize,
    ) -> Result<Self, Error> {
        let filter = spec.pre.c_out;
        let pre = pointwise("dp.pre", &spec.pre, hidden, filter)?;
        let proj = pointwise("dp.proj", &spec.proj, filter, filter)?;
        tensor("dp.flows.0.m", &spec.m, &[2])?;
        tensor("dp.flows.0.logs", &spec.logs, &[2])?;
        if !(spec.tail_bound > 0.0 && spec.tail_bound < 1e6) {
            return Err(shape("dp.flows", "a positive tail_bound", spec.tail_bound));
        }
        let flows = spec.flows.iter().enumerate();
        Ok(Self {
            pre: Linear::new(target, &pre),
            cond: Cond::new("dp.cond", spec.cond.as_ref(), filter, gin)?,
            convs: DdsConv::new(target, "dp.convs", &spec.convs, filter)?,
            proj: Linear::new(target, &proj),
            m: [spec.m[0], spec.m[1]],
            scale: [libm::expf(-spec.logs[0]), libm::expf(-spec.logs[1])],
            flows: flows
                .map(|(i, flow)| {
                    ConvFlow::new(target, &format!("dp.flows.{}", 2 * i + 3), flow, filter, spec.tail_bound)
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// `logw` `[t]`; `z` `[2, t]` is the scaled noise.
    pub(super) fn run(
        &self,
        kernels: Kernels,
        x: &Sequence,
        mut z: [Vec<f32>; 2],
        g: Option<&[f32]>,
    ) -> Vec<f32> {
        let extra = self.cond.as_ref().zip(g).map(|(cond, g)| cond.of(g));
        let mut h = Sequence::default();
        self.pre.run_into(kernels, x, false, extra.as_deref(), &mut h);
        let x = self.proj.run(kernels, &self.convs.run(kernels, h), false);
        for flow in self.flows.iter().rev() {
            // The Flip before each ConvFlow.
            z.swap(0, 1);
            let [x0, x1] = &mut z;
            flow.reverse(kernels, x0, x1, &x);
        }
        // The Flip of the ConvFlow that inference leaves out.
        z.swap(0, 1);
        let [logw, _] = z;
        logw.into_iter().map(|v| (v - self.m[0]) * self.scale[0]).collect()
    }
}

/// `DurationPredictor`.
#[derive(Debug)]
pub(super) struct DurationPredictor {
    cond: Option<Cond>,
    conv_1: Linear,
    norm_1: Norm,
    conv_2: Linear,
    norm_2: Norm,
    proj: Linear,
}

impl DurationPredictor {
    pub(super) fn new(
        target: Target<'_>,
        spec: &DurationPredictorSpec<'_>,
        hidden: usize,
        gin: usize,
    ) -> Result<Self, Error> {
        let filter = spec.conv_1.c_out;
        let conv_1 = spec.conv_1.checked("dp.conv_1", hidden, filter)?;
        let conv_2 = spec.conv_2.checked("dp.conv_2", filter, filter)?;
        let proj = pointwise("dp.proj", &spec.proj, filter, 1)?;
        if conv_1.groups != 1 || conv_2.groups != 1 {
            return Err(shape("dp.conv_1", "1 group", "more"));
        }
        Ok(Self {
            cond: Cond::new("dp.cond", spec.cond.as_ref(), hidden, gin)?,
            conv_1: Linear::new(target, &conv_1),
            norm_1: Norm::new("dp.norm_1", &spec.norm_1, filter)?,
            conv_2: Linear::new(target, &conv_2),
            norm_2: Norm::new("dp.norm_2", &spec.norm_2, filter)?,
            proj: Linear::new(target, &proj),
        })
    }

    /// `logw` `[t]`.
    pub(super) fn run(&self, kernels: Kernels, mut x: Sequence, g: Option<&[f32]>) -> Vec<f32> {
        if let Some((cond, g)) = self.cond.as_ref().zip(g) {
            x.add_everywhere(&cond.of(g));
        }
        let mut y = self.conv_1.run(kernels, &x, true);
        self.norm_1.run(kernels, &mut y, false);
        let mut y = self.conv_2.run(kernels, &y, true);
        self.norm_2.run(kernels, &mut y, false);
        let logw = self.proj.run(kernels, &y, false);
        logw.rows().chunks_exact(logw.stride()).map(|row| row[0]).collect()
    }
}
