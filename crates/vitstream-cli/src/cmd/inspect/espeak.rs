//! The generation of espeak-ng that a voice was trained with: only the same generation gives the right
//! phonemes.

use serde::Serialize;
use serde_json::{Map, Value};

/// Facts in the JSON of a Piper voice about its training.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Training {
    /// espeak-ng's voice.
    voice: String,
    piper_version: Option<String>,
    generation: &'static str,
}

/// The first release of piper1-gpl. Its snapshots of espeak-ng contain espeak-ng#2367, and its voices were
/// trained accordingly.
const FIRST_OF_PIPER1: (u64, u64) = (1, 3);

const OLD: &str =
    "piper-phonemize's of 2023; nearest to it are its own library, then Debian's 1.51 and release 1.52";
const NEW: &str =
    "piper1-gpl's since December 2024, with espeak-ng#2367; piper-tts 1.3 to 1.8 brings the same";
const UNKNOWN: &str =
    "unknown (no `piper_version`); voices of 2023 and 2024 were trained with piper-phonemize's";

impl Training {
    /// `None` for a voice that does not need espeak-ng, or whose JSON is not Piper's.
    pub(super) fn of(json: &Map<String, Value>) -> Option<Self> {
        let kind = json.get("phoneme_type").and_then(Value::as_str).unwrap_or("espeak");
        let voice = json.get("espeak")?.get("voice")?.as_str()?;
        if kind != "espeak" || !json.contains_key("phoneme_id_map") || json.contains_key("frontend") {
            return None;
        }
        let version = json.get("piper_version").and_then(Value::as_str);
        let generation = match version.and_then(numbers) {
            Some(version) if version >= FIRST_OF_PIPER1 => NEW,
            Some(_) => OLD,
            None => UNKNOWN,
        };
        let piper_version = version.map(str::to_owned);
        Some(Self { voice: voice.to_owned(), piper_version, generation })
    }

    pub(super) fn describe(&self) -> String {
        let version = self.piper_version.as_deref().map(|version| format!(", Piper {version}"));
        format!("voice {}{}: {}", self.voice, version.unwrap_or_default(), self.generation)
    }
}

fn numbers(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_version_of_piper_tells_the_generation() {
        let training = |version: Value| {
            let json = json!({"espeak": {"voice": "en-us"}, "phoneme_id_map": {}, "piper_version": version});
            Training::of(json.as_object().unwrap()).unwrap().generation
        };
        assert_eq!(["1.0.0", "1.2.0", "0.2"].map(|version| training(version.into())), [OLD; 3]);
        assert_eq!(["1.3.0", "1.5.0", "2.0.0", "1.10"].map(|version| training(version.into())), [NEW; 4]);
        assert_eq!([json!(null), json!("x"), json!(3)].map(training), [UNKNOWN; 3]);
        for json in [
            json!({"espeak": {"voice": "uk"}, "phoneme_type": "text", "phoneme_id_map": {}}),
            json!({"espeak": {"voice": "en-us"}, "phoneme_id_map": {}, "frontend": {}}),
            json!({}),
        ] {
            assert_eq!(Training::of(json.as_object().unwrap()), None);
        }
    }
}
