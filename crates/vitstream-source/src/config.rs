//! The voice's JSON in piper's form: found next to the checkpoint, checked against the network, and passed
//! on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vitstream_checkpoint::{excerpt, read_file};
use vitstream_vits::HParams;

use crate::Error;
use crate::Surroundings;
use crate::json::{self, MAX_SIZE};
use vitstream_contract::files::{self, MODEL_CARD};

/// Allowed sample rates in hertz: from half the telephone's rate to twice the highest rate of sound cards.
const SAMPLE_RATES: std::ops::RangeInclusive<u64> = 4000..=384_000;

/// Limit on the items of one kind that a warning lists.
const MAX_LISTED: usize = 5;

/// A voice's JSON.
#[derive(Clone, Debug)]
pub struct VoiceConfig {
    /// The path where it was found.
    pub path: PathBuf,
    json: serde_json::Map<String, Value>,
    /// Set if the file holds something else, from which this JSON was derived.
    derived: bool,
}

impl VoiceConfig {
    /// Reads a voice's JSON.
    ///
    /// # Errors
    /// When the file cannot be read or is not a JSON object.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(Self { path: path.to_owned(), json: json::read(path)?, derived: false })
    }

    /// As [`read`](Self::read), for contents that are already in memory.
    pub fn parse(path: &Path, contents: &[u8]) -> Result<Self, Error> {
        Ok(Self { path: path.to_owned(), json: json::parse(path, contents)?, derived: false })
    }

    /// Wraps the JSON that was read from the file at `path`.
    pub fn of(path: &Path, json: serde_json::Map<String, Value>) -> Self {
        Self { path: path.to_owned(), json, derived: false }
    }

    /// Reads the JSON called `named`, or without a name the one that [`find`](Self::find) returns.
    ///
    /// # Errors
    /// When the JSON exists but cannot be read.
    pub fn named_or_beside(named: Option<&Path>, input: &Path) -> Result<Option<Self>, Error> {
        match named {
            Some(path) => Self::read(path).map(Some),
            None => Self::find(input),
        }
    }

    /// Looks for the JSON that belongs to the voice's file at `input`: next to it, under one of its
    /// [`names_beside`](Self::names_beside). A JSON with any other name may belong to another voice, and is
    /// ignored.
    ///
    /// # Errors
    /// When the JSON exists but cannot be read.
    pub fn find(input: &Path) -> Result<Option<Self>, Error> {
        Surroundings::of(input).voice_json(&Self::names_beside(input))
    }

    /// The names that the JSON of the file at `input` may have, in order of preference: for `joe.ckpt` they
    /// are `joe.ckpt.json`, `joe.onnx.json`, `joe.json` and `config.json`.
    pub fn names_beside(input: &Path) -> Vec<String> {
        let name = |part: Option<&std::ffi::OsStr>| part.map(|part| part.to_string_lossy().into_owned());
        let mut names = Vec::new();
        names.extend(name(input.file_name()).map(|name| format!("{name}.json")));
        if let Some(stem) = name(input.file_stem()) {
            names.extend([format!("{stem}.onnx.json"), format!("{stem}.json")]);
        }
        names.push("config.json".to_owned());
        names.dedup();
        names
    }

    /// Looks for the JSON of the voice in `directory` under one of the
    /// [`NAMES_IN_FOLDER`](Self::NAMES_IN_FOLDER). Other files there may belong to another voice.
    ///
    /// # Errors
    /// When the JSON exists but cannot be read.
    pub fn find_in(directory: &Path) -> Result<Option<Self>, Error> {
        Surroundings::Folder(directory.to_owned()).voice_json(&Self::names_in_folder())
    }

    /// The names that the JSON of a voice in a folder may have: its own, and those of its graphs.
    pub const NAMES_IN_FOLDER: [&str; 3] = [files::CONFIG, files::ENCODER_CONFIG, files::VOICE_CONFIG];

    pub(crate) fn names_in_folder() -> Vec<String> {
        Self::NAMES_IN_FOLDER.map(str::to_owned).into()
    }

    /// The message for a `directory` in which [`find_in`](Self::find_in) finds nothing.
    pub fn absent_from(directory: &Path) -> String {
        let around = Surroundings::Folder(directory.to_owned());
        match around.other_voices() {
            None => "there is no config.json".to_owned(),
            Some(others) => format!("there is no config.json; if it is one of {others}, rename that file"),
        }
    }

    /// Wraps a JSON that was derived from the contents of `path`.
    pub fn derived(path: &Path, json: serde_json::Map<String, Value>) -> Self {
        Self { path: path.to_owned(), json, derived: true }
    }

    /// The JSON object.
    pub fn json(&self) -> &serde_json::Map<String, Value> {
        &self.json
    }

    /// Returns true if the file at [`path`](Self::path) is a different one, which must not be overwritten
    /// with this JSON.
    pub fn is_derived(&self) -> bool {
        self.derived
    }

    /// The description that published voices carry next to their JSON; it states the voice's licence.
    pub fn model_card(&self) -> Option<Vec<u8>> {
        let path = self.path.with_file_name(MODEL_CARD);
        // A link could lead to anything.
        let is_link = path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink());
        if is_link { None } else { read_file(&path, MAX_SIZE).ok() }
    }

    /// Descriptions of everything that contradicts the network or cannot be played.
    pub fn check(&self, hparams: &HParams) -> Vec<String> {
        let audio = self.json.get("audio");
        let claims = [
            ("num_symbols", self.json.get("num_symbols"), Some(hparams.num_symbols as u64)),
            ("num_speakers", self.json.get("num_speakers"), Some(hparams.num_speakers as u64)),
            (
                "audio.sample_rate",
                audio.and_then(|audio| audio.get("sample_rate")),
                hparams.sample_rate.map(u64::from),
            ),
        ];
        let contradictions = claims.into_iter().filter_map(|(name, claim, truth)| {
            let (claim, truth) = (claim?, truth?);
            let claim_text = excerpt(&claim.to_string());
            (claim.as_u64() != Some(truth))
                .then(|| format!("{name} is {claim_text}, but the network has {truth}"))
        });
        let mut found: Vec<String> = contradictions.collect();
        if let Some(rate) = audio.and_then(|audio| audio.get("sample_rate"))
            && !rate.as_u64().is_some_and(|rate| SAMPLE_RATES.contains(&rate))
        {
            let (least, most) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
            let rate = excerpt(&rate.to_string());
            found.push(format!("audio.sample_rate is {rate}: expected {least} to {most} hertz"));
        }
        found.extend(self.check_symbols(hparams.num_symbols));
        found.extend(self.check_speakers(hparams.num_speakers));
        found.into_iter().map(|problem| format!("{}: {problem}", self.path.display())).collect()
    }

    /// Checks for ids without a symbol in the network, and for symbols that clients cannot find in a text.
    fn check_symbols(&self, num_symbols: usize) -> Vec<String> {
        let Some(map) = self.json.get("phoneme_id_map").and_then(Value::as_object) else { return Vec::new() };
        let (mut beyond, mut negative, mut long) = (Vec::new(), Vec::new(), Vec::new());
        for (symbol, ids) in map {
            // Some files have a bare id where Piper has a list.
            let ids = ids.as_array().map_or(std::slice::from_ref(ids), Vec::as_slice);
            let shown = excerpt(symbol);
            for id in ids.iter().filter_map(Value::as_i64) {
                match usize::try_from(id) {
                    Ok(id) if id >= num_symbols => beyond.push(format!("{id} for \"{shown}\"")),
                    Ok(_) => {}
                    Err(_) => negative.push(format!("{id} for \"{shown}\"")),
                }
            }
            if symbol.chars().count() != 1 {
                long.push(format!("\"{shown}\""));
            }
        }
        let mut found = Vec::new();
        if !beyond.is_empty() {
            found.push(format!(
                "phoneme_id_map has ids beyond the network's {num_symbols} symbols: {}; a text with one of them cannot be \
                 spoken",
                few(&beyond)
            ));
        }
        if !negative.is_empty() {
            found.push(format!(
                "phoneme_id_map has negative ids: {}; a text with one of them cannot be spoken",
                few(&negative)
            ));
        }
        // A derived JSON has the symbols of its family, which Piper's clients cannot play anyway.
        if !long.is_empty() && !self.derived {
            found.push(format!(
                "phoneme_id_map has symbols that are not a single character: {}; clients that look up one character \
                 at a time, such as Piper, refuse the voice or never find them",
                few(&long)
            ));
        }
        found
    }

    /// Checks for speakers that the network does not have.
    fn check_speakers(&self, num_speakers: usize) -> Option<String> {
        let map = self.json.get("speaker_id_map").and_then(Value::as_object)?;
        let known = |id: &Value| {
            id.as_i64().and_then(|id| usize::try_from(id).ok()).is_some_and(|id| id < num_speakers.max(1))
        };
        let unknown: Vec<String> = map
            .iter()
            .filter(|(_, id)| !known(id))
            .map(|(name, id)| format!("{} for \"{}\"", excerpt(&id.to_string()), excerpt(name)))
            .collect();
        (!unknown.is_empty()).then(|| {
            format!(
                "speaker_id_map has ids beyond the network's {num_speakers} speakers: {}; they cannot be chosen",
                few(&unknown)
            )
        })
    }

    /// The sample rate in hertz, if the JSON states it.
    pub fn sample_rate(&self) -> Option<u32> {
        self.json.get("audio")?.get("sample_rate")?.as_u64().and_then(|rate| u32::try_from(rate).ok())
    }

    /// Returns true if the JSON has a sample rate at all, even an invalid one.
    pub fn states_sample_rate(&self) -> bool {
        self.json.get("audio").and_then(|audio| audio.get("sample_rate")).is_some()
    }

    /// Checks that the fields needed for speaking have the types of Piper's JSON.
    ///
    /// # Errors
    /// When a field has another type.
    pub fn check_types(&self) -> Result<(), Error> {
        let at = |path: &[&str]| {
            let (first, rest) = path.split_first()?;
            rest.iter().try_fold(self.json.get(*first)?, |value, key| value.get(key))
        };
        let count: fn(&Value) -> bool = |value| value.is_u64();
        let scale: fn(&Value) -> bool = |value| value.is_number();
        let ids: fn(&Value) -> bool =
            |value| value.as_object().is_some_and(|ids| ids.values().all(Value::is_i64));
        for (path, fits, expected) in [
            (&["audio", "sample_rate"][..], count, "a number of hertz"),
            (&["num_symbols"], count, "a number of symbols"),
            (&["num_speakers"], count, "a number of speakers"),
            (&["inference", "noise_scale"], scale, "a number"),
            (&["inference", "length_scale"], scale, "a number"),
            (&["inference", "noise_w"], scale, "a number"),
            (&["speaker_id_map"], ids, "names with their numbers"),
        ] {
            if let Some(found) = at(path).filter(|value| !value.is_null() && !fits(value)) {
                let (name, found) = (path.join("."), excerpt(&found.to_string()));
                let problem = format!("{name}: expected {expected}, found {found}");
                return Err(Error::Config { path: self.path.clone(), problem });
            }
        }
        Ok(())
    }

    /// Number of the network's symbols, if the JSON states it.
    pub fn num_symbols(&self) -> Option<usize> {
        self.json.get("num_symbols")?.as_u64().and_then(|n| usize::try_from(n).ok())
    }

    /// Number of the network's speakers, if the JSON states it.
    pub fn num_speakers(&self) -> Option<u64> {
        self.json.get("num_speakers")?.as_u64()
    }

    /// One of the scales under `inference`, if the JSON states it.
    pub fn scale(&self, name: &str) -> Option<f32> {
        self.json.get("inference")?.get(name)?.as_f64().map(|scale| scale as f32)
    }

    /// The speakers' names.
    pub fn speaker_ids(&self) -> BTreeMap<String, i64> {
        let map = self.json.get("speaker_id_map").and_then(Value::as_object);
        let entries = map.into_iter().flatten();
        entries.filter_map(|(name, id)| Some((name.clone(), id.as_i64()?))).collect()
    }

    /// The JSON for a streaming pair: this one with `"streaming": true`.
    pub fn to_streaming(&self) -> Vec<u8> {
        let mut json = self.json.clone();
        json.insert("streaming".to_owned(), Value::Bool(true));
        to_text(&json)
    }

    /// The JSON for a voice in one graph: this one without `"streaming"`.
    pub fn to_whole(&self) -> Vec<u8> {
        let mut json = self.json.clone();
        json.retain(|key, _| key != "streaming");
        to_text(&json)
    }

    /// The `metadata_props` that sherpa-onnx requires in a voice.
    pub fn sherpa_metadata(&self) -> Vec<(String, String)> {
        let text = |path: &[&str]| {
            let mut value = path.iter();
            let first = self.json.get(*value.next()?)?;
            value.try_fold(first, |value, key| value.get(key))?.as_str()
        };
        let voice = text(&["espeak", "voice"]);
        let language = text(&["language", "name_english"]).or_else(|| text(&["language", "code"])).or(voice);
        let has_espeak = voice.is_some() && text(&["phoneme_type"]).is_none_or(|kind| kind == "espeak");
        [
            ("language", language.unwrap_or("unknown")),
            ("voice", voice.unwrap_or_default()),
            ("has_espeak", if has_espeak { "1" } else { "0" }),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// sherpa-onnx's `tokens.txt`: one symbol per line, a space and its id, sorted by id. `None` without a
    /// `phoneme_id_map`.
    pub fn sherpa_tokens(&self) -> Option<String> {
        let map = self.json.get("phoneme_id_map")?.as_object()?;
        let mut tokens: Vec<(u64, &str)> = map
            .iter()
            // A line cannot hold a line feed, and a line without a symbol would be read as a space's.
            .filter(|(symbol, _)| !symbol.is_empty() && !symbol.contains(['\n', '\r']))
            .filter_map(|(symbol, ids)| Some((ids.as_array()?.first()?.as_u64()?, symbol.as_str())))
            .collect();
        tokens.sort_unstable();
        Some(tokens.iter().map(|(id, symbol)| format!("{symbol} {id}\n")).collect())
    }
}

/// The first few of `things`, and the number of the others.
fn few(things: &[String]) -> String {
    let more = things.len().saturating_sub(MAX_LISTED);
    let text = things[..things.len() - more].join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}

/// `json` as the text of a file.
pub fn to_text(json: &serde_json::Map<String, Value>) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(json).expect("a map with string keys is always JSON");
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: Value) -> VoiceConfig {
        let Value::Object(json) = json else { panic!("an object") };
        VoiceConfig { path: "voice.json".into(), json, derived: false }
    }

    #[test]
    fn sherpa_onnx_gets_what_it_wants_to_know() {
        let voice = config(serde_json::json!({
            "espeak": {"voice": "en-us"},
            "language": {"code": "en_US", "name_english": "English"},
            "phoneme_id_map": {"^": [1], "_": [0], " ": [3], "\n": [4], "odd": "no ids", "none": [], "": [5]},
            "streaming": true,
        }));
        let expected = [("language", "English"), ("voice", "en-us"), ("has_espeak", "1")];
        assert_eq!(voice.sherpa_metadata(), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(voice.sherpa_tokens().as_deref(), Some("_ 0\n^ 1\n  3\n"));
        let whole: Value = serde_json::from_slice(&voice.to_whole()).unwrap();
        assert_eq!(whole.get("streaming"), None);
        assert_eq!(whole.as_object().unwrap().len(), 3);

        let bare = config(serde_json::json!({"phoneme_type": "text", "espeak": {"voice": "uk"}}));
        let expected = [("language", "uk"), ("voice", "uk"), ("has_espeak", "0")];
        assert_eq!(bare.sherpa_metadata(), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(bare.sherpa_tokens(), None);
    }
}
