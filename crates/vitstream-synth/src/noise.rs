//! The voice's randomness, derived from a seed.
//!
//! VITS draws twice: two numbers for each phoneme id (the start of the stochastic duration predictor) and one
//! number for each channel of each frame (the prior's sample). Both come from ChaCha8, with a stream each, so
//! a seed gives the same noise on every machine and with every engine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};

/// Standard normal noise for one utterance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    seed: u64,
}

impl Noise {
    /// The noise for `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// `noise_dp`, f32 `[2, phonemes]`, row-major.
    pub fn durations(&self, phonemes: usize) -> Vec<f32> {
        // Drawn id by id, so that a longer utterance with the same beginning starts with the same numbers.
        self.draw(0, phonemes, 2)
    }

    /// `noise_p`, f32 `[channels, frames]`, row-major. The first frames do not depend on the number
    /// requested.
    pub fn prior(&self, channels: usize, frames: usize) -> Vec<f32> {
        self.draw(1, frames, channels)
    }

    /// `columns` draws of `rows` numbers each, transposed to `[rows, columns]`.
    fn draw(&self, stream: u64, columns: usize, rows: usize) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream);
        let mut values = vec![0.0; rows * columns];
        for column in 0..columns {
            for row in 0..rows {
                values[row * columns + column] = StandardNormal.sample(&mut rng);
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_noise_begins_with_the_shorter() {
        let noise = Noise::new(7);
        let (short, long) = (noise.prior(3, 4), noise.prior(3, 9));
        for row in 0..3 {
            assert_eq!(short[row * 4..][..4], long[row * 9..][..4]);
        }
        assert_ne!(noise.durations(2), Noise::new(8).durations(2));
        assert_ne!(noise.durations(3)[..3], noise.prior(2, 3)[..3]);
    }

    #[test]
    fn it_is_standard_normal() {
        let values = Noise::new(1).prior(10, 10_000);
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }
}
