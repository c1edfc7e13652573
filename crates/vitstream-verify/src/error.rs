//! Why a voice could not be verified.

use std::path::{Path, PathBuf};

use vitstream_contract::Remedy;
use vitstream_onnx::DecodeError;

/// Why a voice could not be verified. Every message names the file it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A voice cannot be read.
    #[error(transparent)]
    Source(#[from] vitstream_source::Error),
    /// A source cannot be exported anew.
    #[error(transparent)]
    Export(#[from] vitstream_export::Error),
    /// An ONNX file cannot be read.
    #[error("{}: {source}", path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// Where, and why.
        source: DecodeError,
    },
    /// A graph holds something else than what was expected.
    #[error("{}: {place}: {problem}", path.display())]
    Unrecoverable {
        /// The file.
        path: PathBuf,
        /// The node, module or tensor.
        place: String,
        /// What was expected, what was found, and what to do.
        problem: String,
    },
    /// A graph cannot be run, or gives what it should not.
    #[error("{}: {problem}", path.display())]
    Run {
        /// The graph's file.
        path: PathBuf,
        /// What was expected, what was found, what to do.
        problem: String,
    },
    /// An option has a value that nothing can be made of.
    #[error("{0}")]
    Option(String),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// The file or folder that it is about, if it is about one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Source(error) => error.path(),
            Self::Export(error) => error.path(),
            Self::Onnx { path, .. } | Self::Unrecoverable { path, .. } | Self::Run { path, .. } => Some(path),
            Self::Option(_) | Self::Interrupted => None,
        }
    }

    /// What its user can do about it, if anything is known to help.
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
