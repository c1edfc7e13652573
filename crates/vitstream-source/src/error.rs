use std::path::{Path, PathBuf};

use vitstream_contract::Remedy;
use vitstream_onnx::DecodeError;
use vitstream_vits::{HParamsError, WeightsError};

/// The reason why a voice could not be read. Every message names the file concerned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint cannot be read, or has contents that are not allowed.
    #[error(transparent)]
    Checkpoint(#[from] vitstream_checkpoint::Error),
    /// The checkpoint belongs to another network.
    #[error("{}: this is {found}; expected a VITS network with its generator", path.display())]
    OtherNetwork {
        /// The input.
        path: PathBuf,
        /// Its apparent kind.
        found: &'static str,
    },
    /// The checkpoint belongs to no known network.
    #[error("{}: this is not a VITS network: none of its keys are known; it has {keys}", path.display())]
    UnknownNetwork {
        /// The input.
        path: PathBuf,
        /// Some of its keys.
        keys: String,
    },
    /// Weights are infinite or NaN.
    #[error("{}: weights that are not finite in {tensors}: the training went wrong or the file is damaged", path.display())]
    NotFinite {
        /// The input.
        path: PathBuf,
        /// The tensors concerned.
        tensors: String,
    },
    /// The tensors would take more memory than a file of this size justifies.
    #[error(
        "{}: its tensors would take {needed} bytes of memory, more than the {budget} that are allowed for a file of {size} bytes",
        path.display()
    )]
    Budget {
        /// The input.
        path: PathBuf,
        /// Bytes that the tensors take as float32.
        needed: u64,
        /// Bytes allowed.
        budget: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// The archive or folder holds no voice, or several.
    #[error("{}: {problem}", path.display())]
    Container {
        /// The archive or folder.
        path: PathBuf,
        /// Its kind, its contents, and the remedy.
        problem: String,
    },
    /// There are weights but no hyper-parameters.
    #[error("{}: expected `hyper_parameters` (a dict, as PyTorch Lightning saves it), found {found}", path.display())]
    NoHyperParameters {
        /// The input.
        path: PathBuf,
        /// The value found instead.
        found: String,
    },
    /// There are weights but no hyper-parameters, and the shapes do not determine all of them.
    #[error("{}: {}", path.display(), describe_missing(missing))]
    MissingHParams {
        /// The input.
        path: PathBuf,
        /// Each missing name, with an example value.
        missing: Vec<(&'static str, &'static str)>,
    },
    /// There is no configuration next to the weights.
    #[error("{}: there is no {expected} next to it", path.display())]
    NoConfig {
        /// The input.
        path: PathBuf,
        /// The configuration that was looked for.
        expected: &'static str,
    },
    /// The network is a VITS with a feature that cannot be exported.
    #[error("{}: {feature} is not supported", path.display())]
    Unsupported {
        /// The input.
        path: PathBuf,
        /// The feature.
        feature: &'static str,
    },
    /// A hyper-parameter is not valid.
    #[error("{}: {source}", path.display())]
    HParams {
        /// The input.
        path: PathBuf,
        /// The hyper-parameter, and the reason.
        source: HParamsError,
    },
    /// A graph holds a network other than the expected one, or holds it in an unknown form.
    #[error("{}: {place}: {problem}", path.display())]
    Unrecoverable {
        /// The input.
        path: PathBuf,
        /// The node, module or tensor.
        place: String,
        /// The expected and the actual value, and the remedy.
        problem: String,
    },
    /// The files of a folder may belong to two voices.
    #[error(
        "{}: an export into this directory is running, or was killed while it replaced files: wait for it to finish, or export \
         again, which repairs the folder",
        path.display()
    )]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// Weights and hyper-parameters do not match.
    #[error("{}: {source}", path.display())]
    Weights {
        /// The input.
        path: PathBuf,
        /// The tensors, and the reason.
        source: WeightsError,
    },
    /// The voice's JSON cannot be read.
    #[error("{}: {problem}", path.display())]
    Config {
        /// The JSON.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// An option has an invalid value.
    #[error("{0}")]
    Option(String),
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// An ONNX file cannot be read.
    #[error("{}: {source}", path.display())]
    Onnx {
        /// The file.
        path: PathBuf,
        /// The place, and the reason.
        source: DecodeError,
    },
}

fn describe_missing(missing: &[(&str, &str)]) -> String {
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    format!("weights without hyper-parameters, and their shapes do not determine {}", names.join(", "))
}

impl Error {
    /// Returns true if the voice was read but its content is not supported by this version, as opposed to
    /// files that cannot be read and invalid options.
    pub fn is_about_content(&self) -> bool {
        matches!(
            self,
            Self::OtherNetwork { .. }
                | Self::UnknownNetwork { .. }
                | Self::NotFinite { .. }
                | Self::Unsupported { .. }
                | Self::HParams { .. }
                | Self::Unrecoverable { .. }
                | Self::Weights { .. }
                | Self::Onnx { .. }
        )
    }

    /// The file or folder concerned, if any.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Checkpoint(error) => Some(error.path()),
            Self::Option(_) => None,
            Self::OtherNetwork { path, .. }
            | Self::UnknownNetwork { path, .. }
            | Self::NotFinite { path, .. }
            | Self::Budget { path, .. }
            | Self::Container { path, .. }
            | Self::NoHyperParameters { path, .. }
            | Self::MissingHParams { path, .. }
            | Self::NoConfig { path, .. }
            | Self::Unsupported { path, .. }
            | Self::HParams { path, .. }
            | Self::Unrecoverable { path, .. }
            | Self::Unfinished { path }
            | Self::Weights { path, .. }
            | Self::Config { path, .. }
            | Self::Io { path, .. }
            | Self::Onnx { path, .. } => Some(path),
        }
    }

    /// A remedy for the error, if one is known.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::NoConfig { .. } => Some(Remedy::Config),
            Self::MissingHParams { missing, .. } => {
                let owned = |&(name, example): &(&str, &str)| (name.to_owned(), example.to_owned());
                Some(Remedy::HParams(missing.iter().map(owned).collect()))
            }
            Self::NotFinite { .. } => Some(Remedy::AllowNan),
            Self::Budget { .. } => Some(Remedy::Memory),
            _ => None,
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}
