//! Upstream's `TextEncoder` (`enc_p`): from phoneme ids to the prior's statistics.

use vitstream_onnx::{DType, GraphBuilder, ValueId};

use crate::attentions::Encoder;
use crate::elements::unscaled;
use crate::hparams::HParams;
use crate::modules::{Conv1d, ConvShape, dim};
use crate::read_back::{self, ReadBack, key};
use crate::weights::{Param, Scope, WeightsError};

/// Upstream's `TextEncoder`.
pub struct TextEncoder {
    /// `f32[num_symbols, hidden]`
    pub emb: Param,
    /// The attention layers.
    pub encoder: Encoder,
    /// hidden → 2 * inter: means and log deviations.
    pub proj: Conv1d,
}

/// The output of the text encoder.
pub(crate) struct Encoded {
    /// `f32[b, 1, t, hidden]`, not masked.
    pub(crate) x: ValueId,
    /// Means and log deviations concatenated: `f32[b, 1, t, 2 * inter]`, not masked.
    pub(crate) stats: ValueId,
    /// `f32[b, 1, t, 1]`: 1 for the ids of each item, 0 after them.
    pub(crate) x_mask: ValueId,
}

impl TextEncoder {
    pub(crate) fn load(w: &Scope<'_>, hp: &HParams) -> Result<Self, WeightsError> {
        Ok(Self {
            emb: w.get(&[hp.num_symbols, hp.hidden_channels], "emb.weight")?,
            encoder: Encoder::load(&w.pp("encoder"), hp)?,
            proj: Conv1d::load(
                &w.pp("proj"),
                ConvShape::pointwise(hp.hidden_channels, 2 * hp.inter_channels),
            )?,
        })
    }

    /// `input: i64[b, t]` phoneme ids, `input_lengths: i64[b]`.
    pub(crate) fn emit(&self, g: &mut GraphBuilder, input: ValueId, input_lengths: ValueId) -> Encoded {
        let scale = (self.emb.dims[1] as f32).sqrt();
        let table = g.scope("emb", |g| g.initializer("weight", self.emb.scaled(scale).tensor()));
        let x = g.gather(table, input, 0);
        let x = g.unsqueeze(x, &[1]);
        let t = g.dim(input, 1);
        let length = g.dim_value(&t);
        let places = g.range(length, &t);
        let x_mask = sequence_mask(g, places, input_lengths);
        let x_mask = g.unsqueeze(x_mask, &[1]);
        let x = g.scope("encoder", |g| self.encoder.emit(g, x, x_mask));
        let stats = g.scope("proj", |g| self.proj.emit_linear(g, x));
        Encoded { x, stats, x_mask }
    }

    pub(crate) fn read_back(r: &mut ReadBack<'_>, path: &str) -> read_back::Result<()> {
        let emb = format!("{}.emb.weight", key(path));
        let table = r.operand(&format!("/{path}/Gather"), 0)?;
        let [symbols, hidden] = r.expect(&emb, &table)?;
        r.put(emb, &[symbols, hidden], unscaled(&table.data, (hidden as f32).sqrt()))?;
        Encoder::read_back(r, &format!("{path}/encoder"), hidden)?;
        Conv1d::read_back_linear(r, &format!("{path}/proj"))
    }
}

/// Upstream's `commons.sequence_mask` as a column: `places: i64[t]`, `lengths: i64[b]` → `f32[b, t, 1]`.
pub(crate) fn sequence_mask(g: &mut GraphBuilder, places: ValueId, lengths: ValueId) -> ValueId {
    let (b, t) = (g.dim(lengths, 0), g.dim(places, 0));
    let places = g.reshape(places, &[dim(1), t, dim(1)]);
    let lengths = g.reshape(lengths, &[b, dim(1), dim(1)]);
    let inside = g.less(places, lengths);
    g.cast(inside, DType::F32)
}

#[cfg(test)]
mod tests {
    use vitstream_onnx::Dim;

    use super::*;
    use crate::support::{self, Array, CASES, Net, assert_close};

    #[test]
    fn states_and_statistics_equal_pytorch() {
        for fixture in support::all() {
            let model = fixture.model();
            let mut builder = GraphBuilder::new("enc_p", 15);
            let g = &mut builder;
            let (b, t) = (Dim::symbol("b"), Dim::symbol("t"));
            let input = g.input("input", DType::I64, vec![b.clone(), t]);
            let lengths = g.input("input_lengths", DType::I64, vec![b]);
            let encoded = g.scope("enc_p", |g| model.enc_p.emit(g, input, lengths));
            let c = model.hparams.inter_channels;
            let stats = g.split(encoded.stats, 3, &[c, c]);
            // Upstream masks all of them here; this graph masks only where it matters.
            for (name, value) in [("enc_p.x", encoded.x), ("enc_p.m_p", stats[0]), ("enc_p.logs_p", stats[1])]
            {
                let masked = g.mul(value, encoded.x_mask);
                let masked = g.squeeze(masked, &[1]);
                g.output(name, masked);
            }
            let x_mask = g.squeeze(encoded.x_mask, &[1]);
            g.output("x_mask", x_mask);
            let names = ["enc_p.x", "enc_p.m_p", "enc_p.logs_p", "x_mask"];
            let net = Net::new(builder.finish().unwrap());

            for case_name in CASES {
                let Some(case) = fixture.case(case_name) else { continue };
                let fed = ["input", "input_lengths"].map(|name| (name, case.get(name)));
                let outputs = net.run(fed);
                for (name, found) in names.into_iter().zip(&outputs) {
                    let what = format!("{} {case_name}: {name}", fixture.name);
                    assert_close(&found.swapped(), case.get(name), 1e-5, &what);
                }
            }
        }
    }

    #[test]
    fn masks_end_with_their_item() {
        let mut builder = GraphBuilder::new("mask", 15);
        let g = &mut builder;
        let places = g.input("places", DType::I64, vec![Dim::symbol("t")]);
        let lengths = g.input("lengths", DType::I64, vec![Dim::symbol("b")]);
        let mask = sequence_mask(g, places, lengths);
        g.output("mask", mask);
        let net = Net::new(builder.finish().unwrap());
        let (places, lengths) = (Array::i64(&[3], &[0, 1, 2]), Array::i64(&[3], &[1, 3, 0]));
        let found = net.run([("places", &places), ("lengths", &lengths)]);
        assert_eq!(found[0].floats(), [1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    }
}
