//! Bodies of requests, which have to arrive in time, and of answers, which are sent as the speech is
//! computed.

use std::io;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::alignment::timestamps;
use super::fault::HttpError;
use crate::audio::Format;
use crate::reading::Audio;
use crate::service::{Service, Speech};

/// Tells nginx not to buffer the answer.
const UNBUFFERED: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The header that identifies the request in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A complete request body, bounded in size and in time.
pub(super) struct Whole(pub(super) Bytes);

impl FromRequest<Service> for Whole {
    type Rejection = HttpError;

    async fn from_request(request: Request, service: &Service) -> Result<Self, HttpError> {
        let limits = service.limits();
        match timeout(limits.arrival, Bytes::from_request(request, service)).await {
            Ok(Ok(bytes)) => Ok(Self(bytes)),
            Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(HttpError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                format!("the body has more than {} bytes", limits.body),
            )),
            Ok(Err(_)) => Err(HttpError::request("the body is incomplete")),
            Err(_) => Err(HttpError::new(
                StatusCode::REQUEST_TIMEOUT,
                "timeout",
                format!("the body did not arrive within {} s", limits.arrival.as_secs()),
            )),
        }
    }
}

impl Whole {
    /// True if it begins like a JSON object.
    pub(super) fn is_object(&self) -> bool {
        self.0.trim_ascii_start().first() == Some(&b'{')
    }

    /// Parses the JSON, which has to be an object: serde would also accept an array of the fields without
    /// names, which no client means.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, HttpError> {
        if !self.is_object() {
            return Err(HttpError::request("the body: expected a JSON object"));
        }
        serde_json::from_slice(&self.0).map_err(|error| HttpError::request(format!("the body: {error}")))
    }
}

/// Bytes of audio, for the API description.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "read by utoipa's macros")]
pub(super) struct Sound(Bytes);

/// The audio of an answer.
struct Pieces {
    /// The first piece, computed before the answer begins: until then an error can set the status.
    first: Option<Audio>,
    /// The rest of the speech; `None` after the last piece or an error.
    speech: Option<Speech>,
}

impl Pieces {
    async fn of(mut speech: Speech) -> Result<Self, HttpError> {
        loop {
            match speech.next().await.transpose()? {
                // An encoder may need more samples.
                Some(audio) if audio.bytes.is_empty() => {}
                first => return Ok(Self { first, speech: Some(speech) }),
            }
        }
    }

    async fn next(&mut self) -> Option<crate::Result<Audio>> {
        if let Some(audio) = self.first.take() {
            return Some(Ok(audio));
        }
        let item = self.speech.as_mut()?.next().await;
        if !matches!(item, Some(Ok(_))) {
            self.speech = None;
        }
        item
    }
}

/// Answers with the audio as it is computed.
pub(super) async fn audio(speech: Speech, format: Format) -> Result<Response, HttpError> {
    let media_type = match format {
        // Raw samples carry no description of themselves.
        Format::Pcm => format!("{};rate={};channels=1", format.media_type(), speech.sample_rate()),
        _ => format.media_type().to_owned(),
    };
    let number = speech.number();
    let body = stream::unfold(Pieces::of(speech).await?, |mut pieces| async move {
        let item = pieces.next().await?;
        // The answer has begun, so an error aborts it.
        let bytes = item.map(|audio| audio.bytes).map_err(|error| io::Error::other(error.for_client()));
        Some((bytes, pieces))
    });
    Ok(streamed(Body::from_stream(body), &media_type, number))
}

/// Answers with the audio as OpenAI's server-sent events.
pub(super) async fn events(speech: Speech, characters: usize) -> Result<Response, HttpError> {
    let number = speech.number();
    let body = stream::unfold(Some(Pieces::of(speech).await?), move |pieces| async move {
        let mut pieces = pieces?;
        let (event, pieces) = match pieces.next().await {
            Some(Ok(audio)) => {
                (json!({"type": "speech.audio.delta", "audio": STANDARD.encode(audio.bytes)}), Some(pieces))
            }
            Some(Err(error)) => (
                json!({"type": "error", "error": {"message": error.for_client(), "code": error.code()}}),
                None,
            ),
            None => {
                // This server has no tokens; other services charge by characters.
                let usage =
                    json!({"input_tokens": characters, "output_tokens": 0, "total_tokens": characters});
                (json!({"type": "speech.audio.done", "usage": usage}), None)
            }
        };
        Some((Ok::<_, io::Error>(format!("data: {event}\n\n")), pieces))
    });
    Ok(streamed(Body::from_stream(body), "text/event-stream", number))
}

/// Answers with the audio as ElevenLabs' lines of JSON. Each line has the times of an utterance's characters,
/// counted from the first sample of that line's audio.
pub(super) async fn timed(speech: Speech) -> Result<Response, HttpError> {
    let number = speech.number();
    let body = stream::unfold(Pieces::of(speech).await?, |mut pieces| async move {
        let line = match pieces.next().await? {
            Ok(audio) => {
                let alignment = audio.utterance.as_deref().map(timestamps);
                json!({"audio_base64": STANDARD.encode(audio.bytes), "alignment": alignment})
            }
            Err(error) => json!({"error": {"message": error.for_client(), "code": error.code()}}),
        };
        Some((Ok::<_, io::Error>(format!("{line}\n")), pieces))
    });
    Ok(streamed(Body::from_stream(body), "application/x-ndjson", number))
}

fn streamed(body: Body, media_type: &str, number: u64) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(media_type) {
        headers.insert(CONTENT_TYPE, value);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(UNBUFFERED, HeaderValue::from_static("no"));
    headers.insert(REQUEST_ID, HeaderValue::from(number));
    response
}
