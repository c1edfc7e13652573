//! The voice's JSON, as Piper writes it beside a model. Only what speaking needs is read; everything else is
//! left to other programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vitstream_checkpoint::read_file;

use crate::error::{Error, Result};

/// The one name under which a folder's JSON is read: what else lies there can be another voice's.
const NAME: &str = "config.json";

/// A file larger than this is no voice's JSON.
const MAX_SIZE: u64 = 16 << 20;

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
    /// Reads `config.json` in `dir`. A folder without it gives the defaults and no path.
    ///
    /// # Errors
    /// When it is no JSON of a voice, or no file.
    pub(crate) fn find(dir: &Path) -> Result<(Self, Option<PathBuf>)> {
        let path = dir.join(NAME);
        // A link that leads nowhere is there too, and is an error.
        if fs::symlink_metadata(&path).is_err() {
            return Ok((Self::default(), None));
        }
        let bytes = read_file(&path, MAX_SIZE)?;
        let config = serde_json::from_slice(&bytes)
            .map_err(|e| Error::model(&path, format!("not the JSON of a voice: {e}")))?;
        Ok((config, Some(path)))
    }

    /// What a message says of a folder without `config.json`.
    pub(crate) fn absent(dir: &Path) -> String {
        let mut others: Vec<String> = fs::read_dir(dir)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".json"))
            .collect();
        others.sort();
        match others.as_slice() {
            [] => format!("there is no {NAME}"),
            [one] => format!("there is no {NAME}; if {one:?} is this voice's, call it so"),
            [one, rest @ ..] => {
                format!("there is no {NAME}; if {one:?} or one of {} more is this voice's, call it so", rest.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_config_json_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Config::find(dir.path()).unwrap().1.is_none());
        assert_eq!(Config::absent(dir.path()), "there is no config.json");

        fs::write(dir.path().join("b.onnx.json"), r#"{"audio": {"sample_rate": 16000}}"#).unwrap();
        assert!(Config::find(dir.path()).unwrap().1.is_none());
        assert!(Config::absent(dir.path()).contains("\"b.onnx.json\""));
        fs::write(dir.path().join("a.json"), "{}").unwrap();
        assert!(Config::absent(dir.path()).contains("\"a.json\" or one of 1 more"));

        let path = dir.path().join(NAME);
        fs::write(&path, r#"{"audio": {"sample_rate": 16000}, "other": [1]}"#).unwrap();
        let (config, found) = Config::find(dir.path()).unwrap();
        assert_eq!((config.audio.sample_rate, found), (Some(16_000), Some(path.clone())));

        fs::write(&path, "[").unwrap();
        assert!(Config::find(dir.path()).unwrap_err().to_string().contains(NAME));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Config::find(dir.path()).unwrap_err().to_string().contains(NAME));
    }
}
