//! A phonemizer that says the letters of a clause.

use vitstream_text::Frontend;
use vitstream_text::phonemizer::{About, Phonemizer, PhonemizerError};

pub struct Letters;

impl Phonemizer for Letters {
    fn ipa(&mut self, _: &str, clause: &str) -> Result<String, PhonemizerError> {
        Ok(clause.chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect())
    }

    fn about(&self) -> About {
        About::default()
    }
}

pub fn frontend(voice: &str) -> Frontend {
    let json = serde_json::json!({"phoneme_type": "espeak", "espeak": {"voice": voice},
        "phoneme_id_map": {"^": [1], "_": [0], "$": [2]}});
    Frontend::from_json(json.as_object().expect("an object")).expect("a front end")
}
