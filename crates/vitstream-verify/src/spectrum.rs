//! Spectra of audio, and the distance between two of them.

use realfft::RealFftPlanner;

/// Samples of a window: 46 ms at 22,050 Hz.
pub(super) const WINDOW: usize = 1024;
/// Bins of a spectrum, from 0 Hz to half the sample rate.
pub(super) const BINS: usize = WINDOW / 2 + 1;
/// Samples between successive windows when computing the distance.
const HOP: usize = WINDOW / 4;
/// Levels below this, relative to a full-scale sine, count as silence; in dB.
pub(super) const FLOOR: f64 = -100.0;

/// Power spectra of Hann windows every `hop` samples, in dB relative to a full-scale sine and not below
/// [`FLOOR`]: [`BINS`] values for each window. The audio is padded with silence to a whole window.
pub(super) fn spectrogram(samples: &[f32], hop: usize) -> Vec<f64> {
    let fft = RealFftPlanner::<f64>::new().plan_fft_forward(WINDOW);
    let (mut frame, mut spectrum) = (fft.make_input_vec(), fft.make_output_vec());
    let window: Vec<f64> =
        (0..WINDOW).map(|i| 0.5 - 0.5 * (std::f64::consts::TAU * i as f64 / WINDOW as f64).cos()).collect();
    // Scaled so that a sine of amplitude 1 has power 1.
    let scale = 2.0 / window.iter().sum::<f64>();
    let floor = 10f64.powf(FLOOR / 10.0);
    let mut all = Vec::with_capacity(samples.len().div_ceil(hop.max(1)) * BINS);
    for start in (0..samples.len()).step_by(hop.max(1)) {
        let here = samples[start..].iter().copied().chain(std::iter::repeat(0.0));
        for ((value, sample), weight) in frame.iter_mut().zip(here).zip(&window) {
            *value = f64::from(sample) * weight;
        }
        match fft.process(&mut frame, &mut spectrum) {
            Ok(()) => all.extend(spectrum.iter().map(|c| {
                let power = c.norm_sqr() * scale * scale;
                // NaN becomes the floor as well.
                10.0 * power.max(floor).log10()
            })),
            // Cannot happen with vectors made by the planner.
            Err(_) => all.extend([FLOOR; BINS]),
        }
    }
    all
}

/// Log-spectral distance in dB: for each window, the root of the mean over all bins of the squared difference
/// of the two levels in dB, then the mean over the windows. Levels are those of [`spectrogram`]; the longer
/// audio is cut to the length of the shorter one.
pub(super) fn log_spectral_distance(a: &[f32], b: &[f32]) -> f64 {
    let length = a.len().min(b.len());
    let [a, b] = [a, b].map(|samples| spectrogram(&samples[..length], HOP));
    let windows = a.len() / BINS;
    let distance = |(a, b): (&[f64], &[f64])| {
        let squares: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
        (squares / BINS as f64).sqrt()
    };
    let sum: f64 = a.chunks_exact(BINS).zip(b.chunks_exact(BINS)).map(distance).sum();
    if windows == 0 { 0.0 } else { sum / windows as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(amplitude: f32, bin: f32, length: usize) -> Vec<f32> {
        (0..length)
            .map(|i| amplitude * (std::f32::consts::TAU * bin * i as f32 / WINDOW as f32).sin())
            .collect()
    }

    #[test]
    fn a_full_scale_sine_is_at_zero() {
        let levels = spectrogram(&sine(1.0, 64.0, WINDOW), WINDOW);
        assert_eq!(levels.len(), BINS);
        assert!(levels[64].abs() < 1e-4, "{}", levels[64]);
        // Hann's window extends by one bin on each side, 6 dB lower.
        assert!((levels[65] + 6.02).abs() < 0.01 && levels[80] < -90.0);
    }

    #[test]
    fn twice_as_loud_is_six_decibels_apart() {
        // An impulse in every window has a flat spectrum.
        let clicks = |height: f32| -> Vec<f32> {
            (0..8 * WINDOW).map(|i| if i % HOP == HOP / 2 { height } else { 0.0 }).collect()
        };
        let (one, two) = (clicks(0.4), clicks(0.8));
        assert_eq!(log_spectral_distance(&one, &one), 0.0);
        let distance = log_spectral_distance(&one[..HOP], &two[..HOP]);
        assert!((distance - 6.02).abs() < 0.01, "{distance}");
        assert_eq!(log_spectral_distance(&[], &two), 0.0);
        assert!(log_spectral_distance(&one, &vec![f32::NAN; one.len()]).is_finite());
    }
}
