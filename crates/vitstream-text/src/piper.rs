//! Piper's conversion of text into phonemes.
//!
//! `[[...]]` contains phonemes, the text in between goes to espeak-ng. Its clauses are joined with their
//! marks, and its sentences are used. All peculiarities are Piper's, because voices are trained on its
//! results.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;

use crate::clauses::{Mark, clauses};
use crate::error::Error;
use crate::passage::Passage;
use crate::phonemizer::Phonemizer;
use crate::sentence::{Draft, SpokenClause};
use crate::sentences::MAX_SENTENCE;

/// A longer block counts as text, because a reader that waits for its end must hold it in memory.
pub(crate) const MAX_BLOCK: usize = 1 << 16;

/// A part of a text.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Part {
    /// Text.
    Text(Range<usize>),
    /// Phonemes between double brackets; the ranges without and with the brackets.
    Phonemes(Range<usize>, Range<usize>),
}

/// Splits a text at `[[...]]`: the shortest blocks, without newlines. There is text, possibly empty, before,
/// between and after them.
pub(crate) fn split(text: &str) -> Vec<Part> {
    let (mut parts, mut from, mut search) = (Vec::new(), 0, 0);
    while let Some(open) = text[search..].find("[[").map(|at| search + at) {
        let content = open + 2;
        let line = text[content..].find('\n').map_or(text.len(), |at| content + at);
        let close = text[content..line].find("]]").map(|at| content + at);
        match close.filter(|close| close - open < MAX_BLOCK) {
            Some(close) => {
                parts.push(Part::Text(from..open));
                parts.push(Part::Phonemes(content..close, open..close + 2));
                from = close + 2;
                search = from;
            }
            // An open block is text up to the end of its line.
            None => search = line,
        }
    }
    parts.push(Part::Text(from..text.len()));
    parts
}

/// The sentences of a passage; some may have no phonemes.
pub(crate) fn drafts(
    voice: &str,
    vowel_clusters: &[Vec<String>],
    passage: &Passage,
    phonemizer: &mut dyn Phonemizer,
) -> Result<Vec<Draft>, Error> {
    let text = &*passage.text;
    let mut drafts: Vec<Draft> = Vec::new();
    // Set if the next clause continues the last sentence.
    let mut open = false;
    for part in split(text) {
        match part {
            Part::Text(range) => {
                let mut at = range.start;
                // Given phonemes are not joined into clusters, neither with each other nor with others.
                let mut segment = if open { drafts.last().map_or(0, |last| last.phonemes.len()) } else { 0 };
                for clause in clauses(voice, &text[range]) {
                    let place = at..at + clause.text.len();
                    at = place.end;
                    let ipa = ipa(voice, passage, place, phonemizer)?;
                    if !open {
                        drafts.push(Draft::default());
                        segment = 0;
                    }
                    let draft = drafts.last_mut().expect("one was pushed");
                    let ends = clause.ends || draft.text.len() + clause.text.len() >= MAX_SENTENCE;
                    open = !ends;
                    let spoken = without_flags(&ipa);
                    draft.phonemes.extend(spoken.nfd().map(String::from));
                    match clause.mark {
                        Mark::None => {}
                        mark @ (Mark::Comma | Mark::Colon | Mark::Semicolon) => {
                            draft.phonemes.extend([mark.as_str().to_owned(), " ".to_owned()]);
                        }
                        mark => draft.phonemes.push(mark.as_str().to_owned()),
                    }
                    draft.text.push_str(&clause.text);
                    if !clause.text.is_empty() {
                        let mark = clause.mark.as_str().to_owned();
                        draft.clauses.push(SpokenClause { text: clause.text, ipa, mark });
                    }
                    if ends {
                        join_clusters(&mut draft.phonemes, segment, vowel_clusters);
                    }
                }
            }
            Part::Phonemes(content, whole) => {
                if drafts.is_empty() {
                    drafts.push(Draft::default());
                }
                open = true;
                let draft = drafts.last_mut().expect("there is one");
                let content = text[content].trim();
                let space = |beside: bool| beside.then(|| " ".to_owned());
                draft.phonemes.extend(space(text[..whole.start].ends_with(' ')));
                draft.phonemes.extend(content.chars().map(String::from));
                draft.phonemes.extend(space(text[whole.end..].starts_with(' ')));
                draft.text.push_str(&text[whole.clone()]);
                let (text, ipa) = (text[whole].to_owned(), content.to_owned());
                draft.clauses.push(SpokenClause { text, ipa, mark: String::new() });
            }
        }
    }
    drafts.pop_if(|last| last.phonemes.is_empty());
    Ok(drafts)
}

/// The sounds of a clause, parts of which may be given.
fn ipa(
    voice: &str,
    passage: &Passage,
    clause: Range<usize>,
    phonemizer: &mut dyn Phonemizer,
) -> Result<String, Error> {
    let parts = passage.parts(clause);
    if let [(text, None)] = parts[..] {
        return Ok(if text.trim().is_empty() { String::new() } else { phonemizer.ipa(voice, text)? });
    }
    let mut all = String::new();
    let mut space = false;
    for (text, given) in parts {
        let ipa = match given {
            Some(ipa) => ipa.to_owned(),
            // espeak-ng would read punctuation alone by name.
            None if !text.contains(char::is_alphanumeric) => String::new(),
            None => phonemizer.ipa(voice, text)?,
        };
        space |= given.is_none() && text.starts_with(char::is_whitespace);
        if !ipa.is_empty() {
            if space && !all.is_empty() {
                all.push(' ');
            }
            all.push_str(&ipa);
            space = false;
        }
        space |= given.is_none() && text.ends_with(char::is_whitespace);
    }
    Ok(all)
}

/// `ipa` without the language names that espeak-ng puts in brackets where it switches the language.
pub(crate) fn without_flags(ipa: &str) -> String {
    let mut rest = ipa;
    let mut kept = String::with_capacity(ipa.len());
    while let Some(open) = rest.find('(') {
        match rest[open + 1..].find(')') {
            // The brackets are empty.
            Some(0) => {
                kept.push_str(&rest[..open + 1]);
                rest = &rest[open + 1..];
            }
            Some(close) => {
                kept.push_str(&rest[..open]);
                rest = &rest[open + 1 + close + 1..];
            }
            None => break,
        }
    }
    kept.push_str(rest);
    kept
}

/// Joins the longest known sequences of phonemes, from position `at` on, into one phoneme each.
pub(crate) fn join_clusters(phonemes: &mut Vec<String>, mut at: usize, clusters: &[Vec<String>]) {
    while at < phonemes.len() {
        let rest = &phonemes[at..];
        let longest =
            clusters.iter().filter(|cluster| rest.starts_with(cluster)).map(Vec::len).max().unwrap_or(1);
        if longest > 1 {
            let joined = phonemes[at..at + longest].concat();
            phonemes.splice(at..at + longest, [joined]);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_shortest_on_one_line() {
        let show = |text: &str| {
            let part = |part| match part {
                Part::Text(range) => text[range].to_owned(),
                Part::Phonemes(content, whole) => format!("<{}>{}", &text[content], &text[whole]),
            };
            split(text).into_iter().map(part).collect::<Vec<_>>()
        };
        assert_eq!(show("a [[b]] c"), ["a ", "<b>[[b]]", " c"]);
        assert_eq!(show("[[[a]]]"), ["", "<[a>[[[a]]", "]"]);
        assert_eq!(show("[[]]"), ["", "<>[[]]", ""]);
        assert_eq!(show("[[a\n]] [[b]]"), ["[[a\n]] ", "<b>[[b]]", ""]);
        assert_eq!(show("[[a [b]"), ["[[a [b]"]);
        assert_eq!(show(""), [""]);
    }

    #[test]
    fn flags_are_removed_and_empty_brackets_stay() {
        assert_eq!(without_flags("a (en)b(de) c"), "a b c");
        assert_eq!(without_flags("()(x)(y"), "()(y");
        assert_eq!(without_flags("(()x)"), "x)");
    }

    #[test]
    fn the_longest_cluster_is_taken() {
        let strings = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let clusters = [strings("aɪ"), strings("aɪə"), strings("x"), Vec::new()];
        let mut phonemes = strings("faɪəaɪx");
        join_clusters(&mut phonemes, 0, &clusters);
        assert_eq!(phonemes, ["f", "aɪə", "aɪ", "x"]);
    }
}
