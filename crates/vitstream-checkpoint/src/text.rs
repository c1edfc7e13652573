//! Text: decodes files written by editors, and shortens untrusted text for messages.

use std::borrow::Cow;

/// Characters of a name or value quoted in a message. The longest key of a published voice has 66.
const SHOWN: usize = 120;

/// A name or value as quoted in a message: shortened if long, with control characters escaped.
pub fn excerpt(text: &str) -> String {
    let mut shown: String = String::new();
    let mut characters = text.chars();
    for character in characters.by_ref().take(SHOWN) {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    if !characters.as_str().is_empty() {
        shown.push_str(&format!("... ({} bytes)", text.len()));
    }
    shown
}

/// Decodes a text file: UTF-8, or UTF-16 of either byte order, with or without a byte order mark. Returns
/// `None` for other encodings.
///
/// ```
/// use vitstream_checkpoint::decode_text;
/// assert_eq!(decode_text(b"\xef\xbb\xbf{}").as_deref(), Some("{}"));
/// assert_eq!(decode_text(b"\xff\xfe{\0}\0").as_deref(), Some("{}"));
/// assert_eq!(decode_text(b"\0{\0}").as_deref(), Some("{}"));
/// assert_eq!(decode_text(b"\xff"), None);
/// ```
pub fn decode_text(bytes: &[u8]) -> Option<Cow<'_, str>> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units = pairs.iter().map(|&pair| unit(pair));
        let text: Option<String> = char::decode_utf16(units).collect::<Result<_, _>>().ok();
        text.filter(|_| rest.is_empty()).map(Cow::Owned)
    };
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => std::str::from_utf8(rest).ok().map(Cow::Borrowed),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        // No text in the formats read here begins with U+0000.
        [0, 1..=255, ..] => utf16(bytes, u16::from_be_bytes),
        [1..=255, 0, ..] => utf16(bytes, u16::from_le_bytes),
        _ => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_strange_names_are_shown_short_and_plain() {
        assert_eq!(excerpt("dec.conv_pre.weight"), "dec.conv_pre.weight");
        assert_eq!(excerpt("ɑ̃ \u{1b}[2J\n"), "ɑ̃ \\u{1b}[2J\\n");
        let long = excerpt(&"x".repeat(1 << 22));
        assert!(long.len() < 150 && long.ends_with("x... (4194304 bytes)"), "{long}");
    }

    #[test]
    fn every_encoding_gives_the_same_text() {
        let text = "{\"ʃ\": [1, 2],\r\n \"𝄞\": null}";
        let wide = |unit: fn(u16) -> [u8; 2], mark: &str| -> Vec<u8> {
            mark.encode_utf16().chain(text.encode_utf16()).flat_map(unit).collect()
        };
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            wide(u16::to_le_bytes, "\u{feff}"),
            wide(u16::to_be_bytes, "\u{feff}"),
            wide(u16::to_le_bytes, ""),
            wide(u16::to_be_bytes, ""),
        ] {
            assert_eq!(decode_text(&bytes).as_deref(), Some(text), "{bytes:?}");
        }
        // A lone surrogate, half a unit.
        assert_eq!(decode_text(b"\xff\xfe\x00\xd8"), None);
        assert_eq!(decode_text(b"\xff\xfe{"), None);
        assert_eq!(decode_text(b"").as_deref(), Some(""));
    }
}
