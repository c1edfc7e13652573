//! The error type.

use std::path::{Path, PathBuf};

use vitstream_contract::Remedy;
use vitstream_onnx::DecodeError;

/// The reason why a voice could not be verified. Every message names the file concerned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A voice cannot be read.
    #[error(transparent)]
    Source(#[from] vitstream_source::Error),
    /// A source cannot be exported again.
    #[error(transparent)]
    Export(#[from] vitstream_export::Error),
    /// An ONNX file cannot be read.
    #[error("{}: {source}", path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// The place, and the reason.
        source: DecodeError,
    },
    /// A graph differs from the expected one.
    #[error("{}: {place}: {problem}", path.display())]
    Unrecoverable {
        /// The file.
        path: PathBuf,
        /// The node, module or tensor.
        place: String,
        /// The expected value, the value found, and the remedy.
        problem: String,
    },
    /// A graph cannot be run, or returns a wrong result.
    #[error("{}: {problem}", path.display())]
    Run {
        /// The graph's file.
        path: PathBuf,
        /// The expected value, the value found, and the remedy.
        problem: String,
    },
    /// An option has an invalid value.
    #[error("{0}")]
    Option(String),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The file or folder concerned, if any.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Source(error) => error.path(),
            Self::Export(error) => error.path(),
            Self::Onnx { path, .. } | Self::Unrecoverable { path, .. } | Self::Run { path, .. } => Some(path),
            Self::Option(_) | Self::Interrupted => None,
        }
    }

    /// A remedy for the error, if one is known.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Source(error) => error.remedy(),
            Self::Export(error) => error.remedy(),
            _ => None,
        }
    }
}

impl From<vitstream_checkpoint::Error> for Error {
    fn from(error: vitstream_checkpoint::Error) -> Self {
        Self::Source(error.into())
    }
}
