//! What one client may ask for, and all of them together.

use std::time::Duration;

/// What one client may ask for, and all of them together. Every field can be set by whoever runs the server; the
/// defaults are for a machine on a network of friends, behind which strangers may be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Characters of a text that comes as a whole, and of one that arrives bit by bit: what OpenAI allows.
    pub text: usize,
    /// Bytes of a request's body: far more than its text can be, escaped.
    pub body: usize,
    /// How long the head or the body of a request may take to arrive. A client on a slow line needs one second.
    pub arrival: Duration,
    /// How long a connection may neither take nor give a byte.
    pub idle: Duration,
    /// How many connections there may be. Each takes some ten kilobytes and a file descriptor.
    pub connections: usize,
    /// How long what is being spoken may go on when the server is told to end.
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
