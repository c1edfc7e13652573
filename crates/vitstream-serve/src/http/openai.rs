//! OpenAI's speech, as its clients ask for it.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use vitstream::Speaker;

use super::body::{Whole, audio, events};
use super::fault::{HttpError, Refused};
use crate::audio::Format;
use crate::service::{Rate, Request, Said, Service};

/// What the one model is called. Clients insist on naming one, so every name is taken.
const MODEL: &str = "vitstream";

/// What is to be spoken. Fields that are not known are ignored.
#[derive(Deserialize, ToSchema)]
pub(super) struct SpeechRequest {
    /// The text
    input: String,
    /// Which voice; the default one when absent
    voice: Option<VoiceName>,
    /// Ignored: every voice is its own model
    #[schema(value_type = Option<String>)]
    #[serde(rename = "model", default)]
    _model: Option<Value>,
    /// mp3 when absent
    #[schema(value_type = Option<Format>)]
    response_format: Option<String>,
    /// 0.25 to 4
    speed: Option<f32>,
    /// `audio` or `sse`
    stream_format: Option<String>,
    /// A usual one from 8,000 to 48,000 hertz that the format has; 24,000 for pcm, mp3 and opus when absent
    sample_rate: Option<u32>,
    /// Which of the voice's speakers, by name or number
    speaker: Option<SpeakerName>,
    /// Makes the same request the same audio
    seed: Option<u64>,
}

/// A name, or an object with one.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum VoiceName {
    Name(String),
    Object { id: String },
}

/// A name, or a number.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum SpeakerName {
    Number(i64),
    Name(String),
}

impl From<SpeakerName> for Speaker {
    fn from(speaker: SpeakerName) -> Self {
        match speaker {
            SpeakerName::Number(id) => Self::Id(id),
            SpeakerName::Name(name) => Self::Name(name),
        }
    }
}

/// Speaks a text
#[utoipa::path(post, path = "/v1/audio/speech", request_body = SpeechRequest, responses(
    (status = 200, description = "The audio as it is spoken, or server-sent events with it"),
    Refused,
))]
pub(super) async fn speech(State(service): State<Service>, body: Whole) -> Result<Response, HttpError> {
    let asked: SpeechRequest = body.json()?;
    if asked.input.trim().is_empty() {
        return Err(HttpError::request("input: expected a text, found none"));
    }
    let format = Format::by_name(asked.response_format.as_deref().unwrap_or("mp3"))?;
    let as_events = match asked.stream_format.as_deref() {
        None | Some("audio") => false,
        Some("sse") => true,
        Some(_) => return Err(HttpError::request("stream_format: expected audio or sse")),
    };
    let request = Request {
        protocol: "openai",
        voice: asked.voice.map(|voice| match voice {
            VoiceName::Name(name) | VoiceName::Object { id: name } => name,
        }),
        speaker: asked.speaker.map(Speaker::from),
        speed: asked.speed,
        seed: asked.seed,
        format,
        rate: asked.sample_rate.map_or(Rate::Usual, Rate::Hertz),
        ..Request::default()
    };
    let characters = asked.input.chars().count();
    let speech = service.speak(request, Said::Text(asked.input)).await?;
    if as_events { events(speech, characters).await } else { audio(speech, format).await }
}

/// The models; there is one
#[utoipa::path(get, path = "/v1/models", responses((status = 200, description = "A list")))]
pub(super) async fn models() -> Json<Value> {
    let model = json!({"id": MODEL, "object": "model", "created": 0, "owned_by": "vitstream"});
    Json(json!({"object": "list", "data": [model]}))
}

/// The voices that can speak, as Open WebUI reads them
#[utoipa::path(get, path = "/v1/audio/voices", responses((status = 200, description = "A list")))]
pub(super) async fn voices(State(service): State<Service>) -> Json<Value> {
    let voices = service.voices().descriptions();
    let voices: Vec<Value> = voices
        .iter()
        .map(|voice| {
            json!({"id": voice.name, "name": voice.name, "language": voice.language, "speakers": voice.speakers})
        })
        .collect();
    Json(json!({"voices": voices}))
}

/// The models, as Open WebUI reads them
#[utoipa::path(get, path = "/v1/audio/models", responses((status = 200, description = "A list")))]
pub(super) async fn audio_models() -> Json<Value> {
    Json(json!({"models": [{"id": MODEL, "name": MODEL}]}))
}
