//! The rule for every file that a command writes: it is never one of the files that the command reads, under
//! any name, and never a file of a voice.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use same_file::Handle;
use vitstream::export::files;

/// Endings of files that contain weights. Only `export` writes such files.
const WEIGHTS: [&str; 8] = [".onnx", ".onnx.data", ".ckpt", ".pth", ".pt", ".bin", ".safetensors", ".npz"];

/// Other names of a voice's files.
const NAMES: [&str; 3] = [files::CONFIG, files::TOKENS, "MODEL_CARD"];

/// Endings of files that commands write next to voices, so such files in a voice's folder may be replaced.
const OUTPUTS: [&str; 7] = [".wav", ".svg", ".html", ".json", ".jsonl", ".srt", ".vtt"];

/// The files that a command reads, and those that it will write.
pub(crate) struct Outputs {
    inputs: Vec<PathBuf>,
    /// Claimed outputs, each with the option that named it.
    claimed: HashMap<PathBuf, String>,
}

impl Outputs {
    /// `inputs` are the files and folders that the command reads.
    pub(crate) fn new<'a>(inputs: impl IntoIterator<Item = Option<&'a PathBuf>>) -> Self {
        Self { inputs: inputs.into_iter().flatten().cloned().collect(), claimed: HashMap::new() }
    }

    /// Claims `path`, named by `option`, as an output.
    ///
    /// # Errors
    /// When the file is an input, a voice's file, or another output of this run.
    pub(crate) fn claim(&mut self, option: &str, path: &Path) -> Result<()> {
        // A pipe or a device has no contents that could be lost.
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir()) {
            return Ok(());
        }
        let shown = path.display();
        let real = real(path);
        ensure!(
            !is_voices_name(path) && !is_voices_name(&real),
            "{option} {shown}: this is the name of a voice's file, which this command must not write; name another file"
        );
        if let Some(input) = self.inputs.iter().find(|input| is_same(input, &real)) {
            bail!("{option} {shown}: would overwrite the input {}; name another file", input.display());
        }
        ensure!(
            !(ends_with(&real, ".json") && is_voices_folder(parent(&real))),
            "{option} {shown}: a JSON in a voice's folder would be mistaken for the voice's; name another folder"
        );
        let existing = real.exists();
        for folder in self.folders() {
            // Under another name, such as that of a link.
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
            let mut of_voice = entries.filter(|entry| self.belongs_to_voice(&folder, entry));
            if existing && let Some(entry) = of_voice.find(|entry| is_same(entry, &real)) {
                bail!(
                    "{option} {shown}: would overwrite {}, a file of the voice; name another file",
                    entry.display()
                );
            }
        }
        ensure!(
            !existing || !is_standard_input(&real),
            "{option} {shown}: would overwrite the file that standard input reads; name another file"
        );
        if let Some(other) = self.claimed.insert(real, option.to_owned()) {
            bail!("{option} {shown}: {other} is the same file; name another");
        }
        Ok(())
    }

    /// The voices' folders: inputs that are folders, and the folders of other inputs.
    fn folders(&self) -> Vec<PathBuf> {
        let folder = |input: &PathBuf| if input.is_dir() { input.clone() } else { parent(input).to_owned() };
        self.inputs.iter().map(folder).collect()
    }

    /// In a voice's own folder, everything belongs to it except files that commands write next to it.
    fn belongs_to_voice(&self, folder: &Path, entry: &Path) -> bool {
        let is_own = self.inputs.iter().any(|input| input == folder);
        is_voices_name(entry) || is_own && !OUTPUTS.iter().any(|ending| ends_with(entry, ending))
    }
}

/// `path` with links resolved, also for a file that does not exist yet.
fn real(path: &Path) -> PathBuf {
    let absent = || Some(fs::canonicalize(parent(path)).ok()?.join(path.file_name()?));
    fs::canonicalize(path).ok().or_else(absent).unwrap_or_else(|| path.to_owned())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn is_voices_folder(folder: &Path) -> bool {
    [files::ENCODER, files::VOICE, "pytorch_model.bin", "model.safetensors"]
        .iter()
        .any(|name| folder.join(name).exists())
}

fn ends_with(path: &Path, ending: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    name.ends_with(ending)
}

/// Returns true if a file with this name contains weights, or describes a voice.
fn is_voices_name(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    // Some file systems ignore case.
    let name = name.as_str();
    let of_weights = name.strip_suffix(".json").unwrap_or(name);
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name))
        || WEIGHTS.iter().any(|ending| of_weights.ends_with(ending))
}

/// Returns true if both are the same file or folder, whatever their names. Anything else is not opened.
fn is_same(a: &Path, b: &Path) -> bool {
    let handle = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        (metadata.is_file() || metadata.is_dir()).then(|| Handle::from_path(path).ok()).flatten()
    };
    a == b || matches!((handle(a), handle(b)), (Some(a), Some(b)) if a == b)
}

fn is_standard_input(path: &Path) -> bool {
    matches!((Handle::stdin(), Handle::from_path(path)), (Ok(a), Ok(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_voices_are_known_in_any_case() {
        for name in [
            "a/Encoder.ONNX",
            "v.ckpt",
            "v.ckpt.json",
            "x.onnx.json",
            "Config.json",
            "model_card",
            "v.onnx.data",
        ] {
            assert!(is_voices_name(Path::new(name)), "{name}");
        }
        for name in ["a.wav", "onnx", "times.json", "a.onnx/plot.svg", "-"] {
            assert!(!is_voices_name(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn two_outputs_are_two_files() {
        let root = tempfile::tempdir().unwrap();
        let mut outputs = Outputs::new([None]);
        outputs.claim("--output", &root.path().join("a.wav")).unwrap();
        let error = outputs.claim("--timings", &root.path().join("./a.wav")).unwrap_err().to_string();
        assert!(error.contains("--timings") && error.contains("--output is the same file"), "{error}");
    }
}
