//! The container of `torch.save` since PyTorch 1.6: a zip with uncompressed entries in this layout.
//!
//! ```text
//! NAME/data.pkl      the pickle          NAME/byteorder   "little" or "big", since 2.1
//! NAME/data/KEY      one per storage     NAME/version     "3"
//! ```
//!
//! Opening a file reads only the directory and the pickle.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::limits::MAX_PICKLE_BYTES;
use crate::text::excerpt;
use crate::zip::Zip;

/// The container of an open checkpoint.
pub(crate) struct Archive {
    path: PathBuf,
    zip: Zip,
    /// The path before `data.pkl`, including the slash; empty if `data.pkl` is at the top level.
    prefix: Vec<u8>,
}

impl Archive {
    /// Reads the directory and finds the pickle. `data` begins like a zip.
    pub(crate) fn open(path: &Path, data: Bytes) -> Result<Self, Error> {
        let zip = Zip::open(data)?;
        let prefix = find_prefix(&zip)?;
        let archive = Self { path: path.to_path_buf(), zip, prefix };
        archive.check_byte_order()?;
        Ok(archive)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The pickle.
    pub(crate) fn pickle(&self) -> Result<Bytes, Error> {
        let pickle = self.read("data.pkl")?.ok_or_else(|| Error::zip("data.pkl is missing"))?;
        if pickle.len() as u64 > MAX_PICKLE_BYTES {
            return Err(Error::limit("bytes of data.pkl", MAX_PICKLE_BYTES));
        }
        Ok(pickle)
    }

    /// The storage called `key`.
    pub(crate) fn storage(&self, key: &str) -> Result<Bytes, Error> {
        self.read(&format!("data/{key}"))?.ok_or_else(|| {
            Error::new(ErrorKind::MissingStorage(excerpt(key)))
                .remedy("Probably an incomplete or edited file")
        })
    }

    fn check_byte_order(&self) -> Result<(), Error> {
        match self.read("byteorder")?.as_deref().map(<[u8]>::trim_ascii) {
            None | Some(b"little") => Ok(()),
            Some(b"big") => Err(Error::new(ErrorKind::BigEndian)
                .remedy("Load and save it with PyTorch on a little-endian machine")),
            Some(other) => {
                let other = String::from_utf8_lossy(&other[..other.len().min(32)]).into_owned();
                Err(Error::zip("unknown byte order").expected("little").found(other))
            }
        }
    }

    /// The data of the entry `name` below the prefix.
    fn read(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let full = [&self.prefix, name.as_bytes()].concat();
        self.zip.stored(&full, name).map_err(|e| match e.kind() {
            ErrorKind::Compressed(_) => {
                e.remedy("torch.save never compresses: save the checkpoint again with PyTorch")
            }
            _ => e,
        })
    }
}

/// The folder that contains the only `data.pkl`.
fn find_prefix(zip: &Zip) -> Result<Vec<u8>, Error> {
    let prefixes = || {
        let names = zip.names().filter_map(|name| name.strip_suffix(b"data.pkl"));
        names.filter(|prefix| prefix.is_empty() || prefix.ends_with(b"/"))
    };
    let depth = |prefix: &[u8]| prefix.iter().filter(|&&byte| byte == b'/').count();
    let Some(least) = prefixes().map(depth).min() else {
        return Err(Error::new(ErrorKind::NotACheckpoint("a zip archive without data.pkl"))
            .remedy("If the checkpoint is in it, unpack it first"));
    };
    let mut candidates = prefixes().filter(|prefix| depth(prefix) == least);
    let prefix = candidates.next().unwrap_or_default().to_vec();
    if candidates.next().is_some() {
        return Err(Error::zip("more than one data.pkl"));
    }
    if zip.contains(&[&prefix, b"constants.pkl".as_slice()].concat()) {
        return Err(Error::new(ErrorKind::NotACheckpoint("a TorchScript archive"))
            .remedy("Give the checkpoint it was made from"));
    }
    Ok(prefix)
}
