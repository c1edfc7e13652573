//! The duration predictors (`dp`): from phoneme states to the logarithm of their durations in frames.

use vitstream_onnx::{GraphBuilder, ValueId};

use crate::elements::{bytes, negative_logarithm, unscaled};
use crate::hparams::{DurationHParams, HParams};
use crate::modules::{Conv1d, ConvShape, DDSConv, LayerNorm};
use crate::read_back::{self, ReadBack, key};
use crate::spline::Spline;
use crate::weights::{Param, Scope, WeightsError};

/// One of the two predictors.
pub enum Duration {
    /// Draws durations at random.
    Stochastic(StochasticDurationPredictor),
    /// Always predicts the same durations.
    Plain(DurationPredictor),
}

impl Duration {
    pub(crate) fn load(w: &Scope<'_>, hp: &HParams) -> Result<Self, WeightsError> {
        Ok(match hp.duration {
            DurationHParams::Stochastic { .. } => Self::Stochastic(StochasticDurationPredictor::load(w, hp)?),
            DurationHParams::Plain { .. } => Self::Plain(DurationPredictor::load(w, hp)?),
        })
    }

    pub(crate) fn read_back(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<()> {
        let cond = format!("{path}/cond");
        if r.has(&format!("/{cond}/MatMul")) {
            Conv1d::read_back_linear(r, &cond)?;
        }
        match r.has(&format!("/{path}/conv_1/Conv")) {
            true => DurationPredictor::read_back(r, path),
            false => StochasticDurationPredictor::read_back(r, path),
        }
    }
}

/// Adds the speaker to `x: f32[b, 1, t, c]`: the same row for all ids. `speaker: f32[b, 1, 1, gin]`.
fn condition(g: &mut GraphBuilder, cond: Option<&Conv1d>, x: ValueId, speaker: Option<ValueId>) -> ValueId {
    match (cond, speaker) {
        (Some(cond), Some(speaker)) => {
            let row = g.scope("cond", |g| cond.emit_linear(g, speaker));
            g.add(x, row)
        }
        _ => x,
    }
}

fn load_cond(w: &Scope<'_>, hp: &HParams, channels: usize) -> Result<Option<Conv1d>, WeightsError> {
    let load = || Conv1d::load(&w.pp("cond"), ConvShape::pointwise(hp.gin_channels, channels));
    hp.multi_speaker().then(load).transpose()
}

/// Upstream's `StochasticDurationPredictor` as it runs at inference: in reverse, without the first coupling
/// (upstream: "remove a useless vflow").
pub struct StochasticDurationPredictor {
    /// hidden → hidden
    pub pre: Conv1d,
    /// Speaker → hidden.
    pub cond: Option<Conv1d>,
    /// Adds context to the states.
    pub convs: DDSConv,
    /// hidden → hidden
    pub proj: Conv1d,
    /// `flows.0`
    pub affine: ElementwiseAffine,
    /// `flows.3`, `flows.5`, ..: `Flip` has no tensors yet occupies an index, and `flows.1` is left out.
    pub flows: Vec<ConvFlow>,
}

impl StochasticDurationPredictor {
    fn load(w: &Scope<'_>, hp: &HParams) -> Result<Self, WeightsError> {
        let DurationHParams::Stochastic { n_flows, kernel_size, dds_layers, .. } = hp.duration else {
            unreachable!("the caller matched the kind")
        };
        // Upstream: "filter_channels = in_channels # it needs to be removed from future version."
        let h = hp.hidden_channels;
        let indices = (1..n_flows).map(|i| 2 * i + 1);
        Ok(Self {
            pre: Conv1d::load(&w.pp("pre"), ConvShape::pointwise(h, h))?,
            cond: load_cond(w, hp, h)?,
            convs: DDSConv::load(&w.pp("convs"), h, kernel_size, dds_layers, hp.duration.layer_norm_eps())?,
            proj: Conv1d::load(&w.pp("proj"), ConvShape::pointwise(h, h))?,
            affine: ElementwiseAffine::load(&w.pp("flows.0"))?,
            flows: indices.map(|i| ConvFlow::load(&w.pp("flows").pp(i), hp)).collect::<Result<_, _>>()?,
        })
    }

    /// Bound of the values on which the splines act.
    pub fn tail_bound(&self) -> f32 {
        self.flows.first().map_or(0.0, |flow| flow.spline.tail_bound)
    }

    /// `x: f32[b, 1, t, hidden]`, `x_mask: f32[b, 1, t, 1]`, `z: f32[b, 2, t]` standard normal draws times `noise_w`,
    /// `speaker: f32[b, 1, 1, gin]` → `logw: f32[b, t]`, not masked.
    pub(crate) fn emit(
        &self,
        g: &mut GraphBuilder,
        x: ValueId,
        x_mask: ValueId,
        z: ValueId,
        speaker: Option<ValueId>,
    ) -> ValueId {
        let x = g.scope("pre", |g| self.pre.emit_linear(g, x));
        let x = condition(g, self.cond.as_ref(), x, speaker);
        let x = g.scope("convs", |g| self.convs.emit(g, x, x_mask));
        let x = g.scope("proj", |g| self.proj.emit_linear(g, x));

        // On two channels a Flip swaps two names. In reverse order every flow comes after a Flip.
        let z = g.unsqueeze(z, &[1]);
        let z = g.transpose(z, &[0, 1, 3, 2]);
        let halves = g.split(z, 3, &[1, 1]);
        let (mut z0, mut z1) = (halves[0], halves[1]);
        for (i, flow) in self.flows.iter().enumerate().rev() {
            std::mem::swap(&mut z0, &mut z1);
            z1 = g.scope(&format!("flows.{}", 2 * (i + 1) + 1), |g| flow.emit(g, z0, z1, x_mask, x));
        }
        std::mem::swap(&mut z0, &mut z1);
        let logw = g.scope("flows.0", |g| self.affine.emit(g, z0));
        let (b, t) = (g.dim(x, 0), g.dim(x, 2));
        g.reshape(logw, &[b, t])
    }

    fn read_back(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<()> {
        Conv1d::read_back_linear(r, &format!("{path}/pre"))?;
        DDSConv::read_back(r, &format!("{path}/convs"))?;
        Conv1d::read_back_linear(r, &format!("{path}/proj"))?;
        for index in (3..).step_by(2) {
            let path = format!("{path}/flows.{index}");
            if !r.has(&format!("/{path}/proj/MatMul")) {
                break;
            }
            ConvFlow::read_back(r, &path)?;
        }
        ElementwiseAffine::read_back(r, &format!("{path}/flows.0"))
    }
}

/// Upstream's `ElementwiseAffine` on two channels; inference needs only the first.
pub struct ElementwiseAffine {
    /// `f32[2, 1]`
    pub m: Param,
    /// `f32[2, 1]`
    pub logs: Param,
}

impl ElementwiseAffine {
    fn load(w: &Scope<'_>) -> Result<Self, WeightsError> {
        Ok(Self { m: w.get(&[2, 1], "m")?, logs: w.get(&[2, 1], "logs")? })
    }

    /// (z0 - m) * exp(-logs)
    fn emit(&self, g: &mut GraphBuilder, z0: ValueId) -> ValueId {
        let centred = g.add_scalar(z0, -self.m.elements()[0]);
        g.mul_scalar(centred, (-self.logs.elements()[0]).exp())
    }

    /// The second channel cannot be recovered.
    fn read_back(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<()> {
        let m = -r.scalar(&format!("/{path}/Add"), 1)?;
        let logs = negative_logarithm(r.scalar(&format!("/{path}/Mul"), 1)?);
        r.put(format!("{}.m", key(path)), &[2, 1], bytes([m, 0.0]))?;
        r.put(format!("{}.logs", key(path)), &[2, 1], bytes([logs, 0.0]))
    }
}

/// Upstream's `ConvFlow` on two channels: a spline on one half, with a shape determined by the other half
/// (Durkan et al. 2019).
pub struct ConvFlow {
    /// 1 → hidden
    pub pre: Conv1d,
    /// Adds context along the text.
    pub convs: DDSConv,
    /// hidden → 3 * bins - 1: widths, heights, inner derivatives.
    pub proj: Conv1d,
    spline: Spline,
}

impl ConvFlow {
    fn load(w: &Scope<'_>, hp: &HParams) -> Result<Self, WeightsError> {
        let DurationHParams::Stochastic { kernel_size, dds_layers, num_bins, tail_bound, .. } = hp.duration
        else {
            unreachable!("only the stochastic predictor has flows")
        };
        let h = hp.hidden_channels;
        Ok(Self {
            pre: Conv1d::load(&w.pp("pre"), ConvShape::pointwise(1, h))?,
            convs: DDSConv::load(&w.pp("convs"), h, kernel_size, dds_layers, hp.duration.layer_norm_eps())?,
            proj: Conv1d::load(&w.pp("proj"), ConvShape::pointwise(h, 3 * num_bins - 1))?,
            spline: Spline { num_bins, tail_bound },
        })
    }

    /// The projection with `1 / sqrt(filter_channels)` folded into the rows of widths and heights.
    fn scaled_proj(&self) -> Conv1d {
        let shape = 2 * self.spline.num_bins;
        let (c_in, scale) = (self.proj.c_in(), 1.0 / (self.proj.c_in() as f32).sqrt());
        let scaled = |param: &Param, row: usize| {
            Param::derived(&param.dims, [param], || {
                let data = param.elements();
                let values = data.iter().enumerate();
                values.map(|(i, v)| if i < shape * row { v * scale } else { *v }).collect()
            })
        };
        let bias = self.proj.bias.as_ref().map(|b| scaled(b, 1));
        Conv1d { weight: scaled(&self.proj.weight, c_in), bias, ..self.proj.clone() }
    }

    /// Returns the new z1. All of `z0, z1: f32[b, 1, t, 1]`; `x: f32[b, 1, t, hidden]` is upstream's `g`.
    fn emit(&self, g: &mut GraphBuilder, z0: ValueId, z1: ValueId, x_mask: ValueId, x: ValueId) -> ValueId {
        let z0 = g.mul(z0, x_mask);
        let h = g.scope("pre", |g| self.pre.emit_linear(g, z0));
        let h = g.add(h, x);
        let h = g.scope("convs", |g| self.convs.emit(g, h, x_mask));
        let h = g.scope("proj", |g| self.scaled_proj().emit_linear(g, h));
        self.spline.emit_inverse(g, z1, h)
    }

    fn read_back(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<()> {
        Conv1d::read_back_linear(r, &format!("{path}/pre"))?;
        DDSConv::read_back(r, &format!("{path}/convs"))?;
        let mut proj = Conv1d::find_linear(r, &format!("{path}/proj"))?;
        // Widths and heights are scaled back; the derivatives after them are unchanged.
        let (c_out, c_in) = (proj.weight.dims[0], proj.weight.dims[1]);
        let shape = 2 * (c_out + 1) / 3;
        let scale = 1.0 / (c_in as f32).sqrt();
        for array in [Some(&mut proj.weight), proj.bias.as_mut()].into_iter().flatten() {
            let scaled = unscaled(&array.rows(0..shape), scale);
            array.data = [scaled, array.rows(shape..c_out)].concat().into();
        }
        r.put_conv(&format!("{}.proj", key(path)), proj)?;
        let clip = format!("/{path}/Clip");
        let bound = r.scalar(&clip, 2)?;
        r.put_tail_bound(&clip, bound)
    }
}

/// Upstream's `DurationPredictor`.
pub struct DurationPredictor {
    /// Speaker → hidden.
    pub cond: Option<Conv1d>,
    /// hidden → filter
    pub conv_1: Conv1d,
    /// Norm after it.
    pub norm_1: LayerNorm,
    /// filter → filter
    pub conv_2: Conv1d,
    /// Norm after it.
    pub norm_2: LayerNorm,
    /// filter → 1
    pub proj: Conv1d,
}

impl DurationPredictor {
    fn load(w: &Scope<'_>, hp: &HParams) -> Result<Self, WeightsError> {
        let DurationHParams::Plain { filter_channels, kernel_size, .. } = hp.duration else {
            unreachable!("the caller matched the kind")
        };
        let (h, f) = (hp.hidden_channels, filter_channels);
        let conv = |name: &str, c_in, kernel| {
            Conv1d::load(&w.pp(name), ConvShape { c_in, c_out: f, kernel, dilation: 1 })
        };
        Ok(Self {
            cond: load_cond(w, hp, h)?,
            conv_1: conv("conv_1", h, kernel_size)?,
            norm_1: LayerNorm::load(&w.pp("norm_1"), f, hp.duration.layer_norm_eps())?,
            conv_2: conv("conv_2", f, kernel_size)?,
            norm_2: LayerNorm::load(&w.pp("norm_2"), f, hp.duration.layer_norm_eps())?,
            proj: Conv1d::load(&w.pp("proj"), ConvShape::pointwise(f, 1))?,
        })
    }

    /// `x: f32[b, 1, t, hidden]`, `x_mask: f32[b, 1, t, 1]`, `speaker: f32[b, 1, 1, gin]` → `logw: f32[b, t]`, not
    /// masked.
    pub(crate) fn emit(
        &self,
        g: &mut GraphBuilder,
        x: ValueId,
        x_mask: ValueId,
        speaker: Option<ValueId>,
    ) -> ValueId {
        let mut x = condition(g, self.cond.as_ref(), x, speaker);
        let layers = [
            ("conv_1", &self.conv_1, "norm_1", &self.norm_1),
            ("conv_2", &self.conv_2, "norm_2", &self.norm_2),
        ];
        for (conv_name, conv, norm_name, norm) in layers {
            x = g.mul(x, x_mask);
            x = g.scope(conv_name, |g| conv.emit_channels_last(g, x));
            x = g.relu(x);
            x = g.scope(norm_name, |g| norm.emit(g, x));
        }
        let logw = g.scope("proj", |g| self.proj.emit_linear(g, x));
        let (b, t) = (g.dim(x, 0), g.dim(x, 2));
        g.reshape(logw, &[b, t])
    }

    fn read_back(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<()> {
        for at in [1, 2] {
            Conv1d::read_back(r, &format!("{path}/conv_{at}"))?;
            LayerNorm::read_back(r, "dp", &format!("{path}/norm_{at}"))?;
        }
        Conv1d::read_back_linear(r, &format!("{path}/proj"))
    }
}

/// Frames of each id: `logw: f32[b, t]`, `x_mask: f32[b, 1, t, 1]`, `length_scale: f32[1]` → `w_ceil: f32[b, t]`.
pub(crate) fn durations(
    g: &mut GraphBuilder,
    logw: ValueId,
    x_mask: ValueId,
    length_scale: ValueId,
) -> ValueId {
    let (b, t) = (g.dim(logw, 0), g.dim(logw, 1));
    let mask = g.reshape(x_mask, &[b, t]);
    let w = g.exp(logw);
    let w = g.mul(w, mask);
    let w = g.mul(w, length_scale);
    g.ceil(w)
}

#[cfg(test)]
mod tests {
    use vitstream_onnx::{DType, Dim};

    use super::*;
    use crate::modules::dim;
    use crate::support::{self, Array, CASES, Net, assert_close};

    /// Durations, not `logw` itself: the latent depends on durations only through their ceil.
    #[test]
    fn durations_equal_pytorch() {
        for fixture in support::all() {
            let model = fixture.model();
            let hp = &model.hparams;
            let mut builder = GraphBuilder::new("dp", 15);
            let g = &mut builder;
            let (b, t) = (Dim::symbol("b"), Dim::symbol("t"));
            let x = g.input("x", DType::F32, vec![b.clone(), t.clone(), dim(hp.hidden_channels)]);
            let x_mask = g.input("x_mask", DType::F32, vec![b.clone(), t.clone(), dim(1)]);
            let length_scale = g.input("length_scale", DType::F32, vec![dim(1)]);
            let row = hp
                .multi_speaker()
                .then(|| g.input("g", DType::F32, vec![b.clone(), dim(1), dim(hp.gin_channels)]));
            let (x, x_mask) = (g.unsqueeze(x, &[1]), g.unsqueeze(x_mask, &[1]));
            let row = row.map(|row| g.unsqueeze(row, &[1]));
            let logw = match &model.dp {
                Duration::Plain(dp) => dp.emit(g, x, x_mask, row),
                Duration::Stochastic(dp) => {
                    let z = g.input("noise", DType::F32, vec![b.clone(), dim(2), t.clone()]);
                    dp.emit(g, x, x_mask, z, row)
                }
            };
            let w_ceil = durations(g, logw, x_mask, length_scale);
            g.output("logw", logw);
            g.output("w_ceil", w_ceil);
            let net = Net::new(builder.finish().unwrap());

            for case_name in CASES {
                let Some(case) = fixture.case(case_name) else { continue };
                let (mask, scales) = (case.get("x_mask"), case.get("scales").floats());
                let (b, t) = (mask.dims[0], mask.dims[2]);
                let (states, column) = (case.get("enc_p.x").swapped(), mask.swapped());
                let length_scale = Array::f32(&[1], vec![scales[1]]);
                let mut fed = vec![("x", &states), ("x_mask", &column), ("length_scale", &length_scale)];
                let row = case.find("g").map(Array::swapped);
                fed.extend(row.as_ref().map(|row| ("g", row)));
                let noise = case.find("noise.dp").map(|noise| {
                    Array::f32(&noise.dims, noise.floats().iter().map(|v| v * scales[2]).collect())
                });
                let silence = Array::full(&[b, 2, t], 0.0);
                if hp.use_sdp() {
                    fed.push(("noise", noise.as_ref().unwrap_or(&silence)));
                }
                let outputs = net.run(fed);
                let masked = outputs[0].floats().iter().zip(mask.floats()).map(|(w, m)| w * m);
                let logw = Array::f32(&[b, 1, t], masked.collect());
                let what = format!("{} {case_name}", fixture.name);
                assert_close(&logw, case.get("logw"), 2e-5, &format!("{what}: logw"));
                assert_eq!(&outputs[1].reshaped(&[b, 1, t]), case.get("w_ceil"), "{what}: w_ceil");
            }
        }
    }
}
