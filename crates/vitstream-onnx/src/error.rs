//! Why a file was not read.

use std::fmt::Write as _;

#[cfg(doc)]
use crate::graph::Graph;

/// Limit on the messages and names in a file. The largest traced VITS encoder has 40,000; a parsed one takes
/// at most 300 bytes.
pub(crate) const MAX_RECORDS: usize = 1 << 20;

/// The reason why a file was not read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are not protobuf of ONNX's schema.
    #[error("not an ONNX file: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// More messages than any voice has.
    #[error("more than {MAX_RECORDS} messages: no voice has so many, so the file is refused")]
    TooManyRecords,
    /// Valid ONNX, but with contents that a [`Graph`] cannot hold.
    #[error("{place}: {what} is not supported")]
    Unsupported {
        /// The node, value or initializer, by name.
        place: String,
        /// The unsupported feature that it has.
        what: String,
    },
    /// An operator outside ONNX's own domain.
    #[error("{place}: operator {op} of the domain `{domain}` is not supported")]
    Domain {
        /// The node, by name.
        place: String,
        /// The operator.
        op: String,
        /// Who defines it.
        domain: String,
    },
    /// An element type that a [`Graph`] cannot hold.
    #[error("{place}: element type {found} is not supported")]
    ElementType {
        /// The value or initializer, by name.
        place: String,
        /// ONNX's name of the type.
        found: String,
    },
    /// Elements in another file that is not available or does not match.
    #[error("{place}: {what}")]
    External {
        /// The node, value or initializer, by name.
        place: String,
        /// The file, and the problem with it.
        what: String,
    },
    /// ONNX's own rules are broken, or no runtime could do what is requested.
    #[error("{place}: {what}")]
    Malformed {
        /// The node, value or initializer, by name.
        place: String,
        /// The problem.
        what: String,
    },
}

impl DecodeError {
    pub(crate) fn unsupported(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Unsupported { place: place.into(), what: what.into() }
    }

    pub(crate) fn malformed(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Malformed { place: place.into(), what: what.into() }
    }
}

/// A name shortened for a message, on one line.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 200;
    let mut shown = String::new();
    for c in text.chars().take(MOST) {
        match c.is_control() {
            true => _ = write!(shown, "{}", c.escape_default()),
            false => shown.push(c),
        }
    }
    if text.chars().nth(MOST).is_some() {
        shown.push_str("...");
    }
    shown
}
