//! One file for each command, and the options that several share.

pub(crate) mod batch;
pub(crate) mod bench;
pub(crate) mod export;
pub(crate) mod inspect;
pub(crate) mod speak;
mod timings;
pub(crate) mod verify;
pub(crate) mod voices;

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use anyhow::{Context, Result};
use directories::ProjectDirs;
use serde::{Deserialize, Serialize};
use vitstream::native::{self, NativeOptions};
use vitstream::source::ReadOptions;
use vitstream::{DecoderChoice, Profile, Runtime, Voice, VoiceOptions};

/// What is said of a trained voice beside its file.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ReadArgs {
    /// The voice's JSON or its training's config.json, if it is not beside the weights
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// A hyper-parameter of weights that state none, such as upsample_rates=8,8,4; may be repeated
    #[arg(long = "hparam", value_name = "NAME=VALUE")]
    hparams: Vec<String>,
}

impl ReadArgs {
    pub(crate) fn options(&self) -> ReadOptions {
        ReadOptions { config: self.config.clone(), hparams: self.hparams.clone() }
    }
}

/// How a voice is opened.
#[derive(clap::Args, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VoiceArgs {
    /// Threads for each graph
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) threads: usize,

    /// ONNX Runtime's shared library, if it is not where it is usually found
    #[arg(long, value_name = "FILE")]
    pub(crate) onnxruntime_library: Option<PathBuf>,

    /// The voice's sample rate in hertz, if its files do not say it
    #[arg(long, value_name = "HZ")]
    pub(crate) sample_rate: Option<u32>,

    /// What chunks cost on this device, as `bench --calibrate` wrote it [default: in the user's configuration]
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,
}

impl VoiceArgs {
    /// Opens the voice at `path` with one runtime. `decoder` is for those that run a folder's graphs, `fast` for ours.
    pub(crate) fn open(
        &self,
        path: &Path,
        runtime: RuntimeArg,
        decoder: DecoderArg,
        fast: bool,
    ) -> Result<Voice> {
        let runtime = match runtime {
            RuntimeArg::Native => return Ok(native::open(path, &self.native_options(fast)?)?),
            RuntimeArg::Rten => Runtime::Rten,
            RuntimeArg::Onnxruntime => Runtime::OnnxRuntime,
        };
        let options = VoiceOptions {
            runtime,
            threads: self.threads,
            library: self.onnxruntime_library.clone(),
            decoder: decoder.into(),
            sample_rate: self.sample_rate,
            profile: self.read_profile()?,
        };
        Ok(Voice::open(path, &options)?)
    }

    /// As [`open`](Self::open), but for a folder whose graphs cannot be read back as a network rten stands in.
    pub(crate) fn open_any(&self, path: &Path, fast: bool) -> Result<Voice> {
        match native::open(path, &self.native_options(fast)?) {
            Err(error) if path.is_dir() && error.is_about_content() => {
                tracing::warn!("{error}; so not the native runtime but rten speaks");
                self.open(path, RuntimeArg::Rten, DecoderArg::Auto, false)
            }
            result => Ok(result?),
        }
    }

    fn native_options(&self, fast: bool) -> Result<NativeOptions> {
        Ok(NativeOptions {
            read: ReadOptions::default(),
            fast,
            threads: self.threads,
            sample_rate: self.sample_rate,
            profile: self.read_profile()?,
        })
    }

    /// Where the profile is, or is to be written.
    pub(crate) fn profile_path(&self) -> Result<PathBuf> {
        match &self.profile {
            Some(path) => Ok(path.clone()),
            None => Ok(ProjectDirs::from("", "", "vitstream")
                .context("this user has no folder for configuration; name the profile with --profile")?
                .config_dir()
                .join("profile.json")),
        }
    }

    /// The profile; an empty one when none was ever written.
    pub(crate) fn read_profile(&self) -> Result<Profile> {
        let path = match self.profile_path() {
            Ok(path) if path.exists() => path,
            _ => return Ok(Profile::default()),
        };
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| {
            format!("{}: not a profile; delete it and run `vitstream bench --calibrate`", path.display())
        })
    }
}

/// Who computes.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RuntimeArg {
    /// vitstream's own engine, on an exported folder or any file that `export` reads
    Native,
    /// rten, pure Rust, on an exported folder
    Rten,
    /// Microsoft's ONNX Runtime, found on this machine, on an exported folder
    Onnxruntime,
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

/// Spelt on the command line as [`DecoderChoice`]'s variants.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DecoderArg {
    /// decoder.stream.onnx if it is there, else decoder.onnx
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
