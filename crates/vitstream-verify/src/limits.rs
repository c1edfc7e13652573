//! How far values may be from each other. Each limit stands between what was measured of undamaged voices and what a
//! damaged one shows; docs/design.md has the figures.

/// How far a pair's stages may be from its source's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stages {
    /// Durations before they are rounded up, relative to the longest of the utterance, if that is longer than a frame.
    pub(super) durations: f64,
    /// Rounded up, in frames.
    pub(super) frames: f64,
    /// The prior's sample and the latent after the flow, relative to the largest value of the utterance, if that is
    /// larger than 1.
    pub(super) latent: f64,
    /// Audio of the same latent, whose full scale is 1.
    pub(super) decoder: f64,
    /// Audio of the same ids.
    pub(super) audio: f64,
    /// Log-spectral distance of that, in dB.
    pub(super) spectrum: f64,
}

/// Weights as they were.
pub(super) const EXACT: Stages =
    Stages { durations: 1e-5, frames: 0.0, latent: 1e-5, decoder: AUDIO, audio: AUDIO, spectrum: 0.02 };

/// Weights stored in half precision: a duration near a whole number may become the next.
pub(super) const ROUNDED: Stages =
    Stages { durations: 1e-2, frames: 1.0, latent: 1e-2, decoder: 2e-2, audio: 0.2, spectrum: 2.0 };

/// Chunks against the whole, and one graph against another of the same network: -80 dB.
pub(super) const AUDIO: f64 = 1e-4;

/// The loudest that a sample may be: runtimes' hyperbolic tangents end a last bit above 1.
pub(super) const FULL_SCALE: f64 = 1.0 + 1e-6;

/// A weight, relative to the largest of its tensor: the rounding of an exporter that multiplied and divided.
pub(super) const WEIGHT: f64 = 1e-5;

/// A weight that was rounded to half precision: half a unit of its last place, and a little.
pub(super) const HALF: f64 = 5e-4;

/// A voice whose samples are all within a range as narrow (-60 dB) is silent.
pub(super) const SILENCE: f64 = 1e-3;

/// A sample that is as loud can be no louder: the hyperbolic tangent at the end of a generator is flat there.
pub(super) const CLIPPED: f32 = 0.999;

/// Speech has hardly a sample at full scale; random weights in a loud network have up to 93 % there.
pub(super) const MOST_CLIPPED: f64 = 0.99;

/// Frames that an utterance of so many ids may come out at. Longer ones are those of a damaged duration predictor, and
/// would take all memory.
pub(super) fn frames(ids: usize) -> f64 {
    2000.0 + 40.0 * ids as f64
}
