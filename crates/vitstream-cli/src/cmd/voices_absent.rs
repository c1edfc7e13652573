//! In a build without the feature `voices`, a voice is only known by its file or folder.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub(crate) use super::absent::{Args, run};

use super::absent::Absent;

/// The voice at `path`. A path that does not exist and is not a file name was meant as a voice's name, which
/// the error explains.
pub(crate) fn resolve(path: &Path, _quiet: bool) -> Result<PathBuf> {
    let is_remote = path.to_string_lossy().starts_with("hf:");
    if is_remote || path.extension().is_none() && !path.exists() {
        return Err(Absent("voices by name"))
            .with_context(|| format!("{}: no such file or folder", path.display()));
    }
    Ok(path.to_owned())
}
