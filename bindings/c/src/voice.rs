//! A voice represented by a handle.

use std::sync::{Mutex, MutexGuard, PoisonError};

use vitstream::{Input, MAX_IDS, OpenOptions};
use vitstream_text::phonemizer::{Location, find, from_command};
use vitstream_text::{Frontend, Reader};

use crate::failure::Failure;

/// State shared by the streams of a voice.
pub(crate) struct Opened {
    pub(crate) voice: vitstream::Voice,
    /// The reason why a voice cannot read text, reported when a text is given.
    reader: Mutex<Result<Reader, String>>,
}

impl Opened {
    pub(crate) fn new(
        input: Input,
        options: &OpenOptions,
        espeak: Option<String>,
        phonemizer: Option<String>,
    ) -> Result<Self, Failure> {
        let voice = vitstream::Voice::open(input, options)?;
        let find = move || match &phonemizer {
            Some(command) => from_command(command),
            None => find(espeak.as_deref().map(Location::parse).as_ref()),
        };
        let reader = match Frontend::from_json(voice.config()) {
            Ok(frontend) => Ok(Reader::new(frontend, MAX_IDS, find)),
            Err(error) => Err(format!("this voice cannot read text, use ids instead: {error}")),
        };
        Ok(Self { voice, reader: Mutex::new(reader) })
    }

    /// Uses the voice's reader, for one text at a time.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&mut Reader) -> Result<T, vitstream_text::Error>,
    ) -> Result<T, Failure> {
        // An error or panic leaves the reader unchanged, because it stores nothing about a text.
        let mut reader: MutexGuard<'_, _> = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = reader.as_mut().map_err(|why| Failure::request(why.clone()))?;
        Ok(work(reader)?)
    }
}
