//! Splits text so that a phonemizer gets only the parts between punctuation, which is put back afterwards.
//!
//! The Python package `phonemizer`, and Coqui following it, prepare training texts this way: punctuation is
//! among the symbols, and espeak-ng would drop it.

use std::ops::Range;

/// The definition of punctuation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Punctuation {
    pub(crate) marks: &'static str,
    /// Set if a comma or dot between digits is part of the number.
    pub(crate) keeps_numbers: bool,
}

/// For original VITS and transformers, with the package's version 3.4.
pub(crate) const PHONEMIZER: Punctuation =
    Punctuation { marks: ";:,.!?¡¿—…\"«»“”(){}[]", keeps_numbers: true };
/// For Coqui.
pub(crate) const COQUI: Punctuation =
    Punctuation { marks: ";:,.!?¡¿—…\"«»“”", keeps_numbers: false };

/// A part of a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Part<'a> {
    /// To be phonemized.
    Chunk(&'a str),
    /// Punctuation, with the white space around it.
    Marks(&'a str),
    /// The place where the rest of a line became a separate line.
    Break,
}

impl Punctuation {
    /// Splits a line into parts.
    ///
    /// A mark at the end is searched for from the left, as in the package: `1.5 is it.` becomes `1`, `.`, and
    /// a line `5 is it.` that keeps its dot.
    pub(crate) fn parts<'a>(&self, line: &'a str) -> Vec<Part<'a>> {
        let runs = self.runs(line);
        let mut parts = Vec::new();
        let mut rest = line;
        let last = runs.len().saturating_sub(1);
        for (number, run) in runs.iter().enumerate() {
            let mark = &line[run.clone()];
            // The rest contains the sequence itself, and therefore its text.
            let Some(at) = rest.find(mark) else { break };
            if at > 0 {
                parts.push(Part::Chunk(&rest[..at]));
            }
            parts.push(Part::Marks(mark));
            rest = &rest[at + mark.len()..];
            if number == last && run.end == line.len() && !rest.is_empty() {
                parts.push(Part::Break);
            }
        }
        if !rest.is_empty() {
            parts.push(Part::Chunk(rest));
        }
        parts
    }

    /// Sequences of marks with the white space around and between them.
    fn runs(&self, line: &str) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        // Start of the white space that a mark may follow.
        let mut white: Option<usize> = None;
        let mut before = None;
        let mut chars = line.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let end = at + c.len_utf8();
            let after = chars.peek().map(|&(_, c)| c);
            let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
            let in_number =
                self.keeps_numbers && matches!(c, ',' | '.') && is_digit(before) && is_digit(after);
            let joins = runs.last().is_some_and(|run| run.end == white.unwrap_or(at));
            if self.marks.contains(c) && !in_number {
                match runs.last_mut() {
                    Some(run) if joins => run.end = end,
                    _ => runs.push(white.unwrap_or(at)..end),
                }
                white = None;
            } else if c.is_whitespace() {
                match runs.last_mut() {
                    Some(run) if run.end == at => run.end = end,
                    _ => white = white.or(Some(at)),
                }
            } else {
                white = None;
            }
            before = Some(c);
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(punctuation: Punctuation, line: &str) -> String {
        let part = |part: &Part<'_>| match part {
            Part::Chunk(text) => format!("[{text}]"),
            Part::Marks(text) => format!("<{text}>"),
            Part::Break => "|".to_owned(),
        };
        punctuation.parts(line).iter().map(part).collect()
    }

    #[test]
    fn lines_are_cut_at_punctuation() {
        assert_eq!(show(PHONEMIZER, "hello, world."), "[hello]<, >[world]<.>");
        assert_eq!(show(PHONEMIZER, "no!!! (yes) ."), "[no]<!!! (>[yes]<) .>");
        assert_eq!(show(PHONEMIZER, "?que tal?"), "<?>[que tal]<?>");
        assert_eq!(show(PHONEMIZER, "..."), "<...>");
        assert_eq!(show(PHONEMIZER, "  two  "), "[  two  ]");
        assert_eq!(show(PHONEMIZER, ""), "");
        assert_eq!(show(PHONEMIZER, "it is 1,234.5"), "[it is 1,234.5]");
        assert_eq!(show(COQUI, "it is 1,2 (x)"), "[it is 1]<,>[2 (x)]");
    }

    #[test]
    fn a_last_mark_is_found_from_the_left() {
        assert_eq!(show(PHONEMIZER, "1,234.5 dollars."), "[1,234]<.>|[5 dollars.]");
    }
}
