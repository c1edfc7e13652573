//! Names of voices.

use std::path::Path;

use anyhow::{Result, bail, ensure};

/// The maximum length of the name of a voice, a repository or a file: far longer than any in use, and below
/// the limits of file systems.
const LONGEST: usize = 128;

/// Names that Windows treats as devices, whatever follows the first dot.
const DEVICES: [&str; 22] = [
    "con", "prn", "aux", "nul", "com1", "com2", "com3", "com4", "com5", "com6", "com7", "com8", "com9",
    "lpt1", "lpt2", "lpt3", "lpt4", "lpt5", "lpt6", "lpt7", "lpt8", "lpt9",
];

/// A voice's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// One of Piper's published voices, such as `en_US-lessac-medium`.
    Piper(String),
    /// A repository of the Hugging Face hub.
    Hub(Repository),
}

/// `OWNER/REPO` with a revision, and the path of a file if the repository has several voices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repository {
    pub(super) owner: String,
    pub(super) name: String,
    pub(super) revision: String,
    pub(super) path: Option<String>,
}

impl Name {
    /// Parses `en_US-lessac-medium`, `facebook/mms-tts-deu`, `hf:OWNER/REPO` or
    /// `hf:OWNER/REPO@REVISION:PATH`.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        if let Some(repository) = name.strip_prefix("hf:") {
            return Repository::parse(repository).map(Self::Hub);
        }
        if name.starts_with("facebook/mms-tts-") {
            return Repository::parse(name).map(Self::Hub);
        }
        ensure!(is_plain(name), "{name:?} is not a voice's name");
        Ok(Self::Piper(name.to_owned()))
    }

    /// The name of this voice's folder.
    pub(super) fn folder(&self) -> String {
        match self {
            Self::Piper(key) => key.clone(),
            Self::Hub(repository) => repository.folder(),
        }
    }
}

impl Repository {
    fn parse(text: &str) -> Result<Self> {
        const EXPECTED: &str = "expected OWNER/REPO, OWNER/REPO@REVISION or OWNER/REPO:PATH";
        let (repository, path) = match text.split_once(':') {
            Some((repository, path)) => (repository, Some(path)),
            None => (text, None),
        };
        let (repository, revision) = repository.split_once('@').unwrap_or((repository, "main"));
        let Some((owner, name)) = repository.split_once('/') else { bail!("hf:{text}: {EXPECTED}") };
        for (what, part) in [("owner", owner), ("repository", name)] {
            ensure!(
                is_plain(part) && part.is_ascii(),
                "hf:{text}: {part:?} is not a valid {what}; {EXPECTED}"
            );
        }
        // The name of a branch may contain slashes.
        for (what, part) in [("revision", Some(revision)), ("path", path)] {
            ensure!(part.is_none_or(is_inside), "hf:{text}: {part:?} is not a valid {what}; {EXPECTED}");
        }
        let owned = |text: &str| text.to_owned();
        Ok(Self { owner: owned(owner), name: owned(name), revision: owned(revision), path: path.map(owned) })
    }

    /// Names contain no `+`, so that different repositories, revisions and paths have different folders.
    fn folder(&self) -> String {
        let mut folder = format!("hf+{}+{}", self.owner, self.name);
        if self.revision != "main" {
            folder += &format!("+at+{}", self.revision.replace('/', "++"));
        }
        if let Some(path) = &self.path {
            folder += &format!("+of+{}", path.replace('/', "++"));
        }
        folder
    }
}

/// True if `path` can only be meant as a name.
pub(super) fn is_remote(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with("hf:"))
}

/// True if `name` is the name of a file, and nothing else, on every system.
pub(super) fn is_plain(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    // Letters of all languages: one voice is called `pt_PT-tugão-medium`.
    name.chars().all(|c| c.is_alphanumeric() || "._-".contains(c))
        && (1..=LONGEST).contains(&name.len())
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !DEVICES.contains(&stem.as_str())
}

/// True if `path` leads from a folder to something inside it, on every system.
pub(super) fn is_inside(path: &str) -> bool {
    path.len() <= 2 * LONGEST && path.split('/').all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(text: &str) -> Repository {
        match Name::parse(text) {
            Ok(Name::Hub(repository)) => repository,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn names_are_told_apart() {
        for key in ["en_US-lessac-medium", "pt_PT-tugão-medium", "en-us-blizzard_lessac-medium"] {
            assert_eq!(Name::parse(key).unwrap(), Name::Piper(key.to_owned()));
        }
        let mms = hub("facebook/mms-tts-deu");
        assert_eq!((mms.owner.as_str(), mms.name.as_str(), mms.path), ("facebook", "mms-tts-deu", None));
        let voice = hub("hf:some.one/voices@refs/pr/1:de/thorsten.onnx");
        assert_eq!(voice.revision, "refs/pr/1");
        assert_eq!(voice.path.as_deref(), Some("de/thorsten.onnx"));
    }

    #[test]
    fn what_leads_elsewhere_is_no_name() {
        let long = "a".repeat(200);
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "a\\b",
            "/etc/passwd",
            "a\0b",
            "a b",
            "a:b",
            "NUL",
            "con.onnx",
            "a\n",
            "a.",
            "~",
            &long,
        ] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
            assert!(bad == "a/b" || !is_inside(&format!("x/{bad}")), "{bad:?}");
        }
        for bad in [
            "hf:",
            "hf:owner",
            "hf:../x",
            "hf:a/..",
            "hf:a/b/c",
            "hf:a/b:../x",
            "hf:a/b:/x",
            "hf:a/b:x//y",
            "hf:a/b:",
            "hf:a/b@",
            "hf:a/b@..",
            "hf:a/b?x=y",
            "hf:a/b#x",
            "hf:a/b%2e",
            "facebook/mms-tts-../x",
        ] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn different_names_have_different_folders_that_are_plain() {
        let names = [
            "a-b",
            "hf:a/b",
            "hf:a/b-c",
            "hf:a-b/c",
            "hf:a/b@c",
            "hf:a/b:c",
            "hf:a/b:c/d",
            "hf:a/b@c/d",
            "hf:a/b@c/of/d",
            "hf:a/b@c:d",
        ];
        let mut folders: Vec<String> = names.map(|name| Name::parse(name).unwrap().folder()).to_vec();
        assert!(folders.iter().all(|folder| is_plain(&folder.replace('+', "-"))), "{folders:?}");
        folders.sort();
        folders.dedup();
        assert_eq!(folders.len(), names.len());
    }
}
