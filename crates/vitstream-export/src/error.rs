//! The error type.

use std::path::{Path, PathBuf};

use vitstream_contract::Remedy;
use vitstream_onnx::{BuildError, ValidateError};

/// The reason why a voice could not be exported. Every message names the file concerned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The voice cannot be read.
    #[error(transparent)]
    Source(#[from] vitstream_source::Error),
    /// An option has an invalid value.
    #[error("{0}")]
    Option(String),
    /// The output directory cannot be used.
    #[error("{}: {problem}", path.display())]
    Output {
        /// The directory or file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The voice's JSON lacks a field that a client's package requires, or contradicts it.
    #[error("{}: {problem}", path.display())]
    Config {
        /// The JSON.
        path: PathBuf,
        /// The problem.
        problem: String,
        /// The remedy.
        remedy: Remedy,
    },
    /// A client cannot play the result of the voice or of an option.
    #[error("{}the client {client}: {problem}", path.as_ref().map_or_else(String::new, |path| format!("{}: ", path.display())))]
    Package {
        /// The client.
        client: &'static str,
        /// The voice, if the problem is the voice's.
        path: Option<PathBuf>,
        /// The problem, and the reason.
        problem: String,
        /// The remedy, if one is known.
        remedy: Option<Remedy>,
    },
    /// Writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A graph is wrong, because of a bug in vitstream.
    #[error("internal error in graph `{graph}`, please report it: {problem}")]
    Graph {
        /// The graph.
        graph: &'static str,
        /// The problem.
        problem: String,
    },
    /// The caller asked to stop. Nothing was changed.
    #[error("interrupted; nothing was changed")]
    Interrupted,
}

impl Error {
    /// The file or folder concerned, if any.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Source(error) => error.path(),
            Self::Output { path, .. } | Self::Config { path, .. } | Self::Io { path, .. } => Some(path),
            Self::Package { path, .. } => path.as_deref(),
            Self::Option(_) | Self::Graph { .. } | Self::Interrupted => None,
        }
    }

    /// The remedy, if one is known.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Source(error) => error.remedy(),
            Self::Config { remedy, .. } => Some(remedy.clone()),
            Self::Package { remedy, .. } => remedy.clone(),
            _ => None,
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// The error for a graph that cannot be built.
pub fn build(graph: &'static str) -> impl FnOnce(BuildError) -> Error {
    move |error| Error::Graph { graph, problem: error.to_string() }
}

/// The error for a graph that was built but is not valid.
pub fn validate(graph: &'static str) -> impl FnOnce(ValidateError) -> Error {
    move |error| Error::Graph { graph, problem: error.to_string() }
}
