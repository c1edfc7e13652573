//! Finds voices in folders.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Limit on the voices of one folder: a folder with more is not a folder of voices.
const MOST: usize = 10_000;

/// Files that identify a folder as a voice: an exported pair, or a training's folder.
const OF_A_VOICE: [&str; 2] = ["encoder.onnx", "config.json"];

/// Endings of files that are voices.
const ENDINGS: [&str; 4] = ["onnx", "ckpt", "pth", "safetensors"];

/// The voices at `path`: the path itself, or, if it is a folder but not a voice, the voices in it, sorted by
/// name.
///
/// # Errors
/// When the folder cannot be read, or has no voices.
pub fn find(path: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    if !path.is_dir() || is_voice(path) {
        let name = name_of(path).unwrap_or_else(|| "voice".to_owned());
        return Ok(vec![(name, path.to_owned())]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path)?.take(MOST) {
        let path = entry?.path();
        if is_voice(&path)
            && let Some(name) = name_of(&path)
        {
            found.push((name, path));
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "expected a voice or a folder of voices, found neither a folder with encoder.onnx or config.json nor a file \
             .onnx, .ckpt, .pth or .safetensors",
        ));
    }
    Ok(found)
}

fn is_voice(path: &Path) -> bool {
    if path.is_dir() {
        return OF_A_VOICE.iter().any(|name| path.join(name).is_file());
    }
    let ending = path.extension().and_then(|ending| ending.to_str());
    path.is_file() && ending.is_some_and(|ending| ENDINGS.contains(&ending))
}

/// The default name of a voice: its file without endings, or its folder.
pub(super) fn name_of(path: &Path) -> Option<String> {
    // `.` and `..` have a name too.
    let path = fs::canonicalize(path).ok()?;
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    Some(name?.to_string_lossy().into_owned())
}

/// The bytes of a voice's files: approximately the memory of its weights, if nothing better is known.
pub(super) fn bytes(path: &Path) -> u64 {
    let size = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    if !path.is_dir() {
        return size(path);
    }
    // A folder may contain one voice in several forms, of which only one is opened.
    let folder = fs::read_dir(path).into_iter().flatten().flatten();
    let sizes =
        folder.map(|entry| (entry.file_name().into_string().unwrap_or_default(), size(&entry.path())));
    let mut others = 0;
    let (mut encoder, mut decoder) = (0, 0);
    for (name, bytes) in sizes {
        match &*name {
            "encoder.onnx" => encoder = bytes,
            name if name.starts_with("decoder") => decoder = decoder.max(bytes),
            _ => others = others.max(bytes),
        }
    }
    if encoder > 0 { encoder + decoder } else { others }
}
