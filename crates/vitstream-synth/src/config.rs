//! The voice's JSON, as Piper writes it beside a model. Only what speaking needs is read; everything else is
//! left to other programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

/// The part of a voice's JSON that this crate reads. Every key may be absent.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) audio: Audio,
    #[serde(default)]
    pub(crate) inference: Inference,
    pub(crate) num_symbols: Option<u64>,
    pub(crate) num_speakers: Option<u64>,
    #[serde(default)]
    pub(crate) speaker_id_map: BTreeMap<String, i64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Audio {
    pub(crate) sample_rate: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Inference {
    pub(crate) noise_scale: Option<f32>,
    pub(crate) length_scale: Option<f32>,
    pub(crate) noise_w: Option<f32>,
}

impl Config {
    /// Reads `config.json` in `dir`, or the one other `*.json` there. A folder without any gives the defaults and
    /// no path.
    ///
    /// # Errors
    /// When several files could be meant, or the one is no JSON of a voice.
    pub(crate) fn find(dir: &Path) -> Result<(Self, Option<PathBuf>)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
            let path = entry.map_err(|e| Error::io(dir, e))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                found.push(path);
            }
        }
        found.sort();
        let named = dir.join("config.json");
        let path = if found.contains(&named) {
            named
        } else if found.len() > 1 {
            let names: Vec<_> = found.iter().filter_map(|path| path.file_name()).collect();
            return Err(Error::model(
                dir,
                format!(
                    "expected config.json or exactly one *.json, found {names:?}; name the voice's one config.json"
                ),
            ));
        } else if let Some(path) = found.pop() {
            path
        } else {
            return Ok((Self::default(), None));
        };
        let bytes = fs::read(&path).map_err(|e| Error::io(&path, e))?;
        let config = serde_json::from_slice(&bytes)
            .map_err(|e| Error::model(&path, format!("not the JSON of a voice: {e}")))?;
        Ok((config, Some(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_json_is_found_and_two_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Config::find(dir.path()).unwrap().1.is_none());

        fs::write(dir.path().join("b.onnx.json"), r#"{"audio": {"sample_rate": 16000}, "other": [1]}"#)
            .unwrap();
        let (config, path) = Config::find(dir.path()).unwrap();
        assert_eq!(config.audio.sample_rate, Some(16_000));
        assert!(path.unwrap().ends_with("b.onnx.json"));

        fs::write(dir.path().join("a.json"), "{}").unwrap();
        let message = Config::find(dir.path()).unwrap_err().to_string();
        assert!(message.contains("a.json") && message.contains("b.onnx.json"), "{message}");

        fs::write(dir.path().join("config.json"), "[").unwrap();
        assert!(Config::find(dir.path()).unwrap_err().to_string().contains("config.json"));
    }
}
