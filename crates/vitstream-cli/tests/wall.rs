//! Graphs that crash the runtime: the program continues and names the graph.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use tempfile::TempDir;
use vitstream::export::{ExportOptions, export};
use vitstream::verify::{VerifyOptions, verify};
use vitstream_onnx::wire::{Fields, put, put_number, text};
use vitstream_onnx::{Graph, Tensor, decode, encode, validate};
use vitstream_synth::runtime::{self, GraphSource, RuntimeOptions, Tensor as Feed};
use vitstream_synth::{Chunking, Error, Runtime, Scales, SpeakOptions, Voice, VoiceOptions, Wall};
use vitstream_testing::golden;
use vitstream_vits::NoiseSource;

const QUIET: Scales = Scales { noise: 0.0, length: 1.0, noise_w: 0.0 };

fn exported(name: &str, options: &ExportOptions) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    export(golden(name), dir.path(), options).unwrap();
    dir
}

fn wall() -> Wall {
    Wall::new(env!("CARGO_BIN_EXE_vitstream"), ["graph-worker"])
}

fn options(wall: Option<Wall>) -> RuntimeOptions {
    RuntimeOptions::new(Runtime::Rten).wall(wall)
}

/// An ONNX file with one node, with the input `x` (float32) and the output `y`.
fn one_node(op: &str, attributes: &[(&str, &[i64])], constants: &[(&str, &[i64])]) -> Vec<u8> {
    let value = |name: &str, dtype: u64| {
        let (mut tensor, mut kind, mut info) = (Vec::new(), Vec::new(), Vec::new());
        put_number(&mut tensor, 1, dtype);
        put(&mut kind, 1, &tensor);
        put(&mut info, 1, name.as_bytes());
        put(&mut info, 2, &kind);
        info
    };
    let mut node = Vec::new();
    let inputs = ["x"].into_iter().chain(constants.iter().map(|(name, _)| *name));
    // Some operators take only a shape.
    let inputs: Vec<&str> = if op == "ConstantOfShape" { inputs.skip(1).collect() } else { inputs.collect() };
    inputs.iter().for_each(|name| put(&mut node, 1, name.as_bytes()));
    put(&mut node, 2, b"y");
    put(&mut node, 4, op.as_bytes());
    for (name, ints) in attributes {
        let mut attribute = Vec::new();
        put(&mut attribute, 1, name.as_bytes());
        ints.iter().for_each(|&int| put_number(&mut attribute, 8, int as u64));
        // INTS
        put_number(&mut attribute, 20, 7);
        put(&mut node, 5, &attribute);
    }
    let mut graph = Vec::new();
    put(&mut graph, 1, &node);
    put(&mut graph, 2, b"graph");
    for (name, ints) in constants {
        let mut tensor = Vec::new();
        put_number(&mut tensor, 1, ints.len() as u64);
        put_number(&mut tensor, 2, 7);
        put(&mut tensor, 8, name.as_bytes());
        put(&mut tensor, 9, &ints.iter().flat_map(|int| int.to_le_bytes()).collect::<Vec<_>>());
        put(&mut graph, 5, &tensor);
    }
    put(&mut graph, 11, &value("x", 1));
    put(&mut graph, 12, &value("y", 1));
    let (mut opset, mut model) = (Vec::new(), Vec::new());
    put_number(&mut opset, 2, 15);
    put_number(&mut model, 1, 8);
    put(&mut model, 7, &graph);
    put(&mut model, 8, &opset);
    model
}

/// Loads a graph and runs it on two by three numbers.
fn run(bytes: &[u8], wall: Option<Wall>) -> Result<Vec<f32>, Error> {
    let graph = GraphSource::Memory { name: "stranger.onnx".as_ref(), bytes: bytes.into() };
    let runner = runtime::load(graph, &options(wall))?;
    let feed = Feed::f32(&[2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    Ok(runner.run(&[("x", feed)], &["y"])?.remove(0).data)
}

#[test]
fn a_graph_behind_the_wall_gives_what_it_gives_before_it() {
    let transpose = one_node("Transpose", &[("perm", &[1, 0])], &[]);
    assert_eq!(run(&transpose, Some(wall())).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(run(&transpose, Some(wall())).unwrap(), run(&transpose, None).unwrap());
    let message = run(b"no graph", Some(wall())).unwrap_err().to_string();
    assert!(message.starts_with("stranger.onnx: rten cannot load it"), "{message}");
}

/// Whatever a graph does to its runtime, the result is an error with the file's name.
#[test]
fn crashes_are_errors() {
    let memory = one_node("ConstantOfShape", &[], &[("shape", &[1 << 15, 1 << 15, 1 << 8])]);
    let cases = [
        ("a permutation that is none", one_node("Transpose", &[("perm", &[7, 7])], &[])),
        ("more memory than there is", memory),
        ("pads of 2^30", one_node("Pad", &[], &[("pads", &[0, 1 << 30, 0, 1 << 30])])),
        ("an axis that is not there", one_node("Squeeze", &[], &[("axes", &[i64::MIN])])),
    ];
    for (what, bytes) in cases {
        let error = run(&bytes, Some(wall())).expect_err(what);
        let message = error.to_string();
        assert!(message.starts_with("stranger.onnx: "), "{what}: {message}");
        assert!(message.len() < 600 && !message.contains(char::is_control), "{what}: {message}");
        if what.contains("memory") {
            assert!(matches!(error, Error::Crashed { .. }), "{what}: {message}");
            assert!(message.contains("memory allocation"), "{what}: {message}");
        }
    }
}

/// A graph that crashes every process gives an error each time.
#[test]
fn a_crash_is_one_again() {
    let bytes = one_node("ConstantOfShape", &[], &[("shape", &[1 << 15, 1 << 15, 1 << 8])]);
    let graph = GraphSource::Memory { name: "stranger.onnx".as_ref(), bytes: bytes.into() };
    let Ok(runner) = runtime::load(graph, &options(Some(wall()))) else { return };
    for _ in 0..2 {
        let feed = Feed::f32(&[2, 3], vec![0.0; 6]);
        let message = runner.run(&[("x", feed)], &["y"]).expect_err("crashed").to_string();
        assert!(message.starts_with("stranger.onnx: rten "), "{message}");
    }
}

/// A process that ended fails only the call that it was computing, and the next call succeeds.
#[cfg(unix)]
#[test]
fn after_a_crash_a_new_process_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("number");
    let script =
        format!("echo $$ > '{}'; exec '{}' graph-worker", file.display(), env!("CARGO_BIN_EXE_vitstream"));
    let transpose = one_node("Transpose", &[("perm", &[1, 0])], &[]);
    fs::write(dir.path().join("graph.onnx"), &transpose).unwrap();
    let path = dir.path().join("graph.onnx");
    for graph in [
        GraphSource::Memory { name: "stranger.onnx".as_ref(), bytes: (&transpose[..]).into() },
        GraphSource::File(&path),
    ] {
        let wall = Wall::new("/bin/sh", ["-c", &script]);
        let runner = runtime::load(graph, &options(Some(wall))).unwrap();
        let run = || {
            let feed = Feed::f32(&[2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
            runner.run(&[("x", feed)], &["y"]).map(|mut outputs| outputs.remove(0).data)
        };
        let expected = [0.0, 3.0, 1.0, 4.0, 2.0, 5.0];
        for _ in 0..2 {
            assert_eq!(run().unwrap(), expected);
            let number = fs::read_to_string(&file).unwrap();
            std::process::Command::new("kill").args(["-9", number.trim()]).status().unwrap();
            let error = run().unwrap_err();
            assert!(
                matches!(error, Error::Crashed { .. }) && error.to_string().contains("signal: 9"),
                "{error}"
            );
        }
        assert_eq!(run().unwrap(), expected);
    }
}

fn synthesize(dir: &Path, wall: Option<Wall>, ids: &[i64]) -> Result<Vec<f32>, Error> {
    let options = VoiceOptions::new().wall(wall).sample_rate(22_050);
    let speak = SpeakOptions::new().scales(QUIET).chunking(Chunking::Fixed(7));
    Voice::open(dir, &options)?.synthesize(ids, &speak)
}

#[test]
fn a_voice_speaks_the_same_behind_the_wall() {
    let dir = exported("multi.ckpt", &ExportOptions::default());
    let ids: Vec<i64> = (0..30).collect();
    let here = synthesize(dir.path(), None, &ids).unwrap();
    assert_eq!(here, synthesize(dir.path(), Some(wall()), &ids).unwrap());
    assert!(here.len() > 1000);
}

/// Changes a graph of a pair.
fn edit(pair: &Path, file: &str, change: impl FnOnce(&mut Graph)) {
    let path = pair.join(file);
    let mut graph = decode(fs::read(&path).unwrap().into()).unwrap();
    change(&mut graph);
    fs::write(&path, encode::to_bytes(&validate(graph).unwrap())).unwrap();
}

/// Excessive durations are refused in every runtime, before anything of that length is computed.
#[test]
fn endless_durations_are_refused() {
    for noise in [NoiseSource::Input, NoiseSource::Internal { seed: None }] {
        // The bias of the plain predictor, and the final shift of the stochastic one.
        for (name, bias, value) in [
            ("multi-nosdp.ckpt", "dp.proj.bias", 50.0),
            ("multi-nosdp.ckpt", "dp.proj.bias", 1e30),
            ("legacy-single.ckpt", "/dp/flows.0/Add", 1000.0),
            ("legacy-single.ckpt", "/dp/flows.0/Add", 1e30),
        ] {
            let dir = exported(name, &ExportOptions::new().noise(noise));
            edit(dir.path(), "encoder.onnx", |graph| {
                let shift = || {
                    let add = graph.nodes.iter().find(|node| node.name == bias)?;
                    add.inputs.iter().flatten().copied().find(|&id| graph.constant(id).is_some())
                };
                let id = graph.find(bias).or_else(shift).expect(bias);
                let dims = graph.initializers[&id].dims.clone();
                let values = vec![value; dims.iter().product()];
                graph.initializers.insert(id, Tensor::f32(&dims, &values));
            });
            for wall in [None, Some(wall())] {
                let message = synthesize(dir.path(), wall, &[1, 2, 3]).unwrap_err().to_string();
                assert!(
                    message.contains("frames, more than the 131072") || message.contains("not finite"),
                    "{name} {value}: {message}"
                );
            }
        }
    }
}

/// Rewrites a graph's file of a pair with `change` applied to the bytes of each node with this `op`.
fn rewrite(pair: &Path, file: &str, op: &str, change: impl Fn(&[u8]) -> Vec<u8>) {
    let path = pair.join(file);
    let bytes = fs::read(&path).unwrap();
    let (mut model, mut graph) = (Vec::new(), Vec::new());
    for field in Fields(&bytes).map(Option::unwrap) {
        if field.number != 7 {
            model.extend(field.whole);
            continue;
        }
        for field in Fields(field.payload).map(Option::unwrap) {
            match field.number {
                1 if text(field.payload, 4) == Some(op) => put(&mut graph, 1, &change(field.payload)),
                _ => graph.extend(field.whole),
            }
        }
    }
    put(&mut model, 7, &graph);
    fs::write(&path, model).unwrap();
}

/// From the user's point of view: an exit status and a message, whatever the graph does.
#[test]
fn speak_and_verify_survive_damaged_graphs() {
    let dir = exported("multi.ckpt", &ExportOptions::default());
    // Every transposition of the encoder gets an invalid permutation.
    rewrite(dir.path(), "encoder.onnx", "Transpose", |node| {
        let mut changed = Vec::new();
        for field in Fields(node).map(Option::unwrap).filter(|field| field.number != 5) {
            changed.extend(field.whole);
        }
        let mut attribute = Vec::new();
        put(&mut attribute, 1, b"perm");
        (0..4).for_each(|_| put_number(&mut attribute, 8, 9));
        put_number(&mut attribute, 20, 7);
        put(&mut changed, 5, &attribute);
        changed
    });
    let command = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
        command.args(&arguments[..1]).arg(dir.path()).args(&arguments[1..]);
        command.assert().code(1).get_output().clone()
    };
    let verified = command(&["verify", "--ids", "1,2,3"]);
    assert!(verified.stderr.is_empty(), "{}", String::from_utf8_lossy(&verified.stderr));
    let table = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(table.contains("encoder.onnx") && table.contains("FAILED"), "{table}");
    let output = dir.path().join("x.wav");
    let spoken = command(&["speak", "--ids", "1,2,3", "--runtime", "rten", "-o", output.to_str().unwrap()]);
    let message = String::from_utf8_lossy(&spoken.stderr).into_owned();
    assert!(message.contains("encoder.onnx") && message.lines().count() == 1, "{message}");
    assert!(!output.exists());
    let report = verify(dir.path(), &VerifyOptions::new().wall(wall())).unwrap();
    assert!(!report.passed);
}

/// Each state is within the bound, but their sum exceeds it.
#[test]
fn states_share_one_budget() {
    let dir = exported("multi.ckpt", &ExportOptions::default());
    edit(dir.path(), "decoder.stream.onnx", |graph| {
        let mut states: serde_json::Value = serde_json::from_str(&graph.metadata["states"]).unwrap();
        let list = states.as_array_mut().unwrap();
        assert!(list.len() > 16);
        list.iter_mut().for_each(|state| state["shape"] = serde_json::json!([1, 1 << 20]));
        graph.metadata.insert("states".to_owned(), states.to_string());
    });
    let message = synthesize(dir.path(), None, &[1, 2]).unwrap_err().to_string();
    assert!(message.contains("decoder.stream.onnx") && message.contains("`states`"), "{message}");
    let report = verify(dir.path(), &VerifyOptions::default()).unwrap();
    let failed = report.checks.iter().find(|check| check.name == "decoder.stream.onnx").unwrap();
    assert!(failed.detail.contains("`states`"), "{}", failed.detail);
}

/// A folder's JSON is `config.json`, or else that of its encoder's file, in every runtime.
#[test]
fn another_voices_json_is_left_alone() {
    let dir = exported("multi.ckpt", &ExportOptions::default());
    let other = r#"{"num_speakers": 9, "speaker_id_map": {"otto": 2}, "inference": {"noise_w": 0.1}}"#;
    fs::write(dir.path().join("other.onnx.json"), other).unwrap();
    let native = || vitstream_synth::native::open(dir.path(), &Default::default()).unwrap();
    let graphs = || Voice::open(dir.path(), &VoiceOptions::default()).unwrap();
    for voice in [native(), graphs()] {
        assert!(voice.info().speaker_ids.is_empty() && voice.info().scales == Scales::default());
    }
    fs::write(dir.path().join("second.json"), other).unwrap();
    fs::write(dir.path().join("encoder.onnx.json"), r#"{"speaker_id_map": {"eve": 1}}"#).unwrap();
    for voice in [native(), graphs()] {
        assert_eq!(voice.info().speaker_ids.keys().collect::<Vec<_>>(), ["eve"]);
    }
    fs::write(dir.path().join("config.json"), r#"{"speaker_id_map": {"ada": 1}}"#).unwrap();
    for voice in [native(), graphs()] {
        assert_eq!(voice.info().speaker_ids.keys().collect::<Vec<_>>(), ["ada"]);
    }
}

/// A handle held by another thread can end an utterance, and the voice remains usable.
#[test]
fn an_utterance_can_be_cancelled() {
    fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<Voice>();
    shared::<vitstream_synth::Cancel>();
    let dir = exported("multi.ckpt", &ExportOptions::default());
    let native = vitstream_synth::native::open(dir.path(), &Default::default()).unwrap();
    let graphs = Voice::open(dir.path(), &VoiceOptions::default()).unwrap();
    let ids: Vec<i64> = (0..40).collect();
    let options = SpeakOptions::new().chunking(Chunking::Fixed(4));
    for voice in [native, graphs] {
        // Before the first chunk, and between chunks.
        for after in [0, 2] {
            let mut stream = voice.stream(&ids, &options).unwrap();
            let handle = stream.cancel_handle();
            for _ in 0..after {
                stream.next().unwrap().unwrap();
            }
            std::thread::spawn(move || handle.cancel()).join().unwrap();
            assert!(matches!(stream.next(), Some(Err(Error::Cancelled))));
            assert!(stream.next().is_none());
        }
        assert!(voice.synthesize(&ids, &options).is_ok());
    }
}
