//! A user's own pronunciations.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::Error;
use crate::passage::Passage;
use crate::piper::{self, Part};
use crate::shown::Shown;

/// A word is not longer.
const MAX_LINE: usize = 1000;
/// An entry has no more words.
const MAX_WORDS: usize = 8;

/// Words and how to say them.
///
/// A line is a word or several, a tab or ` = `, and how they are said: written differently, or IPA between slashes.
/// Empty lines and lines that begin with `#` say nothing.
///
/// ```text
/// # names
/// Nguyen = win
/// vits = /vɪts/
/// New York<tab>nu york
/// ```
///
/// **Case**: an entry without capital letters is for the word in any case. One with a capital letter is for the word
/// exactly as it stands there, and goes before one without. Only whole words are taken; of several entries that begin
/// at one word the one with the most words.
///
/// ```
/// use vitstream_text::{Lexicon, Passage};
///
/// let lexicon: Lexicon = "vits = /vɪts/\nUS = united states".parse().unwrap();
/// let passage = lexicon.apply(Passage::from("VITS in the US, for us."));
/// assert_eq!(passage.text, "VITS in the united states, for us.");
/// assert_eq!(passage.pronunciations, [(0..4, "vɪts".to_owned())]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Lexicon {
    entries: HashMap<String, Saying>,
    /// Words of the longest entry.
    words: usize,
}

#[derive(Clone, Debug)]
enum Saying {
    Respelling(String),
    Ipa(String),
}

impl std::str::FromStr for Lexicon {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let mut lexicon = Self::default();
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let error = |problem: String| Error::Lexicon { line: number + 1, problem };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.len() > MAX_LINE {
                return Err(error(format!("expected at most {MAX_LINE} bytes, found {}", line.len())));
            }
            let (word, saying) =
                line.split_once('\t').or_else(|| line.split_once(" = ")).ok_or_else(|| {
                    error(format!(
                        "expected a word, a tab or ` = `, and how it is said, found {}",
                        Shown(line)
                    ))
                })?;
            let (word, saying) = (normal(word), saying.trim());
            let ipa = saying.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).map(str::trim);
            if word.is_empty() || ipa.unwrap_or(saying).is_empty() {
                return Err(error(format!("expected a word and how it is said, found {}", Shown(line))));
            }
            if saying.contains(char::is_control) {
                return Err(error(format!("expected no control character, found {}", Shown(saying))));
            }
            let words = word.split(' ').count();
            if words > MAX_WORDS {
                return Err(error(format!("expected at most {MAX_WORDS} words, found {words}")));
            }
            lexicon.words = lexicon.words.max(words);
            let saying =
                ipa.map_or_else(|| Saying::Respelling(saying.to_owned()), |ipa| Saying::Ipa(ipa.to_owned()));
            lexicon.entries.insert(word, saying);
        }
        Ok(lexicon)
    }
}

/// With one space between words.
fn normal(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Lexicon {
    /// A lexicon from a file's bytes.
    ///
    /// # Errors
    /// When they are not UTF-8, or a line cannot be read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        crate::error::utf8(bytes)?.parse()
    }

    /// The passage with its words said as the lexicon says. What has a pronunciation already keeps it.
    pub fn apply(&self, passage: Passage) -> Passage {
        if self.entries.is_empty() {
            return passage;
        }
        let text = &*passage.text;
        let blocks = piper::split(text).into_iter().filter_map(|part| match part {
            Part::Phonemes(_, whole) => Some(whole),
            Part::Text(_) => None,
        });
        let mut taken: Vec<Range<usize>> = blocks.collect();
        taken.extend(passage.pronunciations.iter().map(|(range, _)| range.clone()));
        taken.sort_by_key(|range| range.start);
        let is_free = |range: &Range<usize>| {
            // Those before it end before it, as none of them overlap.
            let next = taken.partition_point(|other| other.end <= range.start);
            taken.get(next).is_none_or(|other| other.start >= range.end)
        };

        let words = words(text);
        let mut found: Vec<(Range<usize>, &Saying)> = Vec::new();
        let mut at = 0;
        while at < words.len() {
            let counts = (1..=self.words.min(words.len() - at)).rev();
            let hit = counts
                .flat_map(|count| {
                    let range = words[at].start..words[at + count - 1].end;
                    [range.clone(), inner(text, range)].map(|range| (count, range))
                })
                .filter(|(_, range)| is_free(range))
                .find_map(|(count, range)| Some((count, self.get(&text[range.clone()])?, range)));
            match hit {
                Some((count, saying, range)) => {
                    found.push((range, saying));
                    at += count;
                }
                None => {
                    let parts = parts(text, words[at].clone());
                    let hits = parts.filter_map(|range| Some((range.clone(), self.get(&text[range])?)));
                    found.extend(hits.filter(|(range, _)| is_free(range)));
                    at += 1;
                }
            }
        }
        rewrite(&passage, found)
    }

    fn get(&self, words: &str) -> Option<&Saying> {
        let words = normal(words);
        self.entries.get(&words).or_else(|| self.entries.get(&words.to_lowercase()))
    }
}

/// What stands between white space.
fn words(text: &str) -> Vec<Range<usize>> {
    let start = text.as_ptr().addr();
    let place = |word: &str| word.as_ptr().addr() - start;
    text.split_whitespace().map(|word| place(word)..place(word) + word.len()).collect()
}

/// Without punctuation around it.
fn inner(text: &str, range: Range<usize>) -> Range<usize> {
    let word = &text[range.clone()];
    let front = word.trim_start_matches(|c: char| !c.is_alphanumeric());
    let start = range.end - front.len();
    start..start + front.trim_end_matches(|c: char| !c.is_alphanumeric()).len()
}

/// The letters and digits of `one-two`, in which an apostrophe is a letter.
fn parts(text: &str, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’');
    let mut at = range.start;
    let pieces = text[range].split_inclusive(move |c| !is_part(c));
    pieces.filter_map(move |piece| {
        let start = at;
        at += piece.len();
        let word = piece.trim_end_matches(|c| !is_part(c));
        (!word.is_empty()).then(|| start..start + word.len())
    })
}

/// The passage with what was found in its places.
fn rewrite(passage: &Passage, found: Vec<(Range<usize>, &Saying)>) -> Passage {
    let mut text = String::with_capacity(passage.text.len());
    let mut pronunciations = Vec::new();
    let mut marks = Vec::new();
    let mut given = passage.pronunciations.iter().peekable();
    let mut marked = passage.marks.iter().peekable();
    let mut at = 0;
    // Places move by what was written before them.
    let mut keep = |upto: usize, at: usize, text: &mut String, out: &mut Vec<(Range<usize>, String)>| {
        while let Some((range, ipa)) = given.next_if(|(range, _)| range.start < upto) {
            let start = text.len() + range.start - at;
            out.push((start..start + range.len(), ipa.clone()));
        }
        while let Some((place, name)) = marked.next_if(|(place, _)| *place <= upto) {
            // One within what was found comes after it.
            marks.push((text.len() + place.saturating_sub(at), name.clone()));
        }
        text.push_str(&passage.text[at..upto]);
    };
    for (range, saying) in found {
        keep(range.start, at, &mut text, &mut pronunciations);
        match saying {
            Saying::Respelling(respelling) => text.push_str(respelling),
            Saying::Ipa(ipa) => {
                let start = text.len();
                text.push_str(&passage.text[range.clone()]);
                pronunciations.push((start..text.len(), ipa.clone()));
            }
        }
        at = range.end;
    }
    keep(passage.text.len(), at, &mut text, &mut pronunciations);
    Passage { text, pronunciations, marks, ..*passage }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(lexicon: &str, passage: impl Into<Passage>) -> String {
        let passage = lexicon.parse::<Lexicon>().unwrap().apply(passage.into());
        let mut shown = passage.text.clone();
        for (range, ipa) in passage.pronunciations.iter().rev() {
            shown.replace_range(range.clone(), &format!("{}<{ipa}>", &passage.text[range.clone()]));
        }
        shown
    }

    #[test]
    fn words_are_found_whole_and_by_their_case() {
        let lexicon = "a b = ab\nb = /x/\nPolish = of poland\npolish\tsand\nC++ = cee plus plus\nit = /i/";
        assert_eq!(apply(lexicon, "B, b's “b” b-c abc bé"), "B<x>, b's “b<x>” b<x>-c abc bé");
        assert_eq!(apply(lexicon, "A\nb! a"), "ab! a");
        assert_eq!(apply(lexicon, "Polish POLISH polish"), "of poland sand sand");
        assert_eq!(apply(lexicon, "C++, it's (it)"), "C++, it's (it<i>)");
        assert_eq!(apply(lexicon, "C++ is"), "cee plus plus is");
        assert_eq!(apply(lexicon, "[[ b ]] b [[it"), "[[ b ]] b<x> [[it<i>");
    }

    #[test]
    fn given_pronunciations_stay_where_they_belong() {
        let passage = Passage {
            pronunciations: vec![(2..3, "one".into()), (12..13, "two".into())],
            ..Passage::from("a b b and b b")
        };
        assert_eq!(apply("a b = long\nb = bee\na = ay", passage), "ay b<one> bee and bee b<two>");
    }

    #[test]
    fn marks_stay_before_their_words() {
        let marks =
            [(0, "a"), (2, "b"), (3, "in b"), (5, "c"), (6, "end")].map(|(at, name)| (at, name.to_owned()));
        let passage = Passage { marks: marks.to_vec(), ..Passage::from("a bb c") };
        let passage = "bb = a long word\nc = /x/".parse::<Lexicon>().unwrap().apply(passage);
        assert_eq!(passage.text, "a a long word c");
        let rests: Vec<&str> = passage.marks.iter().map(|(at, _)| &passage.text[*at..]).collect();
        assert_eq!(rests, ["a a long word c", "a long word c", " c", "c", ""]);
    }

    #[test]
    fn bad_lines_are_named() {
        let error = |text: &str| text.parse::<Lexicon>().unwrap_err().to_string();
        assert!(error("\n# x\nword").starts_with("line 3 of the lexicon: expected a word, a tab"));
        assert!(error("a = ").contains("line 1"));
        assert!(error("a = //").contains("how it is said"));
        assert!(error(&format!("a = {}", "b".repeat(2000))).contains("at most 1000 bytes"));
        assert!(error("a = \u{1b}[2J").contains(r"\u{1b}"));
        assert!(Lexicon::from_bytes(b"a = \xff").unwrap_err().to_string().contains("0xff at offset 4"));
    }
}
