//! Normal draws: given, or derived from a seed, the same on every platform.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// The source of the encoder's two draws.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum DrawsFrom<'a> {
    /// ChaCha8 with the seed's little-endian bytes as the first eight of its key, the others zero. Stream 0
    /// gives the durations' noise `[2, ids]` in row-major order, stream 1 the latent's frame by frame,
    /// `inter_channels` values each, so that a longer utterance begins with the draws of a shorter one. Each
    /// pair of words `a, b` gives two draws by the Box-Muller method: `sqrt(-2 ln u) cos v`, then the same
    /// with `sin`, where `u = (a + 1) / 2^32` and `v = 2 pi b / 2^32`, in double precision with `libm`'s
    /// functions, rounded to single.
    Seed(u64),
    /// The draws themselves, for tests and references.
    Given {
        /// `[2, ids]`; may be empty for the plain duration predictor, which draws nothing.
        dp: &'a [f32],
        /// `[inter_channels, n]` with at least as many columns as frames; the first ones are used.
        p: &'a [f32],
    },
    /// Draws of the caller's own generator, requested when their number is known.
    Generator(&'a dyn Draws),
}

/// A generator of standard normal draws.
pub trait Draws: std::fmt::Debug + Sync {
    /// The durations' noise: `[2, ids]`, row-major.
    fn durations(&self, ids: usize) -> Vec<f32>;

    /// The latent's noise: `[channels, frames]`, row-major.
    fn prior(&self, channels: usize, frames: usize) -> Vec<f32>;
}

/// A stream of normal draws.
pub(super) struct Normal {
    rng: ChaCha8Rng,
    second: Option<f32>,
}

impl Normal {
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(stream);
        Self { rng, second: None }
    }
}

impl Iterator for Normal {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        if let Some(second) = self.second.take() {
            return Some(second);
        }
        const SCALE: f64 = 1.0 / 4_294_967_296.0;
        let u = (f64::from(self.rng.next_u32()) + 1.0) * SCALE;
        let v = std::f64::consts::TAU * f64::from(self.rng.next_u32()) * SCALE;
        let radius = libm::sqrt(-2.0 * libm::log(u));
        self.second = Some((radius * libm::sin(v)) as f32);
        Some((radius * libm::cos(v)) as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_normal_and_fixed_for_ever() {
        let draws: Vec<f32> = Normal::new(7, 0).take(100_000).collect();
        let mean = draws.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e5;
        let variance = draws.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let beyond = draws.iter().filter(|v| v.abs() > 1.959_964).count();
        assert!((4_700..5_300).contains(&beyond), "{beyond} of 5000");
        assert_ne!(draws[..4], Normal::new(7, 1).take(4).collect::<Vec<_>>());
    }
}
