//! Symbols of original VITS, and how phonemes come between punctuation.

use crate::clauses::clauses;
use crate::error::Error;
use crate::phonemizer::Phonemizer;
use crate::piper::without_flags;
use crate::punctuation::{COQUI, PHONEMIZER, Part, Punctuation};
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
        let sounds = between_marks(PHONEMIZER, line, " ", spoken, |chunk| match chunk.trim() {
            "" => Ok(String::new()),
            _ => Ok(phonemizer.ipa(voice, chunk)?),
        })?;
        all.push_str(&sounds);
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
    between_marks(COQUI, text.trim(), "", spoken, |chunk| {
        let mut ipa = String::new();
        // The program prints a line a clause, and the lines are put together as they are.
        for clause in clauses(voice, chunk).iter().filter(|clause| !clause.text.trim().is_empty()) {
            ipa.push_str(without_flags(&phonemizer.ipa(voice, &clause.text)?).trim());
        }
        Ok(ipa)
    })
}

/// What `say` says of the chunks of a line, with the marks between them, and `line_break` where it was broken.
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
