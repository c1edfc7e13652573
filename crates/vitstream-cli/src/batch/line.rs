//! One line of a manifest.

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use vitstream::{Scales, Speaker, VoiceInfo};

use super::Format;
use super::place::Place;

/// What is spoken, and how. Further keys are other programs'.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(super) struct Line {
    phoneme_ids: Option<Vec<i64>>,
    text: Option<String>,
    /// A name of the voice's JSON.
    speaker: Option<String>,
    speaker_id: Option<i64>,
    seed: Option<u64>,
    noise_scale: Option<f32>,
    length_scale: Option<f32>,
    noise_w: Option<f32>,
    output_file: Option<String>,
}

/// A line with everything said that it left to the voice.
#[derive(Clone, Debug)]
pub(super) struct Utterance {
    pub(super) ids: Vec<i64>,
    pub(super) speaker: Option<Speaker>,
    pub(super) scales: Scales,
    pub(super) seed: u64,
    pub(super) place: Place,
    /// A hash of all that the file's bytes depend on.
    pub(super) content: String,
}

/// The ids that a line asks for.
fn ids_of(line: &Line) -> Result<Vec<i64>> {
    match (&line.phoneme_ids, &line.text) {
        (Some(ids), _) => Ok(ids.clone()),
        (None, Some(_)) => bail!("text cannot be spoken yet, phoneme_ids can"),
        (None, None) => {
            bail!("expected JSON such as {{\"phoneme_ids\": [1, 0, 20, 2], \"output_file\": \"a.wav\"}}")
        }
    }
}

/// The seed of ids whose line names none: the first eight bytes, the most significant first, of the SHA-256 of the ids in
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
        if bytes.trim_ascii().is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(bytes).map(Some).context("not a line of JSON")
    }

    /// `voice` stands for the voice and how it is computed.
    pub(super) fn resolve(self, info: &VoiceInfo, voice: &str, format: Format) -> Result<Utterance> {
        let ids = ids_of(&self)?;
        ensure!(
            self.speaker.is_none() || self.speaker_id.is_none(),
            "both speaker and speaker_id are given, one is enough"
        );
        let scales = Scales {
            noise: self.noise_scale.unwrap_or(info.scales.noise),
            length: self.length_scale.unwrap_or(info.scales.length),
            noise_w: self.noise_w.unwrap_or(info.scales.noise_w),
        };
        let seed = self.seed.unwrap_or_else(|| seed_of(&ids));
        // A name and its number are the same speaker.
        let id = match &self.speaker {
            Some(name) => info.speaker_ids.get(name).copied().map_or_else(|| json!(name), |id| json!(id)),
            None => json!(self.speaker_id.unwrap_or(0)),
        };
        // Bits, since 0.1 has no decimal of its own.
        let scales_bits = [scales.noise, scales.length, scales.noise_w].map(f32::to_bits);
        let spoken = json!([ids, id, scales_bits, seed]).to_string();
        let content = json!([voice, format.extension(), spoken]).to_string();
        let place = match &self.output_file {
            Some(path) => Place::parse(path, format)?,
            None => Place::of_hash(&hex(&Sha256::digest(&spoken)), format),
        };
        let speaker = self.speaker.map(Speaker::Name).or(self.speaker_id.map(Speaker::Id));
        Ok(Utterance { ids, speaker, scales, seed, place, content: hex(&Sha256::digest(content)) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

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
        Line::parse(json.as_bytes())?.unwrap().resolve(&info, "voice", Format::Wav)
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
            expected
        );
        assert_eq!(resolve(r#"{"phoneme_ids": [1, 5, 7, 2], "seed": 4}"#).unwrap().seed, 4);
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
    }

    #[test]
    fn lines_that_say_nothing_to_speak_are_refused() {
        assert!(Line::parse(b" \t\r\n").unwrap().is_none());
        for bad in [
            "{}",
            "[]",
            "7",
            "{\"text\": \"Hello.\"}",
            "{\"phoneme_ids\": 1}",
            "{\"phoneme_ids\": [1], \"seed\": -1}",
        ] {
            assert!(resolve(bad).is_err(), "{bad}");
        }
        assert!(resolve(r#"{"phoneme_ids": [1], "speaker": "Ada", "speaker_id": 2}"#).is_err());
        assert!(Line::parse(b"\xff").is_err());
    }
}
