//! How far weights in half precision take the audio.

#[cfg(feature = "rten")]
mod spoken;

use serde::Serialize;

#[cfg(feature = "rten")]
pub(crate) use spoken::audio_deviation;

/// The effect of rounded weights on an utterance's audio.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AudioDeviation {
    /// Length in frames with single-precision weights.
    pub frames: usize,
    /// Length in frames with rounded weights. If it differs, the sounds are compared at the first one's
    /// durations, and then only flow and generator use rounded weights.
    pub half_precision_frames: usize,
    /// Root mean square of the difference, relative to that of the audio.
    pub relative: f64,
    /// Largest difference between two samples, which range from -1 to 1.
    pub largest: f64,
}

/// There is nobody here to speak.
#[cfg(not(feature = "rten"))]
pub(crate) fn audio_deviation(_: &vitstream_vits::SynthesizerTrn, _: i64) -> Result<AudioDeviation, String> {
    Err("this build of vitstream is without the runtime rten; build it with the feature `rten`".to_owned())
}
