//! ElevenLabs' speech: text word by word over a WebSocket, answered by audio with the time of each character.

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};
use vitstream::Speaker;

use super::alignment::alignment;
use super::body::{Sound, Whole, audio, timed};
use super::fault::{ErrorBody, HttpError, Refused};
use super::openai::SpeakerName;
use crate::audio::Format;
use crate::error::{Error, Result};
use crate::reading::Audio;
use crate::service::{Rate, Request, Said, Service, Writer};

/// MP3 of a higher rate than we support is produced at this rate, which the stream states.
const MOST_MP3: u32 = 24_000;

/// Limit on the bytes of a message: a text and its JSON.
const MOST_MESSAGE: usize = 64 << 10;

/// Options in the query.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Options {
    /// Such as `pcm_24000`, `mp3_22050_32`, `ulaw_8000`, `opus_48000_32`, `wav_22050`; mp3 if absent
    #[param(pattern = "^(wav|pcm|ulaw|flac|mp3|opus)(_[0-9]+){0,2}$")]
    output_format: Option<String>,
}

impl Options {
    fn format(&self) -> Result<(Format, Rate)> {
        let Some(name) = &self.output_format else { return Ok((Format::Mp3, Rate::Usual)) };
        let mut parts = name.split('_');
        let format = Format::by_name(parts.next().unwrap_or_default())?;
        let rate = match parts.next() {
            None => return Ok((format, Rate::Usual)),
            Some(rate) => rate.parse().map_err(|_| {
                Error::Request(
                    "output_format: expected a format and a sample rate, such as pcm_24000".to_owned(),
                )
            })?,
        };
        let rate = if format == Format::Mp3 { u32::min(rate, MOST_MP3) } else { rate };
        format.check_rate(rate)?;
        Ok((format, Rate::Hertz(rate)))
    }
}

/// A request for speech. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(super) struct TextRequest {
    /// The text
    #[schema(pattern = r"\S")]
    text: String,
    /// Voice settings
    voice_settings: Option<VoiceSettings>,
    /// The voice's speaker, by name or number
    speaker: Option<SpeakerName>,
    /// Seed for reproducible audio
    #[schema(format = "uint64")]
    seed: Option<u64>,
}

/// Voice settings; of ElevenLabs' settings, our voices support the speed.
#[derive(Deserialize, ToSchema)]
struct VoiceSettings {
    /// Speed
    #[schema(minimum = 0.25, maximum = 4)]
    speed: Option<f32>,
}

/// A message of the client.
#[derive(Deserialize)]
struct TextMessage {
    #[serde(default)]
    text: String,
    voice_settings: Option<VoiceSettings>,
    #[serde(default)]
    flush: Option<bool>,
    seed: Option<u64>,
}

fn request(voice: String, options: &Options) -> Result<Request> {
    let (format, rate) = options.format()?;
    Ok(Request { protocol: "elevenlabs", voice: Some(voice), format, rate, ..Request::default() })
}

fn query(query: Result<Query<Options>, QueryRejection>) -> Result<Options, HttpError> {
    query.map(|Query(options)| options).map_err(|error| HttpError::request(error.body_text()))
}

/// Speaks a text
#[utoipa::path(post, path = "/v1/text-to-speech/{voice}", operation_id = "elevenlabs_speech", request_body = TextRequest,
    params(("voice" = String, Path, description = "Its name"), Options),
    responses(
        (status = 200, description = "The audio as it is spoken", content(
            (Sound = "audio/mpeg"), (Sound = "audio/opus"), (Sound = "audio/wav"), (Sound = "audio/pcm"),
            (Sound = "audio/flac"), (Sound = "audio/basic"),
        )),
        Refused,
    ))]
pub(super) async fn speech(
    State(service): State<Service>,
    Path(voice): Path<String>,
    options: Result<Query<Options>, QueryRejection>,
    body: Whole,
) -> Result<Response, HttpError> {
    let (request, text) = whole(voice, &query(options)?, body.json()?)?;
    let format = request.format;
    audio(service.speak(request, text).await?, format).await
}

/// Speaks a text with the times of each character
///
/// The response has a line of JSON for each piece of audio: `{"audio_base64", "alignment": {"characters",
/// "character_start_times_seconds", "character_end_times_seconds"} | null}`, with times from the first sample
/// of that audio.
#[utoipa::path(post, path = "/v1/text-to-speech/{voice}/stream/with-timestamps", request_body = TextRequest,
    params(("voice" = String, Path, description = "Its name"), Options),
    responses(
        (status = 200, description = "Lines of JSON as the audio is spoken", body = String,
            content_type = "application/x-ndjson"),
        Refused,
    ))]
pub(super) async fn speech_with_timestamps(
    State(service): State<Service>,
    Path(voice): Path<String>,
    options: Result<Query<Options>, QueryRejection>,
    body: Whole,
) -> Result<Response, HttpError> {
    let (request, text) = whole(voice, &query(options)?, body.json()?)?;
    timed(service.speak(request, text).await?).await
}

/// A request with the whole text.
fn whole(voice: String, options: &Options, asked: TextRequest) -> Result<(Request, Said), HttpError> {
    if asked.text.trim().is_empty() {
        return Err(HttpError::request("text: expected a text, found none"));
    }
    let mut request = request(voice, options)?;
    request.speed = asked.voice_settings.and_then(|settings| settings.speed);
    request.speaker = asked.speaker.map(Speaker::from);
    request.seed = asked.seed;
    Ok((request, Said::Text(asked.text)))
}

/// A WebSocket that receives text word by word and sends audio while it is spoken
///
/// The client first sends `{"text": " ", "voice_settings": {"speed": 1}}`, then `{"text": "Hello "}`, with
/// `"flush": true` if the text so far is to be spoken, and `{"text": ""}` at the end. The answers are
/// `{"audio": BASE64, "alignment": {"chars", "charStartTimesMs", "charDurationsMs"} | null, "isFinal":
/// null}`, with times from the first sample of that audio, and at the end `{"isFinal": true}`. Closing the
/// socket ends the speech.
#[utoipa::path(get, path = "/v1/text-to-speech/{voice}/stream-input",
    params(("voice" = String, Path, description = "Its name"), Options),
    responses(
        (status = 101, description = "The WebSocket"),
        (status = 400, description = "The request is not valid", body = ErrorBody),
        (status = 401, description = "No key, or a wrong one", body = ErrorBody),
        (status = 403, description = "The request comes from a page that may not use this server", body = ErrorBody),
        (status = 426, description = "The request does not ask for a WebSocket", body = ErrorBody),
    ))]
pub(super) async fn stream_input(
    State(service): State<Service>,
    Path(voice): Path<String>,
    options: Result<Query<Options>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, HttpError> {
    let request = request(voice, &query(options)?)?;
    let upgrade = upgrade.map_err(|error| {
        let message = format!("expected a WebSocket: {}", error.body_text());
        HttpError::new(StatusCode::UPGRADE_REQUIRED, "websocket_expected", message)
    })?;
    let upgrade = upgrade.max_message_size(MOST_MESSAGE).max_frame_size(MOST_MESSAGE);
    Ok(upgrade.on_upgrade(move |socket| converse(service, socket, request)))
}

/// The reason why one side of the conversation has ended.
enum Over {
    /// The peer has disconnected, or is silent for too long.
    Gone,
    /// There was an error.
    Wrong(Error),
}

impl From<Error> for Over {
    fn from(error: Error) -> Self {
        Self::Wrong(error)
    }
}

impl From<axum::Error> for Over {
    fn from(_: axum::Error) -> Self {
        Self::Gone
    }
}

async fn converse(service: Service, mut socket: WebSocket, request: Request) {
    let close = match speak(&service, &mut socket, request).await {
        Ok(()) => {
            let _ = socket.send(Message::text(json!({"audio": null, "isFinal": true}).to_string())).await;
            CloseFrame { code: close_code::NORMAL, reason: "".into() }
        }
        Err(Over::Gone) => return,
        Err(Over::Wrong(error)) => {
            let told = json!({"error": error.code(), "message": error.for_client(), "isFinal": true});
            let _ = socket.send(Message::text(told.to_string())).await;
            let code = match error.fault() {
                crate::Fault::Client => close_code::POLICY,
                crate::Fault::Later => close_code::AGAIN,
                crate::Fault::Server => close_code::ERROR,
            };
            CloseFrame { code, reason: error.code().into() }
        }
    };
    let _ = socket.send(Message::Close(Some(close))).await;
}

/// Speaks until the text has ended and all of its audio has been sent.
async fn speak(service: &Service, socket: &mut WebSocket, mut request: Request) -> Result<(), Over> {
    let idle = service.limits().idle;
    // The first message has the settings.
    let first = loop {
        match receive(socket, idle).await? {
            Received::Text(message) => break message,
            Received::Nothing => {}
            Received::Silence => return Err(Over::Gone),
        }
    };
    request.speed = first.voice_settings.as_ref().and_then(|settings| settings.speed);
    request.seed = first.seed;
    let (writer, mut speech) = service.speak_arriving(request).await?;
    let mut writer = Some(writer);
    take(&mut writer, &first)?;
    loop {
        tokio::select! {
            biased;
            item = speech.next() => match item.transpose()? {
                Some(audio) => give(socket, audio).await?,
                None => return Ok(()),
            },
            received = receive(socket, idle) => match received? {
                Received::Text(message) => take(&mut writer, &message)?,
                Received::Nothing => {}
                Received::Silence if writer.is_some() => return Err(Over::Gone),
                // A client that has sent all its text only listens.
                Received::Silence => {}
            },
        }
    }
}

/// An event from the client.
enum Received {
    Text(TextMessage),
    /// An event that needs no answer.
    Nothing,
    /// Silence for the maximum allowed time.
    Silence,
}

async fn receive(socket: &mut WebSocket, idle: Duration) -> Result<Received, Over> {
    let Ok(message) = timeout(idle, socket.recv()).await else { return Ok(Received::Silence) };
    match message.ok_or(Over::Gone)?? {
        Message::Text(text) => {
            let message = serde_json::from_str(&text);
            Ok(Received::Text(message.map_err(|error| Error::Request(format!("the message: {error}")))?))
        }
        Message::Binary(_) => {
            Err(Error::Request("the message: expected JSON as text, found bytes".to_owned()).into())
        }
        Message::Close(_) => Err(Over::Gone),
        Message::Ping(_) | Message::Pong(_) => Ok(Received::Nothing),
    }
}

/// Adds text; an empty text ends it.
fn take(writer: &mut Option<Writer>, message: &TextMessage) -> Result<()> {
    if message.text.is_empty() && message.flush != Some(true) {
        *writer = None;
    }
    if let Some(writer) = writer {
        writer.push(&message.text)?;
        if message.flush == Some(true) {
            writer.flush();
        }
    }
    Ok(())
}

async fn give(socket: &mut WebSocket, audio: Audio) -> Result<(), Over> {
    if audio.bytes.is_empty() && audio.utterance.is_none() {
        return Ok(());
    }
    let alignment = audio.utterance.as_deref().map_or(Value::Null, alignment);
    let message = json!({"audio": STANDARD.encode(&audio.bytes), "alignment": alignment, "isFinal": null});
    Ok(socket.send(Message::text(message.to_string())).await?)
}
