//! In a build without the feature `voices` a voice is known by its file or folder alone.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub(crate) use super::absent::{Args, run};

use super::absent::Absent;

/// The voice at `path`. What is no file's name and not there was meant as a name, which the error explains.
pub(crate) fn resolve(path: &Path, _quiet: bool) -> Result<PathBuf> {
    let is_remote = path.to_string_lossy().starts_with("hf:");
    if is_remote || path.extension().is_none() && !path.exists() {
        return Err(Absent("voices by name"))
            .with_context(|| format!("{}: no such file or folder", path.display()));
    }
    Ok(path.to_owned())
}
