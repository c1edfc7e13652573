//! A streaming pair, traced by PyTorch or written by vitstream: a directory with an encoder and a decoder.

use std::path::Path;

use vitstream_checkpoint::MappedFile;

use super::Parts;
use super::beside::Beside;
use super::own::{self, is_own};
use super::recover::recover;
use super::voice_onnx::{self, open, sample_rate};
use crate::Error;
use crate::config::VoiceConfig;
use crate::export::files;

pub(super) fn read(directory: &Path, config: Option<&Path>) -> Result<Parts, Error> {
    let paths = [files::ENCODER, files::DECODER].map(|name| directory.join(name));
    let single = directory.join(files::VOICE);
    if single.is_file() && !paths[0].exists() {
        return voice_onnx::read(&single, config);
    }
    if let Some(absent) = paths.iter().find(|path| !path.is_file()) {
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
    let [encoder, decoder] = &paths;
    let mut files = vec![MappedFile::open(encoder)?, MappedFile::open(decoder)?];
    let mut beside = Beside::of(encoder);
    let graphs = [
        open(encoder, files[0].bytes(), Some(&mut beside))?,
        open(decoder, files[1].bytes(), Some(&mut beside))?,
    ];
    files.extend(beside.files);
    let (weights, hparams, format) = if graphs.iter().any(is_own) {
        let (weights, hparams) = own::recover(directory, &graphs[0], &graphs[1])?;
        (weights, hparams, "vitstream pair (ONNX)")
    } else {
        let (weights, mut hparams) = recover(directory, &graphs)?;
        hparams.sample_rate = graphs.iter().find_map(sample_rate);
        (weights, hparams, "streaming pair (ONNX)")
    };
    let config = match config {
        Some(path) => Some(VoiceConfig::read(path)?),
        None => VoiceConfig::find_in(directory)?,
    };
    Ok(Parts { weights, hparams, config, format, warnings: Vec::new(), files })
}
