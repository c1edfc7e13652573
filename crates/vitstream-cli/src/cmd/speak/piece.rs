//! What the network says in one go.

use std::time::Duration;

use vitstream_text::{Sentence, Word};

/// What the network says in one go: ids that were given, or one sentence of a text.
#[derive(Debug)]
pub(in crate::cmd) struct Piece {
    /// None for a pause alone.
    pub(in crate::cmd) ids: Vec<i64>,
    /// Empty for ids that were given.
    pub(in crate::cmd) text: String,
    pub(in crate::cmd) words: Vec<Word>,
    /// 1 is the voice's own way, 2 twice as fast.
    pub(super) rate: f32,
    /// Silence after it.
    pub(super) pause: Duration,
}

impl Piece {
    pub(super) fn of_ids(ids: Vec<i64>) -> Self {
        Self { ids, text: String::new(), words: Vec::new(), rate: 1.0, pause: Duration::ZERO }
    }
}

impl From<Sentence> for Piece {
    fn from(sentence: Sentence) -> Self {
        let Sentence { ids, text, words, rate, pause, .. } = sentence;
        Self { ids, text, words, rate, pause }
    }
}
