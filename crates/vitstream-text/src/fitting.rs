//! Utterances that are short enough: what a sentence is cut at that has too many ids.

use unicode_normalization::char::is_combining_mark;

use crate::clauses::clauses;
use crate::phonemizer::Phonemizer;
use crate::piper::{self, Part};
use crate::{Error, Frontend, Passage, Sentence};

impl Frontend {
    /// The sentences of a text, none of more than `most_ids` ids: what is longer is said in parts, cut where it is heard
    /// least. That is between sentences, else between clauses, else between words, else anywhere; but what is pronounced
    /// in its own way stays as it is, however long.
    ///
    /// # Errors
    /// As [`speak`](Self::speak).
    pub fn speak_within(
        &self,
        most_ids: usize,
        mut passage: Passage,
        phonemizer: &mut dyn Phonemizer,
    ) -> Result<Vec<Sentence>, Error> {
        if self.voice().is_none() {
            // White space is a character too, and at an edge none that was trained.
            passage.trim();
        }
        let sentences = self.speak(&passage, phonemizer)?;
        if sentences.iter().all(|sentence| sentence.ids.len() <= most_ids) {
            return Ok(sentences);
        }
        let Some(middle) = self.middle(&passage) else { return Ok(sentences) };
        let second = passage.split_off(middle);
        let mut found = self.speak_within(most_ids, passage, phonemizer)?;
        found.append(&mut self.speak_within(most_ids, second, phonemizer)?);
        Ok(found)
    }

    /// Where a passage is best cut in two; `None` if it cannot be.
    fn middle(&self, passage: &Passage) -> Option<usize> {
        let text = &*passage.text;
        let mut whole: Vec<_> = passage.pronunciations.iter().map(|(range, _)| range.clone()).collect();
        if self.voice().is_some() {
            whole.extend(piper::split(text).into_iter().filter_map(|part| match part {
                Part::Phonemes(_, block) => Some(block),
                Part::Text(_) => None,
            }));
        }
        let may_cut = |at: usize| {
            let (first, second) = text.split_at(at);
            !first.trim().is_empty()
                && !second.trim().is_empty()
                && !whole.iter().any(|range| range.start < at && at < range.end)
        };
        let nearest = |places: &mut dyn Iterator<Item = usize>| {
            let half = text.len() / 2;
            places.filter(|&at| may_cut(at)).min_by_key(|at| at.abs_diff(half))
        };

        let mut stream = self.stream().whole_sentences();
        let sentences = stream.push(text).into_iter().chain(stream.finish());
        let clauses = clauses(self.voice().unwrap_or_default(), text).into_iter().map(|clause| clause.text);
        let characters = || text.char_indices();
        nearest(&mut ends(sentences))
            .or_else(|| nearest(&mut ends(clauses)))
            .or_else(|| nearest(&mut characters().filter(|(_, c)| c.is_whitespace()).map(|(at, _)| at)))
            .or_else(|| nearest(&mut characters().filter(|&(_, c)| !is_combining_mark(c)).map(|(at, _)| at)))
    }
}

/// Where the pieces of a text end.
fn ends(pieces: impl Iterator<Item = String>) -> impl Iterator<Item = usize> {
    pieces.scan(0, |at, piece| {
        *at += piece.len();
        Some(*at)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::phonemizer::{About, PhonemizerError, Recorded};

    const MOST: usize = 300;

    fn letters() -> Frontend {
        let json = serde_json::json!({"phoneme_type": "text", "espeak": {"voice": "en"},
            "phoneme_id_map": {"_": [0], "^": [1], "$": [2], " ": [3], "a": [4], ",": [5], ".": [6]}});
        Frontend::from_json(json.as_object().unwrap()).unwrap()
    }

    /// A voice with sounds, which are what [`Spelling`] says.
    fn sounds() -> Frontend {
        let json = serde_json::json!({"espeak": {"voice": "en-us"},
            "phoneme_id_map": {"_": [0], "^": [1], "$": [2], " ": [3], "a": [4], ",": [5], ".": [6], "b": [7]}});
        Frontend::from_json(json.as_object().unwrap()).unwrap()
    }

    struct Spelling;

    impl Phonemizer for Spelling {
        fn ipa(&mut self, _: &str, clause: &str) -> Result<String, PhonemizerError> {
            Ok(clause.chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect())
        }

        fn about(&self) -> About {
            About::default()
        }
    }

    #[test]
    fn no_utterance_is_long_and_none_is_lost() {
        let frontend = letters();
        let speak =
            |text: &str| frontend.speak_within(MOST, Passage::from(text), &mut Recorded::default()).unwrap();
        for text in ["a".repeat(4_096), "a ".repeat(2_048), "aa aa, ".repeat(600), "a, a. ".repeat(700)] {
            let found = speak(&text);
            assert!(found.iter().all(|sentence| sentence.ids.len() <= MOST));
            let spoken: String = found.iter().map(|sentence| sentence.text.replace(' ', "")).collect();
            assert_eq!(spoken, text.replace(' ', ""));
        }
        assert_eq!(speak(" aa. ").len(), 1);
        assert_eq!(speak(" ").len(), 0);
    }

    #[test]
    fn the_pause_comes_after_the_last_part() {
        let pause = Duration::from_secs(1);
        let passage = Passage { pause, ..Passage::from(&*"aa aa, ".repeat(200)) };
        let found = letters().speak_within(MOST, passage, &mut Recorded::default()).unwrap();
        let (last, before) = found.split_last().unwrap();
        assert_eq!(last.pause, pause);
        assert!(!before.is_empty() && before.iter().all(|sentence| sentence.pause.is_zero()));
    }

    #[test]
    fn marks_and_pronunciations_stay_at_their_words() {
        let text = "aa ".repeat(400);
        let said = "b".repeat(40);
        let passage = Passage {
            // The 100th word, and all from the 200th to the 250th, which are said together.
            pronunciations: vec![(300..302, said.clone()), (600..752, said.clone())],
            marks: vec![(0, "start".into()), (900, "late".into()), (text.len(), "end".into())],
            ..Passage::from(&*text)
        };
        let found = sounds().speak_within(MOST, passage, &mut Spelling).unwrap();
        assert!(found.len() > 2 && found.iter().all(|sentence| sentence.ids.len() <= MOST));
        let phonemes: String = found.iter().map(|sentence| sentence.phonemes.concat()).collect();
        assert_eq!(phonemes.matches(&said).count(), 2, "each is said once and in one piece");
        assert_eq!(phonemes.matches("aa").count(), 400 - 1 - 51);

        // How many words stand before each mark, over all utterances.
        let mut words = 0;
        let mut marks = Vec::new();
        for sentence in &found {
            let before = |word: usize| {
                let words = sentence.words[..word].iter();
                words.map(|word| word.text.split_whitespace().count()).sum::<usize>()
            };
            marks.extend(sentence.marks.iter().map(|mark| (&*mark.name, words + before(mark.word))));
            words += before(sentence.words.len());
        }
        assert_eq!(words, 400);
        assert_eq!(marks, [("start", 0), ("late", 300), ("end", 400)]);
    }

    #[test]
    fn what_is_said_in_its_own_way_is_never_cut() {
        let block = format!("[[{}]]", "a, ".repeat(200));
        let alone = sounds().speak_within(MOST, Passage::from(&*block), &mut Spelling).unwrap();
        assert_eq!(alone.len(), 1);
        let beside = format!("a a, {block} a a");
        let found = sounds().speak_within(MOST, Passage::from(&*beside), &mut Spelling).unwrap();
        assert!(found.iter().any(|sentence| sentence.text.contains(&block)), "{found:?}");
        assert_eq!(found.first().map(|sentence| &*sentence.text), Some("a a,"));
    }

    #[test]
    fn texts_are_cut_where_it_is_heard_least() {
        let middle = |text: &str| sounds().middle(&Passage::from(text));
        assert_eq!(middle("One. Two, three four five six."), Some("One. ".len()));
        assert_eq!(middle("one two, three, four"), Some("one two, ".len()));
        assert_eq!(middle("one two"), Some(3));
        assert_eq!(middle("äöü"), Some(2));
        assert_eq!(middle("a\u{308}"), None, "a letter and its dots are one");
        assert_eq!(middle("a"), None);
        assert_eq!(middle(""), None);
    }
}
