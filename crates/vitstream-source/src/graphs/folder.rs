//! Streaming pairs, traced by PyTorch or written by vitstream: a directory with an encoder and a decoder.

use std::path::Path;

use vitstream_checkpoint::MappedFile;

use crate::Error;
use crate::Parts;
use crate::beside::Beside;
use crate::check_finished;
use crate::config::VoiceConfig;
use crate::graphs::exported::{self, is_own};
use crate::graphs::file::{open, read_file, sample_rate};
use crate::graphs::traced::recover;
use vitstream_contract::files;

pub(crate) fn read(directory: &Path, config: Option<&Path>) -> Result<Parts, Error> {
    check_finished(directory)?;
    let paths = [files::ENCODER, files::DECODER].map(|name| directory.join(name));
    let single = directory.join(files::VOICE);
    if single.is_file() && !paths[0].exists() {
        let parts = read_file(&single, MappedFile::open(&single)?, Some(Beside::of(&single)))?;
        return Ok(Parts { config: VoiceConfig::named_or_beside(config, &single)?, ..parts });
    }
    if let Some(absent) = paths.iter().find(|path| !path.exists()) {
        let problem = format!(
            "expected a voice's file, or a directory with a pair; there is no {}",
            absent.file_name().unwrap_or_default().to_string_lossy()
        );
        return Err(Error::Unrecoverable {
            path: directory.to_owned(),
            place: "directory".to_owned(),
            problem,
        });
    }
    let config = match config {
        Some(path) => Some(VoiceConfig::read(path)?),
        None => VoiceConfig::find_in(directory)?,
    };
    let [encoder, decoder] = &paths;
    let files = [MappedFile::open(encoder)?, MappedFile::open(decoder)?];
    read_graphs(directory, files, Some(Beside::of(encoder)), config)
}

/// Reads the pair whose encoder and decoder are `files`, in the folder or archive `directory`.
pub(crate) fn read_graphs(
    directory: &Path,
    files: [MappedFile; 2],
    mut beside: Option<Beside>,
    config: Option<VoiceConfig>,
) -> Result<Parts, Error> {
    let [encoder, decoder] = &[files::ENCODER, files::DECODER].map(|name| directory.join(name));
    let graphs = [
        open(encoder, files[0].bytes(), beside.as_mut())?,
        open(decoder, files[1].bytes(), beside.as_mut())?,
    ];
    let mut files = Vec::from(files);
    files.extend(beside.into_iter().flat_map(|beside| beside.files));
    let (weights, hparams, format) = if graphs.iter().any(is_own) {
        let (weights, hparams) = exported::recover(directory, &graphs[0], &graphs[1])?;
        (weights, hparams, "vitstream pair (ONNX)")
    } else {
        let (weights, mut hparams) = recover(directory, &graphs)?;
        hparams.sample_rate = graphs.iter().find_map(sample_rate);
        (weights, hparams, "streaming pair (ONNX)")
    };
    Ok(Parts { weights, hparams, config, format, warnings: Vec::new(), notes: Vec::new(), files })
}
