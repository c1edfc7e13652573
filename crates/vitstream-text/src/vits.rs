//! Symbols of original VITS, and how phonemes come between punctuation.

use crate::clauses::clauses;
use crate::error::Error;
use crate::phonemizer::Phonemizer;
use crate::piper::without_flags;
use crate::punctuation::{COQUI, PHONEMIZER, Part};
use crate::sentence::SpokenClause;

/// Upstream's `text/symbols.py`: the pad, punctuation, letters, phonetic letters; the id of a symbol is its place.
pub(crate) const SYMBOLS: &str = concat!(
    "_",
    ";:,.!?¡¿—…\"«»“” ",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "ɑɐɒæɓʙβɔɕçɗɖðʤəɘɚɛɜɝɞɟʄɡɠɢʛɦɧħɥʜɨɪʝɭɬɫɮʟɱɯɰŋɳɲɴøɵɸθœɶʘɹɺɾɻʀʁɽʂʃʈʧʉʊʋⱱʌɣɤʍχʎʏʑʐʒʔʡʕʢǀǁǂǃ",
    "ˈˌːˑʼʴʰʱʲʷˠˤ˞↓↑→↗↘'\u{329}'ᵻ"
);

/// The phonemes of a cleaned text as the package `phonemizer` gives them, with punctuation.
pub(crate) fn phonemizer_phonemes(
    voice: &str,
    text: &str,
    phonemizer: &mut dyn Phonemizer,
    spoken: &mut Vec<SpokenClause>,
) -> Result<String, Error> {
    let mut all = String::new();
    for line in text.split('\n') {
        for part in PHONEMIZER.parts(line) {
            match part {
                Part::Chunk(chunk) => {
                    let ipa =
                        if chunk.trim().is_empty() { String::new() } else { phonemizer.ipa(voice, chunk)? };
                    all.push_str(ipa.trim());
                    spoken.push(SpokenClause { text: chunk.to_owned(), ipa, mark: String::new() });
                }
                Part::Marks(marks) => put_marks(marks, &mut all, spoken),
                Part::Break => all.push(' '),
            }
        }
        all.push(' ');
    }
    Ok(crate::cleaners::collapse(&all))
}

/// The phonemes of a cleaned text as Coqui gives them.
pub(crate) fn coqui_phonemes(
    voice: &str,
    text: &str,
    phonemizer: &mut dyn Phonemizer,
    spoken: &mut Vec<SpokenClause>,
) -> Result<String, Error> {
    let mut all = String::new();
    for part in COQUI.parts(text.trim()) {
        match part {
            Part::Chunk(chunk) => {
                let mut ipa = String::new();
                // The program prints a line a clause, and the lines are put together as they are.
                for clause in clauses(voice, chunk).iter().filter(|clause| !clause.text.trim().is_empty()) {
                    ipa.push_str(without_flags(&phonemizer.ipa(voice, &clause.text)?).trim());
                }
                all.push_str(&ipa);
                spoken.push(SpokenClause { text: chunk.to_owned(), ipa, mark: String::new() });
            }
            Part::Marks(marks) => put_marks(marks, &mut all, spoken),
            Part::Break => {}
        }
    }
    Ok(all)
}

fn put_marks(marks: &str, all: &mut String, spoken: &mut [SpokenClause]) {
    all.push_str(marks);
    if let Some(last) = spoken.last_mut() {
        last.mark.push_str(marks.trim());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_symbols_as_upstream_has() {
        assert_eq!(SYMBOLS.chars().count(), 178);
    }
}
