//! Unpacks archives, using external libraries.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{DeflateDecoder, GzDecoder};

/// Limit on the files in a tar archive. Packages of voices have up to ten.
const MAX_FILES: usize = 1 << 16;

/// Unpacks the deflated `data` to at most `limit` bytes.
///
/// # Errors
/// The problem, to be appended to the file's name.
pub(crate) fn inflate(data: &[u8], limit: u64) -> Result<Bytes, String> {
    all(DeflateDecoder::new(data), limit)
}

/// As [`inflate`], for a gzip file.
pub(crate) fn gunzip(data: &[u8], limit: u64) -> Result<Bytes, String> {
    all(GzDecoder::new(data), limit)
}

fn all(reader: impl Read, limit: u64) -> Result<Bytes, String> {
    let mut contents = Vec::new();
    let read = reader.take(limit + 1).read_to_end(&mut contents);
    read.map_err(|error| format!("cannot be unpacked ({error})"))?;
    if contents.len() as u64 > limit {
        return Err(format!("unpacks to more than {limit} bytes"));
    }
    Ok(contents.into())
}

/// The names and contents of the files in the tar archive `data`.
///
/// # Errors
/// The problem.
pub(crate) fn tar_members(data: &Bytes) -> Result<Vec<(String, Bytes)>, String> {
    let damaged = |error: std::io::Error| format!("a damaged tar archive: {error}");
    let mut archive = tar::Archive::new(std::io::Cursor::new(data));
    let mut members = Vec::new();
    for entry in archive.entries_with_seek().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        if members.len() >= MAX_FILES {
            return Err(format!("a tar archive of more than {MAX_FILES} files"));
        }
        let (start, length) = (entry.raw_file_position(), entry.size());
        let end = start.checked_add(length).filter(|&end| end <= data.len() as u64);
        let range = end.and_then(|end| Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?));
        let range = range.ok_or("a tar archive that is cut off; download it again")?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").map_or_else(|| name.clone(), str::to_owned);
        members.push((name, data.slice(range)));
    }
    Ok(members)
}
