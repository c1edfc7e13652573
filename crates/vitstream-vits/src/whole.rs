//! Whole utterances: every convolution pads its own zeros, and masks keep the items of a batch apart.

use std::collections::BTreeMap;

use vitstream_onnx::{ConvAxis, Dim, GraphBuilder, ValueId};

use crate::modules::{Conv1d, dim};
use crate::rows::Rows;
use crate::timeline::{Signal, Timeline, copy, pointwise};
use crate::upsample::ConvTranspose1d;
use crate::weights::Param;

/// Most samples that the last convolution computes at once: ONNX Runtime's block of channels.
const BLOCK: usize = 16;

/// Realises the decoder on whole utterances.
pub(crate) struct Whole {
    /// `f32[b, c, 1, t]`: the mask repeated over as many channels, by their number.
    masks: BTreeMap<usize, ValueId>,
    /// LeakyReLU of signals that several convolutions read.
    active: BTreeMap<ValueId, ValueId>,
    /// The way back from rows to the line.
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

    /// The product with 1 gives ONNX Runtime a convolution to fuse the activation into, which it cannot compute in its
    /// blocked layout by itself.
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
            // Only a network of which no part has that many channels, which the caller has ruled out.
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

    /// Spelt out to full length, the row stays in the blocked layout and is fused.
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
        // The length of a row is known to be a multiple of no more.
        let multiple = self.rows.as_ref().map_or(x.rate, |rows| x.rate / rows.rate);
        let block = strided(g, multiple, conv);
        let pad = conv.padding();
        let axis = ConvAxis { stride: block.samples, dilation: 1, pad_begin: pad, pad_end: pad };
        let length = g.dim(x.value, 3);
        x.with(block.emit(g, x.value, axis, &length))
    }
}

/// A convolution to one channel that gives several neighbouring samples at once.
pub(crate) struct Strided {
    weight: ValueId,
    /// Samples of one step.
    pub(crate) samples: usize,
}

/// A convolution to one channel leaves most of a vector register idle. So `n` neighbouring samples become `n` channels
/// of a convolution with stride `n` (channel r is the kernel moved by r), laid in a row afterwards. `n` divides `multiple`,
/// as the length does.
pub(crate) fn strided(g: &mut GraphBuilder, multiple: usize, conv: &Conv1d) -> Strided {
    let n = (1..=BLOCK).rev().find(|n| multiple.is_multiple_of(*n)).unwrap_or(1);
    let (c_in, kernel) = (conv.c_in(), conv.kernel());
    let width = kernel + n - 1;
    let mut weight = vec![0.0; n * c_in * width];
    for r in 0..n {
        for i in 0..c_in {
            let row = (r * c_in + i) * width + r;
            weight[row..row + kernel].copy_from_slice(&conv.weight.data[i * kernel..][..kernel]);
        }
    }
    let weight = g.initializer("weight", Param::new(&[n, c_in, 1, width], weight).tensor());
    Strided { weight, samples: n }
}

impl Strided {
    /// `x: f32[b, c_in, rows, t']`, `axis` with stride `samples` → the Tanh of the result, `f32[b, 1, rows, length]`.
    pub(crate) fn emit(&self, g: &mut GraphBuilder, x: ValueId, axis: ConvAxis, length: &Dim) -> ValueId {
        let n = self.samples;
        let y = g.conv_strided(x, self.weight, &[ConvAxis::default(), axis], &blocks(length, n));
        let y = g.tanh(y);
        let y = g.transpose(y, &[0, 2, 3, 1]);
        let (b, rows) = (g.dim(y, 0), g.dim(y, 1));
        let y = g.reshape(y, &[b.clone(), dim(1), rows.clone(), &blocks(length, n) * &dim(n)]);
        g.assume_shape(y, vec![b, dim(1), rows, length.clone()])
    }
}

/// How many blocks of `n` steps a length that is a multiple of n has.
fn blocks(length: &Dim, n: usize) -> Dim {
    length.exact_div(n as i64).unwrap_or_else(|| Dim::symbol(format!("blocks.{n}.of.{length}")))
}
