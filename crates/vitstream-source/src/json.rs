//! Reads JSON files as found in practice: with a byte order mark, in UTF-16, or replaced by the result of a
//! failed download.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use vitstream_checkpoint::{decode_text, read_file};

use crate::Error;

/// Limit on the bytes of a JSON. Those of published voices have up to 50 kB; a vocabulary of a hundred
/// thousand symbols has 3 MB.
pub const MAX_SIZE: u64 = 16 << 20;

/// Limit on the values in a JSON. An empty object takes two bytes of the file and about 150 of memory, so the
/// length alone is no sufficient limit: 16 MB of them took 750 MB. A voice with 10,000 speakers and as many
/// symbols has 60,000 values.
const MAX_VALUES: usize = 1 << 18;

/// Reads a JSON object.
pub fn read(path: &Path) -> Result<Map<String, Value>, Error> {
    parse(path, &read_file(path, MAX_SIZE)?)
}

/// As [`read`], but accepts values that Python writes and JSON does not allow: a bare `Infinity` or `NaN`
/// becomes null.
pub fn read_python(path: &Path) -> Result<Map<String, Value>, Error> {
    parse_python(path, &read_file(path, MAX_SIZE)?)
}

/// Parses the object in `bytes`, the contents of the file at `path`.
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    let problem = |problem: String| Error::Config { path: PathBuf::from(path), problem };
    let text = text_of(bytes).map_err(|found| problem(format!("not valid JSON: {found}")))?;
    object(&text).map_err(problem)
}

/// As [`parse`], with the extensions of [`read_python`].
pub fn parse_python(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>, Error> {
    let problem = |problem: String| Error::Config { path: PathBuf::from(path), problem };
    let text = text_of(bytes).map_err(|found| problem(format!("not valid JSON: {found}")))?;
    object(&without_infinities(&text)).map_err(problem)
}

fn object(text: &str) -> Result<Map<String, Value>, String> {
    if values(text) > MAX_VALUES {
        return Err(format!("refused: more than {MAX_VALUES} values"));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("expected a JSON object".to_owned()),
        Err(error) => Err(format!("not valid JSON: {error}")),
    }
}

/// The text, or as an error a description of what the bytes are instead.
fn text_of(bytes: &[u8]) -> Result<std::borrow::Cow<'_, str>, &'static str> {
    let text = decode_text(bytes).ok_or(match bytes {
        [b'P', b'K', ..] => "this is a zip archive",
        [0x1f, 0x8b, ..] => "this is a gzip file",
        _ => "this is not text",
    })?;
    let start = text.trim_start();
    let begins = |with: &str| start.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with));
    if start.is_empty() {
        Err("the file is empty; download or copy it again")
    } else if begins("<!doctype") || begins("<html") {
        Err("this is an HTML page, not the file itself; download it again")
    } else if begins("version https://git-lfs") {
        Err("this is a Git LFS pointer; fetch the file it points to with `git lfs pull`")
    } else {
        Ok(text)
    }
}

/// An upper bound on the number of values: two values are separated by a sign outside of strings.
fn values(text: &str) -> usize {
    let (mut quoted, mut escaped, mut count) = (false, false, 1);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b':' | b'[' | b'{' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

/// Replaces Python's bare `Infinity`, `-Infinity` and `NaN` outside of strings by `null`.
fn without_infinities(text: &str) -> String {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    let mut out = String::with_capacity(text.len());
    let mut quoted = false;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let word = if quoted { None } else { WORDS.iter().find(|word| rest.starts_with(**word)) };
        let taken = match word {
            Some(word) => {
                out.push_str("null");
                word.len()
            }
            None => {
                quoted ^= character == '"';
                let escaped = if quoted && character == '\\' { rest.chars().nth(1) } else { None };
                let taken = character.len_utf8() + escaped.map_or(0, char::len_utf8);
                out.push_str(&rest[..taken]);
                taken
            }
        };
        rest = &rest[taken..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        parse("voice.json".as_ref(), bytes).expect_err("refused").to_string()
    }

    #[test]
    fn infinities_become_null_but_not_in_texts() {
        let text = r#"{"a": Infinity, "b": [-Infinity, NaN, 1], "c": "NaN \" Infinity", "ʃ": "\\"}"#;
        let json: Value = serde_json::from_str(&without_infinities(text)).unwrap();
        let expected =
            serde_json::json!({"a": null, "b": [null, null, 1], "c": "NaN \" Infinity", "ʃ": "\\"});
        assert_eq!(json, expected);
        assert_eq!(without_infinities(r#""\"#), r#""\"#);
    }

    #[test]
    fn what_stands_in_place_of_json_is_named() {
        for (bytes, found) in [
            (&b""[..], "empty"),
            (b" \r\n", "empty"),
            (b"\xef\xbb\xbf", "empty"),
            (b"\n<!DOCTYPE html><html></html>", "HTML"),
            (b"\xef\xbb\xbf<html>", "HTML"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
            (b"PK\x03\x04\x80\xff", "zip"),
            (b"\x80\x02}q\x00.", "not text"),
            (b"[1]", "expected a JSON object"),
            (b"{\"a\": }", "line 1 column 7"),
        ] {
            let error = refused(bytes);
            assert!(error.starts_with("voice.json: ") && error.contains(found), "{error}");
        }
    }

    #[test]
    fn many_small_values_are_refused_before_they_are_made() {
        let many = |value: &str| format!("{{\"a\": [{}]}}", vec![value; MAX_VALUES].join(","));
        for text in [many("{}"), many("[]"), many("1"), "[".repeat(MAX_VALUES + 1)] {
            assert!(refused(text.as_bytes()).contains("more than"), "{}", &text[..20]);
        }
        // Signs in strings do not count.
        let long = format!("{{\"a\": \"{}\"}}", ",\\\"[{:".repeat(MAX_VALUES));
        assert_eq!(parse("voice.json".as_ref(), long.as_bytes()).unwrap().len(), 1);
    }
}
