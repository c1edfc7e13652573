//! The tasks of the kernels, and the checks that make them safe.

use bytemuck::Zeroable;

use super::Kernels;
use super::weights::Weights;
use crate::line::{LINE, Line, floats, floats_mut};
use crate::winograd::Plan;

/// Rows of a convolution, channels-last.
///
/// Output row `r` is `sum over tap, c of x[r * x_stride + tap * tap_step + c] * weights[..]`, in this order,
/// then the epilogue. Offsets and strides count floats.
pub(crate) struct ConvTask<'a> {
    /// Input, starting with the input of tap 0 for output row 0.
    pub(crate) x: &'a [f32],
    pub(crate) x_stride: usize,
    pub(crate) tap_step: usize,
    pub(crate) taps: usize,
    pub(crate) c_in: usize,
    /// Panels, each `[taps][c_in][panel]`: see [`Panels`](crate::conv::Panels).
    pub(crate) weights: Weights<'a>,
    /// Bias in panel order, as long as if all panels were wide.
    pub(crate) bias: &'a [f32],
    /// Number of output rows.
    pub(crate) rows: usize,
    /// Distance between two output rows, in every slice of the epilogue.
    pub(crate) step: usize,
    pub(crate) epilogue: Epilogue<'a>,
}

/// How the sums are stored. Each slice begins at output row 0.
pub(crate) enum Epilogue<'a> {
    /// `v = sum + bias (+ residual) (+ addend) (+ raw)`; stored to `raw`, and through LeakyReLU to `act`.
    Linear {
        residual: Option<&'a [f32]>,
        addend: Option<&'a [f32]>,
        /// Set if the previous contents of `raw` are added before it is overwritten.
        accumulate: bool,
        raw: Option<&'a mut [f32]>,
        act: Option<(&'a mut [f32], f32)>,
    },
    /// `tanh(first half of a panel) * sigmoid(second half)`, upstream's `fused_add_tanh_sigmoid_multiply`.
    Gate { out: &'a mut [f32] },
}

impl<'a> ConvTask<'a> {
    /// Number of panels with two registers; the flag is true if a panel with a single register follows.
    pub(super) fn panels(&self, lanes: usize) -> (usize, bool) {
        (self.bias.len() / (2 * lanes), !self.bias.len().is_multiple_of(2 * lanes))
    }

    /// Panics unless every access of [`tile`](super::tile) lies inside `x` and `weights`, and every output
    /// row inside its slice.
    pub(super) fn check(&self, lanes: usize) {
        assert!(self.rows > 0 && self.taps > 0 && self.c_in > 0, "empty convolution");
        assert!(self.bias.len().is_multiple_of(lanes), "bias is not a whole number of registers");
        let last = (self.rows - 1)
            .checked_mul(self.x_stride)
            .and_then(|v| v.checked_add((self.taps - 1).checked_mul(self.tap_step)?))
            .and_then(|v| v.checked_add(self.c_in));
        assert!(last.is_some_and(|n| n <= self.x.len()), "input rows are too short");
        let weights = self.taps.checked_mul(self.c_in).and_then(|v| v.checked_mul(self.bias.len()));
        assert!(weights.is_some_and(|n| n <= self.weights.len()), "panels are too short");
        self.epilogue.check(self.rows, self.step, self.bias.len(), lanes);
    }
}

impl<'a> Epilogue<'a> {
    /// Splits the rows before `at`, a number of floats, from the others.
    fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Epilogue::Linear { residual, addend, accumulate, raw, act } => {
                let (residual, residual_after) = residual.map(|s| s.split_at(at)).unzip();
                let (addend, addend_after) = addend.map(|s| s.split_at(at)).unzip();
                let (raw, raw_after) = raw.map(|s| s.split_at_mut(at)).unzip();
                let (act, act_after) = act
                    .map(|(s, slope)| {
                        let (before, after) = s.split_at_mut(at);
                        ((before, slope), (after, slope))
                    })
                    .unzip();
                (
                    Epilogue::Linear { residual, addend, accumulate, raw, act },
                    Epilogue::Linear {
                        residual: residual_after,
                        addend: addend_after,
                        accumulate,
                        raw: raw_after,
                        act: act_after,
                    },
                )
            }
            Epilogue::Gate { out } => {
                let (out, after) = out.split_at_mut(at);
                (Epilogue::Gate { out }, Epilogue::Gate { out: after })
            }
        }
    }

    /// Splits the channels before `channel` from the others, which are stored in `room`, because two mutable
    /// slices cannot share rows.
    fn split_channels<'b>(
        &'b mut self,
        channel: usize,
        room: &'b mut Columns,
    ) -> (Epilogue<'b>, Epilogue<'b>) {
        match self {
            Epilogue::Linear { residual, addend, accumulate, raw, act } => {
                let (residual, addend, accumulate) = (*residual, *addend, *accumulate);
                let from_channel = |slice: Option<&'b [f32]>| slice.map(|s| &s[channel..]);
                let [raw_room, act_room] = &mut room.0;
                let raw_after = raw.as_deref().map(|raw| {
                    let raw = &raw[channel..];
                    let room = lines_for(raw_room, raw.len());
                    if accumulate {
                        room.copy_from_slice(raw);
                    }
                    room
                });
                let act_after =
                    act.as_ref().map(|(act, slope)| (lines_for(act_room, act.len() - channel), *slope));
                let act = act.as_mut().map(|(act, slope)| (&mut **act, *slope));
                let before = Epilogue::Linear { residual, addend, accumulate, raw: raw.as_deref_mut(), act };
                let after = Epilogue::Linear {
                    residual: from_channel(residual),
                    addend: from_channel(addend),
                    accumulate,
                    raw: raw_after,
                    act: act_after,
                };
                (before, after)
            }
            Epilogue::Gate { out } => {
                let after = lines_for(&mut room.0[0], out.len() - channel / 2);
                (Epilogue::Gate { out }, Epilogue::Gate { out: after })
            }
        }
    }

    /// Copies the columns from `channel` to `channels` out of `room`, in `rows` rows that are `step` floats apart.
    fn take_channels(
        &mut self,
        (channel, channels): (usize, usize),
        (rows, step): (usize, usize),
        room: &Columns,
    ) {
        let take = |slice: &mut [f32], from: usize, width: usize, room: &[Line]| {
            for (row, room) in slice[from..].chunks_mut(step).zip(floats(room).chunks(step)).take(rows) {
                row[..width].copy_from_slice(&room[..width]);
            }
        };
        let [raw_room, act_room] = &room.0;
        match self {
            Epilogue::Linear { raw, act, .. } => {
                if let Some(raw) = raw {
                    take(raw, channel, channels - channel, raw_room);
                }
                if let Some((act, _)) = act {
                    take(act, channel, channels - channel, act_room);
                }
            }
            Epilogue::Gate { out } => take(out, channel / 2, (channels - channel) / 2, raw_room),
        }
    }

    /// Panics unless every row of every slice lies inside it; `channels` counts those of the panels.
    pub(super) fn check(&self, rows: usize, step: usize, channels: usize, lanes: usize) {
        let fits = |len: Option<usize>, width: usize| len.is_none_or(|len| (rows - 1) * step + width <= len);
        let all_fit = match self {
            Epilogue::Linear { residual, addend, raw, act, .. } => {
                fits(residual.map(<[f32]>::len), channels)
                    && fits(addend.map(<[f32]>::len), channels)
                    && fits(raw.as_ref().map(|s| s.len()), channels)
                    && fits(act.as_ref().map(|s| s.0.len()), channels)
            }
            Epilogue::Gate { out } => {
                channels.is_multiple_of(2 * lanes) && fits(Some(out.len()), channels / 2)
            }
        };
        assert!(all_fit, "output rows are too short");
    }
}

/// Rows of a convolution by Winograd's method: see [`crate::winograd`].
pub(crate) struct WinogradTask<'a> {
    /// Input, beginning with what tap 0 of output row 0 reads; rows are whole registers.
    pub(crate) x: &'a [f32],
    pub(crate) x_stride: usize,
    pub(crate) dilation: usize,
    pub(crate) kernel: usize,
    pub(crate) c_in: usize,
    pub(crate) plan: Plan,
    /// Panels, each `[products][groups][c_in][panel]` where they are transformed, else as a [`ConvTask`] has
    /// them.
    pub(crate) weights: Weights<'a>,
    pub(crate) transformed: bool,
    pub(crate) bias: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) step: usize,
    pub(crate) epilogue: Epilogue<'a>,
}

impl WinogradTask<'_> {
    /// Floats of a panel per channel.
    pub(super) fn depth(&self) -> usize {
        let taps = if self.transformed { self.plan.products() * self.plan.groups } else { self.kernel };
        taps * self.c_in
    }
}

/// Panels of a convolution, to be transformed for Winograd's method.
pub(crate) struct TransformTask<'a> {
    pub(crate) plan: Plan,
    pub(crate) kernel: usize,
    pub(crate) c_in: usize,
    /// Channels of the panels.
    pub(crate) channels: usize,
    /// Panels, each `[kernel][c_in][panel]`.
    pub(crate) weights: &'a [f32],
    /// Panels, each `[products][groups][c_in][panel]`.
    pub(crate) out: &'a mut [f32],
}

/// Memory for the columns computed by a second thread.
#[derive(Debug, Default)]
pub(super) struct Columns([Vec<Line>; 2]);

impl Columns {
    pub(super) const fn new() -> Self {
        Self([Vec::new(), Vec::new()])
    }
}

/// The first `len` floats of `lines`, which grow if necessary.
fn lines_for(lines: &mut Vec<Line>, len: usize) -> &mut [f32] {
    if lines.len() * LINE < len {
        lines.resize(len.div_ceil(LINE), Line::zeroed());
    }
    &mut floats_mut(lines)[..len]
}

/// A task that two threads can share, by its output rows or by its output channels.
pub(super) trait Split: Sized + Send {
    /// Some channels of a task.
    type Part<'b>: Split
    where
        Self: 'b;

    /// Output rows.
    fn rows(&self) -> usize;
    /// Number of rows that should stay together.
    fn grain(&self) -> usize;
    /// Number of multiply-adds per row.
    fn row_cost(&self) -> usize;
    /// Splits the first `rows` rows from the others.
    fn split(self, rows: usize) -> (Self, Self);
    /// Computes the task on this thread.
    fn run(&mut self, kernels: Kernels);
    /// Channels of the panels.
    fn channels(&self) -> usize;
    /// Number of rows up to which threads do less work in total if each computes some of the channels: if
    /// rows are shared, every thread reads, and possibly transforms, all weights; if channels are shared,
    /// every thread reads the input.
    fn rows_for_channels(&self) -> usize;
    /// Splits the channels before `channel`, the first of a panel, from the others, which are computed into
    /// `room`.
    fn split_channels<'b>(
        &'b mut self,
        channel: usize,
        room: &'b mut Columns,
    ) -> (Self::Part<'b>, Self::Part<'b>);
    /// Copies the columns computed in `room`.
    fn take_channels(&mut self, channel: usize, room: &Columns);
}

impl Split for ConvTask<'_> {
    type Part<'b>
        = ConvTask<'b>
    where
        Self: 'b;

    fn rows(&self) -> usize {
        self.rows
    }

    fn grain(&self) -> usize {
        1
    }

    fn row_cost(&self) -> usize {
        self.taps * self.c_in * self.bias.len()
    }

    fn split(self, rows: usize) -> (Self, Self) {
        let (before, after) = self.epilogue.split_at(rows * self.step);
        let x = &self.x[rows * self.x_stride..];
        (Self { rows, epilogue: before, ..self }, Self { x, rows: self.rows - rows, epilogue: after, ..self })
    }

    fn run(&mut self, kernels: Kernels) {
        kernels.conv_rows(self);
    }

    fn channels(&self) -> usize {
        self.bias.len()
    }

    fn rows_for_channels(&self) -> usize {
        self.bias.len()
    }

    fn split_channels<'b>(
        &'b mut self,
        channel: usize,
        room: &'b mut Columns,
    ) -> (ConvTask<'b>, ConvTask<'b>) {
        let (weights, weights_after) = self.weights.split_at(self.taps * self.c_in * channel);
        let (bias, bias_after) = self.bias.split_at(channel);
        let (before, after) = self.epilogue.split_channels(channel, room);
        let part = |weights, bias, epilogue| ConvTask { weights, bias, epilogue, ..*self };
        (part(weights, bias, before), part(weights_after, bias_after, after))
    }

    fn take_channels(&mut self, channel: usize, room: &Columns) {
        let columns = (channel, self.bias.len());
        self.epilogue.take_channels(columns, (self.rows, self.step), room);
    }
}

impl Split for WinogradTask<'_> {
    type Part<'b>
        = WinogradTask<'b>
    where
        Self: 'b;

    fn rows(&self) -> usize {
        self.rows
    }

    /// Whole tiles, so that each is the same on any thread.
    fn grain(&self) -> usize {
        self.plan.outputs() * self.dilation
    }

    fn row_cost(&self) -> usize {
        self.kernel * self.c_in * self.bias.len() / 2
    }

    fn split(self, rows: usize) -> (Self, Self) {
        let (before, after) = self.epilogue.split_at(rows * self.step);
        let x = &self.x[rows * self.x_stride..];
        (Self { rows, epilogue: before, ..self }, Self { x, rows: self.rows - rows, epilogue: after, ..self })
    }

    fn run(&mut self, kernels: Kernels) {
        kernels.winograd_rows(self);
    }

    fn channels(&self) -> usize {
        self.bias.len()
    }

    fn rows_for_channels(&self) -> usize {
        if self.transformed { self.bias.len() } else { 4 * self.bias.len() }
    }

    fn split_channels<'b>(
        &'b mut self,
        channel: usize,
        room: &'b mut Columns,
    ) -> (WinogradTask<'b>, WinogradTask<'b>) {
        let (weights, weights_after) = self.weights.split_at(self.depth() * channel);
        let (bias, bias_after) = self.bias.split_at(channel);
        let (before, after) = self.epilogue.split_channels(channel, room);
        let part = |weights, bias, epilogue| WinogradTask { weights, bias, epilogue, ..*self };
        (part(weights, bias, before), part(weights_after, bias_after, after))
    }

    fn take_channels(&mut self, channel: usize, room: &Columns) {
        let columns = (channel, self.bias.len());
        self.epilogue.take_channels(columns, (self.rows, self.step), room);
    }
}

/// Rows of a convolution to one channel, followed by tanh.
pub(crate) struct DotTask<'a> {
    /// Input, starting with the input of tap 0 for the first sample; rows are zero past the channels.
    pub(crate) x: &'a [f32],
    pub(crate) x_stride: usize,
    /// `[taps][x_stride]`, zeros past the channels.
    pub(crate) weights: &'a [f32],
    pub(crate) tap_step: usize,
    pub(crate) bias: f32,
    pub(crate) out: &'a mut [f32],
}

/// `LayerNorm` of rows in place, optionally followed by GELU.
pub(crate) struct NormTask<'a> {
    /// Whole rows of `stride` floats; those past the channels stay zero.
    pub(crate) rows: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) channels: usize,
    /// `[stride]`, zeros past the channels.
    pub(crate) gamma: &'a [f32],
    /// `[stride]`, zeros past the channels.
    pub(crate) beta: &'a [f32],
    pub(crate) epsilon: f32,
    pub(crate) gelu: bool,
}

/// Softmax of rows in place, except for a factor per row.
pub(crate) struct SoftmaxTask<'a> {
    /// Whole rows of `stride` floats; those past `len` become 0.
    pub(crate) rows: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) len: usize,
    /// The remaining factor of each row: this saves work if the row's product is shorter than the row.
    pub(crate) scales: &'a mut [f32],
}

/// A depth-wise convolution.
pub(crate) struct DepthwiseTask<'a> {
    /// Input, starting with the input of tap 0 for output row 0.
    pub(crate) x: &'a [f32],
    /// Floats per row, here and in `out`.
    pub(crate) stride: usize,
    pub(crate) tap_step: usize,
    /// `[taps][stride]`.
    pub(crate) weights: &'a [f32],
    /// `[stride]`.
    pub(crate) bias: &'a [f32],
    pub(crate) out: &'a mut [f32],
}
