//! What can go wrong, said so that the reader knows which file, which value, and what to do.

use std::path::{Path, PathBuf};

use vitstream_contract::Remedy;

/// Every failure of this crate.
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
        /// Its reason: no source, which whoever prints the chain would print twice.
        reason: vitstream_engine::Error,
    },
    /// Weights should be kept as float16, and most are none.
    #[cfg(feature = "native")]
    #[error(
        "{}: {} of its {} weights are float16 numbers, so too few can be kept so: expected at least half of them",
        path.display(), found.kept, found.all
    )]
    NotHalf {
        /// The voice.
        path: PathBuf,
        /// How many there are.
        found: vitstream_engine::HalfWeights,
    },
    /// Nothing says how many samples a second has.
    #[error("{}: the sample rate is in {where_not}", path.display())]
    NoSampleRate {
        /// The voice.
        path: PathBuf,
        /// Where it was looked for.
        where_not: String,
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
        /// How.
        message: String,
    },
}

/// A [`std::result::Result`] with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether the voice was read and is not what the native engine understands, as opposed to files that cannot be read
    /// and options that make no sense.
    pub fn is_about_content(&self) -> bool {
        match self {
            Self::Source(error) => error.is_about_content(),
            #[cfg(feature = "native")]
            Self::Engine { .. } => true,
            _ => false,
        }
    }

    /// The file or folder that it is about, if it is about one.
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

    /// Damaged weights often end in samples that are not numbers: silence without a word if they were written to a file.
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
