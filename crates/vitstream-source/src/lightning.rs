//! A checkpoint of piper's training, as PyTorch Lightning saves it: hyper-parameters beside the state dict.

use vitstream_checkpoint::{Checkpoint, ErrorKind, Value};
use vitstream_vits::weights::unneeded;
use vitstream_vits::{HParams, Weights};

use crate::Error;
use crate::config::VoiceConfig;
use crate::{Parts, ReadOptions};

pub(crate) fn read(checkpoint: &Checkpoint, options: &ReadOptions) -> Result<Parts, Error> {
    let path = checkpoint.path();
    let weights =
        Weights::new(checkpoint.tensors().iter().map(|tensor| (tensor.name().to_owned(), tensor.clone())));
    // What was meant to be a needed tensor and cannot be understood is named, before its key would be called missing.
    let mut others: Vec<&str> = checkpoint.tensors().others().map(|(key, _)| key).collect();
    others.sort_unstable();
    for key in others {
        let needed = key.strip_prefix("model_g.").is_some_and(|key| unneeded(key).is_none());
        match checkpoint.tensors().require(key) {
            Err(error) if needed && !matches!(error.kind(), ErrorKind::NotATensor) => {
                return Err(error.into());
            }
            _ => {}
        }
    }
    let hyper_parameters = checkpoint.lookup(&["hyper_parameters"])?;
    let missing = |found: String| Error::NoHyperParameters { path: path.to_owned(), found };
    let hyper_parameters = hyper_parameters.ok_or_else(|| missing("none".to_owned()))?;
    if hyper_parameters.items().is_none() && !matches!(hyper_parameters, Value::Object(_)) {
        return Err(missing(hyper_parameters.describe().to_string()));
    }
    let hparams = HParams::from_lightning(hyper_parameters, &|key| weights.shape(key))
        .map_err(|source| Error::HParams { path: path.to_owned(), source })?;
    let config = VoiceConfig::named_or_beside(options.config.as_deref(), path)?;
    let files = vec![checkpoint.file().clone()];
    Ok(Parts { weights, hparams, config, format: "Piper checkpoint", warnings: Vec::new(), files })
}
