//! `transformers.VitsTokenizer`, for MMS and for voices converted from original VITS.

use std::collections::BTreeSet;

use crate::config::HuggingFaceConfig;
use crate::error::Error;
use crate::ids::{Encoded, PhonemeIds};

/// Text prepared for conversion to ids.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Prepared {
    pub(crate) text: String,
    /// Letters and digits that are left out because the voice does not have them.
    pub(crate) dropped: BTreeSet<String>,
}

/// The ids of the vocabulary, with blanks as in training.
pub(crate) fn ids(config: &HuggingFaceConfig) -> PhonemeIds {
    let blank = config.add_blank.then_some(0);
    PhonemeIds::blanks(config.vocab.iter().map(|(symbol, &id)| (symbol.clone(), id)), None, blank, None)
}

/// Converts the text to the letters of the vocabulary.
pub(crate) fn prepare(config: &HuggingFaceConfig, text: &str) -> Result<Prepared, Error> {
    let mut text = if config.normalize { lower(config, text) } else { text.to_owned() };
    if config.language.as_deref() == Some("ron") {
        text = text.replace('ț', "ţ");
    }
    if config.is_uroman && !text.is_ascii() {
        text = romanize(&text)?;
    }
    let mut dropped = BTreeSet::new();
    if config.normalize && !config.phonemize {
        text.retain(|c| {
            let known = config.vocab.contains_key(c.encode_utf8(&mut [0; 4]) as &str);
            if !known && c.is_alphanumeric() {
                dropped.insert(c.to_string());
            }
            known
        });
        text = text.trim().to_owned();
    }
    Ok(Prepared { text, dropped })
}

/// Lower-cases everything that is not in the vocabulary; entries of several characters are kept whole.
fn lower(config: &HuggingFaceConfig, text: &str) -> String {
    let long: Vec<&str> =
        config.vocab.keys().map(String::as_str).filter(|entry| entry.chars().nth(1).is_some()).collect();
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let entry = long.iter().find(|entry| rest.starts_with(**entry));
        let taken = entry.map_or(c.len_utf8(), |entry| entry.len());
        let piece = &rest[..taken];
        if entry.is_some() || config.vocab.contains_key(piece) {
            out.push_str(piece);
        } else {
            out.extend(c.to_lowercase());
        }
        rest = &rest[taken..];
    }
    out
}

#[cfg(feature = "uroman")]
#[allow(clippy::unnecessary_wraps, reason = "without the feature it fails")]
fn romanize(text: &str) -> Result<String, Error> {
    // Creating it only copies a reference to its tables.
    Ok(uroman::Uroman::new().romanize_string::<uroman::rom_format::Str>(text, None).to_string())
}

#[cfg(not(feature = "uroman"))]
fn romanize(_: &str) -> Result<String, Error> {
    Err(Error::unsupported("text in non-Latin letters, in a build without the feature `uroman`,"))
}

/// The ids as transformers produces them: it splits the text at the pad token, which in MMS is a letter, and
/// puts blanks around the parts, so a word with this letter gets fewer blanks than in training.
pub(crate) fn like_transformers(config: &HuggingFaceConfig, phonemes: &[String]) -> Encoded {
    let mut encoded = Encoded::default();
    let is_pad = |symbol: &String| Some(symbol) == config.pad_token.as_ref();
    let blank = config.add_blank.then_some(0);
    // Set if a part has begun, which then ends with a blank.
    let mut in_part = false;
    for symbol in phonemes {
        let Some(&id) = config.vocab.get(symbol) else {
            encoded.starts.push(encoded.ids.len());
            encoded.missing.insert(symbol.clone());
            continue;
        };
        if is_pad(symbol) {
            in_part = false;
        } else if !in_part {
            encoded.ids.extend(blank);
            in_part = true;
        }
        encoded.starts.push(encoded.ids.len());
        encoded.ids.push(id);
        if !is_pad(symbol) {
            encoded.ids.extend(blank);
        }
    }
    encoded
}
