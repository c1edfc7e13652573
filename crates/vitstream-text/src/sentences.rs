//! Divides a stream of text into sentences.

use crate::clauses::{Clause, Clauses, Mark};
use crate::cleaners::ends_in_abbreviation;
use crate::piper::MAX_BLOCK;

/// A sentence of this many bytes ends with its clause: attention takes memory proportional to its square, and
/// ten minutes of text without an end cannot be a single sentence.
pub(crate) const MAX_SENTENCE: usize = 8192;

/// Before the first sound, a sentence may be divided once it has this many words...
const FIRST_WORDS: usize = 8;
/// ...if a part of at least this many words is complete.
const FIRST_PART: usize = 2;

/// The rules for dividing a text into sentences.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// `[[...]]` contains phonemes, which stay with the sentence around them.
    pub(crate) blocks: bool,
    /// The cleaner expands abbreviations, so their dots do not end a sentence.
    pub(crate) abbreviations: bool,
}

/// Divides a text into sentences while it arrives, by the clause rules: a sentence is returned as soon as the
/// character arrives that shows its end, the first one after its mark and the white space. Each sentence
/// sounds the same alone as within the whole text, and all of them together are the text (white space at its
/// end may be missing).
///
/// Before the first sentence is complete, a part of it that ends with a clause is returned once eight words
/// have arrived, because listeners wait only for the first sound; see
/// [`whole_sentences`](Self::whole_sentences). When the text stops arriving for a while,
/// [`flush`](Self::flush) returns a sentence that ends with its mark.
///
/// ```
/// # use vitstream_text::Frontend;
/// # let json = serde_json::json!({"phoneme_type": "text", "espeak": {"voice": "en"},
/// #     "phoneme_id_map": {"^": [1], "_": [0], "$": [2]}});
/// # let frontend = Frontend::from_json(json.as_object().unwrap()).unwrap();
/// let mut sentences = frontend.stream();
/// assert!(sentences.push("It works. ").is_empty());
/// assert_eq!(sentences.push("D"), ["It works. "]);
/// sentences.push("oes it?");
/// assert_eq!(sentences.flush().unwrap(), "Does it?");
/// assert_eq!(sentences.finish(), None);
/// ```
#[derive(Clone, Debug)]
pub struct Sentences {
    clauses: Clauses,
    rules: Rules,
    held: Held,
    /// Complete clauses of the current sentence.
    pending: String,
    /// Words that began since the last sentence, and the number of them in `pending`.
    words: usize,
    pending_words: usize,
    in_word: bool,
    /// Set if the first sentence may be divided.
    may_cut: bool,
}

/// Text that may be a block of phonemes.
#[derive(Clone, Debug)]
enum Held {
    Nothing,
    Bracket,
    Block(String),
}

impl Sentences {
    pub(crate) fn new(voice: &str, rules: Rules) -> Self {
        Self {
            clauses: Clauses::new(voice),
            rules,
            held: Held::Nothing,
            pending: String::new(),
            words: 0,
            pending_words: 0,
            in_word: false,
            may_cut: true,
        }
    }

    /// Never divides the first sentence.
    #[must_use]
    pub fn whole_sentences(mut self) -> Self {
        self.may_cut = false;
        self
    }

    /// Adds text and returns the sentences that are now complete.
    pub fn push(&mut self, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        text.chars().for_each(|c| self.take(c, &mut out));
        out
    }

    /// The text has stopped arriving for now: returns the sentence that would be complete if nothing
    /// followed.
    pub fn flush(&mut self) -> Option<String> {
        if !matches!(self.held, Held::Nothing) {
            return None;
        }
        let mut out = Vec::new();
        if let Some(clause) = self.clauses.flush() {
            self.take_clause(&clause, &mut out);
        }
        out.pop()
    }

    /// The text has ended: returns the rest, unless it is only white space. Another text may follow.
    pub fn finish(&mut self) -> Option<String> {
        let mut out = Vec::new();
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => {}
            Held::Bracket => self.feed('[', &mut out),
            Held::Block(text) => text.chars().for_each(|c| self.feed(c, &mut out)),
        }
        // A block may turn out to be text with several sentences; at the end they are returned together.
        let mut rest = out.concat();
        self.clauses.finish().iter().for_each(|clause| self.pending.push_str(&clause.text));
        rest.push_str(&self.emit());
        (!rest.trim().is_empty()).then_some(rest)
    }

    /// Number of bytes held back.
    pub fn held_back(&self) -> usize {
        let held = if let Held::Block(text) = &self.held { text.len() } else { 0 };
        self.pending.len() + self.clauses.pending().len() + held
    }

    fn take(&mut self, c: char, out: &mut Vec<String>) {
        if !self.rules.blocks {
            return self.feed(c, out);
        }
        match &mut self.held {
            Held::Nothing if c == '[' => self.held = Held::Bracket,
            Held::Nothing => self.feed(c, out),
            Held::Bracket if c == '[' => self.held = Held::Block("[[".to_owned()),
            Held::Bracket => {
                self.held = Held::Nothing;
                self.feed('[', out);
                self.take(c, out);
            }
            Held::Block(text) => {
                text.push(c);
                let is_closed = text.len() >= 4 && text.ends_with("]]");
                if is_closed {
                    let block = std::mem::take(text);
                    self.held = Held::Nothing;
                    self.take_block(&block, out);
                } else if c == '\n' || text.len() > MAX_BLOCK {
                    // The block is not closed on its line, so it is text.
                    let text = std::mem::take(text);
                    self.held = Held::Nothing;
                    text.chars().for_each(|c| self.feed(c, out));
                }
            }
        }
    }

    /// A block of phonemes belongs to the sentence before it, even if that was complete, and to the one after
    /// it.
    fn take_block(&mut self, block: &str, out: &mut Vec<String>) {
        let mut clauses = self.clauses.finish();
        let last = clauses.pop();
        clauses.iter().for_each(|clause| self.take_clause(clause, out));
        self.pending.extend(last.map(|clause| clause.text));
        self.pending.push_str(block);
        self.words += 1;
        self.pending_words = self.words;
    }

    fn feed(&mut self, c: char, out: &mut Vec<String>) {
        self.words += usize::from(!c.is_whitespace() && !self.in_word);
        self.in_word = !c.is_whitespace();
        for clause in self.clauses.push(c.encode_utf8(&mut [0; 4])) {
            self.take_clause(&clause, out);
        }
        if self.may_cut && self.words > FIRST_WORDS && self.pending_words >= FIRST_PART {
            out.push(self.emit());
        }
    }

    fn take_clause(&mut self, clause: &Clause, out: &mut Vec<String>) {
        self.pending.push_str(&clause.text);
        // The character that showed the end has already begun a word.
        let begun = usize::from(!self.clauses.pending().is_empty());
        self.pending_words = self.words.saturating_sub(begun);
        let abbreviation =
            self.rules.abbreviations && clause.mark == Mark::Period && ends_in_abbreviation(&self.pending);
        let is_over = clause.ends && !abbreviation || self.pending.len() >= MAX_SENTENCE;
        if is_over && !self.pending.trim().is_empty() {
            out.push(self.emit());
        }
    }

    fn emit(&mut self) -> String {
        self.may_cut = false;
        self.words = 0;
        self.pending_words = 0;
        std::mem::take(&mut self.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> Sentences {
        Sentences::new("en-us", Rules { blocks: true, abbreviations: false })
    }

    fn all(mut sentences: Sentences, text: &str) -> Vec<String> {
        let mut out = sentences.push(text);
        out.extend(sentences.finish());
        out
    }

    #[test]
    fn the_first_sound_does_not_wait_for_a_long_sentence() {
        let text = "Well then, when the day is over, all of us will go home and sleep. Yes.";
        assert_eq!(
            all(stream(), text),
            ["Well then, when the day is over, ", "all of us will go home and sleep. ", "Yes."]
        );
        assert_eq!(all(stream().whole_sentences(), text).len(), 2);
        // A single word is not enough for a first part; the next comma is used.
        let text = "Well, this is a long beginning of a sentence, and it goes on.";
        assert_eq!(all(stream(), text)[0], "Well, this is a long beginning of a sentence, ");
        // Only the first sentence is divided.
        let text = "No. One two three, four five six seven eight nine ten eleven.";
        assert_eq!(all(stream(), text).len(), 2);
    }

    #[test]
    fn blocks_stay_with_the_sentences_beside_them() {
        assert_eq!(all(stream(), "One. [[ tˈuː ]]. Three! Four."), ["One. [[ tˈuː ]]. Three! ", "Four."]);
        assert_eq!(all(stream(), "One. [Two] [[x. Y. z]] A."), ["One. ", "[Two] [[x. Y. z]] A."]);
        assert_eq!(
            all(stream(), "A. [[not closed. B.\nC. ]]"),
            ["A. ", "[[not closed. ", "B.\n", "C. ", "]]"]
        );
        assert_eq!(all(stream(), "A [[b. C. "), ["A [[b. C. "]);
    }

    #[test]
    fn an_idle_gap_lets_a_finished_sentence_out_only() {
        let mut sentences = stream();
        assert_eq!(sentences.push("Hello, "), [] as [&str; 0]);
        assert_eq!(sentences.flush(), None);
        sentences.push("world. ");
        assert_eq!(sentences.flush().as_deref(), Some("Hello, world. "));
        assert_eq!(sentences.flush(), None);
        assert_eq!(sentences.push("And. B"), ["And. "]);
        assert_eq!(sentences.finish().as_deref(), Some("B"));
        assert_eq!(sentences.finish(), None);
    }

    #[test]
    fn abbreviations_that_a_cleaner_knows_end_nothing() {
        let english = Sentences::new("", Rules { blocks: false, abbreviations: true });
        assert_eq!(
            all(english, "Dr. Smith came. Mrs. Jones left."),
            ["Dr. Smith came. ", "Mrs. Jones left."]
        );
    }

    #[test]
    fn text_without_an_end_is_not_collected() {
        for text in ["a".repeat(3 << 20), "a, ".repeat(1 << 20), format!("[[{}", "a".repeat(3 << 20))] {
            let mut sentences = stream();
            let mut total = 0;
            for chunk in text.as_bytes().chunks(1000) {
                total += sentences.push(std::str::from_utf8(chunk).unwrap()).concat().len();
                assert!(sentences.held_back() <= MAX_BLOCK + MAX_SENTENCE + 2000);
            }
            total += sentences.finish().map_or(0, |rest| rest.len());
            assert_eq!(total, text.len());
        }
    }
}
