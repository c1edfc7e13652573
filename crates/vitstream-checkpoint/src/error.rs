//! Errors about checkpoints, worded so that the reader knows what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::text::excerpt;

/// An error about a checkpoint, or about something requested from it.
///
/// Displays as `FILE: tensor KEY: what is wrong: expected E, found F. Remedy.`, leaving out what does not apply.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    key: Option<String>,
    kind: ErrorKind,
    expected: Option<String>,
    found: Option<String>,
    remedy: Option<String>,
}

/// The reason of an [`Error`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system could not open, stat or map the file.
    #[error("{0}")]
    Io(io::Error),
    /// Not a regular file; the text says what it is.
    #[error("expected a file, found {0}")]
    NotAFile(&'static str),
    /// The file was changed while it was mapped.
    #[error("changed while it was read")]
    Changed,
    /// The file is neither a PyTorch zip checkpoint nor a safetensors file; the text says what it is.
    #[error("not a checkpoint: this is {0}")]
    NotACheckpoint(&'static str),
    /// PyTorch before 1.6 wrote a bare sequence of pickles, which is not read.
    #[error("written in the format of PyTorch before 1.6")]
    Legacy,
    /// The end of the zip is missing.
    #[error("the file is cut off")]
    Truncated,
    /// The zip's directory contradicts itself or the file.
    #[error("damaged zip archive: {0}")]
    Zip(String),
    /// The header of a safetensors file contradicts itself or the file.
    #[error("damaged safetensors file: {0}")]
    Safetensors(String),
    /// This build cannot read the format; the text names the missing feature.
    #[error("this is a {0} file, which this build does not read: build it with the feature `{0}`")]
    NotBuilt(&'static str),
    /// A required entry is compressed or encrypted.
    #[error("entry {0} is compressed or encrypted")]
    Compressed(String),
    /// The data of an entry does not match its checksum.
    #[error("the checksum of {0} is wrong")]
    Checksum(String),
    /// The tensors were written on a big-endian machine.
    #[error("written on a big-endian machine, which is not supported")]
    BigEndian,
    /// The pickle is malformed.
    #[error("damaged pickle at byte {position}: {problem}")]
    Pickle {
        /// Offset of the opcode in `data.pkl`.
        position: usize,
        /// The problem at this position.
        problem: String,
    },
    /// The file asks for more than the [`limits`](crate::limits) allow.
    #[error("refused: more than {limit} {what}")]
    Limit {
        /// The quantity that is limited.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Neither `state_dict`, nor `model`, nor the root holds tensors.
    #[error("no state dict in the checkpoint")]
    NoStateDict,
    /// The number of elements does not match the shape.
    #[error("the data's length does not fit the shape")]
    Length,
    /// The state dict has no entry of that name.
    #[error("no such tensor")]
    MissingTensor,
    /// The requested value depends on a class or function that has no inert meaning in this crate.
    #[error("depends on the Python global {0}, which is never loaded")]
    UnknownGlobal(String),
    /// A tensor or array is described by invalid arguments.
    #[error("malformed call of {global}: {reason}")]
    Malformed {
        /// The Python global that the pickle calls.
        global: String,
        /// The problem with its arguments.
        reason: String,
    },
    /// The entry is not a tensor.
    #[error("not a tensor")]
    NotATensor,
    /// The zip has no entry for the tensor's storage.
    #[error("storage {0} is not in the file")]
    MissingStorage(String),
    /// The storage holds fewer bytes than the tensor needs.
    #[error("storage {0} is too short")]
    StorageTooShort(String),
    /// The tensor's element type cannot be converted to the requested one.
    #[error("wrong element type")]
    DType,
    /// The memory for a converted or gathered tensor exceeds a limit, or could not be allocated.
    #[error("too large to be laid out in memory")]
    TooLarge,
}

/// Limit in bytes on the expected or found text in a message: a shape of 64 axes fits, a name of a megabyte
/// does not.
const MAX_DETAIL: usize = 2048;

fn bounded(mut text: String) -> String {
    if text.len() > MAX_DETAIL {
        text.truncate(text.floor_char_boundary(MAX_DETAIL));
        text.push_str("...");
    }
    text
}

impl Error {
    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self {
            inner: Box::new(Inner {
                path: PathBuf::new(),
                key: None,
                kind,
                expected: None,
                found: None,
                remedy: None,
            }),
        }
    }

    pub(crate) fn io(error: io::Error) -> Self {
        Self::new(ErrorKind::Io(error))
    }

    pub(crate) fn zip(problem: impl Into<String>) -> Self {
        Self::new(ErrorKind::Zip(problem.into()))
    }

    pub(crate) fn limit(what: &'static str, limit: impl TryInto<u64>) -> Self {
        Self::new(ErrorKind::Limit { what, limit: limit.try_into().unwrap_or(u64::MAX) })
    }

    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        self.inner.path = path.to_path_buf();
        self
    }

    pub(crate) fn of(mut self, key: impl Into<String>) -> Self {
        self.inner.key = Some(excerpt(&key.into()));
        self
    }

    pub(crate) fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.inner.expected = Some(bounded(expected.to_string()));
        self
    }

    pub(crate) fn found(mut self, found: impl fmt::Display) -> Self {
        self.inner.found = Some(bounded(found.to_string()));
        self
    }

    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.inner.remedy = Some(remedy.into());
        self
    }

    /// The path passed to [`Checkpoint::open`](crate::Checkpoint::open).
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The name of the tensor, or the dotted path of the value, that the error is about.
    pub fn key(&self) -> Option<&str> {
        self.inner.key.as_deref()
    }

    /// The kind of error.
    pub fn kind(&self) -> &ErrorKind {
        &self.inner.kind
    }

    /// The expected value.
    pub fn expected_text(&self) -> Option<&str> {
        self.inner.expected.as_deref()
    }

    /// The value found instead.
    pub fn found_text(&self) -> Option<&str> {
        self.inner.found.as_deref()
    }

    /// The remedy: a full sentence or a command.
    pub fn remedy_text(&self) -> Option<&str> {
        self.inner.remedy.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { path, key, kind, expected, found, remedy } = &*self.inner;
        write!(f, "{}: ", path.display())?;
        if let Some(key) = key {
            write!(f, "{key}: ")?;
        }
        write!(f, "{kind}")?;
        match (expected, found) {
            (Some(expected), Some(found)) => write!(f, ": expected {expected}, found {found}")?,
            (Some(expected), None) => write!(f, ": expected {expected}")?,
            (None, Some(found)) => write!(f, ": found {found}")?,
            (None, None) => {}
        }
        match remedy {
            Some(remedy) => write!(f, ". {remedy}"),
            None => Ok(()),
        }
    }
}
