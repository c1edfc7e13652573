//! The interface of Piper's own HTTP server, in its current and earlier forms.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use vitstream::Speaker;

use super::body::{Sound, Whole, audio};
use super::fault::{ErrorBody, HttpError, Refused};
use super::openai::SpeakerName;
use crate::audio::Format;
use crate::service::{Rate, Request, Said, Service};

/// A request for speech. Unknown fields are ignored.
#[derive(Deserialize, ToSchema)]
pub(super) struct SynthesizeRequest {
    /// The text
    #[schema(pattern = r"\S")]
    text: String,
    /// The voice; the default one if absent
    voice: Option<String>,
    /// The speaker
    speaker: Option<SpeakerName>,
    /// The speaker by number
    speaker_id: Option<i64>,
    /// Slowness of speech
    length_scale: Option<f32>,
    /// Variation of the voice
    noise_scale: Option<f32>,
    /// Variation of durations
    #[serde(alias = "noise_w")]
    noise_w_scale: Option<f32>,
    /// Seed for reproducible audio
    #[schema(format = "uint64")]
    seed: Option<u64>,
}

/// A text in the query.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TextQuery {
    /// The text
    #[param(pattern = r"\S")]
    pub(super) text: Option<String>,
}

/// Speaks a text as a WAV file, streamed while it is spoken
///
/// The body is JSON, or a plain text.
#[utoipa::path(post, path = "/", operation_id = "piper_speech", request_body(content((SynthesizeRequest = "application/json"), (String = "text/plain"))),
    responses(
        (status = 200, description = "A WAV file", body = Sound, content_type = "audio/wav"),
        Refused,
    ))]
pub(super) async fn speech(
    State(service): State<Service>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, HttpError> {
    // `curl -d` declares everything as a form, so an undeclared body may still be JSON.
    if body.is_object() || is_json(&headers) {
        return speak(&service, body.json()?).await;
    }
    let text = std::str::from_utf8(&body.0)
        .map_err(|_| HttpError::request("the body: expected JSON with `text`, or a text in UTF-8"))?;
    speak(&service, SynthesizeRequest::of(text)).await
}

/// Speaks a text as a WAV file, streamed while it is spoken
///
/// The body is JSON, or a plain text.
#[utoipa::path(post, path = "/synthesize", request_body(content((SynthesizeRequest = "application/json"), (String = "text/plain"))),
    responses(
        (status = 200, description = "A WAV file", body = Sound, content_type = "audio/wav"),
        Refused,
    ))]
#[expect(dead_code, reason = "the description of the other address of `speech`")]
pub(super) async fn synthesize() {}

/// Speaks a text in the query as a WAV file, streamed while it is spoken
#[utoipa::path(get, path = "/", operation_id = "piper_get_speech", params(TextQuery), responses(
    (status = 200, description = "A WAV file, or without a text a page to speak with",
        content((Sound = "audio/wav"), (String = "text/html"))),
    (status = 400, description = "The request is not valid", body = ErrorBody),
    (status = 401, description = "No key, or a wrong one", body = ErrorBody),
    (status = 403, description = "The request comes from a page that may not use this server", body = ErrorBody),
    (status = 413, description = "The text is too long", body = ErrorBody),
    (status = 503, description = "Too many listeners; see Retry-After", body = ErrorBody),
))]
pub(super) async fn get_speech(
    State(service): State<Service>,
    query: Result<Query<TextQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, HttpError> {
    let Query(query) = query.map_err(|error| HttpError::request(error.body_text()))?;
    // Without a text, the page was the response.
    speak(&service, SynthesizeRequest::of(query.text.as_deref().unwrap_or_default())).await
}

fn is_json(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.and_then(|value| value.split(';').next()).map(str::trim);
    media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/json"))
}

async fn speak(service: &Service, asked: SynthesizeRequest) -> Result<Response, HttpError> {
    if asked.text.trim().is_empty() {
        return Err(HttpError::request("text: expected a text, found none"));
    }
    let request = Request {
        protocol: "piper",
        voice: asked.voice,
        speaker: asked.speaker.map(Speaker::from).or(asked.speaker_id.map(Speaker::Id)),
        length_scale: asked.length_scale,
        noise_scale: asked.noise_scale,
        noise_w: asked.noise_w_scale,
        seed: asked.seed,
        rate: Rate::Own,
        ..Request::default()
    };
    let speech = service.speak(request, Said::Text(asked.text)).await?;
    audio(speech, Format::Wav).await
}

/// The available voices with their JSON
#[utoipa::path(get, path = "/voices", operation_id = "piper_voices",
    responses((status = 200, description = "An object by names", body = HashMap<String, Value>)))]
pub(super) async fn voices(State(service): State<Service>) -> Json<Value> {
    let voices = service.voices().descriptions().into_iter();
    let voices: Map<String, Value> =
        voices.map(|voice| (voice.name, Value::Object((*voice.json).clone()))).collect();
    Json(Value::Object(voices))
}

/// Information about the server.
#[derive(Serialize, ToSchema)]
pub(super) struct Info {
    name: &'static str,
    version: &'static str,
    /// The default voice
    default_voice: String,
}

/// Information about this server
#[utoipa::path(get, path = "/info", responses((status = 200, description = "An object", body = Info)))]
pub(super) async fn info(State(service): State<Service>) -> Json<Info> {
    let default_voice = service.voices().default_name().to_owned();
    Json(Info { name: "vitstream", version: env!("CARGO_PKG_VERSION"), default_voice })
}

impl SynthesizeRequest {
    fn of(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            voice: None,
            speaker: None,
            speaker_id: None,
            length_scale: None,
            noise_scale: None,
            noise_w_scale: None,
            seed: None,
        }
    }
}
