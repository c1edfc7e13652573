//! Limits on the requests of one client and of all clients together.

use std::time::Duration;

/// Limits on the requests of one client and of all clients together. The operator can set every field; the
/// defaults are for a machine on a trusted network that strangers may reach.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Characters of a text, sent at once or in pieces: OpenAI's limit.
    pub text: usize,
    /// Bytes of a request's body: far more than its text needs, even escaped.
    pub body: usize,
    /// Time for the header or the body of a request to arrive. A client on a slow line needs one second.
    pub arrival: Duration,
    /// Time for which a connection may be idle in both directions.
    pub idle: Duration,
    /// Number of connections. Each takes about ten kilobytes and a file descriptor.
    pub connections: usize,
    /// Time for finishing current speech at shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text: 4_096,
            body: 1 << 20,
            arrival: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            connections: 1_024,
            drain: Duration::from_secs(30),
        }
    }
}
