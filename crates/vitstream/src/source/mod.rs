//! Voices to export from, whatever file they come in.
//!
//! One module for each format. A reader knows its files and no more of VITS than upstream's names: it gives `Parts`, and
//! the rest of the program does not know the difference. Adding a format: one module, one arm in `read`, one fixture,
//! one fuzz target.

pub(crate) mod beside;
mod coqui;
mod huggingface;
mod lightning;
mod own;
mod pair;
mod recover;
mod settings;
mod state_dict;
mod traced;
mod voice;
mod voice_onnx;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use vitstream_checkpoint::{Checkpoint, MappedFile};
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
    /// What the reader found unusual.
    pub warnings: Vec<String>,
}

/// What is said of a voice beside its file.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// The voice's JSON, or the configuration of its training; without it, each format looks where its own usually is.
    pub config: Option<PathBuf>,
    /// Hyper-parameters for files that state none, `NAME=VALUE` each: `upsample_rates=8,8,4`.
    pub hparams: Vec<String>,
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
    /// What is unusual about it.
    pub(crate) warnings: Vec<String>,
    /// The mapped files that the tensors lie in.
    pub(crate) files: Vec<MappedFile>,
}

/// Reads the voice in `path`. What it is is told by its content.
///
/// # Errors
/// When the file cannot be read, holds no VITS network, or holds one whose parts contradict each other or are not all
/// stated.
pub fn load(path: &Path, options: &ReadOptions) -> Result<Source, Error> {
    put_together(path, read(path, options)?)
}

/// As [`load`], for a finished voice whose file is in memory. `name` stands for it in messages; no JSON is looked for.
///
/// # Errors
/// As [`load`].
pub fn load_onnx(name: &Path, bytes: Bytes) -> Result<Source, Error> {
    put_together(name, voice_onnx::read_file(name, bytes.into())?)
}

fn put_together(path: &Path, parts: Parts) -> Result<Source, Error> {
    let Parts { weights, hparams, config, format, warnings, .. } = parts;
    let weights_error = |source| Error::Weights { path: path.to_owned(), source };
    let (model, audit) = SynthesizerTrn::load_weights(&weights, hparams).map_err(weights_error)?;
    Ok(Source { model, audit, config, format, warnings })
}

/// Tells what `path` is and hands it to its reader.
pub(crate) fn read(path: &Path, options: &ReadOptions) -> Result<Parts, Error> {
    let config = options.config.as_deref();
    if path.is_dir() {
        if let Some(weights) = huggingface::weights_in(path) {
            return read(&weights, options);
        }
        refuse_flags(path, options, "a directory with a pair")?;
        return pair::read(path, config);
    }
    if is_onnx(path)? {
        refuse_flags(path, options, "a finished voice")?;
        return voice_onnx::read(path, config);
    }
    let checkpoint = Checkpoint::open(path)?;
    let network = Network::of(checkpoint.tensors().iter().map(|tensor| tensor.name()));
    let states_hparams = checkpoint.metadata().get("hyper_parameters").is_some();
    let bare = network == Network::Vits && !states_hparams;
    if !bare {
        let found = if states_hparams { "a checkpoint with hyper-parameters" } else { network.describe() };
        refuse_flags(path, options, found)?;
    }
    match network {
        Network::Vits if bare => state_dict::read(&checkpoint, options),
        Network::Vits => lightning::read(&checkpoint, options),
        Network::HuggingFaceVits => huggingface::read(&checkpoint, options),
        Network::CoquiVits => coqui::read(&checkpoint, options),
        other => Err(Error::OtherNetwork { path: path.to_owned(), found: other.describe() }),
    }
}

/// The pair in `directory`, whatever else is there.
pub(crate) fn read_pair(directory: &Path, config: Option<&Path>) -> Result<Parts, Error> {
    pair::read(directory, config)
}

/// Only weights without hyper-parameters need some.
fn refuse_flags(path: &Path, options: &ReadOptions, found: &str) -> Result<(), Error> {
    if options.hparams.is_empty() {
        return Ok(());
    }
    let problem = "--hparam is for weights without hyper-parameters";
    Err(Error::Option(format!("{problem}; {} is {found}", path.display())))
}

/// An ONNX model begins with its IR version, a small number. The length that a safetensors file begins with can look like
/// it, but is followed by a brace.
pub(crate) fn is_onnx(path: &Path) -> Result<bool, Error> {
    if !path.is_file() {
        // The reader of checkpoints says what it is instead.
        return Ok(false);
    }
    let mut start = Vec::new();
    File::open(path).map_err(Error::io(path))?.take(9).read_to_end(&mut start).map_err(Error::io(path))?;
    let safetensors = matches!(start[..], [.., 0, 0, 0, 0, b'{']);
    Ok(matches!(start[..], [0x08, 0..0x20, ..]) && !safetensors)
}

#[cfg(test)]
mod tests;
