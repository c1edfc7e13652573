//! The source that a voice is read from.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use vitstream_checkpoint::MappedFile;

use crate::Error;
use crate::surroundings::Surroundings;

/// The source of a voice: a path, or contents in memory together with the files next to them.
///
/// ```
/// use vitstream_source::{Input, ReadOptions, load};
///
/// # let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-vits/tests/golden/multi.ckpt");
/// let checkpoint = std::fs::read(golden)?;
/// let input = Input::bytes("multi.ckpt", checkpoint).beside("multi.json", &br#"{"audio": {"sample_rate": 16000}}"#[..]);
/// let voice = load(input, &ReadOptions::default())?;
/// assert_eq!(voice.config.and_then(|config| config.sample_rate()), Some(16_000));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Input(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Path(PathBuf),
    Memory { name: PathBuf, contents: Bytes, beside: Vec<(String, Bytes)> },
}

impl Input {
    /// The contents of a file called `name`, which is used in messages.
    pub fn bytes(name: impl Into<PathBuf>, contents: impl Into<Bytes>) -> Self {
        Self(Kind::Memory { name: name.into(), contents: contents.into(), beside: Vec::new() })
    }

    /// Adds a file next to contents in memory: the voice's JSON, or `decoder.onnx` next to `encoder.onnx`.
    /// Files next to a path are those of the file system, and none can be added.
    pub fn beside(mut self, name: impl Into<String>, contents: impl Into<Bytes>) -> Self {
        if let Kind::Memory { beside, .. } = &mut self.0 {
            beside.push((name.into(), contents.into()));
        }
        self
    }

    /// Its name in messages: the path, or the name of contents in memory.
    pub fn name(&self) -> &Path {
        match &self.0 {
            Kind::Path(path) | Kind::Memory { name: path, .. } => path,
        }
    }

    /// The path, if the input is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Path(path) => Some(path),
            Kind::Memory { .. } => None,
        }
    }

    /// Returns true if the input is a folder on disk.
    pub(crate) fn is_dir(&self) -> bool {
        self.path().is_some_and(Path::is_dir)
    }

    /// Opens the file's contents.
    pub(crate) fn open(&self) -> Result<MappedFile, Error> {
        match &self.0 {
            Kind::Path(path) => Ok(MappedFile::open(path)?),
            Kind::Memory { contents, .. } => Ok(contents.clone().into()),
        }
    }

    /// The files next to the input.
    pub(crate) fn around(&self) -> Surroundings {
        match &self.0 {
            Kind::Path(path) => Surroundings::of(path),
            Kind::Memory { name, beside, .. } => Surroundings::Archive {
                path: name.parent().map(Path::to_owned).unwrap_or_default(),
                files: beside.clone(),
            },
        }
    }

    /// The contents of the file `name` next to contents in memory.
    pub(crate) fn member(&self, name: &str) -> Option<Bytes> {
        match &self.0 {
            Kind::Path(_) => None,
            Kind::Memory { beside, .. } => {
                beside.iter().find(|(file, _)| file == name).map(|(_, contents)| contents.clone())
            }
        }
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for Input {
    fn from(path: &P) -> Self {
        Self(Kind::Path(path.as_ref().to_owned()))
    }
}

impl From<PathBuf> for Input {
    fn from(path: PathBuf) -> Self {
        Self(Kind::Path(path))
    }
}

impl From<String> for Input {
    fn from(path: String) -> Self {
        Self(Kind::Path(path.into()))
    }
}

impl From<&Input> for Input {
    fn from(input: &Input) -> Self {
        input.clone()
    }
}
