//! A unit of speech.

use std::time::Duration;

use vitstream_text::{Sentence, Word};

/// A unit of speech for the network: given ids, or one sentence of a text.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Empty for a mere pause.
    pub(crate) ids: Vec<i64>,
    /// Empty for given ids.
    pub(crate) text: String,
    pub(crate) words: Vec<Word>,
    /// Rate of speech: 1 is the voice's own, 2 is twice as fast.
    pub(crate) rate: f32,
    /// Silence after it.
    pub(crate) pause: Duration,
}

impl Piece {
    pub(crate) fn of_ids(ids: Vec<i64>) -> Self {
        Self { ids, text: String::new(), words: Vec::new(), rate: 1.0, pause: Duration::ZERO }
    }

    /// Returns true if there is only silence.
    pub(crate) fn is_pause(&self) -> bool {
        self.ids.is_empty() && !self.pause.is_zero()
    }
}

impl From<Sentence> for Piece {
    fn from(sentence: Sentence) -> Self {
        let Sentence { ids, text, words, rate, pause, .. } = sentence;
        Self { ids, text, words, rate, pause }
    }
}
