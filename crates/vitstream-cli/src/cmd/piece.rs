//! What the network says in one go.

use std::time::Duration;

use vitstream_text::{Sentence, Word};

/// What the network says in one go: ids that were given, or one sentence of a text.
#[derive(Debug)]
pub(crate) struct Piece {
    /// None for a pause alone.
    pub(crate) ids: Vec<i64>,
    /// Empty for ids that were given.
    pub(crate) text: String,
    pub(crate) words: Vec<Word>,
    /// 1 is the voice's own way, 2 twice as fast.
    pub(crate) rate: f32,
    /// Silence after it.
    pub(crate) pause: Duration,
}

impl Piece {
    pub(crate) fn of_ids(ids: Vec<i64>) -> Self {
        Self { ids, text: String::new(), words: Vec::new(), rate: 1.0, pause: Duration::ZERO }
    }

    /// Whether there is nothing to say, only silence.
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
