//! Marks that can end a clause.

use std::fmt;

use serde::{Serialize, Serializer};
use unicode_normalization::char::is_combining_mark;

/// The mark at a clause's end, as Piper writes it after the clause's phonemes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mark {
    /// No mark, or one without a phoneme.
    #[default]
    None,
    /// A full stop.
    Period,
    /// A question mark.
    Question,
    /// An exclamation mark.
    Exclamation,
    /// A comma.
    Comma,
    /// A colon.
    Colon,
    /// A semicolon or a dash.
    Semicolon,
}

impl Mark {
    /// The mark as one character, or an empty string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Period => ".",
            Self::Question => "?",
            Self::Exclamation => "!",
            Self::Comma => ",",
            Self::Colon => ":",
            Self::Semicolon => ";",
        }
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Mark {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Characters with the same treatment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Class {
    pub(super) mark: Mark,
    /// True if a sentence ends at it.
    pub(super) ends: bool,
    /// True if it ends a clause only before white space, brackets or quotes.
    pub(super) needs_space: bool,
}

impl Class {
    pub(super) const ELLIPSIS: Self = Self { mark: Mark::None, ends: false, needs_space: false };

    const fn sentence(mark: Mark) -> Self {
        Self { mark, ends: true, needs_space: true }
    }

    const fn clause(mark: Mark) -> Self {
        Self { mark, ends: false, needs_space: true }
    }
}

/// The class of a mark; `None` for all other characters.
#[rustfmt::skip]
pub(super) fn class(c: char) -> Option<Class> {
    Some(match c {
        '.' | '۔' | '܁' | '܄' | '።' | '᙮' | '᠃' | '᠉' | '⳹' | '⳾' | '⸳' | '⸼' | '꓿' | '꘎' | '꛳' | '︒' | '﹒' | '｡' | '𖫵'
        | '𛲟' | '𝪈' => Class::sentence(Mark::Period),
        '?' | '\u{37e}' | '؟' | '܉' | '፧' | '᥅' | '⁇' | '❓' | '❔' | '⳺' | '⳻' | '꘏' | '꛷' | '︖' | '﹖' | '𑅃'
        | '𞥟' => Class::sentence(Mark::Question),
        '!' | '܃' | '߹' | '᥄' | '‼' | '❕' | '❗' | '❢' | '❣' | '︕' | '﹗' | '𞥞' => Class::sentence(Mark::Exclamation),
        ',' | '՝' | '،' | '܂' | '߸' | '༔' | '፣' | '᠂' | '᠈' | '⸲' | '⸴' | '⹁' | '꓾' | '꘍' | '꛵' | '︐' | '︑' | '﹐' | '﹑'
        | '､' | '𑑍' | '𝪇' => Class::clause(Mark::Comma),
        ':' | '܆' | '܇' | '፥' | '፦' | '᠄' | '⦂' | '꛴' | '︓' | '﹕' | '𒑱' | '𒑲' | '𝪊' => Class::clause(Mark::Colon),
        ';' | '\u{387}' | '؛' | '܈' | '፤' | '–' | '—' | '⁏' | '⸵' | '⸺' | '⸻' | '꛶' | '︔' | '︱' | '︲' | '﹔'
        | '𝪉' => Class::clause(Mark::Semicolon),
        '¡' | '¿' | '᠁' | '…' | '⋮' | '⋯' | '⋰' | '⋱' | '、' | '︙' | '，' | '：' | '；' => Class::ELLIPSIS,
        '։' | '।' | '෴' | '\u{f0d}' | '。' | '！' | '．' | '？' => Class { ends: true, ..Class::ELLIPSIS },
        '܀' | '॥' | '༎' | '჻' | '፨' | '\u{2029}' => Class::sentence(Mark::None),
        _ => return None,
    })
}

/// Characters after which an overlong clause does not end: letters, combining marks in the measured scripts,
/// digits, and pictographs, which are read by name.
pub(super) fn holds_together(c: char) -> bool {
    let is_mark = matches!(c, '\u{300}'..='\u{36f}' | '\u{900}'..='\u{d4f}') && is_combining_mark(c);
    let is_picture =
        matches!(c, '\u{2600}'..='\u{27bf}' | '\u{2800}'..='\u{28ff}' | '\u{1f000}'..='\u{1fbff}');
    c.is_alphabetic() || c.is_ascii_digit() || is_mark || is_picture
}

/// White space, except non-breaking spaces.
pub(super) fn is_white(c: char) -> bool {
    c.is_whitespace() && !matches!(c, '\u{a0}' | '\u{2007}' | '\u{202f}')
}

/// Characters that may occur between a mark and the white space after it.
pub(super) fn is_bracket_or_quote(c: char) -> bool {
    matches!(c, '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | '"' | '\'' | '`' | '«' | '»' | '《' | '》')
        || matches!(c, '\u{2014}'..='\u{201f}')
}
