//! Maps files into memory; contains the only unsafe code of the crate.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::error::{Error, ErrorKind};

/// The contents of a file, mapped read-only, or bytes that were already in memory. Cheap to clone.
#[derive(Clone)]
pub struct MappedFile {
    bytes: Bytes,
    source: Option<Arc<Mapped>>,
}

/// The mapped file, and its length and time of change when it was mapped.
struct Mapped {
    path: PathBuf,
    file: File,
    length: u64,
    modified: Option<SystemTime>,
}

impl MappedFile {
    /// Maps `file`, which was opened at `path`.
    pub(crate) fn map(path: &Path, file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let (length, modified) = (metadata.len(), metadata.modified().ok());
        // An empty file cannot be mapped.
        let bytes = if length == 0 { Bytes::new() } else { Self::map_contents(&file)? };
        let source = Mapped { path: path.to_owned(), file, length, modified };
        Ok(Self { bytes, source: Some(Arc::new(source)) })
    }

    #[cfg(not(target_family = "wasm"))]
    fn map_contents(file: &File) -> io::Result<Bytes> {
        // SAFETY: the mapping is private to this process and never written through. If another process
        // rewrites the file while it is mapped, the bytes that are read change (and if it shortens the file,
        // this process ends with SIGBUS); every memory-mapped reader has this limitation. No invariant of
        // this crate relies on two reads of the same bytes agreeing: every length and offset taken from the
        // file is checked against the map's own length after it has been copied out, and all tensor types
        // admit every bit pattern.
        Ok(Bytes::from_owner(unsafe { memmap2::Mmap::map(file)? }))
    }

    /// WebAssembly cannot map files, so the file is read.
    #[cfg(target_family = "wasm")]
    fn map_contents(mut file: &File) -> io::Result<Bytes> {
        let mut contents = Vec::new();
        io::Read::read_to_end(&mut file, &mut contents)?;
        Ok(contents.into())
    }

    /// Checks that the file is unchanged since it was mapped, so that everything read from it belongs
    /// together. To be called after everything has been read. It compares length and modification time: a
    /// change within the resolution of the file system's clock is not detected, and a change that shortens
    /// the file can end the process before it is detected.
    ///
    /// # Errors
    /// When the length or the modification time has changed.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        let Some(mapped) = &self.source else { return Ok(()) };
        let metadata = mapped.file.metadata().map_err(|e| Error::io(e).in_file(&mapped.path))?;
        if (metadata.len(), metadata.modified().ok()) == (mapped.length, mapped.modified) {
            return Ok(());
        }
        let error = Error::new(ErrorKind::Changed).in_file(&mapped.path);
        Err(match metadata.len() == mapped.length {
            true => error,
            false => {
                error.expected(format!("{} bytes", mapped.length)).found(format!("{} bytes", metadata.len()))
            }
        }
        .remedy("Wait until nothing writes to it, then try again"))
    }

    /// The contents. The mapping lives as long as any slice of them.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }
}

impl From<Bytes> for MappedFile {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, source: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("voice.ckpt");
        std::fs::write(&path, [1; 100]).unwrap();
        let file = MappedFile::open(&path).unwrap();
        file.check_unchanged().unwrap();

        // Replacing the file by another one does not affect the mapping.
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        std::fs::write(&path, [2; 50]).unwrap();
        file.check_unchanged().unwrap();
        let old = File::options().append(true).open(folder.path().join("old")).unwrap();
        old.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let error = file.check_unchanged().unwrap_err().to_string();
        assert!(error.contains("voice.ckpt: changed while it was read"), "{error}");
        old.set_len(101).unwrap();
        let error = file.check_unchanged().unwrap_err().to_string();
        assert!(error.contains("expected 100 bytes, found 101 bytes"), "{error}");
    }
}
