//! What can go wrong, said so that the reader knows which file, which value, and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
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
        /// The graph's file, or the voice that an engine of its own computes.
        path: PathBuf,
        /// What the runtime said.
        message: String,
    },
}

/// A [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn model(path: &Path, message: impl Into<String>) -> Self {
        Self::Model { path: path.to_owned(), message: message.into() }
    }

    pub(crate) fn run(path: &Path, message: impl Into<String>) -> Self {
        Self::Run { path: path.to_owned(), message: message.into() }
    }

    /// Damaged weights often end in samples that are none: silence without a word if they were written to a file.
    pub(crate) fn unless_numbers(path: &Path, samples: &[f32]) -> Result<()> {
        match samples.iter().find(|sample| !sample.is_finite()) {
            None => Ok(()),
            Some(sample) => Err(Self::run(
                path,
                format!(
                    "a sample is {sample}: the weights are damaged, or the scales far beyond those that the voice was trained for"
                ),
            )),
        }
    }

    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self::Request(message.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_sample_is_told_with_the_file() {
        let path = Path::new("voice/decoder.onnx");
        assert!(Error::unless_numbers(path, &[0.0, -1.0, 1.5]).is_ok());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let error = Error::unless_numbers(path, &[0.0, bad, 0.5]).unwrap_err().to_string();
            assert!(
                error.starts_with("voice/decoder.onnx: ") && error.contains("weights are damaged"),
                "{error}"
            );
        }
    }
}
