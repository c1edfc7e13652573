//! Why a voice could not be exported.

use std::path::{Path, PathBuf};

use vitstream_contract::Remedy;
use vitstream_onnx::{BuildError, ValidateError};

/// Why a voice could not be exported. Every message names the file it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The voice cannot be read.
    #[error(transparent)]
    Source(#[from] vitstream_source::Error),
    /// An option has a value that nothing can be made of.
    #[error("{0}")]
    Option(String),
    /// The output directory cannot be what it was given as.
    #[error("{}: {problem}", path.display())]
    Output {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The voice's JSON lacks what a client's package needs, or contradicts it.
    #[error("{}: {problem}", path.display())]
    Config {
        /// The JSON.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What helps.
        remedy: Remedy,
    },
    /// A client cannot play what the voice, or an option, makes.
    #[error("{}the client {client}: {problem}", path.as_ref().map_or_else(String::new, |path| format!("{}: ", path.display())))]
    Package {
        /// The client.
        client: &'static str,
        /// The voice, if it is the voice's trouble.
        path: Option<PathBuf>,
        /// What it cannot play, and why.
        problem: String,
        /// What helps, if anything is known to.
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
    /// A graph came out wrong: a defect of vitstream.
    #[error("internal error in graph `{graph}`, please report it: {problem}")]
    Graph {
        /// Which graph.
        graph: &'static str,
        /// What broke.
        problem: String,
    },
    /// The caller asked to stop. Nothing was changed.
    #[error("interrupted; nothing was changed")]
    Interrupted,
}

impl Error {
    /// The file or folder that it is about, if it is about one.
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

/// The error of a graph that cannot be built.
pub fn build(graph: &'static str) -> impl FnOnce(BuildError) -> Error {
    move |error| Error::Graph { graph, problem: error.to_string() }
}

/// The error of a graph that was built and does not hold.
pub fn validate(graph: &'static str) -> impl FnOnce(ValidateError) -> Error {
    move |error| Error::Graph { graph, problem: error.to_string() }
}
