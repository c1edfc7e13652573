//! The utterances to speak: a reproducible choice of phoneme ids.

use serde::Serialize;
use serde_json::Value as Json;

use vitstream_source::config::VoiceConfig;

/// Limit on the ids of an utterance that speaks every symbol.
const MOST_SYMBOLS: usize = 160;
/// Minimum number of ids: utterances must be longer than a decoder's receptive field.
const LEAST_IDS: usize = 200;
/// Number of symbols of the short utterance.
const SHORT: usize = 10;

/// Ids spoken by one speaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Utterance {
    /// Its name in the report.
    pub name: String,
    /// Phoneme ids.
    pub ids: Vec<i64>,
    /// The speaker, for voices with several.
    pub speaker: Option<i64>,
}

/// The symbols that a voice can speak.
pub(super) struct Vocabulary {
    /// The symbols' ids, ascending, without the three below.
    symbols: Vec<i64>,
    /// Ids before the first symbol, after each, and after the last, as placed by piper's clients.
    begin: Option<i64>,
    pad: Option<i64>,
    end: Option<i64>,
}

impl Vocabulary {
    /// The symbols in the voice's JSON, or every id below `count`.
    pub(super) fn new(config: Option<&VoiceConfig>, count: Option<usize>) -> Self {
        let count = count.and_then(|count| i64::try_from(count).ok()).filter(|&count| count > 0);
        let known = |id: &i64| *id >= 0 && count.is_none_or(|count| *id < count);
        // The JSON is passed on with one key added.
        let json: Json =
            config.and_then(|config| serde_json::from_slice(&config.to_streaming()).ok()).unwrap_or_default();
        let map = json.get("phoneme_id_map").and_then(Json::as_object);
        let id = |symbol: &str| map?.get(symbol)?.as_array()?.first()?.as_i64().filter(known);
        let (begin, pad, end) = (id("^"), id("_"), id("$"));
        let others = map.into_iter().flatten().filter_map(|(_, ids)| ids.as_array()?.first()?.as_i64());
        let mut symbols: Vec<i64> = others.filter(known).collect();
        symbols.sort_unstable();
        symbols.dedup();
        symbols.retain(|&id| ![begin, pad, end].contains(&Some(id)));
        if symbols.is_empty() {
            symbols = (0..count.unwrap_or(1).min(MOST_SYMBOLS as i64)).collect();
        }
        Self { symbols, begin, pad, end }
    }

    /// A single id, a few, and all of them. With several speakers, the last one also speaks the short
    /// utterance.
    pub(super) fn utterances(&self, speakers: Option<usize>) -> Vec<Utterance> {
        let every = |most: usize| {
            let step = self.symbols.len().div_ceil(most).max(1);
            self.symbols.iter().copied().step_by(step).collect::<Vec<_>>()
        };
        let mut list = vec![
            ("one id", vec![self.begin.unwrap_or(self.symbols[0])]),
            ("short", self.sentence(&every(SHORT))),
            ("every symbol", self.sentence(&self.often(&every(MOST_SYMBOLS)))),
        ];
        list.dedup_by(|a, b| a.1 == b.1);
        let first = speakers.map(|_| 0);
        let utterance =
            |(name, ids): (&str, Vec<i64>), speaker| Utterance { name: name.to_owned(), ids, speaker };
        let last = speakers.and_then(|n| i64::try_from(n).ok()).map(|n| n - 1).filter(|&last| last > 0);
        let by_last = last.map(|last| utterance(("short", self.sentence(&every(SHORT))), Some(last)));
        list.into_iter().map(|one| utterance(one, first)).chain(by_last).collect()
    }

    /// `symbols` repeated as often as necessary.
    fn often(&self, symbols: &[i64]) -> Vec<i64> {
        let least = if self.pad.is_some() { LEAST_IDS / 2 } else { LEAST_IDS };
        symbols.iter().copied().cycle().take(symbols.len() * least.div_ceil(symbols.len().max(1))).collect()
    }

    fn sentence(&self, symbols: &[i64]) -> Vec<i64> {
        let inner = symbols.iter().flat_map(|&id| [Some(id), self.pad]);
        [self.begin, self.begin.and(self.pad)].into_iter().chain(inner).chain([self.end]).flatten().collect()
    }
}

/// The ids given by the caller, spoken by the first and the last speaker.
pub(super) fn given(ids: &[i64], speakers: Option<usize>) -> Vec<Utterance> {
    let utterance = |speaker| Utterance { name: "the given ids".to_owned(), ids: ids.to_vec(), speaker };
    match speakers.and_then(|n| i64::try_from(n).ok()) {
        None => vec![utterance(None)],
        Some(n) if n > 1 => vec![utterance(Some(0)), utterance(Some(n - 1))],
        Some(_) => vec![utterance(Some(0))],
    }
}

impl std::fmt::Display for Utterance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)?;
        match self.speaker {
            Some(speaker) => write!(f, ", speaker {speaker}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config(map: Json) -> VoiceConfig {
        let json = json!({ "phoneme_id_map": map });
        VoiceConfig::derived("voice.json".as_ref(), json.as_object().unwrap().clone())
    }

    #[test]
    fn utterances_follow_from_the_map() {
        let config =
            config(json!({"_": [0], "^": [1], "$": [2], "b": [6], "a": [5], "odd": [], "beyond": [900]}));
        let list = Vocabulary::new(Some(&config), Some(40)).utterances(Some(3));
        let ids: Vec<&[i64]> = list.iter().map(|one| &one.ids[..]).collect();
        let (short, every) = ([1, 0, 5, 0, 6, 0, 2], ids[2]);
        assert_eq!(ids, [&[1][..], &short, every, &short]);
        assert_eq!((every.len(), &every[..8]), (203, &[1, 0, 5, 0, 6, 0, 5, 0][..]));
        assert_eq!(
            list.iter().map(|one| one.speaker).collect::<Vec<_>>(),
            [Some(0), Some(0), Some(0), Some(2)]
        );
    }

    #[test]
    fn without_a_map_ids_are_counted() {
        let list = Vocabulary::new(None, Some(1000)).utterances(None);
        assert_eq!(list.len(), 3);
        assert_eq!((&list[0].ids[..], list[1].ids.len(), list[2].ids.len()), (&[0][..], 10, 320));
        // Nothing is known, or everything is invalid.
        assert!(Vocabulary::new(None, Some(0)).utterances(Some(0)).iter().all(|one| !one.ids.is_empty()));
        for config in [None, Some(config(json!({"a": "b", "^": [-4], "_": 7})))] {
            let list = Vocabulary::new(config.as_ref(), None).utterances(None);
            assert_eq!(list.iter().map(|one| one.ids.len()).collect::<Vec<_>>(), [1, 200]);
            assert!(list.iter().all(|one| one.ids.iter().all(|&id| id == 0)));
        }
    }
}
