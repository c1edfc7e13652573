//! The one place that maps a file, and the only unsafe code of the crate.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use bytes::Bytes;

/// The file's contents, mapped and read-only. The mapping lives as long as any slice of the result.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn map(file: &File) -> io::Result<Bytes> {
    // SAFETY: the mapping is private to this process and never written through. Another process that rewrites
    // the file while it is mapped changes what is read (or, if it shortens the file, ends this process with
    // SIGBUS): the price of every memory-mapped reader. No invariant of this crate rests on two reads of the
    // same bytes agreeing: every length and offset taken from the file is checked against the map's own length
    // after it has been copied out, and all tensor types admit every bit pattern.
    let map = unsafe { memmap2::Mmap::map(file)? };
    Ok(Bytes::from_owner(map))
}

/// The file's contents, read: WebAssembly maps nothing.
#[cfg(target_family = "wasm")]
pub(crate) fn map(mut file: &File) -> io::Result<Bytes> {
    let mut contents = Vec::new();
    io::Read::read_to_end(&mut file, &mut contents)?;
    Ok(contents.into())
}
