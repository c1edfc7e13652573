//! Elements that lie in another file than the graph, as PyTorch's exporter writes them by default.
//!
//! Where they lie is said by the graph, whose author is not trusted: only a plain name is looked up, the caller knows in
//! which folder, and no two tensors share bytes. So a graph reads what lies beside it, and no more of that than there is.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::error::{DecodeError, shown};
use crate::proto;

/// Most files that a graph may be spread over: PyTorch writes one, or one for each tensor.
const MAX_FILES: usize = 4096;
/// Longest name of a file that systems know.
const MAX_NAME: usize = 255;

/// Opens the file of a plain name that lies beside the graph. The error says why it cannot be read.
pub type OpenBeside<'a> = dyn FnMut(&str) -> Result<Bytes, String> + 'a;

/// The files that were opened, and what of them is taken.
pub(crate) struct External<'a> {
    /// `None` where the graph is all that there is.
    open: Option<&'a mut OpenBeside<'a>>,
    files: BTreeMap<String, File>,
}

struct File {
    bytes: Bytes,
    /// By their beginnings.
    taken: BTreeMap<usize, (usize, String)>,
}

impl<'a> External<'a> {
    pub(crate) fn new(open: Option<&'a mut OpenBeside<'a>>) -> Self {
        Self { open, files: BTreeMap::new() }
    }

    /// The `expected` bytes of a tensor of which the graph says where they lie. `place` is the tensor.
    pub(crate) fn read(
        &mut self,
        entries: &[proto::StringStringEntry],
        expected: usize,
        place: &dyn Fn() -> String,
    ) -> Result<Bytes, DecodeError> {
        let malformed = |what: String| DecodeError::malformed(place(), what);
        let mut location = None;
        let (mut offset, mut length) = (0, None);
        for entry in entries {
            let value = entry.value.as_deref().unwrap_or_default();
            let number = || {
                let problem = || {
                    let key = entry.key.as_deref().unwrap_or_default();
                    malformed(format!("external data: {key} `{}` is not a valid number", shown(value)))
                };
                value.parse::<usize>().map_err(|_| problem())
            };
            match entry.key.as_deref().unwrap_or_default() {
                "location" => location = Some(value),
                "offset" => offset = number()?,
                "length" => length = Some(number()?),
                // A checksum, and what future versions may say besides.
                _ => {}
            }
        }
        let location =
            location.ok_or_else(|| malformed("external data without the name of a file".to_owned()))?;
        let file = shown(location);
        if !is_plain(location) {
            let what = format!("data kept in `{file}`: only files that lie beside the graph are read");
            return Err(DecodeError::External { place: place(), what });
        }
        if let Some(length) = length.filter(|&length| length != expected) {
            let what = format!("expects {expected} bytes, but says that {length} lie in `{file}`");
            return Err(malformed(what));
        }
        let range = offset..offset.saturating_add(expected);
        self.slice(location, range, place)
    }

    fn slice(
        &mut self,
        location: &str,
        range: Range<usize>,
        place: &dyn Fn() -> String,
    ) -> Result<Bytes, DecodeError> {
        let external = |what: String| DecodeError::External { place: place(), what };
        let name = shown(location);
        if !self.files.contains_key(location) {
            let Some(open) = &mut self.open else {
                return Err(external(format!(
                    "data kept in `{name}`, and only the graph was given: give the folder with both, or one file \
                     that holds everything"
                )));
            };
            if self.files.len() >= MAX_FILES {
                return Err(external(format!("data kept in more than {MAX_FILES} files")));
            }
            let bytes = open(location).map_err(|why| external(format!("data kept in `{name}`: {why}")))?;
            self.files.insert(location.to_owned(), File { bytes, taken: BTreeMap::new() });
        }
        let file = self.files.get_mut(location).expect("it was opened");
        let len = file.bytes.len();
        if range.end > len {
            let what = format!(
                "expects bytes {} to {} of `{name}`, which has {len}: the file is incomplete or another one",
                range.start, range.end
            );
            return Err(external(what));
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let before = file.taken.range(..range.end).next_back();
        if let Some((_, (_, other))) = before.filter(|(_, (end, _))| *end > range.start) {
            let what = format!("shares bytes of `{name}` with {other}: each tensor has its own");
            return Err(external(what));
        }
        file.taken.insert(range.start, (range.end, place()));
        Ok(file.bytes.slice(range))
    }
}

/// Whether `name` names a file in the folder, on every system.
fn is_plain(name: &str) -> bool {
    let is_odd = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
    !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME && !name.contains(is_odd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Vec<proto::StringStringEntry> {
        let entry = |&(key, value): &(&str, &str)| proto::StringStringEntry {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        };
        pairs.iter().map(entry).collect()
    }

    fn read(pairs: &[&[(&str, &str)]], expected: usize) -> Result<Vec<Bytes>, String> {
        let mut open = |name: &str| match name {
            "beside" => Ok(Bytes::from((0..64).collect::<Vec<u8>>())),
            _ => Err("no such file".to_owned()),
        };
        let mut external = External::new(Some(&mut open));
        let mut one = |at: usize, pairs: &[(&str, &str)]| {
            external.read(&entries(pairs), expected, &|| format!("initializer `{at}`"))
        };
        let all = pairs.iter().enumerate().map(|(at, pairs)| one(at, pairs));
        all.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }

    #[test]
    fn tensors_are_slices_of_the_file() {
        let beside = ("location", "beside");
        let found =
            read(&[&[beside, ("offset", "16")], &[beside, ("length", "4")], &[beside, ("offset", "60")]], 4);
        let found: Vec<Vec<u8>> = found.unwrap().iter().map(|bytes| bytes.to_vec()).collect();
        assert_eq!(found, [vec![16, 17, 18, 19], vec![0, 1, 2, 3], vec![60, 61, 62, 63]]);
        assert!(read(&[&[beside, ("offset", "64")], &[beside]], 0).is_ok());
    }

    #[test]
    fn what_lies_elsewhere_is_refused() {
        for name in
            ["", ".", "..", "../beside", "a/b", "/beside", "a\\b", "c:beside", "be\nside", &"x".repeat(256)]
        {
            let error = read(&[&[("location", name)]], 4).unwrap_err();
            assert!(error.starts_with("initializer `0`: data kept in `") && error.len() < 400, "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert!(read(&[&[("location", "absent")]], 4).unwrap_err().contains("`absent`: no such file"));
        assert!(read(&[&[("offset", "3")]], 4).unwrap_err().contains("without the name of a file"));
    }

    #[test]
    fn sizes_are_checked() {
        let beside = ("location", "beside");
        let refused = |pairs: &[&[(&str, &str)]], what: &str| {
            let error = read(pairs, 4).unwrap_err();
            assert!(error.contains(what), "{error}");
        };
        refused(&[&[beside, ("offset", "61")]], "expects bytes 61 to 65 of `beside`, which has 64");
        refused(&[&[beside, ("offset", "18446744073709551615")]], "which has 64");
        refused(&[&[beside, ("length", "8")]], "expects 4 bytes, but says that 8");
        for number in ["-1", "x", "", "18446744073709551616", " 1"] {
            refused(&[&[beside, ("offset", number)]], "is not a valid number");
        }
        let shared = "shares bytes of `beside` with initializer `0`";
        for offset in ["5", "8", "11"] {
            refused(&[&[beside, ("offset", "8")], &[beside, ("offset", offset)]], shared);
        }
    }
}
