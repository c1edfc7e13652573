//! Encodes and decodes events.

use bytes::{Buf as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Limit on the bytes of an event's first line. The protocol's own implementation in Python reads no more.
pub const MOST_LINE: usize = 64 << 10;

/// Limit on the bytes after the line. Clients send nothing larger than a text.
pub const MOST_BODY: usize = 1 << 20;

/// The protocol version of this program.
const VERSION: &str = "1.10.2";

/// An event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    /// Its type.
    pub kind: String,
    /// Its data.
    pub data: Map<String, Value>,
    /// Further bytes, usually audio.
    pub payload: Bytes,
}

/// The reason why bytes are not an event.
#[derive(Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The line has no end.
    #[error("an event's line: expected at most {MOST_LINE} bytes")]
    Line,
    /// The line announces too many bytes.
    #[error("an event: expected at most {MOST_BODY} bytes after its line, found {0} announced")]
    Body(u64),
    /// A part is not JSON, or has the wrong form.
    #[error("an event: {0}")]
    Json(String),
}

/// The first line.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Option<Map<String, Value>>,
    #[serde(default)]
    data_length: Option<u64>,
    #[serde(default)]
    payload_length: Option<u64>,
}

#[derive(Serialize)]
struct Written<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    version: &'a str,
    data_length: usize,
    payload_length: usize,
}

impl Event {
    /// An event without a payload.
    pub fn new(kind: &str, data: Value) -> Self {
        let data = match data {
            Value::Object(data) => data,
            _ => Map::new(),
        };
        Self { kind: kind.to_owned(), data, payload: Bytes::new() }
    }

    /// The same event with a payload.
    #[must_use]
    pub fn with_payload(self, payload: Bytes) -> Self {
        Self { payload, ..self }
    }

    /// The event's bytes. The data follow the line, which is therefore always short.
    pub fn encode(&self) -> Vec<u8> {
        let data = if self.data.is_empty() {
            Vec::new()
        } else {
            serde_json::to_vec(&self.data).unwrap_or_default()
        };
        let line = Written {
            kind: &self.kind,
            version: VERSION,
            data_length: data.len(),
            payload_length: self.payload.len(),
        };
        let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
        bytes.push(b'\n');
        bytes.extend(data);
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// A string in its data.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.data.get(key)?.as_str()
    }
}

/// Finds events in bytes that arrive. It holds one event and the bytes received with it; after an error no
/// events follow.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: BytesMut,
    /// Number of bytes known to contain no line end.
    searched: usize,
    line: Option<Line>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)
    }
}

impl Decoder {
    /// Adds bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns true if an event has begun.
    pub fn is_within(&self) -> bool {
        self.line.is_some() || !self.bytes.is_empty()
    }

    /// The next event, if it is complete.
    ///
    /// # Errors
    /// When the bytes are not an event.
    pub fn event(&mut self) -> Result<Option<Event>, FrameError> {
        loop {
            let Some(line) = &self.line else {
                if !self.take_line()? {
                    return Ok(None);
                }
                continue;
            };
            let [data, payload] = [line.data_length, line.payload_length].map(|length| length.unwrap_or(0));
            let body = data.saturating_add(payload);
            let length = usize::try_from(body).ok().filter(|&length| length <= MOST_BODY);
            let length = length.ok_or(FrameError::Body(body))?;
            if self.bytes.len() < length {
                return Ok(None);
            }
            let Some(Line { kind, data: said, .. }) = self.line.take() else { return Ok(None) };
            let mut body = self.bytes.split_to(length).freeze();
            let mut all = said.unwrap_or_default();
            let more = body.split_to(data as usize);
            if !more.is_empty() {
                let more: Map<String, Value> = serde_json::from_slice(&more).map_err(json)?;
                all.extend(more);
            }
            return Ok(Some(Event { kind, data: all, payload: body }));
        }
    }

    /// Reads the first line, if it is complete. Empty lines are skipped.
    fn take_line(&mut self) -> Result<bool, FrameError> {
        let end = self.bytes[self.searched..].iter().position(|&byte| byte == b'\n');
        let length = end.map_or(self.bytes.len(), |end| self.searched + end);
        if length > MOST_LINE {
            return Err(FrameError::Line);
        }
        self.searched = if end.is_some() { 0 } else { self.bytes.len() };
        if end.is_none() {
            return Ok(false);
        }
        let line = self.bytes.split_to(length);
        self.bytes.advance(1);
        if !line.trim_ascii().is_empty() {
            self.line = Some(serde_json::from_slice(&line).map_err(json)?);
        }
        Ok(true)
    }
}

fn json(error: serde_json::Error) -> FrameError {
    FrameError::Json(crate::error::bounded(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn all(bytes: &[u8], size: usize) -> Result<Vec<Event>, FrameError> {
        let mut decoder = Decoder::default();
        let mut events = Vec::new();
        for piece in bytes.chunks(size.max(1)) {
            decoder.push(piece);
            while let Some(event) = decoder.event()? {
                events.push(event);
            }
        }
        Ok(events)
    }

    #[test]
    fn events_come_back_however_they_are_cut() {
        let events = [
            Event::new("ping", Value::Null),
            Event::new("synthesize", json!({"text": "h\u{e9}\n", "voice": {"name": "joe"}})),
            Event::new("audio-chunk", json!({"rate": 22_050})).with_payload(Bytes::from_static(b"\n\0{}")),
        ];
        let bytes: Vec<u8> = events.iter().flat_map(Event::encode).collect();
        for size in [1, 2, 7, bytes.len()] {
            assert_eq!(all(&bytes, size).unwrap(), events);
        }
    }

    #[test]
    fn what_stands_in_the_line_and_behind_it_is_put_together() {
        let bytes = b"\n{\"type\": \"a\", \"data\": {\"x\": 1, \"y\": 1}, \"data_length\": 7, \"version\": \"9\"}\n{\"y\":2}";
        let [event] = &all(bytes, 3).unwrap()[..] else { panic!("one event") };
        assert_eq!(*event, Event::new("a", json!({"x": 1, "y": 2})));
    }

    #[test]
    fn what_is_no_event_is_refused() {
        let long = [b"{\"type\": \"", &[b'x'; MOST_LINE][..], b"\"}\n"].concat();
        for (bytes, part) in [
            (&b"hello\n"[..], "expected value"),
            (b"{\"type\": 1}\n", "expected a string"),
            (b"{}\n", "missing field"),
            (b"{\"type\": \"a\", \"data_length\": -1}\n", "invalid value"),
            (b"{\"type\": \"a\", \"payload_length\": 1e9}\n", "invalid type"),
            (b"{\"type\": \"a\", \"payload_length\": 1048577}\n", "at most"),
            (b"{\"type\": \"a\", \"data_length\": 18446744073709551615, \"payload_length\": 9}\n", "at most"),
            (b"{\"type\": \"a\", \"data_length\": 2}\n[]", "invalid type"),
            (b"{\"type\": \"\xff\"}\n", "invalid"),
            (&long, "at most"),
        ] {
            let error = all(bytes, 1000).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
        // A line without an end is refused as soon as it is too long.
        assert_eq!(all(&long[..MOST_LINE + 1], 1 << 20), Err(FrameError::Line));
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..500), size in 1_usize..50) {
            let _ = all(&bytes, size);
        }

        #[test]
        fn nothing_depends_on_how_bytes_are_cut(
            text in "[{}\":,a-z0-9\n ]{0,60}", n in 0_u64..20, size in 1_usize..9,
        ) {
            let bytes = format!("{{\"type\": \"a\", \"payload_length\": {n}}}\n{text}");
            let whole = all(bytes.as_bytes(), usize::MAX);
            prop_assert_eq!(all(bytes.as_bytes(), size), whole);
        }
    }
}
