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
    /// Its length in frames with weights in single precision.
    pub frames: usize,
    /// Its length in frames with rounded weights. When it is another, the sounds are compared at the first's
    /// durations: only flow and generator have rounded weights then.
    pub half_precision_frames: usize,
    /// Root mean square of the difference, as a share of the audio's.
    pub relative: f64,
    /// Largest difference of two samples, which are between -1 and 1.
    pub largest: f64,
}

/// There is nobody here to speak.
#[cfg(not(feature = "rten"))]
pub(crate) fn audio_deviation(_: &vitstream_vits::SynthesizerTrn, _: i64) -> Result<AudioDeviation, String> {
    Err("this build of vitstream is without the runtime rten; build it with the feature `rten`".to_owned())
}
