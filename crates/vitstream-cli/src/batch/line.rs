//! A line of a manifest.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use vitstream::{Scales, Speaker, VoiceInfo};

use super::Format;
use super::place::Place;
use super::reading::Reading;
use crate::cmd::lines::{self, Named, Phonemes};

/// The example shown in errors.
const EXAMPLE: &str = "{\"text\": \"Hello.\", \"output_file\": \"a.wav\"}";

/// The utterance and its options. Other keys belong to other programs.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Line {
    phoneme_ids: Option<Vec<i64>>,
    /// Spoken if there are no ids.
    phonemes: Option<Phonemes>,
    /// The text to speak, if neither ids nor phonemes are given.
    text: Option<String>,
    speaker: Option<Named>,
    speaker_id: Option<i64>,
    seed: Option<u64>,
    noise_scale: Option<f32>,
    length_scale: Option<f32>,
    noise_w: Option<f32>,
    output_file: Option<String>,
}

/// The content that a line requests to speak.
#[derive(Clone, Debug)]
pub(super) enum Said {
    Ids(Vec<i64>),
    /// Its ids are found where it is spoken, and so not by every shard.
    Text(String),
}

/// A line with everything said that it left to the voice.
#[derive(Clone, Debug)]
pub(super) struct Utterance {
    pub(super) said: Said,
    pub(super) speaker: Option<Speaker>,
    pub(super) scales: Scales,
    /// Without one it follows from the ids of each sentence: [`seed_of`].
    pub(super) seed: Option<u64>,
    pub(super) place: Place,
    /// A hash of all that the file's bytes depend on.
    pub(super) content: String,
}

/// The seed of ids where none is named: the first eight bytes, the most significant first, of the SHA-256 of the ids in
/// decimal, joined by commas.
pub(super) fn seed_of(ids: &[i64]) -> u64 {
    let decimal: Vec<String> = ids.iter().map(i64::to_string).collect();
    let hash = Sha256::digest(decimal.join(","));
    hash[..8].iter().fold(0, |seed, &byte| seed << 8 | u64::from(byte))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Line {
    /// `None` for a blank one.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        lines::parse(bytes, EXAMPLE)
    }

    /// Returns the content to speak, read with the `reader` of the voice if it has one.
    pub(super) fn said(&self, reader: &Reading) -> Result<Said> {
        match (&self.phoneme_ids, &self.phonemes, &self.text) {
            (Some(ids), ..) => Ok(Said::Ids(ids.clone())),
            (None, Some(phonemes), _) => Ok(Said::Ids(reader.lock()?.phonemes(phonemes)?.ids)),
            (None, None, Some(text)) => reader.lock().map(|_| Said::Text(text.clone())),
            (None, None, None) => {
                bail!("expected JSON such as {EXAMPLE}, or with `phonemes` or `phoneme_ids`")
            }
        }
    }

    /// `voice` stands for the voice, how it is computed, and for text how it is read.
    pub(super) fn resolve(
        self,
        said: Said,
        info: &VoiceInfo,
        voice: &str,
        format: Format,
    ) -> Result<Utterance> {
        let speaker = lines::speaker(self.speaker.as_ref(), self.speaker_id)?;
        let scales = Scales {
            noise: self.noise_scale.unwrap_or(info.scales.noise),
            length: self.length_scale.unwrap_or(info.scales.length),
            noise_w: self.noise_w.unwrap_or(info.scales.noise_w),
        };
        // A name and its number are the same speaker.
        let id = match &speaker {
            Some(Speaker::Name(name)) => {
                info.speaker_ids.get(name).copied().map_or_else(|| json!(name), |id| json!(id))
            }
            Some(Speaker::Id(id)) => json!(id),
            None => json!(0),
        };
        // What is said of the seed, or follows from the ids.
        let (said_json, seed) = match &said {
            Said::Ids(ids) => (json!(ids), Some(self.seed.unwrap_or_else(|| seed_of(ids)))),
            Said::Text(text) => (json!({"text": text}), self.seed),
        };
        // Bits, since 0.1 has no decimal of its own.
        let scales_bits = [scales.noise, scales.length, scales.noise_w].map(f32::to_bits);
        let spoken = json!([said_json, id, scales_bits, seed]).to_string();
        let content = json!([voice, format.extension(), spoken]).to_string();
        let place = match &self.output_file {
            Some(path) => Place::parse(path, format)?,
            None => Place::of_hash(&hex(&Sha256::digest(&spoken)), format),
        };
        Ok(Utterance { said, speaker, scales, seed, place, content: hex(&Sha256::digest(content)) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cmd::text::{Reader, TextArgs, Words};

    fn resolve(json: &str) -> Result<Utterance> {
        let info = VoiceInfo {
            sample_rate: 8000,
            symbols: None,
            speakers: 3,
            speaker_ids: BTreeMap::from([("Ada".to_owned(), 2)]),
            scales: Scales::default(),
            cost: vitstream::Cost::windowed(0),
            profile_key: String::new(),
            json: serde_json::Map::new(),
        };
        let line = Line::parse(json.as_bytes())?.unwrap();
        let said = line.said(&reading())?;
        line.resolve(said, &info, "voice", Format::Wav)
    }

    /// A voice that reads a few letters.
    fn reading() -> Reading {
        let json = json!({"phoneme_type": "text",
            "phoneme_id_map": {"_": [0], "^": [1], "$": [2], "a": [3], "b": [4]}});
        Reading::new(Reader::new(&TextArgs::default(), Words::default(), json.as_object().unwrap()))
    }

    fn place(json: &str) -> String {
        resolve(json).unwrap().place.to_string()
    }

    #[test]
    fn a_seed_follows_from_the_ids() {
        // printf 1,5,7,2 | sha256sum
        let expected = u64::from_str_radix(&hex(&Sha256::digest("1,5,7,2"))[..16], 16).unwrap();
        assert_eq!(
            resolve(r#"{"phoneme_ids": [1, 5, 7, 2], "output_file": "a.wav"}"#).unwrap().seed,
            Some(expected)
        );
        assert_eq!(resolve(r#"{"phoneme_ids": [1, 5, 7, 2], "seed": 4}"#).unwrap().seed, Some(4));
        assert_ne!(seed_of(&[15, 7, 2]), seed_of(&[1, 5, 7, 2]));
    }

    #[test]
    fn names_follow_from_what_is_spoken() {
        let base = place(r#"{"phoneme_ids": [1, 2]}"#);
        assert!(base.ends_with(".wav") && base.len() == 36, "{base}");
        let default = Scales::default();
        let spelt = format!(
            r#"{{"speaker_id": 0, "phoneme_ids": [1, 2], "noise_w": {}, "other": 1, "seed": {}}}"#,
            default.noise_w,
            seed_of(&[1, 2])
        );
        assert_eq!(place(&spelt), base, "what a line leaves out and what it says are the same");
        for other in [
            r#"{"phoneme_ids": [1, 3]}"#,
            r#"{"phoneme_ids": [1, 2], "seed": 1}"#,
            r#"{"phoneme_ids": [1, 2], "speaker_id": 1}"#,
            r#"{"phoneme_ids": [1, 2], "length_scale": 2}"#,
        ] {
            assert_ne!(place(other), base, "{other}");
        }
        let by_name = place(r#"{"phoneme_ids": [1, 2], "speaker": "Ada"}"#);
        assert_eq!(by_name, place(r#"{"phoneme_ids": [1, 2], "speaker_id": 2}"#));
        assert_eq!(by_name, place(r#"{"phoneme_ids": [1, 2], "speaker": 2}"#));
    }

    #[test]
    fn ids_go_before_phonemes_and_these_before_text() {
        let said = |json: &str| match resolve(json).unwrap().said {
            Said::Ids(ids) => format!("{ids:?}"),
            Said::Text(text) => text,
        };
        assert_eq!(said(r#"{"phoneme_ids": [7], "phonemes": "ab", "text": "x"}"#), "[7]");
        assert_eq!(said(r#"{"phonemes": "ab", "text": "x"}"#), "[1, 0, 3, 0, 4, 0, 2]");
        assert_eq!(said(r#"{"phonemes": ["a", "b"]}"#), "[1, 0, 3, 0, 4, 0, 2]");
        assert_eq!(said(r#"{"text": "x"}"#), "x");
        let [phonemes, ids] =
            [r#"{"phonemes": "ab"}"#, r#"{"phoneme_ids": [1, 0, 3, 0, 4, 0, 2]}"#].map(place);
        assert_eq!(phonemes, ids);
        assert_ne!(place(r#"{"text": "a"}"#), place(r#"{"text": "b"}"#));
        assert_ne!(place(r#"{"text": "a"}"#), place(r#"{"text": "a", "seed": 1}"#));
        let none = Reading::new(Err(anyhow::anyhow!("cannot read text")));
        let line = Line::parse(br#"{"text": "a"}"#).unwrap().unwrap();
        assert_eq!(line.said(&none).unwrap_err().to_string(), "cannot read text");
    }

    #[test]
    fn lines_that_say_nothing_to_speak_are_refused() {
        assert!(Line::parse(b" \t\r\n").unwrap().is_none());
        for bad in [
            "{}",
            "[]",
            "7",
            "{\"phonemes\": 1}",
            "{\"phonemes\": \"xyz\"}",
            "{\"phoneme_ids\": 1}",
            "{\"phoneme_ids\": [1], \"seed\": -1}",
        ] {
            assert!(resolve(bad).is_err(), "{bad}");
        }
        assert!(resolve(r#"{"phoneme_ids": [1], "speaker": "Ada", "speaker_id": 2}"#).is_err());
        assert!(Line::parse(b"\xff").is_err());
    }
}
