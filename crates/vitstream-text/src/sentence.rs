//! The resulting sentences.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::ids::{Encoded, PhonemeIds};
use crate::passage::Passage;

/// A sentence: one utterance of the network.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Sentence {
    /// The original text.
    pub text: String,
    /// The phonemes, or the characters of a voice that reads characters.
    pub phonemes: Vec<String>,
    /// The network's input.
    pub ids: Vec<i64>,
    /// Phonemes without an id, which are left out.
    pub missing: BTreeSet<String>,
    /// Phonemes that the voice spells differently, with the voice's spelling.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub replaced: BTreeMap<String, String>,
    /// The clauses.
    pub clauses: Vec<SpokenClause>,
    /// The words, each with its part of `ids`.
    pub words: Vec<Word>,
    /// The marks in it, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// Rate of speech; 1 is the voice's own.
    #[serde(skip_serializing_if = "is_one")]
    pub rate: f32,
    /// Silence after the sentence.
    #[serde(rename = "pause_ms", serialize_with = "milliseconds", skip_serializing_if = "Duration::is_zero")]
    pub pause: Duration,
}

/// A clause of a sentence.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct SpokenClause {
    /// The text.
    pub text: String,
    /// Its sounds as returned by the phonemizer; empty if none was used.
    pub ipa: String,
    /// The mark after it among the phonemes.
    pub mark: String,
}

/// A word and its ids.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Word {
    /// The written form, including adjoining characters. Several words that are spoken as one form a single
    /// entry.
    pub text: String,
    /// Its part of the sentence's ids.
    #[serde(serialize_with = "range")]
    pub ids: Range<usize>,
}

/// A position in a sentence that is reported to the listener.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Mark {
    /// Its name.
    pub name: String,
    /// Index of the word that it precedes; the number of words means the end.
    pub word: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_one(rate: &f32) -> bool {
    *rate == 1.0
}

fn milliseconds<S: Serializer>(pause: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(pause.as_millis())
}

fn range<S: Serializer>(range: &Range<usize>, serializer: S) -> Result<S::Ok, S::Error> {
    [range.start, range.end].serialize(serializer)
}

/// A sentence without ids.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) text: String,
    pub(crate) phonemes: Vec<String>,
    pub(crate) clauses: Vec<SpokenClause>,
    /// Letters that produced no phonemes.
    pub(crate) dropped: BTreeSet<String>,
}

impl Draft {
    pub(crate) fn sentence(self, ids: &PhonemeIds, near: bool) -> Sentence {
        let encoded = ids.encode(&self.phonemes, near);
        self.encoded(encoded)
    }

    pub(crate) fn encoded(mut self, mut encoded: Encoded) -> Sentence {
        encoded.missing.append(&mut self.dropped);
        let words = words(&self.text, &self.phonemes, &encoded.starts, encoded.ids.len());
        Sentence {
            text: self.text.trim().to_owned(),
            phonemes: self.phonemes,
            ids: encoded.ids,
            missing: encoded.missing,
            replaced: encoded.replaced,
            clauses: self.clauses,
            words,
            marks: Vec::new(),
            rate: 1.0,
            pause: Duration::ZERO,
        }
    }
}

/// The words in written form.
fn written(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric))
}

/// Assigns the marks of a passage to its sentences. Sentences are matched by their words, because front ends
/// change the characters in between.
pub(crate) struct Marks<'a> {
    /// The remaining marks, each with the number of words before it.
    left: std::iter::Peekable<std::vec::IntoIter<(usize, &'a str)>>,
    /// Number of words of the sentences so far.
    words: usize,
}

impl<'a> Marks<'a> {
    pub(crate) fn of(passage: &'a Passage) -> Self {
        let (mut at, mut words) = (0, 0);
        let mut left = Vec::new();
        for (place, name) in &passage.marks {
            words += written(&passage.text[at..*place]).count();
            at = *place;
            left.push((words, &**name));
        }
        Self { left: left.into_iter().peekable(), words: 0 }
    }

    /// Places the marks in the passage's next sentence, whose written form is `text`; `sentence` is `None` if
    /// nothing of it is spoken.
    pub(crate) fn place(&mut self, text: &str, sentence: Option<&mut Sentence>) {
        let before = self.words;
        self.words += written(text).count();
        let Some(sentence) = sentence else { return };
        let (mut passed, mut word) = (before, 0);
        while let Some((words, name)) = self.left.next_if(|(words, _)| *words < self.words) {
            while passed < words && word < sentence.words.len() {
                passed += written(&sentence.words[word].text).count();
                word += 1;
            }
            sentence.marks.push(Mark { name: name.to_owned(), word });
        }
    }

    /// The remaining marks come after the last sentence.
    pub(crate) fn finish(self, last: &mut Sentence) {
        let word = last.words.len();
        last.marks.extend(self.left.map(|(_, name)| Mark { name: name.to_owned(), word }));
    }
}

/// The words of a text with their ids. Phonemizers join words (`in the` is `ɪnðə`) and read one as several
/// (`42`), so the written words are distributed over the spoken ones in order, in proportion to their
/// lengths.
fn words(text: &str, phonemes: &[String], starts: &[usize], end: usize) -> Vec<Word> {
    let written: Vec<&str> = written(text).collect();
    let mut spoken: Vec<Range<usize>> = Vec::new();
    let mut in_word = false;
    for (at, phoneme) in phonemes.iter().enumerate() {
        let is_gap = phoneme.chars().all(char::is_whitespace);
        if !is_gap && !in_word {
            spoken.push(at..at + 1);
        } else if !is_gap && let Some(last) = spoken.last_mut() {
            last.end = at + 1;
        }
        in_word = !is_gap;
    }
    let place = |phoneme: usize| starts.get(phoneme).copied().unwrap_or(end);
    if spoken.is_empty() || written.is_empty() {
        return Vec::new();
    }
    if written.len() == spoken.len() {
        let words = written.iter().zip(&spoken);
        return words
            .map(|(text, range)| Word { text: (*text).to_owned(), ids: place(range.start)..place(range.end) })
            .collect();
    }
    let total: usize = written.iter().map(|word| word.chars().count()).sum();
    let phonemes = spoken.last().map_or(0, |last| last.end) - spoken[0].start;
    let (mut before, mut words, mut from) = (0, Vec::<Word>::new(), spoken[0].start);
    for text in written {
        before += text.chars().count();
        let wanted = spoken[0].start + (before * phonemes).div_ceil(total);
        // The nearest end of a spoken word.
        let to = spoken.iter().map(|word| word.end).min_by_key(|end| end.abs_diff(wanted)).unwrap_or(from);
        match words.last_mut() {
            Some(last) if to <= from => last.text = format!("{} {text}", last.text),
            _ => {
                let start = spoken.iter().map(|word| word.start).find(|&start| start >= from).unwrap_or(from);
                words.push(Word { text: text.to_owned(), ids: place(start)..place(to.max(start)) });
            }
        }
        from = from.max(to);
    }
    if let Some(last) = words.last_mut() {
        last.ids.end = place(spoken.last().map_or(from, |word| word.end));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, phonemes: &str) -> Vec<(String, String)> {
        let phonemes: Vec<String> = phonemes.chars().map(String::from).collect();
        let starts: Vec<usize> = (0..phonemes.len()).collect();
        let words = words(text, &phonemes, &starts, phonemes.len());
        words.into_iter().map(|word| (word.text, phonemes[word.ids].concat())).collect()
    }

    #[test]
    fn every_word_has_its_ids() {
        let pairs =
            |list: &[(&str, &str)]| list.iter().map(|&(a, b)| (a.into(), b.into())).collect::<Vec<_>>();
        assert_eq!(
            found("Hello, world!", "həlˈoʊ, wˈɜːld!"),
            pairs(&[("Hello,", "həlˈoʊ,"), ("world!", "wˈɜːld!")])
        );
        // Two written words are one spoken word.
        assert_eq!(
            found("live in the city", "lˈaɪv ɪnðə sˈɪɾi"),
            pairs(&[("live", "lˈaɪv"), ("in the", "ɪnðə"), ("city", "sˈɪɾi")])
        );
        assert_eq!(found("42", "fˈɔːɹɾi tˈuː"), pairs(&[("42", "fˈɔːɹɾi tˈuː")]));
        assert_eq!(found("", "a"), []);
        assert_eq!(found("a", ""), []);
    }
}
