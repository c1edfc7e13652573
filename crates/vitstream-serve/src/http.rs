//! HTTP: access control, error responses, and the routes.
#![allow(unused_qualifications, reason = "utoipa's macros write them")]

mod access;
mod alignment;
mod body;
mod elevenlabs;
mod fault;
mod openai;
mod operations;
mod page;
mod piper;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::HeaderValue;
use axum::middleware;
use axum::routing::{get, post};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};

use crate::service::Service;
pub use access::Keys;

/// Access control for HTTP.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// One of these keys is required, if there are any.
    pub keys: Option<Keys>,
    /// Other origins whose pages may use it, such as `https://example.org`. By default, only pages of its own
    /// address may.
    pub origins: Vec<HeaderValue>,
}

/// All routes.
pub fn router(service: Service, access: Access) -> Router {
    let limit = service.limits().body;
    let origins = access.origins.clone();
    let access = Arc::new(access);
    let guarded = Router::new()
        .route("/", get(piper::get_speech).post(piper::speech))
        .route("/synthesize", post(piper::speech))
        .route("/voices", get(piper::voices))
        .route("/info", get(piper::info))
        .route("/v1/audio/speech", post(openai::speech))
        .route("/v1/models", get(openai::models))
        .route("/v1/audio/voices", get(openai::voices))
        .route("/v1/audio/models", get(openai::audio_models))
        .route("/v1/text-to-speech/{voice}", post(elevenlabs::speech))
        .route("/v1/text-to-speech/{voice}/stream", post(elevenlabs::speech))
        .route("/v1/text-to-speech/{voice}/stream/with-timestamps", post(elevenlabs::speech_with_timestamps))
        .route("/v1/text-to-speech/{voice}/stream-input", get(elevenlabs::stream_input))
        .route_layer(middleware::from_fn_with_state(access.clone(), access::check_key))
        .route_layer(middleware::from_fn(page::unless_spoken));
    let open = Router::new()
        .route("/page/{name}", get(page::part))
        .route("/healthz", get(operations::health))
        .route("/readyz", get(operations::ready))
        .route("/metrics", get(operations::metrics))
        .route("/openapi.json", get(operations::description));
    let router = guarded
        .merge(open)
        .fallback(fault::not_found)
        .method_not_allowed_fallback(fault::not_allowed)
        .layer(middleware::from_fn_with_state(access, access::check_origin))
        .layer(DefaultBodyLimit::max(limit))
        .with_state(service);
    if origins.is_empty() {
        return router;
    }
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods(AllowMethods::mirror_request())
        .allow_headers(AllowHeaders::mirror_request());
    router.layer(cors)
}
