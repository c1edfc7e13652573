//! Text to utterances that are short enough.

use vitstream_text::clauses::clauses;
use vitstream_text::phonemizer::Phonemizer;
use vitstream_text::{Error, Frontend, Passage, Sentence};

/// Phoneme ids of one utterance, unless it cannot be cut. An encoder runs without a break, so others wait for all of it: 300
/// ids take 35 ms to 60 ms on a core of today, and are 15 to 20 seconds of speech, longer than nearly every sentence.
pub(crate) const MAX_IDS: usize = 300;

/// The utterances of a text, one for each sentence unless that is too long.
pub(crate) fn utterances(
    frontend: &Frontend,
    phonemizer: &mut dyn Phonemizer,
    mut passage: Passage,
) -> Result<Vec<Sentence>, Error> {
    if frontend.voice().is_none() {
        // White space is a character too, and at an edge none that was trained.
        if passage.pronunciations.is_empty() {
            passage.text = passage.text.trim().to_owned();
        }
    }
    let sentences = frontend.speak(&passage, phonemizer)?;
    let is_long = sentences.iter().any(|sentence| sentence.ids.len() > MAX_IDS);
    // What is pronounced in its own way stays as it is.
    if !is_long || !passage.pronunciations.is_empty() {
        return Ok(sentences);
    }
    let Some(middle) = middle(frontend.voice().unwrap_or_default(), &passage.text) else {
        return Ok(sentences);
    };
    let mut first = passage.clone();
    let second = first.text.split_off(middle);
    first.pause = std::time::Duration::ZERO;
    let mut found = utterances(frontend, phonemizer, first)?;
    found.extend(utterances(frontend, phonemizer, Passage { text: second, ..passage })?);
    Ok(found)
}

/// Where a text is best cut in two: between clauses, else between words, else anywhere. `None` for a single character.
fn middle(voice: &str, text: &str) -> Option<usize> {
    let half = text.len() / 2;
    let mut at = 0;
    let ends = clauses(voice, text).into_iter().map(|clause| {
        at += clause.text.len();
        at
    });
    let nearest = |places: &mut dyn Iterator<Item = usize>| {
        let inner = |&at: &usize| at > 0 && !text[..at].trim().is_empty() && !text[at..].trim().is_empty();
        places.filter(inner).min_by_key(|at| at.abs_diff(half))
    };
    nearest(&mut ends.filter(|&at| text.is_char_boundary(at)))
        .or_else(|| nearest(&mut text.char_indices().filter(|(_, c)| c.is_whitespace()).map(|(at, _)| at)))
        .or_else(|| nearest(&mut text.char_indices().map(|(at, _)| at)))
}

#[cfg(test)]
mod tests {
    use vitstream_text::phonemizer::Recorded;

    use super::*;

    fn letters() -> Frontend {
        let json = serde_json::json!({"phoneme_type": "text", "espeak": {"voice": "en"},
            "phoneme_id_map": {"_": [0], "^": [1], "$": [2], " ": [3], "a": [4], ",": [5], ".": [6]}});
        Frontend::from_json(json.as_object().unwrap()).unwrap()
    }

    #[test]
    fn no_utterance_is_long_and_none_is_lost() {
        let frontend = letters();
        for text in ["a".repeat(4_096), "a ".repeat(2_048), "aa aa, ".repeat(600), "a, a. ".repeat(700)] {
            let found = utterances(&frontend, &mut Recorded::default(), Passage::from(&*text)).unwrap();
            assert!(found.iter().all(|sentence| sentence.ids.len() <= MAX_IDS));
            let spoken: String = found.iter().map(|sentence| sentence.text.replace(' ', "")).collect();
            assert_eq!(spoken, text.replace(' ', ""));
        }
        assert_eq!(utterances(&frontend, &mut Recorded::default(), Passage::from(" aa. ")).unwrap().len(), 1);
        assert_eq!(utterances(&frontend, &mut Recorded::default(), Passage::from(" ")).unwrap().len(), 0);
    }

    #[test]
    fn the_pause_stands_behind_the_last_part() {
        let pause = std::time::Duration::from_secs(1);
        let passage = Passage { pause, ..Passage::from(&*"aa aa, ".repeat(200)) };
        let found = utterances(&letters(), &mut Recorded::default(), passage).unwrap();
        let (last, before) = found.split_last().unwrap();
        assert_eq!(last.pause, pause);
        assert!(!before.is_empty() && before.iter().all(|sentence| sentence.pause.is_zero()));
    }

    #[test]
    fn texts_are_cut_where_it_is_heard_least() {
        assert_eq!(middle("en", "one two, three, four"), Some("one two, ".len()));
        assert_eq!(middle("en", "one two"), Some(3));
        assert_eq!(middle("en", "äöü"), Some(2));
        assert_eq!(middle("en", "a"), None);
        assert_eq!(middle("en", ""), None);
    }
}
