//! The voice's JSON, as Piper writes it beside a model. Only what speaking needs is read; everything else is
//! left to other programs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vitstream_checkpoint::read_file;

use crate::error::{Error, Result};

/// The names under which a folder's JSON is read: the voice's own, and that of its encoder's file. What else lies there
/// can be another voice's.
const NAMES: [&str; 2] = ["config.json", "encoder.onnx.json"];

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
    /// Reads `config.json` in `dir`, or else `encoder.onnx.json`. A folder without them gives the defaults and no
    /// path.
    ///
    /// # Errors
    /// When it is no JSON of a voice, or no file.
    pub(crate) fn find(dir: &Path) -> Result<(Self, Option<PathBuf>)> {
        let mut there = NAMES.iter().map(|name| dir.join(name));
        // A link that leads nowhere is there too, and is an error.
        let Some(path) = there.find(|path| fs::symlink_metadata(path).is_ok()) else {
            return Ok((Self::default(), None));
        };
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
            [] => "there is no config.json".to_owned(),
            [one] => format!("there is no config.json; if {one:?} is this voice's, call it so"),
            [one, rest @ ..] => {
                format!(
                    "there is no config.json; if {one:?} or one of {} more is this voice's, call it so",
                    rest.len()
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_voices_json_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Config::find(dir.path()).unwrap().1.is_none());
        assert_eq!(Config::absent(dir.path()), "there is no config.json");

        fs::write(dir.path().join("b.onnx.json"), r#"{"audio": {"sample_rate": 16000}}"#).unwrap();
        assert!(Config::find(dir.path()).unwrap().1.is_none());
        assert!(Config::absent(dir.path()).contains("\"b.onnx.json\""));
        fs::write(dir.path().join("a.json"), "{}").unwrap();
        assert!(Config::absent(dir.path()).contains("\"a.json\" or one of 1 more"));

        fs::write(dir.path().join(NAMES[1]), r#"{"num_speakers": 3}"#).unwrap();
        assert_eq!(Config::find(dir.path()).unwrap().0.num_speakers, Some(3));

        let path = dir.path().join(NAMES[0]);
        fs::write(&path, r#"{"audio": {"sample_rate": 16000}, "other": [1]}"#).unwrap();
        let (config, found) = Config::find(dir.path()).unwrap();
        assert_eq!((config.audio.sample_rate, found), (Some(16_000), Some(path.clone())));

        fs::write(&path, "[").unwrap();
        assert!(Config::find(dir.path()).unwrap_err().to_string().contains(NAMES[0]));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Config::find(dir.path()).unwrap_err().to_string().contains(NAMES[0]));
    }
}
