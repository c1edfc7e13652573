//! The surroundings of a voice's file: the files next to it in its folder, or in the archive that holds it.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use vitstream_checkpoint::{excerpt, read_file};

use crate::Error;
use crate::config::VoiceConfig;
use crate::json::MAX_SIZE;
use crate::settings::Settings;

/// The folder that contains a voice.
#[derive(Clone, Debug)]
pub(crate) enum Surroundings {
    /// A folder on disk.
    Folder(PathBuf),
    /// A folder in an archive: its small files by name, and its path.
    Archive { path: PathBuf, files: Vec<(String, Bytes)> },
}

/// Limit on the names listed in a message.
const MAX_NAMES: usize = 3;

impl Surroundings {
    /// The surroundings of the file at `input`.
    pub(crate) fn of(input: &Path) -> Self {
        let parent = input.parent().filter(|parent| !parent.as_os_str().is_empty());
        Self::Folder(parent.unwrap_or(Path::new(".")).to_owned())
    }

    /// The contents and the path of the file `name`, if it exists.
    pub(crate) fn contents(&self, name: &str) -> Result<Option<(PathBuf, Bytes)>, Error> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                // A link without a target exists, and is an error.
                if path.symlink_metadata().is_err() {
                    return Ok(None);
                }
                let contents = read_file(&path, MAX_SIZE)?;
                Ok(Some((path, contents.into())))
            }
            Self::Archive { path, files } => {
                let found = files.iter().find(|(file, _)| file == name);
                Ok(found.map(|(_, contents)| (path.join(name), contents.clone())))
            }
        }
    }

    /// The JSON file `name`, read as the family's own code reads it, if it exists.
    pub(crate) fn settings(&self, name: &str) -> Result<Option<Settings>, Error> {
        self.contents(name)?.map(|(path, contents)| Settings::parse(&path, &contents)).transpose()
    }

    /// The first existing file among the JSON files `names`.
    pub(crate) fn first(&self, names: &[String]) -> Result<Option<(PathBuf, Bytes)>, Error> {
        for name in names {
            if let Some(found) = self.contents(name)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The voice's JSON, under one of `names`.
    pub(crate) fn voice_json(&self, names: &[String]) -> Result<Option<VoiceConfig>, Error> {
        self.first(names)?.map(|(path, contents)| VoiceConfig::parse(&path, &contents)).transpose()
    }

    /// For a message: JSON files of voices whose names are not among those looked for.
    pub(crate) fn other_voices(&self) -> Option<String> {
        let mut names: Vec<String> = match self {
            Self::Folder(folder) => fs::read_dir(folder)
                .into_iter()
                .flatten()
                .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
                .collect(),
            Self::Archive { files, .. } => files.iter().map(|(name, _)| name.clone()).collect(),
        };
        names.retain(|name| name.ends_with(".onnx.json"));
        names.sort();
        let more = names.len().saturating_sub(MAX_NAMES);
        let mut text = names.iter().take(MAX_NAMES).map(|name| excerpt(name)).collect::<Vec<_>>().join(", ");
        if more > 0 {
            text += &format!(" and {more} more");
        }
        (!names.is_empty()).then_some(text)
    }
}
