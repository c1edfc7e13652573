//! What can go wrong, said so that the reader knows which file, which value, and what to do.

use std::path::{Path, PathBuf};

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file is not there, cannot be read, or is none.
    #[error(transparent)]
    File(#[from] vitstream_checkpoint::Error),
    /// A file was read and is not what it should be.
    #[error("{}: {message}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// What was expected, what was found, what to do.
        message: String,
    },
    /// Two files that do not belong together.
    #[error("the files of this voice do not belong together: {0}")]
    Mismatch(String),
    /// The runtime asked for is not there.
    #[error("{0}")]
    Runtime(String),
    /// A request that the voice cannot speak, found before anything ran.
    #[error("{0}")]
    Request(String),
    /// The runtime failed while computing.
    #[error("{}: failed while running: {message}", path.display())]
    Run {
        /// The graph's file.
        path: PathBuf,
        /// What the runtime said.
        message: String,
    },
    /// [`Cancel`](crate::Cancel) was used.
    #[error("cancelled")]
    Cancelled,
    /// The runtime crashed on a graph.
    #[error("{}: {message}", path.display())]
    Crashed {
        /// The graph's file.
        path: PathBuf,
        /// How.
        message: String,
    },
}

/// A [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn model(path: &Path, message: impl Into<String>) -> Self {
        Self::Model { path: path.to_owned(), message: message.into() }
    }

    pub(crate) fn run(path: &Path, message: impl Into<String>) -> Self {
        Self::Run { path: path.to_owned(), message: message.into() }
    }

    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self::Request(message.into())
    }
}
