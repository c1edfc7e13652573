//! Lines of JSON, shared by `speak` and manifests.

use std::io::{self, BufRead, Read as _};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use vitstream::Speaker;

/// Limit on the bytes of a line.
const LONGEST_LINE: u64 = 1 << 20;

/// Reads the next line without its end; `None` after the last. The inner error is for a line that is too
/// long, whose rest is skipped.
pub(crate) fn read_line(input: &mut impl BufRead) -> io::Result<Option<Result<Vec<u8>>>> {
    let mut line = Vec::new();
    if input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') || (line.len() as u64) < LONGEST_LINE {
        return Ok(Some(Ok(line)));
    }
    input.skip_until(b'\n')?;
    Ok(Some(Err(anyhow!("expected an utterance of at most {LONGEST_LINE} bytes"))))
}

/// A line as text, without surrounding white space and without the byte order mark that some editors write.
pub(crate) fn text_of(line: &[u8]) -> Result<&str> {
    let text = str::from_utf8(line).map_err(|error| {
        let at = error.valid_up_to();
        anyhow!("expected UTF-8, found the byte 0x{:02x} at offset {at} of the line", line[at])
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text).trim())
}

/// Parses a line of JSON; `None` for a blank one. `example` is shown in errors.
pub(crate) fn parse<T: DeserializeOwned>(line: &[u8], example: &str) -> Result<Option<T>> {
    let text = text_of(line)?;
    if text.is_empty() {
        return Ok(None);
    }
    serde_json::from_str(text).map(Some).with_context(|| format!("expected JSON such as {example}"))
}

/// Phonemes in a line.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "`phonemes`: expected a string of phonemes, or a list of them")]
pub(crate) enum Phonemes {
    /// IPA, or the characters of a voice that reads characters.
    Text(String),
    /// Separate phonemes, as in Piper's data sets.
    List(Vec<String>),
}

/// A speaker in a line.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged, expecting = "`speaker`: expected a speaker's number or name")]
pub(crate) enum Named {
    Id(i64),
    Name(String),
}

/// The speaker, if `speaker` or `speaker_id` is given.
pub(crate) fn speaker(speaker: Option<&Named>, speaker_id: Option<i64>) -> Result<Option<Speaker>> {
    ensure!(
        speaker.is_none() || speaker_id.is_none(),
        "`speaker` and `speaker_id` are both given: expected one of them"
    );
    let named = speaker.cloned().map(|speaker| match speaker {
        Named::Id(id) => Speaker::Id(id),
        Named::Name(name) => Speaker::Name(name),
    });
    Ok(named.or(speaker_id.map(Speaker::Id)))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_line_is_text_as_an_editor_saves_it() {
        assert_eq!(text_of("\u{feff} é \r\n".as_bytes()).unwrap(), "é");
        let parsed: Option<Value> = parse("\u{feff}{\"a\": 1}\r\n".as_bytes(), "{}").unwrap();
        assert_eq!(parsed.unwrap()["a"], 1);
        for blank in ["", " \t\r\n", "\u{feff}\n"] {
            assert!(parse::<Value>(blank.as_bytes(), "{}").unwrap().is_none());
        }
        let error = format!("{:#}", parse::<Value>(b"{\"a\": \"\xff\"}", "{}").unwrap_err());
        assert!(error.contains("the byte 0xff at offset 7"), "{error}");
        // Text as written by Windows' own tools.
        assert!(parse::<Value>(b"\xff\xfe{\0", "{}").unwrap_err().to_string().contains("expected UTF-8"));
    }

    #[test]
    fn a_long_line_is_passed_over() {
        let text = [vec![b'x'; 2 << 20], b"\nshort".to_vec()].concat();
        let mut input = &text[..];
        assert!(read_line(&mut input).unwrap().unwrap().is_err());
        assert_eq!(read_line(&mut input).unwrap().unwrap().unwrap(), b"short");
        assert!(read_line(&mut input).unwrap().is_none());
    }
}
