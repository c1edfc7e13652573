//! Checkpoints of piper's training, as saved by PyTorch Lightning: hyper-parameters next to the state dict.

use vitstream_checkpoint::{Checkpoint, Value};
use vitstream_vits::{HParams, Weights};

use crate::Error;
use crate::keys::Keys;
use crate::settings::flags;
use crate::{Context, Parts};

/// Hyper-parameters that the caller may state instead of the file: all that a file can state.
const NAMES: [&str; 16] = [
    "num_symbols",
    "num_speakers",
    "gin_channels",
    "inter_channels",
    "hidden_channels",
    "filter_channels",
    "n_heads",
    "n_layers",
    "kernel_size",
    "resblock",
    "resblock_kernel_sizes",
    "resblock_dilation_sizes",
    "upsample_rates",
    "upsample_initial_channel",
    "upsample_kernel_sizes",
    "use_sdp",
];

pub(crate) fn read(checkpoint: &Checkpoint, keys: Keys, context: &Context<'_>) -> Result<Parts, Error> {
    let path = checkpoint.path();
    keys.check_others(checkpoint)?;
    let Keys { tensors, mut notes, warnings, .. } = keys;
    let weights = Weights::new(tensors);
    let hyper_parameters = checkpoint.lookup(&["hyper_parameters"])?;
    let missing = |found: String| Error::NoHyperParameters { path: path.to_owned(), found };
    let hyper_parameters = hyper_parameters.ok_or_else(|| missing("none".to_owned()))?;
    if hyper_parameters.items().is_none() && !matches!(hyper_parameters, Value::Object(_)) {
        return Err(missing(hyper_parameters.describe().to_string()));
    }
    let hparams_error = |source| Error::HParams { path: path.to_owned(), source };
    let shape = |key: &str| weights.shape(key);
    let names = NAMES.iter().copied().chain(["sample_rate"]);
    let stated = flags(&context.options.hparams, names)?;
    let hparams = if stated.map.is_empty() {
        HParams::from_lightning(hyper_parameters, &shape).map_err(hparams_error)?
    } else {
        notes
            .extend(stated.map.iter().map(|(name, value)| format!("stated by the caller: {name} = {value}")));
        let mut items = hyper_parameters.items().unwrap_or_default().to_vec();
        items.retain(|(key, _)| !key.as_str().is_some_and(|key| stated.map.contains_key(key)));
        // Numbers and tuples are parsed from strings, as the second generation of Lightning writes them.
        items.extend(stated.map.iter().map(|(name, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (Value::Str(name.clone()), Value::Str(text))
        }));
        HParams::from_lightning(&Value::Dict(items), &shape).map_err(hparams_error)?
    };
    weights.hold(&hparams);
    let config = context.voice_json()?;
    let files = vec![checkpoint.file().clone()];
    Ok(Parts { weights, hparams, config, format: "Piper checkpoint", warnings, notes, files })
}
