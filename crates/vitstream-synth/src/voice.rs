//! A voice: opened once, it speaks any number of times, from any number of threads.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use vitstream_source::config::VoiceConfig;

use crate::backend::{DecodeBackend, EncodeBackend};
use crate::error::{Error, Result};
use crate::noise::Noise;
use crate::options::{MAX_IDS, MAX_STRETCHED_IDS, SAMPLE_RATES, Scales, SpeakOptions, Speaker, VoiceOptions};
use crate::pair::Pair;
use crate::runtime::RuntimeOptions;
use crate::schedule::{Chunking, Cost};
use crate::stream::{Request, SpeechStream};

/// Refuses sample rates that no sound device plays.
fn check_sample_rate(path: &Path, rate: u32) -> Result<()> {
    if SAMPLE_RATES.contains(&rate) {
        return Ok(());
    }
    let (least, most) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
    Err(Error::model(path, format!("the sample rate: expected {least} to {most} hertz, found {rate}")))
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
    /// The name under which a [`Profile`](crate::Profile) stores this voice on this runtime.
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

    /// The name under which a [`Profile`](crate::Profile) stores this voice on this runtime.
    pub fn profile_key(&self) -> &str {
        &self.inner.info.profile_key
    }

    /// The voice's decoder, for callers that feed it themselves.
    pub fn decoder(&self) -> Arc<dyn DecodeBackend> {
        self.inner.decoder.clone()
    }

    /// Bytes that its weights take in memory, as packed for the kernels; `None` for runtimes that do not tell.
    pub fn weight_bytes(&self) -> Option<usize> {
        Some(self.inner.encoder.weight_bytes()? + self.inner.decoder.weight_bytes()?)
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
            Chunking::Fixed(0) | Chunking::ScheduledFrom(0) => {
                return Err(Error::request("chunks of 0 frames: expected 1 or more"));
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
