//! How a voice is opened and what it is asked to say, each within its limits.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::runtime::{Runtime, Wall};
use crate::schedule::{Chunking, Profile};

/// The most phoneme ids of one utterance: the encoder's memory grows with their square, and reaches a gigabyte here.
pub const MAX_IDS: usize = 5_000;

/// The most ids times length scale of one utterance, about 20 minutes of speech. Durations are computed inside the
/// encoder, where nothing can stop them any more.
pub const MAX_STRETCHED_IDS: f64 = 50_000.0;

/// The most frames of one utterance, whatever made it so long.
pub const MAX_FRAMES: usize = 1 << 17;

/// Samples a second that a voice can have: what sound devices play, with room on both sides.
pub const SAMPLE_RATES: RangeInclusive<u32> = 1_000..=384_000;

/// Noise and speed, in the order in which the encoder's input `scales` takes them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Standard deviation of the prior's sample, 0 to 5.
    pub noise: f32,
    /// Durations are multiplied by this: 0.05 to 20, above 1 is slower.
    pub length: f32,
    /// Standard deviation of what durations are drawn from, 0 to 2.
    pub noise_w: f32,
}

impl Default for Scales {
    /// The values that Piper's voices have.
    fn default() -> Self {
        Self { noise: 0.667, length: 1.0, noise_w: 0.8 }
    }
}

impl Scales {
    /// Whether a voice speaks with them.
    ///
    /// # Errors
    /// When one is outside its range.
    pub fn check(self) -> Result<()> {
        let within = |name: &str, value: f32, low: f32, high: f32| {
            // Not a number is in no range.
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

/// One of a voice's speakers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// By index.
    Id(i64),
    /// By its name in the JSON's `speaker_id_map`, or by index in digits.
    Name(String),
}

impl FromStr for Speaker {
    type Err = Infallible;

    fn from_str(name: &str) -> Result<Self, Infallible> {
        Ok(Self::Name(name.to_owned()))
    }
}

/// Which of a pair's decoders to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecoderChoice {
    /// `decoder.stream.onnx` when it is there, else `decoder.onnx`.
    #[default]
    Auto,
    /// `decoder.stream.onnx`, which carries its state.
    Stateful,
    /// `decoder.onnx` over overlapping windows.
    Windowed,
}

/// How a voice is to be opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VoiceOptions {
    /// The runtime that computes the graphs.
    pub runtime: Runtime,
    /// Threads for each graph, at least 1. More than one seldom pays: most convolutions of a chunk are small.
    pub threads: usize,
    /// Where ONNX Runtime's shared library is; looked for when absent.
    pub library: Option<PathBuf>,
    /// Where graphs run; in this process when absent, which a stranger's graph can then end.
    pub wall: Option<Wall>,
    /// Which decoder.
    pub decoder: DecoderChoice,
    /// The sample rate in hertz, for a pair whose files do not say it.
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

    /// The runtime that computes the graphs.
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// Threads for each graph, 1 to 256.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Where ONNX Runtime's shared library is.
    pub fn library(mut self, library: impl Into<PathBuf>) -> Self {
        self.library = Some(library.into());
        self
    }

    /// Where graphs run; in this process without one.
    pub fn wall(mut self, wall: impl Into<Option<Wall>>) -> Self {
        self.wall = wall.into();
        self
    }

    /// Which of the pair's decoders.
    pub fn decoder(mut self, decoder: DecoderChoice) -> Self {
        self.decoder = decoder;
        self
    }

    /// The sample rate in hertz, for a pair whose files do not say it.
    pub fn sample_rate(mut self, sample_rate: impl Into<Option<u32>>) -> Self {
        self.sample_rate = sample_rate.into();
        self
    }

    /// The cost of pushes on this device.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }
}

/// How one utterance is to be spoken.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SpeakOptions {
    /// Who speaks; the first speaker when absent.
    pub speaker: Option<Speaker>,
    /// Noise and speed; what the voice's JSON says when absent.
    pub scales: Option<Scales>,
    /// Makes the noise reproducible. Only for voices whose noise is an input of the encoder, and those of an engine.
    pub seed: Option<u64>,
    /// How the utterance is cut.
    pub chunking: Chunking,
}

impl SpeakOptions {
    /// The same as [`default`](Self::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// Who speaks; without it, the first speaker.
    pub fn speaker(mut self, speaker: impl Into<Option<Speaker>>) -> Self {
        self.speaker = speaker.into();
        self
    }

    /// Noise and speed; without them, what the voice's JSON says.
    pub fn scales(mut self, scales: impl Into<Option<Scales>>) -> Self {
        self.scales = scales.into();
        self
    }

    /// Makes the noise reproducible. Only for voices whose noise is an input of the encoder, and for the native engine.
    pub fn seed(mut self, seed: impl Into<Option<u64>>) -> Self {
        self.seed = seed.into();
        self
    }

    /// How the utterance is cut into chunks.
    pub fn chunking(mut self, chunking: Chunking) -> Self {
        self.chunking = chunking;
        self
    }
}
