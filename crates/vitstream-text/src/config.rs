//! The settings of a front end in a voice's JSON.
//!
//! Piper's own JSON contains all settings for its voices: `phoneme_type`, `espeak.voice`, `phoneme_id_map`,
//! `vowel_clusters`. Other families keep them in files of their own, so an exporter of such a voice writes a
//! [`FrontendConfig`] into the voice's JSON, under the key [`FRONTEND_KEY`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::Error;

/// The JSON's key for a [`FrontendConfig`].
pub const FRONTEND_KEY: &str = "frontend";

/// A family's conversion of text into ids. Serialised, it is one object with a `family`.
///
/// ```
/// use vitstream_text::config::{FrontendConfig, VitsConfig};
///
/// let config = VitsConfig { text_cleaners: vec!["english_cleaners2".into()], add_blank: true, symbols: None };
/// let json = serde_json::to_string(&FrontendConfig::Vits(config)).unwrap();
/// assert_eq!(json, r#"{"family":"vits","text_cleaners":["english_cleaners2"],"add_blank":true}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "family", rename_all = "lowercase")]
#[non_exhaustive]
pub enum FrontendConfig {
    /// `transformers.VitsTokenizer`: MMS and converted voices of original VITS.
    HuggingFace(HuggingFaceConfig),
    /// Coqui's `TTSTokenizer`.
    Coqui(CoquiConfig),
    /// Original VITS: `text/symbols.py` and `data.text_cleaners`.
    Vits(VitsConfig),
}

/// Settings from `vocab.json` and `tokenizer_config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct HuggingFaceConfig {
    /// The id of each character.
    pub vocab: BTreeMap<String, i64>,
    /// Puts id 0 around and between all others.
    #[serde(default = "yes")]
    pub add_blank: bool,
    /// Lower-cases the text and leaves out everything that is not in the vocabulary.
    #[serde(default = "yes")]
    pub normalize: bool,
    /// Set if the characters are espeak-ng's phonemes of US English.
    #[serde(default)]
    pub phonemize: bool,
    /// Set if text in non-Latin letters is romanized first.
    #[serde(default)]
    pub is_uroman: bool,
    /// The language's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The character that transformers uses for padding; it matters only in that mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_token: Option<String>,
    /// Produces the ids of transformers instead of those used in training: see
    /// [`Frontend::like_transformers`](crate::Frontend::like_transformers).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub like_transformers: bool,
}

/// Settings from Coqui's `config.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct CoquiConfig {
    /// The id of each symbol, in the order of its class of characters.
    pub symbols: BTreeMap<String, i64>,
    /// `text_cleaner`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_cleaner: Option<String>,
    /// `use_phonemes`.
    #[serde(default)]
    pub use_phonemes: bool,
    /// `phonemizer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phonemizer: Option<String>,
    /// `phoneme_language`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phoneme_language: Option<String>,
    /// The id around and between all others, if `add_blank` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blank: Option<i64>,
    /// The id before them, if `enable_eos_bos_chars` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bos: Option<i64>,
    /// The id after them, if `enable_eos_bos_chars` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eos: Option<i64>,
}

/// Settings from the training's `config.json`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct VitsConfig {
    /// `data.text_cleaners`.
    pub text_cleaners: Vec<String>,
    /// `data.add_blank`.
    #[serde(default = "yes")]
    pub add_blank: bool,
    /// The symbols in the order of their ids, if the training does not use upstream's 178.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols: Option<Vec<String>>,
}

fn yes() -> bool {
    true
}

impl HuggingFaceConfig {
    /// Reads the contents of `vocab.json` and `tokenizer_config.json`, with the defaults of transformers.
    ///
    /// # Errors
    /// When a value has the wrong type.
    pub fn from_files(vocab: &Map<String, Value>, tokenizer: &Map<String, Value>) -> Result<Self, Error> {
        let mut json = Map::new();
        json.insert("vocab".to_owned(), vocab.clone().into());
        // The default of the tokenizer's class, which differs from that of this struct.
        json.insert("phonemize".to_owned(), true.into());
        let names = ["add_blank", "normalize", "phonemize", "is_uroman", "language", "pad_token"];
        for name in names {
            match tokenizer.get(name) {
                None | Some(Value::Null) => {}
                // An `AddedToken`.
                Some(Value::Object(token)) if name == "pad_token" => {
                    json.extend(token.get("content").map(|token| (name.to_owned(), token.clone())));
                }
                Some(value) => drop(json.insert(name.to_owned(), value.clone())),
            }
        }
        serde_json::from_value(json.into())
            .map_err(|error| Error::Config(format!("vocab.json and tokenizer_config.json: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let Value::Object(vocab) = serde_json::json!({"a": 1, "k": 0}) else { panic!("an object") };
        let Value::Object(tokenizer) =
            serde_json::json!({"phonemize": false, "is_uroman": true, "pad_token": {"content": "k"}, "x": 1})
        else {
            panic!("an object")
        };
        let config = HuggingFaceConfig::from_files(&vocab, &tokenizer).unwrap();
        assert!(config.add_blank && config.normalize && config.is_uroman && !config.phonemize);
        assert_eq!(config.pad_token.as_deref(), Some("k"));
        let config = FrontendConfig::HuggingFace(config);
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.starts_with(r#"{"family":"huggingface","vocab":{"#), "{text}");
        assert_eq!(serde_json::from_str::<FrontendConfig>(&text).unwrap(), config);
        assert!(HuggingFaceConfig::from_files(&tokenizer, &vocab).is_err());
    }
}
