//! The module's file in the server's configuration, which lists the voices.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use vitstream::read_file;

/// Limit on the bytes of the file.
const MAX_FILE: u64 = 1 << 20;

/// A voice offered to clients.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Offer {
    pub(super) voice: PathBuf,
    /// Its language, if the voice's own designation is not what clients ask for.
    pub(super) language: Option<String>,
    /// The type, such as `male1`.
    pub(super) voice_type: Option<String>,
}

impl From<PathBuf> for Offer {
    fn from(voice: PathBuf) -> Self {
        Self { voice, ..Self::default() }
    }
}

/// Reads the voices in the file.
pub(super) fn read(path: &Path) -> Result<Vec<Offer>> {
    let bytes = read_file(path, MAX_FILE)?;
    let text = vitstream::decode_text(&bytes)
        .context("not a text file")
        .with_context(|| path.display().to_string())?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Offer>> {
    let mut offers = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match offer(line) {
            Some(offer) => offers.push(offer),
            None => bail!(
                "line {}: expected AddVoice \"LANGUAGE\" \"TYPE\" \"VOICE\", such as AddVoice \"en-US\" \"male1\" \
                 \"en_US-joe-medium\"",
                number + 1
            ),
        }
    }
    Ok(offers)
}

fn offer(line: &str) -> Option<Offer> {
    // The server's own reader accepts keywords in any case.
    let (keyword, rest) = line.split_once(char::is_whitespace)?;
    let [space, language, between, voice_type, again, voice, end] =
        rest.split('"').collect::<Vec<_>>().try_into().ok()?;
    let is_blank = [space, between, again, end].iter().all(|text| text.trim().is_empty());
    let is_offer = keyword.eq_ignore_ascii_case("AddVoice") && is_blank && !voice.is_empty();
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    is_offer.then(|| Offer { voice: voice.into(), language: text(language), voice_type: text(voice_type) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voices_are_added_one_a_line() {
        let text = "# Voices\n\n  AddVoice \"en-US\" \"MALE1\" \"en_US-joe-medium\"\naddvoice\t\"\" \"\"  \"/a b/c.onnx\" \r\n";
        let joe = Offer {
            voice: "en_US-joe-medium".into(),
            language: Some("en-US".to_owned()),
            voice_type: Some("MALE1".to_owned()),
        };
        assert_eq!(parse(text).unwrap(), [joe, PathBuf::from("/a b/c.onnx").into()]);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn other_lines_are_refused() {
        for line in [
            "Debug 1",
            "AddVoice",
            "AddVoice \"en\" \"male1\"",
            "AddVoice \"en\" \"male1\" \"\"",
            "AddVoice \"en\" \"male1\" \"a\" b",
            "AddVoice \"en\" \"male1\" \"a",
            "AddVoice en male1 a",
        ] {
            let error = parse(&format!("#\n{line}")).unwrap_err().to_string();
            assert!(error.starts_with("line 2: expected AddVoice"), "{line}: {error}");
        }
    }
}
