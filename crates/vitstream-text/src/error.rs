//! Errors.

use crate::phonemizer::PhonemizerError;

/// Text that could not be turned into ids, and why.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The voice's JSON does not say what is needed.
    #[error("the voice's JSON: {0}")]
    Config(String),
    /// A known thing that is not done here.
    #[error("{what} is not supported; {instead}")]
    Unsupported {
        /// Its name.
        what: String,
        /// Another way.
        instead: &'static str,
    },
    /// A text that is no text.
    #[error("{0}")]
    Text(String),
    /// Markup that cannot be read.
    #[error("the markup: {0}")]
    Markup(String),
    /// A lexicon that cannot be read.
    #[error("line {line} of the lexicon: {problem}")]
    Lexicon {
        /// The line, from 1.
        line: usize,
        /// The mistake.
        problem: String,
    },
    /// No phonemes.
    #[error(transparent)]
    Phonemizer(#[from] PhonemizerError),
}

/// The way out for text that no front end here reads.
pub(crate) const GIVE_PHONEMES: &str = "give phonemes or ids instead of text";

impl Error {
    pub(crate) fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), instead: GIVE_PHONEMES }
    }
}

/// `bytes` as text.
///
/// # Errors
/// When they are not UTF-8: the message says at which byte.
pub fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let line = bytes[..at].iter().filter(|&&byte| byte == b'\n').count() + 1;
        Error::Text(format!(
            "expected UTF-8, found the byte 0x{:02x} at offset {at} (line {line})",
            bytes[at]
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_located() {
        assert_eq!(utf8("é".as_bytes()).unwrap(), "é");
        let error = utf8(b"one\ntw\xff").unwrap_err().to_string();
        assert_eq!(error, "expected UTF-8, found the byte 0xff at offset 6 (line 2)");
        // Cut in the middle of a character.
        assert!(utf8(&"é".as_bytes()[..1]).unwrap_err().to_string().contains("offset 0"));
    }
}
