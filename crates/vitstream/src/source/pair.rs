//! A streaming pair, traced by PyTorch or written by vitstream: a directory with an encoder and a decoder.

use std::path::Path;

use vitstream_checkpoint::map_file;

use super::Parts;
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
    let graphs = [open(encoder, map_file(encoder)?)?, open(decoder, map_file(decoder)?)?];
    let own = graphs.iter().any(is_own);
    let (weights, hparams) = if own {
        own::recover(directory, &graphs[0], &graphs[1])?
    } else {
        let (weights, mut hparams) = recover(directory, &graphs)?;
        hparams.sample_rate = graphs.iter().find_map(sample_rate);
        (weights, hparams)
    };
    let config = match config {
        Some(path) => Some(VoiceConfig::read(path)?),
        None => VoiceConfig::find_in(directory)?,
    };
    Ok(Parts {
        weights,
        hparams,
        config,
        format: if own { "vitstream pair (ONNX)" } else { "streaming pair (ONNX)" },
        warnings: Vec::new(),
    })
}
