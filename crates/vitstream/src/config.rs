//! The voice's JSON, as piper writes it: found beside the checkpoint, checked against the network, and passed on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use vitstream_vits::HParams;

use crate::Error;
use crate::package::MODEL_CARD;

/// A file larger than this is no voice's JSON.
pub(crate) const MAX_SIZE: u64 = 16 << 20;

/// A voice's JSON.
#[derive(Clone, Debug)]
pub struct VoiceConfig {
    /// Where it was found.
    pub path: PathBuf,
    json: serde_json::Map<String, Value>,
    /// Whether the file holds something else, from which this was put together.
    derived: bool,
}

impl VoiceConfig {
    /// Reads a voice's JSON.
    ///
    /// # Errors
    /// When the file cannot be read or is no JSON object.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let problem = |problem: String| Error::Config { path: path.to_owned(), problem };
        let size = fs::metadata(path).map_err(Error::io(path))?.len();
        if size > MAX_SIZE {
            return Err(problem(format!("expected a voice's JSON, found a file of {size} bytes")));
        }
        let text = fs::read(path).map_err(Error::io(path))?;
        match serde_json::from_slice(&text) {
            Ok(Value::Object(json)) => Ok(Self { path: path.to_owned(), json, derived: false }),
            Ok(_) => Err(problem("expected a JSON object".to_owned())),
            Err(error) => Err(problem(format!("not valid JSON: {error}"))),
        }
    }

    /// Reads the JSON called `named`, or without a name whichever [`find`](Self::find) finds.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn named_or_beside(named: Option<&Path>, input: &Path) -> Result<Option<Self>, Error> {
        match named {
            Some(path) => Self::read(path).map(Some),
            None => Self::find(input),
        }
    }

    /// Looks for the JSON that belongs to the checkpoint at `input`: `INPUT.json`, then the only `*.onnx.json` in its
    /// directory, then `config.json` there.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn find(input: &Path) -> Result<Option<Self>, Error> {
        Self::beside(input)?.as_deref().map(Self::read).transpose()
    }

    /// Where [`find`](Self::find) finds it.
    pub(crate) fn beside(input: &Path) -> Result<Option<PathBuf>, Error> {
        let mut own = input.as_os_str().to_owned();
        own.push(".json");
        let own = PathBuf::from(own);
        if own.is_file() {
            return Ok(Some(own));
        }
        let directory =
            input.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::beside_in(directory)
    }

    /// Looks for `config.json` in the `directory` of a voice, then for the only other `*.json` there.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub fn find_in(directory: &Path) -> Result<Option<Self>, Error> {
        let named = directory.join("config.json");
        let found = if named.is_file() { Some(named) } else { Self::only(directory, ".json")? };
        found.as_deref().map(Self::read).transpose()
    }

    /// The only `*.onnx.json` in `directory`, or `config.json` there.
    fn beside_in(directory: &Path) -> Result<Option<PathBuf>, Error> {
        let general = directory.join("config.json");
        Ok(Self::only(directory, ".onnx.json")?.or_else(|| general.is_file().then_some(general)))
    }

    fn only(directory: &Path, ending: &str) -> Result<Option<PathBuf>, Error> {
        let entries = fs::read_dir(directory).map_err(Error::io(directory))?;
        let mut voices: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.to_string_lossy().ends_with(ending) && path.is_file())
            .collect();
        if voices.len() > 1 {
            tracing::warn!(
                "{}: several *{ending} files, none is taken; name one with --config",
                directory.display()
            );
            voices.clear();
        }
        Ok(voices.pop())
    }

    /// A JSON that was put together from what stands in `path`.
    pub(crate) fn derived(path: &Path, json: serde_json::Map<String, Value>) -> Self {
        Self { path: path.to_owned(), json, derived: true }
    }

    /// What it says.
    pub(crate) fn json(&self) -> &serde_json::Map<String, Value> {
        &self.json
    }

    /// Whether the file at [`path`](Self::path) is another, which must not be overwritten with this.
    pub(crate) fn is_derived(&self) -> bool {
        self.derived
    }

    /// The text that published voices carry beside their JSON, with their licence.
    pub(crate) fn model_card(&self) -> Option<Vec<u8>> {
        let path = self.path.with_file_name(MODEL_CARD);
        // A link could lead to any file of this user's, which has no business in an archive that is passed on.
        let fits = fs::symlink_metadata(&path)
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_SIZE);
        fits.then(|| fs::read(path).ok()).flatten()
    }

    /// What contradicts the network, in words.
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
        claims
            .into_iter()
            .filter_map(|(name, claim, truth)| {
                let (claim, truth) = (claim?, truth?);
                (claim.as_u64() != Some(truth)).then(|| {
                    format!("{}: {name} is {claim}, but the network has {truth}", self.path.display())
                })
            })
            .collect()
    }

    /// Samples a second, if the JSON says.
    pub fn sample_rate(&self) -> Option<u32> {
        self.json.get("audio")?.get("sample_rate")?.as_u64().and_then(|rate| u32::try_from(rate).ok())
    }

    /// One of the scales under `inference`, if the JSON says.
    pub fn scale(&self, name: &str) -> Option<f32> {
        self.json.get("inference")?.get(name)?.as_f64().map(|scale| scale as f32)
    }

    /// The speakers' names.
    pub fn speaker_ids(&self) -> BTreeMap<String, i64> {
        let map = self.json.get("speaker_id_map").and_then(Value::as_object);
        let entries = map.into_iter().flatten();
        entries.filter_map(|(name, id)| Some((name.clone(), id.as_i64()?))).collect()
    }

    /// The JSON for a streaming pair: the same with `"streaming": true`.
    pub fn to_streaming(&self) -> Vec<u8> {
        let mut json = self.json.clone();
        json.insert("streaming".to_owned(), Value::Bool(true));
        to_text(&json)
    }

    /// The JSON for a voice in one graph: the same without `"streaming"`.
    pub fn to_whole(&self) -> Vec<u8> {
        let mut json = self.json.clone();
        json.shift_remove("streaming");
        to_text(&json)
    }

    /// What sherpa-onnx wants to know of a voice and finds nowhere else, as `metadata_props`.
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

    /// sherpa-onnx's `tokens.txt`: a symbol, a space and its id per line, by id. `None` without a `phoneme_id_map`.
    pub fn sherpa_tokens(&self) -> Option<String> {
        let map = self.json.get("phoneme_id_map")?.as_object()?;
        let mut tokens: Vec<(u64, &str)> = map
            .iter()
            // A line cannot hold a line feed, and one without a symbol would be read as a space's.
            .filter(|(symbol, _)| !symbol.is_empty() && !symbol.contains(['\n', '\r']))
            .filter_map(|(symbol, ids)| Some((ids.as_array()?.first()?.as_u64()?, symbol.as_str())))
            .collect();
        tokens.sort_unstable();
        Some(tokens.iter().map(|(id, symbol)| format!("{symbol} {id}\n")).collect())
    }
}

/// `json` as the text of a file.
pub(crate) fn to_text(json: &serde_json::Map<String, Value>) -> Vec<u8> {
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
