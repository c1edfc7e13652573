//! Upstream's `attentions.py`: relative self-attention (Shaw et al. 2018) with a short window, and the feed-forward
//! layers between. All values are `[b, t, c]`, so that pointwise convolutions are matrix products and layer norms need
//! no transposition.

use vitstream_onnx::{Dim, GraphBuilder, Tensor, ValueId};

use crate::hparams::HParams;
use crate::modules::{Conv1d, ConvShape, LayerNorm, dim};
use crate::weights::{Param, Scope, WeightsError};

/// Added to the scores of masked columns. Upstream sets them to this value; either way their share rounds to zero.
const MASKED: f32 = -1e4;

/// Upstream's `MultiHeadAttention` with `window_size` set and `heads_share`.
pub struct MultiHeadAttention {
    /// Queries.
    pub conv_q: Conv1d,
    /// Keys.
    pub conv_k: Conv1d,
    /// Values.
    pub conv_v: Conv1d,
    /// Output projection.
    pub conv_o: Conv1d,
    /// `f32[1, 2 * window + 1, d_k]`
    pub emb_rel_k: Param,
    /// `f32[1, 2 * window + 1, d_k]`
    pub emb_rel_v: Param,
    /// Heads.
    pub n_heads: usize,
}

impl MultiHeadAttention {
    fn load(w: &Scope<'_>, hp: &HParams) -> Result<Self, WeightsError> {
        let h = hp.hidden_channels;
        let conv = |name: &str| Conv1d::load(&w.pp(name), ConvShape::pointwise(h, h));
        let rel = [1, 2 * hp.window_size + 1, h / hp.n_heads];
        Ok(Self {
            conv_q: conv("conv_q")?,
            conv_k: conv("conv_k")?,
            conv_v: conv("conv_v")?,
            conv_o: conv("conv_o")?,
            emb_rel_k: w.get(&rel, "emb_rel_k")?,
            emb_rel_v: w.get(&rel, "emb_rel_v")?,
            n_heads: hp.n_heads,
        })
    }

    fn d_k(&self) -> usize {
        self.emb_rel_k.dims[2]
    }

    fn window(&self) -> usize {
        self.emb_rel_k.dims[1] / 2
    }

    /// Query, key and value side by side as one matrix product, `1 / sqrt(d_k)` folded into the query.
    fn emit_qkv(&self, g: &mut GraphBuilder, x: ValueId) -> ValueId {
        let query = self.conv_q.scaled(1.0 / (self.d_k() as f32).sqrt());
        let weight =
            [&query, &self.conv_k, &self.conv_v].iter().flat_map(|c| c.weight.data.iter().copied()).collect();
        let bias = [&query, &self.conv_k, &self.conv_v]
            .iter()
            .filter_map(|c| c.bias.as_ref())
            .flat_map(|b| b.data.iter().copied())
            .collect();
        let h = self.conv_q.c_out();
        let merged = Conv1d {
            weight: Param::new(&[3 * h, h, 1], weight),
            bias: Some(Param::new(&[3 * h], bias)),
            ..self.conv_q.clone()
        };
        g.scope("conv_qkv", |g| merged.emit_linear(g, x))
    }

    /// `x: f32[b, t, h]`, `bias: f32[b, 1, 1, t]` ([`attention_bias`]) → `f32[b, t, h]`.
    fn emit(&self, g: &mut GraphBuilder, x: ValueId, bias: ValueId, band: &Band) -> ValueId {
        let (b, t) = (g.dim(x, 0), g.dim(x, 1));
        let (heads, d_k) = (self.n_heads, self.d_k());
        let qkv = self.emit_qkv(g, x);
        let qkv = g.reshape(qkv, &[b.clone(), t.clone(), dim(3 * heads), dim(d_k)]);
        let qkv = g.transpose(qkv, &[0, 2, 1, 3]);
        let parts = g.split(qkv, 1, &[heads, heads, heads]);
        let (query, key, value) = (parts[0], parts[1], parts[2]);
        let key = g.transpose(key, &[0, 1, 3, 2]);

        let scores = g.matmul(query, key);
        let rel_k = g.initializer("emb_rel_k", transposed(&self.emb_rel_k));
        let rel = g.matmul(query, rel_k);
        let rel = slide(g, rel, self.window());
        let scores = g.add(scores, rel);
        let scores = g.add(scores, bias);
        let p = g.softmax(scores, 3);

        let output = g.matmul(p, value);
        let near = band.gather(g, p, &b, heads);
        let rel_v = g.initializer("emb_rel_v", self.emb_rel_v.reshaped(&self.emb_rel_v.dims[1..]));
        let rel = g.matmul(near, rel_v);
        let output = g.add(output, rel);
        let output = g.transpose(output, &[0, 2, 1, 3]);
        let output = g.reshape(output, &[b, t, dim(heads * d_k)]);
        g.scope("conv_o", |g| self.conv_o.emit_linear(g, output))
    }
}

/// `f32[1, n, d_k]` → `f32[d_k, n]`.
fn transposed(rel: &Param) -> Tensor {
    let (n, d_k) = (rel.dims[1], rel.dims[2]);
    let values: Vec<f32> = (0..d_k).flat_map(|d| (0..n).map(move |j| rel.data[j * d_k + d])).collect();
    Tensor::f32(&[d_k, n], &values)
}

/// Spreads `rel: [b, h, t, 2w + 1]`, the score of each query with the key `j - w` places on, over the keys: `[b, h, t, t]`,
/// zeros beyond the window.
///
/// Row i has to move i places to the right. Padded to t + 2w + 1 columns and read again in rows of t + 2w, every row
/// starts one place later than the one before; columns w..w+t are the keys.
fn slide(g: &mut GraphBuilder, rel: ValueId, window: usize) -> ValueId {
    let (b, h, t) = (g.dim(rel, 0), g.dim(rel, 1), g.dim(rel, 2));
    let zero = dim(0);
    let amounts = [
        zero.clone(),
        zero.clone(),
        zero.clone(),
        zero.clone(),
        zero.clone(),
        zero.clone(),
        zero.clone(),
        t.clone(),
    ];
    let padded = g.pad_dims(rel, &amounts, 0.0);
    let narrow = &t + &dim(2 * window);
    let flat = g.reshape(padded, &[b.clone(), h.clone(), &t * &(&narrow + &dim(1))]);
    let flat = g.slice(flat, 2, &zero, &(&t * &narrow));
    let rows = g.reshape(flat, &[b, h, t.clone(), narrow]);
    g.slice(rows, 3, &dim(window), &t)
}

/// Where the `2w + 1` keys around each query are: the same for all layers and heads.
struct Band {
    /// int64 `[t, 2w + 1]`: the key, held inside the text.
    index: ValueId,
    /// f32 `[t, 2w + 1]`: 1 where there is such a key.
    valid: ValueId,
}

impl Band {
    fn emit(g: &mut GraphBuilder, t: &Dim, window: usize) -> Self {
        let length = g.dim_value(t);
        let rows = g.range(length, t);
        let rows = g.unsqueeze(rows, &[1]);
        let offsets: Vec<i64> = (-(window as i64)..=window as i64).collect();
        let offsets = g.ints(&offsets);
        let at = g.add(rows, offsets);
        let (zero, one) = (g.ints(&[0]), g.ints(&[1]));
        let last = g.sub(length, one);
        let index = g.max(at, zero);
        let index = g.min(index, last);
        let inside = g.equal(at, index);
        let valid = g.cast(inside, vitstream_onnx::DType::F32);
        Self { index, valid }
    }

    /// `p: f32[b, h, t, t]` → `f32[b, h, t, 2w + 1]`, zeros outside the text.
    fn gather(&self, g: &mut GraphBuilder, p: ValueId, b: &Dim, heads: usize) -> ValueId {
        let mut shape = vec![b.clone(), dim(heads)];
        shape.extend(g.shape(self.index).to_vec());
        let index = g.expand(self.index, &shape);
        let near = g.gather_elements(p, index, 3);
        g.mul(near, self.valid)
    }
}

/// Upstream's `FFN` (not causal, ReLU).
pub struct FFN {
    /// hidden → filter
    pub conv_1: Conv1d,
    /// filter → hidden
    pub conv_2: Conv1d,
}

impl FFN {
    fn load(w: &Scope<'_>, hp: &HParams) -> Result<Self, WeightsError> {
        let (h, f, kernel) = (hp.hidden_channels, hp.filter_channels, hp.kernel_size);
        let conv = |name: &str, c_in, c_out| {
            Conv1d::load(&w.pp(name), ConvShape { c_in, c_out, kernel, dilation: 1 })
        };
        Ok(Self { conv_1: conv("conv_1", h, f)?, conv_2: conv("conv_2", f, h)? })
    }

    fn emit(&self, g: &mut GraphBuilder, x: ValueId, x_mask: ValueId) -> ValueId {
        let x = g.mul(x, x_mask);
        let x = g.scope("conv_1", |g| self.conv_1.emit_channels_last(g, x));
        let x = g.relu(x);
        let x = g.mul(x, x_mask);
        g.scope("conv_2", |g| self.conv_2.emit_channels_last(g, x))
    }
}

/// Upstream's `Encoder`: attention and feed-forward layers, each with a residual and a norm after it.
pub struct Encoder {
    /// One for each layer.
    pub attn_layers: Vec<MultiHeadAttention>,
    /// After attention.
    pub norm_layers_1: Vec<LayerNorm>,
    /// One for each layer.
    pub ffn_layers: Vec<FFN>,
    /// After the feed-forward layer.
    pub norm_layers_2: Vec<LayerNorm>,
}

impl Encoder {
    pub(crate) fn load(w: &Scope<'_>, hp: &HParams) -> Result<Self, WeightsError> {
        let norm =
            |name: &str, i: usize| LayerNorm::load(&w.pp(name).pp(i), hp.hidden_channels, hp.layer_norm_eps);
        let layers = 0..hp.n_layers;
        Ok(Self {
            attn_layers: layers
                .clone()
                .map(|i| MultiHeadAttention::load(&w.pp("attn_layers").pp(i), hp))
                .collect::<Result<_, _>>()?,
            norm_layers_1: layers.clone().map(|i| norm("norm_layers_1", i)).collect::<Result<_, _>>()?,
            ffn_layers: layers
                .clone()
                .map(|i| FFN::load(&w.pp("ffn_layers").pp(i), hp))
                .collect::<Result<_, _>>()?,
            norm_layers_2: layers.map(|i| norm("norm_layers_2", i)).collect::<Result<_, _>>()?,
        })
    }

    /// `x: f32[b, t, h]`, `x_mask: f32[b, t, 1]` → `f32[b, t, h]`, not masked.
    pub(crate) fn emit(&self, g: &mut GraphBuilder, mut x: ValueId, x_mask: ValueId) -> ValueId {
        let bias = attention_bias(g, x_mask);
        let t = g.dim(x, 1);
        let window = self.attn_layers.first().map_or(0, MultiHeadAttention::window);
        let band = g.scope("band", |g| Band::emit(g, &t, window));
        for i in 0..self.attn_layers.len() {
            let y = g.scope(&format!("attn_layers.{i}"), |g| self.attn_layers[i].emit(g, x, bias, &band));
            x = g.scope(&format!("norm_layers_1.{i}"), |g| {
                let sum = g.add(x, y);
                self.norm_layers_1[i].emit(g, sum)
            });
            let y = g.scope(&format!("ffn_layers.{i}"), |g| self.ffn_layers[i].emit(g, x, x_mask));
            x = g.scope(&format!("norm_layers_2.{i}"), |g| {
                let sum = g.add(x, y);
                self.norm_layers_2[i].emit(g, sum)
            });
        }
        x
    }
}

/// A row that takes masked columns out of the softmax. Masked rows need nothing: what they give is thrown away.
/// `x_mask: f32[b, t, 1]` → `f32[b, 1, 1, t]`.
fn attention_bias(g: &mut GraphBuilder, x_mask: ValueId) -> ValueId {
    let (b, t) = (g.dim(x_mask, 0), g.dim(x_mask, 1));
    let row = g.reshape(x_mask, &[b, dim(1), dim(1), t]);
    let one = g.scalar(1.0);
    let masked = g.sub(one, row);
    g.mul_scalar(masked, MASKED)
}
