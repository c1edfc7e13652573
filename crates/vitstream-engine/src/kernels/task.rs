//! What a kernel is asked to do, and the proof that it may.

/// Rows of a convolution, channels-last.
///
/// Output row `r` is `sum over tap, c of x[r * x_stride + tap * tap_step + c] * weights[..]`, in this order, then the
/// epilogue. Offsets and strides count floats.
pub(crate) struct ConvTask<'a> {
    /// Input, beginning with what tap 0 of output row 0 reads.
    pub(crate) x: &'a [f32],
    pub(crate) x_stride: usize,
    pub(crate) tap_step: usize,
    pub(crate) taps: usize,
    pub(crate) c_in: usize,
    /// Panels, each `[taps][c_in][panel]`: see [`Panels`](crate::conv::Panels).
    pub(crate) weights: &'a [f32],
    /// In panel order, as long as all panels are wide.
    pub(crate) bias: &'a [f32],
    /// Number of output rows.
    pub(crate) rows: usize,
    /// Distance of two output rows, in every slice of the epilogue.
    pub(crate) step: usize,
    pub(crate) epilogue: Epilogue<'a>,
}

/// What becomes of the sums. Each slice begins at output row 0.
pub(crate) enum Epilogue<'a> {
    /// `v = sum + bias (+ residual) (+ addend) (+ raw)`; stored to `raw`, and through LeakyReLU to `act`.
    Linear {
        residual: Option<&'a [f32]>,
        addend: Option<&'a [f32]>,
        /// Whether what `raw` holds is added before it is overwritten.
        accumulate: bool,
        raw: Option<&'a mut [f32]>,
        act: Option<(&'a mut [f32], f32)>,
    },
    /// `tanh(first half of a panel) * sigmoid(second half)`, upstream's `fused_add_tanh_sigmoid_multiply`.
    Gate { out: &'a mut [f32] },
}

impl<'a> ConvTask<'a> {
    /// Panels of two registers, and whether one of a single register follows.
    pub(crate) fn panels(&self, lanes: usize) -> (usize, bool) {
        (self.bias.len() / (2 * lanes), !self.bias.len().is_multiple_of(2 * lanes))
    }

    /// Floats of an output row that are written.
    fn width(&self) -> usize {
        match self.epilogue {
            Epilogue::Linear { .. } => self.bias.len(),
            Epilogue::Gate { .. } => self.bias.len() / 2,
        }
    }

    /// Panics unless every access of [`tile`](super::tile) lies inside `x` and `weights`, and every output row inside
    /// its slice.
    pub(crate) fn check(&self, lanes: usize) {
        assert!(self.rows > 0 && self.taps > 0 && self.c_in > 0, "empty convolution");
        assert!(self.bias.len().is_multiple_of(lanes), "bias is not a whole number of registers");
        let last = (self.rows - 1)
            .checked_mul(self.x_stride)
            .and_then(|v| v.checked_add((self.taps - 1).checked_mul(self.tap_step)?))
            .and_then(|v| v.checked_add(self.c_in));
        assert!(last.is_some_and(|n| n <= self.x.len()), "input rows are too short");
        let weights = self.taps.checked_mul(self.c_in).and_then(|v| v.checked_mul(self.bias.len()));
        assert!(weights.is_some_and(|n| n <= self.weights.len()), "panels are too short");
        let end = (self.rows - 1) * self.step + self.width();
        match &self.epilogue {
            Epilogue::Linear { residual, addend, raw, act, .. } => {
                let fits = |len: Option<usize>| len.is_none_or(|len| end <= len);
                assert!(
                    fits(residual.map(<[f32]>::len))
                        && fits(addend.map(<[f32]>::len))
                        && fits(raw.as_ref().map(|s| s.len()))
                        && fits(act.as_ref().map(|s| s.0.len())),
                    "output rows are too short"
                );
            }
            Epilogue::Gate { out } => {
                assert!(end <= out.len() && self.bias.len().is_multiple_of(2 * lanes), "output rows are too short");
            }
        }
    }
}

/// Rows of a convolution to one channel, followed by tanh.
pub(crate) struct DotTask<'a> {
    /// Input, beginning with what tap 0 of the first sample reads; rows hold zeros past the channels.
    pub(crate) x: &'a [f32],
    pub(crate) x_stride: usize,
    /// `[taps][x_stride]`, zeros past the channels.
    pub(crate) weights: &'a [f32],
    pub(crate) tap_step: usize,
    pub(crate) bias: f32,
    pub(crate) out: &'a mut [f32],
}
