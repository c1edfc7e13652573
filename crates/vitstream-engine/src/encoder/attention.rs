//! `attentions.Encoder`: relative attention and feed-forward layers, channels-last, one item, no masks.

use bytemuck::Zeroable;

use super::layers::{Linear, Norm, Sequence};
use crate::conv::{Fold, Panels, Target};
use crate::error::{Error, shape};
use crate::kernels::{Kernels, SoftmaxTask};
use crate::line::{LINE, Line, floats_mut, padded};
use crate::spec::{ConvSpec, EncoderLayerSpec, tensor};

/// Number of rows of the score matrix that exist at a time, so that memory stays linear in the number of ids.
const QUERIES: usize = 56;

/// One head of a layer.
#[derive(Debug)]
struct Head {
    /// Includes the factor `1 / sqrt(d_k)`.
    q: Linear,
    k: Linear,
    v: Linear,
    /// This head's columns of `conv_o`.
    o: Linear,
    rel_k: Panels,
    rel_v: Panels,
}

/// Buffers that the layers use in turn: allocating them every time would cost a long utterance a twentieth of
/// its time.
#[derive(Debug, Default)]
pub(super) struct Room {
    heads: Vec<HeadRoom>,
    y: Sequence,
    hidden: Sequence,
}

/// Buffers of a head.
#[derive(Debug, Default)]
struct HeadRoom {
    q: Sequence,
    k: Sequence,
    v: Sequence,
    keys: Panels,
    values: Panels,
    /// `[queries][ids]`.
    scores: Vec<Line>,
    /// `[queries][distances]`.
    band: Vec<Line>,
    attended: Sequence,
}

#[derive(Debug)]
pub(super) struct EncoderLayer {
    heads: Vec<Head>,
    head_channels: usize,
    window: usize,
    norm_1: Norm,
    conv_1: Linear,
    conv_2: Linear,
    norm_2: Norm,
}

impl EncoderLayer {
    pub(super) fn new(
        target: Target<'_>,
        spec: &EncoderLayerSpec<'_>,
        index: usize,
        hidden: usize,
        (n_heads, window): (usize, usize),
    ) -> Result<Self, Error> {
        let attention = |part: &str| format!("enc_p.encoder.attn_layers.{index}.{part}");
        let square = |name, conv| pointwise(&attention(name), conv, hidden, hidden);
        let (conv_q, conv_k) = (square("conv_q", &spec.conv_q)?, square("conv_k", &spec.conv_k)?);
        let (conv_v, conv_o) = (square("conv_v", &spec.conv_v)?, square("conv_o", &spec.conv_o)?);
        let head_channels = hidden / n_heads;
        let distances = 2 * window + 1;
        let one = distances * head_channels;
        let heads_of = if spec.emb_rel_k.len() == one { 1 } else { n_heads };
        tensor(&attention("emb_rel_k"), &spec.emb_rel_k, &[heads_of, distances, head_channels])?;
        tensor(&attention("emb_rel_v"), &spec.emb_rel_v, &[heads_of, distances, head_channels])?;
        let ffn = |part: &str| format!("enc_p.encoder.ffn_layers.{index}.{part}");
        let filter = spec.conv_1.c_out;
        if spec.conv_1.groups != 1 || spec.conv_2.groups != 1 {
            return Err(shape(&ffn("conv_1"), "1 group", "more"));
        }

        let scale = 1.0 / (head_channels as f32).sqrt();
        let scaled = Fold { weight: scale, bias: scale, ..Fold::default() };
        let heads = (0..n_heads)
            .map(|h| {
                let channels = h * head_channels..(h + 1) * head_channels;
                let part =
                    |conv: &ConvSpec<'_>, fold| Linear::part(target, conv, 0..hidden, channels.clone(), fold);
                let first = if heads_of == 1 { 0 } else { h * one };
                let (rel_k, rel_v) = (&spec.emb_rel_k[first..], &spec.emb_rel_v[first..]);
                // The bias is added by the first head.
                let o = Fold { bias: if h == 0 { 1.0 } else { 0.0 }, ..Fold::default() };
                Head {
                    q: part(&conv_q, scaled),
                    k: part(&conv_k, Fold::default()),
                    v: part(&conv_v, Fold::default()),
                    o: Linear::part(target, &conv_o, channels.clone(), 0..hidden, o),
                    rel_k: Panels::of_values(
                        target.kernels,
                        (distances, head_channels),
                        rel_k,
                        (head_channels, 1),
                    ),
                    rel_v: Panels::of_values(
                        target.kernels,
                        (head_channels, distances),
                        rel_v,
                        (1, head_channels),
                    ),
                }
            })
            .collect();
        let norm = |which: usize| format!("enc_p.encoder.norm_layers_{which}.{index}");
        Ok(Self {
            heads,
            head_channels,
            window,
            norm_1: Norm::new(&norm(1), &spec.norm_1, hidden)?,
            conv_1: Linear::new(target, &spec.conv_1.checked(&ffn("conv_1"), hidden, filter)?),
            conv_2: Linear::new(target, &spec.conv_2.checked(&ffn("conv_2"), filter, hidden)?),
            norm_2: Norm::new(&norm(2), &spec.norm_2, hidden)?,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let heads = self.heads.iter().flat_map(|h| [&h.q, &h.k, &h.v, &h.o]);
        heads.chain([&self.conv_1, &self.conv_2]).map(Linear::bytes).sum()
    }

    pub(super) fn run(&self, kernels: Kernels, x: &mut Sequence, room: &mut Room) {
        let mut y = std::mem::take(&mut room.y);
        room.heads.resize_with(self.heads.len(), HeadRoom::default);
        kernels.for_each(&self.heads, &mut room.heads, &|kernels, head, room| {
            self.attend(kernels, head, x, room);
        });
        for (h, (head, room)) in self.heads.iter().zip(&room.heads).enumerate() {
            let residual = (h == 0).then_some(&*x);
            head.o.add_into(kernels, &room.attended, residual, h > 0, &mut y);
        }
        self.norm_1.run(kernels, &mut y, false);
        self.conv_1.run_into(kernels, &y, true, None, &mut room.hidden);
        self.conv_2.add_into(kernels, &room.hidden, Some(&y), false, x);
        self.norm_2.run(kernels, x, false);
        room.y = y;
    }

    /// Computes one head's contribution to `x`, into `attended`.
    fn attend(&self, kernels: Kernels, head: &Head, x: &Sequence, room: &mut HeadRoom) {
        let HeadRoom { q, k, v, keys, values, scores, band, attended } = room;
        for (linear, out) in [(&head.q, &mut *q), (&head.k, k), (&head.v, v)] {
            linear.run_into(kernels, x, false, None, out);
        }
        let (t, stride) = (x.len(), q.stride());
        keys.set_rows(kernels, (t, self.head_channels), k.rows(), stride);
        values.set_columns(kernels, (self.head_channels, t), v.rows(), stride);
        let distances = 2 * self.window + 1;
        let (width, near) = (padded(t), padded(distances));
        scores.resize(QUERIES.min(t) * width / LINE, Line::zeroed());
        band.resize(QUERIES.min(t) * near / LINE, Line::zeroed());
        attended.fit(self.head_channels, t, 0);
        let mut scales = [0.0; QUERIES];
        for first in (0..t).step_by(QUERIES) {
            let n = QUERIES.min(t - first);
            let queries = (&q.rows()[first * stride..], stride);
            let scores = &mut floats_mut(scores)[..n * width];
            let band = &mut floats_mut(band)[..n * near];
            let scales = &mut scales[..n];
            keys.multiply(kernels, queries, n, scores, false);
            head.rel_k.multiply(kernels, queries, n, band, false);
            for (i, (row, band)) in scores.chunks_exact_mut(width).zip(band.chunks_exact(near)).enumerate() {
                let i = first + i;
                for d in self.window.saturating_sub(i)..distances.min(t + self.window - i) {
                    row[i + d - self.window] += band[d];
                }
            }
            kernels.softmax(&mut SoftmaxTask { rows: scores, stride: width, len: t, scales });
            for (i, (row, band)) in scores.chunks_exact(width).zip(band.chunks_exact_mut(near)).enumerate() {
                let i = first + i;
                band.fill(0.0);
                for d in self.window.saturating_sub(i)..distances.min(t + self.window - i) {
                    band[d] = row[i + d - self.window];
                }
            }
            let out = &mut attended.rows_mut()[first * stride..][..n * stride];
            values.multiply(kernels, (scores, width), n, out, false);
            head.rel_v.multiply(kernels, (band, near), n, out, true);
            for (row, scale) in out.chunks_exact_mut(stride).zip(scales) {
                row.iter_mut().for_each(|v| *v *= *scale);
            }
        }
    }
}

/// Checks a convolution with one tap and one group; returns it with its weight at hand.
pub(super) fn pointwise<'a>(
    layer: &str,
    conv: &'a ConvSpec<'_>,
    c_in: usize,
    c_out: usize,
) -> Result<ConvSpec<'a>, Error> {
    if conv.kernel != 1 || conv.groups != 1 {
        return Err(shape(
            layer,
            "kernel 1, 1 group",
            format!("kernel {}, {} groups", conv.kernel, conv.groups),
        ));
    }
    conv.checked(layer, c_in, c_out)
}
