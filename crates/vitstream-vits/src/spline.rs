//! The rational-quadratic spline of upstream's `transforms.py` (Durkan et al. 2019, "Neural Spline Flows"), inverse
//! direction, linear tails.

use vitstream_onnx::{DType, GraphBuilder, Tensor, ValueId};

use crate::modules::dim;

/// Smallest share of a bin, and smallest derivative at a knot (upstream's `DEFAULT_MIN_*`).
const MIN_BIN_WIDTH: f32 = 1e-3;
const MIN_BIN_HEIGHT: f32 = 1e-3;
const MIN_DERIVATIVE: f32 = 1e-3;

/// A monotone spline through `num_bins + 1` knots from `(-tail_bound, -tail_bound)` to `(tail_bound, tail_bound)`, and
/// the identity outside.
pub(crate) struct Spline {
    pub(crate) num_bins: usize,
    pub(crate) tail_bound: f32,
}

impl Spline {
    /// Solves spline(x) = y for x. `y: f32[b, t, 1]`, `params: f32[b, t, 3 * bins - 1]`: widths and heights before
    /// their softmax, already divided by sqrt(filter_channels), then the derivatives at the inner knots before their
    /// softplus.
    ///
    /// Values in the tails are clamped for the computation and put back by a Where at the end; the bin is found by
    /// counting knots, held inside the table. So no finite input can index out of range, and no shape depends on data.
    pub(crate) fn emit_inverse(&self, g: &mut GraphBuilder, y: ValueId, params: ValueId) -> ValueId {
        let n = self.num_bins;
        let bound = self.tail_bound;
        let parts = g.split(params, 2, &[n, n, n - 1]);
        let (width, left) = self.bins(g, parts[0], MIN_BIN_WIDTH);
        let (height, bottom) = self.bins(g, parts[1], MIN_BIN_HEIGHT);
        let slopes = g.softplus(parts[2]);
        let slopes = g.add_scalar(slopes, MIN_DERIVATIVE);
        // At the outermost knots the spline meets the tails with slope 1.
        let slope_left = g.pad(slopes, &[0, 0, 1], &[0, 0, 0], 1.0);
        let slope_right = g.pad(slopes, &[0, 0, 0], &[0, 0, 1], 1.0);

        let inside = g.clip(y, -bound, bound);
        // The first knot lies at or below everything; of the others those at or below y are counted.
        let above = g.greater_or_equal(inside, bottom);
        let above = g.cast(above, DType::I64);
        let count = g.reduce_sum(above, &[2], true);
        let one = g.ints(&[1]);
        let bin = g.sub(count, one);
        let zero = g.constant(Tensor::i64(&[1], &[0]));
        let bin = g.max(bin, zero);

        let [left, width, bottom, height, d0, d1] = [left, width, bottom, height, slope_left, slope_right]
            .map(|table| g.gather_elements(table, bin, 2));
        let x = self.solve(g, inside, Bin { left, width, bottom, height, d0, d1 });

        let magnitude = g.abs(y);
        let limit = g.scalar(bound);
        let tail = g.greater(magnitude, limit);
        g.select(tail, y, x)
    }

    /// Lengths of the bins and where each begins, both `[b, t, bins]`.
    fn bins(&self, g: &mut GraphBuilder, raw: ValueId, smallest: f32) -> (ValueId, ValueId) {
        let n = self.num_bins;
        let range = 2.0 * self.tail_bound;
        let share = g.softmax(raw, 2);
        let share = g.mul_scalar(share, range * (1.0 - smallest * n as f32));
        let length = g.add_scalar(share, range * smallest);
        let ends = g.cumsum(length, 2);
        let starts = g.slice(ends, 2, &dim(0), &dim(n - 1));
        let starts = g.pad(starts, &[0, 0, 1], &[0, 0, 0], 0.0);
        let starts = g.add_scalar(starts, -self.tail_bound);
        (length, starts)
    }

    /// The root of the quadratic that one bin's rational function comes down to (eq. 6-8 of the paper).
    fn solve(&self, g: &mut GraphBuilder, y: ValueId, bin: Bin) -> ValueId {
        let delta = g.div(bin.height, bin.width);
        let rise = g.sub(y, bin.bottom);
        let sum = g.add(bin.d0, bin.d1);
        let twice = g.mul_scalar(delta, 2.0);
        let curve = g.sub(sum, twice);
        let bent = g.mul(rise, curve);

        let a = g.sub(delta, bin.d0);
        let a = g.mul(bin.height, a);
        let a = g.add(bent, a);
        let b = g.mul(bin.height, bin.d0);
        let b = g.sub(b, bent);
        let c = g.mul(delta, rise);
        let c = g.neg(c);

        let square = g.mul(b, b);
        let product = g.mul(a, c);
        let product = g.mul_scalar(product, 4.0);
        let discriminant = g.sub(square, product);
        // Never negative but for rounding.
        let zero = g.scalar(0.0);
        let discriminant = g.max(discriminant, zero);
        let root = g.sqrt(discriminant);
        let denominator = g.add(b, root);
        let numerator = g.mul_scalar(c, -2.0);
        let theta = g.div(numerator, denominator);
        let x = g.mul(theta, bin.width);
        g.add(x, bin.left)
    }
}

/// One bin for each id, all `f32[b, t, 1]`.
struct Bin {
    left: ValueId,
    width: ValueId,
    bottom: ValueId,
    height: ValueId,
    d0: ValueId,
    d1: ValueId,
}
