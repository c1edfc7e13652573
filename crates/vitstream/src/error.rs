//! Why something failed.

use std::path::PathBuf;

/// Why something failed. Every message names the file it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A voice cannot be read.
    #[error(transparent)]
    Source(#[from] vitstream_source::Error),
    /// An option has a value that nothing can be made of.
    #[error("{0}")]
    Option(String),
    /// The engine refuses the network, or the options.
    #[cfg(feature = "native")]
    #[error("{}: {source}", path.display())]
    Engine {
        /// The voice.
        path: PathBuf,
        /// Its reason.
        source: vitstream_engine::Error,
    },
}

impl Error {
    /// Whether the voice was read and is not what this version understands, as opposed to files that cannot be read and
    /// options that make no sense.
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::Source(error) => error.is_about_content(),
            Self::Option(_) => false,
            #[cfg(feature = "native")]
            Self::Engine { .. } => true,
        }
    }
}
