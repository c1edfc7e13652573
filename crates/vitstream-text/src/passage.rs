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
    /// Cuts the passage in two at a place in no pronunciation, as [`String::split_off`] does. The silence goes with the
    /// second part.
    pub(crate) fn split_off(&mut self, at: usize) -> Self {
        let text = self.text.split_off(at);
        let first = self.pronunciations.partition_point(|(range, _)| range.start < at);
        let pronunciations = self.pronunciations.split_off(first);
        let first = self.marks.partition_point(|(place, _)| *place < at);
        let marks = self.marks.split_off(first);
        Self {
            text,
            pronunciations: pronunciations
                .into_iter()
                .map(|(range, ipa)| (range.start - at..range.end - at, ipa))
                .collect(),
            marks: marks.into_iter().map(|(place, name)| (place - at, name)).collect(),
            rate: self.rate,
            pause: std::mem::take(&mut self.pause),
        }
    }

    /// Takes white space away at both ends.
    pub(crate) fn trim(&mut self) {
        let before = self.text.len() - self.text.trim_start().len();
        self.text = self.text.trim().to_owned();
        let place = |at: usize| at.saturating_sub(before).min(self.text.len());
        for (range, _) in &mut self.pronunciations {
            *range = place(range.start)..place(range.end);
        }
        for (at, _) in &mut self.marks {
            *at = place(*at);
        }
    }

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
    fn what_is_said_about_a_text_stays_with_it() {
        let mut first = Passage {
            pronunciations: vec![(2..4, "x".into()), (6..8, "y".into())],
            marks: vec![(0, "a".into()), (5, "b".into()), (10, "c".into())],
            pause: Duration::from_secs(1),
            ..Passage::from(" bcde ghi ")
        };
        let whole = first.clone();
        let second = first.split_off(5);
        assert_eq!((&*first.text, &*second.text), (" bcde", " ghi "));
        assert_eq!(first.pronunciations, whole.pronunciations[..1]);
        assert_eq!(second.pronunciations, [(1..3, "y".into())]);
        assert_eq!(first.marks, whole.marks[..1]);
        assert_eq!(second.marks, [(0, "b".into()), (5, "c".into())]);
        assert_eq!((first.pause, second.pause), (Duration::ZERO, whole.pause));

        let mut trimmed = whole;
        trimmed.trim();
        assert_eq!(trimmed.text, "bcde ghi");
        assert_eq!(trimmed.pronunciations, [(1..3, "x".into()), (5..7, "y".into())]);
        assert_eq!(trimmed.marks, [(0, "a".into()), (4, "b".into()), (8, "c".into())]);
    }

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
