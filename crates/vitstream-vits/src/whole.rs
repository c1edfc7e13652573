//! Whole utterances: every convolution pads its own zeros, and masks keep the items of a batch apart.

use std::collections::BTreeMap;

use vitstream_onnx::{ConvAxis, GraphBuilder, ValueId};

use crate::modules::{Conv1d, dim};
use crate::timeline::{Signal, Timeline, copy};
use crate::upsample::ConvTranspose1d;
use crate::weights::Param;

/// Most samples that [`Whole::conv_post`] computes at once: ONNX Runtime's block of channels.
const BLOCK: usize = 16;

/// Realises the decoder on whole utterances.
pub(crate) struct Whole {
    /// `f32[b, c, 1, t]`: the mask repeated over as many channels, by their number.
    masks: BTreeMap<usize, ValueId>,
}

impl Whole {
    pub(crate) fn new(masks: BTreeMap<usize, ValueId>) -> Self {
        Self { masks }
    }
}

impl Timeline for Whole {
    fn conv(&mut self, g: &mut GraphBuilder, x: Signal, conv: &Conv1d) -> Signal {
        x.with(conv.emit_2d(g, x.value, ConvAxis::same(conv.kernel(), conv.dilation)))
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

    /// A convolution to one channel leaves most of a vector register idle. So `n` neighbouring samples become `n`
    /// channels of a convolution with stride `n` (channel r is the kernel moved by r), laid in a row afterwards.
    fn conv_post(&mut self, g: &mut GraphBuilder, x: Signal, conv: &Conv1d) -> Signal {
        let n = (1..=BLOCK).rev().find(|n| x.rate % n == 0).unwrap_or(1);
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
        let pad = conv.padding();
        let axis = ConvAxis { stride: n, dilation: 1, pad_begin: pad, pad_end: pad };
        let y = g.conv(x.value, weight, None, &[ConvAxis::default(), axis], 1);
        let y = g.tanh(y);
        let y = g.transpose(y, &[0, 2, 3, 1]);
        let (b, t) = (g.dim(y, 0), g.dim(x.value, 3));
        x.with(g.reshape(y, &[b, dim(1), dim(1), t]))
    }
}
