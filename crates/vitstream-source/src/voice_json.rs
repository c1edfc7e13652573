//! Derives the voice's JSON for families without one in piper's form.

use std::path::Path;

use serde_json::{Map, Value as Json, json};
use vitstream_vits::HParams;

use crate::config::VoiceConfig;

/// Contents of the JSON besides the hyper-parameters.
pub(crate) struct VoiceJson {
    /// Noise scale of the prior.
    pub(crate) noise_scale: f64,
    /// Length scale; larger values are slower.
    pub(crate) length_scale: f64,
    /// Noise scale of the durations.
    pub(crate) noise_w: f64,
    /// Names in the order of the embedding's rows; empty if unknown.
    pub(crate) speakers: Vec<String>,
    /// The ids of the symbols, if known.
    pub(crate) symbols: Option<Symbols>,
    /// The language, in the family's own spelling.
    pub(crate) language: Option<String>,
    /// espeak's voice, if the symbols are espeak's phonemes.
    pub(crate) espeak: Option<String>,
    /// Further entries, under the family's own names.
    pub(crate) further: Map<String, Json>,
    /// The conversion of text into ids, if known: an object that `vitstream_text::config::FrontendConfig`
    /// reads.
    pub(crate) frontend: Option<Json>,
}

/// The JSON's key for [`VoiceJson::frontend`].
const FRONTEND: &str = "frontend";

/// Symbols, and the ids put around and between them.
#[derive(Default)]
pub(crate) struct Symbols {
    /// The id of each symbol.
    pub(crate) ids: Vec<(String, i64)>,
    /// The id before, between and after the symbols.
    pub(crate) blank: Option<i64>,
    /// The id at the start of a text.
    pub(crate) bos: Option<i64>,
    /// The id at the end of a text.
    pub(crate) eos: Option<i64>,
}

impl Symbols {
    /// The symbols under piper's names. A client puts `^` before a text, `_` between its symbols and `$`
    /// after it, whatever their ids: an empty list for a symbol that the family does not have makes the
    /// client's ids equal to the family's.
    fn to_json(&self) -> Json {
        let mut map: Map<String, Json> =
            self.ids.iter().map(|(symbol, id)| (symbol.clone(), json!([id]))).collect();
        for (symbol, id) in [("_", self.blank), ("^", self.bos), ("$", self.eos)] {
            map.insert(symbol.to_owned(), id.into_iter().collect());
        }
        map.into()
    }
}

impl VoiceJson {
    /// The JSON; `path` is the file from which most of it was derived.
    pub(crate) fn config(self, path: &Path, hparams: &HParams) -> VoiceConfig {
        let mut map = Map::new();
        let mut audio = Map::new();
        audio.extend(hparams.sample_rate.map(|rate| ("sample_rate".to_owned(), rate.into())));
        map.insert("audio".to_owned(), audio.into());
        if let Some(voice) = &self.espeak {
            map.insert("espeak".to_owned(), json!({ "voice": voice }));
        }
        let kind = if self.espeak.is_some() { "espeak" } else { "text" };
        map.insert("phoneme_type".to_owned(), kind.into());
        map.extend(self.language.map(|code| ("language".to_owned(), json!({ "code": code }))));
        let inference = json!({
            "noise_scale": self.noise_scale,
            "length_scale": self.length_scale,
            "noise_w": self.noise_w,
        });
        map.insert("inference".to_owned(), inference);
        map.insert("num_symbols".to_owned(), hparams.num_symbols.into());
        map.insert("num_speakers".to_owned(), hparams.num_speakers.into());
        let named = self.speakers.len() == hparams.num_speakers;
        let name = |id: usize| if named { self.speakers[id].clone() } else { id.to_string() };
        let speakers = if hparams.multi_speaker() { hparams.num_speakers } else { 0 };
        let speakers: Map<String, Json> = (0..speakers).map(|id| (name(id), id.into())).collect();
        map.insert("speaker_id_map".to_owned(), speakers.into());
        if let Some(symbols) = &self.symbols {
            map.insert("phoneme_map".to_owned(), json!({}));
            map.insert("phoneme_id_map".to_owned(), symbols.to_json());
        }
        map.insert("hop_length".to_owned(), hparams.hop_length().into());
        map.extend(self.further);
        map.extend(self.frontend.map(|frontend| (FRONTEND.to_owned(), frontend)));
        VoiceConfig::derived(path, map)
    }
}
