//! A voice's way from text to ids.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

use crate::cleaners::{CoquiCleaner, VitsCleaner, collapse};
use crate::config::{CoquiConfig, FRONTEND_KEY, FrontendConfig, HuggingFaceConfig, VitsConfig};
use crate::error::Error;
use crate::ids::PhonemeIds;
use crate::passage::Passage;
use crate::phonemizer::Phonemizer;
use crate::piper::{self, join_clusters};
use crate::sentence::{Draft, Marks, Sentence, SpokenClause};
use crate::sentences::{Rules, Sentences};
use crate::shown::Shown;
use crate::{huggingface, vits};

/// espeak-ng's voice of all trainings that know English only.
const ENGLISH: &str = "en-us";

/// A voice's way from text to ids, made from what its JSON says.
#[derive(Clone, Debug)]
pub struct Frontend {
    kind: Kind,
    ids: PhonemeIds,
    near: bool,
    arabic_as_written: bool,
    whole_texts: bool,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Piper's `espeak`.
    Piper {
        voice: String,
        clusters: Vec<Vec<String>>,
    },
    /// Piper's `text`: characters.
    PiperText,
    /// Piper's `pinyin`, of which only the ids are made here.
    Pinyin,
    /// Text of this kind is refused; phonemes are taken.
    Refused(String),
    HuggingFace(HuggingFaceConfig),
    Vits(VitsCleaner),
    Coqui {
        cleaner: CoquiCleaner,
        language: Option<String>,
        voice: Option<String>,
    },
}

impl Frontend {
    /// From a voice's JSON: Piper's own, or one with a [`FrontendConfig`] under [`FRONTEND_KEY`]. A voice whose text
    /// is not read here has a front end as well, that takes phonemes.
    ///
    /// # Errors
    /// When the JSON lacks something, or names something that is not known.
    pub fn from_json(json: &Map<String, Value>) -> Result<Self, Error> {
        if let Some(config) = json.get(FRONTEND_KEY) {
            let config: FrontendConfig = serde_json::from_value(config.clone())
                .map_err(|error| Error::Config(format!("{FRONTEND_KEY}: {error}")))?;
            return Self::from_config(config);
        }
        Self::piper(json)
    }

    /// From the settings of a family other than Piper's.
    ///
    /// # Errors
    /// When one of them contradicts another or has no meaning.
    pub fn from_config(config: FrontendConfig) -> Result<Self, Error> {
        match config {
            FrontendConfig::HuggingFace(config) => Self::huggingface(config),
            FrontendConfig::Coqui(config) => Self::coqui(config),
            FrontendConfig::Vits(config) => Self::vits(config),
        }
    }

    fn new(kind: Kind, ids: PhonemeIds) -> Self {
        Self { kind, ids, near: true, arabic_as_written: false, whole_texts: false }
    }

    fn piper(json: &Map<String, Value>) -> Result<Self, Error> {
        let kind = match json.get("phoneme_type") {
            None | Some(Value::Null) => "espeak",
            Some(Value::String(kind)) => kind,
            Some(other) => {
                return Err(Error::Config(format!(
                    "phoneme_type: expected a name, found {}",
                    Shown(&other.to_string())
                )));
            }
        };
        let map = json.get("phoneme_id_map").and_then(Value::as_object);
        let map = map.ok_or_else(|| {
            Error::Config("expected `phoneme_id_map`, an object with the ids of each phoneme".to_owned())
        })?;
        let ids = PhonemeIds::piper(map, kind == "pinyin")?;
        let kind = match kind {
            "espeak" => {
                let voice = json.get("espeak").and_then(|espeak| espeak.get("voice")).and_then(Value::as_str);
                let voice = voice.filter(|voice| !voice.is_empty()).ok_or_else(|| {
                    Error::Config("expected `espeak.voice`, the name of one of espeak-ng's voices".to_owned())
                })?;
                Kind::Piper { voice: voice.to_owned(), clusters: clusters(json.get("vowel_clusters"))? }
            }
            "text" => Kind::PiperText,
            "pinyin" => Kind::Pinyin,
            "hebrew" | "japanese" | "thai" => Kind::Refused(format!("text of phoneme type `{kind}`")),
            other => {
                return Err(Error::Config(format!(
                    "phoneme_type: expected espeak, text, pinyin, hebrew, japanese or thai, found {}",
                    Shown(other)
                )));
            }
        };
        Ok(Self::new(kind, ids))
    }

    fn huggingface(config: HuggingFaceConfig) -> Result<Self, Error> {
        check_ids("vocab", config.vocab.values())?;
        let ids = huggingface::ids(&config);
        Ok(Self::new(Kind::HuggingFace(config), ids))
    }

    fn vits(config: VitsConfig) -> Result<Self, Error> {
        let kind = match &*config.text_cleaners {
            [name] => VitsCleaner::by_name(name)
                .map_or_else(|_| Kind::Refused(format!("text for the cleaner {}", Shown(name))), Kind::Vits),
            names => Kind::Refused(format!("text for the cleaners {}", Shown(&names.join(", ")))),
        };
        let standard = || vits::SYMBOLS.chars().map(String::from).collect();
        // Of equal symbols the last counts, as upstream has it.
        let symbols: Vec<String> = config.symbols.unwrap_or_else(standard);
        let blank = config.add_blank.then_some(0);
        let ids = PhonemeIds::blanks(symbols.into_iter().zip(0..), None, blank, None);
        Ok(Self::new(kind, ids))
    }

    fn coqui(config: CoquiConfig) -> Result<Self, Error> {
        check_ids("symbols", config.symbols.values())?;
        let CoquiConfig { symbols, text_cleaner, use_phonemes, phonemizer, phoneme_language, .. } = config;
        let ids = PhonemeIds::blanks(symbols, config.bos, config.blank, config.eos);
        let language = phoneme_language.filter(|language| !language.is_empty());
        let phonemizer = phonemizer.filter(|name| !name.is_empty());
        let voice = match (use_phonemes, phonemizer.as_deref(), language.as_deref()) {
            (false, ..) => None,
            // These have phonemizers of their own unless another is named.
            (true, None, Some(language @ ("ja-jp" | "ko-kr" | "zh-cn" | "bn" | "be"))) => {
                let kind = Kind::Refused(format!("text in Coqui's phonemes of {language}"));
                return Ok(Self::new(kind, ids));
            }
            (true, None | Some("espeak"), Some(language)) => Some(language.to_owned()),
            (true, None | Some("espeak"), None) => {
                return Err(Error::Config(
                    "expected `phoneme_language`, as `use_phonemes` is set".to_owned(),
                ));
            }
            (true, Some(name), _) => {
                let kind = Kind::Refused(format!("text for the phonemizer {}", Shown(name)));
                return Ok(Self::new(kind, ids));
            }
        };
        let kind = match CoquiCleaner::by_name(text_cleaner.as_deref()) {
            Ok(cleaner) => Kind::Coqui { cleaner, language, voice },
            Err(_) => {
                Kind::Refused(format!("text for the cleaner {}", Shown(&text_cleaner.unwrap_or_default())))
            }
        };
        Ok(Self::new(kind, ids))
    }

    /// Whether a phoneme without an id is written as the voice writes the same sound (`ʤ` as `dʒ`); so it is unless
    /// this is called with `false`, as Piper leaves it out.
    #[must_use]
    pub fn near_phonemes(mut self, near: bool) -> Self {
        self.near = near;
        self
    }

    /// Lets a Piper voice read Arabic as it is written. Piper puts vowel signs to it first, which is not done here, so
    /// without this a text that has none is refused.
    #[must_use]
    pub fn arabic_as_written(mut self, as_written: bool) -> Self {
        self.arabic_as_written = as_written;
        self
    }

    /// Makes each text one sentence, as original VITS and transformers do. Piper voices do not change: their sentences
    /// are espeak-ng's.
    #[must_use]
    pub fn whole_texts(mut self, whole: bool) -> Self {
        self.whole_texts = whole;
        self
    }

    /// Makes the ids of a Hugging Face voice those of transformers. It cuts the text at the pad token, and in MMS that
    /// is the first letter of the vocab, so that words with this letter get fewer blanks than in training. Without
    /// this, ids are the training's. Other voices do not change.
    #[must_use]
    pub fn like_transformers(mut self, like: bool) -> Self {
        if let Kind::HuggingFace(config) = &mut self.kind {
            config.like_transformers = like;
        }
        self
    }

    /// The voice of espeak-ng that is needed, if one is.
    pub fn voice(&self) -> Option<&str> {
        match &self.kind {
            Kind::Piper { voice, .. } => Some(voice),
            Kind::Vits(VitsCleaner::English2) => Some(ENGLISH),
            Kind::HuggingFace(config) if config.phonemize => Some(ENGLISH),
            Kind::Coqui { voice, .. } => voice.as_deref(),
            _ => None,
        }
    }

    /// The ids of phonemes.
    pub fn ids(&self) -> &PhonemeIds {
        &self.ids
    }

    /// Cuts a stream of text into sentences for [`speak`](Self::speak).
    pub fn stream(&self) -> Sentences {
        let voice = match &self.kind {
            Kind::Piper { voice, .. } => voice,
            // Characters have no clause rules of their own. sentencex would know more abbreviations, but it wants the
            // whole text at once, and what a stream and a whole text give must be the same.
            _ => "",
        };
        let rules = Rules {
            blocks: self.voice().is_some(),
            abbreviations: matches!(self.kind, Kind::Vits(VitsCleaner::English2)),
        };
        Sentences::new(voice, rules)
    }

    /// The sentences of a text.
    ///
    /// # Errors
    /// When the voice's text is not read here, the text has a NUL, or the phonemizer fails.
    pub fn speak(&self, passage: &Passage, phonemizer: &mut dyn Phonemizer) -> Result<Vec<Sentence>, Error> {
        let text = &passage.text;
        if let Some(at) = text.find('\0') {
            return Err(Error::Text(format!("the text has a NUL character at byte {at}")));
        }
        let drafts = match &self.kind {
            Kind::Refused(what) => return Err(Error::unsupported(what)),
            Kind::Pinyin => return Err(Error::unsupported("text of phoneme type `pinyin`")),
            Kind::Piper { voice, clusters } => {
                self.check_arabic(voice, text)?;
                piper::drafts(voice, clusters, passage, phonemizer)?
            }
            Kind::PiperText => {
                self.refuse_pronunciations(passage)?;
                let phonemes = text.nfd().map(String::from).collect();
                vec![Draft { text: text.clone(), phonemes, ..Draft::default() }]
            }
            Kind::HuggingFace(_) | Kind::Vits(_) | Kind::Coqui { .. } => {
                let mut stream = self.stream().whole_sentences();
                let sentences = if self.whole_texts {
                    vec![text.clone()]
                } else {
                    stream.push(text).into_iter().chain(stream.finish()).collect()
                };
                let mut at = 0;
                let mut drafts = Vec::new();
                for sentence in sentences {
                    let range = at..at + sentence.len();
                    at = range.end;
                    drafts.push(self.draft(passage, range, phonemizer)?);
                }
                drafts
            }
        };
        let mut marks = Marks::of(passage);
        let mut sentences = Vec::new();
        for draft in drafts {
            let text = draft.text.clone();
            let is_spoken = draft.phonemes.iter().any(|phoneme| !phoneme.is_empty());
            let mut sentence = is_spoken.then(|| Sentence { rate: passage.rate, ..self.sentence(draft) });
            marks.place(&text, sentence.as_mut());
            sentences.extend(sentence);
        }
        if let Some(last) = sentences.last_mut() {
            last.pause = passage.pause;
            marks.finish(last);
        } else if !passage.pause.is_zero() {
            // Nothing to say, and then silence.
            sentences.push(Sentence { pause: passage.pause, ..self.silence() });
        }
        Ok(sentences)
    }

    /// The sentence that is given as phonemes: IPA, or the characters of a voice that reads characters; for pinyin
    /// its initials, finals, tones and punctuation with white space between.
    pub fn phonemes(&self, phonemes: &str) -> Sentence {
        let tokens: Vec<String> = match &self.kind {
            Kind::Piper { clusters, .. } => {
                let mut tokens = phonemes.nfd().map(String::from).collect();
                join_clusters(&mut tokens, 0, clusters);
                tokens
            }
            Kind::PiperText => phonemes.nfd().map(String::from).collect(),
            Kind::Pinyin => phonemes.split_whitespace().map(str::to_owned).collect(),
            _ => phonemes.chars().map(String::from).collect(),
        };
        self.tokens(phonemes, tokens)
    }

    /// The sentence that is given as phonemes one by one; `text` is what they were made from.
    pub fn tokens(&self, text: &str, phonemes: Vec<String>) -> Sentence {
        self.sentence(Draft { text: text.to_owned(), phonemes, ..Draft::default() })
    }

    fn silence(&self) -> Sentence {
        let nothing = PhonemeIds::blanks([], None, None, None);
        Draft::default().sentence(&nothing, false)
    }

    fn sentence(&self, draft: Draft) -> Sentence {
        match &self.kind {
            Kind::HuggingFace(config) if config.like_transformers => {
                let encoded = huggingface::like_transformers(config, &draft.phonemes);
                draft.encoded(encoded)
            }
            _ => draft.sentence(&self.ids, self.near),
        }
    }

    /// A sentence of a family that puts punctuation back itself.
    fn draft(
        &self,
        passage: &Passage,
        range: Range<usize>,
        phonemizer: &mut dyn Phonemizer,
    ) -> Result<Draft, Error> {
        let mut clauses = Vec::new();
        let mut dropped = BTreeSet::new();
        let text = passage.text[range.clone()].to_owned();
        let mut all = String::new();
        let mut space = false;
        for (part, given) in self.parts(passage, range)? {
            let sounds = match given {
                Some(ipa) => {
                    clauses.push(SpokenClause {
                        text: part.to_owned(),
                        ipa: ipa.to_owned(),
                        mark: String::new(),
                    });
                    ipa.to_owned()
                }
                None => self.sounds(part, phonemizer, &mut clauses, &mut dropped)?,
            };
            space |= given.is_none() && part.starts_with(char::is_whitespace);
            if !sounds.is_empty() {
                if space && !all.is_empty() && !all.ends_with(' ') {
                    all.push(' ');
                }
                all.push_str(&sounds);
                space = false;
            }
            space |= given.is_none() && part.ends_with(char::is_whitespace);
        }
        let phonemes = all.chars().map(String::from).collect();
        Ok(Draft { text, phonemes, clauses, dropped })
    }

    /// Text, and parts of it with a pronunciation.
    fn parts<'a>(
        &self,
        passage: &'a Passage,
        range: Range<usize>,
    ) -> Result<Vec<(&'a str, Option<&'a str>)>, Error> {
        if self.voice().is_none() {
            self.refuse_pronunciations(passage)?;
            return Ok(vec![(&passage.text[range], None)]);
        }
        let mut parts = Vec::new();
        for (part, given) in passage.parts(range) {
            if given.is_some() {
                parts.push((part, given));
                continue;
            }
            for piece in piper::split(part) {
                match piece {
                    piper::Part::Text(range) if range.is_empty() => {}
                    piper::Part::Text(range) => parts.push((&part[range], None)),
                    piper::Part::Phonemes(content, whole) => {
                        parts.push((&part[whole], Some(part[content].trim())));
                    }
                }
            }
        }
        Ok(parts)
    }

    /// The symbols of a text without pronunciations.
    fn sounds(
        &self,
        text: &str,
        phonemizer: &mut dyn Phonemizer,
        clauses: &mut Vec<SpokenClause>,
        dropped: &mut BTreeSet<String>,
    ) -> Result<String, Error> {
        match &self.kind {
            Kind::HuggingFace(config) => {
                let mut prepared = huggingface::prepare(config, text)?;
                dropped.append(&mut prepared.dropped);
                if config.phonemize {
                    return vits::phonemizer_phonemes(ENGLISH, &prepared.text, phonemizer, clauses);
                }
                Ok(prepared.text)
            }
            Kind::Vits(cleaner) => {
                let clean = cleaner.clean(text);
                if *cleaner == VitsCleaner::English2 {
                    return vits::phonemizer_phonemes(ENGLISH, &clean, phonemizer, clauses);
                }
                Ok(collapse(&clean))
            }
            Kind::Coqui { cleaner, language, voice } => {
                let clean = cleaner.clean(text, language.as_deref());
                match voice {
                    Some(voice) => vits::coqui_phonemes(voice, &clean, phonemizer, clauses),
                    None => Ok(clean),
                }
            }
            Kind::Piper { .. } | Kind::PiperText | Kind::Pinyin | Kind::Refused(_) => Ok(text.to_owned()),
        }
    }

    fn refuse_pronunciations(&self, passage: &Passage) -> Result<(), Error> {
        let Some((range, _)) = passage.pronunciations.first() else { return Ok(()) };
        Err(Error::Unsupported {
            what: format!(
                "a pronunciation (of {}) for a voice that reads characters",
                Shown(&passage.text[range.clone()])
            ),
            instead: "write the word as it is to be read",
        })
    }

    /// Piper's Arabic voices are trained on text with vowel signs.
    fn check_arabic(&self, voice: &str, text: &str) -> Result<(), Error> {
        let is_arabic = |c: char| matches!(c, '\u{621}'..='\u{64a}');
        let is_sign = |c: char| matches!(c, '\u{64b}'..='\u{652}' | '\u{670}');
        if voice == "ar" && !self.arabic_as_written && text.contains(is_arabic) && !text.contains(is_sign) {
            return Err(Error::Unsupported {
                what: "Arabic text without vowel signs, which Piper puts in with `tashkeel`,".to_owned(),
                instead: "write the vowel signs, or give phonemes or ids instead of text",
            });
        }
        Ok(())
    }
}

/// Lists of phonemes that are one.
fn clusters(json: Option<&Value>) -> Result<Vec<Vec<String>>, Error> {
    match json {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(json) => serde_json::from_value(json.clone())
            .map_err(|error| Error::Config(format!("vowel_clusters: expected lists of phonemes: {error}"))),
    }
}

fn check_ids<'a>(name: &str, ids: impl IntoIterator<Item = &'a i64>) -> Result<(), Error> {
    match ids.into_iter().find(|id| **id < 0) {
        Some(id) => Err(Error::Config(format!("{FRONTEND_KEY}.{name}: expected ids from 0 on, found {id}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::GIVE_PHONEMES;
    use crate::phonemizer::Recorded;

    fn frontend(json: Value) -> Result<Frontend, Error> {
        Frontend::from_json(json.as_object().unwrap())
    }

    fn piper(kind: &str, voice: &str) -> Frontend {
        frontend(serde_json::json!({"phoneme_type": kind, "espeak": {"voice": voice},
            "phoneme_id_map": {"^": [1], "_": [0], "$": [2], "a": [3], " ": [4], "3": [5], ",": [6], ".": [7]}}))
        .unwrap()
    }

    #[test]
    fn what_is_not_read_is_refused_by_name_and_takes_phonemes() {
        for kind in ["hebrew", "japanese", "thai", "pinyin"] {
            let frontend = piper(kind, "xx");
            let error = frontend.speak(&"a".into(), &mut Recorded::default()).unwrap_err().to_string();
            assert!(error.contains(kind) && error.contains(GIVE_PHONEMES), "{error}");
            assert!(frontend.phonemes("a").ids.contains(&3));
        }
        assert_eq!(piper("pinyin", "cmn").phonemes("a 3").ids, [1, 3, 5, 0, 2]);
        let config =
            VitsConfig { text_cleaners: vec!["korean_cleaners".into()], add_blank: false, symbols: None };
        let frontend = Frontend::from_config(FrontendConfig::Vits(config)).unwrap();
        let error = frontend.speak(&"a".into(), &mut Recorded::default()).unwrap_err().to_string();
        assert!(error.contains("korean_cleaners"), "{error}");
        assert_eq!(frontend.phonemes("a").ids, [43]);
        for phonemizer in ["gruut", "multi_phonemizer"] {
            let config = CoquiConfig {
                use_phonemes: true,
                phonemizer: Some(phonemizer.to_owned()),
                phoneme_language: Some("de".to_owned()),
                ..CoquiConfig::default()
            };
            let frontend = Frontend::from_config(FrontendConfig::Coqui(config)).unwrap();
            let error = frontend.speak(&"a".into(), &mut Recorded::default()).unwrap_err().to_string();
            assert!(error.contains(phonemizer), "{error}");
        }
    }

    #[test]
    fn arabic_needs_vowel_signs() {
        let frontend = piper("espeak", "ar");
        let error = frontend.speak(&"مرحبا".into(), &mut Recorded::default()).unwrap_err().to_string();
        assert!(error.contains("tashkeel"), "{error}");
        let mut recorded = Recorded::default();
        recorded.insert("ar", "مرحبا", "a");
        recorded.insert("ar", "مَرحبا", "a");
        assert_eq!(frontend.speak(&"مَرحبا".into(), &mut recorded).unwrap().len(), 1);
        assert_eq!(frontend.arabic_as_written(true).speak(&"مرحبا".into(), &mut recorded).unwrap().len(), 1);
    }

    #[test]
    fn a_config_that_lacks_something_says_so() {
        let error = |json| frontend(json).unwrap_err().to_string();
        assert!(error(serde_json::json!({})).contains("`phoneme_id_map`"));
        let ids = serde_json::json!({"^": [1], "_": [0], "$": [2]});
        assert!(error(serde_json::json!({"phoneme_id_map": ids})).contains("`espeak.voice`"));
        assert!(
            error(serde_json::json!({"phoneme_id_map": ids, "phoneme_type": "x\n"}))
                .contains(r#"found "x\n""#)
        );
        assert!(
            error(serde_json::json!({"frontend": {"family": "x"}})).contains("frontend: unknown variant")
        );
        let clusters = serde_json::json!(
            {"phoneme_id_map": ids, "espeak": {"voice": "en"}, "vowel_clusters": ["x"]});
        assert!(error(clusters).contains("vowel_clusters"));
    }

    #[test]
    fn a_given_pronunciation_leaves_the_clause_as_it_is() {
        let mut recorded = Recorded::default();
        recorded.insert("en", "I like ", "aa");
        let frontend = piper("espeak", "en");
        let passage =
            Passage { pronunciations: vec![(7..10, "a3".into())], ..Passage::from("I like Xyz, a.") };
        recorded.insert("en", "a.", "a");
        let sentences = frontend.speak(&passage, &mut recorded).unwrap();
        assert_eq!(sentences.len(), 1);
        assert_eq!(sentences[0].phonemes.concat(), "aa a3, a.");
        assert_eq!(sentences[0].clauses[0].mark, ",");

        let text = piper("text", "en");
        let error = text.speak(&passage, &mut recorded).unwrap_err().to_string();
        assert!(error.contains("a pronunciation (of \"Xyz\")"), "{error}");
    }

    #[test]
    fn marks_stand_before_their_words() {
        let mut recorded = Recorded::default();
        let text = "One two. ... Three four.";
        for clause in crate::clauses::clauses("en", text) {
            let words = clause.text.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric));
            let ipa: Vec<&str> = words.map(|_| "a").collect();
            recorded.insert("en", &clause.text, &ipa.join(" "));
        }
        let places = ["One", "two", " ...", "four", ""];
        let marks = places.iter().map(|rest| (text.find(rest).filter(|_| !rest.is_empty()), *rest));
        let marks = marks.map(|(at, name)| (at.unwrap_or(text.len()), name.to_owned())).collect();
        let passage = Passage { marks, ..Passage::from(text) };
        let sentences = piper("espeak", "en").speak(&passage, &mut recorded).unwrap();
        let found: Vec<Vec<(&str, usize)>> = sentences
            .iter()
            .map(|sentence| sentence.marks.iter().map(|mark| (&*mark.name, mark.word)).collect())
            .collect();
        assert_eq!(found, [vec![("One", 0), ("two", 1)], vec![(" ...", 0), ("four", 1), ("", 2)]]);
    }

    #[test]
    fn texts_with_nothing_to_say_are_no_sentences() {
        let mut recorded = Recorded::default();
        for text in [" ", "\n\n", "...", "。", "\u{200f}\u{202e}"] {
            for clause in crate::clauses::clauses("en", text) {
                recorded.insert("en", &clause.text, "");
            }
            assert_eq!(piper("espeak", "en").speak(&text.into(), &mut recorded).unwrap(), []);
        }
        assert_eq!(piper("espeak", "en").speak(&"".into(), &mut recorded).unwrap(), []);
        let error = piper("text", "en").speak(&"a\0".into(), &mut recorded).unwrap_err().to_string();
        assert!(error.contains("NUL character at byte 1"), "{error}");
        let pause = Passage { pause: Duration::from_secs(1), ..Passage::default() };
        let silence = piper("espeak", "en").speak(&pause, &mut recorded).unwrap();
        assert_eq!((silence.len(), silence[0].ids.len(), silence[0].pause.as_secs()), (1, 0, 1));
    }
}
