//! Weights of panels as they lie in memory: float32, or float16 that is widened panel by panel.
//!
//! Only what float16 holds exactly is held in it, and widening is exact: so the sums are the same, bit for bit. A panel
//! is widened where it stays in the second-level cache until all rows have used it.

use std::cell::Cell;

use bytemuck::Zeroable;

use crate::rows::{LINE, Line, floats_mut};

thread_local! {
    /// Room for a widened panel.
    static WIDENED: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Weights of panels.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// As the kernels read them.
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

    /// `len` of them from `from` on.
    #[inline(always)]
    pub(super) fn range(self, from: usize, len: usize) -> Self {
        match self {
            Self::Single(weights) => Self::Single(&weights[from..][..len]),
            Self::Half(weights) => Self::Half(&weights[from..][..len]),
        }
    }

    /// Those before `at`, and the others.
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

    /// Room for panels of up to `len` weights; none where they need not be widened.
    #[inline(always)]
    pub(super) fn room(self, len: usize) -> Room {
        let lines = if self.is_half() { WIDENED.take() } else { Vec::new() };
        let mut room = Room(lines);
        if self.is_half() && room.0.len() * LINE < len {
            room.0.resize(len.div_ceil(LINE), Line::zeroed());
        }
        room
    }

    /// `len` weights from `from` on, widened in `room` where they have to be.
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

/// Memory of this thread's that is lent for as long as a task takes.
pub(super) struct Room(Vec<Line>);

impl Drop for Room {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            WIDENED.set(std::mem::take(&mut self.0));
        }
    }
}

/// The float that float16 of these bits is; those of no finite number are not asked for.
///
/// All in steps that a vector has: a loop over it converts a register at a time on any instruction set.
#[inline(always)]
pub(super) fn widen(half: u16) -> f32 {
    /// What the exponents' biases differ by.
    const BIAS: u32 = (127 - 15) << 23;
    /// The least normal number of float16.
    const LEAST: f32 = 6.103_515_6e-5;
    let half = u32::from(half);
    let magnitude = (half & 0x7fff) << 13;
    // Below the normal numbers the leading one is not there: it is put in and taken off again.
    let subnormal = f32::from_bits(magnitude + BIAS + (1 << 23)) - LEAST;
    let normal = f32::from_bits(magnitude + BIAS);
    let value = if magnitude < 1 << 23 { subnormal } else { normal };
    f32::from_bits(value.to_bits() | (half & 0x8000) << 16)
}

/// Writes the bits of `values` as float16 to `halves` and says whether each of them is exactly that.
pub(crate) fn narrow(values: &[f32], halves: &mut [u16]) -> bool {
    // Without a way out in the middle the loop is a vector's.
    values.iter().zip(halves).fold(true, |exact, (&value, half)| {
        /// `2^24`: in units of the least number of float16.
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
