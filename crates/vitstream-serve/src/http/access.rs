//! Access control.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::Access;
use super::fault::HttpError;

/// The header in which ElevenLabs' clients send the key.
const ELEVENLABS_KEY: &str = "xi-api-key";

/// Keys, one of which a client must send. Only their hashes are stored.
#[derive(Clone)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Reads keys from the lines of a text; `None` if it has none. White space around a key and empty lines
    /// are ignored.
    pub fn from_lines(text: &str) -> Option<Self> {
        let keys = text.lines().map(str::trim).filter(|key| !key.is_empty());
        let hashes: Vec<[u8; 32]> = keys.map(|key| Sha256::digest(key).into()).collect();
        (!hashes.is_empty()).then_some(Self(hashes))
    }

    /// Returns true if `key` is one of them. The time it takes reveals nothing about them: all hashes are
    /// compared, each as a whole.
    fn knows(&self, key: &[u8]) -> bool {
        let hash: [u8; 32] = Sha256::digest(key).into();
        let found = self.0.iter().fold(Choice::from(0), |found, known| found | known.ct_eq(&hash));
        found.into()
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

fn key_of(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(|value| {
        let value = value.as_bytes();
        let (scheme, key) = value.split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key.trim_ascii())
    });
    bearer.or_else(|| Some(headers.get(ELEVENLABS_KEY)?.as_bytes()))
}

/// Refuses requests without a valid key.
pub(super) async fn check_key(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let may = match &access.keys {
        None => true,
        Some(keys) => key_of(request.headers()).is_some_and(|key| keys.knows(key)),
    };
    if may {
        return next.run(request).await;
    }
    HttpError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", "expected a valid key for this server")
        .into_response()
}

/// Refuses requests from pages of other origins. Browsers let every page send requests to every address, and
/// only withhold the response; for WebSockets they do not even do that.
pub(super) async fn check_origin(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let may = headers.get(ORIGIN).is_none_or(|origin| {
        let own = headers.get(HOST).is_some_and(|host| {
            let origin = origin.as_bytes();
            let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_bytes()))
        });
        own || access.origins.contains(origin)
    });
    if may {
        return next.run(request).await;
    }
    HttpError::new(
        StatusCode::FORBIDDEN,
        "origin_not_allowed",
        "pages of this origin may not use this server",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_whole_lines() {
        assert!(Keys::from_lines(" \n\n").is_none());
        let keys = Keys::from_lines("one\n two \r\n\n").unwrap();
        assert!(keys.knows(b"one") && keys.knows(b"two"));
        assert!(!keys.knows(b"") && !keys.knows(b"on") && !keys.knows(b"one\ntwo"));
        assert_eq!(format!("{keys:?}"), "2 keys");
    }

    #[test]
    fn keys_come_in_two_ways() {
        let with = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            key_of(&headers).map(<[u8]>::to_vec)
        };
        assert_eq!(with("authorization", "bearer  one").as_deref(), Some(&b"one"[..]));
        assert_eq!(with("xi-api-key", "one").as_deref(), Some(&b"one"[..]));
        assert_eq!(with("authorization", "Basic one"), None);
        assert_eq!(with("authorization", "Bea"), None);
    }
}
