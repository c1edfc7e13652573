//! Reads text for all jobs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Result, anyhow, ensure};

use crate::cmd::piece::Piece;
use crate::cmd::speak::NOTHING_TO_SAY;
use crate::cmd::terminal::describe;
use crate::cmd::text::Reader;

/// The reader of a voice, shared by the jobs, because espeak-ng's library has one state anyway, and missing
/// phonemes are reported once; or the reason why there is none.
pub(crate) struct Reading(Result<Mutex<Reader>, String>);

impl Reading {
    pub(crate) fn new(reader: Result<Reader>) -> Self {
        Self(reader.map(Mutex::new).map_err(|error| describe(&error)))
    }

    pub(super) fn lock(&self) -> Result<MutexGuard<'_, Reader>> {
        let reader = self.0.as_ref().map_err(|error| anyhow!(error.clone()))?;
        // Each text starts with a fresh state.
        Ok(reader.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The sentences of a text.
    pub(super) fn pieces(&self, text: &str) -> Result<Vec<Piece>> {
        let sentences = self.lock()?.whole(text)?;
        ensure!(!sentences.is_empty(), NOTHING_TO_SAY);
        Ok(sentences.into_iter().map(Piece::from).collect())
    }
}
