//! `transformers.VitsModel`: `model.safetensors` or `pytorch_model.bin` with `config.json`, `vocab.json` and
//! `tokenizer_config.json` next to it. Upstream is transformers' `modeling_vits.py`; this module reverses its
//! `convert_original_checkpoint.py`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};
use vitstream_checkpoint::{Checkpoint, Tensor, excerpt};
use vitstream_vits::hparams::DurationHParams;
use vitstream_vits::{HParams, Untold, Weights};

use crate::Error;
use crate::keys::Keys;
use crate::settings::{Settings, hparams_error};
use crate::voice_json::{Symbols, VoiceJson};
use crate::{Context, Parts};

/// Names of settings that the weights determine, with the names of the hyper-parameters.
const CLAIMS: [(&str, &str); 19] = [
    ("vocab_size", "num_symbols"),
    ("num_speakers", "num_speakers"),
    ("hidden_size", "hidden_channels"),
    ("flow_size", "inter_channels"),
    ("ffn_dim", "filter_channels"),
    ("ffn_kernel_size", "kernel_size"),
    ("num_hidden_layers", "n_layers"),
    ("num_attention_heads", "n_heads"),
    ("window_size", "window_size"),
    ("upsample_initial_channel", "upsample_initial_channel"),
    ("upsample_kernel_sizes", "upsample_kernel_sizes"),
    ("resblock_kernel_sizes", "resblock_kernel_sizes"),
    ("duration_predictor_num_flows", "duration.Stochastic.n_flows"),
    ("duration_predictor_flow_bins", "duration.Stochastic.num_bins"),
    ("depth_separable_num_layers", "duration.Stochastic.dds_layers"),
    ("duration_predictor_filter_channels", "duration.Plain.filter_channels"),
    ("wavenet_kernel_size", "flow.kernel_size"),
    ("prior_encoder_num_flows", "flow.n_flows"),
    ("prior_encoder_num_wavenet_layers", "flow.n_layers"),
];

pub(crate) fn read(checkpoint: &Checkpoint, keys: Keys, context: &Context<'_>) -> Result<Parts, Error> {
    let path = checkpoint.path();
    let Keys { tensors, notes, mut warnings, .. } = keys;
    let config = match &context.options.config {
        Some(path) => Settings::read(path)?,
        None => context.around.settings("config.json")?.ok_or_else(|| Error::NoConfig {
            path: path.to_owned(),
            expected: "the config.json of a Hugging Face VitsModel",
        })?,
    };
    config.only("model_type", "vits")?;
    refuse_other_networks(&config)?;

    let tensors: Vec<(String, Tensor)> = tensors.iter().map(rename).collect::<Result<_, _>>()?;
    let speakers = tensors.iter().any(|(key, _)| key == "emb_g.weight");
    let weights = Weights::new(tensors.into_iter().map(|(key, tensor)| match is_conditioning(&key) {
        // A model with one speaker may have these layers, but has nothing to feed them.
        true if !speakers => (format!("{}{key}", vitstream_vits::weights::NO_SPEAKERS), tensor),
        _ => (key, tensor),
    }));
    let hparams = hparams(path, &config, &weights)?;
    let voice = voice(path, context, &config, &hparams, &mut warnings)?.config(&config.path, &hparams);
    let files = vec![checkpoint.file().clone()];
    Ok(Parts {
        weights,
        hparams,
        config: Some(voice),
        format: "Hugging Face VitsModel",
        warnings,
        notes,
        files,
    })
}

/// The weights in a folder written by `save_pretrained`; `None` for another folder.
pub(crate) fn weights_in(directory: &Path) -> Option<PathBuf> {
    let files = ["model.safetensors", "pytorch_model.bin"].map(|name| directory.join(name));
    files.into_iter().find(|path| path.is_file())
}

/// Settings that `VitsModel` has and VITS does not: only the value equivalent to VITS is supported.
fn refuse_other_networks(config: &Settings) -> Result<(), Error> {
    config.only("hidden_act", "relu")?;
    config.only("use_bias", true)?;
    config.only("leaky_relu_slope", 0.1)?;
    config.only("depth_separable_channels", 2)?;
    if config.size("window_size")? == Some(0) {
        return Err(config.unsupported("window_size", "only attention with relative positions"));
    }
    Ok(())
}

fn hparams(path: &Path, config: &Settings, weights: &Weights) -> Result<HParams, Error> {
    let missing = |name: &str| config.problem(name, "missing, and the weights do not determine it");
    let untold = Untold {
        upsample_rates: config.sizes("upsample_rates")?.ok_or_else(|| missing("upsample_rates"))?,
        resblock_dilation_sizes: config
            .nested("resblock_dilation_sizes")?
            .ok_or_else(|| missing("resblock_dilation_sizes"))?,
        sample_rate: Some(config.sample_rate("sampling_rate")?.ok_or_else(|| missing("sampling_rate"))?),
    };
    let mut hparams = HParams::from_shapes(&|key| weights.shape(key), untold).map_err(hparams_error(path))?;
    if let Some(epsilon) = config.float("layer_norm_eps")? {
        hparams.layer_norm_eps = epsilon as f32;
    }
    if let Some(rate) = config.size("wavenet_dilation_rate")? {
        hparams.flow.dilation_rate = rate;
    }
    let bound = config.float("duration_predictor_tail_bound")?;
    match &mut hparams.duration {
        // Its norms keep PyTorch's epsilon whatever the configuration states.
        DurationHParams::Stochastic { tail_bound, .. } => {
            *tail_bound = bound.map_or(*tail_bound, |b| b as f32);
        }
        DurationHParams::Plain { layer_norm_eps, .. } => *layer_norm_eps = hparams.layer_norm_eps,
    }
    config.agree(&hparams, &CLAIMS)?;
    let kernel = match hparams.duration {
        DurationHParams::Stochastic { kernel_size, .. } | DurationHParams::Plain { kernel_size, .. } => {
            kernel_size
        }
    };
    config.expect("duration_predictor_kernel_size", kernel)?;
    config.expect("use_stochastic_duration_prediction", hparams.use_sdp())?;
    if hparams.multi_speaker() {
        config.expect("speaker_embedding_size", hparams.gin_channels)?;
    }
    hparams.check().map_err(hparams_error(&config.path))?;
    Ok(hparams)
}

/// The voice's defaults, and its symbols as used by the tokenizer.
fn voice(
    path: &Path,
    context: &Context<'_>,
    config: &Settings,
    hparams: &HParams,
    warnings: &mut Vec<String>,
) -> Result<VoiceJson, Error> {
    let speaking_rate = config.float("speaking_rate")?.unwrap_or(1.0);
    if !(speaking_rate.is_finite() && speaking_rate > 0.0) {
        return Err(
            config.problem("speaking_rate", format!("expected a positive number, found {speaking_rate}"))
        );
    }
    let tokenizer = context
        .around
        .settings("tokenizer_config.json")?
        .unwrap_or_else(|| Settings::new(&path.with_file_name("tokenizer_config.json"), Map::new()));
    let symbols = match context.around.settings("vocab.json")? {
        Some(vocab) => {
            let blank = tokenizer.flag("add_blank")?.unwrap_or(true).then_some(0);
            Some(Symbols { ids: ids(&vocab, hparams)?, blank, ..Symbols::default() })
        }
        None => {
            let vocab = path.with_file_name("vocab.json");
            warnings.push(format!("{}: missing, so the voice has no phoneme_id_map", vocab.display()));
            None
        }
    };
    let mut further = Map::new();
    let names = ["add_blank", "normalize", "is_uroman", "phonemize"];
    let set = names.iter().filter_map(|&name| Some((name.to_owned(), tokenizer.get(name)?.clone())));
    further.insert("tokenizer".to_owned(), Json::Object(set.collect()));
    let frontend = match &symbols {
        Some(symbols) => Some(frontend(&tokenizer, symbols)?),
        None => None,
    };
    // The tokenizer always produces the phonemes of US English.
    let phonemes = tokenizer.flag("phonemize")?.unwrap_or(true) && symbols.is_some();
    Ok(VoiceJson {
        noise_scale: config.float("noise_scale")?.unwrap_or(0.667),
        length_scale: 1.0 / speaking_rate,
        noise_w: config.float("noise_scale_duration")?.unwrap_or(0.8),
        speakers: Vec::new(),
        symbols,
        language: tokenizer.text("language")?.map(str::to_owned),
        espeak: phonemes.then(|| "en-us".to_owned()),
        further,
        frontend,
    })
}

/// The steps of `VitsTokenizer`, with its defaults.
fn frontend(tokenizer: &Settings, symbols: &Symbols) -> Result<Json, Error> {
    let vocab: Map<String, Json> =
        symbols.ids.iter().map(|(symbol, id)| (symbol.clone(), json!(id))).collect();
    let flag = |name, default| tokenizer.flag(name).map(|flag| flag.unwrap_or(default));
    // A token may be an object with further attributes.
    let pad = tokenizer.get("pad_token").map(|pad| pad.get("content").unwrap_or(pad));
    let mut frontend = json!({
        "family": "huggingface",
        "vocab": vocab,
        "add_blank": flag("add_blank", true)?,
        "normalize": flag("normalize", true)?,
        "phonemize": flag("phonemize", true)?,
        "is_uroman": flag("is_uroman", false)?,
    });
    let more = [("language", tokenizer.text("language")?), ("pad_token", pad.and_then(Json::as_str))];
    for (name, text) in more {
        if let Some(text) = text {
            frontend[name] = text.into();
        }
    }
    Ok(frontend)
}

fn ids(vocab: &Settings, hparams: &HParams) -> Result<Vec<(String, i64)>, Error> {
    let id = |(symbol, id): (&String, &Json)| {
        let valid = id.as_i64().filter(|&id| usize::try_from(id).is_ok_and(|id| id < hparams.num_symbols));
        let message = format!("expected an id below {}, found {id}", hparams.num_symbols);
        valid
            .map(|id| (symbol.clone(), id))
            .ok_or_else(|| vocab.problem(&format!("\"{}\"", excerpt(symbol)), message))
    };
    let mut ids = vocab.map.iter().map(id).collect::<Result<Vec<_>, _>>()?;
    ids.sort_by_key(|&(_, id)| id);
    Ok(ids)
}

/// Returns true for a layer whose input is the speaker.
fn is_conditioning(key: &str) -> bool {
    key.starts_with("dp.cond.") || key.starts_with("dec.cond.") || key.contains(".enc.cond_layer.")
}

/// A tensor under upstream's key. An unknown tensor keeps its own key, and is reported as unexpected later.
fn rename((name, tensor): &(String, Tensor)) -> Result<(String, Tensor), Error> {
    let key = upstream_key(name).unwrap_or_else(|| name.clone());
    let linear = name.ends_with("_proj.weight") && key.contains(".attn_layers.");
    let tensor = match (linear, tensor.shape()) {
        // A Linear is a convolution with one tap.
        (true, &[outputs, inputs]) => tensor.with_unit_axes(&[outputs, inputs, 1])?,
        _ => tensor.clone(),
    };
    Ok((key, tensor))
}

fn upstream_key(key: &str) -> Option<String> {
    let (part, rest) = key.split_once('.')?;
    Some(match part {
        "text_encoder" => text_encoder_key(rest)?,
        "duration_predictor" if rest.starts_with("post_") => format!("dp.{rest}"),
        "duration_predictor" => duration_predictor_key(rest)?,
        "flow" => {
            let (index, rest) = split_index(rest.strip_prefix("flows.")?)?;
            let (layer, leaf) = rest.split_once('.')?;
            let layer = match layer {
                "conv_pre" => "pre",
                "wavenet" => "enc",
                "conv_post" => "post",
                _ => return None,
            };
            // A Flip, which has no tensors, occupies every other index.
            format!("flow.flows.{}.{layer}.{leaf}", index.checked_mul(2)?)
        }
        "decoder" => match rest.strip_prefix("upsampler.") {
            Some(rest) => format!("dec.ups.{rest}"),
            None => format!("dec.{rest}"),
        },
        "posterior_encoder" => format!("enc_q.{rest}"),
        "embed_speaker" => format!("emb_g.{rest}"),
        _ => return None,
    })
}

fn text_encoder_key(rest: &str) -> Option<String> {
    if let Some(leaf) = rest.strip_prefix("embed_tokens.") {
        return Some(format!("enc_p.emb.{leaf}"));
    }
    if let Some(leaf) = rest.strip_prefix("project.") {
        return Some(format!("enc_p.proj.{leaf}"));
    }
    let (layer, rest) = split_index(rest.strip_prefix("encoder.layers.")?)?;
    let (part, leaf) = rest.split_once('.')?;
    let scope = match part {
        "attention" => {
            let name = match leaf.split_once('.') {
                None => leaf.to_owned(),
                Some((projection, leaf)) => {
                    let letter = match projection {
                        "q_proj" => "q",
                        "k_proj" => "k",
                        "v_proj" => "v",
                        "out_proj" => "o",
                        _ => return None,
                    };
                    format!("conv_{letter}.{leaf}")
                }
            };
            format!("attn_layers.{layer}.{name}")
        }
        "layer_norm" => format!("norm_layers_1.{layer}.{}", norm_leaf(leaf)?),
        "final_layer_norm" => format!("norm_layers_2.{layer}.{}", norm_leaf(leaf)?),
        "feed_forward" => format!("ffn_layers.{layer}.{leaf}"),
        _ => return None,
    };
    Some(format!("enc_p.encoder.{scope}"))
}

fn duration_predictor_key(rest: &str) -> Option<String> {
    let (scope, rest) = match rest.strip_prefix("flows.") {
        None => (String::new(), rest),
        Some(rest) => match split_index(rest)? {
            (0, "translate") => return Some("dp.flows.0.m".to_owned()),
            (0, "log_scale") => return Some("dp.flows.0.logs".to_owned()),
            (index, rest) => (format!("flows.{}.", index.checked_mul(2)?.checked_sub(1)?), rest),
        },
    };
    let (layer, leaf) = rest.split_once('.')?;
    let layer = match layer {
        "conv_pre" => format!("pre.{leaf}"),
        "conv_proj" => format!("proj.{leaf}"),
        "norm_1" | "norm_2" => format!("{layer}.{}", norm_leaf(leaf)?),
        "conv_dds" => {
            let (list, rest) = leaf.split_once('.')?;
            let (index, leaf) = split_index(rest)?;
            match list {
                "convs_dilated" => format!("convs.convs_sep.{index}.{leaf}"),
                "convs_pointwise" => format!("convs.convs_1x1.{index}.{leaf}"),
                "norms_1" | "norms_2" => format!("convs.{list}.{index}.{}", norm_leaf(leaf)?),
                _ => return None,
            }
        }
        _ => rest.to_owned(),
    };
    Some(format!("dp.{scope}{layer}"))
}

fn norm_leaf(leaf: &str) -> Option<&'static str> {
    match leaf {
        "weight" => Some("gamma"),
        "bias" => Some("beta"),
        _ => None,
    }
}

fn split_index(rest: &str) -> Option<(usize, &str)> {
    let (index, rest) = rest.split_once('.')?;
    Some((index.parse().ok()?, rest))
}
