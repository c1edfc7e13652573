//! Those who say how words sound.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use vitstream_text::phonemizer::{Phonemizer, PhonemizerError};

type Make = dyn Fn() -> Result<Box<dyn Phonemizer + Send>, PhonemizerError> + Send + Sync;

/// Phonemizers: as many as ask at once, which are never more than compute at once. Cloning shares them.
#[derive(Clone)]
pub struct Phonemizers {
    make: Arc<Make>,
    free: Arc<Mutex<Vec<Box<dyn Phonemizer + Send>>>>,
}

impl Phonemizers {
    /// `make` makes one more. It is called when there is none that is free, and after one has failed.
    pub fn new(
        make: impl Fn() -> Result<Box<dyn Phonemizer + Send>, PhonemizerError> + Send + Sync + 'static,
    ) -> Self {
        Self { make: Arc::new(make), free: Arc::default() }
    }

    /// Asks one of them.
    pub(crate) fn ask<T, E: From<PhonemizerError>>(
        &self,
        question: impl FnOnce(&mut dyn Phonemizer) -> Result<T, E>,
    ) -> Result<T, E> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut phonemizer = match free {
            Some(phonemizer) => phonemizer,
            None => (self.make)()?,
        };
        let answer = question(&mut phonemizer);
        // One that failed, or was ended by a panic, may have lost its place in the conversation.
        if answer.is_ok() {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(phonemizer);
        }
        answer
    }
}

impl fmt::Debug for Phonemizers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phonemizers")
    }
}
