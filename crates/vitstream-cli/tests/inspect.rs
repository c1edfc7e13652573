//! `vitstream inspect`: its output for checkpoints and graphs.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value as Json, json};
use vitstream::export::{ExportOptions, Layout, export};
use vitstream::inspect::{CheckpointInspection, Inspection, inspect};
use vitstream::source::ReadOptions;
use vitstream_testing::golden;
use vitstream_testing::state_dict::StateDict;

fn run(args: &[&str], file: &Path) -> Vec<u8> {
    let done = Command::new(env!("CARGO_BIN_EXE_vitstream")).arg("inspect").args(args).arg(file).assert();
    done.success().get_output().stdout.clone()
}

fn json_of(args: &[&str], file: &Path) -> Json {
    serde_json::from_slice(&run(&[&["--json"], args].concat(), file)).unwrap()
}

fn text_of(args: &[&str], file: &Path) -> String {
    String::from_utf8(run(args, file)).unwrap()
}

#[track_caller]
fn checkpoint(file: &Path) -> CheckpointInspection {
    match inspect(file, &ReadOptions::default()).unwrap() {
        Inspection::Checkpoint(checkpoint) => *checkpoint,
        Inspection::Graph(_) => panic!("{} is no checkpoint", file.display()),
    }
}

#[test]
fn a_checkpoint_is_described() {
    let found = checkpoint(&golden("multi.ckpt"));
    assert_eq!((found.hop_length, found.receptive_field, found.problem.as_deref()), (256, Some(43), None));
    assert_eq!(found.parts.keys().collect::<Vec<_>>(), ["dec", "dp", "emb_g", "enc_p", "flow"]);
    let state = StateDict::open(&golden("multi.ckpt"));
    let of = |prefix: &str| {
        let own: Vec<_> = state.entries.iter().filter(|entry| entry.key.starts_with(prefix)).collect();
        (own.len(), own.iter().map(|entry| entry.values.len() as u64).sum::<u64>())
    };
    for part in ["dec", "emb_g", "enc_p", "flow"] {
        let size = found.parts[part];
        assert_eq!((size.tensors, size.parameters), of(&format!("model_g.{part}.")), "{part}");
        assert_eq!(size.bytes, size.parameters * 4, "{part}");
    }
    let left: usize = found.unneeded.values().map(|size| size.tensors).sum();
    let used: usize = found.parts.values().map(|size| size.tensors).sum();
    assert_eq!(left + used, state.entries.len());
    let discriminator = found.unneeded.iter().find(|(reason, _)| reason.contains("discriminator")).unwrap();
    assert_eq!(discriminator.1.tensors, of("model_d.").0);
    let mut listed: Vec<&str> = found.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    listed.sort_unstable();
    let mut keys: Vec<&str> = state.entries.iter().map(|entry| entry.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(listed, keys);
}

#[test]
fn json_says_what_the_library_says() {
    for name in ["multi.ckpt", "high.ckpt", "textual.ckpt", "legacy-single.ckpt", "multi-nosdp.ckpt"] {
        let file = golden(name);
        let library = serde_json::to_string(&inspect(&file, &ReadOptions::default()).unwrap()).unwrap();
        let library: Json = serde_json::from_str(&library).unwrap();
        assert!(json_of(&["--tensors"], &file) == library, "{name}");
        let mut short = library;
        short["tensors"] = json!([]);
        assert_eq!(json_of(&[], &file), short, "{name}");
        assert_eq!(short["kind"], "checkpoint");
    }
    let textual = json_of(&[], &golden("textual.ckpt"));
    assert_eq!((&textual["hop_length"], &textual["hparams"]["n_heads"]), (&json!(32), &json!(4)));
}

#[test]
fn text_is_for_people() {
    let text = text_of(&[], &golden("multi.ckpt"));
    for part in [
        "multi.ckpt: Piper checkpoint",
        "num_speakers",
        "256 samples",
        "layer_norm_eps             0.00001\n",
        "43 frames on each side",
        "enc_p",
        "discriminator (training only)",
        "an export would write encoder.onnx, decoder.onnx and decoder.stream.onnx",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
    let tensor = "model_g.dec.conv_pre.weight float32";
    assert!(!text.contains(tensor));
    assert!(text_of(&["--tensors"], &golden("multi.ckpt")).contains(tensor));
}

#[test]
fn an_exported_graph_is_described() {
    let directory = tempfile::tempdir().unwrap();
    let summary = export(golden("multi.ckpt"), directory.path(), &ExportOptions::default()).unwrap();
    let encoder = directory.path().join("encoder.onnx");
    let found = json_of(&[], &encoder);
    assert_eq!((&found["kind"], &found["opset"]), (&json!("graph"), &json!(15)));
    assert_eq!(found["metadata"]["pair_id"], json!(summary.pair_id));
    assert_eq!(
        found["inputs"],
        json!([
            {"name": "input", "dtype": "int64", "shape": ["batch_size", "phonemes"]},
            {"name": "input_lengths", "dtype": "int64", "shape": ["batch_size"]},
            {"name": "scales", "dtype": "float32", "shape": ["3"]},
            {"name": "sid", "dtype": "int64", "shape": ["batch_size"]},
        ])
    );
    assert_eq!(found["operators"]["RandomNormalLike"], 2);
    assert!(found["weights"]["tensors"].as_u64() > Some(100));
    assert_eq!(found["tensors"], json!([]));
    let listed = json_of(&["--tensors"], &encoder);
    let names: Vec<&str> =
        listed["tensors"].as_array().unwrap().iter().filter_map(|tensor| tensor["name"].as_str()).collect();
    assert!(names.contains(&"emb_g.weight"), "{names:?}");

    let text = text_of(&[], &directory.path().join("decoder.onnx"));
    for part in ["an ONNX graph, opset 15", "y_mask", "[batch_size, 1, samples]", "Conv", "receptive_field"] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// A file that cannot be exported can still be inspected, which shows the reason.
#[test]
fn a_checkpoint_that_does_not_fit_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("voice.ckpt");
    let mut state = StateDict::open(&golden("textual.ckpt"));
    state.remove("model_g.dec.conv_post.weight");
    fs::write(&file, state.write()).unwrap();
    let found = checkpoint(&file);
    assert_eq!(found.receptive_field, None);
    assert!(found.problem.unwrap().contains("dec.conv_post.weight: missing"));
    let text = text_of(&[], &file);
    assert!(text.contains("cannot be exported") && text.contains("dec.conv_post.weight: missing"), "{text}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("some.file");
    let refused = |file: &Path| {
        let done = Command::new(env!("CARGO_BIN_EXE_vitstream")).arg("inspect").arg(file).assert().failure();
        let output = done.get_output();
        assert!(output.stdout.is_empty());
        String::from_utf8(output.stderr.clone()).unwrap()
    };
    let missing = refused(&file);
    assert!(missing.contains("some.file"), "{missing}");
    for bytes in
        [&b""[..], b"\x08", b"\x08\x08", b"\x08\x08\xff\xff\xff\xff", b"Hello.", b"PK\x03\x04", &[0; 64]]
    {
        fs::write(&file, bytes).unwrap();
        let text = refused(&file);
        assert!(text.starts_with("error: ") && text.contains("some.file"), "{bytes:?}: {text}");
    }
    assert!(refused(directory.path()).contains("a directory"));
}

#[test]
fn truncated_graphs_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    export(golden("textual.ckpt"), directory.path(), &ExportOptions::default()).unwrap();
    let bytes = fs::read(directory.path().join("encoder.onnx")).unwrap();
    let file = directory.path().join("cut.onnx");
    for i in 1..40 {
        fs::write(&file, &bytes[..bytes.len() * i / 40]).unwrap();
        let error = inspect(&file, &ReadOptions::default()).expect_err("inspected");
        assert!(error.to_string().contains("cut.onnx"), "{error}");
    }
}

#[test]
fn the_voice_of_a_graph_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (pair, single) = (directory.path().join("pair"), directory.path().join("single"));
    export(golden("multi.ckpt"), &pair, &ExportOptions::default()).unwrap();
    let whole = ExportOptions::new().layout(Layout::Single);
    export(golden("multi.ckpt"), &single, &whole).unwrap();
    for (file, part, streaming) in [
        (pair.join("encoder.onnx"), "encoder", true),
        (pair.join("decoder.onnx"), "decoder", true),
        (pair.join("decoder.stream.onnx"), "stream_decoder", true),
        (single.join("voice.onnx"), "whole", false),
    ] {
        let voice = json_of(&[], &file)["voice"].clone();
        assert_eq!((&voice["part"], &voice["streaming"]), (&json!(part), &json!(streaming)));
        assert_eq!((&voice["speakers"], &voice["exportable"]), (&json!(3), &json!(true)), "{voice}");
        assert_eq!(voice["hparams"]["hidden_channels"], 16);
        let text = text_of(&[], &file);
        assert!(text.contains("\n  speakers                   3\n"), "{text}");
    }
    // One file of a pair without the other.
    fs::remove_file(pair.join("decoder.onnx")).unwrap();
    let found = json_of(&[], &pair.join("encoder.onnx"));
    assert_eq!((&found["voice"]["exportable"], &found["problem"]), (&json!(false), &Json::Null));
    assert!(found["voice"]["problem"].as_str().unwrap().contains("no decoder.onnx next to it"), "{found}");
    assert!(text_of(&[], &pair.join("encoder.onnx")).contains("cannot be exported: "));
}

/// Asserts that the output has names and values, and no JSON punctuation.
#[test]
fn the_table_is_a_table() {
    for name in ["multi.ckpt", "multi-nosdp.ckpt", "textual.ckpt"] {
        let text = text_of(&[], &golden(name));
        let (table, _) = text.split_once("used by an export").unwrap();
        assert!(!table.contains(['{', '}', '"', '[', ']']), "{table}");
        assert!(table.contains("duration.kernel_size"), "{table}");
    }
    let text = text_of(&[], &golden("multi.ckpt"));
    assert!(text.contains("  duration                   stochastic\n"), "{text}");
    assert!(text.contains("  upsample_rates             8, 8, 4\n"), "{text}");
}

/// Each name in the output occurs in the documents.
#[test]
fn names_in_json_are_documented() {
    fn names(value: &Json, found: &mut Vec<String>) {
        match value {
            Json::Object(map) => {
                for (name, value) in map {
                    found.push(name.clone());
                    // These names come from the file.
                    let free = ["operators", "metadata", "parts", "unneeded"].contains(&name.as_str());
                    match free {
                        true => map_values(value).for_each(|value| names(value, found)),
                        false => names(value, found),
                    }
                }
            }
            Json::Array(values) => values.iter().for_each(|value| names(value, found)),
            _ => {}
        }
    }
    fn map_values(value: &Json) -> impl Iterator<Item = &Json> {
        value.as_object().into_iter().flat_map(|map| map.values())
    }
    let documents =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/inspect.md")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    export(golden("multi.ckpt"), directory.path(), &ExportOptions::default()).unwrap();
    let mut found = Vec::new();
    for file in [golden("multi.ckpt"), golden("multi-nosdp.ckpt"), directory.path().join("encoder.onnx")] {
        names(&json_of(&["--tensors"], &file), &mut found);
    }
    assert!(found.len() > 1000);
    found.sort_unstable();
    found.dedup();
    for name in found {
        assert!(documents.contains(&format!("`{name}`")), "`{name}` is not in docs/inspect.md");
    }
}
