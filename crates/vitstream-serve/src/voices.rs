//! The voices of a server: opened once, shared by all streams, closed when memory is short.

mod find;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vitstream::{OpenOptions, SpeakOptions, Voice};
use vitstream_text::Frontend;
use vitstream_text::phonemizer::Pool;

use crate::error::{Error, Result};
pub use find::find;

/// Minimum time before a voice that could not be opened is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Phoneme ids that are spoken to measure a voice: a few seconds. A single word is more expensive than
/// typical requests.
const MEASURED_IDS: i64 = 100;

/// Number of measurements; the fastest counts, because others may be computing.
const MEASUREMENTS: usize = 2;

/// A voice that is open.
#[derive(Debug)]
pub struct OpenVoice {
    /// Its name in the server.
    pub name: String,
    /// The voice.
    pub voice: Voice,
    /// Its conversion of text into ids.
    pub frontend: Frontend,
    /// Seconds of CPU time per second of audio.
    pub rtf: f64,
    /// Its memory in bytes: its weights as packed, or its files if a runtime holds the graphs.
    pub bytes: u64,
}

/// The public description of a voice.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its name in the server.
    pub name: String,
    /// Its language as stated in its files, such as `en_US`; `und` if unknown.
    pub language: String,
    /// Its speakers' names, the default one first; empty for a voice with one speaker.
    pub speakers: Vec<String>,
    /// Sample rate in hertz.
    pub sample_rate: u32,
    /// Seconds of CPU time per second of audio, as measured when it was opened.
    pub rtf: f64,
    /// Its JSON.
    pub json: Arc<serde_json::Map<String, serde_json::Value>>,
}

/// The voices of a server.
#[derive(Debug)]
pub struct Voices {
    entries: BTreeMap<String, Entry>,
    default: String,
    open: OpenOptions,
    phonemizers: Pool,
    /// Limit on the bytes of the voices in memory.
    memory: u64,
    /// Counts requests for voices.
    clock: Mutex<u64>,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    state: Mutex<State>,
    /// Held while the voice is being opened, so that it is opened only once.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    open: Option<Arc<OpenVoice>>,
    /// Description of a voice that was opened before and is still available, in memory or not.
    description: Option<Description>,
    failed: Option<(Instant, String)>,
    used: u64,
}

impl Entry {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Voices {
    /// Registers the voices at `places`, the default one first. None is opened yet.
    ///
    /// # Errors
    /// When there are none, or two have the same name.
    pub fn new(
        places: Vec<(String, PathBuf)>,
        open: OpenOptions,
        phonemizers: Pool,
        memory: u64,
    ) -> Result<Self> {
        let default = places.first().map(|(name, _)| name.clone());
        let default = default.ok_or_else(|| Error::Request("there are no voices to serve".to_owned()))?;
        let mut entries = BTreeMap::new();
        for (name, path) in places {
            let shown = path.display().to_string();
            let entry = Entry { path, state: Mutex::default(), opening: tokio::sync::Mutex::default() };
            if let Some(other) = entries.insert(name.clone(), entry) {
                let other = other.path.display();
                return Err(Error::Request(format!(
                    "two voices have the name {name:?}: {other} and {shown}"
                )));
            }
        }
        Ok(Self { entries, default, open, phonemizers, memory, clock: Mutex::default() })
    }

    /// The name of the default voice.
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// The phonemizers.
    pub fn phonemizers(&self) -> &Pool {
        &self.phonemizers
    }

    /// The names of all voices.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The descriptions of the available voices, the default one first.
    pub fn descriptions(&self) -> Vec<Description> {
        let mut found: Vec<Description> =
            self.entries.values().filter_map(|entry| entry.state().description.clone()).collect();
        found.sort_by_key(|description| description.name != self.default);
        found
    }

    /// Returns true if opening every voice was tried, and the default one is available.
    pub fn are_open(&self) -> bool {
        self.entries.iter().all(|(name, entry)| {
            let state = entry.state();
            state.description.is_some() || (state.failed.is_some() && *name != self.default)
        })
    }

    /// The memory of each open voice in bytes.
    pub fn in_memory(&self) -> Vec<(String, u64)> {
        let open = self.entries.values().filter_map(|entry| entry.state().open.clone());
        open.map(|voice| (voice.name.clone(), voice.bytes)).collect()
    }

    /// The voice called `name`, or the default one. It is opened if it is not in memory.
    ///
    /// # Errors
    /// When there is no such voice, or it cannot be opened; other voices are not affected.
    pub async fn get(self: &Arc<Self>, name: Option<&str>) -> Result<Arc<OpenVoice>> {
        let name = name.filter(|name| !name.is_empty()).unwrap_or(&self.default);
        let entry = self.entries.get(name).ok_or_else(|| Error::UnknownVoice(name.to_owned()))?;
        if let Some(open) = self.in_use(name, entry)? {
            return Ok(open);
        }
        let _opening = entry.opening.lock().await;
        if let Some(open) = self.in_use(name, entry)? {
            return Ok(open);
        }
        let (voices, owned) = (self.clone(), name.to_owned());
        let opened = tokio::task::spawn_blocking(move || voices.open(&owned)).await;
        let opened = opened.unwrap_or_else(|_| Err("a bug in vitstream ended its opening".to_owned()));
        match opened {
            Ok(open) => {
                self.keep(name, entry, &open);
                Ok(open)
            }
            Err(reason) => {
                tracing::error!(voice = name, "the voice cannot be opened: {reason}");
                let mut state = entry.state();
                state.description = None;
                state.failed = Some((Instant::now(), reason.clone()));
                Err(Error::Voice { name: name.to_owned(), reason })
            }
        }
    }

    /// The voice if it is in memory, and the error of the last attempt to open it if that was recent.
    fn in_use(&self, name: &str, entry: &Entry) -> Result<Option<Arc<OpenVoice>>> {
        let mut state = entry.state();
        if let Some(open) = state.open.clone() {
            state.used = self.tick();
            return Ok(Some(open));
        }
        match &state.failed {
            Some((when, reason)) if when.elapsed() < TRY_AGAIN => {
                Err(Error::Voice { name: name.to_owned(), reason: reason.clone() })
            }
            _ => Ok(None),
        }
    }

    fn tick(&self) -> u64 {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        *clock += 1;
        *clock
    }

    /// Opens and measures a voice.
    fn open(&self, name: &str) -> Result<Arc<OpenVoice>, String> {
        let path = &self.entries[name].path;
        let voice = Voice::open(path.as_path(), &self.open).map_err(|error| chain(&error))?;
        for warning in voice.warnings() {
            tracing::warn!(voice = name, "{warning}");
        }
        let in_file = |error: &dyn std::error::Error| format!("{}: {}", path.display(), chain(error));
        let frontend = Frontend::from_json(voice.config()).map_err(|error| in_file(&error))?;
        let rtf = measure(&voice).map_err(|error| in_file(&error))?;
        let bytes = voice.weight_bytes().map_or_else(|| find::bytes(path), |bytes| bytes as u64);
        Ok(Arc::new(OpenVoice { name: name.to_owned(), voice, frontend, rtf, bytes }))
    }

    /// Keeps a voice in memory, and closes the least recently used ones if they take too much.
    fn keep(&self, name: &str, entry: &Entry, open: &Arc<OpenVoice>) {
        {
            let mut state = entry.state();
            state.open = Some(open.clone());
            state.description = Some(describe(open));
            state.failed = None;
            state.used = self.tick();
        }
        tracing::info!(voice = name, rtf = open.rtf, "opened");
        loop {
            let total: u64 = self.in_memory().iter().map(|(_, bytes)| bytes).sum();
            let others = self.entries.iter().filter(|(other, _)| *other != name);
            let open = others.filter_map(|(other, entry)| {
                let state = entry.state();
                state.open.as_ref().map(|_| (state.used, other, entry))
            });
            let oldest = open.min_by_key(|(used, ..)| *used);
            let Some((_, other, entry)) = oldest.filter(|_| total > self.memory) else { return };
            // Streams that use it keep it until their end.
            let aside = entry.state().open.take();
            drop(aside);
            tracing::info!(voice = other, "closed, because the voices take more memory than allowed");
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Seconds of CPU time per second of the voice's audio.
fn measure(voice: &Voice) -> vitstream::Result<f64> {
    let symbols = voice.info().symbols.and_then(|symbols| i64::try_from(symbols).ok()).unwrap_or(1).max(1);
    let ids: Vec<i64> = (0..MEASURED_IDS).map(|id| id % symbols).collect();
    let mut best = f64::INFINITY;
    for _ in 0..MEASUREMENTS {
        let started = Instant::now();
        let samples = voice.synthesize(&ids, &SpeakOptions::default())?.len();
        let seconds = samples as f64 / f64::from(voice.info().sample_rate);
        best = best.min(started.elapsed().as_secs_f64() / seconds.max(1e-3));
    }
    Ok(best)
}

fn describe(open: &OpenVoice) -> Description {
    let info = open.voice.info();
    let text = |pointer: [&str; 2]| info.json.get(pointer[0])?.get(pointer[1])?.as_str().map(str::to_owned);
    let language = text(["language", "code"]).or_else(|| text(["espeak", "voice"]));
    let mut named: Vec<(&String, &i64)> = info.speaker_ids.iter().collect();
    named.sort_by_key(|(_, id)| **id);
    let speakers = match (info.speakers, named.is_empty()) {
        (0 | 1, _) => Vec::new(),
        (_, false) => named.into_iter().map(|(name, _)| name.clone()).collect(),
        (count, true) => (0..count).map(|id| id.to_string()).collect(),
    };
    Description {
        name: open.name.clone(),
        language: language.unwrap_or_else(|| "und".to_owned()),
        speakers,
        sample_rate: info.sample_rate,
        rtf: open.rtf,
        json: Arc::new(info.json.clone()),
    }
}

/// The default name of a voice: its file without endings, or its folder.
pub fn name_of(path: &Path) -> Option<String> {
    find::name_of(path)
}

#[cfg(test)]
mod tests;
