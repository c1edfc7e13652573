//! Graphs written by other programs: elements in a file next to the graph, branches, the output of
//! optimisers. Each is read as the same voice, or refused with the reason and still listed.
#![allow(missing_docs, reason = "a test")]

mod wire;

use std::fs;
use std::path::{Path, PathBuf};

use vitstream::inspect::{GraphInspection, Inspection, VoicePart, inspect};
use vitstream::source::{ReadOptions, load};
use vitstream_onnx::passes::run_default;
use vitstream_onnx::{encode, validate};
use vitstream_vits::NoiseSource;
use wire::{Field, Message};

const NOISE: NoiseSource = NoiseSource::Internal { seed: None };
/// The file of elements, as PyTorch names it.
const DATA: &str = "voice.onnx.data";

fn traced() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-vits/tests/golden/families/voices/multi.onnx")
}

/// Returns the graph that is written for the voice in `file`, or the reason why the file is refused.
fn network(file: &Path) -> Result<Vec<u8>, String> {
    let source = load(file, &ReadOptions::default()).map_err(|error| error.to_string())?;
    let graph = run_default(source.model.emit_single(15, NOISE).unwrap());
    Ok(encode::to_bytes(&validate(graph).unwrap()))
}

fn graph(file: &Path) -> GraphInspection {
    match inspect(file, &ReadOptions::default()).unwrap() {
        Inspection::Graph(graph) => graph,
        Inspection::Checkpoint(_) => panic!("{} is a graph", file.display()),
    }
}

/// Asserts that `file` is refused with a message that contains `what`, and still listed.
#[track_caller]
fn assert_refused(file: &Path, what: &str) {
    let error = network(file).expect_err(what);
    assert!(error.starts_with(&file.display().to_string()) && error.contains(what), "{what}: {error}");
    assert!(error.len() < 1000, "{error}");
    let found = graph(file);
    let voice = found.voice.expect("its inputs are those of a voice");
    assert_eq!((voice.part, voice.exportable), (VoicePart::Whole, false));
    assert!(voice.problem.unwrap().contains(what) && found.problem.unwrap().contains(what));
    let names: Vec<&str> = found.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["input", "input_lengths", "scales", "sid"]);
    assert!(found.nodes > 1000 && found.tensors.len() > 100);
}

/// The traced voice after `change` of its graph.
fn changed(change: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut model = Message::parse(&fs::read(traced()).unwrap());
    let graph = model.0.iter_mut().find(|field| field.tag == 7).unwrap();
    let mut message = Message::parse(&graph.bytes);
    change(&mut message);
    graph.bytes = message.bytes();
    model.bytes()
}

/// Moves the constants' elements to a file called `location`; returns the graph's bytes and those of that
/// file. `shift` changes the offset that the graph states for the second constant.
fn spread(location: &str, shift: i64) -> (Vec<u8>, Vec<u8>) {
    let mut data = vec![0xee; 64];
    let mut count = 0;
    let bytes = changed(|graph| {
        for initializer in graph.0.iter_mut().filter(|field| field.tag == 5) {
            let mut tensor = Message::parse(&initializer.bytes);
            let Some(at) = tensor.0.iter().position(|field| field.tag == 9) else { continue };
            let raw = tensor.0.remove(at).bytes;
            data.resize(data.len().next_multiple_of(64), 0);
            let offset = data.len() as i64 + if count == 1 { shift } else { 0 };
            let entries = [
                ("location", location.to_owned()),
                ("offset", offset.to_string()),
                ("length", raw.len().to_string()),
            ];
            for (key, value) in entries {
                let entry = Message(vec![Field::text(1, key), Field::text(2, &value)]);
                tensor.0.push(Field::message(13, &entry));
            }
            tensor.0.push(Field::number(14, 1));
            initializer.bytes = tensor.bytes();
            data.extend(raw);
            count += 1;
        }
    });
    assert!(count > 100);
    (bytes, data)
}

#[test]
fn elements_beside_the_graph_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("voice.onnx");
    let (bytes, data) = spread(DATA, 0);
    fs::write(&file, &bytes).unwrap();
    fs::write(folder.path().join(DATA), &data).unwrap();
    assert!(network(&file).unwrap() == network(&traced()).unwrap());
    let found = graph(&file);
    assert_eq!((found.problem.as_deref(), &found.external[..]), (None, &[DATA.to_owned()][..]));
    assert!(found.voice.unwrap().exportable);
}

#[test]
fn elements_elsewhere_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("voice.onnx");
    let beside = folder.path().join(DATA);
    let (bytes, data) = spread(DATA, 0);
    fs::write(&file, &bytes).unwrap();
    assert_refused(&file, "`voice.onnx.data`: there is no such file");
    fs::write(&beside, &data[..data.len() / 2]).unwrap();
    assert_refused(&file, "the file is incomplete");
    fs::write(&beside, b"").unwrap();
    assert_refused(&file, "which has 0");
    fs::remove_file(&beside).unwrap();
    fs::create_dir(&beside).unwrap();
    assert_refused(&file, "expected a file");
    fs::remove_dir(&beside).unwrap();
    fs::write(&beside, &data).unwrap();
    fs::write(&file, spread(DATA, -64).0).unwrap();
    assert_refused(&file, "shares bytes of `voice.onnx.data`");

    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let file = inner.join("voice.onnx");
    for location in ["../voice.onnx.data", beside.to_str().unwrap(), "inner/voice.onnx.data", "."] {
        fs::write(&file, spread(location, 0).0).unwrap();
        assert_refused(&file, "only files next to the graph are read");
    }
    #[cfg(unix)]
    {
        fs::write(&file, &bytes).unwrap();
        std::os::unix::fs::symlink(&beside, inner.join(DATA)).unwrap();
        assert_refused(&file, "a link that leads out of the graph's folder");
        fs::remove_file(inner.join(DATA)).unwrap();
        fs::write(inner.join("elements"), &data).unwrap();
        std::os::unix::fs::symlink("elements", inner.join(DATA)).unwrap();
        assert!(network(&file).is_ok());
    }
}

fn node(name: &str, op: &str, inputs: &[&str], output: &str, attributes: &[Message]) -> Message {
    let mut fields: Vec<Field> = inputs.iter().map(|input| Field::text(1, input)).collect();
    fields.extend([Field::text(2, output), Field::text(3, name), Field::text(4, op)]);
    fields.extend(attributes.iter().map(|attribute| Field::message(5, attribute)));
    Message(fields)
}

/// Defines `name` as a graph of `nodes` with the result `output`.
fn branch(name: &str, nodes: &[Message], output: &str) -> Message {
    let mut fields: Vec<Field> = nodes.iter().map(|node| Field::message(1, node)).collect();
    fields.extend([Field::text(2, name), Field::message(12, &Message(vec![Field::text(1, output)]))]);
    Message(vec![Field::text(1, name), Field::message(6, &Message(fields)), Field::number(20, 5)])
}

/// The traced voice with an `If` before the generator's first convolution. `otherwise` is the operator of one
/// branch; the other squeezes.
fn with_branches(otherwise: &str, source: Option<&str>) -> Vec<u8> {
    changed(|graph| {
        let is_first =
            |field: &Field| field.tag == 1 && Message::parse(&field.bytes).text(3) == "/dec/conv_pre/Conv";
        let at = graph.0.iter().position(is_first).unwrap();
        let mut conv = Message::parse(&graph.0[at].bytes);
        let input = conv.0.iter_mut().find(|field| field.tag == 1).unwrap();
        let read = String::from_utf8(std::mem::replace(&mut input.bytes, b"chosen".to_vec())).unwrap();
        graph.0[at].bytes = conv.bytes();
        let axis = Message(vec![Field::text(1, "value_ints"), Field::number(8, 1), Field::number(20, 7)]);
        let then = [
            node("", "Constant", &[], "axis", &[axis]),
            node("", "Squeeze", &[&read, "axis"], "squeezed", &[]),
        ];
        let other = [node("", otherwise, &[source.unwrap_or(&read)], "same", &[])];
        let branches = [branch("then_branch", &then, "squeezed"), branch("else_branch", &other, "same")];
        let condition =
            Message(vec![Field::number(2, 9), Field::text(8, "condition"), Field::new(9, vec![1])]);
        graph.0.push(Field::message(5, &condition));
        graph.0.insert(at, Field::message(1, &node("/If", "If", &["condition"], "chosen", &branches)));
    })
}

#[test]
fn branches_that_differ_in_shape_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("voice.onnx");
    fs::write(&file, with_branches("Identity", None)).unwrap();
    assert!(network(&file).unwrap() == network(&traced()).unwrap());
    assert_eq!(graph(&file).operators["If"], 1);
}

#[test]
fn branches_that_differ_in_more_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("voice.onnx");
    for (op, source, what) in [
        ("Neg", None, "node `/If`: an If whose else_branch has a node Neg"),
        ("Identity", Some("scales"), "node `/If`: an If whose branches return different values"),
        ("Constant", None, "node `/If`: an If whose else_branch returns a constant"),
    ] {
        fs::write(&file, with_branches(op, source)).unwrap();
        assert_refused(&file, what);
        assert!(network(&file).unwrap_err().contains("use the checkpoint"));
    }
}

/// A random network after ONNX Runtime's "basic" optimisation, from the project's shared fixtures.
#[test]
fn what_onnx_runtime_moved_is_read() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-source/tests/data/ort-basic.onnx");
    let source = load(&file, &ReadOptions::default()).unwrap();
    // The digest of the graph before the optimisation.
    assert_eq!(format!("{:032x}", source.audit.fingerprint), "0a46578c773d4d8b7ab54b04f5fbdcb8");
}

#[test]
fn operators_of_onnx_runtime_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("voice.onnx");
    let bytes = changed(|graph| {
        let first = graph.0.iter_mut().find(|field| field.tag == 1).unwrap();
        let mut node = Message::parse(&first.bytes);
        node.0.push(Field::text(7, "com.microsoft.nchwc"));
        first.bytes = node.bytes();
    });
    fs::write(&file, bytes).unwrap();
    let error = network(&file).unwrap_err();
    assert!(error.contains("`com.microsoft.nchwc`") && error.contains("before it was optimised"), "{error}");
    let found = graph(&file);
    assert!(found.problem.unwrap().contains("com.microsoft.nchwc"));
    assert!(found.operators.keys().any(|operator| operator.starts_with("com.microsoft.nchwc.")));
}
