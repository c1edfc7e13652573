//! Symbols of original VITS, and the combination of phonemes with punctuation.

use crate::clauses::clauses;
use crate::error::Error;
use crate::phonemizer::Phonemizer;
use crate::piper::without_flags;
use crate::punctuation::{COQUI, PHONEMIZER, Part, Punctuation};
use crate::sentence::SpokenClause;

/// Upstream's `text/symbols.py`: the pad, punctuation, letters, phonetic letters. The id of a symbol is its
/// position.
pub(crate) const SYMBOLS: &str = concat!(
    "_",
    ";:,.!?¡¿—…\"«»“” ",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "ɑɐɒæɓʙβɔɕçɗɖðʤəɘɚɛɜɝɞɟʄɡɠɢʛɦɧħɥʜɨɪʝɭɬɫɮʟɱɯɰŋɳɲɴøɵɸθœɶʘɹɺɾɻʀʁɽʂʃʈʧʉʊʋⱱʌɣɤʍχʎʏʑʐʒʔʡʕʢǀǁǂǃ",
    "ˈˌːˑʼʴʰʱʲʷˠˤ˞↓↑→↗↘'\u{329}'ᵻ"
);

/// The phonemes of a cleaned text with punctuation, as produced by the package `phonemizer`.
pub(crate) fn phonemizer_phonemes(
    voice: &str,
    text: &str,
    phonemizer: &mut dyn Phonemizer,
    spoken: &mut Vec<SpokenClause>,
) -> Result<String, Error> {
    let mut all = String::new();
    for line in text.split('\n') {
        let sounds = between_marks(PHONEMIZER, line, " ", spoken, |chunk| match chunk.trim() {
            "" => Ok(String::new()),
            _ => Ok(phonemizer.ipa(voice, chunk)?),
        })?;
        all.push_str(&sounds);
        all.push(' ');
    }
    Ok(crate::cleaners::collapse(&all))
}

/// The phonemes of a cleaned text as produced by Coqui.
pub(crate) fn coqui_phonemes(
    voice: &str,
    text: &str,
    phonemizer: &mut dyn Phonemizer,
    spoken: &mut Vec<SpokenClause>,
) -> Result<String, Error> {
    between_marks(COQUI, text.trim(), "", spoken, |chunk| {
        let mut ipa = String::new();
        // The program prints one line per clause, and the lines are joined without change.
        for clause in clauses(voice, chunk).iter().filter(|clause| !clause.text.trim().is_empty()) {
            ipa.push_str(without_flags(&phonemizer.ipa(voice, &clause.text)?).trim());
        }
        Ok(ipa)
    })
}

/// Joins the results of `say` for the chunks of a line with the marks between them, and with `line_break`
/// where the line was split.
fn between_marks(
    punctuation: Punctuation,
    line: &str,
    line_break: &str,
    spoken: &mut Vec<SpokenClause>,
    mut say: impl FnMut(&str) -> Result<String, Error>,
) -> Result<String, Error> {
    let mut all = String::new();
    for part in punctuation.parts(line) {
        match part {
            Part::Chunk(chunk) => {
                let ipa = say(chunk)?;
                all.push_str(ipa.trim());
                spoken.push(SpokenClause { text: chunk.to_owned(), ipa, mark: String::new() });
            }
            Part::Marks(marks) => {
                all.push_str(marks);
                if let Some(last) = spoken.last_mut() {
                    last.mark.push_str(marks.trim());
                }
            }
            Part::Break => all.push_str(line_break),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_symbols_as_upstream_has() {
        assert_eq!(SYMBOLS.chars().count(), 178);
    }
}
