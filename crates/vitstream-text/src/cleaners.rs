//! Text cleaners, by the names that trainings give them.

use unicode_normalization::UnicodeNormalization;

use crate::error::Error;

/// The English abbreviations of original VITS and of Coqui, and their odd `misess`, which voices are trained on.
pub(crate) const ABBREVIATIONS: [(&str, &str); 18] = [
    ("mrs", "misess"),
    ("mr", "mister"),
    ("dr", "doctor"),
    ("st", "saint"),
    ("co", "company"),
    ("jr", "junior"),
    ("maj", "major"),
    ("gen", "general"),
    ("drs", "doctors"),
    ("rev", "reverend"),
    ("lt", "lieutenant"),
    ("hon", "honorable"),
    ("sgt", "sergeant"),
    ("capt", "captain"),
    ("esq", "esquire"),
    ("ltd", "limited"),
    ("col", "colonel"),
    ("ft", "fort"),
];

/// A cleaner of original VITS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum VitsCleaner {
    /// Small letters.
    Basic,
    /// ASCII, small letters.
    Transliteration,
    /// ASCII, small letters, abbreviations; then espeak-ng's phonemes with stress and punctuation.
    English2,
}

impl VitsCleaner {
    pub(crate) fn by_name(name: &str) -> Result<Self, Error> {
        match name {
            "basic_cleaners" => Ok(Self::Basic),
            "transliteration_cleaners" => Ok(Self::Transliteration),
            "english_cleaners2" => Ok(Self::English2),
            _ => Err(unknown(name)),
        }
    }

    /// The text before phonemes are asked for.
    pub(crate) fn clean(self, text: &str) -> String {
        match self {
            Self::Basic => collapse(&text.to_lowercase()),
            Self::Transliteration => collapse(&ascii(text).to_lowercase()),
            // White space is left: a newline divides lines for the phonemizer.
            Self::English2 => expand_abbreviations(&ascii(text).to_lowercase()),
        }
    }
}

/// A cleaner of Coqui.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum CoquiCleaner {
    None,
    /// NFC, small letters.
    Basic,
    /// The same after `I` became `ı`.
    BasicTurkish,
    /// NFC, small letters or not, symbols of the language, no brackets and quotes.
    Symbols {
        lower: bool,
    },
}

impl CoquiCleaner {
    pub(crate) fn by_name(name: Option<&str>) -> Result<Self, Error> {
        match name {
            None | Some("" | "no_cleaners") => Ok(Self::None),
            Some("basic_cleaners" | "basic_german_cleaners" | "transliteration_cleaners") => Ok(Self::Basic),
            Some("basic_turkish_cleaners") => Ok(Self::BasicTurkish),
            Some("multilingual_cleaners") => Ok(Self::Symbols { lower: true }),
            Some("multilingual_phoneme_cleaners") => Ok(Self::Symbols { lower: false }),
            Some(name) => Err(unknown(name)),
        }
    }

    pub(crate) fn clean(self, text: &str, language: Option<&str>) -> String {
        let nfc = |text: &str| text.nfc().collect::<String>();
        match self {
            Self::None => text.replace('\n', ""),
            Self::Basic => collapse(&nfc(text).to_lowercase()),
            Self::BasicTurkish => collapse(&nfc(text).replace('I', "ı").to_lowercase()),
            Self::Symbols { lower } => {
                let text = if lower { nfc(text).to_lowercase() } else { nfc(text) };
                collapse(&symbols(&text, language.unwrap_or_default()))
            }
        }
    }
}

/// Symbols as Coqui reads them in a language.
fn symbols(text: &str, language: &str) -> String {
    let language = language.split(['-', '_']).next().unwrap_or_default();
    let and = match language {
        "en" => Some(" and "),
        "fr" => Some(" et "),
        "it" | "pt" => Some(" e "),
        "ca" => Some(" i "),
        _ => None,
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match (c, and) {
            // A question mark in Greek.
            (';', _) if language == "el" => out.push(c),
            (';' | ':', _) => out.push(','),
            ('-' | '\'', _) if language == "ca" => {}
            ('-', _) => out.push(' '),
            ('&', Some(and)) => out.push_str(and),
            ('<' | '>' | '(' | ')' | '[' | ']' | '"', _) => {}
            _ => out.push(c),
        }
    }
    out
}

fn unknown(name: &str) -> Error {
    Error::unsupported(format!("the text cleaner {}", crate::shown::Shown(name)))
}

/// One space for all white space, none at the ends.
pub(crate) fn collapse(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// As Unidecode writes it, which the voices were trained with.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            _ if c.is_ascii() => out.push(c),
            // deunicode writes fractions without the space.
            '¼' | '½' | '¾' => out.extend([" ", deunicode::deunicode_char(c).unwrap_or_default()]),
            _ => out.push_str(deunicode::deunicode_char(c).unwrap_or_default()),
        }
    }
    out
}

/// `text`, in small letters, with its abbreviations written out.
pub(crate) fn expand_abbreviations(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dot) = rest.find('.') {
        let start = word_before(rest, dot);
        match ABBREVIATIONS.iter().find(|(short, _)| *short == &rest[start..dot]) {
            Some((_, long)) => {
                out.push_str(&rest[..start]);
                out.push_str(long);
            }
            None => out.push_str(&rest[..=dot]),
        }
        rest = &rest[dot + 1..];
    }
    out.push_str(rest);
    out
}

/// Where the word begins that ends at `end`.
fn word_before(text: &str, end: usize) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text[..end]
        .rfind(|c| !is_word(c))
        .map_or(0, |at| at + text[at..].chars().next().map_or(0, char::len_utf8))
}

/// Whether `text` ends in an abbreviation and its dot.
pub(crate) fn ends_in_abbreviation(text: &str) -> bool {
    let Some(text) = text.trim_end().strip_suffix('.') else { return false };
    let word = text[word_before(text, text.len())..].to_lowercase();
    ABBREVIATIONS.iter().any(|(short, _)| *short == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abbreviations_are_whole_words() {
        assert_eq!(expand_abbreviations("dr. st. adr. x.co. mr"), "doctor saint adr. x.company mr");
        assert!(ends_in_abbreviation("Hello, Mrs. "));
        assert!(!ends_in_abbreviation("Hello."));
        assert!(!ends_in_abbreviation("dr"));
    }

    #[test]
    fn cleaners_are_known_by_name() {
        let coqui = |name: &str, text: &str, language: &str| {
            CoquiCleaner::by_name(Some(name)).unwrap().clean(text, Some(language))
        };
        assert_eq!(coqui("no_cleaners", "A\nb", ""), "Ab");
        assert_eq!(coqui("basic_cleaners", " A\n  b; ", ""), "a b;");
        assert_eq!(coqui("multilingual_cleaners", "A; \"b\"-c & d:", "en"), "a, b c and d,");
        assert_eq!(coqui("multilingual_phoneme_cleaners", "Si l'avi-X", "ca"), "Si laviX");
        assert_eq!(VitsCleaner::English2.clean("Œuvre ½\nMr. X"), "oeuvre  1/2\nmister x");
        let error = VitsCleaner::by_name("korean_cleaners").unwrap_err().to_string();
        assert_eq!(
            error,
            "the text cleaner \"korean_cleaners\" is not supported; give phonemes or ids instead of text"
        );
        assert!(CoquiCleaner::by_name(Some("english_cleaners")).is_err());
    }
}
