//! Error responses in OpenAI's form, which its clients show to their users.

use axum::Json;
use axum::http::header::{CONNECTION, RETRY_AFTER, UPGRADE};
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::error::{Error, Fault, bounded};

/// An error response.
#[derive(Debug)]
pub(super) struct HttpError {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Seconds after which the client may try again.
    retry_after: Option<u64>,
}

/// The body of an error response.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    error: ErrorDetails,
}

/// The details of an error.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorDetails {
    /// A message for people.
    message: String,
    /// `invalid_request_error` or `server_error`.
    r#type: &'static str,
    /// Always null.
    param: Option<String>,
    /// A code for programs.
    code: &'static str,
}

/// Other responses to a speech request with a body, for the OpenAPI description.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by utoipa's macros")]
pub(super) enum Refused {
    /// The request is not valid
    #[response(status = 400)]
    Senseless(ErrorBody),
    /// No key, or a wrong one
    #[response(status = 401)]
    Keyless(ErrorBody),
    /// The request comes from a page that may not use this server
    #[response(status = 403)]
    Foreign(ErrorBody),
    /// There is no such voice
    #[response(status = 404)]
    Voiceless(ErrorBody),
    /// The body arrived too slowly
    #[response(status = 408)]
    Slow(ErrorBody),
    /// The text or the body is too long
    #[response(status = 413)]
    Long(ErrorBody),
    /// Too many listeners; see Retry-After
    #[response(status = 503)]
    Many(ErrorBody),
}

impl HttpError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl AsRef<str>) -> Self {
        Self { status, code, message: bounded(message.as_ref()), retry_after: None }
    }

    pub(super) fn request(message: impl AsRef<str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }
}

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        let status = match (&error, error.fault()) {
            (Error::UnknownVoice(_), _) => StatusCode::NOT_FOUND,
            (Error::TooLarge(_), _) => StatusCode::PAYLOAD_TOO_LARGE,
            (_, Fault::Client) => StatusCode::BAD_REQUEST,
            (_, Fault::Later) => StatusCode::SERVICE_UNAVAILABLE,
            (_, Fault::Server) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let retry_after = match &error {
            Error::Overloaded(after) => Some(after.as_secs().max(1)),
            Error::Draining => Some(1),
            _ => None,
        };
        Self { status, code: error.code(), message: error.for_client(), retry_after }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let r#type = if self.status.is_server_error() { "server_error" } else { "invalid_request_error" };
        let details = ErrorDetails { message: self.message, r#type, param: None, code: self.code };
        let mut response = (self.status, Json(ErrorBody { error: details })).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UPGRADE_REQUIRED {
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        if self.status == StatusCode::REQUEST_TIMEOUT {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

pub(super) async fn not_found(uri: Uri) -> HttpError {
    HttpError::new(StatusCode::NOT_FOUND, "not_found", format!("there is nothing at {}", uri.path()))
}

pub(super) async fn not_allowed(method: Method, uri: Uri) -> HttpError {
    let message = format!("{method} is not allowed for {}", uri.path());
    HttpError::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
