//! The file that a tensor was read from.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::text::excerpt;
use crate::torch_zip::Archive;

/// An opened file. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Origin {
    /// A zip whose entries are the storages, looked up when they are used.
    Archive(Arc<Archive>),
    /// A file whose elements the reader has already located.
    File(Arc<Path>),
}

impl Origin {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Archive(archive) => archive.path(),
            Self::File(path) => path,
        }
    }

    /// The storage called `key`.
    pub(crate) fn storage(&self, key: &str) -> Result<Bytes, Error> {
        match self {
            Self::Archive(archive) => archive.storage(key),
            Self::File(_) => Err(Error::new(ErrorKind::MissingStorage(excerpt(key)))),
        }
    }
}
