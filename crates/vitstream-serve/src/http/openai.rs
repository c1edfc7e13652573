//! OpenAI's speech API.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use vitstream::Speaker;

use super::body::{Sound, Whole, audio, events};
use super::fault::{HttpError, Refused};
use crate::audio::Format;
use crate::service::{Rate, Request, Said, Service};

/// The name of the only model. Clients must name one, so every name is accepted.
const MODEL: &str = "vitstream";

/// A request for speech. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(super) struct SpeechRequest {
    /// The text
    #[schema(pattern = r"\S")]
    input: String,
    /// The voice; the default one if absent
    voice: Option<VoiceName>,
    /// Ignored: every voice is its own model
    #[serde(rename = "model", default)]
    _model: Option<Value>,
    /// mp3 if absent
    #[schema(value_type = Option<Format>)]
    response_format: Option<String>,
    /// Speed
    #[schema(minimum = 0.25, maximum = 4)]
    speed: Option<f32>,
    /// Only audio if absent
    stream_format: Option<StreamFormat>,
    /// A common rate that the format supports; 24,000 for pcm, mp3 and opus if absent
    #[schema(minimum = 8000, maximum = 48000)]
    sample_rate: Option<u32>,
    /// The voice's speaker, by name or number
    speaker: Option<SpeakerName>,
    /// Seed for reproducible audio
    #[schema(format = "uint64")]
    seed: Option<u64>,
}

/// The form of a response.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
enum StreamFormat {
    /// The audio.
    #[default]
    Audio,
    /// Server-sent events.
    Sse,
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
#[utoipa::path(post, path = "/v1/audio/speech", operation_id = "openai_speech", request_body = SpeechRequest, responses(
    (status = 200, description = "The audio as it is spoken, or server-sent events with it", content(
        (Sound = "audio/mpeg"), (Sound = "audio/opus"), (Sound = "audio/wav"), (Sound = "audio/pcm"), (Sound = "audio/flac"),
        (Sound = "audio/basic"), (Value = "text/event-stream"),
    )),
    Refused,
))]
pub(super) async fn speech(State(service): State<Service>, body: Whole) -> Result<Response, HttpError> {
    let asked: SpeechRequest = body.json()?;
    if asked.input.trim().is_empty() {
        return Err(HttpError::request("input: expected a text, found none"));
    }
    let format = Format::by_name(asked.response_format.as_deref().unwrap_or("mp3"))?;
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
    match asked.stream_format.unwrap_or_default() {
        StreamFormat::Audio => audio(speech, format).await,
        StreamFormat::Sse => events(speech, characters).await,
    }
}

/// A list in OpenAI's form.
#[derive(Serialize, ToSchema)]
pub(super) struct Models {
    object: &'static str,
    data: Vec<Model>,
}

/// The model that represents every voice.
#[derive(Serialize, ToSchema)]
struct Model {
    id: &'static str,
    object: &'static str,
    /// Seconds since 1970
    created: u64,
    owned_by: &'static str,
}

/// The models; there is only one
#[utoipa::path(get, path = "/v1/models", responses((status = 200, description = "A list", body = Models)))]
pub(super) async fn models() -> Json<Models> {
    let model = Model { id: MODEL, object: "model", created: 0, owned_by: "vitstream" };
    Json(Models { object: "list", data: vec![model] })
}

/// A list in Open WebUI's form.
#[derive(Serialize, ToSchema)]
pub(super) struct VoiceList {
    voices: Vec<ListedVoice>,
}

/// An available voice.
#[derive(Serialize, ToSchema)]
struct ListedVoice {
    id: String,
    name: String,
    /// Such as `en_US`; `und` if unknown
    language: String,
    /// The speakers' names, the default one first; empty for a voice with one speaker
    speakers: Vec<String>,
}

/// The available voices, in Open WebUI's form
#[utoipa::path(get, path = "/v1/audio/voices", operation_id = "openai_voices",
    responses((status = 200, description = "A list", body = VoiceList)))]
pub(super) async fn voices(State(service): State<Service>) -> Json<VoiceList> {
    let voices = service.voices().descriptions().into_iter();
    let voices = voices.map(|voice| ListedVoice {
        id: voice.name.clone(),
        name: voice.name,
        language: voice.language,
        speakers: voice.speakers,
    });
    Json(VoiceList { voices: voices.collect() })
}

/// A list in Open WebUI's form.
#[derive(Serialize, ToSchema)]
pub(super) struct AudioModels {
    models: Vec<AudioModel>,
}

/// The model that represents every voice.
#[derive(Serialize, ToSchema)]
struct AudioModel {
    id: &'static str,
    name: &'static str,
}

/// The models, in Open WebUI's form
#[utoipa::path(get, path = "/v1/audio/models", responses((status = 200, description = "A list", body = AudioModels)))]
pub(super) async fn audio_models() -> Json<AudioModels> {
    Json(AudioModels { models: vec![AudioModel { id: MODEL, name: MODEL }] })
}
