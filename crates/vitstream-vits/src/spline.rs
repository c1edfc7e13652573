//! The rational-quadratic spline of upstream's `transforms.py` (Durkan et al. 2019, "Neural Spline Flows"),
//! in the inverse direction, with linear tails.

use vitstream_onnx::{DType, GraphBuilder, Tensor, ValueId};

use crate::modules::dim;

/// Minimum width and height of a bin, relative to the range, and minimum derivative at a knot (upstream's
/// `DEFAULT_MIN_BIN_WIDTH`, `_HEIGHT`, `_DERIVATIVE`).
const MIN_BIN_SHARE: f32 = 1e-3;
const MIN_DERIVATIVE: f32 = 1e-3;

/// A monotone spline through `num_bins + 1` knots from `(-tail_bound, -tail_bound)` to `(tail_bound,
/// tail_bound)`; outside it is the identity.
pub(crate) struct Spline {
    pub(crate) num_bins: usize,
    pub(crate) tail_bound: f32,
}

impl Spline {
    /// Solves spline(x) = y for x. `y: f32[b, 1, t, 1]`, `params: f32[b, 1, t, 3 * bins - 1]`: widths and
    /// heights before their softmax, already divided by sqrt(filter_channels), then the derivatives at the
    /// inner knots before their softplus.
    ///
    /// Values in the tails are clamped for the computation and restored by a Where at the end; the bin is the
    /// number of inner knots at or below the value. No finite input can therefore index out of range, and no
    /// shape depends on data.
    pub(crate) fn emit_inverse(&self, g: &mut GraphBuilder, y: ValueId, params: ValueId) -> ValueId {
        let n = self.num_bins;
        let (b, t) = (g.dim(y, 0), g.dim(y, 2));
        let parts = g.split(params, 3, &[2 * n, n - 1]);
        let knots = g.reshape(parts[0], &[b.clone(), t.clone(), dim(2), dim(n)]);
        let knots = self.knots(g, knots);
        let slopes = g.softplus(parts[1]);
        let slopes = g.add_scalar(slopes, MIN_DERIVATIVE);
        // At the outermost knots the spline meets the tails with slope 1.
        let slopes = g.pad(slopes, &[0, 0, 0, 1], &[0, 0, 0, 1], 1.0);
        let slopes = g.reshape(slopes, &[b.clone(), t.clone(), dim(1), dim(n + 1)]);
        let table = g.concat(&[knots, slopes], 2);

        let inside = g.clip(y, -self.tail_bound, self.tail_bound);
        let heights = g.slice(knots, 2, &dim(1), &dim(1));
        let inner = g.slice(heights, 3, &dim(1), &dim(n - 1));
        let inner = g.reshape(inner, &[b.clone(), dim(1), t.clone(), dim(n - 1)]);
        let passed = g.greater_or_equal(inside, inner);
        let passed = g.cast(passed, DType::I64);
        let bin = g.reduce_sum(passed, &[3], true);
        let bin = g.reshape(bin, &[b.clone(), t.clone(), dim(1), dim(1)]);
        let ends = g.constant(Tensor::i64(&[1, 1, 3, 2], &[0, 1, 0, 1, 0, 1]));
        let ends = g.add(bin, ends);
        let bin = g.gather_elements(table, ends, 3);
        let bin = g.reshape(bin, &[b, dim(1), t, dim(6)]);
        let bin = g.split(bin, 3, &[1; 6]);
        let width = g.sub(bin[1], bin[0]);
        let height = g.sub(bin[3], bin[2]);
        let bin = Bin { left: bin[0], width, bottom: bin[2], height, d0: bin[4], d1: bin[5] };
        let x = self.solve(g, inside, bin);
        let within = g.equal(y, inside);
        g.select(within, x, y)
    }

    /// The knots of both axes: `raw: f32[b, t, 2, bins]` → `f32[b, t, 2, bins + 1]`. The relative sizes of
    /// the bins are summed up and scaled by one product with a triangular matrix.
    fn knots(&self, g: &mut GraphBuilder, raw: ValueId) -> ValueId {
        let n = self.num_bins;
        let range = 2.0 * self.tail_bound;
        let free = range * (1.0 - MIN_BIN_SHARE * n as f32);
        let sums: Vec<f32> =
            (0..n).flat_map(|j| (0..=n).map(move |i| if j < i { free } else { 0.0 })).collect();
        let starts: Vec<f32> = (0..=n).map(|i| range * MIN_BIN_SHARE * i as f32 - self.tail_bound).collect();
        let shares = g.softmax(raw, 3);
        let sums = g.constant(Tensor::f32(&[n, n + 1], &sums));
        let sums = g.matmul(shares, sums);
        let starts = g.constant(Tensor::f32(&[n + 1], &starts));
        g.add(sums, starts)
    }

    /// The root of the quadratic equation for the rational function of one bin (eq. 6-8 of the paper).
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
        // Never negative except through rounding.
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

/// One bin for each id, all `f32[b, 1, t, 1]`.
struct Bin {
    left: ValueId,
    width: ValueId,
    bottom: ValueId,
    height: ValueId,
    d0: ValueId,
    d1: ValueId,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::support::{self, Array, Net};

    fn inverse(spline: &Spline) -> Net {
        let mut builder = GraphBuilder::new("spline", 15);
        let g = &mut builder;
        let t = vitstream_onnx::Dim::symbol("t");
        let y = g.input("y", DType::F32, vec![dim(1), dim(1), t.clone(), dim(1)]);
        let params = g.input("params", DType::F32, vec![dim(1), dim(1), t, dim(3 * spline.num_bins - 1)]);
        let x = spline.emit_inverse(g, y, params);
        g.output("x", x);
        Net::new(builder.finish().unwrap())
    }

    fn knots(raw: &[f32], bound: f64, smallest: f64) -> Vec<f64> {
        let n = raw.len() as f64;
        let largest = raw.iter().copied().fold(f32::MIN, f32::max);
        let shares: Vec<f64> = raw.iter().map(|v| f64::from(v - largest).exp()).collect();
        let total: f64 = shares.iter().sum();
        let mut at = -bound;
        let mut knots = vec![at];
        for share in shares {
            at += 2.0 * bound * (smallest + (1.0 - smallest * n) * share / total);
            knots.push(at);
        }
        knots
    }

    /// The paper's equation 4: the direction that the graph does not compute.
    fn forward(spline: &Spline, x: f64, params: &[f32]) -> f64 {
        let (n, bound) = (spline.num_bins, f64::from(spline.tail_bound));
        if x.abs() > bound {
            return x;
        }
        let xs = knots(&params[..n], bound, f64::from(MIN_BIN_SHARE));
        let ys = knots(&params[n..2 * n], bound, f64::from(MIN_BIN_SHARE));
        let slope = |i: usize| match i {
            0 => 1.0,
            i if i == n => 1.0,
            i => f64::from(MIN_DERIVATIVE) + f64::from(params[2 * n + i - 1]).exp().ln_1p(),
        };
        let bin = (0..n).rev().find(|&i| xs[i] <= x).unwrap_or(0);
        let (w, h) = (xs[bin + 1] - xs[bin], ys[bin + 1] - ys[bin]);
        let (s, d0, d1) = (h / w, slope(bin), slope(bin + 1));
        let theta = (x - xs[bin]) / w;
        let mixed = theta * (1.0 - theta);
        ys[bin] + h * (s * theta * theta + d0 * mixed) / (s + (d0 + d1 - 2.0 * s) * mixed)
    }

    #[test]
    fn undoes_the_forward_spline() {
        for (num_bins, tail_bound) in [(10, 5.0), (2, 5.0), (4, 1.5)] {
            let spline = Spline { num_bins, tail_bound };
            let net = inverse(&spline);
            let width = 3 * num_bins - 1;
            let cases = prop::collection::vec((-8f32..8.0, prop::collection::vec(-3f32..3.0, width)), 1..40);
            let mut runner = support::runner(100);
            let run = runner.run(&cases, |points| {
                let y = points.iter().map(|(x, params)| forward(&spline, f64::from(*x), params) as f32);
                let y = Array::f32(&[1, 1, points.len(), 1], y.collect());
                let params = points.iter().flat_map(|(_, params)| params.iter().copied());
                let params = Array::f32(&[1, 1, points.len(), width], params.collect());
                let found = net.run([("y", &y), ("params", &params)]).remove(0);
                for (((x, params), found), y) in points.iter().zip(found.floats()).zip(y.floats()) {
                    // Where the spline is nearly flat, rounding of y moves x further; where it is steep,
                    // rounding of x does.
                    let across = (x - found).abs();
                    let along = (forward(&spline, f64::from(*found), params) as f32 - y).abs();
                    prop_assert!(across.min(along) < 1e-4, "{} became {}, off by {}", x, found, along);
                }
                Ok(())
            });
            run.unwrap();
        }
    }

    /// Upstream's spline indexes out of range for some finite inputs. Here no input may do so, and values in
    /// the tails are returned unchanged.
    #[test]
    fn no_finite_input_breaks_it() {
        let spline = Spline { num_bins: 10, tail_bound: 5.0 };
        let net = inverse(&spline);
        let edge = [-5.0, 5.0, -5.000_001, 5.000_001, 4.999_999_5, 0.0, 1e30, -1e30, f32::MAX, f32::MIN];
        let value = prop_oneof![
            prop::sample::select(edge.to_vec()),
            -6f32..6.0,
            prop::num::f32::NORMAL,
            prop::num::f32::SUBNORMAL,
        ];
        let param = prop_oneof![-4f32..4.0, -1e3f32..1e3, Just(0.0), Just(1e9), Just(-1e9), Just(f32::MAX)];
        let cases = prop::collection::vec((value, prop::collection::vec(param, 29)), 1..20);
        let mut runner = support::runner(300);
        let run = runner.run(&cases, |points| {
            let y = Array::f32(&[1, 1, points.len(), 1], points.iter().map(|(y, _)| *y).collect());
            let params = points.iter().flat_map(|(_, params)| params.iter().copied());
            let params = Array::f32(&[1, 1, points.len(), 29], params.collect());
            let found = net.try_run([("y", &y), ("params", &params)]).map_err(TestCaseError::fail)?.remove(0);
            for ((y, _), x) in points.iter().zip(found.floats()) {
                prop_assert!(y.abs() <= 5.0 || x == y, "{} became {}", y, x);
            }
            Ok(())
        });
        run.unwrap();
    }
}
