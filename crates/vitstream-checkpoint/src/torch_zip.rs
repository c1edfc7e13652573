//! The container: a zip whose entries are stored, laid out as `torch.save` does since PyTorch 1.6.
//!
//! ```text
//! NAME/data.pkl      the pickle          NAME/byteorder   "little" or "big", since 2.1
//! NAME/data/KEY      one per storage     NAME/version     "3"
//! ```
//!
//! Only the directory at the end of the file is read when it is opened. An entry's local header, which stands
//! directly before its data, is looked at when the entry is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::limits::{MAX_ENTRIES, MAX_PICKLE_BYTES};

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
/// The end record is followed by a comment of at most this length.
const MAX_COMMENT: usize = 0xffff;

const FLAG_ENCRYPTED: u16 = 1;
const METHOD_STORED: u16 = 0;

/// An opened zip: its bytes and its directory.
pub(crate) struct Archive {
    path: PathBuf,
    data: Bytes,
    entries: HashMap<Bytes, Entry>,
    /// What stands before `data.pkl`, with the slash; empty if it stands at the top.
    prefix: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Of the local header.
    offset: u64,
    len: u64,
    /// Where the next entry's header, or the directory, begins.
    limit: u64,
    /// Neither compressed nor encrypted.
    stored: bool,
}

impl Archive {
    /// Reads the directory and finds the pickle. `data` begins as a zip does.
    pub(crate) fn open(path: &Path, data: Bytes) -> Result<Self, Error> {
        let (mut entries, start) = read_directory(&data)?;
        bound_entries(&mut entries, start)?;
        let prefix = find_prefix(&entries)?;
        let archive = Self { path: path.to_path_buf(), data, entries, prefix };
        archive.check_byte_order()?;
        Ok(archive)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The pickle.
    pub(crate) fn pickle(&self) -> Result<Bytes, Error> {
        let pickle = self.read("data.pkl")?.ok_or_else(|| Error::zip("data.pkl is gone"))?;
        if pickle.len() as u64 > MAX_PICKLE_BYTES {
            return Err(Error::limit("bytes of data.pkl", MAX_PICKLE_BYTES));
        }
        Ok(pickle)
    }

    /// The storage called `key`.
    pub(crate) fn storage(&self, key: &str) -> Result<Bytes, Error> {
        self.read(&format!("data/{key}"))?.ok_or_else(|| {
            Error::new(ErrorKind::MissingStorage(key.to_string()))
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

    /// The data of the entry `name` below the prefix. Touches the page of its local header.
    fn read(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let full = [&self.prefix, name.as_bytes()].concat();
        let Some(entry) = self.entries.get(full.as_slice()) else { return Ok(None) };
        if !entry.stored {
            return Err(Error::new(ErrorKind::Compressed(name.to_string()))
                .remedy("torch.save never compresses: save the checkpoint again with PyTorch"));
        }
        let damaged = |what: &str| Error::zip(format!("entry {name}: {what}"));
        let header =
            slice(&self.data, entry.offset, LOCAL_LEN).ok_or_else(|| damaged("header out of bounds"))?;
        if !header.starts_with(LOCAL) {
            return Err(damaged("no local header where the directory says"));
        }
        let (name_len, extra_len) = (u16_at(header, 26), u16_at(header, 28));
        let local_name = slice(&self.data, entry.offset + LOCAL_LEN, u64::from(name_len));
        if local_name != Some(full.as_slice()) {
            return Err(damaged("directory and local header disagree about the name"));
        }
        let start = entry.offset + LOCAL_LEN + u64::from(name_len) + u64::from(extra_len);
        match start.checked_add(entry.len) {
            Some(end) if end <= entry.limit => {
                // `limit` lies within the data, whose length is a usize.
                Ok(Some(self.data.slice(start as usize..end as usize)))
            }
            _ => Err(damaged("reaches into the entry behind it")),
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
        let plain = u16_at(&header, 10) == METHOD_STORED && u16_at(&header, 8) & FLAG_ENCRYPTED == 0;
        if plain && packed != len {
            return Err(Error::zip(format!("entry {} is stored, but its two lengths differ", text(&name))));
        }
        let taken = LOCAL_LEN + name_len as u64;
        let limit = offset.checked_add(taken).and_then(|end| end.checked_add(packed));
        match limit {
            Some(limit) if limit <= start => {
                let entry = Entry { offset, len, limit, stored: plain };
                if entries.insert(name.clone(), entry).is_some() {
                    return Err(Error::zip(format!("two entries are called {}", text(&name))));
                }
            }
            _ => return Err(Error::zip(format!("entry {} lies out of bounds", text(&name)))),
        }
    }
    Ok((entries, start))
}

/// Length, packed length and offset, which stand in the extra field where the header has no room.
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

/// Where the directory begins, its length in bytes, its number of entries.
fn find_directory(data: &[u8]) -> Result<(u64, u64, u64), Error> {
    let truncated = || Error::new(ErrorKind::Truncated).remedy("Probably an incomplete download");
    let tail = data.len().saturating_sub(END_LEN + MAX_COMMENT);
    let end = data[tail..]
        .windows(END_LEN)
        .rposition(|window| window.starts_with(END))
        .map(|position| tail + position)
        .filter(|&end| data.len() - end - END_LEN == usize::from(u16_at(&data[end..], 20)))
        .ok_or_else(truncated)?;
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
                return Err(Error::zip("split over several files"));
            }
            (u64_at(record, 48), u64_at(record, 40), u64_at(record, 32), u64_at(locator, 8).min(at))
        }
        None if needs64 => return Err(Error::zip("the 64-bit end record is missing")),
        None if disk != 0 => return Err(Error::zip("split over several files")),
        None => (u64::from(start), u64::from(len), u64::from(count), end as u64),
    };
    match start.checked_add(len) {
        Some(end) if end == behind => Ok((start, len, count)),
        _ => Err(Error::zip("the directory does not end where its end record begins")),
    }
}

/// Sets each entry's limit to the beginning of what follows it, and refuses entries that overlap.
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

/// The folder in which the one `data.pkl` lies.
fn find_prefix(entries: &HashMap<Bytes, Entry>) -> Result<Vec<u8>, Error> {
    let prefixes = || {
        let names = entries.keys().filter_map(|name| name.strip_suffix(b"data.pkl"));
        names.filter(|prefix| prefix.is_empty() || prefix.ends_with(b"/"))
    };
    let depth = |prefix: &[u8]| prefix.iter().filter(|&&byte| byte == b'/').count();
    let Some(least) = prefixes().map(depth).min() else {
        return Err(Error::new(ErrorKind::NotACheckpoint("a zip archive without data.pkl")));
    };
    let mut candidates = prefixes().filter(|prefix| depth(prefix) == least);
    let prefix = candidates.next().unwrap_or_default().to_vec();
    if candidates.next().is_some() {
        return Err(Error::zip("more than one data.pkl"));
    }
    if entries.contains_key([&prefix, b"constants.pkl".as_slice()].concat().as_slice()) {
        return Err(Error::new(ErrorKind::NotACheckpoint("a TorchScript archive"))
            .remedy("Give the checkpoint it was made from"));
    }
    Ok(prefix)
}

fn range(start: u64, len: u64) -> Option<std::ops::Range<usize>> {
    let end = start.checked_add(len)?;
    Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
}

fn slice(data: &[u8], start: u64, len: u64) -> Option<&[u8]> {
    data.get(range(start, len)?)
}

/// A name for messages.
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
