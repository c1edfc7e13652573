//! Splits a long signal into several rows, for runtimes with several threads.
//!
//! ONNX Runtime divides a blocked convolution among threads by groups of 64 output channels and by rows of
//! the image, but the generator's later stages have at most 64 channels. A long signal is therefore cut into
//! rows. Neighbouring rows overlap by the reach of the convolutions that follow, so each row has a part whose
//! results are exact: where a row ends within the signal, the convolutions see zeros instead of the signal,
//! but the affected results are cut off afterwards. The first row begins and the last one ends with the
//! signal, where zeros are correct.

use vitstream_onnx::{Dim, GraphBuilder, ValueId};

use crate::modules::dim;
use crate::timeline::Signal;

/// Minimum number of steps that a row adds, so that the overlap costs little.
const SHORTEST: i64 = 1024;
/// Limit on the rows; more threads than this are rare.
const MOST: i64 = 8;

/// The mapping from rows back to the signal.
pub(crate) struct Rows {
    /// For each step of the signal, its position among the steps of all rows: `i64[steps]`.
    places: ValueId,
    /// Length of the signal.
    steps: Dim,
    /// Length of all rows together.
    in_rows: Dim,
    /// Steps per frame.
    pub(crate) rate: usize,
}

impl Rows {
    /// `x: f32[b, c, 1, steps]` → `f32[b, c, rows, length]`. The operations on the rows must not reach
    /// further than `reach` steps on each side.
    pub(crate) fn fold(g: &mut GraphBuilder, x: Signal, reach: usize) -> (Self, Signal) {
        let [b, c, steps] = [0, 1, 3].map(|axis| g.dim(x.value, axis));
        let total = g.dim_value(&steps);
        let [one, most, shortest] = [1, MOST, SHORTEST].map(|n| g.ints(&[n]));
        let [reach, both] = [reach, 2 * reach].map(|n| g.ints(&[n as i64]));

        let rows = g.div(total, shortest);
        let rows = g.max(rows, one);
        let rows = g.min(rows, most);
        let stretch = g.add(total, rows);
        let stretch = g.sub(stretch, one);
        let stretch = g.div(stretch, rows);
        let length = g.add(stretch, both);
        let length = g.min(length, total);
        let (count, width) = (Dim::symbol("rows"), Dim::symbol("row_length"));
        g.define_dim(&count, rows);
        g.define_dim(&width, length);

        // A row begins `reach` steps before its part, but within the signal.
        let row = g.range(rows, &count);
        let first = g.mul(row, stretch);
        let first = g.sub(first, reach);
        let last = g.sub(total, length);
        let first = g.min(first, last);
        let zero = g.ints(&[0]);
        let first = g.max(first, zero);

        let place = g.range(length, &width);
        let column = g.reshape(first, &[count.clone(), dim(1)]);
        let taken = g.add(column, place);
        let line = g.transpose(x.value, &[0, 2, 3, 1]);
        let line = g.reshape(line, &[b, steps.clone(), c]);
        let line = g.gather(line, taken, 1);
        let value = g.transpose(line, &[0, 3, 1, 2]);

        let step = g.range(total, &steps);
        let row = g.div(step, stretch);
        let first = g.gather(first, row, 0);
        let place = g.sub(step, first);
        let before = g.mul(row, length);
        let places = g.add(before, place);
        (Self { places, steps, in_rows: &count * &width, rate: x.rate }, x.with(value))
    }

    /// `f32[b, 1, rows, length * n]` → `f32[b, 1, 1, steps * n]`
    pub(crate) fn unfold(&self, g: &mut GraphBuilder, x: Signal) -> Signal {
        let (b, n) = (g.dim(x.value, 0), dim(x.rate / self.rate));
        let steps = g.reshape(x.value, &[b.clone(), self.in_rows.clone(), n.clone()]);
        let steps = g.gather(steps, self.places, 1);
        x.with(g.reshape(steps, &[b, dim(1), dim(1), &self.steps * &n]))
    }
}
