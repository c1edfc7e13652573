//! Factors the products of a coupling's skip and post convolutions.
//!
//! The graph has `mean_l = -post * skip_l` for each layer l, from which the original factors cannot be
//! recovered. Any factors with this product are equivalent: as many rows of the means as there are hidden
//! channels, with their sign changed, become the skips, and post combines them into all rows. If there are no
//! more rows than hidden channels, post only passes them on, and nothing is rounded.

use bytes::Bytes;

use crate::elements::{bytes, negated};

/// The factors, as upstream's tensors.
pub(crate) struct Product {
    /// For each layer, the skip half of `res_skip_layers`: `[hidden, hidden, 1]` and `[hidden]`.
    pub(crate) skips: Vec<(Bytes, Bytes)>,
    /// `[half, hidden, 1]`
    pub(crate) post: Bytes,
    /// `[half]`
    pub(crate) post_bias: Bytes,
}

impl Product {
    /// `means`: weight `[half, hidden, 1]` and bias `[half]` of each layer.
    pub(crate) fn of(means: &[(Bytes, Bytes)], hidden: usize, half: usize) -> Self {
        let mut post = vec![0.0; half * hidden];
        if half <= hidden {
            for row in 0..half {
                post[row * hidden + row] = 1.0;
            }
            let skip = |(weight, bias): &(Bytes, Bytes)| {
                (filled(&negated(weight), hidden * hidden), filled(&negated(bias), hidden))
            };
            let skips = means.iter().map(skip).collect();
            return Self { skips, post: bytes(post), post_bias: bytes(vec![0.0; half]) };
        }
        let rows: Vec<Vec<f64>> = (0..half)
            .map(|row| {
                let of = |(weight, _): &(Bytes, Bytes)| elements(&weight[4 * row * hidden..][..4 * hidden]);
                means.iter().flat_map(of).collect()
            })
            .collect();
        let broken = rows.iter().flatten().any(|value| !value.is_finite());
        let (basis, combinations) = basis(rows, hidden);
        for (to, from) in post.chunks_exact_mut(hidden).zip(combinations) {
            for (to, from) in to.iter_mut().zip(from) {
                *to = from as f32;
            }
        }
        if broken {
            // NaN, so that the failure is noticed wherever the elimination stopped.
            post.fill(f32::NAN);
        }
        let skip = |(weight, _): &(Bytes, Bytes)| {
            let rows = basis.iter().flat_map(|row| &weight[4 * row * hidden..][..4 * hidden]);
            let rows: Vec<u8> = rows.copied().collect();
            (filled(&negated(&rows), hidden * hidden), bytes(vec![0.0; hidden]))
        };
        let skips = means.iter().map(skip).collect();
        // Only the sum of the biases over the layers affects the result.
        let mut sum = vec![0.0; half];
        for (_, bias) in means {
            for (sum, bias) in sum.iter_mut().zip(elements(bias)) {
                *sum -= bias;
            }
        }
        Self { skips, post: bytes(post), post_bias: bytes(sum.into_iter().map(|sum| sum as f32)) }
    }
}

fn elements(data: &[u8]) -> Vec<f64> {
    data.as_chunks().0.iter().map(|&element| f64::from(f32::from_le_bytes(element))).collect()
}

/// `data` extended by zeros to `count` elements.
fn filled(data: &[u8], count: usize) -> Bytes {
    let mut filled = data.to_vec();
    filled.resize(4 * count, 0);
    filled.into()
}

/// At most `rank` of `rows` from which all rows are combined up to rounding, and the combinations: Gaussian
/// elimination with the largest remaining element as pivot.
fn basis(mut rows: Vec<Vec<f64>>, rank: usize) -> (Vec<usize>, Vec<Vec<f64>>) {
    let mut basis = Vec::new();
    // Each row as a combination of the pivots' rows as they were when chosen.
    let mut lower = vec![Vec::new(); rows.len()];
    while basis.len() < rank {
        let largest =
            |row: &Vec<f64>| row.iter().map(|v| v.abs()).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        let left = rows.iter().enumerate().filter_map(|(at, row)| Some((at, largest(row)?)));
        let Some((pivot, (column, size))) = left.max_by(|a, b| a.1.1.total_cmp(&b.1.1)) else { break };
        if size == 0.0 || !size.is_finite() {
            break;
        }
        let row = std::mem::take(&mut rows[pivot]);
        for (other, lower) in rows.iter_mut().zip(&mut lower) {
            let factor = other.get(column).map_or(0.0, |value| value / row[column]);
            lower.push(factor);
            for (value, pivot) in other.iter_mut().zip(&row) {
                *value -= factor * pivot;
            }
        }
        if let Some(own) = lower[pivot].last_mut() {
            *own = 1.0;
        }
        basis.push(pivot);
    }
    // Converts combinations of the reduced rows to combinations of the original rows, by solving a triangular
    // system.
    let combination = |own: &Vec<f64>| {
        let mut found = own.clone();
        for k in (0..basis.len()).rev() {
            found[k] -= (k + 1..basis.len()).map(|later| found[later] * lower[basis[later]][k]).sum::<f64>();
        }
        found
    };
    let combinations = lower.iter().map(combination).collect();
    (basis, combinations)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The product of `[rows, inner]` and `[inner, columns]`.
    fn multiplied(a: &[f64], b: &[f64], inner: usize, columns: usize) -> Vec<f64> {
        let row = |a: &[f64]| -> Vec<f64> {
            (0..columns).map(|c| a.iter().enumerate().map(|(k, a)| a * b[k * columns + c]).sum()).collect()
        };
        a.chunks_exact(inner).flat_map(row).collect()
    }

    fn random(count: usize, state: &mut u32) -> Vec<f64> {
        let mut next = || {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(*state >> 8) / 8_388_608.0 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn the_parts_give_the_product() {
        let state = &mut 1;
        for (hidden, half, rank) in [(6, 4, 6), (6, 6, 6), (4, 9, 4), (3, 40, 3), (5, 8, 2), (4, 9, 0)] {
            let post = random(half * hidden, state);
            let post: Vec<f64> =
                post.iter().enumerate().map(|(i, v)| if i % hidden < rank { *v } else { 0.0 }).collect();
            let float = |values: Vec<f64>| bytes(values.into_iter().map(|v| v as f32));
            let means: Vec<(Bytes, Bytes)> = (0..3)
                .map(|_| {
                    let skip = random(hidden * hidden, state);
                    (float(multiplied(&post, &skip, hidden, hidden)), float(random(half, state)))
                })
                .collect();
            let found = Product::of(&means, hidden, half);
            let post = elements(&found.post);
            assert_eq!(post.len(), half * hidden);
            let mut bias = elements(&found.post_bias);
            for ((skip, skip_bias), (mean, _)) in found.skips.iter().zip(&means) {
                let product = multiplied(&post, &elements(skip), hidden, hidden);
                for (found, expected) in product.iter().zip(elements(mean)) {
                    assert!((found + expected).abs() < 2e-6, "{hidden} {half} {rank}: {found} {expected}");
                }
                let more = multiplied(&post, &elements(skip_bias), hidden, 1);
                bias.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            }
            for (row, found) in bias.iter().enumerate() {
                let expected: f64 = means.iter().map(|(_, bias)| elements(bias)[row]).sum();
                assert!((found + expected).abs() < 1e-6, "{hidden} {half} {rank}: {found} {expected}");
            }
        }
    }
}
