//! `vitstream export`: its files, its output, and that it leaves nothing behind when it fails.

#[cfg(unix)]
#[path = "support/signals.rs"]
mod signals;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use assert_cmd::Command;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use vitstream::export::{ExportOptions, MAX_SEED, export};
use vitstream::inspect::{GraphInspection, Inspection, inspect};
use vitstream::source::ReadOptions;
use vitstream_checkpoint::Value;
use vitstream_export::Error;
use vitstream_testing::golden;
use vitstream_testing::state_dict::StateDict;
use vitstream_vits::NoiseSource;

const PAIR: [&str; 2] = ["decoder.onnx", "encoder.onnx"];
const ALL: [&str; 3] = ["decoder.onnx", "decoder.stream.onnx", "encoder.onnx"];

fn vitstream() -> Command {
    Command::new(env!("CARGO_BIN_EXE_vitstream"))
}

/// The names of the files in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn contents(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    names(directory).into_iter().map(|name| (name.clone(), fs::read(directory.join(name)).unwrap())).collect()
}

fn graph(path: &Path) -> GraphInspection {
    match inspect(path, &ReadOptions::default()).unwrap() {
        Inspection::Graph(graph) => graph,
        Inspection::Checkpoint(_) => panic!("{} is no graph", path.display()),
    }
}

/// A directory with a small checkpoint in it.
struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    /// A directory with the file `voice.ckpt` of the given bytes.
    fn with(bytes: impl AsRef<[u8]>) -> Self {
        let place = Self::new();
        place.write("voice.ckpt", bytes);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Exports `voice.ckpt`, which fails and leaves everything as it was.
    #[track_caller]
    fn refused(&self, options: &ExportOptions) -> String {
        let before = names(self.root.path());
        let error = export(self.path("voice.ckpt"), &self.path("out"), options).expect_err("exported");
        assert_eq!(names(self.root.path()), before, "something was left behind after: {error}");
        error.to_string()
    }

    /// Asserts that the error names the file and contains all of `parts`.
    #[track_caller]
    fn says(&self, parts: &[&str]) {
        let text = self.refused(&ExportOptions::default());
        for part in ["voice.ckpt"].iter().chain(parts) {
            assert!(text.contains(part), "`{part}` is not in: {text}");
        }
    }
}

/// The checkpoint `multi` without the weights that an export omits.
fn small() -> StateDict {
    let mut state = StateDict::open(&golden("multi.ckpt"));
    let unneeded = ["model_g.enc_q.", "model_g.dp.post_", "model_g.dp.flows.1.", "model_d."];
    state.entries.retain(|entry| !unneeded.iter().any(|prefix| entry.key.starts_with(prefix)));
    state
}

#[track_caller]
fn says(text: &[u8], part: &str) {
    let text = String::from_utf8_lossy(text);
    assert!(text.contains(part), "`{part}` is not in: {text}");
}

#[test]
fn a_pair_is_written_and_summed_up() {
    let place = Place::new();
    let out = place.path("a/b/voice");
    let done = vitstream().arg("export").arg(golden("multi.ckpt")).arg(&out).assert().success();
    assert_eq!(names(&out), ALL);
    for part in
        ["3", "22050 Hz", "256 samples", "43 frames", "encoder.onnx", "decoder.stream.onnx", "done in"]
    {
        says(&done.get_output().stdout, part);
    }
    assert!(done.get_output().stderr.is_empty());
    assert_eq!(graph(&out.join("encoder.onnx")).opset, 15);
}

#[test]
fn quiet_says_nothing_and_verbose_more() {
    let place = Place::new();
    let run = |flag: &str| {
        let done =
            vitstream().args(["export", flag]).arg(golden("multi.ckpt")).arg(place.path("out")).assert();
        done.success().get_output().clone()
    };
    let quiet = run("-q");
    assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty());
    for flag in ["-v", "--debug", "--verbose"] {
        let output = run(flag);
        says(&output.stderr, "posterior encoder (training only)");
        says(&output.stderr, "wrote encoder.onnx");
    }
}

#[test]
fn the_summary_is_json_when_asked() {
    let place = Place::new();
    let out = place.path("out");
    let done = vitstream().args(["export", "--json"]).arg(golden("high.ckpt")).arg(&out).assert().success();
    let summary: Json = serde_json::from_slice(&done.get_output().stdout).unwrap();
    assert_eq!(summary["input"], json!(golden("high.ckpt")));
    assert_eq!(summary["output"], json!(out));
    assert_eq!((&summary["speakers"], &summary["hop_length"]), (&json!(1), &json!(256)));
    assert_eq!((&summary["sample_rate"], &summary["receptive_field"]), (&json!(22050), &json!(45)));
    assert_eq!(summary["hparams"]["resblock"], "ResBlock1");
    assert_eq!(summary["hparams"]["upsample_rates"], json!([8, 8, 2, 2]));
    assert_eq!(summary["warnings"], json!([]));
    assert!(summary["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
    let files = summary["files"].as_array().unwrap();
    assert_eq!(files.len(), 3);
    for file in files {
        let path = out.join(file["name"].as_str().unwrap());
        assert_eq!(file["bytes"], json!(fs::metadata(&path).unwrap().len()));
        assert_eq!(file["nodes"], json!(graph(&path).nodes));
        assert_eq!(json!(graph(&path).metadata["pair_id"]), summary["pair_id"]);
    }
}

#[test]
fn options_reach_the_graphs() {
    let place = Place::new();
    let run = |args: &[&str]| {
        let out = place.path("out");
        vitstream().args(["export", "-q"]).args(args).arg(golden("multi.ckpt")).arg(&out).assert().success();
        out
    };
    for opset in ["15", "17", "18", "21"] {
        let out = run(&["--opset", opset]);
        for file in ALL {
            assert_eq!(graph(&out.join(file)).opset.to_string(), opset);
        }
    }
    let encoder = graph(&run(&["--noise", "input"]).join("encoder.onnx"));
    let names: Vec<&str> = encoder.inputs.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names, ["input", "input_lengths", "scales", "sid", "noise_dp", "noise_p"]);
    assert!(!encoder.operators.keys().any(|op| op.starts_with("Random")));

    let bytes = |args: &[&str]| fs::read(run(args).join("encoder.onnx")).unwrap();
    let (unseeded, seeded) = (bytes(&[]), bytes(&["--seed", "7"]));
    assert_ne!(unseeded, seeded);
    assert_eq!(seeded, bytes(&["--seed", "7"]));
    assert_ne!(seeded, bytes(&["--seed", "8"]));

    // A stream decoder that does not belong to the new pair is removed.
    assert_eq!(self::names(&run(&["--no-stream-decoder"])), PAIR);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let place = Place::new();
    for args in [
        &["--opset", "14"][..],
        &["--opset", "22"],
        &["--seed", "16777216"],
        &["--noise", "loud"],
        &["--seed", "1", "--noise", "input"],
        &["-q", "-v"],
        &["--frobnicate"],
    ] {
        let run =
            vitstream().arg("export").args(args).arg(golden("multi.ckpt")).arg(place.path("out")).assert();
        says(&run.failure().get_output().stderr, args[0].trim_start_matches('-'));
    }
    vitstream().args(["export", "only-one"]).assert().failure();
    assert!(names(place.root.path()).is_empty());

    let refused =
        |options| export(golden("multi.ckpt"), &place.path("out"), &options).unwrap_err().to_string();
    let opset = refused(ExportOptions::new().opset(14));
    assert!(opset.contains("opset 14") && opset.contains("15 to 21"), "{opset}");
    let noise = NoiseSource::Internal { seed: Some(MAX_SEED) };
    let seed = refused(ExportOptions::new().noise(noise));
    assert!(seed.contains("seed 16777216"), "{seed}");
    assert!(names(place.root.path()).is_empty());
}

#[test]
fn the_same_voice_gives_the_same_bytes() {
    let place = Place::new();
    for name in ["multi.ckpt", "textual.ckpt"] {
        let files = ["one", "two"].map(|out| {
            export(golden(name), &place.path(out), &ExportOptions::default()).unwrap();
            contents(&place.path(out))
        });
        assert!(files[0] == files[1], "{name}");
    }
}

#[test]
fn files_know_which_belong_together() {
    let place = Place::new();
    let ids: Vec<String> = ["multi.ckpt", "multi-nosdp.ckpt", "high.ckpt"]
        .into_iter()
        .map(|name| {
            let summary = export(golden(name), &place.path("out"), &ExportOptions::default()).unwrap();
            for file in ALL {
                assert_eq!(graph(&place.path("out").join(file)).metadata["pair_id"], summary.pair_id);
            }
            summary.pair_id
        })
        .collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
}

#[test]
fn files_say_what_clients_need() {
    let place = Place::new();
    export(golden("multi.ckpt"), &place.path("out"), &ExportOptions::default()).unwrap();
    for file in ALL {
        let metadata = graph(&place.path("out").join(file)).metadata;
        let said = [
            ("sample_rate", "22050"),
            ("n_speakers", "3"),
            ("hop_length", "256"),
            ("receptive_field", "43"),
            ("inter_channels", "16"),
            ("gin_channels", "8"),
            ("vitstream_version", env!("CARGO_PKG_VERSION")),
        ];
        for (key, value) in said {
            assert_eq!(metadata[key], value, "{file}: {key}");
        }
    }
    let stream = graph(&place.path("out/decoder.stream.onnx")).metadata;
    let states: Vec<Json> = serde_json::from_str(&stream["states"]).unwrap();
    assert!(!states.is_empty() && stream["look_ahead"].parse::<usize>().unwrap() >= 43);
}

/// A voice's JSON with fields unknown to vitstream, in an unusual order.
fn voice_json(num_symbols: u64, num_speakers: u64, sample_rate: u64) -> String {
    format!(
        r#"{{"zebra": [1, 2.5, null], "audio": {{"sample_rate": {sample_rate}, "quality": "medium"}},
        "num_symbols": {num_symbols}, "num_speakers": {num_speakers}, "speaker_id_map": {{"Zoë": 1, "anna": 0}},
        "phoneme_id_map": {{"ˈ": [20], "_": [0]}}, "streaming": false, "aardvark": {{"deep": true}}}}"#
    )
}

#[test]
fn the_voices_json_is_passed_on() {
    let json = voice_json(256, 3, 22_050);
    let symbols = StateDict::open(&golden("multi.ckpt")).get("model_g.enc_p.emb.weight").dims[0] as u64;
    let json = json.replace("256", &symbols.to_string());
    // In each of the places where it may be; the caller's choice comes first.
    for name in ["voice.ckpt.json", "voice.onnx.json", "voice.json", "config.json", "elsewhere.txt"] {
        let place = Place::with(fs::read(golden("multi.ckpt")).unwrap());
        place.write(name, &json);
        let mut command = vitstream();
        command.args(["export", "--json"]).arg(place.path("voice.ckpt")).arg(place.path("out"));
        if name == "elsewhere.txt" {
            place.write("config.json", "{\"not\": \"this\"}");
            command.arg("--config").arg(place.path(name));
        }
        let done = command.assert().success();
        let summary: Json = serde_json::from_slice(&done.get_output().stdout).unwrap();
        assert_eq!(summary["warnings"], json!([]), "{name}");
        assert_eq!(summary["files"].as_array().unwrap().last().unwrap()["name"], "config.json");

        let written = fs::read_to_string(place.path("out/config.json")).unwrap();
        let mut expected: Json = serde_json::from_str(&json).unwrap();
        expected["streaming"] = json!(true);
        let found: Json = serde_json::from_str(&written).unwrap();
        assert_eq!(found, expected, "{name}");
        let keys = |json: &Json| -> Vec<String> { json.as_object().unwrap().keys().cloned().collect() };
        assert_eq!(keys(&found), keys(&expected), "{name}");
        assert_eq!(keys(&found["speaker_id_map"]), ["Zoë", "anna"], "{name}");
    }
}

#[test]
fn no_json_is_no_problem_and_several_are_a_warning() {
    let place = Place::with(fs::read(golden("multi.ckpt")).unwrap());
    export(place.path("voice.ckpt"), &place.path("out"), &ExportOptions::default()).unwrap();
    assert_eq!(names(&place.path("out")), ALL);
    place.write("a.onnx.json", voice_json(1, 1, 1));
    place.write("b.onnx.json", voice_json(1, 1, 1));
    let done =
        vitstream().arg("export").arg(place.path("voice.ckpt")).arg(place.path("out")).assert().success();
    // They can be those of other voices.
    says(&done.get_output().stderr, "a.onnx.json, b.onnx.json may belong to another voice");
    says(&done.get_output().stdout, "voice JSON       none");
    assert_eq!(names(&place.path("out")), ALL);
}

#[test]
fn a_json_of_another_voice_is_a_warning() {
    let place = Place::with(fs::read(golden("multi.ckpt")).unwrap());
    place.write("voice.ckpt.json", voice_json(7, 5, 16_000));
    let done =
        vitstream().arg("export").arg(place.path("voice.ckpt")).arg(place.path("out")).assert().success();
    for part in
        ["voice.ckpt.json", "num_symbols is 7", "num_speakers is 5", "audio.sample_rate is 16000", "22050"]
    {
        says(&done.get_output().stderr, part);
    }
    let summary = export(place.path("voice.ckpt"), &place.path("out"), &ExportOptions::default()).unwrap();
    assert_eq!(summary.warnings.len(), 3, "{:?}", summary.warnings);
    assert_eq!(summary.sample_rate, Some(22_050), "the checkpoint knows better");
}

#[test]
fn a_json_that_is_none_is_refused() {
    for (text, part) in [("{", "not valid JSON"), ("[]", "expected a JSON object"), ("", "not valid JSON")] {
        let place = Place::with(fs::read(golden("multi.ckpt")).unwrap());
        place.write("voice.ckpt.json", text);
        place.says(&["voice.ckpt.json", part]);
    }
    let place = Place::with(fs::read(golden("multi.ckpt")).unwrap());
    let options = ExportOptions::new().read(ReadOptions::new().config(place.path("missing.json")));
    assert!(place.refused(&options).contains("missing.json"));
    let options = ExportOptions::new().read(ReadOptions::new().config(place.root.path()));
    place.refused(&options);
}

#[test]
fn files_that_are_no_checkpoints_are_named() {
    let onnx = {
        let place = Place::new();
        export(golden("textual.ckpt"), &place.path("out"), &ExportOptions::default()).unwrap();
        fs::read(place.path("out/encoder.onnx")).unwrap()
    };
    let safetensors = fs::read(golden("families/hf/model.safetensors")).unwrap();
    Place::with("").says(&["empty"]);
    Place::with("Hello.").says(&["text"]);
    Place::with("<!DOCTYPE html><html>").says(&["HTML"]);
    Place::with("{\"model\": 1}").says(&["JSON"]);
    Place::with([0x80, 2, b'N', b'.']).says(&["pickle"]);
    Place::with([0u8; 4096]).says(&["zeros"]);
    Place::with(b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0").says(&[]);
    // Other formats of voices: under the name of a checkpoint they are refused.
    for other in [onnx, safetensors] {
        Place::with(other).says(&[]);
    }
    let place = Place::new();
    place.says(&[]);
    fs::create_dir(place.path("voice.ckpt")).unwrap();
    place.says(&["a directory"]);
}

#[test]
fn truncated_checkpoints_are_refused() {
    let whole = small().write();
    let cuts = (0..60).map(|i| whole.len() * i / 60).chain((1..24).map(|i| whole.len() - i));
    for cut in cuts {
        Place::with(&whole[..cut]).says(&[]);
    }
    let real = fs::read(golden("textual.ckpt")).unwrap();
    for i in 0..20 {
        Place::with(&real[..real.len() * i / 20]).says(&[]);
    }
}

/// Inserts a call in place of the value after a text in the pickle.
fn call_after(pickle: &mut Vec<u8>, text: &str, command: &str) {
    let marked = [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let at = pickle.windows(marked.len()).position(|window| window == marked).unwrap() + marked.len();
    let mut call = b"cos\nsystem\n(X".to_vec();
    call.extend((command.len() as u32).to_le_bytes());
    call.extend(command.as_bytes());
    // Either the call's result is discarded and the original value follows, or the result replaces the value.
    call.extend(b"tR0");
    pickle.splice(at..at, call);
}

#[test]
fn nothing_in_a_checkpoint_is_executed() {
    let place = Place::new();
    let marker = place.root.path().join("executed");
    let command = format!("touch {}", marker.display());
    for text in ["hyper_parameters", "model_g.dec.conv_pre.bias", "state_dict", "num_symbols"] {
        place.write("voice.ckpt", small().write_with(|pickle| call_after(pickle, text, &command)));
        let result = export(place.path("voice.ckpt"), &place.path("out"), &ExportOptions::default());
        assert!(!marker.exists(), "{text}: executed");
        // Whether the file is refused or, because the result of the call is not needed, exported: the call is
        // not run.
        assert_eq!(result.is_ok(), place.path("out").exists(), "{text}");
        let _ = fs::remove_dir_all(place.path("out"));
    }
    // If its result is needed, the error names the function.
    let mut state = small();
    state.set("hidden_channels", None);
    let call = |pickle: &mut Vec<u8>| {
        let marked = b"X\x10\0\0\0hyper_parameters";
        let at = pickle.windows(marked.len()).position(|window| window == marked).unwrap() + marked.len();
        let mut call = b"cos\nsystem\n(X".to_vec();
        call.extend((command.len() as u32).to_le_bytes());
        call.extend(command.as_bytes());
        call.extend(b"tRs.");
        pickle.splice(at.., call);
    };
    place.write("voice.ckpt", state.write_with(call));
    place.says(&["os.system"]);
    assert!(!marker.exists());
}

#[test]
fn tensors_larger_than_their_storage_are_refused() {
    // A storage's claimed number of elements, and a tensor's size, as stored in the pickle: an integer of
    // eight bytes.
    let claim = |from: i64, to: i64| {
        move |pickle: &mut Vec<u8>| {
            let number = |n: i64| [&b"\x8a\x08"[..], &n.to_le_bytes()].concat();
            let (from, to) = (number(from), number(to));
            let mut at = 0;
            while let Some(found) = pickle[at..].windows(10).position(|window| window == from) {
                pickle[at + found..at + found + 10].copy_from_slice(&to);
                at += found + 10;
            }
        }
    };
    let elements = {
        let mut state = small();
        state.get("model_g.dec.conv_pre.weight").values.len() as i64
    };
    for claimed in [elements + 1, 1 << 40, 1 << 60] {
        Place::with(small().write_with(claim(elements, claimed))).says(&["dec.conv_pre.weight", "bytes"]);
    }
    Place::with(small().write_with(claim(elements, i64::MAX))).says(&["dec.conv_pre.weight"]);
    // Every axis of 16 channels becomes one of exabytes.
    for claimed in [1 << 31, 1 << 60, i64::MAX, -1] {
        Place::with(small().write_with(claim(16, claimed))).says(&[]);
    }
}

#[test]
fn what_does_not_fit_is_listed() {
    let mut state = small();
    state.remove("model_g.dec.conv_post.weight");
    state.insert("model_g.dec.conv_pots.weight", &[1, 2, 7], 0.0);
    state.get("model_g.enc_p.proj.bias").dims = vec![2, 16];
    Place::with(state.write()).says(&[
        "dec.conv_post.weight: missing (did you mean dec.conv_pots.weight?)",
        "enc_p.proj.bias: expected [32], found [2, 16]",
        "dec.conv_pots.weight: unexpected",
    ]);
    let mut state = small();
    state.set("hidden_channels", Some(Value::Int(32)));
    Place::with(state.write()).says(&["enc_p.encoder.norm_layers_1.0.gamma: expected [32], found [16]"]);
}

#[test]
fn hyper_parameters_that_make_no_sense_are_refused() {
    for (name, value, part) in [
        ("num_speakers", Value::Int(0), "expected 1 to"),
        ("n_layers", Value::Int(1 << 40), "expected 1 to"),
        ("upsample_rates", Value::Str("(8, 8".into()), "expected numbers"),
        ("resblock", Value::Str("7".into()), "expected 1 or 2"),
        ("n_heads", Value::Int(3), "do not divide"),
    ] {
        let mut state = small();
        state.set(name, Some(value));
        Place::with(state.write()).says(&[name, part]);
    }
    let mut state = small();
    state.hyper_parameters.clear();
    // Upstream's defaults are those of a larger network.
    Place::with(state.write()).says(&["expected"]);
}

#[test]
fn other_networks_are_refused_by_name() {
    let with = |key: &str| {
        let mut state = small();
        state.insert(key, &[1], 0.0);
        Place::with(state.write())
    };
    with("model_g.enc_p.bert_proj.weight").says(&["MeloTTS", "Bert-VITS2", "another network"]);
    with("model_g.dec.subband_conv_post.weight").says(&["piper-plus", "another network"]);
    let only = |key: &str| {
        let mut state = small();
        state.entries.clear();
        state.insert(key, &[1], 0.0);
        Place::with(state.write())
    };
    only("model_d.discriminators.0.convs.0.bias").says(&["discriminator"]);
    only("text_encoder.embed_tokens.weight").says(&["Hugging Face"]);
    only("waveform_decoder.conv_pre.weight").says(&["Coqui"]);
    only("conv1.weight").says(&["none of its keys are known"]);
}

#[test]
fn weights_that_are_no_numbers_are_refused_unless_allowed() {
    let mut state = small();
    state.get("model_g.dec.conv_pre.weight").values[0] = f32::NAN;
    state.get("model_g.flow.flows.0.pre.bias").values[0] = f32::NEG_INFINITY;
    let place = Place::with(state.write());
    let export = |allowed: &[&str]| {
        let mut command = vitstream();
        command.arg("export").args(allowed).arg(place.path("voice.ckpt")).arg(place.path("out"));
        command.assert()
    };
    let refused = export(&[]).failure();
    for part in ["voice.ckpt", "not finite", "dec.conv_pre.weight", "flow.flows.0.pre.bias"] {
        says(&refused.get_output().stderr, part);
    }
    assert!(!place.path("out").exists());
    let done = export(&["--allow-nan"]).success();
    for part in ["voice.ckpt", "not finite", "dec.conv_pre.weight", "flow.flows.0.pre.bias"] {
        says(&done.get_output().stderr, part);
    }
    assert_eq!(names(&place.path("out")), ALL);
}

#[test]
fn an_output_that_is_a_file_is_refused() {
    let place = Place::with(small().write());
    place.write("out", "mine");
    let error = place.refused(&ExportOptions::default());
    assert!(error.contains("out") && error.contains("expected a directory"), "{error}");
    assert_eq!(fs::read_to_string(place.path("out")).unwrap(), "mine");
    // A file in the middle of the path.
    let error =
        export(place.path("voice.ckpt"), &place.path("out/deeper"), &ExportOptions::default()).unwrap_err();
    assert!(error.to_string().contains("out"), "{error}");
    assert_eq!(names(place.root.path()), ["out", "voice.ckpt"]);
}

#[test]
fn the_input_is_not_overwritten() {
    let place = Place::new();
    let bytes = small().write();
    for name in ALL {
        fs::create_dir_all(place.path("out")).unwrap();
        let input = place.path("out").join(name);
        fs::write(&input, &bytes).unwrap();
        let error = export(&input, &place.path("out"), &ExportOptions::default()).unwrap_err();
        assert!(error.to_string().contains("is the input itself"), "{error}");
        assert_eq!(contents(&place.path("out")), BTreeMap::from([(name.to_owned(), bytes.clone())]));
        fs::remove_file(input).unwrap();
    }
    // A pair may be written next to its input.
    fs::write(place.path("out/voice.ckpt"), &bytes).unwrap();
    export(place.path("out/voice.ckpt"), &place.path("out"), &ExportOptions::default()).unwrap();
    assert_eq!(names(&place.path("out")), [&ALL[..], &["voice.ckpt"]].concat());
}

#[cfg(unix)]
#[test]
fn a_directory_that_cannot_be_written_to_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with(small().write());
    fs::create_dir(place.path("out")).unwrap();
    fs::set_permissions(place.path("out"), fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(place.path("out/probe"), "").is_ok() {
        println!("skipped: this user may write anywhere");
        return;
    }
    let error = place.refused(&ExportOptions::default());
    assert!(error.contains("out") && error.contains("ermission"), "{error}");
    assert!(names(&place.path("out")).is_empty());
}

/// A limit on the size of files replaces a full disk: the write fails midway.
#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_pair() {
    let place = Place::with(small().write());
    let export_within = |limit: &str| {
        let script = format!("ulimit -f {limit}; trap '' XFSZ; exec \"$0\" export -q voice.ckpt out");
        let arguments = ["-c", &script, env!("CARGO_BIN_EXE_vitstream")];
        Command::new("sh").args(arguments).current_dir(place.root.path()).assert()
    };
    let failed = export_within("100").failure();
    says(&failed.get_output().stderr, "encoder.onnx");
    assert_eq!(names(place.root.path()), ["voice.ckpt"]);

    export(golden("textual.ckpt"), &place.path("out"), &ExportOptions::default()).unwrap();
    let before = contents(&place.path("out"));
    export_within("100").failure();
    assert!(contents(&place.path("out")) == before, "the old pair has changed");
    export_within("unlimited").success();
    assert!(contents(&place.path("out")) != before);
}

#[test]
fn a_failure_leaves_the_old_pair() {
    let place = Place::with("no checkpoint");
    export(golden("textual.ckpt"), &place.path("out"), &ExportOptions::default()).unwrap();
    let before = contents(&place.path("out"));
    place.refused(&ExportOptions::default());
    assert!(contents(&place.path("out")) == before);
}

#[test]
fn a_cancelled_export_changes_nothing() {
    let place = Place::with(small().write());
    let cancel = Arc::new(AtomicBool::new(true));
    let options = ExportOptions::new().cancel(cancel);
    let error = export(place.path("voice.ckpt"), &place.path("a/b"), &options).unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    assert_eq!(names(place.root.path()), ["voice.ckpt"]);
}

/// Whenever Ctrl-C is pressed, the directory holds all files or none.
#[cfg(unix)]
#[test]
fn an_interrupted_export_leaves_all_or_nothing() {
    const TRIES: u32 = 24;
    let place = Place::with(small().write());
    let start = || {
        signals::interruptible()
            .args(["export", "-q", "voice.ckpt", "out"])
            .current_dir(place.root.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let began = Instant::now();
    assert!(start().wait().unwrap().success());
    let usual = began.elapsed();
    fs::remove_dir_all(place.path("out")).unwrap();

    let mut outcomes = [0, 0];
    for i in 0..TRIES {
        let mut child = start();
        // Spread over the duration of one export, and a little more.
        std::thread::sleep(usual * i / (TRIES - 4));
        let mut kill = std::process::Command::new("kill");
        kill.args(["-INT", &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
        let done = child.wait().unwrap().success();
        outcomes[usize::from(done)] += 1;
        if done {
            assert_eq!(names(&place.path("out")), ALL);
            fs::remove_dir_all(place.path("out")).unwrap();
        }
        assert_eq!(names(place.root.path()), ["voice.ckpt"], "interrupted at {i} of {TRIES}");
    }
    println!("interrupted, finished: {outcomes:?}");
}

/// Changes to bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Remove(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let at = any::<prop::sample::Index>;
        prop_oneof![
            4 => (at(), any::<u8>()).prop_map(|(at, byte)| Self::Set(at, byte)),
            1 => (at(), 1usize..40).prop_map(|(at, count)| Self::Remove(at, count)),
            1 => (at(), 1usize..200).prop_map(|(at, count)| Self::Repeat(at, count)),
            1 => (at(), prop::collection::vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Self::Insert(at, bytes)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Set(at, byte) => *at.get_mut(bytes) = *byte,
            Self::Remove(at, count) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Self::Repeat(at, count) => {
                let at = at.index(bytes.len());
                let again = bytes[at..(at + count).min(bytes.len())].to_vec();
                bytes.splice(at..at, again);
            }
            Self::Insert(at, new) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
}

/// Exports damaged checkpoints: the result is either an error that names the file and leaves no output, or a
/// complete pair.
#[test]
fn damaged_checkpoints_are_exported_or_refused() {
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let changes = (any::<bool>(), prop::collection::vec(Change::any(), 1..5));
    let state = small();
    let outcomes = std::cell::Cell::new([0; 2]);
    let run = runner.run(&changes, |(in_pickle, changes)| {
        let apply = |bytes: &mut Vec<u8>| changes.iter().for_each(|change| change.apply(bytes));
        let file = if in_pickle {
            state.write_with(apply)
        } else {
            let mut file = state.write();
            apply(&mut file);
            file
        };
        let place = Place::with(file);
        let result = export(place.path("voice.ckpt"), &place.path("out"), &ExportOptions::default());
        let mut counts = outcomes.get();
        counts[usize::from(result.is_ok())] += 1;
        outcomes.set(counts);
        match result {
            Ok(_) => prop_assert_eq!(names(&place.path("out")), ALL),
            Err(error) => {
                prop_assert!(!matches!(error, Error::Graph { .. } | Error::Interrupted), "{}", error);
                prop_assert!(error.to_string().contains("voice.ckpt"), "{}", error);
                prop_assert_eq!(names(place.root.path()), ["voice.ckpt"]);
            }
        }
        Ok(())
    });
    run.unwrap();
    println!("refused, exported: {:?}", outcomes.get());
}
