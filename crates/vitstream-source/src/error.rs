use std::path::{Path, PathBuf};

use vitstream_contract::Remedy;
use vitstream_onnx::DecodeError;
use vitstream_vits::{HParamsError, WeightsError};

/// Why a voice could not be read. Every message names the file it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint cannot be read, or holds what it should not.
    #[error(transparent)]
    Checkpoint(#[from] vitstream_checkpoint::Error),
    /// The checkpoint belongs to another network.
    #[error("{}: this is {found}; expected a VITS network with its generator", path.display())]
    OtherNetwork {
        /// The input.
        path: PathBuf,
        /// What it looks like.
        found: &'static str,
    },
    /// The checkpoint belongs to no network that is known.
    #[error("{}: this is no VITS network: none of its keys are known; it has {keys}", path.display())]
    UnknownNetwork {
        /// The input.
        path: PathBuf,
        /// Some of its keys.
        keys: String,
    },
    /// Weights are infinite or not numbers.
    #[error("{}: weights that are not finite in {tensors}: the training went wrong or the file is damaged", path.display())]
    NotFinite {
        /// The input.
        path: PathBuf,
        /// In which tensors.
        tensors: String,
    },
    /// The tensors would take more memory than a file of this size explains.
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
        /// What it is, what is in it, and what to do.
        problem: String,
    },
    /// There are weights but no hyper-parameters.
    #[error("{}: expected `hyper_parameters` (a dict, as PyTorch Lightning saves it), found {found}", path.display())]
    NoHyperParameters {
        /// The input.
        path: PathBuf,
        /// What stands there.
        found: String,
    },
    /// There are weights but no hyper-parameters, and their shapes do not tell everything.
    #[error("{}: {}", path.display(), describe_missing(missing))]
    MissingHParams {
        /// The input.
        path: PathBuf,
        /// Each name, with a value that a voice could have.
        missing: Vec<(&'static str, &'static str)>,
    },
    /// There is no configuration beside the weights.
    #[error("{}: there is no {expected} beside it", path.display())]
    NoConfig {
        /// The input.
        path: PathBuf,
        /// What was looked for.
        expected: &'static str,
    },
    /// The network is a VITS with something that cannot be exported.
    #[error("{}: {feature} is not supported", path.display())]
    Unsupported {
        /// The input.
        path: PathBuf,
        /// What it has.
        feature: &'static str,
    },
    /// A hyper-parameter makes no sense.
    #[error("{}: {source}", path.display())]
    HParams {
        /// The input.
        path: PathBuf,
        /// Which, and why.
        source: HParamsError,
    },
    /// A graph holds something else than the network that was expected, or holds it in a form that is not understood.
    #[error("{}: {place}: {problem}", path.display())]
    Unrecoverable {
        /// The input.
        path: PathBuf,
        /// The node, module or tensor.
        place: String,
        /// What was expected, what was found, and what to do.
        problem: String,
    },
    /// The files of a folder may be of two voices.
    #[error(
        "{}: an export into this directory is running, or was killed while it replaced files: wait for its end, or export \
         again, which puts everything right",
        path.display()
    )]
    Unfinished {
        /// The folder.
        path: PathBuf,
    },
    /// Weights and hyper-parameters do not fit each other.
    #[error("{}: {source}", path.display())]
    Weights {
        /// The input.
        path: PathBuf,
        /// Which tensors, and why.
        source: WeightsError,
    },
    /// The voice's JSON cannot be read.
    #[error("{}: {problem}", path.display())]
    Config {
        /// The JSON.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An option has a value that nothing can be made of.
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
        /// Where, and why.
        source: DecodeError,
    },
}

fn describe_missing(missing: &[(&str, &str)]) -> String {
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    format!("weights without hyper-parameters, and their shapes do not tell {}", names.join(", "))
}

impl Error {
    /// Whether the voice was read and is not what this version understands, as opposed to files that cannot be read and
    /// options that make no sense.
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

    /// The file or folder that it is about, if it is about one.
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

    /// What its user can do about it, if anything is known to help.
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
