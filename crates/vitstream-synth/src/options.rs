//! How a voice is opened and what it is asked to say, each within its limits.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::runtime::{Runtime, Wall};
use crate::schedule::{Chunking, Profile};

/// Limit on the phoneme ids of one utterance: the encoder's memory grows with their square, and reaches a
/// gigabyte here.
pub const MAX_IDS: usize = 5_000;

/// Limit on the ids of one utterance multiplied by its length scale, about 20 minutes of speech. Durations
/// are computed inside the encoder, where nothing can stop them.
pub const MAX_STRETCHED_IDS: f64 = 50_000.0;

/// Limit on the frames of one utterance, whatever the reason for its length.
pub const MAX_FRAMES: usize = 1 << 17;

/// Allowed sample rates in hertz: those of sound devices, with a margin on both sides.
pub const SAMPLE_RATES: RangeInclusive<u32> = 1_000..=384_000;

/// Noise and speed, in the order of the encoder's input `scales`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Standard deviation of the prior's sample, 0 to 5.
    pub noise: f32,
    /// Factor on durations: 0.05 to 20; larger than 1 is slower.
    pub length: f32,
    /// Standard deviation of the noise from which durations are drawn, 0 to 2.
    pub noise_w: f32,
}

impl Default for Scales {
    /// The defaults of Piper's voices.
    fn default() -> Self {
        Self { noise: 0.667, length: 1.0, noise_w: 0.8 }
    }
}

impl Scales {
    /// Checks that a voice can speak with these scales.
    ///
    /// # Errors
    /// When one is outside its range.
    pub fn check(self) -> Result<()> {
        let within = |name: &str, value: f32, low: f32, high: f32| {
            // NaN is in no range.
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::request(format!("{name}: expected {low} to {high}, found {value}")))
        };
        within("noise scale", self.noise, 0.0, 5.0)?;
        within("length scale", self.length, 0.05, 20.0)?;
        within("noise_w", self.noise_w, 0.0, 2.0)
    }
}

/// A speaker of a voice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// By index.
    Id(i64),
    /// By its name in the JSON's `speaker_id_map`, or by its index as decimal digits.
    Name(String),
}

impl FromStr for Speaker {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(Self::Name(name.to_owned()))
    }
}

/// The decoder of a pair to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecoderChoice {
    /// `decoder.stream.onnx` if it exists, else `decoder.onnx`.
    #[default]
    Auto,
    /// `decoder.stream.onnx`, which carries its state.
    Stateful,
    /// `decoder.onnx` over overlapping windows.
    Windowed,
}

/// Options for opening a voice.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VoiceOptions {
    /// The runtime that computes the graphs.
    pub runtime: Runtime,
    /// Threads for each graph, at least 1. More than one seldom pays, because most convolutions of a chunk
    /// are small.
    pub threads: usize,
    /// Path of ONNX Runtime's shared library; searched for if absent.
    pub library: Option<PathBuf>,
    /// Process in which graphs run. If absent they run in this process, which a stranger's graph can then
    /// end.
    pub wall: Option<Wall>,
    /// The decoder to use.
    pub decoder: DecoderChoice,
    /// The sample rate in hertz, for a pair whose files do not state it.
    pub sample_rate: Option<u32>,
    /// The cost of pushes on this device.
    pub profile: Profile,
}

impl Default for VoiceOptions {
    fn default() -> Self {
        Self {
            runtime: Runtime::default(),
            threads: 1,
            library: None,
            wall: None,
            decoder: DecoderChoice::default(),
            sample_rate: None,
            profile: Profile::default(),
        }
    }
}

impl VoiceOptions {
    /// The same as [`default`](Self::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the runtime that computes the graphs.
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// Sets the number of threads for each graph, 1 to 256.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the path of ONNX Runtime's shared library.
    pub fn library(mut self, library: impl Into<PathBuf>) -> Self {
        self.library = Some(library.into());
        self
    }

    /// Sets the process in which graphs run; without one, they run in this process.
    pub fn wall(mut self, wall: impl Into<Option<Wall>>) -> Self {
        self.wall = wall.into();
        self
    }

    /// Sets which of the pair's decoders to use.
    pub fn decoder(mut self, decoder: DecoderChoice) -> Self {
        self.decoder = decoder;
        self
    }

    /// Sets the sample rate in hertz, for a pair whose files do not state it.
    pub fn sample_rate(mut self, sample_rate: impl Into<Option<u32>>) -> Self {
        self.sample_rate = sample_rate.into();
        self
    }

    /// Sets the cost of pushes on this device.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }
}

/// Options for speaking one utterance.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SpeakOptions {
    /// The speaker; the first one if absent.
    pub speaker: Option<Speaker>,
    /// Noise and speed; those of the voice's JSON if absent.
    pub scales: Option<Scales>,
    /// Makes the noise reproducible. Only for voices whose noise is an input of the encoder, and for the
    /// native engine.
    pub seed: Option<u64>,
    /// The division of the utterance into chunks.
    pub chunking: Chunking,
}

impl SpeakOptions {
    /// The same as [`default`](Self::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the speaker; without it, the first one speaks.
    pub fn speaker(mut self, speaker: impl Into<Option<Speaker>>) -> Self {
        self.speaker = speaker.into();
        self
    }

    /// Sets noise and speed; without them, those of the voice's JSON apply.
    pub fn scales(mut self, scales: impl Into<Option<Scales>>) -> Self {
        self.scales = scales.into();
        self
    }

    /// Makes the noise reproducible. Only for voices whose noise is an input of the encoder, and for the native engine.
    pub fn seed(mut self, seed: impl Into<Option<u64>>) -> Self {
        self.seed = seed.into();
        self
    }

    /// Sets the division of the utterance into chunks.
    pub fn chunking(mut self, chunking: Chunking) -> Self {
        self.chunking = chunking;
        self
    }
}
