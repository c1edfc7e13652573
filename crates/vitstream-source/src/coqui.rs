//! `TTS.tts.models.vits.Vits` of Coqui's TTS: a `.pth` of `{config, model, ...}`, usually with the same
//! `config.json` next to it. Upstream is coqui-tts, `TTS/tts/models/vits.py` and `TTS/tts/layers/vits/`.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value as Json, json};
use vitstream_checkpoint::{Checkpoint, DType, Tensor};
use vitstream_vits::hparams::DurationHParams;
use vitstream_vits::{HParams, Untold, Weights};

use crate::Error;
use crate::keys::Keys;
use crate::settings::{Settings, hparams_error, plain};
use crate::voice_json::{Symbols, VoiceJson};
use crate::{Context, Parts};

/// Names of settings that the weights determine. `num_chars` is not among them, because Coqui itself does not
/// keep it up to date.
const CLAIMS: [(&str, &str); 11] = [
    ("hidden_channels", "hidden_channels"),
    ("hidden_channels", "inter_channels"),
    ("hidden_channels_ffn_text_encoder", "filter_channels"),
    ("num_heads_text_encoder", "n_heads"),
    ("num_layers_text_encoder", "n_layers"),
    ("kernel_size_text_encoder", "kernel_size"),
    ("kernel_size_flow", "flow.kernel_size"),
    ("num_layers_flow", "flow.n_layers"),
    ("resblock_kernel_sizes_decoder", "resblock_kernel_sizes"),
    ("upsample_initial_channel_decoder", "upsample_initial_channel"),
    ("upsample_kernel_sizes_decoder", "upsample_kernel_sizes"),
];

/// Epsilon of the plain predictor's norms, from `TTS.tts.layers.generic.normalization.LayerNorm`.
const PREDICTOR_NORM_EPS: f32 = 1e-4;

pub(crate) fn read(checkpoint: &Checkpoint, keys: Keys, context: &Context<'_>) -> Result<Parts, Error> {
    let path = checkpoint.path();
    let config = find_config(checkpoint, context)?;
    let args = config.section("model_args");
    refuse_other_networks(path, &keys, &args)?;
    let conditioned = args.flag("condition_dp_on_speaker")?.unwrap_or(true);

    let Keys { tensors, notes, mut warnings, .. } = keys;
    let mut tensors: Vec<(String, Tensor)> = tensors.iter().map(rename).collect::<Result<_, _>>()?;
    if !conditioned {
        unconditioned(path, &mut tensors)?;
    }
    let weights = Weights::new(tensors);
    let hparams = hparams(path, &config, &args, &weights)?;
    let voice = voice(&config, &args, &hparams, &mut warnings)?.config(&config.path, &hparams);
    let files = vec![checkpoint.file().clone()];
    Ok(Parts {
        weights,
        hparams,
        config: Some(voice),
        format: "Coqui VITS checkpoint",
        warnings,
        notes,
        files,
    })
}

/// As in Coqui, the file next to the checkpoint takes precedence; without it, the copy inside is used.
fn find_config(checkpoint: &Checkpoint, context: &Context<'_>) -> Result<Settings, Error> {
    let path = checkpoint.path();
    let is_ours = |settings: &Settings| settings.get("model_args").is_some_and(Json::is_object);
    if let Some(named) = &context.options.config {
        let settings = Settings::read(named)?;
        return if is_ours(&settings) {
            Ok(settings)
        } else {
            Err(settings.problem("model_args", "missing"))
        };
    }
    if let Some(settings) = context.around.settings("config.json")?.filter(is_ours) {
        return Ok(settings);
    }
    let inside = checkpoint.lookup(&["config"])?.map(plain);
    let inside = inside.and_then(|config| match config {
        Json::Object(map) => Some(Settings::new(path, map)),
        _ => None,
    });
    inside.filter(is_ours).ok_or_else(|| Error::NoConfig {
        path: path.to_owned(),
        expected: "the config.json of a Coqui VITS training",
    })
}

fn refuse_other_networks(path: &Path, keys: &Keys, args: &Settings) -> Result<(), Error> {
    let unsupported = |feature| Err(Error::Unsupported { path: path.to_owned(), feature });
    let shape = |key: &str| keys.shape(key).map(<[usize]>::to_vec);
    let has = |key: &str| keys.shape(key).is_some();
    if args.flag("use_language_embedding")? == Some(true) || has("emb_l.weight") {
        return unsupported("an embedding for each of several languages (use_language_embedding, emb_l)");
    }
    if args.flag("use_d_vector_file")? == Some(true) {
        return unsupported("speakers by external d-vectors (use_d_vector_file)");
    }
    if args.get("encoder_sample_rate").is_some() {
        return unsupported("an encoder whose sample rate differs from the decoder's (encoder_sample_rate)");
    }
    if shape("emb_g.weight").is_some_and(|shape| shape.first() == Some(&1)) {
        return unsupported("a speaker embedding with a single speaker (emb_g of one row)");
    }
    // Coqui fixes the stochastic predictor's width; it equals upstream's only with 192 hidden channels.
    if let (Some(pre), true) =
        (shape("duration_predictor.pre.weight"), has("duration_predictor.flows.0.translation"))
        && pre.len() == 3
        && pre[0] != pre[1]
    {
        return unsupported("a stochastic duration predictor whose width differs from hidden_channels");
    }
    Ok(())
}

/// Completes a predictor without speaker conditioning: the missing layer is replaced by zeros. They are
/// created on request, after the shapes were found to fit and to be affordable.
fn unconditioned(path: &Path, tensors: &mut Vec<(String, Tensor)>) -> Result<(), Error> {
    // The plain predictor has the layer as well, but does not use it.
    tensors.retain(|(key, _)| !key.starts_with("dp.cond."));
    let shape =
        |name: &str| tensors.iter().find(|(key, _)| key == name).map(|(_, tensor)| tensor.shape().to_vec());
    let (Some(emb), Some(emb_g)) = (shape("enc_p.emb.weight"), shape("emb_g.weight")) else { return Ok(()) };
    let (&[_, hidden], &[_, gin]) = (&emb[..], &emb_g[..]) else { return Ok(()) };
    let path: Arc<Path> = path.into();
    for (key, shape) in [("dp.cond.weight", vec![hidden, gin, 1]), ("dp.cond.bias", vec![hidden])] {
        let bytes = shape.iter().try_fold(DType::F32.size(), |bytes, &length| bytes.checked_mul(length));
        // A length that does not match the shape is refused, as both are.
        let bytes = bytes.unwrap_or(usize::MAX);
        let zeros = move || Bytes::from(vec![0; bytes]);
        tensors.push((key.to_owned(), Tensor::computed(&path, key, DType::F32, shape, bytes, zeros)?));
    }
    Ok(())
}

fn hparams(path: &Path, config: &Settings, args: &Settings, weights: &Weights) -> Result<HParams, Error> {
    let missing = |name: &str| args.problem(name, "missing, and the weights do not determine it");
    let audio = config.section("audio");
    let untold = Untold {
        upsample_rates: args
            .sizes("upsample_rates_decoder")?
            .ok_or_else(|| missing("upsample_rates_decoder"))?,
        resblock_dilation_sizes: args
            .nested("resblock_dilation_sizes_decoder")?
            .ok_or_else(|| missing("resblock_dilation_sizes_decoder"))?,
        sample_rate: Some(
            audio.sample_rate("sample_rate")?.ok_or_else(|| audio.problem("sample_rate", "missing"))?,
        ),
    };
    let mut hparams = HParams::from_shapes(&|key| weights.shape(key), untold).map_err(hparams_error(path))?;
    if let Some(rate) = args.size("dilation_rate_flow")? {
        hparams.flow.dilation_rate = rate;
    }
    if let DurationHParams::Plain { layer_norm_eps, .. } = &mut hparams.duration {
        *layer_norm_eps = PREDICTOR_NORM_EPS;
    }
    args.agree(&hparams, &CLAIMS)?;
    args.expect("use_sdp", hparams.use_sdp())?;
    if hparams.multi_speaker() {
        args.expect("speaker_embedding_channels", hparams.gin_channels)?;
    }
    hparams.check().map_err(hparams_error(&config.path))?;
    Ok(hparams)
}

fn voice(
    config: &Settings,
    args: &Settings,
    hparams: &HParams,
    warnings: &mut Vec<String>,
) -> Result<VoiceJson, Error> {
    let symbols = symbols(config)?.filter(|symbols| {
        let fits = symbols.count == hparams.num_symbols;
        if !fits {
            warnings.push(format!(
                "{}: `characters` gives {} symbols, the network has {}: the voice has no phoneme_id_map",
                config.path.display(),
                symbols.count,
                hparams.num_symbols
            ));
        }
        fits
    });
    let phonemes = config.flag("use_phonemes")?.unwrap_or(false);
    let language = config.text("phoneme_language")?.filter(|language| !language.is_empty());
    let mut further = Map::new();
    let names = ["text_cleaner", "add_blank", "enable_eos_bos_chars", "phonemizer"];
    further.extend(names.iter().filter_map(|&name| Some((name.to_owned(), config.get(name)?.clone()))));
    let speakers = config.get("speakers").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let speakers: Vec<String> = speakers.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    if hparams.multi_speaker() && speakers.len() != hparams.num_speakers {
        warnings.push(format!(
            "{}: `speakers` names {} of {} speakers: speakers are identified by number",
            config.path.display(),
            speakers.len(),
            hparams.num_speakers
        ));
    }
    let frontend = match &symbols {
        Some(vocabulary) => Some(frontend(config, &vocabulary.symbols)?),
        None => None,
    };
    Ok(VoiceJson {
        noise_scale: args.float("inference_noise_scale")?.unwrap_or(0.667),
        length_scale: args.float("length_scale")?.unwrap_or(1.0),
        noise_w: args.float("inference_noise_scale_dp")?.unwrap_or(1.0),
        speakers,
        symbols: symbols.map(|vocabulary| vocabulary.symbols),
        language: language.map(str::to_owned),
        espeak: language.filter(|_| phonemes).map(str::to_owned),
        further,
        frontend,
    })
}

/// The steps of `TTSTokenizer`.
fn frontend(config: &Settings, symbols: &Symbols) -> Result<Json, Error> {
    // The last of several equal symbols counts, as in Python.
    let ids: Map<String, Json> = symbols.ids.iter().map(|(symbol, id)| (symbol.clone(), json!(id))).collect();
    let mut frontend = json!({
        "family": "coqui",
        "symbols": ids,
        "use_phonemes": config.flag("use_phonemes")?.unwrap_or(false),
    });
    for name in ["text_cleaner", "phonemizer", "phoneme_language"] {
        if let Some(text) = config.text(name)? {
            frontend[name] = text.into();
        }
    }
    for (name, id) in [("blank", symbols.blank), ("bos", symbols.bos), ("eos", symbols.eos)] {
        if let Some(id) = id {
            frontend[name] = id.into();
        }
    }
    Ok(frontend)
}

struct Vocabulary {
    symbols: Symbols,
    /// Number of symbols including repetitions, which the embedding must have.
    count: usize,
}

/// The vocabulary as assembled by `TTS.tts.utils.text.characters`; `None` for an unknown class.
fn symbols(config: &Settings) -> Result<Option<Vocabulary>, Error> {
    let characters = config.section("characters");
    let text = |name: &str| characters.text(name).map(|text| text.unwrap_or_default().to_owned());
    let letters = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    let one = |text: String| if text.is_empty() { None } else { Some(text) };
    let class = characters.text("characters_class")?.map(str::to_owned);
    let phonemes = config.flag("use_phonemes")?.unwrap_or(false);
    let class = match class.as_deref().and_then(|class| class.rsplit('.').next()) {
        Some(class @ ("VitsCharacters" | "IPAPhonemes" | "Graphemes")) => class.to_owned(),
        Some(_) => return Ok(None),
        None if phonemes => "IPAPhonemes".to_owned(),
        None => "Graphemes".to_owned(),
    };
    if characters.map.is_empty() {
        // Assuming the defaults of another version would be a guess.
        return Ok(None);
    }
    let (blank, bos, eos);
    let vocabulary: Vec<String> = if class == "VitsCharacters" {
        (blank, bos, eos) = (Some("<BLNK>".to_owned()), None, None);
        let mut all = vec![text("pad")?];
        all.extend(letters(&text("punctuations")?));
        all.extend(letters(&text("characters")?));
        all.extend(letters(&text("phonemes")?));
        all.extend(blank.clone());
        all
    } else {
        (blank, bos, eos) = (one(text("blank")?), one(text("bos")?), one(text("eos")?));
        let phonemes = one(text("phonemes")?).filter(|_| class == "IPAPhonemes");
        let mut all = letters(&phonemes.map_or_else(|| text("characters"), Ok)?);
        if characters.flag("is_unique")?.unwrap_or(false) {
            // Python's sets have no order, so only a sorted one is known.
            if !characters.flag("is_sorted")?.unwrap_or(true) {
                return Ok(None);
            }
            all.sort();
            all.dedup();
        }
        if characters.flag("is_sorted")?.unwrap_or(true) {
            all.sort();
        }
        let special = [one(text("pad")?), eos.clone(), bos.clone(), blank.clone()];
        let mut all: Vec<String> = special.into_iter().flatten().chain(all).collect();
        all.extend(letters(&text("punctuations")?));
        all
    };
    let ids: Vec<(String, i64)> = vocabulary.iter().cloned().zip(0..).collect();
    // The last of several equal symbols counts, as in Python.
    let id = |symbol: Option<&String>| {
        symbol.and_then(|s| ids.iter().rev().find(|(name, _)| name == s)).map(|&(_, id)| id)
    };
    let blank = id(blank.as_ref()).filter(|_| config.get("add_blank") == Some(&Json::Bool(true)));
    let ends = config.flag("enable_eos_bos_chars")?.unwrap_or(false);
    let (bos, eos) = if ends { (id(bos.as_ref()), id(eos.as_ref())) } else { (None, None) };
    let count = ids.len();
    Ok(Some(Vocabulary { symbols: Symbols { ids, blank, bos, eos }, count }))
}

/// A tensor under upstream's key. An unknown tensor keeps its own key, and is reported as unexpected later.
fn rename((name, tensor): &(String, Tensor)) -> Result<(String, Tensor), Error> {
    let key = upstream_key(name).unwrap_or_else(|| name.clone());
    let norm = key.ends_with(".gamma") || key.ends_with(".beta");
    let tensor = match (norm, tensor.shape()) {
        (true, &[1, channels, 1]) => tensor.with_unit_axes(&[channels])?,
        _ => tensor.clone(),
    };
    Ok((key, tensor))
}

fn upstream_key(key: &str) -> Option<String> {
    let (part, rest) = key.split_once('.')?;
    Some(match part {
        "text_encoder" => format!("enc_p.{rest}"),
        "duration_predictor" => match rest.strip_prefix("flows.") {
            None => format!("dp.{rest}"),
            Some(rest) => {
                let (index, leaf) = rest.split_once('.')?;
                match (index.parse::<usize>().ok()?, leaf) {
                    (0, "translation") => "dp.flows.0.m".to_owned(),
                    (0, "log_scale") => "dp.flows.0.logs".to_owned(),
                    // A Flip, which has no tensors, occupies every other index.
                    (index, leaf) => format!("dp.flows.{}.{leaf}", index.checked_mul(2)?.checked_sub(1)?),
                }
            }
        },
        "flow" => {
            let (index, leaf) = rest.strip_prefix("flows.")?.split_once('.')?;
            format!("flow.flows.{}.{leaf}", index.parse::<usize>().ok()?.checked_mul(2)?)
        }
        "waveform_decoder" => match rest.strip_prefix("cond_layer.") {
            Some(leaf) => format!("dec.cond.{leaf}"),
            None => format!("dec.{rest}"),
        },
        "posterior_encoder" => format!("enc_q.{rest}"),
        "disc" => format!("model_d.{rest}"),
        _ => return None,
    })
}
