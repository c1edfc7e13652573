//! Errors that name the file, the value, and the remedy.

use std::path::{Path, PathBuf};

use vitstream_contract::Remedy;

/// Any error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file is missing, cannot be read, or is not a regular file.
    #[error(transparent)]
    File(#[from] vitstream_checkpoint::Error),
    /// The voice cannot be read.
    #[error(transparent)]
    Source(#[from] vitstream_source::Error),
    /// The engine refuses the network, or the options.
    #[cfg(feature = "native")]
    #[error("{}: {reason}", path.display())]
    Engine {
        /// The voice.
        path: PathBuf,
        /// The reason, which is not a source, because callers that print the chain would print it twice.
        reason: vitstream_engine::Error,
    },
    /// Weights were to be kept as float16, but most of them are not float16 numbers.
    #[cfg(feature = "native")]
    #[error(
        "{}: {} of its {} weights are float16 numbers, too few to be kept as float16: expected at least half of them",
        path.display(), found.kept, found.all
    )]
    NotHalf {
        /// The voice.
        path: PathBuf,
        /// The number of float16 numbers among its weights.
        found: vitstream_engine::HalfWeights,
    },
    /// The sample rate is unknown.
    #[error("{}: the sample rate is in {where_not}", path.display())]
    NoSampleRate {
        /// The voice.
        path: PathBuf,
        /// The places where it was looked for.
        where_not: String,
    },
    /// A file was read, but its content is wrong.
    #[error("{}: {message}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// The expected value, the value found, and the remedy.
        message: String,
    },
    /// Two files that do not belong together.
    #[error("the files of this voice do not belong together: {0}")]
    Mismatch(String),
    /// The requested runtime is not available.
    #[error("{0}")]
    Runtime(String),
    /// A request that the voice cannot speak, detected before anything ran.
    #[error("{0}")]
    Request(String),
    /// The runtime failed while computing.
    #[error("{}: failed while running: {message}", path.display())]
    Run {
        /// The graph's file, or the voice that an engine computes.
        path: PathBuf,
        /// The runtime's message.
        message: String,
    },
    /// A seed was given for a voice whose encoder draws its noise inside the graph.
    #[error("a seed has no effect on this voice, whose encoder draws its noise inside the graph")]
    NoNoise,
    /// [`Cancel`](crate::Cancel) was used.
    #[error("cancelled")]
    Cancelled,
    /// The runtime crashed on a graph.
    #[error("{}: {message}", path.display())]
    Crashed {
        /// The graph's file.
        path: PathBuf,
        /// A description of the crash.
        message: String,
    },
}

/// A [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Returns true if the voice was read but its content is not supported by the native engine, as opposed
    /// to files that cannot be read and invalid options.
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::Source(error) => error.is_about_content(),
            #[cfg(feature = "native")]
            Self::Engine { .. } => true,
            _ => false,
        }
    }

    /// The file or folder concerned, if any.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Source(error) => error.path(),
            Self::File(error) => Some(error.path()),
            #[cfg(feature = "native")]
            Self::Engine { path, .. } | Self::NotHalf { path, .. } => Some(path),
            Self::NoSampleRate { path, .. }
            | Self::Model { path, .. }
            | Self::Run { path, .. }
            | Self::Crashed { path, .. } => Some(path),
            Self::Mismatch(_) | Self::Runtime(_) | Self::Request(_) | Self::NoNoise | Self::Cancelled => None,
        }
    }

    /// The remedy, if one is known.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Source(error) => error.remedy(),
            Self::NoSampleRate { .. } => Some(Remedy::SampleRate),
            Self::NoNoise => Some(Remedy::NoiseInput),
            #[cfg(feature = "native")]
            Self::NotHalf { .. } => Some(Remedy::HalfPrecision),
            _ => None,
        }
    }

    pub(crate) fn model(path: &Path, message: impl Into<String>) -> Self {
        Self::Model { path: path.to_owned(), message: message.into() }
    }

    pub(crate) fn run(path: &Path, message: impl Into<String>) -> Self {
        Self::Run { path: path.to_owned(), message: message.into() }
    }

    /// Damaged weights often produce samples that are NaN, which would be silent if written to a file.
    pub(crate) fn unless_numbers(path: &Path, samples: &[f32]) -> Result<()> {
        match samples.iter().find(|sample| !sample.is_finite()) {
            None => Ok(()),
            Some(sample) => Err(Self::run(
                path,
                format!(
                    "a sample is {sample}: the weights are damaged, or the scales are far beyond those that the voice was trained for"
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
