//! Phonemes to ids.

mod near;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::{Map, Value};

use crate::error::Error;
use crate::shown::Shown;

/// Ids of a sentence, and what became of phonemes that have none.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Encoded {
    /// The ids.
    pub ids: Vec<i64>,
    /// Phonemes that are left out, each once.
    pub missing: BTreeSet<String>,
    /// Phonemes that the voice spells differently, each with that spelling.
    pub replaced: BTreeMap<String, String>,
    /// For each phoneme the place of its first id, or of the next one's if it is left out.
    pub starts: Vec<usize>,
}

/// The ids of a voice's phonemes, and what stands around and between them.
#[derive(Clone, Debug)]
pub struct PhonemeIds {
    ids: HashMap<String, Vec<i64>>,
    layout: Layout,
}

/// What stands around and between the ids of phonemes.
#[derive(Clone, Debug)]
enum Layout {
    /// `^ _ p _ p _ $`, as in Piper's training. A phoneme may have several ids.
    Piper { bos: Vec<i64>, pad: Vec<i64>, eos: Vec<i64> },
    /// `^ i f t _ i f t _ $`: Piper's pinyin, padded after tones and punctuation only.
    Pinyin { bos: Vec<i64>, pad: Vec<i64>, eos: Vec<i64> },
    /// `b p b p b`, or without the blanks, within the marks of beginning and end.
    Blanks { bos: Option<i64>, blank: Option<i64>, eos: Option<i64> },
}

impl PhonemeIds {
    /// From the `phoneme_id_map` of Piper's voices.
    pub(crate) fn piper(map: &Map<String, Value>, pinyin: bool) -> Result<Self, Error> {
        let ids = map
            .iter()
            .map(|(phoneme, ids)| {
                let list = ids.as_array().map(Vec::as_slice).unwrap_or(std::slice::from_ref(ids));
                let list: Option<Vec<i64>> = list.iter().map(Value::as_i64).collect();
                list.filter(|list| list.iter().all(|&id| id >= 0))
                    .map(|list| (phoneme.clone(), list))
                    .ok_or_else(|| {
                        let found = ids.to_string();
                        Error::Config(format!(
                            "phoneme_id_map: {}: expected a list of ids, found {}",
                            Shown(phoneme),
                            Shown(&found)
                        ))
                    })
            })
            .collect::<Result<HashMap<_, _>, _>>()?;
        let needed = |name: &str| {
            ids.get(name).cloned().ok_or_else(|| {
                Error::Config(format!(
                    "phoneme_id_map: expected an entry {name:?}, which stands in every sentence"
                ))
            })
        };
        let (bos, pad, eos) = (needed("^")?, needed("_")?, needed("$")?);
        let layout = if pinyin { Layout::Pinyin { bos, pad, eos } } else { Layout::Piper { bos, pad, eos } };
        Ok(Self { ids, layout })
    }

    /// From symbols that have one id each.
    pub(crate) fn blanks(
        symbols: impl IntoIterator<Item = (String, i64)>,
        bos: Option<i64>,
        blank: Option<i64>,
        eos: Option<i64>,
    ) -> Self {
        let ids = symbols.into_iter().map(|(symbol, id)| (symbol, vec![id])).collect();
        Self { ids, layout: Layout::Blanks { bos, blank, eos } }
    }

    /// Whether a phoneme has an entry.
    pub fn contains(&self, phoneme: &str) -> bool {
        self.ids.contains_key(phoneme)
    }

    /// The ids of a sentence. With `near`, a phoneme without an entry is written as the voice writes the same sound,
    /// if it does: `ʤ` as `dʒ`. What is missing after that is left out.
    pub fn encode(&self, phonemes: &[String], near: bool) -> Encoded {
        let mut encoded = Encoded::default();
        encoded.ids.extend(self.layout.head());
        for phoneme in phonemes {
            encoded.starts.push(encoded.ids.len());
            if let Some(ids) = self.ids.get(phoneme) {
                self.layout.put(phoneme, ids, &mut encoded.ids);
                continue;
            }
            let spelled = near.then(|| near::spelling(phoneme, |part| self.contains(part))).flatten();
            match spelled {
                Some(parts) => {
                    for part in &parts {
                        self.layout.put(part, &self.ids[part], &mut encoded.ids);
                    }
                    encoded.replaced.insert(phoneme.clone(), parts.concat());
                }
                None => drop(encoded.missing.insert(phoneme.clone())),
            }
        }
        encoded.ids.extend(self.layout.tail());
        encoded
    }
}

impl Layout {
    fn head(&self) -> Vec<i64> {
        match self {
            Self::Piper { bos, pad, .. } => [&**bos, pad].concat(),
            Self::Pinyin { bos, .. } => bos.clone(),
            Self::Blanks { bos, blank, .. } => bos.iter().chain(blank).copied().collect(),
        }
    }

    fn put(&self, phoneme: &str, ids: &[i64], out: &mut Vec<i64>) {
        out.extend(ids);
        match self {
            Self::Piper { pad, .. } => out.extend(pad),
            // Initials and finals are letters, tones and punctuation are not.
            Self::Pinyin { pad, .. } if !phoneme.chars().all(char::is_alphabetic) => out.extend(pad),
            Self::Pinyin { .. } => {}
            Self::Blanks { blank, .. } => out.extend(blank),
        }
    }

    fn tail(&self) -> Vec<i64> {
        match self {
            Self::Piper { eos, .. } | Self::Pinyin { eos, .. } => eos.clone(),
            Self::Blanks { eos, .. } => eos.iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(json: Value) -> Result<PhonemeIds, Error> {
        let Value::Object(map) = json else { panic!("an object") };
        PhonemeIds::piper(&map, false)
    }

    fn phonemes(text: &str) -> Vec<String> {
        text.chars().map(String::from).collect()
    }

    #[test]
    fn missing_phonemes_are_named_once_and_near_ones_are_taken() {
        let map =
            serde_json::json!({"^": [1], "_": [0], "$": [2], "d": [3], "ʒ": [4], "ɡ": [5], "a": [6, 7]});
        let ids = ids(map).unwrap();
        let found = ids.encode(&phonemes("ʤgaQQ"), true);
        assert_eq!(found.ids, [1, 0, 3, 0, 4, 0, 5, 0, 6, 7, 0, 2]);
        assert_eq!(found.missing, BTreeSet::from(["Q".to_owned()]));
        assert_eq!(found.replaced["ʤ"], "dʒ");
        assert_eq!(found.replaced["g"], "ɡ");
        assert_eq!(found.starts, [2, 6, 8, 11, 11]);
        let exact = ids.encode(&phonemes("ʤga"), false);
        assert_eq!(exact.ids, [1, 0, 6, 7, 0, 2]);
        assert_eq!(exact.missing, ["g", "ʤ"].map(str::to_owned).into());
    }

    #[test]
    fn a_map_that_is_none_is_refused() {
        for (json, part) in [
            (serde_json::json!({"^": [1], "$": [2]}), r#"an entry "_""#),
            (serde_json::json!({"a": ["b"]}), r#""a": expected a list of ids"#),
            (serde_json::json!({"a": [-1]}), "expected a list of ids"),
        ] {
            let error = ids(json).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
