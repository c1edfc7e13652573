//! A client for servers that are not trusted: it bounds the size of their answers and the time without data,
//! and sends the user's token to the hub only.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use ureq::http::header::{AUTHORIZATION, CONTENT_RANGE, LOCATION, RANGE};
use ureq::http::{HeaderMap, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

/// The hub redirects from the repository to a cache and on to a storage; more redirects than this are a loop.
const MOST_REDIRECTS: usize = 6;

/// The maximum size of the file of certificates that the user trusts.
const LONGEST_PEM: u64 = 16 << 20;

/// The HTTP client.
pub(super) struct Client {
    agent: Agent,
    /// The hub's origin, and the token that is sent to it alone.
    token: Option<(String, String)>,
    offline: bool,
    timeout: Duration,
}

/// A successful answer.
pub(super) struct Answer {
    pub(super) body: Body,
    /// The offset of the first byte, if a part was requested and sent; else 0.
    pub(super) from: u64,
}

/// The reason why a request failed.
pub(super) enum Failure {
    /// Another attempt may succeed.
    Passing(Error),
    Lasting(Error),
}

impl Client {
    pub(super) fn new(hub: &str, token: Option<String>, offline: bool, timeout: Duration) -> Result<Self> {
        let token = token.zip(origin(hub)).map(|(token, hub)| (hub, format!("Bearer {token}")));
        let config = Agent::config_builder()
            .user_agent(concat!("vitstream/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            // Redirects are followed in this module, which knows which origin may receive the token.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(timeout))
            .timeout_recv_response(Some(timeout))
            .timeout_per_read(Some(timeout))
            .timeout_per_write(Some(timeout))
            .tls_config(TlsConfig::builder().root_certs(trusted()?).build())
            .build();
        Ok(Self { agent: config.new_agent(), token, offline, timeout })
    }

    pub(super) fn is_offline(&self) -> bool {
        self.offline
    }

    /// Reads a short file completely.
    pub(super) fn get_whole(&self, url: &str, longest: u64) -> Result<Vec<u8>> {
        let Answer { body, .. } = self.get(url, 0).map_err(|failure| match failure {
            Failure::Passing(error) | Failure::Lasting(error) => error,
        })?;
        let mut bytes = Vec::new();
        let read = body.into_reader().take(longest + 1).read_to_end(&mut bytes);
        read.map_err(|error| anyhow!("{url}: {}", self.explain_read(&error)))?;
        ensure!(bytes.len() as u64 <= longest, "{url}: more than the {longest} bytes that were expected");
        Ok(bytes)
    }

    /// Requests the content from byte `from` on; it starts at byte 0 if the server ignores the range.
    pub(super) fn get(&self, url: &str, from: u64) -> Result<Answer, Failure> {
        if self.offline {
            return Err(Failure::Lasting(anyhow!("{url}: HF_HUB_OFFLINE is set")));
        }
        let mut at = url.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let mut request = self.agent.get(&at);
            if from > 0 {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            if let Some((hub, token)) = &self.token
                && origin(&at).as_ref() == Some(hub)
            {
                request = request.header(AUTHORIZATION, token);
            }
            let response = request.call().map_err(|error| self.explain(&at, error))?;
            let status = response.status().as_u16();
            match status {
                200 => return Ok(Answer { body: response.into_body(), from: 0 }),
                206 if first_byte(response.headers()) == Some(from) => {
                    return Ok(Answer { body: response.into_body(), from });
                }
                301 | 302 | 303 | 307 | 308 => {
                    let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                    at = to.and_then(|to| redirected(&at, to)).ok_or_else(|| {
                        Failure::Lasting(anyhow!(
                            "{at}: redirects, but not to an address that can be followed"
                        ))
                    })?;
                }
                _ => return Err(refused(&at, status)),
            }
        }
        Err(Failure::Lasting(anyhow!("{url}: redirected more than {MOST_REDIRECTS} times")))
    }

    fn explain(&self, url: &str, error: ureq::Error) -> Failure {
        match error {
            ureq::Error::Timeout(_) => {
                Failure::Passing(anyhow!("{url}: no answer for {} seconds", self.timeout.as_secs()))
            }
            ureq::Error::Io(_) | ureq::Error::ConnectionFailed | ureq::Error::Protocol(_) => {
                Failure::Passing(anyhow!("{url}: {error}"))
            }
            error => Failure::Lasting(anyhow!("{url}: {error}")),
        }
    }

    /// Describes an error that occurred while a body was read.
    pub(super) fn explain_read(&self, error: &std::io::Error) -> String {
        let timed_out = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref())
            .is_some_and(|inner| matches!(inner, ureq::Error::Timeout(_)));
        if timed_out || error.kind() == std::io::ErrorKind::TimedOut {
            return format!("no data for {} seconds", self.timeout.as_secs());
        }
        error.to_string()
    }
}

fn refused(url: &str, status: u16) -> Failure {
    match status {
        404 | 410 => Failure::Lasting(anyhow!("{url}: there is no such file (status {status})")),
        401 | 403 => Failure::Lasting(anyhow!(
            "{url}: access is restricted, or the file does not exist (status {status}); set HF_TOKEN to a token that has access"
        )),
        408 | 429 | 500..=599 => {
            Failure::Passing(anyhow!("{url}: the server cannot answer now (status {status})"))
        }
        _ => Failure::Lasting(anyhow!("{url}: unexpected status {status}")),
    }
}

/// Returns the offset of the first byte of a part, from `bytes 100-199/200`.
fn first_byte(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes")?;
    range.trim_start().split('-').next()?.parse().ok()
}

/// Returns scheme, host and port; `None` if `url` is not an address of the web.
pub(super) fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let port = match uri.scheme_str()? {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
    Some(format!("{}://{host}:{}", uri.scheme_str()?, uri.port_u16().unwrap_or(port)))
}

/// Resolves the redirect to `to` of the address `from`. An encrypted address must not redirect to an
/// unencrypted one.
fn redirected(from: &str, to: &str) -> Option<String> {
    let scheme = from.split("://").next()?;
    let url = match to {
        to if to.starts_with("//") => format!("{scheme}:{to}"),
        to if to.starts_with('/') => {
            let host = from.strip_prefix(scheme)?.strip_prefix("://")?.split(['/', '?']).next()?;
            format!("{scheme}://{host}{to}")
        }
        to => to.to_owned(),
    };
    (origin(&url)?.starts_with("https:") || scheme != "https").then_some(url)
}

/// Escapes a path for use in an address.
pub(super) fn escape(path: &str) -> String {
    let mut escaped = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// Returns the trusted certificates: those that are built into this program, so that it needs none of the
/// system's, or those of `SSL_CERT_FILE` instead, for networks that have their own.
fn trusted() -> Result<RootCerts> {
    let Some(path) = env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty()) else {
        return Ok(RootCerts::WebPki);
    };
    let read = || -> Result<RootCerts> {
        let mut pem = Vec::new();
        fs::File::open(&path)?.take(LONGEST_PEM).read_to_end(&mut pem)?;
        let mut certificates = Vec::new();
        for item in parse_pem(&pem) {
            if let PemItem::Certificate(certificate) = item? {
                certificates.push(certificate);
            }
        }
        if certificates.is_empty() {
            bail!("it contains no certificate");
        }
        Ok(RootCerts::Specific(Arc::new(certificates)))
    };
    read().with_context(|| format!("SSL_CERT_FILE: {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_the_server_says_but_never_to_less_safety() {
        let at = "https://hub.co/a/b?c=d";
        for (to, expected) in [
            ("/x/y", Some("https://hub.co/x/y")),
            ("//cdn.co/x", Some("https://cdn.co/x")),
            ("https://cdn.co/x", Some("https://cdn.co/x")),
            ("http://cdn.co/x", None),
            ("ftp://cdn.co/x", None),
            ("file:///etc/passwd", None),
            ("x y", None),
            ("", None),
        ] {
            assert_eq!(redirected(at, to).as_deref(), expected, "{to:?}");
        }
        assert_eq!(redirected("http://a:1/b", "http://c/d").as_deref(), Some("http://c/d"));
        assert_eq!(redirected("http://a:1/b", "/d").as_deref(), Some("http://a:1/d"));
    }

    #[test]
    fn origins_are_the_same_only_with_scheme_host_and_port() {
        assert_eq!(origin("https://Hub.co/x"), origin("https://hub.co:443"));
        for other in
            ["http://hub.co", "https://hub.co:8443", "https://hub.co.evil.org", "https://evil.org/@hub.co"]
        {
            assert_ne!(origin(other), origin("https://hub.co"), "{other}");
        }
        assert_eq!(origin("https://hub.co@evil.org/").as_deref(), Some("https://evil.org:443"));
        for none in ["hub.co", "ftp://hub.co", "/x", "https://", ""] {
            assert_eq!(origin(none), None, "{none}");
        }
    }

    #[test]
    fn paths_are_escaped() {
        assert_eq!(escape("pt/tugão x/?#%.onnx"), "pt/tug%C3%A3o%20x/%3F%23%25.onnx");
    }
}
