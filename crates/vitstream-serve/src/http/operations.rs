//! Endpoints for operators.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::OpenApi;

use super::{elevenlabs, fault, openai, piper};
use crate::audio::Format;
use crate::metrics::MEDIA_TYPE;
use crate::service::Service;

/// The whole HTTP interface.
#[derive(OpenApi)]
#[openapi(
    info(title = "vitstream serve", description = "Speech of VITS and Piper voices, streamed."),
    paths(
        openai::speech,
        openai::models,
        openai::voices,
        openai::audio_models,
        piper::speech,
        piper::synthesize,
        piper::get_speech,
        piper::voices,
        piper::info,
        elevenlabs::speech,
        elevenlabs::speech_with_timestamps,
        elevenlabs::stream_input,
        health,
        ready,
        metrics,
        description,
    ),
    components(schemas(Format, fault::ErrorBody, fault::ErrorDetails))
)]
struct Description;

/// Reports that the server is alive
#[utoipa::path(get, path = "/healthz", responses((status = 200, description = "It does", body = String)))]
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// Reports whether requests are served, regardless of their number
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "They are", body = String),
    (status = 503, description = "Voices are still being opened, the default one cannot be, or the server is ending",
        body = String),
))]
pub(super) async fn ready(State(service): State<Service>) -> impl IntoResponse {
    if service.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// Metrics for Prometheus
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "OpenMetrics as text", body = String,
    content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(service): State<Service>) -> impl IntoResponse {
    ([(CONTENT_TYPE, MEDIA_TYPE)], service.metrics())
}

/// This OpenAPI description
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, description = "OpenAPI", body = Value)))]
pub(super) async fn description() -> impl IntoResponse {
    let json = Description::openapi().to_json().unwrap_or_default();
    ([(CONTENT_TYPE, "application/json")], json)
}
