//! Graphs written by vitstream, converted back to upstream's weights.
//!
//! Each folding and its inverse are in the same file: `vitstream_vits` has `read_back` and `emit` of a block
//! next to each other. This module only drives them, and checks that the files belong together and that the
//! whole graph equals the one emitted for the network that was read.

mod form;

use std::path::Path;

use vitstream_onnx::Graph;
use vitstream_vits::{HParams, ReadBackError, SynthesizerTrn, Weights};

use super::file::sample_rate;
use crate::Error;

/// Returns true if vitstream wrote `graph`.
pub(crate) fn is_own(graph: &Graph) -> bool {
    graph.metadata.contains_key("vitstream_version")
}

/// Recovers weights and hyper-parameters of the network in a pair, or in one graph passed twice. `path` is
/// used in messages.
pub(crate) fn recover(path: &Path, encoder: &Graph, decoder: &Graph) -> Result<(Weights, HParams), Error> {
    check_together(path, encoder, decoder)?;
    let read = SynthesizerTrn::read_back(path, encoder, decoder);
    let (weights, mut hparams) = read.map_err(|error| match error {
        ReadBackError::HParams(source) => Error::HParams { path: path.to_owned(), source },
        ReadBackError::Tensor(error) => error.into(),
        ReadBackError::Graph { place, problem } => {
            Error::Unrecoverable { path: path.to_owned(), place, problem }
        }
        other => unrecoverable(path, "graph", other.to_string()),
    })?;
    hparams.sample_rate = sample_rate(decoder);
    form::check(&path.into(), (encoder, decoder), &weights, &hparams)?;
    Ok((weights, hparams))
}

fn unrecoverable(path: &Path, place: &str, problem: String) -> Error {
    Error::Unrecoverable { path: path.to_owned(), place: place.to_owned(), problem }
}

fn check_together(path: &Path, encoder: &Graph, decoder: &Graph) -> Result<(), Error> {
    let [a, b] = [encoder, decoder].map(|graph| graph.metadata.get("pair_id"));
    if a.is_some() && a == b {
        return Ok(());
    }
    let name = |id: Option<&String>| id.map_or("none", String::as_str).to_owned();
    let problem =
        format!("the encoder has {}, the decoder {}: take both from the same export", name(a), name(b));
    Err(unrecoverable(path, "metadata `pair_id`", problem))
}
