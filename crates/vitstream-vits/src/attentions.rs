//! Upstream's `attentions.py`: relative self-attention (Shaw et al. 2018) with a short window, and the
//! feed-forward layers in between. All values are `[b, 1, t, c]`, so pointwise convolutions are matrix
//! products and layer norms need no transposition.

use bytes::Bytes;
use vitstream_onnx::{Dim, GraphBuilder, Tensor, ValueId};

use crate::elements::{self, unscaled};
use crate::hparams::HParams;
use crate::modules::{Conv1d, ConvShape, LayerNorm, dim};
use crate::read_back::{self, Array as Found, ReadBack, key};
use crate::weights::{Param, Scope, WeightsError};
use crate::winograd::Pairs;

/// Added to the scores of masked columns. Upstream replaces the scores by this value; either way their share
/// rounds to zero.
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

    /// Query, key and value as one matrix product, with `1 / sqrt(d_k)` folded into the query.
    fn emit_qkv(&self, g: &mut GraphBuilder, x: ValueId) -> ValueId {
        let query = self.conv_q.scaled(1.0 / (self.d_k() as f32).sqrt());
        let merged = query.stacked(&self.conv_k).stacked(&self.conv_v);
        g.scope("conv_qkv", |g| merged.emit_linear(g, x))
    }

    /// `x: f32[b, 1, t, h]` → `f32[b, 1, t, h]`, in [`Blocks`] of rows.
    ///
    /// The relative terms form a band around the diagonal, `n = 2w + 1` wide. With keys and values padded by
    /// w on both sides, query i meets its band in columns i..i + n of its scores. These few scores are taken
    /// out, added to and put back; the probabilities there are taken out once more for the values' relative
    /// term. The bias that excludes a column from the softmax is added by the product with the keys: the keys
    /// have it as an additional row, and queries end in a one.
    fn emit(&self, g: &mut GraphBuilder, x: ValueId, blocks: &Blocks) -> ValueId {
        let (b, t) = (g.dim(x, 0), g.dim(x, 2));
        let (heads, d_k, w) = (self.n_heads, self.d_k(), self.window());
        let qkv = self.emit_qkv(g, x);
        let qkv = g.reshape(qkv, &[b.clone(), t.clone(), dim(3 * heads), dim(d_k)]);
        let qkv = g.transpose(qkv, &[0, 2, 1, 3]);
        let parts = g.split(qkv, 1, &[heads, 2 * heads]);
        let (query, around) = (parts[0], parts[1]);
        let around = g.pad(around, &[0, 0, w, 0], &[0, 0, w, 0], 0.0);
        let parts = g.split(around, 1, &[heads, heads]);
        let (key, value) = (parts[0], parts[1]);
        let key = g.transpose(key, &[0, 1, 3, 2]);
        let key = g.concat(&[key, blocks.bias], 2);
        let rel_k = g.initializer("emb_rel_k", transposed(&self.emb_rel_k));
        let rel_v = g.initializer("emb_rel_v", self.emb_rel_v.reshaped(&self.emb_rel_v.dims[1..]));
        let relative = g.matmul(query, rel_k);
        let query = g.pad(query, &[0; 4], &[0, 0, 0, 1], 1.0);

        let columns = g.dim(key, 3);
        let (height, width) = (g.dim_value(&blocks.height), g.dim_value(&columns));
        let captured = [rel_v, query, key, value, relative, blocks.band, height, width];
        let output = g.repeat(&blocks.count, &captured, |g, round, captured| {
            self.emit_block(g, blocks, &columns, round, captured)
        });
        let output = g.transpose(output, &[1, 0, 2, 3]);
        let output = g.reshape(output, &[b, dim(1), t, dim(heads * d_k)]);
        g.scope("conv_o", |g| self.conv_o.emit_linear(g, output))
    }

    /// One round of the loop: a block of queries against all keys. [`emit`](Self::emit) explains `captured`.
    fn emit_block(
        &self,
        g: &mut GraphBuilder,
        blocks: &Blocks,
        columns: &Dim,
        round: ValueId,
        captured: &[ValueId],
    ) -> ValueId {
        let &[rel_v, query, key, value, relative, band, height, width] = captured else {
            unreachable!("as many")
        };
        g.define_dim(&blocks.height, height);
        g.define_dim(columns, width);
        let (b, heads, n) = (g.dim(query, 0), self.n_heads, 2 * self.window() + 1);
        let round = g.unsqueeze(round, &[0]);
        let first = g.mul(round, height);
        let end = g.add(first, height);
        let query = g.slice_at(query, 2, first, end, &blocks.height);
        let relative = g.slice_at(relative, 2, first, end, &blocks.height);
        let scores = g.matmul(query, key);

        let straight = [b.clone(), dim(heads), blocks.height.clone(), columns.clone()];
        let flat = [b.clone(), dim(heads), &blocks.height * columns];
        let band = g.add(band, first);
        let scores = g.reshape(scores, &flat);
        let near = g.gather_elements(scores, band, 2);
        let in_band = g.shape(band).to_vec();
        let relative = g.reshape(relative, &in_band);
        let near = g.add(near, relative);
        let scores = g.scatter_elements(scores, band, near, 2);
        let scores = g.reshape(scores, &straight);
        let p = g.softmax(scores, 3);

        let output = g.matmul(p, value);
        let p = g.reshape(p, &flat);
        let near = g.gather_elements(p, band, 2);
        let near = g.reshape(near, &[b.clone(), dim(heads), blocks.height.clone(), dim(n)]);
        let relative = g.matmul(near, rel_v);
        let output = g.add(output, relative);
        let output = g.transpose(output, &[0, 2, 1, 3]);
        g.reshape(output, &[b, blocks.height.clone(), dim(heads * self.d_k())])
    }

    /// Reads back attention with `hidden` channels.
    fn read_back(r: &mut ReadBack<'_>, path: &str, hidden: usize) -> read_back::Result<()> {
        let key = key(path);
        let near = r.operand(&format!("/{path}/MatMul"), 1)?;
        let [d_k, places] = r.expect(&format!("{key}.emb_rel_k"), &near)?;
        let data = elements::transposed(&near.data, d_k, places);
        r.put(format!("{key}.emb_rel_k"), &[1, places, d_k], data)?;
        let near = r.operand_in_loop(&format!("/{path}/Loop"), "/MatMul_2", 1)?;
        let [places, d_k] = r.expect(&format!("{key}.emb_rel_v"), &near)?;
        r.put(format!("{key}.emb_rel_v"), &[1, places, d_k], near.data)?;

        let merged = Conv1d::find_linear(r, &format!("{path}/conv_qkv"))?;
        if merged.weight.dims != [3 * hidden, hidden, 1] {
            let expected = [hidden, 3 * hidden];
            let found = [merged.weight.dims[1], merged.weight.dims[0]];
            let place = format!("{key}.conv_qkv.weight");
            return Err(r.error(place, format!("expected {expected:?}, found {found:?}")));
        }
        let scale = 1.0 / (d_k as f32).sqrt();
        for (at, name) in ["conv_q", "conv_k", "conv_v"].into_iter().enumerate() {
            let rows = at * hidden..(at + 1) * hidden;
            // Copied, so that no part keeps the others' memory alive.
            let part = |array: &Found| match name {
                "conv_q" => unscaled(&array.rows(rows.clone()), scale),
                _ => Bytes::copy_from_slice(&array.rows(rows.clone())),
            };
            r.put(format!("{key}.{name}.weight"), &[hidden, hidden, 1], part(&merged.weight))?;
            if let Some(bias) = &merged.bias {
                r.put(format!("{key}.{name}.bias"), &[hidden], part(bias))?;
            }
        }
        Conv1d::read_back_linear(r, &format!("{path}/conv_o"))
    }
}

/// Blocks of queries: only one block's rows of all scores exist at a time, so memory grows with the number of
/// ids and not with its square, and the work stays in the cache. The text is padded to fill the blocks.
struct Blocks {
    /// Number of blocks.
    count: Dim,
    /// Rows of each block, an even number in a form that the graph recognises as even.
    height: Dim,
    /// The bias that excludes columns from the softmax: masked ids, and w positions on each side.
    /// `f32[b, heads, 1, count * height + 2w]`
    bias: ValueId,
    /// Positions of the band among the scores of the first block, row by row: `i64[b, heads, height * n]`.
    band: ValueId,
}

impl Blocks {
    /// Limit on the rows of a block. Larger blocks exceed the cache; smaller ones spend their time on
    /// arranging the keys.
    const MOST: usize = 256;

    /// The number and the height of the blocks for `t` rows. There is always at least one.
    fn divide(g: &mut GraphBuilder, t: &Dim) -> (Dim, Dim) {
        let (most, one) = (g.ints(&[Self::MOST as i64]), g.ints(&[1]));
        let rows = g.dim_value(t);
        let full = g.div(rows, most);
        let blocks = g.add(full, one);
        let count = Dim::symbol("query_blocks");
        g.define_dim(&count, blocks);
        let twice = g.dim_value(&(&dim(2) * &count));
        let more = g.add(rows, twice);
        let more = g.sub(more, one);
        let half = g.div(more, twice);
        let half_height = Dim::symbol("half_query_block");
        g.define_dim(&half_height, half);
        (count, &dim(2) * &half_height)
    }

    /// `x_mask: f32[b, 1, count * height, 1]`
    fn new(
        g: &mut GraphBuilder,
        x_mask: ValueId,
        (count, height): (Dim, Dim),
        attention: &MultiHeadAttention,
    ) -> Self {
        let (b, t, heads, w) = (g.dim(x_mask, 0), g.dim(x_mask, 2), attention.n_heads, attention.window());
        let row = g.reshape(x_mask, &[b.clone(), dim(1), dim(1), t]);
        let one = g.scalar(1.0);
        let masked = g.sub(row, one);
        let bias = g.mul_scalar(masked, -MASKED);
        let bias = g.pad(bias, &[0, 0, 0, w], &[0, 0, 0, w], MASKED);
        let columns = g.dim(bias, 3);
        let bias = g.expand(bias, &[b.clone(), dim(heads), dim(1), columns.clone()]);

        // Row i begins at offset i * columns, and its band i positions after that.
        let n = 2 * w + 1;
        let limit = g.dim_value(&height);
        let row = g.range(limit, &height);
        let row = g.reshape(row, &[height.clone(), dim(1)]);
        let step = g.dim_value(&(&columns + &dim(1)));
        let row = g.mul(row, step);
        let places: Vec<i64> = (0..n as i64).collect();
        let places = g.ints(&places);
        let band = g.add(row, places);
        let in_block = &height * &dim(n);
        let band = g.reshape(band, &[dim(1), dim(1), in_block.clone()]);
        let band = g.expand(band, &[b, dim(heads), in_block]);
        Self { count, height, bias, band }
    }
}

/// `f32[1, n, d_k]` → `f32[d_k, n]`.
fn transposed(rel: &Param) -> Tensor {
    let (n, d_k) = (rel.dims[1], rel.dims[2]);
    let values = || {
        let rows = rel.elements();
        (0..d_k).flat_map(|d| rows[d..].iter().step_by(d_k)).copied().collect()
    };
    Param::derived(&[d_k, n], [rel], values).tensor()
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

    /// `x: f32[b, 1, t, h]`, `x_mask: f32[b, 1, t, 1]` → `f32[b, 1, t, h]`.
    fn emit(&self, g: &mut GraphBuilder, x: ValueId, x_mask: ValueId) -> ValueId {
        let x = g.mul(x, x_mask);
        if let (true, true, Some(pairs)) =
            (self.conv_1.fits_pairs(), self.conv_2.fits_pairs(), g.dim(x, 2).exact_div(2))
        {
            let mask = Pairs::of(g, x_mask, &pairs);
            let x = Pairs::of(g, x, &pairs);
            let x = g.scope("conv_1", |g| self.conv_1.emit_pairs(g, x)).rectified(g, mask);
            return g.scope("conv_2", |g| self.conv_2.emit_pairs(g, x)).joined(g);
        }
        let x = g.scope("conv_1", |g| self.conv_1.emit_channels_last(g, x));
        let x = g.relu(x);
        let x = g.mul(x, x_mask);
        g.scope("conv_2", |g| self.conv_2.emit_channels_last(g, x))
    }

    fn read_back(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<()> {
        for name in ["conv_1", "conv_2"] {
            let path = format!("{path}/{name}");
            match r.has(&format!("/{path}/Conv")) {
                true => Conv1d::read_back(r, &path)?,
                false => Conv1d::read_back_pairs(r, &path)?,
            }
        }
        Ok(())
    }
}

/// Upstream's `Encoder`: attention and feed-forward layers, each followed by a residual and a norm.
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

    /// `x: f32[b, 1, t, h]`, `x_mask: f32[b, 1, t, 1]` → `f32[b, 1, t, h]`, not masked.
    ///
    /// Inside, the text is extended by masked ids to fill its [`Blocks`].
    pub(crate) fn emit(&self, g: &mut GraphBuilder, x: ValueId, x_mask: ValueId) -> ValueId {
        let t = g.dim(x, 2);
        let (count, height) = Blocks::divide(g, &t);
        let mut to_fill = vec![dim(0); 8];
        to_fill[6] = &(&count * &height) - &t;
        let mut x = g.pad_dims(x, &to_fill, 0.0);
        let x_mask = g.pad_dims(x_mask, &to_fill, 0.0);
        let blocks = Blocks::new(g, x_mask, (count, height), &self.attn_layers[0]);
        for i in 0..self.attn_layers.len() {
            let y = g.scope(&format!("attn_layers.{i}"), |g| self.attn_layers[i].emit(g, x, &blocks));
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
        g.slice(x, 2, &dim(0), &t)
    }

    /// Reads back layers of `hidden` channels.
    pub(crate) fn read_back(r: &mut ReadBack<'_>, path: &str, hidden: usize) -> read_back::Result<()> {
        for layer in 0.. {
            if !r.has(&format!("/{path}/attn_layers.{layer}/conv_qkv/MatMul")) {
                break;
            }
            MultiHeadAttention::read_back(r, &format!("{path}/attn_layers.{layer}"), hidden)?;
            FFN::read_back(r, &format!("{path}/ffn_layers.{layer}"))?;
            LayerNorm::read_back(r, "enc_p", &format!("{path}/norm_layers_1.{layer}"))?;
            LayerNorm::read_back(r, "enc_p", &format!("{path}/norm_layers_2.{layer}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vitstream_onnx::DType;

    use super::*;
    use crate::support::{Array, Net, Random, assert_close};

    const HIDDEN: usize = 12;
    const EPSILON: f32 = 1e-5;

    fn param(dims: &[usize], scale: f32, random: &mut Random) -> Param {
        Param::new(dims, (0..dims.iter().product()).map(|_| random.normal() * scale).collect())
    }

    fn conv(c_in: usize, c_out: usize, kernel: usize, random: &mut Random) -> Conv1d {
        let weight = param(&[c_out, c_in, kernel], 0.3, random);
        Conv1d { weight, bias: Some(param(&[c_out], 0.3, random)), dilation: 1, groups: 1 }
    }

    fn norm(random: &mut Random) -> LayerNorm {
        let (gamma, beta) = (param(&[HIDDEN], 1.0, random), param(&[HIDDEN], 0.3, random));
        LayerNorm { gamma, beta, epsilon: EPSILON }
    }

    /// An encoder of arbitrary sizes: `(layers, heads, window, kernel)`.
    fn encoder((layers, heads, window, kernel): (usize, usize, usize, usize), seed: u64) -> Encoder {
        let random = &mut Random(seed);
        let rel = [1, 2 * window + 1, HIDDEN / heads];
        let attention = |random: &mut Random| MultiHeadAttention {
            conv_q: conv(HIDDEN, HIDDEN, 1, random),
            conv_k: conv(HIDDEN, HIDDEN, 1, random),
            conv_v: conv(HIDDEN, HIDDEN, 1, random),
            conv_o: conv(HIDDEN, HIDDEN, 1, random),
            emb_rel_k: param(&rel, 1.0, random),
            emb_rel_v: param(&rel, 1.0, random),
            n_heads: heads,
        };
        let ffn = |random: &mut Random| FFN {
            conv_1: conv(HIDDEN, 20, kernel, random),
            conv_2: conv(20, HIDDEN, kernel, random),
        };
        Encoder {
            attn_layers: (0..layers).map(|_| attention(random)).collect(),
            norm_layers_1: (0..layers).map(|_| norm(random)).collect(),
            ffn_layers: (0..layers).map(|_| ffn(random)).collect(),
            norm_layers_2: (0..layers).map(|_| norm(random)).collect(),
        }
    }

    type Rows = Vec<Vec<f64>>;

    /// Upstream's convolution with `_same_padding`: for an even kernel the longer side comes last.
    fn convolve(conv: &Conv1d, x: &Rows) -> Rows {
        let (c_in, kernel) = (conv.c_in(), conv.kernel());
        let value = |t: usize, o: usize| {
            let mut sum = f64::from(conv.bias.as_ref().unwrap().elements()[o]);
            for tap in 0..kernel {
                let Some(row) = (t + tap).checked_sub((kernel - 1) / 2).and_then(|at| x.get(at)) else {
                    continue;
                };
                let weights =
                    (0..c_in).map(|i| f64::from(conv.weight.elements()[(o * c_in + i) * kernel + tap]));
                sum += row.iter().zip(weights).map(|(x, w)| x * w).sum::<f64>();
            }
            sum
        };
        (0..x.len()).map(|t| (0..conv.c_out()).map(|o| value(t, o)).collect()).collect()
    }

    /// Shaw et al.'s equations 3 and 4, with a window.
    fn attend(layer: &MultiHeadAttention, x: &Rows) -> Rows {
        let [q, k, v] = [&layer.conv_q, &layer.conv_k, &layer.conv_v].map(|conv| convolve(conv, x));
        let (t, d_k, window) = (x.len(), HIDDEN / layer.n_heads, layer.emb_rel_k.dims[1] / 2);
        let relative = |rel: &Param, i: usize, j: usize, d: usize| {
            let at = (j + window).checked_sub(i).filter(|&at| at <= 2 * window);
            at.map_or(0.0, |at| f64::from(rel.elements()[at * d_k + d]))
        };
        let mut output = vec![vec![0.0; HIDDEN]; t];
        for head in 0..layer.n_heads {
            for i in 0..t {
                let score = |j: usize| {
                    let product = |d: usize| {
                        let key = k[j][head * d_k + d] + relative(&layer.emb_rel_k, i, j, d);
                        q[i][head * d_k + d] * key
                    };
                    (0..d_k).map(product).sum::<f64>() / (d_k as f64).sqrt()
                };
                let scores: Vec<f64> = (0..t).map(score).collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let shares: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
                let total: f64 = shares.iter().sum();
                for d in 0..d_k {
                    let value = |j: usize| v[j][head * d_k + d] + relative(&layer.emb_rel_v, i, j, d);
                    output[i][head * d_k + d] = (0..t).map(|j| shares[j] / total * value(j)).sum();
                }
            }
        }
        convolve(&layer.conv_o, &output)
    }

    fn normalise(norm: &LayerNorm, x: &Rows, y: &Rows) -> Rows {
        let row = |(x, y): (&Vec<f64>, &Vec<f64>)| {
            let sum: Vec<f64> = x.iter().zip(y).map(|(x, y)| x + y).collect();
            let mean = sum.iter().sum::<f64>() / sum.len() as f64;
            let variance = sum.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / sum.len() as f64;
            let scale = 1.0 / (variance + f64::from(EPSILON)).sqrt();
            let (gamma, beta) = (norm.gamma.elements(), norm.beta.elements());
            sum.iter()
                .zip(gamma.iter().zip(beta.iter()))
                .map(|(v, (&g, &b))| (v - mean) * scale * f64::from(g) + f64::from(b))
                .collect()
        };
        x.iter().zip(y).map(row).collect()
    }

    fn reference(encoder: &Encoder, mut x: Rows) -> Rows {
        for i in 0..encoder.attn_layers.len() {
            let y = attend(&encoder.attn_layers[i], &x);
            x = normalise(&encoder.norm_layers_1[i], &x, &y);
            let mut y = convolve(&encoder.ffn_layers[i].conv_1, &x);
            y.iter_mut().flatten().for_each(|v| *v = v.max(0.0));
            let y = convolve(&encoder.ffn_layers[i].conv_2, &y);
            x = normalise(&encoder.norm_layers_2[i], &x, &y);
        }
        x
    }

    /// Heads, windows and kernels of any size, texts shorter and longer than the window, in batches.
    #[test]
    fn layers_are_their_definition() {
        let sizes = [
            (1, 1, 4, 3),
            (2, 2, 4, 3),
            (1, 3, 1, 1),
            (1, 4, 10, 5),
            (2, 2, 0, 3),
            (1, 2, 4, 4),
            (1, 6, 2, 2),
        ];
        for (seed, size) in sizes.into_iter().enumerate() {
            let encoder = encoder(size, seed as u64 + 1);
            for opset in [15, 18] {
                let mut builder = GraphBuilder::new("encoder", opset);
                let g = &mut builder;
                let (b, t) = (Dim::symbol("b"), Dim::symbol("t"));
                let x = g.input("x", DType::F32, vec![b.clone(), t.clone(), dim(HIDDEN)]);
                let x_mask = g.input("x_mask", DType::F32, vec![b, t, dim(1)]);
                let (x, x_mask) = (g.unsqueeze(x, &[1]), g.unsqueeze(x_mask, &[1]));
                let y = encoder.emit(g, x, x_mask);
                let y = g.squeeze(y, &[1]);
                g.output("y", y);
                let net = Net::new(builder.finish().unwrap());
                for lengths in [&[1][..], &[2], &[5], &[9], &[30], &[256], &[7, 1, 12], &[3, 3], &[540, 259]]
                {
                    let (b, t) = (lengths.len(), *lengths.iter().max().unwrap());
                    let x = Array::noise(&[b, t, HIDDEN], seed as u64 + 40);
                    let mask =
                        lengths.iter().flat_map(|&n| (0..t).map(move |i| if i < n { 1.0 } else { 0.0 }));
                    let mask = Array::f32(&[b, t, 1], mask.collect());
                    let found = net.run([("x", &x), ("x_mask", &mask)]).remove(0);
                    for (item, &length) in lengths.iter().enumerate() {
                        let own = x.item(item).slice(1, 0..length);
                        let rows = own.floats().chunks_exact(HIDDEN);
                        let rows = rows.map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect();
                        let expected = reference(&encoder, rows).into_iter().flatten().map(|v| v as f32);
                        let expected = Array::f32(&[1, length, HIDDEN], expected.collect());
                        let found = found.item(item).slice(1, 0..length);
                        assert_close(&found, &expected, 1e-4, &format!("{size:?}, {lengths:?}, item {item}"));
                    }
                }
            }
        }
    }
}
