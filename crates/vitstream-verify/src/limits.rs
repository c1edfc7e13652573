//! Limits on the differences between values. Each limit is between the differences measured for undamaged
//! voices and those of a damaged one; docs/design.md has the figures.

/// Limits on the differences between a pair's stages and its source's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stages {
    /// Durations before rounding, relative to the longest one of the utterance if that exceeds a frame.
    pub(super) durations: f64,
    /// Rounded durations, in frames.
    pub(super) frames: f64,
    /// The prior's sample and the latent after the flow, relative to the largest value of the utterance if
    /// that exceeds 1.
    pub(super) latent: f64,
    /// Audio decoded from the same latent, with full scale 1.
    pub(super) decoder: f64,
    /// Audio synthesised from the same ids.
    pub(super) audio: f64,
    /// Log-spectral distance of that audio, in dB.
    pub(super) spectrum: f64,
}

/// Limits for unchanged weights.
pub(super) const EXACT: Stages =
    Stages { durations: 1e-5, frames: 0.0, latent: 1e-5, decoder: AUDIO, audio: AUDIO, spectrum: 0.02 };

/// Limits for weights in half precision: a duration close to a whole number may round up to the next one.
pub(super) const ROUNDED: Stages =
    Stages { durations: 1e-2, frames: 1.0, latent: 1e-2, decoder: 2e-2, audio: 0.2, spectrum: 2.0 };

/// Limit for chunks compared with the whole, and for two graphs of the same network: -80 dB.
pub(super) const AUDIO: f64 = 1e-4;

/// The largest valid sample: hyperbolic tangents of runtimes may exceed 1 in the last bit.
pub(super) const FULL_SCALE: f64 = 1.0 + 1e-6;

/// Limit for a weight, relative to the largest one of its tensor: the rounding of an exporter that multiplied
/// and divided.
pub(super) const WEIGHT: f64 = 1e-5;

/// Limit for a weight rounded to half precision: slightly more than half a unit in its last place.
pub(super) const HALF: f64 = 5e-4;

/// A voice whose samples all lie within a range of this width (-60 dB) is silent.
pub(super) const SILENCE: f64 = 1e-3;

/// From this level on, a sample is at full scale, where the hyperbolic tangent at the end of a generator is
/// flat.
pub(super) const CLIPPED: f32 = 0.999;

/// Speech has hardly any samples at full scale; random weights in a loud network have up to 93 %.
pub(super) const MOST_CLIPPED: f64 = 0.99;

/// Limit on the frames of an utterance with this many ids. Longer ones come from a damaged duration
/// predictor, and would take all memory.
pub(super) fn frames(ids: usize) -> f64 {
    2000.0 + 40.0 * ids as f64
}
