//! Text, phonemes and ids.

use std::collections::BTreeMap;
use std::mem;
use std::process;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use vitstream::{MAX_IDS, read_file};
use vitstream_text::phonemizer::{Location, find, from_command};
use vitstream_text::{Frontend, Lexicon, Reader, Sentence, Sentences};

use crate::error::Failure;

/// Limit on the bytes of a lexicon: far more words than a language has.
const MAX_LEXICON: u64 = 64 << 20;

/// Options for reading a voice's text.
#[derive(FromPyObject)]
pub(crate) struct ReadingOptions {
    espeak: Option<String>,
    phonemizer: Option<String>,
    lexicon: Option<std::path::PathBuf>,
    markdown: bool,
}

/// Reads text for a voice, one text at a time.
pub(crate) struct Reading(Mutex<State>);

struct State {
    /// The reason why a voice cannot read text, reported when a text is given.
    reader: Result<Reader, String>,
    /// The process that the phonemizer belongs to.
    process: u32,
}

impl Reading {
    pub(crate) fn new(voice: &vitstream::Voice, options: ReadingOptions) -> Result<Self, Failure> {
        let ReadingOptions { espeak, phonemizer, lexicon, markdown } = options;
        let lexicon = match lexicon {
            Some(path) => {
                let bytes = read_file(&path, MAX_LEXICON).map_err(vitstream::source::Error::from);
                let bytes = bytes.map_err(vitstream::Error::from)?;
                Lexicon::from_bytes(&bytes)
                    .map_err(|error| Failure::request(format!("{}: {error}", path.display())))?
            }
            None => Lexicon::default(),
        };
        let find = move || match &phonemizer {
            Some(command) => from_command(command),
            None => find(espeak.as_deref().map(Location::parse).as_ref()),
        };
        let reader = match Frontend::from_json(voice.config()) {
            Ok(frontend) => Ok(Reader::new(frontend, MAX_IDS, find).lexicon(lexicon).markdown(markdown)),
            Err(error) => Err(format!("this voice cannot read text, use ids instead: {error}")),
        };
        Ok(Self(Mutex::new(State { reader, process: process::id() })))
    }

    /// Uses the voice's reader. To be called without the interpreter's lock, because it may wait.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Reader) -> Result<T, Failure>) -> Result<T, Failure> {
        // An error or panic leaves the reader unchanged, because it stores nothing about a text.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = process::id();
        let forked = mem::replace(&mut state.process, here) != here;
        let reader = state.reader.as_mut().map_err(|why| Failure::request(why.clone()))?;
        if forked {
            // A program that answers the parent belongs to the parent, which also ends it.
            mem::forget(reader.take_phonemizer());
        }
        work(reader)
    }
}

/// A sentence in the form expected by the Python side.
#[derive(IntoPyObject)]
pub(crate) struct Read {
    text: String,
    phonemes: Vec<String>,
    ids: Vec<i64>,
    missing: Vec<String>,
    replaced: BTreeMap<String, String>,
    /// Text, IPA, mark.
    clauses: Vec<(String, String, String)>,
    /// Text, first id, end of the ids.
    words: Vec<(String, usize, usize)>,
    rate: f32,
    /// Seconds.
    pause: f64,
}

impl From<Sentence> for Read {
    fn from(sentence: Sentence) -> Self {
        let Sentence { text, phonemes, ids, missing, replaced, clauses, words, rate, pause, .. } = sentence;
        Self {
            text,
            phonemes,
            ids,
            missing: missing.into_iter().collect(),
            replaced,
            clauses: clauses.into_iter().map(|clause| (clause.text, clause.ipa, clause.mark)).collect(),
            words: words.into_iter().map(|word| (word.text, word.ids.start, word.ids.end)).collect(),
            rate,
            pause: pause.as_secs_f64(),
        }
    }
}

pub(crate) fn all(sentences: Vec<Sentence>) -> Vec<Read> {
    sentences.into_iter().map(Read::from).collect()
}

/// Divides text that arrives in pieces into sentences.
#[pyclass(frozen, module = "vitstream._vitstream")]
pub(crate) struct TextStream(Mutex<Sentences>);

impl TextStream {
    pub(crate) fn new(sentences: Sentences) -> Self {
        Self(Mutex::new(sentences))
    }
}

#[pymethods]
impl TextStream {
    /// Adds text; returns the sentences that are now complete.
    fn push(&self, text: &str) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text)
    }

    /// Ends the text; returns the rest.
    fn finish(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).finish()
    }
}
