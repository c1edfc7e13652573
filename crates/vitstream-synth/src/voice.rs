//! A voice: opened once, it speaks any number of times, from any number of threads.

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

/// Refuses sample rates that no sound device plays.
fn check_sample_rate(path: &Path, rate: u32) -> Result<()> {
    if SAMPLE_RATES.contains(&rate) {
        return Ok(());
    }
    let (least, most) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
    Err(Error::model(path, format!("the sample rate: expected {least} to {most} hertz, found {rate}")))
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

/// Facts about a voice besides its network.
#[derive(Clone, Debug, PartialEq)]
pub struct VoiceInfo {
    /// Sample rate in hertz.
    pub sample_rate: u32,
    /// Number of phoneme ids, if known: ids are below it.
    pub symbols: Option<usize>,
    /// Number of speakers; 1 for a voice without speaker embeddings.
    pub speakers: usize,
    /// The speakers' names.
    pub speaker_ids: BTreeMap<String, i64>,
    /// The scales used when the caller gives none.
    pub scales: Scales,
    /// The cost of a push, for the schedule.
    pub cost: Cost,
    /// The name under which a [`Profile`] stores this voice on this runtime.
    pub profile_key: String,
    /// The voice's JSON; empty if there is none.
    pub json: serde_json::Map<String, serde_json::Value>,
}

/// A loaded voice. Clones share it.
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
    /// When a file is missing or damaged, the folder mixes files of different voices, the sample rate is
    /// unknown, or the runtime is not available.
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
                    |config| format!("{} does not state it", config.path.display()),
                );
                Error::NoSampleRate { path: dir.to_owned(), where_not: format!("no metadata, and {json}") }
            })?;
        check_sample_rate(dir, sample_rate)?;
        let speakers = match (pair.speakers, config.and_then(VoiceConfig::num_speakers)) {
            (None, Some(n)) if n > 1 => {
                let json = config.map_or_else(String::new, |config| config.path.display().to_string());
                return Err(Error::Mismatch(format!(
                    "{json} states {n} speakers, but encoder.onnx has only one"
                )));
            }
            (None, _) => 1,
            (Some(Some(rows)), _) => rows,
            (Some(None), Some(n)) => usize::try_from(n).unwrap_or(usize::MAX),
            (Some(None), None) => {
                return Err(Error::model(
                    dir,
                    "neither the metadata nor a JSON states the number of speakers",
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

    /// A voice computed by an engine that the caller provides.
    pub fn from_parts(
        encoder: Box<dyn EncodeBackend>,
        decoder: Arc<dyn DecodeBackend>,
        info: VoiceInfo,
    ) -> Self {
        Self { inner: Arc::new(Inner { encoder, decoder, info }) }
    }

    /// Facts about the voice.
    pub fn info(&self) -> &VoiceInfo {
        &self.inner.info
    }

    /// The name under which a [`Profile`] stores this voice on this runtime.
    pub fn profile_key(&self) -> &str {
        &self.inner.info.profile_key
    }

    /// The voice's decoder, for callers that feed it themselves.
    pub fn decoder(&self) -> Arc<dyn DecodeBackend> {
        self.inner.decoder.clone()
    }

    /// Returns true if [`SpeechStream::durations`] gives the length of each phoneme: always with our own
    /// engine, and with a pair that was exported with durations.
    pub fn gives_durations(&self) -> bool {
        self.inner.encoder.gives_durations()
    }

    /// Duration of one frame in seconds.
    pub fn frame_seconds(&self) -> f64 {
        self.inner.decoder.hop_length() as f64 / f64::from(self.inner.info.sample_rate)
    }

    /// Speaks `ids`, chunk by chunk. Nothing is computed before the first chunk is requested; dropping the
    /// stream stops the work.
    ///
    /// # Errors
    /// When the voice cannot speak this: no ids or more than [`MAX_IDS`], an id outside the vocabulary, an
    /// unknown speaker, scales outside their range, a length beyond [`MAX_STRETCHED_IDS`], a chunk of zero
    /// frames, or a seed for a voice that draws its own noise.
    pub fn stream(&self, ids: &[i64], options: &SpeakOptions) -> Result<SpeechStream> {
        Ok(SpeechStream::new(self.inner.clone(), self.check(ids, options)?, options.chunking.clone()))
    }

    /// Speaks `ids` and returns all samples at once, f32 between -1 and 1.
    ///
    /// # Errors
    /// As [`stream`](Self::stream), and when the computation fails.
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
                "{} phoneme ids are more than the {MAX_IDS} allowed in one utterance; split the text at its sentences",
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
            Chunking::Fixed(0) => return Err(Error::request("chunks of 0 frames: expected 1 or more")),
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

    /// The index of `speaker`; `None` for a voice without embeddings.
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
                        "there is no speaker {name:?}; expected one of {}{more} (or 0 to {})",
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
