//! What Piper's own HTTP server is asked: the one of today and those before it.

use axum::Json;
use axum::extract::{Query, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use vitstream::Speaker;

use super::body::{Whole, audio};
use super::fault::{ErrorBody, HttpError, Refused};
use super::openai::SpeakerName;
use crate::audio::Format;
use crate::service::{Rate, Request, Said, Service};

/// What is to be spoken. Fields that are not known are ignored.
#[derive(Deserialize, ToSchema)]
pub(super) struct SynthesizeRequest {
    /// The text
    text: String,
    /// Which voice; the default one when absent
    voice: Option<String>,
    /// Which of its speakers
    speaker: Option<SpeakerName>,
    /// The same by number
    speaker_id: Option<i64>,
    /// How slowly
    length_scale: Option<f32>,
    /// How much the voice varies
    noise_scale: Option<f32>,
    /// How much durations vary
    #[serde(alias = "noise_w")]
    noise_w_scale: Option<f32>,
    /// Makes the same request the same audio
    seed: Option<u64>,
}

/// A text in the address.
#[derive(Deserialize, IntoParams)]
pub(super) struct TextQuery {
    /// The text
    pub(super) text: Option<String>,
}

/// Speaks a text: a WAV file as it is spoken
///
/// The body is JSON, or a plain text.
#[utoipa::path(post, path = "/", request_body(content((SynthesizeRequest = "application/json"), (String = "text/plain"))),
    responses(
        (status = 200, description = "A WAV file", content_type = "audio/wav"),
        Refused,
    ))]
pub(super) async fn speech(State(service): State<Service>, body: Whole) -> Result<Response, HttpError> {
    let is_json = body.0.trim_ascii_start().first() == Some(&b'{');
    if is_json {
        return speak(&service, body.json()?).await;
    }
    let text = std::str::from_utf8(&body.0)
        .map_err(|_| HttpError::request("the body: expected JSON with `text`, or a text in UTF-8"))?;
    speak(&service, SynthesizeRequest::of(text)).await
}

/// Speaks a text: a WAV file as it is spoken
#[utoipa::path(post, path = "/synthesize", request_body = SynthesizeRequest, responses(
    (status = 200, description = "A WAV file", content_type = "audio/wav"),
    Refused,
))]
#[expect(dead_code, reason = "the description of the other address of `speech`")]
pub(super) async fn synthesize() {}

/// Speaks a text of the address: a WAV file as it is spoken
#[utoipa::path(get, path = "/", params(TextQuery), responses(
    (status = 200, description = "A WAV file, or without a text a page to speak with"),
    (status = 400, description = "The request makes no sense", body = ErrorBody),
    (status = 401, description = "No key, or a wrong one", body = ErrorBody),
    (status = 413, description = "The text is too long", body = ErrorBody),
    (status = 503, description = "Too many listeners; see Retry-After", body = ErrorBody),
))]
pub(super) async fn get_speech(
    State(service): State<Service>,
    query: Result<Query<TextQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, HttpError> {
    let Query(query) = query.map_err(|error| HttpError::request(error.body_text()))?;
    // Without one the page was the answer.
    speak(&service, SynthesizeRequest::of(query.text.as_deref().unwrap_or_default())).await
}

async fn speak(service: &Service, asked: SynthesizeRequest) -> Result<Response, HttpError> {
    if asked.text.trim().is_empty() {
        return Err(HttpError::request("text: expected one, found none"));
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

/// The voices that can speak, each with its JSON
#[utoipa::path(get, path = "/voices", responses((status = 200, description = "An object by names")))]
pub(super) async fn voices(State(service): State<Service>) -> Json<Value> {
    let voices = service.voices().descriptions().into_iter();
    let voices: Map<String, Value> =
        voices.map(|voice| (voice.name, Value::Object((*voice.json).clone()))).collect();
    Json(Value::Object(voices))
}

/// What this server is
#[utoipa::path(get, path = "/info", responses((status = 200, description = "An object")))]
pub(super) async fn info(State(service): State<Service>) -> Json<Value> {
    Json(json!({
        "name": "vitstream",
        "version": env!("CARGO_PKG_VERSION"),
        "default_voice": service.voices().default_name(),
    }))
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
