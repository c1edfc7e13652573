//! The page at `/`: plays the speech of a voice for a text.

use axum::extract::{Path, Query, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{Method, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::fault;
use super::piper::TextQuery;

/// The page loads nothing from other origins, and no other page may frame it. Its icon is an empty one in its
/// head.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers requests for `/` that contain no text to speak with the page. The page needs no key: it asks the
/// user for one itself.
pub(super) async fn unless_spoken(request: Request, next: Next) -> Response {
    let asks = matches!(*request.method(), Method::GET | Method::HEAD) && request.uri().path() == "/";
    let query = Query::<TextQuery>::try_from_uri(request.uri());
    if asks && query.is_ok_and(|Query(query)| query.text.is_none()) {
        return file("text/html; charset=utf-8", include_str!("../../page/index.html"));
    }
    next.run(request).await
}

/// Serves the files of the page.
pub(super) async fn part(Path(name): Path<String>, uri: Uri) -> Response {
    match name.as_str() {
        "page.js" => file("text/javascript; charset=utf-8", include_str!("../../page/page.js")),
        "player.js" => file("text/javascript; charset=utf-8", include_str!("../../page/player.js")),
        "style.css" => file("text/css; charset=utf-8", include_str!("../../page/style.css")),
        _ => fault::not_found(uri).await.into_response(),
    }
}

fn file(media_type: &'static str, content: &'static str) -> Response {
    let headers = [
        (CONTENT_TYPE, media_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Another version of the server has another page.
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, content).into_response()
}
