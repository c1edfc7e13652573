//! Why a file was not read.

use std::fmt::Write as _;

#[cfg(doc)]
use crate::graph::Graph;

/// Most messages and names in a file. The largest traced VITS encoder has 40,000; parsed, one takes 300 bytes or less.
pub(crate) const MAX_RECORDS: usize = 1 << 20;

/// Why a file was not read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes are no protobuf of ONNX's schema.
    #[error("not an ONNX file: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// More messages than any model of this kind has.
    #[error("more than {MAX_RECORDS} messages: no voice has as many, so the file is not read")]
    TooManyRecords,
    /// ONNX, but with something that a [`Graph`] cannot hold.
    #[error("{place}: {what} is not supported")]
    Unsupported {
        /// The node, value or initializer, by name.
        place: String,
        /// What it has.
        what: String,
    },
    /// An operator that is none of ONNX's own.
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
        /// The type, by ONNX's name.
        found: String,
    },
    /// Elements that lie in another file, which cannot be had or does not fit.
    #[error("{place}: {what}")]
    External {
        /// The node, value or initializer, by name.
        place: String,
        /// Which file, and what is wrong with it.
        what: String,
    },
    /// ONNX's own rules are broken, or nothing could run what is asked for.
    #[error("{place}: {what}")]
    Malformed {
        /// The node, value or initializer, by name.
        place: String,
        /// What is wrong with it.
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

/// As much of a name as a message takes, on one line.
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
