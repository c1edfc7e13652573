//! One-dimensional Winograd (Toom-Cook) convolution: the algebra.
//!
//! A tile of `m` outputs of an `r`-tap convolution is equivalent to a product of two polynomials. Evaluated
//! at `n = m + r - 1` points (the last is infinity), it takes `n` multiplications instead of `m * r`: `y =
//! A^T [(G w) * (B^T x)]`, as in Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015).
//!
//! The points come in pairs of opposite sign: `0, +-1, +-2`, then `+-1/2`, then `+-3/4`, so that `n` is 6, 8
//! or 10. Then the row of `B^T` of a point `p` is `(x^2 + p x) Q_p(x^2)`, with `Q_p` the product of `x^2 -
//! q^2` over the *other* pairs: an even and an odd half that `p` and `-p` share. `A^T` shares sums and
//! differences of a pair in the same way. `G`, with the Lagrange denominators in it, shares even and odd
//! powers in the same way.
//!
//! Error: against a direct convolution in double precision, relative to the largest output, at most 2e-6 with
//! two or three pairs and 1e-5 with four, over random inputs (tested); `+-4` as a fourth pair would be four
//! to five times worse.

/// The positive points, in the order of use.
pub(crate) const POINTS: [f64; 4] = [1.0, 2.0, 0.5, 0.75];

/// Limit on the taps of a group.
pub(crate) const MAX_TAPS: usize = 7;

/// Coefficients for `PAIRS` pairs, for use in the kernels.
pub(crate) struct Coefficients<const PAIRS: usize>;

impl<const PAIRS: usize> Coefficients<PAIRS> {
    /// `Q_p` for each pair: coefficients of `x^(2k)`, `k < PAIRS`.
    pub(crate) const Q: [[f32; PAIRS]; PAIRS] = {
        let mut q = [[0.0; PAIRS]; PAIRS];
        let mut i = 0;
        while i < PAIRS {
            let product = product_without(i, PAIRS);
            let mut k = 0;
            while k < PAIRS {
                q[i][k] = product[k] as f32;
                k += 1;
            }
            i += 1;
        }
        q
    };

    /// Product of `x^2 - q^2` over all pairs: coefficients of `x^(2k)`, `k <= PAIRS`; the last is 1.
    pub(crate) const ALL: [f32; 5] = {
        let product = product_without(PAIRS, PAIRS);
        let mut all = [0.0; 5];
        let mut k = 0;
        while k <= PAIRS {
            all[k] = product[k] as f32;
            k += 1;
        }
        all
    };

    /// `1 / d` of the point 0, with `d` the product of its differences from the other points.
    pub(crate) const ZERO: f32 = (1.0 / product_without(PAIRS, PAIRS)[0]) as f32;

    /// `p^k / d` for each pair: the sign of `p` does not change `d`, a product of an even number of
    /// differences.
    pub(crate) const G: [[f32; MAX_TAPS]; PAIRS] = {
        let mut g = [[0.0; MAX_TAPS]; PAIRS];
        let mut i = 0;
        while i < PAIRS {
            let square = POINTS[i] * POINTS[i];
            let others = product_without(i, PAIRS);
            let mut value = 0.0;
            let mut k = PAIRS;
            while k > 0 {
                k -= 1;
                value = value * square + others[k];
            }
            let mut term = 1.0 / (2.0 * square * value);
            k = 0;
            while k < MAX_TAPS {
                g[i][k] = term as f32;
                term *= POINTS[i];
                k += 1;
            }
            i += 1;
        }
        g
    };

    /// `p^j` for each pair, `j < 7`.
    pub(crate) const POWERS: [[f32; 7]; PAIRS] = {
        let mut powers = [[1.0; 7]; PAIRS];
        let mut i = 0;
        while i < PAIRS {
            let mut j = 1;
            while j < 7 {
                powers[i][j] = powers[i][j - 1] * POINTS[i] as f32;
                j += 1;
            }
            i += 1;
        }
        powers
    };
}

/// Coefficients in `x^2` of the product of `x^2 - q^2` over the first `pairs` points but `skip`.
const fn product_without(skip: usize, pairs: usize) -> [f64; 5] {
    let mut product = [1.0, 0.0, 0.0, 0.0, 0.0];
    let mut degree = 0;
    let mut i = 0;
    while i < pairs {
        if i != skip {
            let square = POINTS[i] * POINTS[i];
            let mut k = degree + 1;
            while k > 0 {
                product[k] = product[k - 1] - square * product[k];
                k -= 1;
            }
            product[0] *= -square;
            degree += 1;
        }
        i += 1;
    }
    product
}

/// The division and transformation of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Groups of taps, each with its own transform, summed before the inverse transform.
    pub(crate) groups: usize,
    /// Taps of a group.
    pub(crate) taps: usize,
    /// Pairs of points.
    pub(crate) pairs: usize,
}

impl Plan {
    /// Limit on the outputs of a tile.
    pub(crate) const MAX_OUTPUTS: usize = 7;

    /// The plans for a kernel of `kernel` taps, with fewer multiplications and larger tiles first; none if
    /// there is nothing to gain.
    ///
    /// Before the generator, which amplifies errors, only fewer pairs are `accurate` enough.
    pub(crate) fn choices(kernel: usize, accurate: bool) -> impl Iterator<Item = Self> {
        let groups = kernel.div_ceil(MAX_TAPS).max(1);
        let taps = kernel.div_ceil(groups);
        // More than 3 pairs for 3 taps, or 2 for 2 taps, save little more.
        let pairs: &[usize] = match (taps, accurate) {
            _ if !(2..=2 * MAX_TAPS).contains(&kernel) => &[],
            (2, _) => &[2],
            (3, _) => &[3, 2],
            (4, true) => &[3],
            (4, false) => &[4, 3],
            (5, true) => &[3, 2],
            (5, false) => &[4, 3, 2],
            (6, true) => &[],
            (6, false) => &[4],
            (_, true) => &[3],
            (_, false) => &[4, 3],
        };
        pairs.iter().map(move |&pairs| Self { groups, taps, pairs })
    }

    /// Products of a tile, `n`.
    pub(crate) fn products(self) -> usize {
        2 * self.pairs + 2
    }

    /// Outputs of a tile, `m`.
    pub(crate) fn outputs(self) -> usize {
        self.products() + 1 - self.taps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::{Conv, Fold, Halves, Target, Tiles};
    use crate::kernels::{Arena, Epilogue, Isa, Kernels};
    use crate::lag::Edge;
    use crate::rows::Rows;
    use crate::spec::ConvSpec;

    /// Largest error of a convolution compared with double precision, relative to the largest output; tiles
    /// wait for at most `wait` rows.
    fn error(kernels: Kernels, kernel: usize, accurate: bool, seed: u32, wait: i64) -> f64 {
        let (c_in, c_out, dilation, t) = (48, 40, 1 + seed as usize % 3, 150i64);
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        let weight: Vec<f32> = (0..c_out * c_in * kernel).map(|_| next()).collect();
        let spec = ConvSpec::new(&weight[..], c_out, c_in, kernel).with_dilation(dilation);
        let arena = &Arena::default();
        let wait = Some((Edge::frames(), wait));
        let tiles = Tiles { accurate, always: seed.is_multiple_of(2), wait };
        let target = Target { kernels, arena, tiles: Some(tiles), halves: &Halves::new(false) };
        let conv = Conv::new(target, &spec, Fold::default());
        let reach = spec.reach();
        let mut x = Rows::new(c_in, reach);
        x.extend_to(t);
        for row in x.since_mut(0).chunks_exact_mut(48) {
            row.fill_with(&mut next);
        }
        x.pad(reach);
        let mut out = Rows::new(c_out, 0);
        out.extend_to(t);
        let raw = Some(out.since_mut(0));
        let epilogue = Epilogue::Linear { residual: None, addend: None, accumulate: false, raw, act: None };
        conv.run(kernels, &x, (0, t), None, 48, epilogue);
        let (mut worst, mut largest) = (0f64, 0f64);
        for (i, got) in out.since(0).chunks_exact(48).enumerate() {
            let rows = x.since(i as i64 - reach as i64);
            for (o, &got) in got[..c_out].iter().enumerate() {
                let mut sum = 0f64;
                for c in 0..c_in {
                    for k in 0..kernel {
                        sum += f64::from(rows[k * dilation * 48 + c])
                            * f64::from(weight[(o * c_in + c) * kernel + k]);
                    }
                }
                worst = worst.max((f64::from(got) - sum).abs());
                largest = largest.max(sum.abs());
            }
        }
        worst / largest
    }

    #[test]
    fn errors_stay_within_the_documented_bounds() {
        for isa in [Isa::Auto, Isa::Scalar] {
            let Ok(kernels) = Kernels::new(isa, 1) else { continue };
            for seed in 0..4 {
                for (kernel, accurate, bound) in [
                    (3, true, 2e-6),
                    (3, false, 2e-6),
                    (5, true, 2e-6),
                    (5, false, 1e-5),
                    (7, true, 2e-6),
                    (7, false, 1e-5),
                    (9, false, 1e-5),
                    (11, false, 1e-5),
                ] {
                    // The smaller the tiles, the fewer the points.
                    for wait in [i64::MAX, 11, 7, 3] {
                        let error = error(kernels, kernel, accurate, seed, wait);
                        println!("{isa:?} k={kernel} accurate={accurate} wait={wait}: {error:.1e}");
                        assert!(error < bound, "{isa:?} k={kernel} accurate={accurate} wait={wait}: {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn transforms_multiply_polynomials_exactly() {
        for kernel in 2..=14 {
            for accurate in [false, true] {
                let plans: Vec<Plan> = Plan::choices(kernel, accurate).collect();
                assert!(accurate || !plans.is_empty(), "a kernel of {kernel} taps has a plan");
                for plan in &plans {
                    assert!(
                        plan.groups * plan.taps >= kernel
                            && plan.outputs() + plan.taps == plan.products() + 1
                    );
                    assert!((2..=Plan::MAX_OUTPUTS).contains(&plan.outputs()), "{plan:?}");
                    assert!(
                        plan.products() * plan.groups < plan.outputs() * kernel,
                        "{plan:?} saves something"
                    );
                }
                assert!(plans.is_sorted_by(|a, b| a.outputs() > b.outputs()));
            }
        }
        assert_eq!(Plan::choices(1, false).count() + Plan::choices(0, false).count(), 0);
        assert_eq!(Plan::choices(15, false).count(), 0);
    }
}
