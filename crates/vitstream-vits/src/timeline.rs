//! The treatment of time by the decoder. Its definition ([`crate::flow`], [`crate::generator`]) is written
//! once over [`Signal`]s; a [`Timeline`] realises it for whole utterances ([`crate::whole`]) or chunk by
//! chunk with carried state ([`crate::stateful`]).
//!
//! Values are `f32[b, c, 1, t]`, or several rows that overlap. The height axis lets ONNX Runtime keep its
//! blocked convolution layout, which only convolutions, additions, products of equal shapes, Tanh, Sigmoid
//! and concatenations of channels preserve. The forms chosen here and in the blocks are limited to these.

use vitstream_onnx::{ConvAxis, GraphBuilder, Tensor, ValueId};

use crate::modules::Conv1d;
use crate::upsample::ConvTranspose1d;

/// A value along the time axis.
#[derive(Clone, Copy)]
pub(crate) struct Signal {
    /// `f32[b, c, 1, t]`
    pub(crate) value: ValueId,
    /// Steps (at its own rate) by which the value lags behind the input. 0 for whole utterances.
    pub(crate) lag: usize,
    /// Steps of the value per frame.
    pub(crate) rate: usize,
}

impl Signal {
    /// The result of a pointwise operation, with the same time axis.
    pub(crate) fn with(self, value: ValueId) -> Self {
        Self { value, ..self }
    }
}

/// A realisation of the operations that mix different times.
pub(crate) trait Timeline {
    /// A convolution that keeps the length: zeros before the utterance's first step and after its last.
    fn conv(&mut self, g: &mut GraphBuilder, x: Signal, conv: &Conv1d) -> Signal;

    /// The convolution of LeakyReLU(x), where x itself is also used by a residual around it.
    fn conv_of_leaky(&mut self, g: &mut GraphBuilder, x: Signal, slope: f32, conv: &Conv1d) -> Signal;

    /// Announces convolutions of `x` that reach at most `left` steps back, and whose results have a lag of
    /// `lag` steps more than x, which is at least their forward reach. To be called before the first of them.
    fn window(&mut self, _x: Signal, _left: usize, _lag: usize) {}

    /// A transposed convolution that multiplies the length by its stride.
    fn upsample(&mut self, g: &mut GraphBuilder, x: Signal, up: &ConvTranspose1d) -> Signal;

    /// Brings signals of one rate to the same lag.
    fn align(&mut self, g: &mut GraphBuilder, signals: &[Signal]) -> Vec<Signal>;

    /// Announces that the results of convolutions will be added to `x`.
    fn addend(&mut self, _: &mut GraphBuilder, x: Signal) -> Signal {
        x
    }

    /// Sets everything after each item's last frame to zero. Required before every convolution that mixes
    /// frames.
    fn mask(&mut self, g: &mut GraphBuilder, x: Signal) -> Signal;

    /// Announces signals that [`carry`](Self::carry) will carry together: if their lags differ, the earlier
    /// one is delayed.
    fn together(&mut self, _: &mut GraphBuilder, pair: (Signal, Signal)) -> (Signal, Signal) {
        pair
    }

    /// `(x, x1)` plus the two pointwise convolutions of `y`, with their names, in the same order; the first
    /// sum is masked.
    fn carry(
        &mut self,
        g: &mut GraphBuilder,
        pair: (Signal, Signal),
        y: Signal,
        convs: [(&str, &Conv1d); 2],
    ) -> (Signal, Signal);

    /// Adds `row: f32[b, c, 1, 1]`, which does not depend on time, to every step.
    fn add_row(&mut self, g: &mut GraphBuilder, x: Signal, row: ValueId) -> Signal {
        x.with(g.add(x.value, row))
    }

    /// Announces that the operations up to [`unfold`](Self::unfold) mix at most `reach` steps of `x` on each
    /// side, so a whole utterance may be processed in several rows.
    fn fold(&mut self, _: &mut GraphBuilder, x: Signal, _reach: usize) -> Signal {
        x
    }

    /// Reverses [`fold`](Self::fold): samples `f32[b, 1, rows, t']` → `f32[b, 1, 1, t]`.
    fn unfold(&mut self, _: &mut GraphBuilder, samples: Signal) -> Signal {
        samples
    }

    /// The last convolution, to one channel, and the Tanh after it.
    fn conv_post(&mut self, g: &mut GraphBuilder, x: Signal, conv: &Conv1d) -> Signal;
}

/// The sum of signals whose lags may differ.
pub(crate) fn add(g: &mut GraphBuilder, time: &mut dyn Timeline, a: Signal, b: Signal) -> Signal {
    let aligned = time.align(g, &[a, b]);
    aligned[0].with(g.add(aligned[0].value, aligned[1].value))
}

/// A pointwise convolution, which does not mix times.
pub(crate) fn pointwise(g: &mut GraphBuilder, x: Signal, conv: &Conv1d) -> Signal {
    x.with(conv.emit_2d(g, x.value, ConvAxis::default()))
}

/// The same signal as the output of a convolution, where ONNX Runtime's blocked layout begins.
pub(crate) fn copy(g: &mut GraphBuilder, x: Signal) -> Signal {
    let channels = g.const_dim(x.value, 1);
    let ones = g.constant(Tensor::f32(&[channels, 1, 1, 1], &vec![1.0; channels]));
    let axes = [ConvAxis::default(), ConvAxis::default()];
    x.with(g.conv(x.value, ones, None, &axes, channels))
}
