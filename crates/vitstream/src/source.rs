//! Voices to export from, whatever file they come in.

use std::path::Path;

use vitstream_checkpoint::{Checkpoint, Value};
use vitstream_vits::{Audit, HParams, Network, SynthesizerTrn, Weights};

use crate::Error;

/// A voice that was read from a file.
pub struct Source {
    /// The network.
    pub model: SynthesizerTrn,
    /// What became of the file's tensors.
    pub audit: Audit,
}

/// Reads the voice in `path`. What it is is told by its content.
///
/// # Errors
/// When the file cannot be read, holds no VITS network, or holds one whose parts contradict each other.
pub fn load(path: &Path) -> Result<Source, Error> {
    let checkpoint = Checkpoint::open(path)?;
    let (weights, hparams) = parts(&checkpoint)?;
    let weights_error = |source| Error::Weights { path: path.to_owned(), source };
    let (model, audit) = SynthesizerTrn::load_weights(&weights, hparams).map_err(weights_error)?;
    Ok(Source { model, audit })
}

/// Weights under upstream's keys and the hyper-parameters that go with them.
pub(crate) fn parts(checkpoint: &Checkpoint) -> Result<(Weights, HParams), Error> {
    let path = checkpoint.path();
    let network = Network::of(checkpoint.tensors().iter().map(|tensor| tensor.name()));
    if network != Network::Vits {
        return Err(Error::OtherNetwork { path: path.to_owned(), found: network.describe() });
    }
    let weights =
        Weights::new(checkpoint.tensors().iter().map(|tensor| (tensor.name().to_owned(), tensor.clone())));
    let hyper_parameters = checkpoint.lookup(&["hyper_parameters"])?;
    let missing = |found: String| Error::NoHyperParameters { path: path.to_owned(), found };
    let hyper_parameters = hyper_parameters.ok_or_else(|| missing("none".to_owned()))?;
    if hyper_parameters.items().is_none() && !matches!(hyper_parameters, Value::Object(_)) {
        return Err(missing(hyper_parameters.describe().to_string()));
    }
    let hparams = HParams::from_lightning(hyper_parameters, &|key| weights.shape(key))
        .map_err(|source| Error::HParams { path: path.to_owned(), source })?;
    Ok((weights, hparams))
}
