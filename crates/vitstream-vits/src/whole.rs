//! Whole utterances: every convolution pads with zeros, and masks keep the items of a batch apart.

use std::collections::BTreeMap;

use vitstream_onnx::{ConvAxis, GraphBuilder, ValueId};

use crate::modules::Conv1d;
use crate::rows::Rows;
use crate::strided::Strided;
use crate::timeline::{Signal, Timeline, copy, pointwise};
use crate::upsample::ConvTranspose1d;

/// Realises the decoder for whole utterances.
pub(crate) struct Whole {
    /// `f32[b, c, 1, t]`: the mask repeated over all channels, by their number.
    masks: BTreeMap<usize, ValueId>,
    /// LeakyReLU of signals that several convolutions read.
    active: BTreeMap<ValueId, ValueId>,
    /// The mapping from rows back to a single line.
    rows: Option<Rows>,
}

impl Whole {
    pub(crate) fn new(masks: BTreeMap<usize, ValueId>) -> Self {
        Self { masks, active: BTreeMap::new(), rows: None }
    }
}

impl Timeline for Whole {
    fn conv(&mut self, g: &mut GraphBuilder, x: Signal, conv: &Conv1d) -> Signal {
        x.with(conv.emit_2d(g, x.value, ConvAxis::same(conv.kernel(), conv.dilation)))
    }

    /// The product with 1 gives ONNX Runtime a convolution into which it can fuse the activation, because it
    /// cannot compute one alone in its blocked layout.
    fn conv_of_leaky(&mut self, g: &mut GraphBuilder, x: Signal, slope: f32, conv: &Conv1d) -> Signal {
        let active = match self.active.get(&x.value) {
            Some(&active) => active,
            None => {
                let copy = copy(g, x);
                let active = g.leaky_relu(copy.value, slope);
                self.active.insert(x.value, active);
                active
            }
        };
        self.conv(g, x.with(active), conv)
    }

    fn upsample(&mut self, g: &mut GraphBuilder, x: Signal, up: &ConvTranspose1d) -> Signal {
        let groups = up.phase_groups();
        let phases: Vec<ValueId> = groups
            .iter()
            .enumerate()
            .map(|(i, group)| g.scope(&format!("phases.{i}"), |g| group.emit_whole(g, x.value)))
            .collect();
        let phases = if let [only] = phases[..] { only } else { g.concat(&phases, 1) };
        let value = up.interleave(g, phases);
        copy(g, Signal { value, lag: 0, rate: x.rate * up.stride })
    }

    fn align(&mut self, _: &mut GraphBuilder, signals: &[Signal]) -> Vec<Signal> {
        signals.to_vec()
    }

    fn mask(&mut self, g: &mut GraphBuilder, x: Signal) -> Signal {
        let channels = g.const_dim(x.value, 1);
        match self.masks.get(&channels) {
            Some(&mask) => x.with(g.mul(x.value, mask)),
            // Happens only for a network in which no part has that many channels, which the caller has ruled
            // out.
            None => x,
        }
    }

    fn carry(
        &mut self,
        g: &mut GraphBuilder,
        (x, x1): (Signal, Signal),
        y: Signal,
        [first, second]: [(&str, &Conv1d); 2],
    ) -> (Signal, Signal) {
        let moved = g.scope(second.0, |g| pointwise(g, y, second.1));
        let x1 = x1.with(g.add(moved.value, x1.value));
        let moved = g.scope(first.0, |g| pointwise(g, y, first.1));
        let sum = x.with(g.add(moved.value, x.value));
        (self.mask(g, sum), x1)
    }

    /// Expanded to full length, the row stays in the blocked layout and is fused.
    fn add_row(&mut self, g: &mut GraphBuilder, x: Signal, row: ValueId) -> Signal {
        let shape = g.shape(x.value).to_vec();
        let full = g.expand(row, &shape);
        x.with(g.add(x.value, full))
    }

    fn fold(&mut self, g: &mut GraphBuilder, x: Signal, reach: usize) -> Signal {
        let (rows, folded) = Rows::fold(g, x, reach);
        self.rows = Some(rows);
        folded
    }

    fn unfold(&mut self, g: &mut GraphBuilder, samples: Signal) -> Signal {
        match self.rows.take() {
            Some(rows) => rows.unfold(g, samples),
            None => samples,
        }
    }

    fn conv_post(&mut self, g: &mut GraphBuilder, x: Signal, conv: &Conv1d) -> Signal {
        // The length of a row is known to be a multiple of this number only.
        let multiple = self.rows.as_ref().map_or(x.rate, |rows| x.rate / rows.rate);
        let conv = Strided::new(g, multiple, conv);
        let length = g.dim(x.value, 3);
        x.with(conv.emit(g, x.value, conv.padding, &length))
    }
}
