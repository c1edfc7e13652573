//! Lines of floats, of which all buffers are made.

use bytemuck::{Pod, Zeroable};

/// Number of floats in a [`Line`], to which every row is padded.
pub(crate) const LINE: usize = 16;

/// Weights and row values below this count as zero: it is 300 dB below a full-scale sample.
///
/// Products of the remaining values are never denormal numbers, with which some processors compute a hundred
/// times more slowly; silence and decayed weights therefore take no longer than anything else.
pub(crate) const SMALL: f32 = 8.881_784e-16;

/// A cache line of floats, the element of all buffers, so that rows are aligned for every instruction set.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; LINE]);

/// `n` rounded up to whole lines, in floats.
pub(crate) fn padded(n: usize) -> usize {
    n.next_multiple_of(LINE)
}

/// `floats` zeros, aligned to a line; `floats` is rounded up to whole lines.
pub(crate) fn zeros(floats: usize) -> Vec<Line> {
    vec![Line::zeroed(); floats.div_ceil(LINE)]
}

/// A line-aligned copy of `values`, zeros after them up to a whole line.
pub(crate) fn aligned(values: &[f32]) -> Vec<Line> {
    let mut lines = zeros(values.len());
    floats_mut(&mut lines)[..values.len()].copy_from_slice(values);
    lines
}

pub(crate) fn floats(lines: &[Line]) -> &[f32] {
    bytemuck::cast_slice(lines)
}

pub(crate) fn floats_mut(lines: &mut [Line]) -> &mut [f32] {
    bytemuck::cast_slice_mut(lines)
}

/// The same memory as float16 bits, two for each float.
pub(crate) fn halves(lines: &[Line]) -> &[u16] {
    bytemuck::cast_slice(lines)
}

pub(crate) fn halves_mut(lines: &mut [Line]) -> &mut [u16] {
    bytemuck::cast_slice_mut(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_zero_leaves_no_denormal_product() {
        assert_eq!(SMALL, 2f32.powi(-50));
        assert!((SMALL * SMALL).is_normal());
    }
}
