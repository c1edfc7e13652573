//! Times of characters.

use std::time::Duration;

use serde_json::{Value, json};

use crate::reading::Utterance;

/// An utterance's characters with their start and duration, in milliseconds from the utterance's first
/// sample.
pub(super) fn alignment(utterance: &Utterance) -> Value {
    let (chars, starts) = characters(utterance);
    let milliseconds = |time: Duration| time.as_millis() as u64;
    let begins: Vec<u64> = starts[..chars.len()].iter().map(|&start| milliseconds(start)).collect();
    let lengths: Vec<u64> =
        starts.windows(2).map(|pair| milliseconds(pair[1]).saturating_sub(milliseconds(pair[0]))).collect();
    json!({"chars": chars, "charStartTimesMs": begins, "charDurationsMs": lengths})
}

/// The same in the form of HTTP responses: start and end in seconds.
pub(super) fn timestamps(utterance: &Utterance) -> Value {
    let (chars, starts) = characters(utterance);
    let seconds = |times: &[Duration]| times.iter().map(Duration::as_secs_f64).collect::<Vec<f64>>();
    json!({
        "characters": chars,
        "character_start_times_seconds": seconds(&starts[..chars.len()]),
        "character_end_times_seconds": seconds(&starts[1..]),
    })
}

/// An utterance's characters and their start times, followed by the end of the last one. Words begin and end
/// with their sounds; characters share a word's time evenly, and those between words share the time in
/// between.
fn characters(utterance: &Utterance) -> (Vec<char>, Vec<Duration>) {
    let chars: Vec<char> = utterance.text.chars().collect();
    let mut starts: Vec<Option<Duration>> = vec![None; chars.len() + 1];
    starts[0] = Some(Duration::ZERO);
    starts[chars.len()] = Some(utterance.length);
    let mut at = 0;
    for (word, begins, ends) in &utterance.words {
        let Some(place) = find(&chars[at..], word).map(|place| at + place) else { continue };
        starts[place] = Some(*begins);
        at = (place + word.chars().count()).min(chars.len());
        if at < chars.len() {
            starts[at] = Some(*ends);
        }
    }
    (chars, even(&starts))
}

/// The first position of `word`; its white space may have another length in the text.
fn find(chars: &[char], word: &str) -> Option<usize> {
    let word: Vec<char> = word.chars().collect();
    let same = |(&a, &b): (&char, &char)| a == b || a.is_whitespace() && b.is_whitespace();
    chars.windows(word.len().max(1)).position(|part| part.iter().zip(&word).all(same))
}

/// Interpolates between the known times. The first and the last are known.
fn even(known: &[Option<Duration>]) -> Vec<Duration> {
    let mut times: Vec<Duration> = Vec::with_capacity(known.len());
    for (index, time) in known.iter().enumerate() {
        let before = times.last().copied().unwrap_or_default();
        let next = (index..known.len()).find_map(|at| known[at].map(|time| (at, time)));
        let time = match (time, next) {
            (Some(time), _) => *time,
            (None, Some((at, time))) => {
                let steps = u32::try_from(at - index + 1).unwrap_or(u32::MAX);
                before + time.saturating_sub(before) / steps
            }
            (None, None) => before,
        };
        times.push(time.max(before));
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_stand_within_their_words() {
        let ms = Duration::from_millis;
        let utterance = Utterance {
            text: "ab cd.".to_owned(),
            length: ms(1_000),
            words: vec![("ab".to_owned(), ms(100), ms(300)), ("cd.".to_owned(), ms(400), ms(1_000))],
        };
        assert_eq!(
            alignment(&utterance),
            json!({
                "chars": ["a", "b", " ", "c", "d", "."],
                "charStartTimesMs": [100, 200, 300, 400, 600, 800],
                "charDurationsMs": [100, 100, 100, 200, 200, 200],
            })
        );
        assert_eq!(
            timestamps(&utterance),
            json!({
                "characters": ["a", "b", " ", "c", "d", "."],
                "character_start_times_seconds": [0.1, 0.2, 0.3, 0.4, 0.6, 0.8],
                "character_end_times_seconds": [0.2, 0.3, 0.4, 0.6, 0.8, 1.0],
            })
        );
        let unknown = Utterance { words: Vec::new(), ..utterance };
        let found = alignment(&unknown);
        assert_eq!(found["charStartTimesMs"][0], 0);
        let total: u64 = found["charDurationsMs"].as_array().unwrap().iter().filter_map(Value::as_u64).sum();
        assert_eq!(total, 1_000);
        let empty =
            Utterance { text: String::new(), length: ms(5), words: vec![("x".to_owned(), ms(1), ms(2))] };
        assert_eq!(alignment(&empty), json!({"chars": [], "charStartTimesMs": [], "charDurationsMs": []}));
    }
}
