//! `vitstream export --package`: the result contains everything that the source of each client requires.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use vitstream::inspect::{GraphInspection, Inspection, PortInspection, inspect};
use vitstream::source::ReadOptions;
use vitstream_testing::golden;

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn ports(path: &Path) -> (Vec<String>, Vec<String>) {
    let Inspection::Graph(GraphInspection { inputs, outputs, .. }) =
        inspect(path, &ReadOptions::default()).unwrap()
    else {
        panic!("{} is no graph", path.display())
    };
    let names = |ports: Vec<PortInspection>| ports.into_iter().map(|port| port.name).collect();
    (names(inputs), names(outputs))
}

/// The JSON of a published voice.
fn voice_json() -> Json {
    json!({
        "audio": {"sample_rate": 22050, "quality": "x-low"},
        "espeak": {"voice": "en-us"},
        "inference": {"noise_scale": 0.5, "length_scale": 1, "noise_w": 0.75},
        "phoneme_type": "espeak",
        "phoneme_map": {},
        "phoneme_id_map": {"_": [0], "^": [1], "$": [2], " ": [3], "ə": [14], "ˈ": [20, 21]},
        "speaker_id_map": {},
        "piper_version": "1.0.0",
        "language": {"code": "en_GB", "family": "en", "name_native": "English"},
        "dataset": "some_one",
    })
}

/// A directory with a voice's JSON and the export of a golden checkpoint.
struct Place {
    root: TempDir,
    json: Json,
    checkpoint: &'static str,
}

impl Place {
    fn new(checkpoint: &'static str) -> Self {
        Self { root: tempfile::tempdir().unwrap(), json: voice_json(), checkpoint }
    }

    /// The JSON with the field at `pointer` changed or removed.
    fn with(mut self, pointer: &str, value: Option<Json>) -> Self {
        let (object, key) = pointer.rsplit_once('/').unwrap();
        let object = self.json.pointer_mut(object).unwrap().as_object_mut().unwrap();
        match value {
            Some(value) => object.insert(key.to_owned(), value),
            None => object.shift_remove(key),
        };
        self
    }

    fn out(&self) -> PathBuf {
        self.root.path().join("out")
    }

    fn command(&self, client: &str, args: &[&str]) -> Command {
        let config = self.root.path().join("voice.json");
        fs::write(&config, self.json.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
        command.args(["export", "--json", "--package", client]).arg(golden(self.checkpoint)).arg(self.out());
        command.arg("--config").arg(config).args(args);
        command
    }

    /// The summary of an export, run twice: the second run replaces the first one's files with the same
    /// bytes.
    #[track_caller]
    fn export(&self, client: &str, args: &[&str]) -> Json {
        let contents = || -> BTreeMap<String, Vec<u8>> {
            let read = |name: String| (name.clone(), fs::read(self.out().join(name)).unwrap());
            names(&self.out()).into_iter().map(read).collect()
        };
        self.command(client, args).assert().success();
        let first = contents();
        let done = self.command(client, args).assert().success();
        assert!(contents() == first, "the second run wrote something else");
        serde_json::from_slice(&done.get_output().stdout).unwrap()
    }

    /// Asserts that the export is refused with a message that contains all of `parts`, and writes nothing.
    #[track_caller]
    fn refused(&self, client: &str, args: &[&str], parts: &[&str]) {
        let done = self.command(client, args).assert().failure();
        let text = String::from_utf8_lossy(&done.get_output().stderr).into_owned();
        for part in parts {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
        assert!(!self.out().exists());
    }

    fn json(&self, name: &str) -> Json {
        serde_json::from_slice(&fs::read(self.out().join(name)).unwrap()).unwrap()
    }
}

/// The fields that sonata deserialises: if one is missing, has another type or a longer symbol, sonata does
/// not open the voice.
#[derive(Deserialize)]
#[allow(dead_code, reason = "that they are there is what counts")]
struct SonataJson {
    audio: SonataAudio,
    num_speakers: u32,
    speaker_id_map: HashMap<String, i64>,
    streaming: bool,
    espeak: HashMap<String, String>,
    inference: SonataInference,
    num_symbols: u32,
    phoneme_map: HashMap<i64, char>,
    phoneme_id_map: HashMap<char, Vec<i64>>,
    language: Option<SonataLanguage>,
}

#[derive(Deserialize)]
struct SonataAudio {
    sample_rate: u32,
}

#[derive(Deserialize)]
#[allow(dead_code, reason = "that they are there is what counts")]
struct SonataInference {
    noise_scale: f32,
    length_scale: f32,
    noise_w: f32,
}

#[derive(Deserialize)]
struct SonataLanguage {
    code: String,
}

fn check_sonata(json: &[u8], speakers: u32) {
    let json: SonataJson = serde_json::from_slice(json).unwrap();
    assert!(json.streaming);
    assert_eq!((json.audio.sample_rate, json.num_speakers), (22050, speakers));
    assert_eq!(json.espeak["voice"], "en-us");
    assert_eq!(json.inference.noise_w, 0.75);
    assert_eq!(json.language.unwrap().code, "en_GB");
    for mark in ['_', '^', '$'] {
        assert!(!json.phoneme_id_map[&mark].is_empty());
    }
    assert_eq!(json.speaker_id_map.len(), if speakers > 1 { speakers as usize } else { 0 });
}

#[test]
fn sonata_finds_its_files_and_fields() {
    // A JSON with only the required fields, and a phoneme_map that sonata would fail on, and never uses.
    let place = Place::new("multi.ckpt")
        .with("/speaker_id_map", None)
        .with("/phoneme_map", Some(json!({"ə": ["e"]})))
        .with("/phoneme_type", None);
    let summary = place.export("sonata", &[]);
    assert_eq!(names(&place.out()), ["config.json", "decoder.onnx", "encoder.onnx"]);
    check_sonata(&fs::read(place.out().join("config.json")).unwrap(), 3);
    assert_eq!(place.json("config.json")["speaker_id_map"], json!({"0": 0, "1": 1, "2": 2}));
    // Inputs by position, outputs by name.
    let (inputs, outputs) = ports(&place.out().join("encoder.onnx"));
    assert_eq!(inputs, ["input", "input_lengths", "scales", "sid"]);
    assert_eq!(outputs, ["z", "y_mask", "g"]);
    assert_eq!(ports(&place.out().join("decoder.onnx")).0, ["z", "y_mask", "g"]);
    assert!(summary["usage"].as_str().unwrap().contains("config.json"));
}

#[test]
fn sonata_says_what_it_lacks() {
    let place = || Place::new("legacy-single.ckpt");
    let lacks = |place: Place, parts: &[&str]| place.refused("sonata", &[], parts);
    lacks(place().with("/espeak", None), &["voice.json", "`espeak.voice`", "found nothing"]);
    lacks(
        place().with("/phoneme_id_map/ab", Some(json!([5]))),
        &["`phoneme_id_map.ab`", "single characters"],
    );
    lacks(place().with("/phoneme_id_map/^", Some(json!([]))), &["`phoneme_id_map.^`", "at least one id"]);
    lacks(place().with("/phoneme_id_map/$", None), &["`phoneme_id_map.$`", "found nothing"]);
    lacks(place().with("/phoneme_type", Some(json!("text"))), &["`phoneme_type`", "espeak", "\"text\""]);
    lacks(place().with("/language/code", None), &["`language.code`", "--language"]);
    lacks(place().with("/inference", Some(json!(3))), &["`inference.noise_scale`", "a number"]);
    let refused = |args: &[&str], parts: &[&str]| place().refused("sonata", args, parts);
    refused(&["--layout", "single"], &["--package sonata", "--layout single"]);
    refused(&["--noise", "input"], &["--package sonata", "--noise input"]);
    let bare = Command::new(env!("CARGO_BIN_EXE_vitstream"))
        .args(["export", "--package", "sonata"])
        .arg(golden("legacy-single.ckpt"))
        .arg(place().out())
        .assert()
        .failure();
    assert!(String::from_utf8_lossy(&bare.get_output().stderr).contains("--config"));
}

/// Names and contents in the archive's order, and the other fields of the headers.
fn members(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(path).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let (header, name) = (entry.header().clone(), entry.path().unwrap().to_str().unwrap().to_owned());
        assert!(header.entry_type().is_file(), "{name}");
        assert_eq!((header.mtime().unwrap(), header.mode().unwrap()), (0, 0o644), "{name}");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (name, content)
    });
    entries.collect()
}

#[test]
fn nvda_installs_the_archive() {
    let place = Place::new("legacy-single.ckpt");
    fs::write(place.root.path().join("MODEL_CARD"), "# someone\n").unwrap();
    place.export("nvda", &[]);
    // The add-on splits the name at its hyphens into three parts, and expects an underscore in the quality.
    let archive = "en_GB-some_one+RT-x_low.tar.gz";
    assert_eq!(names(&place.out()), [archive]);
    let members = members(&place.out().join(archive));
    let found: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    // In the root, with one JSON: that is the one that the add-on opens. With several graphs, the archive's
    // name is ignored.
    assert_eq!(found, ["config.json", "MODEL_CARD", "encoder.onnx", "decoder.onnx"]);
    check_sonata(&members[0].1, 1);
    assert_eq!(members[1].1, b"# someone\n");
    place.export("sonata", &[]);
    for (name, content) in &members[2..] {
        assert!(*content == fs::read(place.out().join(name)).unwrap(), "{name}");
    }
}

#[test]
fn nvda_names_come_from_flags_or_the_json() {
    let place = || Place::new("legacy-single.ckpt");
    let name = |place: Place, args: &[&str]| {
        place.export("nvda", args);
        let name = names(&place.out()).remove(0);
        (name.clone(), members(&place.out().join(name)).remove(0).1)
    };
    let bare = place().with("/language", None).with("/dataset", None).with("/audio/quality", None);
    let (found, json) = name(bare, &["--language", "de-DE", "--name", "eva", "--quality", "high"]);
    assert_eq!(found, "de_DE-eva+RT-high.tar.gz");
    let json: Json = serde_json::from_slice(&json).unwrap();
    assert_eq!(
        (&json["language"]["code"], &json["dataset"], &json["audio"]["quality"]),
        (&json!("de-DE"), &json!("eva"), &json!("high"))
    );
    assert_eq!(name(place(), &["--language", "sw", "--name", "lanfrica"]).0, "sw-lanfrica+RT-x_low.tar.gz");

    let lacks = |place: Place, args: &[&str], parts: &[&str]| place.refused("nvda", args, parts);
    lacks(place().with("/language", None), &[], &["`language.code`", "--language"]);
    lacks(place().with("/dataset", None), &[], &["`dataset`", "found nothing", "--name"]);
    lacks(place().with("/audio/quality", None), &[], &["`audio.quality`", "medium", "--quality"]);
    // Names that the add-on's pattern would not find in the archive's name, or would split wrongly.
    lacks(place(), &["--name", "mls_6892"], &["`dataset`", "letters", "--name"]);
    lacks(place(), &["--name", "a-b"], &["`dataset`", "--name"]);
    lacks(place(), &["--language", "es_419"], &["`language.code`", "letters"]);
    lacks(place(), &["--language", "en"], &["`language.code`", "country", "some_one"]);
    lacks(place(), &["--quality", "best"], &["`audio.quality`", "\"best\"", "x-low, low, medium, high"]);
}

#[test]
fn phoonnx_finds_the_decoder() {
    let place =
        Place::new("legacy-single.ckpt").with("/phoneme_type", None).with("/engine", Some(json!("vits")));
    place.export("phoonnx", &[]);
    assert_eq!(names(&place.out()), ["decoder.onnx", "encoder.onnx", "encoder.onnx.json"]);
    let json = place.json("encoder.onnx.json");
    // Both are needed, or it treats the voice as one graph. The name of another adapter would take
    // precedence.
    assert_eq!(json["streaming"], true);
    assert_eq!(json["engine_params"]["decoder_path"], "decoder.onnx");
    assert_eq!(json.get("engine"), None);
    assert_eq!(json["phoneme_type"], "espeak");
    assert!(json["phoneme_id_map"].as_object().unwrap().values().all(Json::is_array));
    assert_eq!(json["audio"]["sample_rate"], 22050);
    // Without these it would assume 256 and 32.
    assert_eq!(
        (&json["hop_length"], &json["engine_params"]["streaming"]["context_margin"]),
        (&json!(256), &json!(43))
    );
    let (inputs, outputs) = ports(&place.out().join("encoder.onnx"));
    assert_eq!(inputs, ["input", "input_lengths", "scales"]);
    assert_eq!(outputs, ["z", "y_mask"]);
    assert_eq!(ports(&place.out().join("decoder.onnx")).0, ["z", "y_mask"]);

    Place::new("multi.ckpt").refused("phoonnx", &[], &["multi.ckpt", "speaker", "3", "--layout single"]);
    let mute = Place::new("legacy-single.ckpt").with("/espeak", None).with("/language", None);
    mute.refused("phoonnx", &[], &["`language.code`", "--language"]);
}

#[test]
fn paroli_reads_the_json() {
    let place = Place::new("multi.ckpt").with("/speaker_id_map", Some(json!({"a": 0, "b": 1, "c": 2})));
    let summary = place.export("paroli", &[]);
    assert_eq!(names(&place.out()), ["config.json", "decoder.onnx", "encoder.onnx"]);
    let json = place.json("config.json");
    assert_eq!((&json["num_speakers"], &json["speaker_id_map"]["c"]), (&json!(3), &json!(2)));
    assert_eq!(json["audio"]["sample_rate"], 22050);
    assert_eq!(json["espeak"]["voice"], "en-us");
    let usage = summary["usage"].as_str().unwrap();
    for part in ["paroli-cli --encoder", "encoder.onnx --decoder", "decoder.onnx -c", "config.json"] {
        assert!(usage.contains(part), "{usage}");
    }
    // Every output is read as float32, including durations.
    place.export("paroli", &["--durations"]);
    assert_eq!(ports(&place.out().join("encoder.onnx")).1, ["z", "y_mask", "g", "durations"]);

    let place = || Place::new("legacy-single.ckpt");
    place().with("/phoneme_type", Some(json!("text"))).with("/espeak", None).export("paroli", &[]);
    let lacks = |place: Place, args: &[&str], parts: &[&str]| place.refused("paroli", args, parts);
    lacks(place().with("/espeak", None), &[], &["`espeak.voice`"]);
    lacks(place().with("/phoneme_id_map/ab", Some(json!([5]))), &[], &["`phoneme_id_map.ab`"]);
    lacks(
        place().with("/phoneme_map/a", Some(json!(["bc"]))),
        &[],
        &["`phoneme_map.a`", "single characters"],
    );
    lacks(place(), &["--opset", "19"], &["--package paroli", "18", "19"]);
    lacks(Place::new("textual.ckpt"), &[], &["textual.ckpt", "256 samples", "32"]);
}

#[test]
fn names_are_only_for_packages() {
    let place = Place::new("legacy-single.ckpt");
    let done = Command::new(env!("CARGO_BIN_EXE_vitstream"))
        .args(["export", "--name", "joe"])
        .arg(golden("legacy-single.ckpt"))
        .arg(place.out())
        .assert()
        .failure();
    assert!(String::from_utf8_lossy(&done.get_output().stderr).contains("--package"));
}
