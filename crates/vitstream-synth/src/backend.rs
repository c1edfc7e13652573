//! The seam between a voice and whatever computes it: an [`EncodeBackend`] takes phoneme ids and gives a [`Latent`],
//! a [`DecodeBackend`] takes frames of it and gives samples.
//!
//! The seam is not a runner of tensors, so that an engine which keeps its state in its own layout can stand behind it
//! as well as an ONNX graph whose states go in and out by name.

use std::ops::Range;
use std::sync::Arc;

use crate::cancel::Cancel;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::noise::Noise;
use crate::options::Scales;

/// A request to an encoder. The caller has checked it: ids within the vocabulary and not empty, a speaker exactly
/// when the voice has several, scales finite and within bounds.
#[derive(Clone, Copy, Debug)]
pub struct EncodeRequest<'a> {
    /// Phoneme ids, at least one.
    pub ids: &'a [i64],
    /// The speaker's index, for voices of several; below their number.
    pub speaker: Option<usize>,
    /// Noise and speed.
    pub scales: Scales,
    /// The noise to use; `None` lets the encoder draw its own.
    pub noise: Option<Noise>,
    /// More frames than these are an error.
    pub max_frames: usize,
    /// Asked from time to time by an encoder that can stop early; it ends with [`Error::Cancelled`] then.
    pub cancel: &'a Cancel,
}

/// Takes phoneme ids and gives the latent of the whole utterance.
pub trait EncodeBackend: Send + Sync {
    /// Runs the text encoder, the duration predictor and the alignment.
    ///
    /// # Errors
    /// When the computation fails, or gives more frames than `request.max_frames`.
    fn encode(&self, request: &EncodeRequest<'_>) -> Result<Latent>;

    /// Whether [`EncodeRequest::noise`] can be given.
    fn takes_noise(&self) -> bool;

    /// Whether the latent comes with [durations](Latent::durations).
    fn gives_durations(&self) -> bool {
        false
    }

    /// Bytes that its weights take in memory, when it knows.
    fn weight_bytes(&self) -> Option<usize> {
        None
    }
}

/// Takes frames and gives samples, one utterance at a time for each session.
pub trait DecodeBackend: Send + Sync {
    /// Samples of one frame.
    fn hop_length(&self) -> usize;

    /// How many frames a sample depends on beyond its own: the first push yields this many frames less than it takes
    /// (unless it is the last as well), and every later push as many as it takes.
    fn look_ahead(&self) -> usize;

    /// Begins an utterance. `g` is the speaker's embedding, f32 `[gin_channels]`, for voices of several speakers.
    ///
    /// # Errors
    /// When `g` does not fit the voice.
    fn start(self: Arc<Self>, g: Option<Vec<f32>>) -> Result<Box<dyn DecodeSession>>;

    /// Bytes that its weights take in memory, when it knows.
    fn weight_bytes(&self) -> Option<usize> {
        None
    }
}

/// One utterance being decoded.
pub trait DecodeSession: Send {
    /// Takes the next frames, f32 `[inter_channels, frames]` row-major with at least one frame, and gives the samples
    /// that are now known. The first push takes more than [`DecodeBackend::look_ahead`] frames or everything; `last` says
    /// that no frame follows, and that all remaining samples are wanted.
    ///
    /// # Errors
    /// When the computation fails. The session is of no further use then.
    fn push(&mut self, frames: &[f32], last: bool) -> Result<Vec<f32>>;
}

/// An utterance between encoder and decoder.
#[derive(Clone, Debug)]
pub struct Latent {
    z: Vec<f32>,
    channels: usize,
    g: Option<Vec<f32>>,
    durations: Option<Vec<usize>>,
}

impl Latent {
    /// `z`: f32 `[channels, frames]` row-major; `g`: f32 `[gin_channels]`.
    ///
    /// # Panics
    /// When `z` is not a whole number of frames, at least one, of at least one channel.
    pub fn new(z: Vec<f32>, channels: usize, g: Option<Vec<f32>>) -> Self {
        let whole = channels > 0 && z.len() >= channels && z.len().is_multiple_of(channels);
        assert!(whole, "{} values in {channels} channels", z.len());
        Self { z, channels, g, durations: None }
    }

    /// Adds the frames of each phoneme id, in the order of the ids.
    pub fn with_durations(self, durations: Vec<usize>) -> Self {
        Self { durations: Some(durations), ..self }
    }

    /// The frames of each phoneme id, if the encoder tells them. When all are 0 the utterance still has one frame.
    pub fn durations(&self) -> Option<&[usize]> {
        self.durations.as_deref()
    }

    /// Length in frames.
    pub fn frames(&self) -> usize {
        self.z.len() / self.channels
    }

    /// Channels of a frame.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The speaker's embedding, f32 `[gin_channels]`.
    pub fn g(&self) -> Option<&[f32]> {
        self.g.as_deref()
    }

    /// The frames of `range`, f32 `[channels, range.len()]` row-major.
    ///
    /// # Panics
    /// When `range` ends after the last frame.
    pub fn slice(&self, range: Range<usize>) -> Vec<f32> {
        let frames = self.frames();
        self.z.chunks_exact(frames).flat_map(|channel| &channel[range.clone()]).copied().collect()
    }
}
