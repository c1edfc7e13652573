//! `--volume` and `--normalize`.

use anyhow::{Result, ensure};

/// Beyond this factor, everything but silence would be clipped.
const LOUDEST: f32 = 100.0;

/// A quieter peak counts as this one, as in Piper.
const QUIETEST_PEAK: f32 = 0.01;

/// Scales the samples of whole files.
pub(super) struct Loudness {
    volume: Option<f32>,
    normalize: bool,
    /// Number of samples that exceeded full scale.
    cut: u64,
}

impl Loudness {
    pub(super) fn new(volume: Option<f32>, normalize: bool) -> Self {
        Self { volume, normalize, cut: 0 }
    }

    /// Refuses invalid volumes, and both options if samples are heard while they are computed.
    pub(super) fn check(volume: Option<f32>, normalize: bool, live: bool) -> Result<()> {
        ensure!(
            !(normalize && live),
            "--normalize is for whole files: the loudest sample of an utterance is known only at its end, when a live stream has long \
             been heard"
        );
        ensure!(
            !(volume.is_some() && live),
            "--volume is for whole files: clipping is known only at the end, when a live stream has long been \
             heard; use the player's volume"
        );
        if let Some(volume) = volume {
            ensure!((0.0..=LOUDEST).contains(&volume), "--volume: expected 0 to {LOUDEST}, found {volume}");
        }
        Ok(())
    }

    pub(super) fn volume(&self) -> Option<f32> {
        self.volume
    }

    /// Returns true if [`apply`](Self::apply) needs the whole utterance.
    pub(super) fn normalizes(&self) -> bool {
        self.normalize
    }

    pub(super) fn apply(&mut self, samples: &mut [f32]) {
        let mut factor = self.volume.unwrap_or(1.0);
        if self.normalize {
            let peak = samples.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
            factor /= peak.max(QUIETEST_PEAK);
        }
        if self.normalize || self.volume.is_some() {
            for sample in samples {
                *sample *= factor;
                // A peak multiplied by its own inverse may be off in the last bit, which is harmless.
                self.cut += u64::from(sample.abs() > 1.0 + f32::EPSILON);
            }
        }
    }

    /// Reports the number of clipped samples.
    pub(super) fn finish(self) {
        if self.cut > 0 {
            tracing::warn!(
                "{} samples were louder than full scale and were clipped; lower --volume",
                self.cut
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(volume: Option<f32>, normalize: bool, mut samples: Vec<f32>) -> (Vec<f32>, u64) {
        let mut loudness = Loudness::new(volume, normalize);
        loudness.apply(&mut samples);
        (samples, loudness.cut)
    }

    #[test]
    fn utterances_are_scaled() {
        let samples = || vec![0.25, -0.5, 0.0];
        assert_eq!(applied(None, false, samples()), (samples(), 0));
        assert_eq!(applied(Some(0.5), false, samples()), (vec![0.125, -0.25, 0.0], 0));
        assert_eq!(applied(None, true, samples()), (vec![0.5, -1.0, 0.0], 0));
        assert_eq!(applied(Some(0.5), true, samples()), (vec![0.25, -0.5, 0.0], 0));
        assert_eq!(applied(Some(4.0), false, samples()), (vec![1.0, -2.0, 0.0], 1));
        // Near silence stays quiet.
        assert_eq!(applied(None, true, vec![0.001]), (vec![0.1], 0));
        assert_eq!(applied(None, true, Vec::new()), (Vec::new(), 0));
    }

    #[test]
    fn live_streams_and_odd_volumes_are_refused() {
        Loudness::check(Some(0.0), true, false).unwrap();
        Loudness::check(None, false, true).unwrap();
        for (volume, normalize, live, part) in [
            (None, true, true, "--normalize is for whole files"),
            (Some(1.0), false, true, "--volume is for whole files"),
            (Some(-1.0), false, false, "found -1"),
            (Some(f32::NAN), false, false, "found NaN"),
        ] {
            let error = Loudness::check(volume, normalize, live).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
