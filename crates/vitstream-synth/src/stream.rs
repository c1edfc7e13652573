//! One utterance on its way, chunk by chunk.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backend::{DecodeSession, EncodeRequest, Latent};
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::noise::Noise;
use crate::options::{MAX_FRAMES, Scales};
use crate::schedule::{Chunking, Schedule};
use crate::voice::Inner;

/// What is to be spoken, checked.
pub(crate) struct Request {
    pub(crate) ids: Vec<i64>,
    pub(crate) speaker: Option<usize>,
    pub(crate) scales: Scales,
    pub(crate) noise: Option<Noise>,
}

/// A piece of an utterance's audio.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Chunk {
    /// Counts from 0.
    pub index: usize,
    /// Samples of the utterance before this chunk.
    pub start: usize,
    /// The audio, f32 between -1 and 1.
    pub samples: Vec<f32>,
    /// Frames of the latent that the decoder took for it; the first chunk's include the look-ahead.
    pub frames: usize,
    /// When the chunk was ready, counted from when the stream was made.
    pub ready: Duration,
    /// Whether the utterance ends with this chunk.
    pub last: bool,
}

/// The chunks of one utterance. After an error there are no more.
pub struct SpeechStream {
    voice: Arc<Inner>,
    schedule: Schedule,
    started: Instant,
    encoded: Option<Duration>,
    total: Option<usize>,
    durations: Option<Vec<usize>>,
    index: usize,
    /// Samples given so far.
    given: usize,
    cancel: Cancel,
    state: State,
}

enum State {
    Waiting(Request),
    Decoding { latent: Latent, session: Box<dyn DecodeSession>, pushed: usize },
    Ended,
}

impl SpeechStream {
    pub(crate) fn new(voice: Arc<Inner>, request: Request, chunking: Chunking) -> Self {
        let frame = voice.decoder.hop_length() as f64 / f64::from(voice.info.sample_rate);
        let schedule = Schedule::new(chunking, voice.info.cost, frame);
        let started = Instant::now();
        Self {
            voice,
            schedule,
            started,
            encoded: None,
            total: None,
            durations: None,
            index: 0,
            given: 0,
            cancel: Cancel::new(),
            state: State::Waiting(request),
        }
    }

    /// Stops this utterance: the next chunk, or the one being computed where that is possible, is
    /// [`Error::Cancelled`] then, and the last.
    pub fn cancel_handle(&self) -> Cancel {
        self.cancel.clone()
    }

    /// When the encoder was done, counted from when the stream was made; `None` before the first chunk.
    pub fn encoded(&self) -> Option<Duration> {
        self.encoded
    }

    /// Samples of the whole utterance, known as soon as the encoder is done.
    pub fn total_samples(&self) -> Option<usize> {
        self.total
    }

    /// Samples of each phoneme id, one after the other from the utterance's first; known as soon as the encoder is
    /// done, and only of voices that [tell them](crate::Voice::gives_durations). They add up to
    /// [`total_samples`](Self::total_samples), unless all are 0: then there is one frame that belongs to no id.
    pub fn durations(&self) -> Option<&[usize]> {
        self.durations.as_deref()
    }

    /// The next chunk of the utterance; `None` after the last.
    fn advance(&mut self) -> Result<Option<Chunk>> {
        loop {
            let state = std::mem::replace(&mut self.state, State::Ended);
            if self.cancel.is_cancelled() && !matches!(state, State::Ended) {
                return Err(Error::Cancelled);
            }
            match state {
                State::Ended => return Ok(None),
                State::Waiting(request) => {
                    let latent = self.voice.encoder.encode(&EncodeRequest {
                        ids: &request.ids,
                        speaker: request.speaker,
                        scales: request.scales,
                        noise: request.noise,
                        max_frames: MAX_FRAMES,
                        cancel: &self.cancel,
                    })?;
                    self.encoded = Some(self.started.elapsed());
                    let hop = self.voice.decoder.hop_length();
                    self.total = Some(latent.frames() * hop);
                    self.durations = latent.durations().map(|all| all.iter().map(|n| n * hop).collect());
                    let session = self.voice.decoder.clone().start(latent.g().map(<[f32]>::to_vec))?;
                    self.state = State::Decoding { latent, session, pushed: 0 };
                }
                State::Decoding { latent, mut session, pushed } => {
                    let first = if pushed == 0 { self.voice.decoder.look_ahead() } else { 0 };
                    let total = latent.frames();
                    let frames = self.schedule.next_frames().saturating_add(first).min(total - pushed);
                    let last = pushed + frames == total;
                    let samples = session.push(&latent.slice(pushed..pushed + frames), last)?;
                    let start = self.given;
                    self.given += samples.len();
                    if last {
                        let expected = self.total.unwrap_or_default();
                        if self.given != expected {
                            let given = self.given;
                            return Err(Error::Runtime(format!(
                                "the decoder gave {given} samples for {total} frames, expected {expected}: its files are damaged"
                            )));
                        }
                    } else {
                        self.state = State::Decoding { latent, session, pushed: pushed + frames };
                    }
                    if samples.is_empty() && !last {
                        continue;
                    }
                    let index = self.index;
                    self.index += 1;
                    return Ok(Some(Chunk {
                        index,
                        start,
                        samples,
                        frames,
                        ready: self.started.elapsed(),
                        last,
                    }));
                }
            }
        }
    }
}

impl std::fmt::Debug for SpeechStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SpeechStream")
            .field("index", &self.index)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}

impl Iterator for SpeechStream {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
