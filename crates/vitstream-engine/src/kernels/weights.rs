//! Weights of panels in memory: float32, or float16 that is widened panel by panel.
//!
//! Only values that float16 represents exactly are stored as float16, and widening is exact, so the sums are
//! the same to the last bit. A widened panel stays in the second-level cache until all rows have used it.

use std::cell::Cell;

use bytemuck::Zeroable;

use crate::line::{LINE, Line, floats_mut};

thread_local! {
    /// Buffer for a widened panel.
    static WIDENED: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// The weights of panels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// In the format that the kernels read.
    Single(&'a [f32]),
    /// The bits of float16.
    Half(&'a [u16]),
}

impl<'a> Weights<'a> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Single(weights) => weights.len(),
            Self::Half(weights) => weights.len(),
        }
    }

    pub(super) fn is_half(self) -> bool {
        matches!(self, Self::Half(_))
    }

    /// Returns the `len` weights from `from` on.
    #[inline(always)]
    pub(super) fn range(self, from: usize, len: usize) -> Self {
        match self {
            Self::Single(weights) => Self::Single(&weights[from..][..len]),
            Self::Half(weights) => Self::Half(&weights[from..][..len]),
        }
    }

    /// Returns the weights before `at`, and the rest.
    pub(super) fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Self::Single(weights) => {
                let (before, after) = weights.split_at(at);
                (Self::Single(before), Self::Single(after))
            }
            Self::Half(weights) => {
                let (before, after) = weights.split_at(at);
                (Self::Half(before), Self::Half(after))
            }
        }
    }

    /// Returns a buffer for panels of up to `len` weights; an empty one if they need not be widened.
    #[inline(always)]
    pub(super) fn room(self, len: usize) -> Room {
        let lines = if self.is_half() { WIDENED.take() } else { Vec::new() };
        let mut room = Room(lines);
        if self.is_half() && room.0.len() * LINE < len {
            room.0.resize(len.div_ceil(LINE), Line::zeroed());
        }
        room
    }

    /// Returns the `len` weights from `from` on, widened into `room` if necessary.
    #[inline(always)]
    pub(super) fn panel<'r>(self, from: usize, len: usize, room: &'r mut Room) -> &'r [f32]
    where
        'a: 'r,
    {
        match self {
            Self::Single(weights) => &weights[from..][..len],
            Self::Half(weights) => {
                let panel = &mut floats_mut(&mut room.0)[..len];
                for (value, &half) in panel.iter_mut().zip(&weights[from..][..len]) {
                    *value = widen(half);
                }
                panel
            }
        }
    }
}

/// Memory of this thread, lent for the duration of a task.
pub(super) struct Room(Vec<Line>);

impl Drop for Room {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            WIDENED.set(std::mem::take(&mut self.0));
        }
    }
}

/// Converts the bits of a finite float16 number to the float of the same value.
///
/// It uses only operations that exist for vectors: a loop over it converts one register at a time on any
/// instruction set.
#[inline(always)]
pub(super) fn widen(half: u16) -> f32 {
    /// The difference of the exponents' biases.
    const BIAS: u32 = (127 - 15) << 23;
    /// The least normal number of float16.
    const LEAST: f32 = 6.103_515_6e-5;
    let half = u32::from(half);
    let magnitude = (half & 0x7fff) << 13;
    // Subnormal numbers have no implicit leading one: it is added and subtracted again.
    let subnormal = f32::from_bits(magnitude + BIAS + (1 << 23)) - LEAST;
    let normal = f32::from_bits(magnitude + BIAS);
    let value = if magnitude < 1 << 23 { subnormal } else { normal };
    f32::from_bits(value.to_bits() | (half & 0x8000) << 16)
}

/// Writes the bits of `values` as float16 to `halves`, and returns true if every value is represented
/// exactly.
pub(crate) fn narrow(values: &[f32], halves: &mut [u16]) -> bool {
    // Without an early exit the loop can be vectorised.
    values.iter().zip(halves).fold(true, |exact, (&value, half)| {
        /// `2^24`, to count in units of the least number of float16.
        const UNITS: f32 = 16_777_216.0;
        let bits = value.to_bits();
        let magnitude = bits & 0x7fff_ffff;
        let normal = (magnitude.wrapping_sub((127 - 15) << 23) >> 13) as u16 & 0x7fff;
        let subnormal = (f32::from_bits(magnitude) * UNITS) as u16;
        let is_normal = magnitude >= (127 - 14) << 23;
        *half = if is_normal { normal } else { subnormal } | (bits >> 16) as u16 & 0x8000;
        exact & (magnitude < (127 + 16) << 23) & (widen(*half).to_bits() == bits)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn every_finite_half_is_widened_and_narrowed_to_itself() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            if !half.is_finite() {
                continue;
            }
            assert_eq!(widen(bits).to_bits(), half.to_f32().to_bits(), "{bits:#x}");
            let mut back = [0];
            assert!(narrow(&[half.to_f32()], &mut back) && back == [bits], "{bits:#x}");
        }
    }

    #[test]
    fn what_half_precision_does_not_hold_is_told() {
        let hold = |value: f32| narrow(&[1.0, value, 2.0], &mut [0; 3]);
        for bits in (0..=u16::MAX).map(f16::from_bits).filter(|half| half.is_finite()) {
            let value = bits.to_f32();
            let neighbours = [value.next_up(), value.next_down()];
            for neighbour in neighbours {
                assert!(!hold(neighbour), "{neighbour:e}");
            }
        }
        for value in [65_520.0, 65_536.0, 1e10, f32::MAX, f32::MIN, 2f32.powi(-25), 1e-40, f32::INFINITY] {
            assert!(!hold(value), "{value:e}");
        }
        assert!(!hold(f32::NAN) && hold(65_504.0) && hold(-2f32.powi(-24)) && hold(0.0));
    }
}
