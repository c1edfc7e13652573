//! One module for each command, and the options that several of them share.

#[cfg(not(feature = "full"))]
pub(crate) mod absent;
#[cfg(feature = "batch")]
pub(crate) mod batch;
#[cfg(feature = "bench")]
pub(crate) mod bench;
pub(crate) mod export;
mod ids;
pub(crate) mod inspect;
pub(crate) mod lines;
mod outputs;
pub(crate) mod phonemize;
pub(crate) mod phonemizer;
pub(crate) mod piece;
mod remedy;
#[cfg(feature = "serve")]
pub(crate) mod serve;
pub(crate) mod signals;
pub(crate) mod speak;
pub(crate) mod speechd;
mod subtitles;
pub(crate) mod terminal;
pub(crate) mod text;
mod timings;
#[cfg(feature = "verify")]
pub(crate) mod verify;
#[cfg_attr(not(feature = "voices"), path = "voices_absent.rs")]
pub(crate) mod voices;

// Commands that a build leaves out are still known.
#[cfg(not(feature = "batch"))]
pub(crate) use absent as batch;
#[cfg(not(feature = "bench"))]
pub(crate) use absent as bench;
#[cfg(not(feature = "serve"))]
pub(crate) use absent as serve;
#[cfg(not(feature = "verify"))]
pub(crate) use absent as verify;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::{env, io};

use anyhow::{Context, Result, ensure};
use directories::ProjectDirs;
use serde::{Deserialize, Serialize};
use vitstream::source::{ReadOptions, WeightSet};
use vitstream::{Backend, DecoderChoice, OpenOptions, Profile, Voice, Wall};
use vitstream::{decode_text, read_file};

/// The argument with which a process of this program runs a graph for another one.
const GRAPH_WORKER: &str = "graph-worker";

/// The wall for strangers' graphs: processes of this program.
pub(crate) fn wall() -> Option<Wall> {
    Some(Wall::new(env::current_exe().ok()?, [GRAPH_WORKER]))
}

/// `vitstream graph-worker`
pub(crate) fn run_graphs() -> Result<()> {
    Ok(vitstream::runtime::serve(io::stdin().lock(), io::stdout().lock())?)
}

/// Options for reading a trained voice. Every command that reads one has all of them.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Reading the voice")]
pub(crate) struct ReadArgs {
    /// The voice's JSON or its training's config.json [default: NAME.onnx.json, NAME.json or config.json next
    /// to NAME.ckpt]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// A hyper-parameter that a checkpoint does not state, or states wrongly, such as upsample_rates=8,8,4;
    /// may be repeated
    #[arg(long = "hparam", value_name = "NAME=VALUE")]
    hparams: Vec<String>,

    /// Weights to use from a checkpoint that has two sets [default: the set that Piper's own export uses]
    #[arg(long, value_enum, value_name = "SET")]
    weights: Option<WeightsArg>,

    /// Accept weights that are infinite or NaN; the voice will be noise or silence, and some runtimes refuse
    /// it
    #[arg(long)]
    allow_nan: bool,

    /// Memory that the file's tensors may take [default: twice the file's size plus 64 MiB]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    memory_budget: Option<u64>,
}

/// Command-line names of [`WeightSet`]'s variants.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WeightsArg {
    /// Weights after the last step of training
    Raw,
    /// Weights averaged over steps
    Ema,
}

impl ReadArgs {
    pub(crate) fn options(&self) -> ReadOptions {
        let weights = self.weights.map(|set| match set {
            WeightsArg::Raw => WeightSet::Raw,
            WeightsArg::Ema => WeightSet::Ema,
        });
        let mut options = ReadOptions::new()
            .hparams(&self.hparams)
            .allow_nan(self.allow_nan)
            .weights(weights)
            .memory_budget(self.memory_budget.map(|mib| mib << 20));
        options.config.clone_from(&self.config);
        options
    }
}

/// Options for opening a voice.
#[derive(clap::Args, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VoiceArgs {
    /// Threads for each graph
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) threads: usize,

    /// Keep weights as float16 in memory, which halves their size; for voices exported with `--precision
    /// f16-weights`, on the native runtime. The audio is the same to the last bit
    #[arg(long)]
    half_weights: bool,

    /// ONNX Runtime's shared library, if it is not where it is usually found
    #[arg(long, value_name = "FILE")]
    pub(crate) onnxruntime_library: Option<PathBuf>,

    /// The voice's sample rate in hertz, if its files do not state it
    #[arg(long, value_name = "HZ")]
    pub(crate) sample_rate: Option<u32>,

    /// The cost of chunks on this device, as written by `bench --calibrate` [default: in the user's
    /// configuration]
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) read: ReadArgs,
}

impl VoiceArgs {
    /// Opens the voice at `path`. `decoder` and `wall` are for backends that run a folder's graphs.
    pub(crate) fn open(
        &self,
        path: &Path,
        backend: Backend,
        decoder: DecoderArg,
        wall: Option<Wall>,
    ) -> Result<Voice> {
        let voice = Voice::open(path, &self.open_options(backend, decoder, wall)?)?;
        for warning in voice.warnings() {
            tracing::warn!("{warning}");
        }
        Ok(voice)
    }

    /// The options for opening a voice.
    pub(crate) fn open_options(
        &self,
        backend: Backend,
        decoder: DecoderArg,
        wall: Option<Wall>,
    ) -> Result<OpenOptions> {
        ensure!(self.threads > 0, "--threads: expected at least 1, found 0");
        ensure!(
            matches!(backend, Backend::Auto | Backend::Native) || self.read == ReadArgs::default(),
            "--config, --hparam, --weights, --allow-nan and --memory-budget are for the native runtime; other runtimes \
             run a folder's graphs as they are"
        );
        ensure!(
            matches!(backend, Backend::Auto | Backend::Native) || !self.half_weights,
            "--half-weights is for the native runtime; other runtimes choose the format of the weights themselves"
        );
        let mut options = OpenOptions::new()
            .backend(backend)
            .read(self.read.options())
            .threads(self.threads)
            .half_weights(self.half_weights)
            .decoder(decoder.into())
            .profile(self.read_profile()?);
        options.wall = wall;
        options.library = self.onnxruntime_library.clone();
        options.sample_rate = self.sample_rate;
        Ok(options)
    }

    /// The path of the profile.
    pub(crate) fn profile_path(&self) -> Result<PathBuf> {
        match &self.profile {
            Some(path) => Ok(path.clone()),
            None => Ok(ProjectDirs::from("", "", "vitstream")
                .context("this user has no folder for configuration; name the profile with --profile")?
                .config_dir()
                .join("profile.json")),
        }
    }

    /// The profile; an empty one if none was ever written. An unreadable profile in the user's configuration
    /// is only a warning.
    pub(crate) fn read_profile(&self) -> Result<Profile> {
        static WARNED: Once = Once::new();
        let path = match self.profile_path() {
            Ok(path) if path.exists() => path,
            _ => return Ok(Profile::default()),
        };
        let profile = read_json(&path, MAX_PROFILE).map_err(|error| {
            let advice = "not a profile; delete it and run `vitstream bench --calibrate`";
            let path = path.display().to_string();
            match error.to_string().contains(&path) {
                true => error.context(advice),
                false => error.context(format!("{path}: {advice}")),
            }
        });
        match profile {
            Err(error) if self.profile.is_none() => {
                WARNED.call_once(|| tracing::warn!("{}; continuing without it", terminal::describe(&error)));
                Ok(Profile::default())
            }
            profile => profile,
        }
    }
}

/// Limit on the bytes of a profile. Each measured voice takes about 100.
const MAX_PROFILE: u64 = 4 << 20;

/// Reads a JSON file in any encoding that an editor may have used.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path, limit: u64) -> Result<T> {
    let bytes = read_file(path, limit)?;
    let text = decode_text(&bytes).context("not a text file")?;
    Ok(serde_json::from_str(&text)?)
}

/// The runtime that computes.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuntimeArg {
    /// vitstream's own engine, on an exported folder or any file that `export` reads
    Native,
    /// rten, pure Rust, on an exported folder
    Rten,
    /// Microsoft's ONNX Runtime, if found on this machine, on an exported folder
    Onnxruntime,
}

impl From<RuntimeArg> for Backend {
    fn from(arg: RuntimeArg) -> Self {
        match arg {
            RuntimeArg::Native => Self::Native,
            RuntimeArg::Rten => Self::Rten,
            RuntimeArg::Onnxruntime => Self::OnnxRuntime,
        }
    }
}

impl fmt::Display for RuntimeArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Rten => "rten",
            Self::Onnxruntime => "onnxruntime",
        })
    }
}

/// Command-line names of [`DecoderChoice`]'s variants.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DecoderArg {
    /// decoder.stream.onnx if it exists, else decoder.onnx
    Auto,
    /// decoder.stream.onnx, which carries its state
    Stateful,
    /// decoder.onnx over overlapping windows
    Windowed,
}

impl From<DecoderArg> for DecoderChoice {
    fn from(arg: DecoderArg) -> Self {
        match arg {
            DecoderArg::Auto => Self::Auto,
            DecoderArg::Stateful => Self::Stateful,
            DecoderArg::Windowed => Self::Windowed,
        }
    }
}
