//! The one place that maps files, and the only unsafe code of the crate.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use memmap2::Mmap;

/// A file's contents, mapped and read-only, or bytes that were in memory anyway. Cheap to clone.
#[derive(Clone)]
pub struct MappedFile {
    bytes: Bytes,
    map: Option<Arc<Mmap>>,
}

#[cfg(not(target_family = "wasm"))]
struct Owner(Arc<Mmap>);

#[cfg(not(target_family = "wasm"))]
impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl MappedFile {
    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the mapping is private to this process and never written through. Another process that rewrites
        // the file while it is mapped changes what is read (or, if it shortens the file, ends this process with
        // SIGBUS): the price of every memory-mapped reader. No invariant of this crate rests on two reads of the
        // same bytes agreeing: every length and offset taken from the file is checked against the map's own length
        // after it has been copied out, and all tensor types admit every bit pattern.
        let map = Arc::new(unsafe { Mmap::map(file)? });
        Ok(Self { bytes: Bytes::from_owner(Owner(map.clone())), map: Some(map) })
    }

    /// WebAssembly maps nothing: the file is read.
    #[cfg(target_family = "wasm")]
    pub(crate) fn map(mut file: &File) -> io::Result<Self> {
        let mut contents = Vec::new();
        io::Read::read_to_end(&mut file, &mut contents)?;
        Ok(Bytes::from(contents).into())
    }

    /// The contents. The mapping lives as long as any slice of them.
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// Lets the system take back the memory of the pages that were read so far. They are read again when they are used
    /// again. Does nothing where the system has no such call.
    pub fn release(&self) {
        #[cfg(unix)]
        if let Some(map) = &self.map {
            // SAFETY: of a read-only mapping of a file the call drops pages that the next access reads from the file
            // again: what slices of the map see stays what is in the file, as before.
            let released = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
            // A system that does not want to keeps the pages, which is no harm.
            drop(released);
        }
    }
}

impl From<Bytes> for MappedFile {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, map: None }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn released_pages_are_read_again() {
        let path = std::env::temp_dir().join(format!("vitstream-release-{}", std::process::id()));
        let contents: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        File::create(&path).unwrap().write_all(&contents).unwrap();
        let file = MappedFile::map(&File::open(&path).unwrap()).unwrap();
        let slice = file.bytes().slice(5..390_000);
        assert_eq!(slice[..], contents[5..390_000]);
        file.release();
        assert_eq!(slice[..], contents[5..390_000]);
        drop(file);
        assert_eq!(slice[..], contents[5..390_000]);
        std::fs::remove_file(path).unwrap();
    }
}
