//! Requests for speech, independent of the protocol.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use vitstream::{Scales, SpeakOptions, Speaker};

use crate::audio::{Format, Output};
use crate::error::{Error, Fault, Result};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::reading::{Audio, Bit, Reading, Text};
use crate::scheduler::{Listener, Scheduler, Waker};
use crate::voices::{OpenVoice, Voices};

/// State shared by the protocols. Clones share it.
#[derive(Clone, Debug)]
pub struct Service {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    voices: Arc<Voices>,
    scheduler: Scheduler,
    limits: Limits,
    /// Seed for requests that name none.
    seed: Option<u64>,
    metrics: Arc<Metrics>,
    requests: AtomicU64,
}

/// A request for speech. For absent fields, the voice's defaults apply.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Request {
    /// The protocol, for logs and metrics.
    pub protocol: &'static str,
    /// The voice.
    pub voice: Option<String>,
    /// The speaker.
    pub speaker: Option<Speaker>,
    /// Speed; 2 is twice as fast as the voice's own.
    pub speed: Option<f32>,
    /// Overrides the voice's default; `speed` applies in addition.
    pub length_scale: Option<f32>,
    /// Overrides the voice's default.
    pub noise_scale: Option<f32>,
    /// Overrides the voice's default.
    pub noise_w: Option<f32>,
    /// Seed for reproducible audio.
    pub seed: Option<u64>,
    /// The audio format.
    pub format: Format,
    /// The sample rate.
    pub rate: Rate,
}

/// The sample rate of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rate {
    /// The rate that clients of the format expect.
    #[default]
    Usual,
    /// The voice's own.
    Own,
    /// This one.
    Hertz(u32),
}

/// The content to be spoken.
#[derive(Clone, Debug)]
pub enum Said {
    /// A text.
    Text(String),
    /// A text in SSML.
    Ssml(String),
}

impl Service {
    /// Creates a service for these voices.
    pub fn new(voices: Arc<Voices>, scheduler: Scheduler, limits: Limits, seed: Option<u64>) -> Self {
        let metrics = Arc::new(Metrics::default());
        Self {
            inner: Arc::new(Inner { voices, scheduler, limits, seed, metrics, requests: AtomicU64::new(1) }),
        }
    }

    /// Its voices.
    pub fn voices(&self) -> &Arc<Voices> {
        &self.inner.voices
    }

    /// Who computes.
    pub fn scheduler(&self) -> &Scheduler {
        &self.inner.scheduler
    }

    /// The limits on requests.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The metrics as text for Prometheus.
    pub fn metrics(&self) -> String {
        self.inner.metrics.text(&self.inner.scheduler.now(), &self.inner.voices.in_memory())
    }

    /// Returns true if requests are served: opening every voice was tried, the default one is available, and
    /// the server is not shutting down. A voice that cannot be opened does not affect the others.
    pub fn is_ready(&self) -> bool {
        self.inner.voices.are_open() && !self.inner.scheduler.is_draining()
    }

    /// Opens every voice once, the default one first, to determine which ones are available.
    pub async fn open_voices(&self) {
        let voices = &self.inner.voices;
        let default = voices.default_name().to_owned();
        let others = voices.names().filter(|name| **name != default).map(str::to_owned);
        let all: Vec<String> = std::iter::once(default.clone()).chain(others).collect();
        for name in all {
            // The log has the reason if one cannot be opened.
            let _ = voices.get(Some(&name)).await;
        }
    }

    /// Speaks a text.
    ///
    /// # Errors
    /// When the request is not valid, its voice cannot speak, or there are too many listeners.
    pub async fn speak(&self, request: Request, said: Said) -> Result<Speech> {
        let (Said::Text(text) | Said::Ssml(text)) = &said;
        let most = self.inner.limits.text;
        // There are at most as many characters as bytes.
        if text.len() > most && text.chars().count() > most {
            return Err(
                self.refused(&request, Error::TooLarge(format!("the text has more than {most} characters")))
            );
        }
        let text = match said {
            Said::Text(text) => Text::Whole(text),
            Said::Ssml(text) => Text::Ssml(text),
        };
        self.start(request, text).await
    }

    /// Speaks a text that arrives in pieces.
    ///
    /// # Errors
    /// As [`speak`](Self::speak).
    pub async fn speak_arriving(&self, request: Request) -> Result<(Writer, Speech)> {
        let (sender, receiver) = channel();
        let speech = self.start(request, Text::Arriving(receiver)).await?;
        let writer = Writer {
            sender: Some(sender),
            waker: speech.listener.waker(),
            left: self.inner.limits.text,
            most: self.inner.limits.text,
        };
        Ok((writer, speech))
    }

    async fn start(&self, request: Request, text: Text) -> Result<Speech> {
        let started = Instant::now();
        match self.try_start(&request, text).await {
            Ok((listener, voice, rate)) => Ok(Speech {
                listener,
                voice,
                rate,
                log: Log {
                    metrics: self.inner.metrics.clone(),
                    number: self.number(),
                    protocol: request.protocol,
                    started,
                    first: None,
                    samples: 0,
                    outcome: "cancelled",
                },
            }),
            Err(error) => Err(self.refused(&request, error)),
        }
    }

    /// The number that identifies a request in the log.
    fn number(&self) -> u64 {
        self.inner.requests.fetch_add(1, Ordering::Relaxed)
    }

    fn refused(&self, request: &Request, error: Error) -> Error {
        let (number, protocol) = (self.number(), request.protocol);
        let outcome = match error.fault() {
            Fault::Client => "invalid",
            Fault::Later => "refused",
            Fault::Server => "failed",
        };
        self.inner.metrics.ended(protocol, outcome);
        match error.fault() {
            Fault::Server => tracing::error!(request = number, protocol, "{error}"),
            _ => tracing::info!(request = number, protocol, "{outcome}: {error}"),
        }
        error
    }

    async fn try_start(
        &self,
        request: &Request,
        text: Text,
    ) -> Result<(Listener<Audio>, Arc<OpenVoice>, u32)> {
        let inner = &self.inner;
        if inner.scheduler.is_draining() {
            return Err(Error::Draining);
        }
        let voice = inner.voices.get(request.voice.as_deref()).await?;
        let options = options(request, &voice, inner.seed)?;
        let own = voice.voice.info().sample_rate;
        let rate = match request.rate {
            Rate::Usual => request.format.default_rate(own),
            Rate::Own => own,
            Rate::Hertz(rate) => {
                request.format.check_rate(rate)?;
                rate
            }
        };
        let output = Output::new(request.format, own, rate)?;
        let phonemizer = inner.voices.phonemizers().clone();
        let reading = Reading::new(voice.clone(), phonemizer, options, text, output, inner.metrics.clone())?;
        let ticket = inner.scheduler.admit(voice.rtf).await?;
        Ok((inner.scheduler.start(ticket, reading), voice, rate))
    }
}

/// The request's options in the voice's form.
fn options(request: &Request, voice: &OpenVoice, seed: Option<u64>) -> Result<SpeakOptions> {
    let default = voice.voice.info().scales;
    let mut scales = Scales {
        noise: request.noise_scale.unwrap_or(default.noise),
        length: request.length_scale.unwrap_or(default.length),
        noise_w: request.noise_w.unwrap_or(default.noise_w),
    };
    if let Some(speed) = request.speed {
        if !(0.25..=4.0).contains(&speed) {
            return Err(Error::Request(format!("speed: expected 0.25 to 4, found {speed}")));
        }
        scales.length /= speed;
    }
    let mut options = SpeakOptions::default();
    options.speaker = request.speaker.clone();
    options.scales = Some(scales);
    options.seed = request.seed.or(seed);
    // Nothing is computed here: invalid requests are refused early.
    voice.voice.stream(&[0], &options)?;
    Ok(options)
}

/// Speech being sent to a client. Dropping it ends the work.
#[derive(Debug)]
pub struct Speech {
    listener: Listener<Audio>,
    voice: Arc<OpenVoice>,
    rate: u32,
    log: Log,
}

impl Speech {
    /// The sample rate of the response.
    pub fn sample_rate(&self) -> u32 {
        self.rate
    }

    /// The voice.
    pub fn voice(&self) -> &OpenVoice {
        &self.voice
    }

    /// The number that identifies the request in the log.
    pub fn number(&self) -> u64 {
        self.log.number
    }

    /// The next piece of audio; `None` after the last. No pieces follow an error.
    pub async fn next(&mut self) -> Option<Result<Audio>> {
        let item = self.listener.next().await;
        self.log.take(item.as_ref());
        item
    }
}

/// Writes a text that arrives in pieces. Dropping it ends the text.
#[derive(Debug)]
pub struct Writer {
    /// Removed before the stream is notified.
    sender: Option<Sender<Bit>>,
    waker: Waker,
    /// Number of characters that may still follow.
    left: usize,
    most: usize,
}

impl Writer {
    /// Adds text.
    ///
    /// # Errors
    /// When the text exceeds the limit.
    pub fn push(&mut self, text: &str) -> Result<()> {
        let characters = text.chars().count();
        if characters > self.left {
            return Err(Error::TooLarge(format!("the text has more than {} characters", self.most)));
        }
        self.left -= characters;
        self.send(Bit::Text(text.to_owned()));
        Ok(())
    }

    /// Speaks the text so far, without waiting for the end of its sentence to be certain.
    pub fn flush(&mut self) {
        self.send(Bit::Flush);
    }

    fn send(&mut self, bit: Bit) {
        // A stream that has ended accepts nothing; its listener knows.
        if let Some(sender) = &self.sender
            && sender.send(bit).is_ok()
        {
            self.waker.wake();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.sender = None;
        self.waker.wake();
    }
}

/// The log entry of a request, written at its end.
#[derive(Debug)]
struct Log {
    metrics: Arc<Metrics>,
    number: u64,
    protocol: &'static str,
    started: Instant,
    first: Option<Duration>,
    samples: usize,
    outcome: &'static str,
}

impl Log {
    fn take(&mut self, item: Option<&Result<Audio>>) {
        match item {
            None if self.outcome == "cancelled" => self.outcome = "ended",
            None => {}
            Some(Err(error)) => {
                self.outcome = if error.fault() == Fault::Client { "invalid" } else { "failed" };
                if error.fault() == Fault::Server {
                    tracing::error!(request = self.number, protocol = self.protocol, "{error}");
                }
            }
            Some(Ok(audio)) => {
                if self.first.is_none() && !audio.bytes.is_empty() {
                    let first = self.started.elapsed();
                    self.first = Some(first);
                    self.metrics.first_audio(self.protocol, first);
                }
                self.samples += audio.samples;
                self.metrics.sent(audio.bytes.len());
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.metrics.ended(self.protocol, self.outcome);
        tracing::info!(
            request = self.number,
            protocol = self.protocol,
            samples = self.samples,
            first_audio_ms = self.first.map(|first| first.as_secs_f64() * 1e3),
            ms = self.started.elapsed().as_secs_f64() * 1e3,
            "{}",
            self.outcome
        );
    }
}

#[cfg(test)]
mod tests;
