//! Modules shared by the blocks: convolutions, layer norm, `DDSConv`. They are loaded as upstream stores
//! them; foldings are decided where the graph is emitted.

use vitstream_onnx::{Attr, ConvAxis, Dim, GraphBuilder, ValueId};

use crate::elements::transposed;
use crate::read_back::{self, Array, FoundConv, ReadBack, key};
use crate::weights::{Param, Scope, WeightsError};

/// `torch.nn.Conv1d` with stride 1. `weight: f32[c_out, c_in / groups, kernel]`, `bias: f32[c_out]`.
#[derive(Clone)]
pub struct Conv1d {
    /// The kernel, with any weight norm folded in.
    pub weight: Param,
    /// Added to every output.
    pub bias: Option<Param>,
    /// Step between taps.
    pub dilation: usize,
    /// 1, or the number of channels of a depthwise convolution.
    pub groups: usize,
}

/// The sizes of a convolution, for loading it.
#[derive(Clone, Copy)]
pub(crate) struct ConvShape {
    pub(crate) c_in: usize,
    pub(crate) c_out: usize,
    pub(crate) kernel: usize,
    pub(crate) dilation: usize,
}

impl ConvShape {
    pub(crate) fn pointwise(c_in: usize, c_out: usize) -> Self {
        Self { c_in, c_out, kernel: 1, dilation: 1 }
    }

    fn dims(self) -> [usize; 3] {
        [self.c_out, self.c_in, self.kernel]
    }
}

impl Conv1d {
    pub(crate) fn load(w: &Scope<'_>, shape: ConvShape) -> Result<Self, WeightsError> {
        let weight = w.get(&shape.dims(), "weight")?;
        let bias = Some(w.get(&[shape.c_out], "bias")?);
        Ok(Self { weight, bias, dilation: shape.dilation, groups: 1 })
    }

    pub(crate) fn load_weight_norm(w: &Scope<'_>, shape: ConvShape) -> Result<Self, WeightsError> {
        let weight = w.weight_norm(&shape.dims())?;
        let bias = Some(w.get(&[shape.c_out], "bias")?);
        Ok(Self { weight, bias, dilation: shape.dilation, groups: 1 })
    }

    pub(crate) fn load_without_bias(w: &Scope<'_>, shape: ConvShape) -> Result<Self, WeightsError> {
        Ok(Self { weight: w.get(&shape.dims(), "weight")?, bias: None, dilation: shape.dilation, groups: 1 })
    }

    pub(crate) fn load_depthwise(
        w: &Scope<'_>,
        channels: usize,
        kernel: usize,
        dilation: usize,
    ) -> Result<Self, WeightsError> {
        let weight = w.get(&[channels, 1, kernel], "weight")?;
        Ok(Self { weight, bias: Some(w.get(&[channels], "bias")?), dilation, groups: channels })
    }

    /// Output channels.
    pub fn c_out(&self) -> usize {
        self.weight.dims[0]
    }

    /// Input channels.
    pub fn c_in(&self) -> usize {
        self.weight.dims[1] * self.groups
    }

    /// Number of taps.
    pub fn kernel(&self) -> usize {
        self.weight.dims[2]
    }

    /// Input frames on which an output depends, minus one: the number that a stream must keep.
    pub fn context(&self) -> usize {
        (self.kernel() - 1) * self.dilation
    }

    /// Zeros that upstream pads on each side to keep the length: half of [`context`](Self::context).
    pub fn padding(&self) -> usize {
        self.context() / 2
    }

    /// Weight and bias times `factor`.
    pub(crate) fn scaled(&self, factor: f32) -> Self {
        let bias = self.bias.as_ref().map(|b| b.scaled(factor));
        Self { weight: self.weight.scaled(factor), bias, ..self.clone() }
    }

    /// The same convolution for an input whose channels are in reverse order: a folded `Flip`.
    pub(crate) fn reversed_inputs(&self) -> Self {
        let [c_out, c_in, k] = self.weight.dims[..] else { unreachable!("a Conv1d weight has three axes") };
        let weight = Param::derived(&self.weight.dims, [&self.weight], || {
            let w = self.weight.elements();
            (0..c_out)
                .flat_map(|o| (0..c_in).rev().flat_map(move |i| (0..k).map(move |t| (o * c_in + i) * k + t)))
                .map(|at| w[at])
                .collect()
        });
        Self { weight, ..self.clone() }
    }

    /// The same convolution with its output channels in reverse order.
    pub(crate) fn reversed_outputs(&self) -> Self {
        let reversed = |param: &Param| {
            let row = row_of(param);
            let rows = || param.elements().chunks_exact(row).rev().flatten().copied().collect();
            Param::derived(&param.dims, [param], rows)
        };
        Self { weight: reversed(&self.weight), bias: self.bias.as_ref().map(reversed), ..self.clone() }
    }

    /// Only the output channels in `range`.
    pub(crate) fn outputs(&self, range: std::ops::Range<usize>) -> Self {
        let part = |param: &Param| {
            let row = row_of(param);
            let mut dims = param.dims.clone();
            dims[0] = range.len();
            Param::derived(&dims, [param], || param.elements()[range.start * row..range.end * row].to_vec())
        };
        Self { weight: part(&self.weight), bias: self.bias.as_ref().map(part), ..self.clone() }
    }

    /// This convolution's outputs followed by `other`'s, for the same input.
    pub(crate) fn stacked(&self, other: &Self) -> Self {
        let both = |a: &Param, b: &Param| {
            let mut dims = a.dims.clone();
            dims[0] += b.dims[0];
            Param::derived(&dims, [a, b], || [&a.elements()[..], &b.elements()].concat())
        };
        let zeros = |conv: &Self| Param::new(&[conv.c_out()], vec![0.0; conv.c_out()]);
        let bias = |conv: &Self| conv.bias.clone().unwrap_or_else(|| zeros(conv));
        let bias = Some(both(&bias(self), &bias(other)));
        Self { weight: both(&self.weight, &other.weight), bias, ..self.clone() }
    }

    /// A kernel with one tap as a matrix `[c_in, c_out]`, for `[.., t, c]` values.
    fn matrix(&self) -> Param {
        let (c_in, c_out) = (self.c_in(), self.c_out());
        Param::derived(&[c_in, c_out], [&self.weight], || {
            let rows = self.weight.elements();
            (0..c_in).flat_map(|i| rows[i..].iter().step_by(c_in)).copied().collect()
        })
    }

    /// `x: f32[b, 1, t, c_in]` → `f32[b, 1, t, c_out]`, for a kernel with one tap.
    pub(crate) fn emit_linear(&self, g: &mut GraphBuilder, x: ValueId) -> ValueId {
        let weight = g.initializer("weight", self.matrix().tensor());
        let y = g.matmul(x, weight);
        match &self.bias {
            Some(bias) => {
                let bias = g.initializer("bias", bias.tensor());
                g.add(y, bias)
            }
            None => y,
        }
    }

    /// The convolution that [`emit_linear`](Self::emit_linear) wrote at `path`.
    pub(crate) fn find_linear(r: &ReadBack<'_>, path: &str) -> read_back::Result<FoundConv> {
        let place = format!("{}.weight", key(path));
        let matrix = r.operand(&format!("/{path}/MatMul"), 1)?;
        let [c_in, c_out] = r.expect(&place, &matrix)?;
        let bias = r.operand(&format!("/{path}/Add"), 1)?;
        if bias.dims != [c_out] || matrix.dims.contains(&0) {
            let place = place.replace(".weight", ".bias");
            return Err(r.error(place, format!("expected {:?}, found {:?}", [c_out], bias.dims)));
        }
        let weight = Array { dims: vec![c_out, c_in, 1], data: transposed(&matrix.data, c_in, c_out) };
        Ok(FoundConv { weight, bias: Some(bias), dilation: 1 })
    }

    /// Reads back the result of [`emit_linear`](Self::emit_linear).
    pub(crate) fn read_back_linear(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<()> {
        let conv = Self::find_linear(r, path)?;
        r.put_conv(&key(path), conv)
    }

    /// `x: f32[b, 1, t, c_in]` → `f32[b, 1, t, c_out]`, with zeros beyond the ends.
    pub(crate) fn emit_channels_last(&self, g: &mut GraphBuilder, x: ValueId) -> ValueId {
        let x = channels_first(g, x);
        let y = self.emit_same(g, x);
        channels_last(g, y)
    }

    /// `x: f32[b, c_in, 1, t]` → `f32[b, c_out, 1, t]`, with zeros beyond the ends.
    pub(crate) fn emit_same(&self, g: &mut GraphBuilder, x: ValueId) -> ValueId {
        let left = self.padding();
        let axis =
            ConvAxis { pad_begin: left, pad_end: self.context() - left, dilation: self.dilation, stride: 1 };
        self.emit_2d(g, x, axis)
    }

    /// `x: f32[b, c_in, 1, t]` → `f32[b, c_out, 1, t']`, padded according to `axis`.
    pub(crate) fn emit_2d(&self, g: &mut GraphBuilder, x: ValueId, axis: ConvAxis) -> ValueId {
        let [c_out, c_in, kernel] = self.weight.dims[..] else {
            unreachable!("a Conv1d weight has three axes")
        };
        let weight = g.initializer("weight", self.weight.reshaped(&[c_out, c_in, 1, kernel]));
        let bias = self.bias.as_ref().map(|bias| g.initializer("bias", bias.tensor()));
        g.conv(x, weight, bias, &[ConvAxis::default(), axis], self.groups)
    }

    /// The convolution that [`emit_2d`](Self::emit_2d) wrote at `path`; a convolution that only copies may
    /// precede it.
    pub(crate) fn find(r: &ReadBack<'_>, path: &str) -> read_back::Result<FoundConv> {
        let second = format!("/{path}/Conv_1");
        let name = if r.has(&second) { second } else { format!("/{path}/Conv") };
        r.conv_of(&name, path)
    }

    /// Reads back the result of [`emit_2d`](Self::emit_2d).
    pub(crate) fn read_back(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<()> {
        let conv = Self::find(r, path)?;
        r.put_conv(&key(path), conv)
    }
}

/// Number of elements for each entry of the first axis.
fn row_of(param: &Param) -> usize {
    param.dims[1..].iter().product()
}

/// `f32[b, 1, t, c]` → `f32[b, c, 1, t]`. The unit height axis lets ONNX Runtime use its blocked
/// convolutions, and it merges a transposition of this form with its own conversion into their layout.
pub(crate) fn channels_first(g: &mut GraphBuilder, x: ValueId) -> ValueId {
    g.transpose(x, &[0, 3, 1, 2])
}

/// `f32[b, c, 1, t]` → `f32[b, 1, t, c]`: the inverse.
pub(crate) fn channels_last(g: &mut GraphBuilder, x: ValueId) -> ValueId {
    g.transpose(x, &[0, 2, 3, 1])
}

/// Upstream's `LayerNorm`, over channels, which are the last axis here.
#[derive(Clone)]
pub struct LayerNorm {
    /// `f32[channels]`
    pub gamma: Param,
    /// `f32[channels]`
    pub beta: Param,
    /// Added to the variance.
    pub epsilon: f32,
}

impl LayerNorm {
    pub(crate) fn load(w: &Scope<'_>, channels: usize, epsilon: f32) -> Result<Self, WeightsError> {
        Ok(Self { gamma: w.get(&[channels], "gamma")?, beta: w.get(&[channels], "beta")?, epsilon })
    }

    /// `x: f32[b, 1, t, channels]` → the same shape.
    pub(crate) fn emit(&self, g: &mut GraphBuilder, x: ValueId) -> ValueId {
        let gamma = g.initializer("gamma", self.gamma.tensor());
        let beta = g.initializer("beta", self.beta.tensor());
        g.layer_norm(x, gamma, beta, self.epsilon)
    }

    /// Reads back a norm of upstream's `part` (`enc_p` or `dp`): one node, or several for older operator
    /// sets.
    pub(crate) fn read_back(r: &mut ReadBack<'_>, part: &'static str, path: &str) -> read_back::Result<()> {
        let key = key(path);
        let (gamma, beta, epsilon) = Self::find(r, path)?.ok_or_else(|| {
            let problem = "expected a layer norm in the form in which vitstream writes it, found none";
            r.error(key.as_str(), problem)
        })?;
        r.put_epsilon(part, &key, epsilon)?;
        r.put(format!("{key}.gamma"), &gamma.dims, gamma.data)?;
        r.put(format!("{key}.beta"), &beta.dims, beta.data)
    }

    fn find(r: &ReadBack<'_>, path: &str) -> read_back::Result<Option<(Array, Array, f32)>> {
        let name = format!("/{path}/LayerNormalization");
        if r.has(&name) {
            let Some(Attr::Float(epsilon)) = r.node(&name)?.attrs.get("epsilon") else { return Ok(None) };
            return Ok(Some((r.operand(&name, 1)?, r.operand(&name, 2)?, *epsilon)));
        }
        let name = format!("/{path}/Mul");
        if !r.has(&name) {
            return Ok(None);
        }
        let scaled = r.node(&name)?;
        let variance = || {
            let deviation = r.producer(r.producer(scaled, 0, "Div")?, 1, "Sqrt")?;
            r.producer(deviation, 0, "Add")
        };
        let (Some(variance), Some(shifted)) = (variance(), r.reader(scaled, "Add")) else { return Ok(None) };
        Ok(Some((r.operand(&name, 1)?, r.operand(&shifted.name, 1)?, r.scalar_of(variance, 1)?)))
    }
}

/// Upstream's `DDSConv`: dilated depth-separable convolutions with residuals.
pub struct DDSConv {
    /// Depthwise, dilation `kernel^i`.
    pub convs_sep: Vec<Conv1d>,
    /// Pointwise.
    pub convs_1x1: Vec<Conv1d>,
    /// After the depthwise convolution.
    pub norms_1: Vec<LayerNorm>,
    /// After the pointwise convolution.
    pub norms_2: Vec<LayerNorm>,
}

impl DDSConv {
    pub(crate) fn load(
        w: &Scope<'_>,
        channels: usize,
        kernel: usize,
        layers: usize,
        epsilon: f32,
    ) -> Result<Self, WeightsError> {
        let mut block =
            Self { convs_sep: Vec::new(), convs_1x1: Vec::new(), norms_1: Vec::new(), norms_2: Vec::new() };
        let mut dilation = 1;
        for i in 0..layers {
            block.convs_sep.push(Conv1d::load_depthwise(
                &w.pp("convs_sep").pp(i),
                channels,
                kernel,
                dilation,
            )?);
            let pointwise = ConvShape::pointwise(channels, channels);
            block.convs_1x1.push(Conv1d::load(&w.pp("convs_1x1").pp(i), pointwise)?);
            block.norms_1.push(LayerNorm::load(&w.pp("norms_1").pp(i), channels, epsilon)?);
            block.norms_2.push(LayerNorm::load(&w.pp("norms_2").pp(i), channels, epsilon)?);
            dilation *= kernel;
        }
        Ok(block)
    }

    /// `x: f32[b, 1, t, channels]`, `x_mask: f32[b, 1, t, 1]` → f32[b, 1, t, channels], not masked. The
    /// caller adds upstream's `g` to x.
    pub(crate) fn emit(&self, g: &mut GraphBuilder, mut x: ValueId, x_mask: ValueId) -> ValueId {
        for i in 0..self.convs_sep.len() {
            let y = g.mul(x, x_mask);
            let y = g.scope(&format!("convs_sep.{i}"), |g| self.convs_sep[i].emit_channels_last(g, y));
            let y = g.scope(&format!("norms_1.{i}"), |g| {
                let y = self.norms_1[i].emit(g, y);
                g.gelu(y)
            });
            let y = g.scope(&format!("convs_1x1.{i}"), |g| self.convs_1x1[i].emit_linear(g, y));
            let y = g.scope(&format!("norms_2.{i}"), |g| {
                let y = self.norms_2[i].emit(g, y);
                g.gelu(y)
            });
            x = g.add(x, y);
        }
        x
    }

    pub(crate) fn read_back(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<()> {
        for layer in 0.. {
            if !r.has(&format!("/{path}/convs_sep.{layer}/Conv")) {
                break;
            }
            Conv1d::read_back(r, &format!("{path}/convs_sep.{layer}"))?;
            Conv1d::read_back_linear(r, &format!("{path}/convs_1x1.{layer}"))?;
            LayerNorm::read_back(r, "dp", &format!("{path}/norms_1.{layer}"))?;
            LayerNorm::read_back(r, "dp", &format!("{path}/norms_2.{layer}"))?;
        }
        Ok(())
    }
}

/// A constant length as a dimension.
pub(crate) fn dim(n: usize) -> Dim {
    Dim::from(n)
}
