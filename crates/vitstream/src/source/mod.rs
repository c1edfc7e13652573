//! Voices to export from, whatever file they come in.
//!
//! One module for each format. A reader knows its files and no more of VITS than upstream's names: it gives `Parts`, and
//! the rest of the program does not know the difference. Adding a format: one module, one arm in `read`, one fixture,
//! one fuzz target.

mod lightning;
mod pair;
mod recover;
mod traced;
mod voice_onnx;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bytes::Bytes;
use vitstream_checkpoint::Checkpoint;
use vitstream_vits::{Audit, HParams, Network, SynthesizerTrn, Weights};

use crate::Error;
use crate::config::VoiceConfig;

/// A voice that was read from a file.
pub struct Source {
    /// The network.
    pub model: SynthesizerTrn,
    /// What became of the file's tensors.
    pub audit: Audit,
    /// The voice's JSON, if there is one.
    pub config: Option<VoiceConfig>,
    /// What the file is, for people.
    pub format: &'static str,
}

/// What a reader makes of its file.
pub(crate) struct Parts {
    /// The tensors under upstream's keys.
    pub(crate) weights: Weights,
    /// The hyper-parameters that go with them.
    pub(crate) hparams: HParams,
    /// The voice's JSON, if there is one.
    pub(crate) config: Option<VoiceConfig>,
    /// What the file is, for people.
    pub(crate) format: &'static str,
}

/// Reads the voice in `path`. What it is is told by its content. `config` names the voice's JSON; without it, each format
/// looks where its own usually is.
///
/// # Errors
/// When the file cannot be read, holds no VITS network, or holds one whose parts contradict each other.
pub fn load(path: &Path, config: Option<&Path>) -> Result<Source, Error> {
    put_together(path, read(path, config)?)
}

/// As [`load`], for a finished voice whose file is in memory. `name` stands for it in messages; no JSON is looked for.
///
/// # Errors
/// As [`load`].
pub fn load_onnx(name: &Path, bytes: Bytes) -> Result<Source, Error> {
    put_together(name, voice_onnx::read_bytes(name, bytes)?)
}

fn put_together(path: &Path, parts: Parts) -> Result<Source, Error> {
    let Parts { weights, hparams, config, format } = parts;
    let weights_error = |source| Error::Weights { path: path.to_owned(), source };
    let (model, audit) = SynthesizerTrn::load_weights(&weights, hparams).map_err(weights_error)?;
    Ok(Source { model, audit, config, format })
}

/// Tells what `path` is and hands it to its reader.
pub(crate) fn read(path: &Path, config: Option<&Path>) -> Result<Parts, Error> {
    if path.is_dir() {
        return pair::read(path, config);
    }
    if is_onnx(path)? {
        return voice_onnx::read(path, config);
    }
    let checkpoint = Checkpoint::open(path)?;
    match Network::of(checkpoint.tensors().iter().map(|tensor| tensor.name())) {
        Network::Vits => lightning::read(&checkpoint, config),
        other => Err(Error::OtherNetwork { path: path.to_owned(), found: other.describe() }),
    }
}

/// An ONNX model begins with its IR version, a small number; nothing else that is read here does.
pub(crate) fn is_onnx(path: &Path) -> Result<bool, Error> {
    if !path.is_file() {
        // The reader of checkpoints says what it is instead.
        return Ok(false);
    }
    let mut start = [0; 2];
    let mut file = File::open(path).map_err(Error::io(path))?;
    let length = file.read(&mut start).map_err(Error::io(path))?;
    Ok(length == 2 && start[0] == 0x08 && start[1] < 0x20)
}

#[cfg(test)]
mod tests;
