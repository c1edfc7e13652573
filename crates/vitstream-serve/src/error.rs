//! The error type.

use std::time::Duration;

use vitstream::ErrorKind;
use vitstream_text::phonemizer::PhonemizerError;

/// Limit on the characters of a message to a client, which may quote the client's own text.
const LONGEST_MESSAGE: usize = 500;

/// The reason why a request gets no speech.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request is not valid.
    #[error("{0}")]
    Request(String),
    /// The request exceeds a limit.
    #[error("{0}")]
    TooLarge(String),
    /// There is no voice with that name.
    #[error("there is no voice {0:?}")]
    UnknownVoice(String),
    /// The voice is known but cannot speak.
    #[error("the voice {name:?} cannot speak: {reason}")]
    Voice {
        /// Its name.
        name: String,
        /// The problem with its files; it names them, so it is only for the operator.
        reason: String,
    },
    /// There are too many listeners to provide audio without gaps.
    #[error("the server has reached its capacity; try again in {} s", .0.as_secs().max(1))]
    Overloaded(Duration),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Draining,
    /// The text could not be turned into ids.
    #[error(transparent)]
    Text(#[from] vitstream_text::Error),
    /// The voice refuses the request, or failed.
    #[error(transparent)]
    Speech(#[from] vitstream::Error),
    /// A bug in vitstream.
    #[error("{0}")]
    Internal(String),
}

impl From<vitstream_resample::Error> for Error {
    fn from(error: vitstream_resample::Error) -> Self {
        Self::Internal(error.to_string())
    }
}

/// A [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The party responsible for a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The client: the same request fails again.
    Client,
    /// Nobody: the same request may succeed later.
    Later,
    /// The server's.
    Server,
}

impl Error {
    /// The party responsible for the failure.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Request(_) | Self::TooLarge(_) | Self::UnknownVoice(_) => Fault::Client,
            Self::Overloaded(_) | Self::Draining => Fault::Later,
            Self::Voice { .. } | Self::Internal(_) => Fault::Server,
            Self::Text(vitstream_text::Error::Phonemizer(PhonemizerError::Nul)) => Fault::Client,
            Self::Text(vitstream_text::Error::Phonemizer(PhonemizerError::Busy { .. })) => Fault::Later,
            Self::Text(vitstream_text::Error::Phonemizer(_) | vitstream_text::Error::Config(_)) => {
                Fault::Server
            }
            Self::Text(_) => Fault::Client,
            Self::Speech(error) if error.kind() == ErrorKind::Request => Fault::Client,
            Self::Speech(_) => Fault::Server,
        }
    }

    /// A code for programs, the same in every protocol.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownVoice(_) => "voice_not_found",
            Self::TooLarge(_) => "too_large",
            Self::Overloaded(_) => "overloaded",
            Self::Draining => "draining",
            Self::Voice { .. } => "voice_failed",
            error => match error.fault() {
                Fault::Client => "invalid_request",
                Fault::Later => "overloaded",
                Fault::Server => "internal_error",
            },
        }
    }

    /// The message for the client, which must not reveal files of this machine.
    pub fn for_client(&self) -> String {
        let message = match self {
            Self::Voice { name, .. } => format!("the voice {name:?} cannot speak; the server's log says why"),
            error if error.fault() == Fault::Server => {
                "the server failed to speak this; its log says why".to_owned()
            }
            error => error.to_string(),
        };
        bounded(&message)
    }
}

/// A single line of limited length, without control characters.
pub(crate) fn bounded(message: &str) -> String {
    let mut shown = String::new();
    for c in message.chars().take(LONGEST_MESSAGE) {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if message.chars().nth(LONGEST_MESSAGE).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_no_files_and_no_endless_messages() {
        let error = Error::Voice { name: "a".into(), reason: "/secret/a.onnx: damaged".into() };
        assert!(!error.for_client().contains("secret"), "{}", error.for_client());
        assert!(error.to_string().contains("/secret/a.onnx"));
        let error = Error::UnknownVoice("x\n\u{1b}[2J".repeat(10_000));
        assert!(error.for_client().chars().count() < LONGEST_MESSAGE + 10);
        assert!(!error.for_client().contains(char::is_control));
        assert_eq!((error.fault(), error.code()), (Fault::Client, "voice_not_found"));
        assert_eq!(Error::Overloaded(Duration::from_secs(1)).fault(), Fault::Later);
    }
}
