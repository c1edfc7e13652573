//! The elements of tensors, little-endian float32, and the products with constants undone.

use bytes::Bytes;

pub(crate) fn bytes(values: impl IntoIterator<Item = f32>) -> Bytes {
    let values: Vec<[u8; 4]> = values.into_iter().map(f32::to_le_bytes).collect();
    values.into_flattened().into()
}

/// `[rows, columns]` → `[columns, rows]`, four bytes an element.
pub(crate) fn transposed(data: &[u8], rows: usize, columns: usize) -> Bytes {
    transposed_together([data], rows, columns)
}

/// `N` times `[rows, columns]` → `[columns, rows, N]`, four bytes an element.
pub(crate) fn transposed_together<const N: usize>(parts: [&[u8]; N], rows: usize, columns: usize) -> Bytes {
    /// Elements of a square that fits the cache.
    const SIDE: usize = 16;
    let parts = parts.map(|part| &part.as_chunks::<4>().0[..rows * columns]);
    let mut out = vec![[[0; 4]; N]; rows * columns];
    for top in (0..rows).step_by(SIDE) {
        let height = SIDE.min(rows - top);
        for left in (0..columns).step_by(SIDE) {
            for column in left..columns.min(left + SIDE) {
                let first = top * columns + column;
                let parts = parts.map(|part| part[first..].iter().step_by(columns));
                for (k, part) in parts.into_iter().enumerate() {
                    for (out, element) in out[column * rows + top..][..height].iter_mut().zip(part) {
                        out[k] = *element;
                    }
                }
            }
        }
    }
    out.into_flattened().into_flattened().into()
}

/// Every run of `count` chunks of `width` elements with the chunks in reverse order.
pub(crate) fn reversed_chunks(data: &[u8], count: usize, width: usize) -> Bytes {
    let mut reversed = Vec::with_capacity(data.len());
    for chunk in data.chunks_exact(4 * count * width).flat_map(|run| run.chunks_exact(4 * width).rev()) {
        reversed.extend_from_slice(chunk);
    }
    reversed.into()
}

pub(crate) fn negated(data: &[u8]) -> Bytes {
    bytes(data.as_chunks().0.iter().map(|&element| -f32::from_le_bytes(element)))
}

pub(crate) fn unscaled(data: &[u8], factor: f32) -> Bytes {
    bytes(data.as_chunks().0.iter().map(|&element| quotient(f32::from_le_bytes(element), factor)))
}

/// A number whose product with `factor` is `product`, to the bit if there is one.
pub(crate) fn quotient(product: f32, factor: f32) -> f32 {
    nearby(product / factor, |value| value * factor == product)
}

/// A number whose negative has the exponential `exponential`, to the bit if there is one.
pub(crate) fn negative_logarithm(exponential: f32) -> f32 {
    nearby(-f64::from(exponential).ln() as f32, |value| (-value).exp() == exponential)
}

/// `value`, or one of the next floats for which `fits` holds.
fn nearby(value: f32, fits: impl Fn(f32) -> bool) -> f32 {
    const STEPS: [i32; 5] = [0, 1, -1, 2, -2];
    let neighbours = STEPS.into_iter().map(|step| f32::from_bits(value.to_bits().wrapping_add_signed(step)));
    neighbours.into_iter().find(|&value| fits(value)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(data: &[u8]) -> Vec<f32> {
        data.as_chunks().0.iter().map(|&element| f32::from_le_bytes(element)).collect()
    }

    /// Whatever was multiplied, the quotient's product is the same number.
    #[test]
    fn products_come_again_to_the_bit() {
        let factors =
            [(96.0f32).sqrt(), 1.0 / (96.0f32).sqrt(), 1.0 / 3.0, (192.0f32).sqrt(), 1.0, 0.25, 1.0 / 7.0];
        let mut state = 1u32;
        for _ in 0..100_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Magnitudes that weights have.
            let value = f32::from_bits((state & 0x807f_ffff) | ((100 + state % 30) << 23));
            for factor in factors {
                assert_eq!(quotient(value * factor, factor) * factor, value * factor, "{value} * {factor}");
            }
            let exponential = (-value.clamp(-20.0, 20.0)).exp();
            assert_eq!((-negative_logarithm(exponential)).exp(), exponential, "{value}");
        }
        for value in [0.0, -0.0, f32::INFINITY, f32::MIN_POSITIVE / 4.0] {
            assert!(quotient(value, 0.5) * 0.5 == value);
        }
        assert!(quotient(f32::NAN, 3.0).is_nan());
    }

    #[test]
    fn axes_change_places() {
        let (rows, columns) = (19, 35);
        let data = bytes((0..rows * columns).map(|i| i as f32));
        let found = floats(&transposed(&data, rows, columns));
        assert!((0..rows * columns).all(|i| found[i] == ((i % rows) * columns + i / rows) as f32));
        let together = floats(&transposed_together([&data, &negated(&data)], rows, columns));
        assert!((0..rows * columns).all(|i| together[2 * i..][..2] == [found[i], -found[i]]));
        assert_eq!(
            floats(&reversed_chunks(&bytes([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]), 2, 2)),
            [3.0, 4.0, 1.0, 2.0, 7.0, 8.0, 5.0, 6.0]
        );
    }
}
