//! The rational-quadratic spline of `transforms.py`, inverted, with linear tails.
//!
//! Durkan et al., "Neural Spline Flows" (2019), section 3.1 and appendix A.2.

const MIN_BIN: f32 = 1e-3;
const MIN_DERIVATIVE: f32 = 1e-3;

/// Limit on the bins for [`inverse`]; upstream has 10.
pub(super) const MAX_BINS: usize = 32;

/// Inverts the spline at `y`. `h`: `bins` widths, `bins` heights (both already divided by
/// `sqrt(filter_channels)`) and `bins - 1` derivatives, before softmax and softplus.
pub(super) fn inverse(y: f32, h: &[f32], bins: usize, tail_bound: f32) -> f32 {
    // Written such that a NaN passes through unchanged.
    if !(-tail_bound..=tail_bound).contains(&y) {
        return y;
    }
    let widths = knots(&h[..bins], tail_bound);
    let heights = knots(&h[bins..2 * bins], tail_bound);
    // The bin is the last one whose lower knot is not above y; upstream shifts the last knot slightly, so
    // that y = bound is in a bin.
    let bin = heights[1..bins].iter().filter(|&&knot| y >= knot).count();
    // At both ends the spline continues the tails, whose slope is 1.
    let derivative = |i: usize| {
        if i == 0 || i == bins { 1.0 } else { MIN_DERIVATIVE + softplus(h[2 * bins + i - 1]) }
    };
    let (d0, d1) = (derivative(bin), derivative(bin + 1));
    let width = widths[bin + 1] - widths[bin];
    let height = heights[bin + 1] - heights[bin];
    let delta = height / width;
    let above = y - heights[bin];
    let bend = above * (d0 + d1 - 2.0 * delta);
    let a = bend + height * (delta - d0);
    let b = height * d0 - bend;
    let c = -delta * above;
    // Rounding can make a discriminant of 0 negative.
    let root = 2.0 * c / (-b - (b * b - 4.0 * a * c).max(0.0).sqrt());
    root * width + widths[bin]
}

/// Softmax, a minimum share for each bin, and the cumulative sum over `-tail_bound..=tail_bound`: `bins + 1`
/// knots.
fn knots(logits: &[f32], tail_bound: f32) -> [f32; MAX_BINS + 1] {
    let bins = logits.len();
    let most = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let mut shares = [0.0; MAX_BINS];
    let mut total = 0.0;
    for (share, &logit) in shares.iter_mut().zip(logits) {
        *share = libm::expf(logit - most);
        total += *share;
    }
    let mut knots = [-tail_bound; MAX_BINS + 1];
    let mut sum = 0.0;
    for (knot, share) in knots[1..=bins].iter_mut().zip(shares) {
        sum += MIN_BIN + (1.0 - MIN_BIN * bins as f32) * (share / total);
        *knot = 2.0 * tail_bound * sum - tail_bound;
    }
    knots[bins] = tail_bound;
    knots
}

/// `log(1 + exp(x))`; beyond 20 it is `x`, as in PyTorch.
fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { libm::log1pf(libm::expf(x)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The spline in the forward direction and double precision, to verify the inverse.
    fn forward(x: f64, h: &[f32], bins: usize) -> f64 {
        let widths = knots(&h[..bins], 5.0).map(f64::from);
        let heights = knots(&h[bins..2 * bins], 5.0).map(f64::from);
        let bin = widths[1..bins].iter().filter(|&&knot| x >= knot).count();
        let derivative = |i: usize| {
            if i == 0 || i == bins { 1.0 } else { 1e-3 + f64::from(h[2 * bins + i - 1]).exp().ln_1p() }
        };
        let (d0, d1) = (derivative(bin), derivative(bin + 1));
        let (w, height) = (widths[bin + 1] - widths[bin], heights[bin + 1] - heights[bin]);
        let delta = height / w;
        let t = (x - widths[bin]) / w;
        let top = height * (delta * t * t + d0 * t * (1.0 - t));
        heights[bin] + top / (delta + (d0 + d1 - 2.0 * delta) * t * (1.0 - t))
    }

    proptest! {
        #[test]
        fn inverse_undoes_the_spline(y in -7f32..7.0, h in prop::collection::vec(-3f32..3.0, 29)) {
            let x = inverse(y, &h, 10, 5.0);
            if y.abs() > 5.0 {
                prop_assert_eq!(x, y);
            } else {
                prop_assert!(x.abs() <= 5.0 + 1e-4);
                let back = forward(f64::from(x), &h, 10);
                prop_assert!((back - f64::from(y)).abs() < 2e-4, "{} came back as {}", y, back);
            }
        }

        #[test]
        fn any_finite_input_gives_a_finite_value(y in -6f32..6.0, h in prop::collection::vec(-1e30f32..1e30, 29)) {
            prop_assert!(!inverse(y, &h, 10, 5.0).is_nan());
        }
    }
}
