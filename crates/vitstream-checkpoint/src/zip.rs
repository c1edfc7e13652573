//! The zip container: its directory, and the data of its entries as slices of the file.
//!
//! Opening a zip reads only the directory at the end of the file. An entry's local header, directly before
//! its data, and its checksum are checked when the entry is read.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::limits::MAX_ENTRIES;
use crate::text::excerpt;

const LOCAL: &[u8] = b"PK\x03\x04";
const CENTRAL: &[u8] = b"PK\x01\x02";
const END: &[u8] = b"PK\x05\x06";
const END64: &[u8] = b"PK\x06\x06";
const END64_LOCATOR: &[u8] = b"PK\x06\x07";

const LOCAL_LEN: u64 = 30;
const CENTRAL_LEN: usize = 46;
const END_LEN: usize = 22;
const END64_LEN: u64 = 56;
const END64_LOCATOR_LEN: u64 = 20;
/// The comment after the end record has at most this length.
const MAX_COMMENT: usize = 0xffff;

const FLAG_ENCRYPTED: u16 = 1;
const METHOD_STORED: u16 = 0;
const METHOD_DEFLATED: u16 = 8;

/// An open zip: its bytes and its directory.
pub(crate) struct Zip {
    data: Bytes,
    entries: HashMap<Bytes, Entry>,
}

struct Entry {
    /// Offset of the local header.
    offset: u64,
    /// Length of the unpacked data, and of the data in the file.
    len: u64,
    packed: u64,
    /// End of the entry: where the next entry's header, or the directory, begins.
    limit: u64,
    packing: Packing,
    /// CRC-32 of the unpacked data; 0 if the writer did not compute it.
    crc: u32,
    /// Set once the checksum was verified, because one entry can hold many tensors.
    verified: AtomicBool,
}

/// How an entry's data is packed in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not compressed.
    Stored,
    /// As a raw deflate stream.
    Deflated,
    /// Encrypted, or compressed by another method.
    Other,
}

/// A file inside a zip archive.
#[derive(Clone, Debug)]
pub struct ZipMember {
    /// Its path in the archive.
    pub name: String,
    /// Its length according to the archive's directory.
    pub len: u64,
    /// How [`data`](Self::data) is packed.
    pub packing: Packing,
    /// Its contents as stored in the archive.
    pub data: Bytes,
    /// CRC-32 of the unpacked contents; 0 if the writer did not compute it.
    pub crc: u32,
}

/// Returns true if `data` begins like a zip archive.
pub fn is_zip(data: &[u8]) -> bool {
    data.starts_with(b"PK\x03\x04") || data.starts_with(END)
}

/// The files in the zip archive `data`, in the order of their positions; folders are left out. `path` is used
/// in messages.
///
/// # Errors
/// When the archive is damaged, or exceeds a limit.
pub fn zip_members(path: &Path, data: &Bytes) -> Result<Vec<ZipMember>, Error> {
    members(data).map_err(|e| e.in_file(path))
}

fn members(data: &Bytes) -> Result<Vec<ZipMember>, Error> {
    let zip = Zip::open(data.clone())?;
    let mut entries: Vec<(&Bytes, &Entry)> =
        zip.entries.iter().filter(|(name, _)| !name.ends_with(b"/")).collect();
    entries.sort_by_key(|(_, entry)| entry.offset);
    let member = |(name, entry): (&Bytes, &Entry)| {
        Ok(ZipMember {
            name: String::from_utf8_lossy(name).into_owned(),
            len: entry.len,
            packing: entry.packing,
            data: zip.raw(name, entry)?,
            crc: entry.crc,
        })
    };
    entries.into_iter().map(member).collect()
}

impl Zip {
    /// Reads the directory.
    pub(crate) fn open(data: Bytes) -> Result<Self, Error> {
        let (mut entries, start) = read_directory(&data)?;
        bound_entries(&mut entries, start)?;
        Ok(Self { data, entries })
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Bytes> {
        self.entries.keys()
    }

    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.entries.contains_key(name)
    }

    /// The data of the stored entry `name`, if it exists; its checksum is verified on the first read. `shown`
    /// is its name in messages.
    pub(crate) fn stored(&self, name: &[u8], shown: &str) -> Result<Option<Bytes>, Error> {
        let Some((name, entry)) = self.entries.get_key_value(name) else { return Ok(None) };
        if entry.packing != Packing::Stored {
            return Err(Error::new(ErrorKind::Compressed(excerpt(shown))));
        }
        let data = self.raw(name, entry)?;
        // Otherwise a fuzzer's inputs would all end here.
        let unchecked = entry.crc == 0 || cfg!(fuzzing);
        if !unchecked && !entry.verified.load(Ordering::Relaxed) {
            if crc32fast::hash(&data) != entry.crc {
                return Err(Error::new(ErrorKind::Checksum(excerpt(shown)))
                    .remedy("Probably a damaged download or copy: fetch the file again"));
            }
            entry.verified.store(true, Ordering::Relaxed);
        }
        Ok(Some(data))
    }

    /// An entry's data as stored in the file. Touches the page of its local header.
    fn raw(&self, name: &Bytes, entry: &Entry) -> Result<Bytes, Error> {
        let damaged = |what: &str| Error::zip(format!("entry {}: {what}", text(name)));
        let header =
            slice(&self.data, entry.offset, LOCAL_LEN).ok_or_else(|| damaged("header out of bounds"))?;
        if !header.starts_with(LOCAL) {
            return Err(damaged("no local header where the directory says"));
        }
        let (name_len, extra_len) = (u16_at(header, 26), u16_at(header, 28));
        let local_name = slice(&self.data, entry.offset + LOCAL_LEN, u64::from(name_len));
        if local_name != Some(name) {
            return Err(damaged("directory and local header disagree about the name"));
        }
        let start = entry.offset + LOCAL_LEN + u64::from(name_len) + u64::from(extra_len);
        match start.checked_add(entry.packed) {
            Some(end) if end <= entry.limit => {
                // `limit` is within the data, whose length is a usize.
                Ok(self.data.slice(start as usize..end as usize))
            }
            _ => Err(damaged("overlaps the next entry")),
        }
    }
}

/// The entries by name, and where the directory begins.
fn read_directory(data: &Bytes) -> Result<(HashMap<Bytes, Entry>, u64), Error> {
    let (start, len, count) = find_directory(data)?;
    if count > MAX_ENTRIES {
        return Err(Error::limit("entries in the zip", MAX_ENTRIES));
    }
    if count > len / CENTRAL_LEN as u64 {
        return Err(Error::zip("the directory is too short for its entries"));
    }
    let short = || Error::zip("the directory ends within an entry");
    let directory = range(start, len).filter(|range| range.end <= data.len()).ok_or_else(short)?;
    let mut rest = data.slice(directory);
    let mut entries = HashMap::with_capacity(count as usize);
    for _ in 0..count {
        if rest.len() < CENTRAL_LEN || !rest.starts_with(CENTRAL) {
            return Err(short());
        }
        let header = rest.split_to(CENTRAL_LEN);
        let lengths = [u16_at(&header, 28), u16_at(&header, 30), u16_at(&header, 32)].map(usize::from);
        let [name_len, extra_len, comment_len] = lengths;
        if rest.len() < name_len + extra_len + comment_len {
            return Err(short());
        }
        let name = rest.split_to(name_len);
        let extra = rest.split_to(extra_len);
        drop(rest.split_to(comment_len));

        let (len, packed, offset) = entry_extent(&header, &extra)
            .ok_or_else(|| Error::zip(format!("entry {}: 64-bit sizes are missing", text(&name))))?;
        let packing = match u16_at(&header, 10) {
            _ if u16_at(&header, 8) & FLAG_ENCRYPTED != 0 => Packing::Other,
            METHOD_STORED => Packing::Stored,
            METHOD_DEFLATED => Packing::Deflated,
            _ => Packing::Other,
        };
        if packing == Packing::Stored && packed != len {
            return Err(Error::zip(format!("entry {} is stored, but its two lengths differ", text(&name))));
        }
        let taken = LOCAL_LEN + name_len as u64;
        let limit = offset.checked_add(taken).and_then(|end| end.checked_add(packed));
        match limit {
            Some(limit) if limit <= start => {
                let (crc, verified) = (u32_at(&header, 16), AtomicBool::new(false));
                let entry = Entry { offset, len, packed, limit, packing, crc, verified };
                if entries.insert(name.clone(), entry).is_some() {
                    return Err(Error::zip(format!("two entries are called {}", text(&name))));
                }
            }
            _ => return Err(Error::zip(format!("entry {} lies out of bounds", text(&name)))),
        }
    }
    Ok((entries, start))
}

/// Length, packed length and offset, which are in the extra field if the header has no room for them.
fn entry_extent(header: &[u8], mut extra: &[u8]) -> Option<(u64, u64, u64)> {
    let (packed, len, offset) = (u32_at(header, 20), u32_at(header, 24), u32_at(header, 42));
    let mut wide: &[u8] = &[];
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let body = rest.get(..usize::from(u16_at(head, 2)))?;
        if u16_at(head, 0) == 1 {
            wide = body;
        }
        extra = &rest[body.len()..];
    }
    let mut widen = |value: u32| -> Option<u64> {
        if value != u32::MAX {
            return Some(u64::from(value));
        }
        let (value, rest) = wide.split_first_chunk::<8>()?;
        wide = rest;
        Some(u64::from_le_bytes(*value))
    };
    let len = widen(len)?;
    let packed = widen(packed)?;
    let offset = widen(offset)?;
    Some((len, packed, offset))
}

/// Offset of the directory, its length in bytes, and its number of entries.
///
/// A sequence that looks like an end record can also occur in the comment after the real one, or in the data
/// before it. A record counts if its comment ends at the end of the file and its directory ends where the
/// record begins.
fn find_directory(data: &[u8]) -> Result<(u64, u64, u64), Error> {
    let tail = data.len().saturating_sub(END_LEN + MAX_COMMENT);
    let mut found = None;
    let mut problem = None;
    let windows = data[tail..].windows(END_LEN).enumerate();
    for (at, record) in windows.filter(|(_, window)| window.starts_with(END)) {
        let end = tail + at;
        if data.len() - end - END_LEN != usize::from(u16_at(record, 20)) {
            continue;
        }
        match directory_before(data, end) {
            Ok(_) if found.is_some() => {
                return Err(Error::zip("two end records, each with a directory of its own"));
            }
            Ok(directory) => found = Some(directory),
            Err(error) => problem = Some(error),
        }
    }
    found.ok_or_else(|| {
        problem.unwrap_or_else(|| Error::new(ErrorKind::Truncated).remedy("Probably an incomplete download"))
    })
}

/// The directory described by the end record at `end`.
fn directory_before(data: &[u8], end: usize) -> Result<(u64, u64, u64), Error> {
    let record = &data[end..];
    let (disk, count, len, start) =
        (u16_at(record, 4), u16_at(record, 10), u32_at(record, 12), u32_at(record, 16));
    let needs64 = disk == u16::MAX || count == u16::MAX || len == u32::MAX || start == u32::MAX;

    let locator = (end as u64)
        .checked_sub(END64_LOCATOR_LEN)
        .and_then(|at| Some((at, slice(data, at, END64_LOCATOR_LEN)?)))
        .filter(|(_, locator)| locator.starts_with(END64_LOCATOR));
    let (start, len, count, behind) = match locator {
        Some((at, locator)) => {
            let record = slice(data, u64_at(locator, 8), END64_LEN)
                .filter(|record| record.starts_with(END64))
                .ok_or_else(|| Error::zip("the 64-bit end record is not where its locator says"))?;
            if u32_at(record, 16) != 0 || u32_at(record, 20) != 0 {
                return Err(Error::zip("split across several files"));
            }
            (u64_at(record, 48), u64_at(record, 40), u64_at(record, 32), u64_at(locator, 8).min(at))
        }
        None if needs64 => return Err(Error::zip("the 64-bit end record is missing")),
        None if disk != 0 => return Err(Error::zip("split across several files")),
        None => (u64::from(start), u64::from(len), u64::from(count), end as u64),
    };
    match start.checked_add(len) {
        Some(end) if end == behind => Ok((start, len, count)),
        _ => Err(Error::zip("the directory does not end where its end record begins")),
    }
}

/// Sets each entry's limit to the start of whatever follows it, and refuses entries that overlap.
fn bound_entries(entries: &mut HashMap<Bytes, Entry>, directory: u64) -> Result<(), Error> {
    let mut sorted: Vec<(&Bytes, &mut Entry)> = entries.iter_mut().collect();
    sorted.sort_by_key(|(_, entry)| entry.offset);
    let mut next = directory;
    for (name, entry) in sorted.into_iter().rev() {
        if entry.limit > next {
            return Err(Error::zip(format!("entry {} overlaps another", text(name))));
        }
        entry.limit = next;
        next = entry.offset;
    }
    Ok(())
}

fn range(start: u64, len: u64) -> Option<std::ops::Range<usize>> {
    let end = start.checked_add(len)?;
    Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

fn slice(data: &[u8], start: u64, len: u64) -> Option<&[u8]> {
    data.get(range(start, len)?)
}

/// A name as shown in messages.
fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(80)]).escape_debug().to_string()
}

// The callers have checked that the record is long enough.
fn u16_at(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

fn u32_at(record: &[u8], at: usize) -> u32 {
    u32::from(u16_at(record, at)) | u32::from(u16_at(record, at + 2)) << 16
}

fn u64_at(record: &[u8], at: usize) -> u64 {
    u64::from(u32_at(record, at)) | u64::from(u32_at(record, at + 4)) << 32
}
