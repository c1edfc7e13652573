//! Other spellings of one sound.

use unicode_normalization::UnicodeNormalization;

/// A spelling, and others of the same sound.
const SPELLINGS: [(&str, &[&str]); 14] = [
    ("ʤ", &["dʒ"]),
    ("ʧ", &["tʃ"]),
    ("ʣ", &["dz"]),
    ("ʦ", &["ts"]),
    ("ʥ", &["dʑ"]),
    ("ʨ", &["tɕ"]),
    ("g", &["ɡ"]),
    ("ɡ", &["g"]),
    ("ɝ", &["ɜ˞", "ɜɹ"]),
    ("ɚ", &["ə˞", "əɹ"]),
    // The Greek letters are typed for the phonetic ones.
    ("ε", &["ɛ"]),
    ("ɛ", &["ε"]),
    // A tie says that two letters are one sound.
    ("\u{361}", &[""]),
    ("\u{35c}", &[""]),
];

/// Phonemes of which the voice `has` all, and that sound as this one does.
pub(super) fn spelling(phoneme: &str, has: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let spellings = SPELLINGS.iter().find(|(from, _)| *from == phoneme).map_or(&[] as &[&str], |(_, to)| to);
    let decomposed: String = phoneme.nfd().collect();
    let composed: String = phoneme.nfc().collect();
    // A cluster that the voice does not have as one is its parts.
    let candidates = spellings.iter().copied().chain([&*composed, &*decomposed]);
    candidates.filter(|candidate| *candidate != phoneme || candidate.chars().count() > 1).find_map(
        |candidate| {
            let parts: Vec<String> = candidate.chars().map(String::from).collect();
            parts.iter().all(|part| has(part)).then_some(parts)
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spelling_is_taken_only_if_the_voice_has_all_of_it() {
        let has = |known: &'static str| move |part: &str| known.contains(part);
        let spell = |phoneme: &str, known| spelling(phoneme, has(known)).map(|parts| parts.concat());
        assert_eq!(spell("ʤ", "dʒ").as_deref(), Some("dʒ"));
        assert_eq!(spell("ʤ", "d"), None);
        assert_eq!(spell("ã", "a\u{303}").as_deref(), Some("a\u{303}"));
        assert_eq!(spell("aɪ", "aɪ").as_deref(), Some("aɪ"));
        assert_eq!(spell("\u{361}", "").as_deref(), Some(""));
        assert_eq!(spell("Q", "q"), None);
    }
}
