//! The normalising flow (`flow`): upstream's `ResidualCouplingBlock` in reverse, from the prior sample z_p to
//! the latent z, the input of the generator.

use bytes::Bytes;
use vitstream_onnx::{GraphBuilder, ValueId};

use crate::elements::reversed_chunks;
use crate::hparams::HParams;
use crate::modules::{Conv1d, ConvShape};
use crate::product::Product;
use crate::read_back::{self, ReadBack, key};
use crate::timeline::{Signal, Timeline, add, pointwise};
use crate::weights::{Param, Scope, WeightsError};

/// Upstream's `WN`: a stack of gated convolutions (WaveNet) with residual and skip paths.
pub struct WN {
    /// hidden → 2 * hidden: the input of the Tanh, then that of the sigmoid.
    pub in_layers: Vec<Conv1d>,
    /// hidden → 2 * hidden (residual, then skip); in the last layer hidden → hidden (skip).
    pub res_skip_layers: Vec<Conv1d>,
    /// Speaker → 2 * hidden for every layer.
    pub cond_layer: Option<Conv1d>,
}

impl WN {
    fn load(w: &Scope<'_>, hp: &HParams) -> Result<Self, WeightsError> {
        let (h, layers) = (hp.hidden_channels, hp.flow.n_layers);
        let in_layer = |i: usize| {
            let dilation = hp.flow.dilation_rate.pow(i as u32);
            let shape = ConvShape { c_in: h, c_out: 2 * h, kernel: hp.flow.kernel_size, dilation };
            Conv1d::load_weight_norm(&w.pp("in_layers").pp(i), shape)
        };
        let res_skip = |i: usize| {
            let c_out = if i + 1 < layers { 2 * h } else { h };
            Conv1d::load_weight_norm(&w.pp("res_skip_layers").pp(i), ConvShape::pointwise(h, c_out))
        };
        let cond = || {
            let shape = ConvShape::pointwise(hp.gin_channels, 2 * h * layers);
            Conv1d::load_weight_norm(&w.pp("cond_layer"), shape)
        };
        Ok(Self {
            in_layers: (0..layers).map(in_layer).collect::<Result<_, _>>()?,
            res_skip_layers: (0..layers).map(res_skip).collect::<Result<_, _>>()?,
            cond_layer: hp.multi_speaker().then(cond).transpose()?,
        })
    }

    fn hidden(&self) -> usize {
        self.in_layers[0].c_in()
    }

    /// Shifts the second signal, x1, by the negative mean, to which every layer contributes through its
    /// convolution in `means`. The first signal, x, is masked; `speaker: f32[b, gin, 1, 1]`.
    fn emit(
        &self,
        g: &mut GraphBuilder,
        time: &mut dyn Timeline,
        pair: (Signal, Signal),
        means: &[Conv1d],
        speaker: Option<ValueId>,
    ) -> Signal {
        let h = self.hidden();
        let cond = self.emit_cond(g, speaker);
        let (mut x, mut x1) = time.together(g, pair);
        for (i, (in_layer, res_skip)) in self.in_layers.iter().zip(&self.res_skip_layers).enumerate() {
            // Two convolutions, each followed by its own activation, instead of one convolution and a split.
            let [a, b] = [("tanh", 0..h), ("sigmoid", h..2 * h)].map(|(name, range)| {
                let half = in_layer.outputs(range);
                let y = g.scope(&format!("in_layers.{i}.{name}"), |g| time.conv(g, x, &half));
                let at = 2 * i + usize::from(name == "sigmoid");
                cond.get(at).map_or(y, |&row| time.add_row(g, y, row))
            });
            let (tanh, sigmoid) = (g.tanh(a.value), g.sigmoid(b.value));
            let gated = a.with(g.mul(tanh, sigmoid));
            let (mean, res) = (format!("mean.{i}"), format!("res_skip_layers.{i}"));
            if i + 1 < self.in_layers.len() {
                let residual = res_skip.outputs(0..h);
                (x, x1) = time.carry(g, (x, x1), gated, [(&res, &residual), (&mean, &means[i])]);
            } else {
                let mean = g.scope(&mean, |g| pointwise(g, gated, &means[i]));
                x1 = add(g, time, mean, x1);
            }
        }
        x1
    }

    /// The speaker's contribution before each layer's two activations, `f32[b, hidden, 1, 1]` each, in order.
    fn emit_cond(&self, g: &mut GraphBuilder, speaker: Option<ValueId>) -> Vec<ValueId> {
        let (Some(cond), Some(speaker)) = (&self.cond_layer, speaker) else { return Vec::new() };
        let rows = g.scope("cond_layer", |g| cond.emit_2d(g, speaker, vitstream_onnx::ConvAxis::default()));
        g.split(rows, 1, &vec![self.hidden(); 2 * self.in_layers.len()])
    }

    /// Reads back a layer's two convolutions as one.
    fn read_back_in_layer(
        r: &mut ReadBack<'_>,
        path: &str,
        layer: usize,
        hidden: usize,
    ) -> read_back::Result<()> {
        let conv = |name: &str| Conv1d::find(r, &format!("{path}/in_layers.{layer}.{name}"));
        let (tanh, sigmoid) = (conv("tanh")?, conv("sigmoid")?);
        let key = format!("{}.in_layers.{layer}", key(path));
        let (Some(a), Some(b)) = (&tanh.bias, &sigmoid.bias) else {
            return Err(r.error(format!("{key}.bias"), "expected a bias, found none"));
        };
        if tanh.weight.dims != sigmoid.weight.dims || tanh.dilation != sigmoid.dilation {
            let problem = format!("expected {:?} as tanh, found {:?}", tanh.weight.dims, sigmoid.weight.dims);
            return Err(r.error(format!("{key}.sigmoid.weight"), problem));
        }
        if layer == 1 {
            r.flow_dilation = tanh.dilation;
        }
        let [c_out, c_in, kernel] = r.expect(&format!("{key}.weight"), &tanh.weight)?;
        if (c_out, c_in) != (hidden, hidden) {
            let problem =
                format!("expected [{hidden}, {hidden}, 1, {kernel}], found [{c_out}, {c_in}, 1, {kernel}]");
            return Err(r.error(format!("{key}.tanh.weight"), problem));
        }
        let bias = [&a.data[..], &b.data].concat();
        // Most of the flow's size, so they are put together only on request.
        let halves = [tanh.weight.data, sigmoid.weight.data];
        let dims = [2 * c_out, c_in, kernel];
        r.put_rearranged(format!("{key}.weight"), &dims, halves, |halves| halves.concat().into())?;
        r.put(format!("{key}.bias"), &[2 * c_out], bias.into())
    }

    /// Reads back the residual half of every layer but the last, then the skip half.
    fn read_back_res_skip(
        r: &mut ReadBack<'_>,
        path: &str,
        skips: Vec<(Bytes, Bytes)>,
        hidden: usize,
    ) -> read_back::Result<()> {
        let layers = skips.len();
        for (layer, (skip, skip_bias)) in skips.into_iter().enumerate() {
            let (mut c_out, mut weight, mut bias) = (hidden, skip, skip_bias);
            let name = format!("res_skip_layers.{layer}");
            if layer + 1 < layers {
                let (residual, residual_bias) = pointwise_of(r, &format!("{path}/{name}"), hidden, hidden)?;
                c_out = 2 * hidden;
                weight = [residual, weight].concat().into();
                bias = [residual_bias, bias].concat().into();
            }
            let key = format!("{}.{name}", key(path));
            r.put(format!("{key}.weight"), &[c_out, hidden, 1], weight)?;
            r.put(format!("{key}.bias"), &[c_out], bias)?;
        }
        Ok(())
    }
}

/// Upstream's `ResidualCouplingLayer`, mean-only.
pub struct ResidualCouplingLayer {
    /// half → hidden
    pub pre: Conv1d,
    /// The gated stack.
    pub enc: WN,
    /// hidden → half: the mean.
    pub post: Conv1d,
}

impl ResidualCouplingLayer {
    fn load(w: &Scope<'_>, hp: &HParams) -> Result<Self, WeightsError> {
        let (half, h) = (hp.inter_channels / 2, hp.hidden_channels);
        Ok(Self {
            pre: Conv1d::load(&w.pp("pre"), ConvShape::pointwise(half, h))?,
            enc: WN::load(&w.pp("enc"), hp)?,
            post: Conv1d::load(&w.pp("post"), ConvShape::pointwise(h, half))?,
        })
    }

    /// `-post(skip outputs)` as one pointwise convolution of each layer's activations: both are linear, and
    /// only a mask, which is applied later anyway, is between them. The sign turns x1 - m into a sum, which
    /// runtimes fuse into the convolution. `post`'s bias is part of the first layer's.
    fn negative_means(&self) -> Vec<Conv1d> {
        let (h, half) = (self.enc.hidden(), self.post.c_out());
        let post = self.post.weight.elements();
        let post = |o: usize| &post[o * h..][..h];
        let layers = self.enc.res_skip_layers.iter().enumerate();
        let mean = |(l, res_skip): (usize, &Conv1d)| {
            let skip = res_skip.outputs(res_skip.c_out() - h..res_skip.c_out());
            let skip_bias = skip.bias.as_ref().map(Param::elements);
            let skip_bias = skip_bias.as_deref().unwrap_or_default();
            let product = || {
                let skip = skip.weight.elements();
                let mut weight = Vec::with_capacity(half * h);
                for o in 0..half {
                    let mut row = vec![0.0f64; h];
                    for (c, &p) in post(o).iter().enumerate() {
                        for (sum, &s) in row.iter_mut().zip(&skip[c * h..][..h]) {
                            *sum -= f64::from(p) * f64::from(s);
                        }
                    }
                    weight.extend(row.into_iter().map(|v| v as f32));
                }
                weight
            };
            let weight = Param::derived(&[half, h, 1], [&self.post.weight, &skip.weight], product);
            let mut bias = Vec::with_capacity(half);
            for o in 0..half {
                let own = match &self.post.bias {
                    Some(bias) if l == 0 => f64::from(bias.elements()[o]),
                    _ => 0.0,
                };
                let through =
                    post(o).iter().zip(skip_bias).map(|(&p, &s)| f64::from(p) * f64::from(s)).sum::<f64>();
                bias.push(-(own + through) as f32);
            }
            let bias = Some(Param::new(&[half], bias));
            Conv1d { weight, bias, ..self.post.clone() }
        };
        layers.map(mean).collect()
    }

    /// Returns the new x1. `x0` determines the shift, `x1` is shifted; with `reversed`, the channels of both
    /// are in reverse order.
    fn emit(
        &self,
        g: &mut GraphBuilder,
        time: &mut dyn Timeline,
        (x0, x1): (Signal, Signal),
        reversed: bool,
        speaker: Option<ValueId>,
    ) -> Signal {
        let (mut pre, mut means) = (self.pre.clone(), self.negative_means());
        if reversed {
            pre = pre.reversed_inputs();
            means = means.iter().map(Conv1d::reversed_outputs).collect();
        }
        let h = g.scope("pre", |g| pointwise(g, x0, &pre));
        let h = time.mask(g, h);
        g.scope("enc", |g| self.enc.emit(g, time, (h, x1), &means, speaker))
    }

    /// The graph has -post(skip outputs) as one product for each layer.
    fn read_back(r: &mut ReadBack<'_>, path: &str, reversed: bool) -> read_back::Result<()> {
        let (key, enc) = (key(path), format!("{path}/enc"));
        let mut pre = Conv1d::find(r, &format!("{path}/pre"))?;
        let (hidden, half) = (pre.weight.dims[0], pre.weight.dims[1]);
        if pre.weight.dims[2] != 1 {
            let problem = format!("expected one tap, found {}", pre.weight.dims[2]);
            return Err(r.error(format!("{key}.pre.weight"), problem));
        }
        if reversed {
            pre.weight.data = reversed_chunks(&pre.weight.data, half, 1);
        }
        r.put_conv(&format!("{key}.pre"), pre)?;

        let mut means = Vec::new();
        while r.has(&format!("/{enc}/mean.{}/Conv", means.len())) {
            WN::read_back_in_layer(r, &enc, means.len(), hidden)?;
            let (mut weight, mut bias) =
                pointwise_of(r, &format!("{enc}/mean.{}", means.len()), hidden, half)?;
            if reversed {
                (weight, bias) = (reversed_chunks(&weight, half, hidden), reversed_chunks(&bias, half, 1));
            }
            means.push((weight, bias));
        }
        let Product { skips, post, post_bias } = Product::of(&means, hidden, half);
        WN::read_back_res_skip(r, &enc, skips, hidden)?;
        if r.has(&format!("/{enc}/cond_layer/Conv")) {
            Conv1d::read_back(r, &format!("{enc}/cond_layer"))?;
        }
        r.put(format!("{key}.post.weight"), &[half, hidden, 1], post)?;
        r.put(format!("{key}.post.bias"), &[half], post_bias)
    }
}

/// Upstream's `ResidualCouplingBlock`.
pub struct ResidualCouplingBlock {
    /// `flows.0`, `flows.2`, ..: a `Flip`, which has no tensors, follows each.
    pub flows: Vec<ResidualCouplingLayer>,
}

impl ResidualCouplingBlock {
    pub(crate) fn load(w: &Scope<'_>, hp: &HParams) -> Result<Self, WeightsError> {
        let flows = (0..hp.flow.n_flows).map(|i| ResidualCouplingLayer::load(&w.pp("flows").pp(2 * i), hp));
        Ok(Self { flows: flows.collect::<Result<_, _>>()? })
    }

    /// Maps the two halves of z_p to the two halves of z, not masked.
    ///
    /// A `Flip` reverses the order of all channels. No data is moved for it: the halves swap places, and the
    /// next layer's weights take their channels in reverse order. Returns true if the result is left in
    /// reverse order, in which case the first half of the latent is the reverse of the second signal.
    pub(crate) fn emit(
        &self,
        g: &mut GraphBuilder,
        time: &mut dyn Timeline,
        (mut lower, mut upper): (Signal, Signal),
        speaker: Option<ValueId>,
    ) -> (Signal, Signal, bool) {
        let mut flipped = false;
        for (i, flow) in self.flows.iter().enumerate().rev() {
            flipped = !flipped;
            let name = format!("flows.{}", 2 * i);
            if flipped {
                lower = g.scope(&name, |g| flow.emit(g, time, (upper, lower), true, speaker));
            } else {
                upper = g.scope(&name, |g| flow.emit(g, time, (lower, upper), false, speaker));
            }
        }
        (lower, upper, flipped)
    }

    /// Returns true if the latent is left in reverse order.
    pub(crate) fn read_back(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<bool> {
        let mut count = 0;
        while r.has(&format!("/{path}/flows.{}/pre/Conv", 2 * count)) {
            count += 1;
        }
        for index in 0..count {
            // The layers run in reverse, each after a Flip.
            let reversed = (count - index) % 2 == 1;
            ResidualCouplingLayer::read_back(r, &format!("{path}/flows.{}", 2 * index), reversed)?;
        }
        Ok(count % 2 == 1)
    }
}

/// Weight and bias of the pointwise convolution at `path` of the graph.
fn pointwise_of(
    r: &ReadBack<'_>,
    path: &str,
    c_in: usize,
    c_out: usize,
) -> read_back::Result<(Bytes, Bytes)> {
    let conv = Conv1d::find(r, path)?;
    match conv.bias {
        Some(bias) if conv.weight.dims == [c_out, c_in, 1] => Ok((conv.weight.data, bias.data)),
        _ => {
            let (expected, found) = ([c_out, c_in, 1], conv.weight.dims);
            let problem = format!("expected a bias and {expected:?}, found {found:?}");
            Err(r.error(format!("{}.weight", key(path)), problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vitstream_onnx::{DType, Dim};

    use super::*;
    use crate::modules::dim;
    use crate::support::{self, Array, CASES, Net, assert_close};
    use crate::whole::Whole;

    #[test]
    fn latents_equal_pytorch() {
        for fixture in support::all() {
            let model = fixture.model();
            let hp = &model.hparams;
            let (c, h) = (hp.inter_channels, hp.hidden_channels);
            let mut builder = GraphBuilder::new("flow", 15);
            let g = &mut builder;
            let (b, t) = (Dim::symbol("b"), Dim::symbol("t"));
            let z_p = g.input("z_p", DType::F32, vec![b.clone(), dim(c), dim(1), t.clone()]);
            let y_mask = g.input("y_mask", DType::F32, vec![b.clone(), dim(1), dim(1), t.clone()]);
            let speaker = hp
                .multi_speaker()
                .then(|| g.input("g", DType::F32, vec![b.clone(), dim(hp.gin_channels), dim(1), dim(1)]));
            let mask = g.expand(y_mask, &[b, dim(h), dim(1), t]);
            let halves = g.split(z_p, 1, &[c / 2, c / 2]);
            let signal = |value| Signal { value, lag: 0, rate: 1 };
            let mut time = Whole::new(BTreeMap::from([(h, mask)]));
            let halves = (signal(halves[0]), signal(halves[1]));
            let (lower, upper, flipped) = model.flow.emit(g, &mut time, halves, speaker);
            assert!(!flipped, "upstream has an even number of flips");
            let z = g.concat(&[lower.value, upper.value], 1);
            // Frames after an item's last one are irrelevant.
            let z = g.mul(z, y_mask);
            g.output("z", z);
            let net = Net::new(builder.finish().unwrap());

            for case_name in CASES {
                let Some(case) = fixture.case(case_name) else { continue };
                let (z_p, y_mask, z) = (case.get("z_p"), case.get("y_mask"), case.get("z"));
                let (b, t) = (z_p.dims[0], z_p.dims[2]);
                let [z_p, y_mask] = [(z_p, c), (y_mask, 1)].map(|(x, c)| x.reshaped(&[b, c, 1, t]));
                let speaker = case.find("g").map(|g| g.reshaped(&[b, g.dims[1], 1, 1]));
                let mut fed = vec![("z_p", &z_p), ("y_mask", &y_mask)];
                fed.extend(speaker.as_ref().map(|speaker| ("g", speaker)));
                let found = net.run(fed).remove(0).reshaped(&[b, c, t]);
                let rows = z.floats().chunks_exact(t).enumerate();
                let mask = |row: usize| &y_mask.floats()[row / c * t..][..t];
                let masked = rows.flat_map(|(row, z)| z.iter().zip(mask(row)).map(|(z, m)| z * m));
                let expected = Array::f32(&[b, c, t], masked.collect());
                assert_close(&found, &expected, 2e-5, &format!("{} {case_name}: z", fixture.name));
            }
        }
    }
}
