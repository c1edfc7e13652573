//! Text with what was said about it: how a part is pronounced, how fast it is, what silence follows.

use std::ops::Range;
use std::time::Duration;

/// A stretch of text that is spoken at one rate. Sentences do not go beyond it.
#[derive(Clone, Debug, PartialEq)]
pub struct Passage {
    /// The text.
    pub text: String,
    /// Parts of the text, in order, that are pronounced as the IPA says.
    pub pronunciations: Vec<(Range<usize>, String)>,
    /// Places in the text, in order, that the listener is told of by these names when they are reached.
    pub marks: Vec<(usize, String)>,
    /// 1 is the voice's own way, 2 twice as fast.
    pub rate: f32,
    /// Silence after the last sentence.
    pub pause: Duration,
}

impl Default for Passage {
    fn default() -> Self {
        Self {
            text: String::new(),
            pronunciations: Vec::new(),
            marks: Vec::new(),
            rate: 1.0,
            pause: Duration::ZERO,
        }
    }
}

impl From<&str> for Passage {
    fn from(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }
}

impl Passage {
    /// The text of `range` as it stands, cut where a pronunciation is given, each part with that pronunciation.
    /// What a pronunciation covers beyond the range is silent.
    pub(crate) fn parts(&self, range: Range<usize>) -> Vec<(&str, Option<&str>)> {
        let mut parts = Vec::new();
        let mut at = range.start;
        let overlapping =
            self.pronunciations.iter().filter(|(part, _)| part.start < range.end && part.end > range.start);
        for (part, ipa) in overlapping {
            if part.start > at {
                parts.push((&self.text[at..part.start], None));
            }
            let end = part.end.min(range.end);
            // It is said once, in the clause where it begins.
            let ipa = if part.start >= range.start { ipa } else { "" };
            parts.push((&self.text[part.start.max(at)..end], Some(ipa)));
            at = end;
        }
        if at < range.end {
            parts.push((&self.text[at..range.end], None));
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_text() {
        let passage = Passage {
            pronunciations: vec![(2..5, "x".into()), (6..9, "y".into())],
            ..Passage::from("abcdefghij")
        };
        assert_eq!(passage.parts(0..7), [("ab", None), ("cde", Some("x")), ("f", None), ("g", Some("y"))]);
        assert_eq!(passage.parts(7..10), [("hi", Some("")), ("j", None)]);
        assert_eq!(passage.parts(0..2), [("ab", None)]);
    }
}
