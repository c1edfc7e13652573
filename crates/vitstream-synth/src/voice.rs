//! A voice: opened once, then asked to speak as often as wanted, from as many threads as wanted.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use vitstream_source::config::VoiceConfig;

use crate::backend::{DecodeBackend, EncodeBackend};
use crate::error::{Error, Result};
use crate::noise::Noise;
use crate::pair::Pair;
use crate::runtime::{Runtime, RuntimeOptions, Wall};
use crate::schedule::{Chunking, Cost, Profile};
use crate::stream::{Request, SpeechStream};

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

/// Refuses what no sound device plays.
fn check_sample_rate(path: &Path, rate: u32) -> Result<()> {
    if SAMPLE_RATES.contains(&rate) {
        return Ok(());
    }
    let (least, most) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
    Err(Error::model(path, format!("the sample rate: expected {least} to {most} hertz, found {rate}")))
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

/// What is known about a voice besides its network.
#[derive(Clone, Debug, PartialEq)]
pub struct VoiceInfo {
    /// Hertz.
    pub sample_rate: u32,
    /// How many phoneme ids there are, when known: ids are below it.
    pub symbols: Option<usize>,
    /// How many speakers there are, 1 for a voice without speaker embeddings.
    pub speakers: usize,
    /// The speakers' names.
    pub speaker_ids: BTreeMap<String, i64>,
    /// The scales that are used when the caller gives none.
    pub scales: Scales,
    /// The cost of a push, for the schedule.
    pub cost: Cost,
    /// Under what name a [`Profile`] knows this voice on this runtime.
    pub profile_key: String,
    /// The voice's JSON; empty when there is none.
    pub json: serde_json::Map<String, serde_json::Value>,
}

/// A loaded voice. Cloning shares it.
#[derive(Clone)]
pub struct Voice {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) encoder: Box<dyn EncodeBackend>,
    pub(crate) decoder: Arc<dyn DecodeBackend>,
    pub(crate) info: VoiceInfo,
}

impl std::fmt::Debug for Voice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Voice").field("info", &self.inner.info).finish_non_exhaustive()
    }
}

impl Voice {
    /// Opens the pair in `dir`: `encoder.onnx`, `decoder.stream.onnx` or `decoder.onnx`, and `config.json`
    /// (or `encoder.onnx.json`), which may be missing.
    ///
    /// # Errors
    /// When a file is missing or damaged, files of different voices lie together, the sample rate is nowhere to be
    /// found, or the runtime is not there.
    pub fn open(dir: &Path, options: &VoiceOptions) -> Result<Self> {
        if !(1..=256).contains(&options.threads) {
            return Err(Error::request(format!("threads: expected 1 to 256, found {}", options.threads)));
        }
        let config = VoiceConfig::find_in(dir)?;
        let config = config.as_ref();
        config.map_or(Ok(()), VoiceConfig::check_types)?;
        let runtime = RuntimeOptions {
            runtime: options.runtime,
            threads: options.threads,
            library: options.library.clone(),
            wall: options.wall.clone(),
        };
        let pair = Pair::open(dir, options.decoder, &runtime)?;
        let sample_rate = options
            .sample_rate
            .or(pair.sample_rate)
            .or(config.and_then(VoiceConfig::sample_rate))
            .ok_or_else(|| {
                let json = config.map_or_else(
                    || VoiceConfig::absent_from(dir),
                    |config| format!("{} does not say it", config.path.display()),
                );
                Error::NoSampleRate { path: dir.to_owned(), where_not: format!("no metadata, and {json}") }
            })?;
        check_sample_rate(dir, sample_rate)?;
        let speakers = match (pair.speakers, config.and_then(VoiceConfig::num_speakers)) {
            (None, Some(n)) if n > 1 => {
                let json = config.map_or_else(String::new, |config| config.path.display().to_string());
                return Err(Error::Mismatch(format!(
                    "{json} speaks of {n} speakers, encoder.onnx has a single one"
                )));
            }
            (None, _) => 1,
            (Some(Some(rows)), _) => rows,
            (Some(None), Some(n)) => usize::try_from(n).unwrap_or(usize::MAX),
            (Some(None), None) => {
                return Err(Error::model(
                    dir,
                    "how many speakers there are is in no metadata and in no JSON",
                ));
            }
        };
        let defaults = Scales::default();
        let scale = |name, default| config.and_then(|config| config.scale(name)).unwrap_or(default);
        let scales = Scales {
            noise: scale("noise_scale", defaults.noise),
            length: scale("length_scale", defaults.length),
            noise_w: scale("noise_w", defaults.noise_w),
        };
        let profile_key =
            format!("{}/{}/{}/{}", options.runtime, options.threads, pair.decoder_kind, pair.identity);
        let info = VoiceInfo {
            sample_rate,
            symbols: pair.symbols.or(config.and_then(VoiceConfig::num_symbols)),
            speakers,
            speaker_ids: config.map(VoiceConfig::speaker_ids).unwrap_or_default(),
            scales,
            cost: options.profile.costs.get(&profile_key).copied().unwrap_or(pair.cost),
            profile_key,
            json: config.map(|config| config.json().clone()).unwrap_or_default(),
        };
        Ok(Self::from_parts(Box::new(pair.encoder), pair.decoder, info))
    }

    /// A voice computed by an engine of the caller's.
    pub fn from_parts(
        encoder: Box<dyn EncodeBackend>,
        decoder: Arc<dyn DecodeBackend>,
        info: VoiceInfo,
    ) -> Self {
        Self { inner: Arc::new(Inner { encoder, decoder, info }) }
    }

    /// What is known about the voice.
    pub fn info(&self) -> &VoiceInfo {
        &self.inner.info
    }

    /// Under what name a [`Profile`] knows this voice on this runtime.
    pub fn profile_key(&self) -> &str {
        &self.inner.info.profile_key
    }

    /// The voice's decoder, for those who feed it themselves.
    pub fn decoder(&self) -> Arc<dyn DecodeBackend> {
        self.inner.decoder.clone()
    }

    /// Bytes that its weights take in memory, as packed for the kernels; `None` for runtimes that do not tell.
    pub fn weight_bytes(&self) -> Option<usize> {
        Some(self.inner.encoder.weight_bytes()? + self.inner.decoder.weight_bytes()?)
    }

    /// Whether [`SpeechStream::durations`] tells when each phoneme is spoken: with an engine of ours always, with a
    /// pair when it was exported with `--durations`.
    pub fn gives_durations(&self) -> bool {
        self.inner.encoder.gives_durations()
    }

    /// Seconds that one frame plays.
    pub fn frame_seconds(&self) -> f64 {
        self.inner.decoder.hop_length() as f64 / f64::from(self.inner.info.sample_rate)
    }

    /// Speaks `ids`, chunk by chunk. Nothing is computed before the first chunk is asked for; dropping the stream ends
    /// the work.
    ///
    /// # Errors
    /// When the voice cannot speak this: no ids or more than [`MAX_IDS`], an id outside the vocabulary, an unknown
    /// speaker, scales outside their range, a length beyond [`MAX_STRETCHED_IDS`], a chunk of no frames, or a seed for
    /// a voice that draws its own noise.
    pub fn stream(&self, ids: &[i64], options: &SpeakOptions) -> Result<SpeechStream> {
        Ok(SpeechStream::new(self.inner.clone(), self.check(ids, options)?, options.chunking.clone()))
    }

    /// Speaks `ids` and gives all samples at once, f32 between -1 and 1.
    ///
    /// # Errors
    /// As [`stream`](Self::stream), and when computing fails.
    pub fn synthesize(&self, ids: &[i64], options: &SpeakOptions) -> Result<Vec<f32>> {
        let mut samples = Vec::new();
        for chunk in self.stream(ids, options)? {
            samples.extend(chunk?.samples);
        }
        Ok(samples)
    }

    fn check(&self, ids: &[i64], options: &SpeakOptions) -> Result<Request> {
        let info = &self.inner.info;
        if ids.is_empty() {
            return Err(Error::request("there are no phoneme ids to speak"));
        }
        if ids.len() > MAX_IDS {
            return Err(Error::request(format!(
                "{} phoneme ids are more than the {MAX_IDS} of one utterance; split the text at its sentences",
                ids.len()
            )));
        }
        let symbols = info.symbols.unwrap_or(i32::MAX as usize);
        for (i, &id) in ids.iter().enumerate() {
            if !usize::try_from(id).is_ok_and(|id| id < symbols) {
                return Err(Error::request(format!(
                    "phoneme id {id} at position {i}: expected 0 to {}",
                    symbols - 1
                )));
            }
        }
        let scales = options.scales.unwrap_or(info.scales);
        scales.check()?;
        let stretched = ids.len() as f64 * f64::from(scales.length);
        if stretched > MAX_STRETCHED_IDS {
            return Err(Error::request(format!(
                "{} phoneme ids at length scale {} are too long for one utterance ({stretched:.0} against {MAX_STRETCHED_IDS}); split the text",
                ids.len(),
                scales.length
            )));
        }
        match &options.chunking {
            Chunking::Fixed(0) | Chunking::ScheduledFrom(0) => {
                return Err(Error::request("a chunk of 0 frames cannot be"));
            }
            Chunking::List(list) if list.is_empty() || list.contains(&0) => {
                return Err(Error::request(format!(
                    "chunks of {list:?} frames: expected at least one, each of 1 or more"
                )));
            }
            _ => {}
        }
        let noise = match (options.seed, self.inner.encoder.takes_noise()) {
            (Some(_), false) => {
                return Err(Error::NoNoise);
            }
            (Some(seed), true) => Some(Noise::new(seed)),
            (None, true) => Some(Noise::new(RandomState::new().hash_one(0))),
            (None, false) => None,
        };
        Ok(Request { ids: ids.to_vec(), speaker: self.speaker(options.speaker.as_ref())?, scales, noise })
    }

    /// The index of `speaker`, `None` for a voice without embeddings.
    fn speaker(&self, speaker: Option<&Speaker>) -> Result<Option<usize>> {
        let info = &self.inner.info;
        let id = match speaker {
            None => 0,
            Some(Speaker::Id(id)) => *id,
            Some(Speaker::Name(name)) => match info.speaker_ids.get(name) {
                Some(&id) => id,
                None => name.parse().map_err(|_| {
                    let known: Vec<&str> = info.speaker_ids.keys().take(12).map(String::as_str).collect();
                    let more = if info.speaker_ids.len() > known.len() { ", ..." } else { "" };
                    Error::request(format!(
                        "no speaker is called {name:?}; known are: {}{more} (or 0 to {})",
                        known.join(", "),
                        info.speakers.saturating_sub(1)
                    ))
                })?,
            },
        };
        let Some(id) = usize::try_from(id).ok().filter(|&id| id < info.speakers) else {
            return Err(Error::request(format!(
                "speaker {id}: expected 0 to {}",
                info.speakers.saturating_sub(1)
            )));
        };
        Ok((info.speakers > 1).then_some(id))
    }
}
