//! Weights under upstream's keys without hyper-parameters in the file: the original VITS's `G_*.pth`, whose
//! settings are in the `config.json` next to it, and a generator that was saved alone, as `.pt` or
//! safetensors. Facts that shapes do not determine must be stated by that `config.json`, by the voice's JSON,
//! or by the caller; nothing is guessed.

use serde_json::{Map, Value as Json, json};
use vitstream_checkpoint::Checkpoint;
use vitstream_vits::{HParams, ResBlockKind, Untold, Weights};

use crate::Error;
use crate::config::VoiceConfig;
use crate::keys::Keys;
use crate::settings::{Settings, flags, hparams_error};
use crate::voice_json::VoiceJson;
use crate::{Context, Parts};

/// Settings that may be stated although shapes determine them; a statement must then agree with the shapes.
const CLAIMS: [(&str, &str); 13] = [
    ("num_symbols", "num_symbols"),
    ("inter_channels", "inter_channels"),
    ("hidden_channels", "hidden_channels"),
    ("filter_channels", "filter_channels"),
    ("n_heads", "n_heads"),
    ("n_layers", "n_layers"),
    ("kernel_size", "kernel_size"),
    ("window_size", "window_size"),
    ("resblock_kernel_sizes", "resblock_kernel_sizes"),
    ("resblock_dilation_sizes", "resblock_dilation_sizes"),
    ("upsample_rates", "upsample_rates"),
    ("upsample_initial_channel", "upsample_initial_channel"),
    ("upsample_kernel_sizes", "upsample_kernel_sizes"),
];

/// Further names of `--hparam`.
const FLAGS: [&str; 5] = ["sample_rate", "num_speakers", "gin_channels", "use_sdp", "resblock"];

pub(crate) fn read(checkpoint: &Checkpoint, keys: Keys, context: &Context<'_>) -> Result<Parts, Error> {
    let path = checkpoint.path();
    keys.check_others(checkpoint)?;
    let Keys { tensors, notes, mut warnings, .. } = keys;
    let names = CLAIMS.iter().map(|&(name, _)| name).chain(FLAGS);
    let flags = flags(&context.options.hparams, names)?;
    let settings = match &context.options.config {
        Some(path) => Some(Settings::read(path)?),
        None => {
            let beside = context.around.first(&VoiceConfig::names_beside(path))?;
            beside.map(|(path, contents)| Settings::parse(&path, &contents)).transpose()?
        }
    };
    let kind = settings.as_ref().map(|settings| (settings, Kind::of(settings)));
    if let (Some((settings, Kind::Other)), true) = (&kind, context.options.config.is_some()) {
        let problem = "expected a VITS config.json (`model`, `data`) or a voice's JSON (`audio`)".to_owned();
        return Err(Error::Config { path: settings.path.clone(), problem });
    }

    let weights = Weights::new(tensors);
    let (none, training) = (Settings::new(path, Map::new()), |name: &str| match &kind {
        Some((settings, Kind::Training)) => settings.section(name),
        _ => Settings::new(path, Map::new()),
    });
    let (model, data) = (training("model"), training("data"));
    let voice = match &kind {
        Some((settings, Kind::Voice)) => settings,
        _ => &none,
    };

    let mut missing = Vec::new();
    let mut stated = |name: &'static str, example: &'static str| missing.push((name, example));
    let rates = flags.sizes("upsample_rates")?.or(model.sizes("upsample_rates")?);
    let dilations = flags.nested("resblock_dilation_sizes")?.or(model.nested("resblock_dilation_sizes")?);
    let sample_rate = flags.sample_rate("sample_rate")?.or(data.sample_rate("sampling_rate")?);
    let sample_rate = sample_rate.or(voice.section("audio").sample_rate("sample_rate")?);
    if rates.is_none() {
        stated("upsample_rates", "8,8,4");
    }
    if dilations.is_none() {
        stated("resblock_dilation_sizes", "(1,2),(2,6),(3,12)");
    }
    if sample_rate.is_none() {
        stated("sample_rate", "22050");
    }
    let (Some(upsample_rates), Some(resblock_dilation_sizes)) = (rates, dilations) else {
        return Err(Error::MissingHParams { path: path.to_owned(), missing });
    };
    if !missing.is_empty() {
        return Err(Error::MissingHParams { path: path.to_owned(), missing });
    }
    let untold = Untold { upsample_rates, resblock_dilation_sizes, sample_rate };
    let mut hparams = HParams::from_shapes(&|key| weights.shape(key), untold).map_err(hparams_error(path))?;
    if hparams.num_speakers <= 1 {
        hparams.gin_channels = 0;
    }
    hold(&flags, &hparams)?;
    flags.expect("num_speakers", hparams.num_speakers)?;
    hold(&model, &hparams)?;
    // The original states 0 for one speaker.
    if let Some(speakers) = data.size("n_speakers")?
        && speakers.max(1) != hparams.num_speakers
    {
        return Err(data.contradiction("n_speakers", &hparams.num_speakers.into()));
    }
    data.expect("hop_length", hparams.hop_length())?;
    voice.expect("hop_length", hparams.hop_length())?;

    let config = match &kind {
        Some((settings, Kind::Training)) => {
            warnings.push(format!(
                "{}: the ids of the symbols are defined in the training code, so the voice has no phoneme_id_map",
                settings.path.display()
            ));
            let frontend = original_frontend(settings, &data, &hparams, &mut warnings)?;
            Some(original_voice(&data, frontend)?.config(&settings.path, &hparams))
        }
        Some((settings, Kind::Voice)) => Some(VoiceConfig::of(&settings.path, settings.map.clone())),
        _ => None,
    };
    let original = ["iteration", "learning_rate"].iter().any(|key| checkpoint.metadata().get(key).is_some());
    let format = if original { "original VITS checkpoint" } else { "VITS state dict" };
    let files = vec![checkpoint.file().clone()];
    Ok(Parts { weights, hparams, config, format, warnings, notes, files })
}

/// The kind of JSON found with the weights.
#[derive(Clone, Copy)]
enum Kind {
    /// The original's `config.json`: `train`, `data`, `model`.
    Training,
    /// A voice's JSON in piper's form.
    Voice,
    /// Neither.
    Other,
}

impl Kind {
    fn of(settings: &Settings) -> Self {
        let is_object = |name: &str| settings.get(name).is_some_and(Json::is_object);
        match () {
            () if is_object("model") && is_object("data") => Self::Training,
            () if is_object("audio") => Self::Voice,
            () => Self::Other,
        }
    }
}

/// Checks the settings against the weights.
fn hold(settings: &Settings, hparams: &HParams) -> Result<(), Error> {
    settings.agree(hparams, &CLAIMS)?;
    settings.expect("use_sdp", hparams.use_sdp())?;
    if hparams.multi_speaker() {
        settings.expect("gin_channels", hparams.gin_channels)?;
    }
    let (number, text) = match hparams.resblock {
        ResBlockKind::ResBlock1 => (1, "1"),
        ResBlockKind::ResBlock2 => (2, "2"),
    };
    match settings.get("resblock") {
        Some(Json::String(found)) if found == text => Ok(()),
        Some(Json::String(_)) => Err(settings.contradiction("resblock", &text.into())),
        _ => settings.expect("resblock", number),
    }
}

/// The defaults of the original's inference notebook.
fn original_voice(data: &Settings, frontend: Option<Json>) -> Result<VoiceJson, Error> {
    let mut further = Map::new();
    let names = ["text_cleaners", "add_blank"];
    further.extend(names.iter().filter_map(|&name| Some((name.to_owned(), data.get(name)?.clone()))));
    Ok(VoiceJson {
        noise_scale: 0.667,
        length_scale: 1.0,
        noise_w: 0.8,
        speakers: Vec::new(),
        symbols: None,
        language: None,
        espeak: None,
        further,
        frontend,
    })
}

/// Symbols of upstream's `text/symbols.py`.
const UPSTREAM_SYMBOLS: usize = 178;

/// The original's conversion of text into ids: its cleaners and symbols. They are defined in its code, but
/// forks for other languages write them into the `config.json`.
fn original_frontend(
    settings: &Settings,
    data: &Settings,
    hparams: &HParams,
    warnings: &mut Vec<String>,
) -> Result<Option<Json>, Error> {
    let Some(cleaners) = data.texts("text_cleaners")? else { return Ok(None) };
    let mut frontend = json!({
        "family": "vits",
        "text_cleaners": cleaners,
        "add_blank": data.flag("add_blank")?.unwrap_or(true),
    });
    match settings.texts("symbols")? {
        Some(symbols) if symbols.len() == hparams.num_symbols => frontend["symbols"] = symbols.into(),
        Some(symbols) => {
            warnings.push(format!(
                "{}: `symbols` lists {}, the network has {}: the voice cannot read text",
                settings.path.display(),
                symbols.len(),
                hparams.num_symbols
            ));
            return Ok(None);
        }
        None if hparams.num_symbols == UPSTREAM_SYMBOLS => {}
        None => return Ok(None),
    }
    Ok(Some(frontend))
}
