//! The place of an utterance's file: inside the output folder, and nowhere else.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::Format;

/// The folder for the state of the work, next to the files.
pub(super) const STATE: &str = ".vitstream-batch";

/// Limit on the bytes of a path: what most systems accept.
const LONGEST: usize = 1_024;

/// Number of hexadecimal digits of a name that is a hash.
const DIGITS: usize = 32;

/// A path below the output folder, with `/` between its parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place(String);

impl Place {
    pub(super) fn parse(path: &str, format: Format) -> Result<Self> {
        let refuse = |why: &str| format!("output_file {path:?}: {why}");
        ensure!((1..=LONGEST).contains(&path.len()), refuse("expected 1 to 1024 bytes"));
        ensure!(!path.chars().any(char::is_control), refuse("control characters are in no file's name"));
        let mut parts = Vec::new();
        for part in Path::new(path).components() {
            match part {
                Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
                Component::CurDir => {}
                _ => bail!(refuse("expected a path inside the output folder")),
            }
        }
        let ending = format!(".{}", format.extension());
        let named = parts.last().is_some_and(|name| {
            name.len() > ending.len()
                && name.to_lowercase().ends_with(&ending)
                && !path.ends_with(['/', '\\'])
        });
        ensure!(named, refuse(&format!("expected a name that ends in {ending}")));
        // Some file systems ignore case.
        ensure!(parts[0].to_lowercase() != STATE, refuse("this folder is reserved"));
        Ok(Self(parts.join("/")))
    }

    pub(super) fn of_hash(hash: &str, format: Format) -> Self {
        Self(format!("{}.{}", &hash[..DIGITS], format.extension()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The file's path, whose folder is created. No link may lead out of `root`.
    pub(super) fn prepare(&self, root: &Path) -> Result<PathBuf> {
        let mut path = root.to_owned();
        let mut parts = self.0.split('/').peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            if parts.peek().is_none() {
                break;
            }
            let named = || path.display().to_string();
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    let kind = fs::symlink_metadata(&path).with_context(named)?;
                    ensure!(kind.is_dir(), "{}: expected a folder", path.display());
                }
                result => result.with_context(named)?,
            }
        }
        Ok(path)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (path, expected) in [
            ("a.wav", "a.wav"),
            ("./x//y/ä b.wav", "x/y/ä b.wav"),
            ("..a.wav", "..a.wav"),
            ("A.WAV", "A.WAV"),
        ] {
            assert_eq!(Place::parse(path, Format::Wav).unwrap().as_str(), expected);
        }
        let long = "a".repeat(2_000) + ".wav";
        for bad in [
            "",
            ".",
            "..",
            "../a.wav",
            "/a.wav",
            "x/../../a.wav",
            "x/..",
            "a",
            "a.flac",
            ".wav",
            "x/",
            "a.wav/",
            "a\0.wav",
            "a\n.wav",
            ".vitstream-batch/a.wav",
            "./.Vitstream-Batch/a.wav",
            &long,
        ] {
            assert!(Place::parse(bad, Format::Wav).is_err(), "{bad:?}");
        }
        assert!(Place::parse("a.flac", Format::Flac).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed_out() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        let place = |path| Place::parse(path, Format::Wav).unwrap();
        assert!(place("link/a.wav").prepare(&root).is_err());
        assert!(place("link/x/a.wav").prepare(&root).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        let path = place("x/y/a.wav").prepare(&root).unwrap();
        assert_eq!(path, root.join("x/y/a.wav"));
        assert!(path.parent().unwrap().is_dir());
        fs::write(root.join("file"), "").unwrap();
        assert!(place("file/a.wav").prepare(&root).is_err());
    }
}
