//! The voices from which clients can choose.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use vitstream::{Backend, Speaker, Voice};

use super::Args;
use super::configuration::Offer;
use super::settings::Settings;
use crate::cmd::text::{Reader, TextArgs};
use crate::cmd::{DecoderArg, voices, wall};

/// A voice that was opened.
pub(super) struct Loaded {
    pub(super) voice: Voice,
    pub(super) reader: Reader,
}

/// A choice for clients: a voice, or one of its speakers.
#[derive(Debug, Default)]
pub(super) struct Entry {
    name: String,
    language: String,
    voice_type: Option<String>,
    pub(super) speaker: Option<String>,
    /// Index among the opened voices.
    pub(super) loaded: usize,
}

/// All choices.
pub(super) struct Catalogue {
    pub(super) loaded: Vec<Loaded>,
    entries: Vec<Entry>,
}

impl Catalogue {
    /// Opens all voices at the start, so that no listener has to wait later.
    pub(super) fn open(offers: Vec<Offer>, args: &Args, quiet: bool) -> Result<Self> {
        let (mut loaded, mut entries) = (Vec::new(), Vec::new());
        for offer in offers {
            let named = || offer.voice.display().to_string();
            let path = voices::resolve(&offer.voice, quiet)?;
            let voice = args.options.open(&path, Backend::Auto, DecoderArg::Auto, wall())?;
            let reading = TextArgs::of_ssml(args.phonemizer.clone(), args.lexicon.clone());
            let reader = Reader::new(&reading, reading.words()?, voice.config());
            let mut reader = reader.with_context(|| format!("{} cannot read text", named()))?;
            reader.prepare().with_context(named)?;
            entries.extend(offered(&offer, &voice, loaded.len()));
            loaded.push(Loaded { voice, reader });
        }
        Ok(Self { loaded, entries })
    }

    /// The lines of the answer to `LIST VOICES`.
    pub(super) fn listing(&self) -> String {
        let mut text = String::new();
        for Entry { name, language, speaker, .. } in &self.entries {
            let variant = speaker.as_deref().map_or_else(|| "none".to_owned(), plain);
            writeln!(text, "200-{name}\t{language}\t{variant}").expect("a string takes everything");
        }
        text
    }

    /// The choice for these settings.
    pub(super) fn choose(&self, settings: &Settings) -> &Entry {
        choose(&self.entries, settings)
    }
}

/// The choice by name if given; else one with the language, preferably of the requested type; else the first.
fn choose<'a>(entries: &'a [Entry], settings: &Settings) -> &'a Entry {
    let is = |a: &Option<String>, b: &str| a.as_ref().is_some_and(|a| a.to_lowercase() == b.to_lowercase());
    if let Some(named) = entries.iter().find(|entry| is(&settings.voice, &entry.name)) {
        return named;
    }
    let fitness = |entry: &Entry| {
        let wanted = settings.language.as_deref().unwrap_or_default();
        let is_type = entry.voice_type.as_ref().is_some_and(|own| is(&settings.voice_type, own));
        (likeness(wanted, &entry.language), is_type)
    };
    // `max_by_key` returns the last of several equal ones, which in reverse order is the first.
    entries.iter().rev().max_by_key(|entry| fitness(entry)).expect("there is a voice")
}

/// The similarity of two languages: equal, equal without region, different.
fn likeness(a: &str, b: &str) -> u8 {
    let (a, b) = (a.replace('_', "-").to_lowercase(), b.to_lowercase());
    let main = |tag: &str| tag.split('-').next().unwrap_or_default().to_owned();
    if a == b { 2 } else { u8::from(main(&a) == main(&b)) }
}

/// A voice and, if it has several, its speakers.
fn offered(offer: &Offer, voice: &Voice, loaded: usize) -> Vec<Entry> {
    let info = voice.info();
    let name = name(&offer.voice);
    let language = offer.language.clone().unwrap_or_else(|| language(voice.config()));
    let entry = |name: String, speaker: Option<String>| Entry {
        name: plain(&name),
        language: plain(&language.replace('_', "-")),
        voice_type: offer.voice_type.clone(),
        speaker,
        loaded,
    };
    let mut entries = vec![entry(name.clone(), None)];
    if info.speakers > 1 {
        let numbers = 0..info.speakers as i64;
        let called =
            |id: i64| info.speaker_ids.iter().find(|(_, other)| **other == id).map(|(name, _)| name.clone());
        let speakers = numbers.map(|id| called(id).unwrap_or_else(|| id.to_string()));
        entries.extend(speakers.map(|speaker| entry(format!("{name}+{speaker}"), Some(speaker))));
    }
    entries
}

impl Entry {
    pub(super) fn speaker(&self) -> Option<Speaker> {
        self.speaker.clone().map(Speaker::Name)
    }
}

/// The name of a voice: that of its file or folder without the ending of its format.
fn name(voice: &Path) -> String {
    let name = if voice.is_dir() { voice.file_name() } else { voice.file_stem() };
    name.map_or_else(|| "voice".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The language stated in a voice's JSON.
fn language(json: &Map<String, Value>) -> String {
    let text = |object: &str, key: &str| json.get(object)?.get(key)?.as_str();
    text("language", "code").or_else(|| text("espeak", "voice")).unwrap_or("und").to_owned()
}

/// A name as a single field of a line.
fn plain(name: &str) -> String {
    name.replace(char::is_control, "_")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entries() -> Vec<Entry> {
        let all = [
            ("joe", "en-US", Some("male1"), None),
            ("amy", "en-US", Some("FEMALE1"), None),
            ("alba", "en-GB", Some("female1"), None),
            ("many", "de", None, None),
            ("many+Ada", "de", None, Some("Ada")),
        ];
        all.map(|(name, language, voice_type, speaker)| Entry {
            name: name.to_owned(),
            language: language.to_owned(),
            voice_type: voice_type.map(str::to_owned),
            speaker: speaker.map(str::to_owned),
            loaded: 0,
        })
        .into()
    }

    #[test]
    fn the_nearest_voice_speaks() {
        let entries = entries();
        let chosen = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            choose(&entries, &Settings::default().with(&pairs).unwrap()).name.clone()
        };
        assert_eq!(chosen(&[]), "joe");
        assert_eq!(chosen(&[("language", "c"), ("voice", "male1")]), "joe");
        assert_eq!(chosen(&[("language", "en"), ("voice", "female1")]), "amy");
        assert_eq!(chosen(&[("language", "en_gb"), ("voice", "male1")]), "alba");
        assert_eq!(chosen(&[("language", "de-AT")]), "many");
        assert_eq!(chosen(&[("language", "fr"), ("voice", "female1")]), "amy");
        assert_eq!(chosen(&[("language", "en-US"), ("synthesis_voice", "MANY+ada")]), "many+Ada");
        assert_eq!(chosen(&[("language", "de"), ("synthesis_voice", "nobody")]), "many");
    }

    #[test]
    fn a_listing_is_a_line_for_each() {
        let catalogue = Catalogue { loaded: Vec::new(), entries: entries().split_off(3) };
        assert_eq!(catalogue.listing(), "200-many\tde\tnone\n200-many+Ada\tde\tAda\n");
        assert_eq!(plain("a\tb\nc"), "a_b_c");
    }

    #[test]
    fn languages_are_found_where_voices_have_them() {
        let of = |json: Value| language(json.as_object().unwrap());
        assert_eq!(of(json!({"language": {"code": "en_GB"}, "espeak": {"voice": "en"}})), "en_GB");
        assert_eq!(of(json!({"espeak": {"voice": "de"}})), "de");
        assert_eq!(of(json!({"language": "x"})), "und");
    }
}
