//! A conversation.

use std::collections::VecDeque;
use std::io;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::timeout;
use vitstream::Speaker;

use super::frame::{Decoder, Event};
use super::info::info;
use crate::audio::Format;
use crate::error::{Error, Result};
use crate::reading::Audio;
use crate::server::told;
use crate::service::{Rate, Request, Said, Service, Speech, Writer};

/// Limit on the waiting events, after which no more are read.
const MOST_WAITING: usize = 64;

/// Number of bytes read at a time.
const READ: usize = 8 << 10;

/// Answers until the peer disconnects, or until `ending` announces the shutdown and nothing is being spoken.
///
/// # Errors
/// When the connection breaks, or the data are not Wyoming.
pub async fn converse(
    service: &Service,
    mut reader: impl AsyncRead + Unpin + Send,
    writer: impl AsyncWrite + Unpin + Send,
    mut ending: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut session = Session { service, writer, waiting: VecDeque::new(), speaking: None };
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ];
    loop {
        session.answer().await?;
        let idle = service.limits().idle;
        let may_read = session.waiting.len() < MOST_WAITING;
        tokio::select! {
            // Audio first: a client that sends a lot is not served later for it.
            biased;
            item = next(&mut session.speaking) => session.give(item).await?,
            () = told(&mut ending), if session.speaking.is_none() => return Ok(()),
            read = timeout(idle, reader.read(&mut buffer)), if may_read => match read {
                Ok(Ok(0)) => return Ok(()),
                Ok(Ok(length)) => {
                    decoder.push(&buffer[..length]);
                    while let Some(event) = decoder.event().map_err(invalid)? {
                        session.waiting.push_back(event);
                    }
                }
                Ok(Err(error)) => return Err(error),
                // A listening client has nothing to send.
                Err(_) if session.speaking.is_some() && !decoder.is_within() => {}
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            },
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

async fn next(speaking: &mut Option<Speaking>) -> Option<Result<Audio>> {
    match speaking {
        Some(speaking) => speaking.speech.next().await,
        None => std::future::pending().await,
    }
}

struct Session<'a, W> {
    service: &'a Service,
    writer: W,
    /// Events that have not been answered.
    waiting: VecDeque<Event>,
    speaking: Option<Speaking>,
}

struct Speaking {
    speech: Speech,
    /// Set if its text arrives in pieces.
    streaming: bool,
    /// Accepts the text until its end.
    text: Option<Writer>,
    /// Number of samples sent, if any.
    sent: Option<u64>,
}

impl<W: AsyncWrite + Unpin> Session<'_, W> {
    /// Answers the waiting events as far as possible.
    async fn answer(&mut self) -> io::Result<()> {
        let mut later = VecDeque::new();
        while let Some(event) = self.waiting.pop_front() {
            let busy = self.speaking.is_some();
            // The text of the current speech comes before anything that waits.
            let takes_text = later.is_empty() && self.speaking.as_ref().is_some_and(|one| one.text.is_some());
            match &*event.kind {
                "describe" => {
                    let info = info(&self.service.voices().descriptions());
                    self.send(&info).await?;
                }
                "ping" => {
                    let pong = Event::new("pong", Value::Object(event.data));
                    self.send(&pong).await?;
                }
                // Sent for servers without streaming.
                "synthesize" if takes_text => {}
                "synthesize-chunk" if takes_text => self.push(event.text("text").unwrap_or_default()).await?,
                "synthesize-stop" if takes_text => {
                    if let Some(speaking) = &mut self.speaking {
                        speaking.text = None;
                    }
                }
                "synthesize" | "synthesize-start" | "synthesize-chunk" | "synthesize-stop" if busy => {
                    later.push_back(event);
                }
                "synthesize" => self.begin(&event, false).await?,
                "synthesize-start" => self.begin(&event, true).await?,
                // Unknown, or the rest of a refused stream.
                _ => {}
            }
        }
        self.waiting = later;
        Ok(())
    }

    async fn begin(&mut self, event: &Event, streaming: bool) -> io::Result<()> {
        match self.try_begin(event, streaming).await {
            Ok(speaking) => {
                self.speaking = Some(speaking);
                Ok(())
            }
            Err(error) => self.refuse(&error).await,
        }
    }

    async fn try_begin(&self, event: &Event, streaming: bool) -> Result<Speaking> {
        let request = self.request(event);
        if streaming {
            let (writer, speech) = self.service.speak_arriving(request).await?;
            return Ok(Speaking { speech, streaming, text: Some(writer), sent: None });
        }
        let text =
            event.text("text").ok_or_else(|| Error::Request("synthesize: expected `text`".to_owned()))?;
        let said = match event.text("text_format") {
            Some("ssml") => Said::Ssml(text.to_owned()),
            _ => Said::Text(text.to_owned()),
        };
        let speech = self.service.speak(request, said).await?;
        Ok(Speaking { speech, streaming, text: None, sent: None })
    }

    /// The requested voice: by name, else the first one of a language.
    fn request(&self, event: &Event) -> Request {
        let voice = event.data.get("voice");
        let text = |key: &str| voice.and_then(|voice| voice.get(key)?.as_str()).map(str::to_owned);
        let of_language = || {
            let language = text("language")?;
            let voices = self.service.voices().descriptions();
            voices.into_iter().find(|voice| voice.language == language).map(|voice| voice.name)
        };
        Request {
            protocol: "wyoming",
            voice: text("name").or_else(of_language),
            speaker: text("speaker").map(Speaker::Name),
            format: Format::Pcm,
            rate: Rate::Own,
            ..Request::default()
        }
    }

    async fn push(&mut self, text: &str) -> io::Result<()> {
        let pushed = match self.speaking.as_mut().and_then(|speaking| speaking.text.as_mut()) {
            Some(writer) => writer.push(text),
            None => Ok(()),
        };
        match pushed {
            Ok(()) => Ok(()),
            Err(error) => {
                self.speaking = None;
                self.refuse(&error).await
            }
        }
    }

    /// Sends audio.
    async fn give(&mut self, item: Option<Result<Audio>>) -> io::Result<()> {
        let Some(speaking) = &mut self.speaking else { return Ok(()) };
        let rate = speaking.speech.sample_rate();
        match item {
            Some(Ok(audio)) if audio.bytes.is_empty() => Ok(()),
            Some(Ok(audio)) => {
                let sent = speaking.sent;
                let before = sent.unwrap_or(0);
                speaking.sent = Some(before + audio.bytes.len() as u64 / 2);
                if sent.is_none() {
                    self.send(&Event::new("audio-start", form(rate, 0))).await?;
                }
                let chunk = Event::new("audio-chunk", form(rate, before));
                self.send(&chunk.with_payload(audio.bytes)).await
            }
            Some(Err(error)) => {
                self.speaking = None;
                self.refuse(&error).await
            }
            None => {
                let (sent, streaming) = (speaking.sent, speaking.streaming);
                self.speaking = None;
                if sent.is_none() {
                    // Silence is not an error, but a client that waits for audio must be told.
                    self.send(&Event::new("audio-start", form(rate, 0))).await?;
                }
                let milliseconds = sent.unwrap_or(0) * 1_000 / u64::from(rate);
                self.send(&Event::new("audio-stop", json!({"timestamp": milliseconds}))).await?;
                if streaming {
                    self.send(&Event::new("synthesize-stopped", Value::Null)).await?;
                }
                Ok(())
            }
        }
    }

    async fn refuse(&mut self, error: &Error) -> io::Result<()> {
        let data = json!({"text": error.for_client(), "code": error.code()});
        self.send(&Event::new("error", data)).await
    }

    async fn send(&mut self, event: &Event) -> io::Result<()> {
        self.writer.write_all(&event.encode()).await?;
        self.writer.flush().await
    }
}

/// The description of audio; `before` is the number of its samples sent so far.
fn form(rate: u32, before: u64) -> Value {
    json!({"rate": rate, "width": 2, "channels": 1, "timestamp": before * 1_000 / u64::from(rate)})
}
