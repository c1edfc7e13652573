//! Differences between values.

/// Largest and root mean square difference of two sequences of values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Difference {
    pub(super) max: f64,
    /// Sum of the squares.
    squares: f64,
    count: usize,
    /// Index of the largest difference.
    pub(super) at: usize,
}

impl Difference {
    /// Compares as many values as both have. A NaN differs infinitely from everything.
    pub(super) fn of(found: &[f32], expected: &[f32]) -> Self {
        let mut all = Self::default();
        for (at, (&a, &b)) in found.iter().zip(expected).enumerate() {
            let d = (f64::from(a) - f64::from(b)).abs();
            let d = if d.is_nan() { f64::INFINITY } else { d };
            if d > all.max {
                (all.max, all.at) = (d, at);
            }
            all.squares += d * d;
            all.count += 1;
        }
        all
    }

    /// The root mean square; 0 if there are no values.
    pub(super) fn rms(&self) -> f64 {
        if self.count == 0 { 0.0 } else { (self.squares / self.count as f64).sqrt() }
    }

    /// Concatenates the two comparisons.
    pub(super) fn join(self, other: Self) -> Self {
        let larger = if other.max > self.max { other } else { self };
        Self {
            max: larger.max,
            squares: self.squares + other.squares,
            count: self.count + other.count,
            at: larger.at,
        }
    }
}

/// The largest absolute value; infinite if one is NaN.
pub(super) fn peak(values: &[f32]) -> f64 {
    Difference::of(values, &vec![0.0; values.len()]).max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_and_the_mean() {
        let d = Difference::of(&[1.0, 2.0, 3.0, 9.0], &[1.0, 5.0, -1.0]);
        assert_eq!((d.max, d.at), (4.0, 2));
        assert!((d.rms() - (25.0f64 / 3.0).sqrt()).abs() < 1e-12);
        let joined = d.join(Difference::of(&[10.0], &[0.0]));
        assert_eq!((joined.max, joined.count), (10.0, 4));
        assert_eq!(Difference::of(&[f32::NAN], &[0.0]).max, f64::INFINITY);
        assert_eq!(Difference::of(&[], &[]).rms(), 0.0);
        assert_eq!(peak(&[0.5, -2.0]), 2.0);
    }
}
