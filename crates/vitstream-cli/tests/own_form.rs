//! An exported graph that was changed is refused or read with the change, but never read as if it were
//! unchanged.
#![allow(missing_docs, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use vitstream::Input;
use vitstream::export::{ExportOptions, Layout, Precision, export, files};
use vitstream::source::{ReadOptions, Source, load};
use vitstream_onnx::passes::{Pass, WidenedWeights, run_default};
use vitstream_onnx::{Attr, DType, Graph, Tensor, decode, encode, validate};
use vitstream_vits::NoiseSource;

const NOISE: NoiseSource = NoiseSource::Internal { seed: None };

/// Exports `name` as one graph.
fn exported(name: &str, options: &ExportOptions) -> Graph {
    let trained = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../vitstream-vits/tests/golden")
        .join(format!("{name}.ckpt"));
    let folder = tempfile::tempdir().unwrap();
    let options = options.clone().layout(Layout::Single).noise(NOISE);
    export(&trained, folder.path(), &options).unwrap();
    decode(fs::read(folder.path().join(files::VOICE)).unwrap().into()).unwrap()
}

/// The constants by the nodes that read them: equal constants may be stored once.
type Constants = BTreeMap<(String, usize), Tensor>;

fn constants(graph: &Graph) -> Constants {
    let of = |node: &vitstream_onnx::Node| {
        let inputs = node.inputs.iter().enumerate();
        let constant = |(at, id): (usize, &Option<_>)| Some((at, graph.constant((*id)?)?.clone()));
        let name = node.name.clone();
        inputs.filter_map(constant).map(move |(at, tensor)| ((name.clone(), at), tensor)).collect::<Vec<_>>()
    };
    graph.nodes.iter().flat_map(of).collect()
}

fn again(source: &Source, opset: i64) -> Graph {
    run_default(source.model.emit_single(opset, NOISE).unwrap())
}

/// Reads a changed file. The error names the file.
fn read(graph: &Graph) -> Result<Source, String> {
    let bytes = encode::to_bytes(&validate(graph.clone()).map_err(|error| error.to_string())?);
    load(Input::bytes("changed.onnx", bytes), &ReadOptions::default()).map_err(|error| {
        let text = error.to_string();
        assert!(text.starts_with("changed.onnx: ") && text.len() < 1 << 16, "{text}");
        text
    })
}

/// Other values for an attribute.
fn others(attr: &Attr) -> Vec<Attr> {
    match attr {
        Attr::Int(value) => vec![Attr::Int(value + 1), Attr::Int(-value - 7)],
        Attr::Float(value) => vec![Attr::Float(value * 1.5 + 0.25), Attr::Float(f32::NAN)],
        Attr::String(text) => vec![Attr::String(format!("{text}x")), Attr::String(String::new())],
        Attr::Ints(values) => {
            let mut first = values.clone();
            let mut last = values.clone();
            first.iter_mut().take(1).for_each(|value| *value += 1);
            last.iter_mut().rev().take(1).for_each(|value| *value += 1);
            vec![
                Attr::Ints(first),
                Attr::Ints(last),
                Attr::Ints([&values[..], &[1]].concat()),
                Attr::Ints(vec![]),
            ]
        }
        Attr::Floats(values) => vec![Attr::Floats([&values[..], &[1.0]].concat())],
        Attr::Tensor(tensor) => vec![Attr::Tensor(changed(tensor, 0))],
        Attr::Graph(_) => Vec::new(),
    }
}

/// The same constant with one element doubled: no product with a constant hides that.
fn changed(tensor: &Tensor, at: usize) -> Tensor {
    let mut data = tensor.data.to_vec();
    let width = tensor.dtype.size();
    let element = &mut data[at * width..][..width];
    match tensor.dtype {
        DType::F32 => {
            let value = f32::from_le_bytes(element.try_into().unwrap());
            let value = if value == 0.0 { 1.0 } else { value * 2.0 };
            element.copy_from_slice(&value.to_le_bytes());
        }
        _ => element[0] ^= 1,
    }
    Tensor { data: data.into(), ..tensor.clone() }
}

fn voices() -> Vec<(&'static str, ExportOptions)> {
    let options = |opset, durations| ExportOptions::new().opset(opset).durations(durations);
    vec![("textual", options(15, true)), ("multi-nosdp", options(20, false))]
}

/// Tests each attribute of each node, including those of a loop's body. For the second voice, which is
/// emitted by the same functions, it tests those of the first node of each operator.
#[test]
fn no_attribute_is_changed_unnoticed() {
    for (name, options) in voices() {
        let graph = exported(name, &options);
        assert!(read(&graph).is_ok());
        let mut tried = 0;
        let mut seen = BTreeSet::new();
        let every = name == voices()[0].0;
        let mut refused = |changed: &Graph, node: &str, attr: &str| {
            tried += 1;
            // A value that no file can contain needs no reader.
            if validate(changed.clone()).is_err() {
                return;
            }
            assert!(read(changed).is_err(), "{name}: {node}, {attr} is not noticed");
        };
        for at in 0..graph.nodes.len() {
            let node = &graph.nodes[at];
            for (key, attr) in &node.attrs {
                if !seen.insert((node.op.clone(), key.clone())) && !every {
                    continue;
                }
                // Alternately one of the other values and none, because thousands of nodes have all of them.
                let mut choices: Vec<Option<Attr>> = others(attr).into_iter().map(Some).collect();
                choices.push(None);
                let mut changed = graph.clone();
                match choices.swap_remove(at % choices.len()) {
                    Some(other) => changed.nodes[at].attrs.insert(key.clone(), other),
                    None => changed.nodes[at].attrs.remove(key),
                };
                refused(&changed, &node.name, key);
                let Attr::Graph(body) = attr else { continue };
                for (inner, node) in body.nodes.iter().enumerate() {
                    for (inner_key, attr) in &node.attrs {
                        for other in others(attr) {
                            let mut changed = graph.clone();
                            let Some(Attr::Graph(body)) = changed.nodes[at].attrs.get_mut(key) else {
                                panic!()
                            };
                            body.nodes[inner].attrs.insert(inner_key.clone(), other);
                            refused(&changed, &node.name, inner_key);
                        }
                    }
                }
            }
        }
        assert!(tried > if every { 200 } else { 15 }, "{name}: {tried}");
    }
}

/// Changes one element of each constant: a constant of the structure leads to a refusal, a weight is read
/// with its new value.
#[test]
fn no_constant_is_changed_unnoticed() {
    let (name, options) = voices().remove(0);
    let graph = exported(name, &options);
    let (mut refused, mut read_back) = (0, 0);
    for (&id, tensor) in &graph.initializers {
        let count = tensor.dims.iter().product::<usize>();
        for at in if count > 1 { vec![0, count - 1] } else { vec![0] } {
            let mut other = graph.clone();
            other.initializers.insert(id, changed(tensor, at));
            match read(&other) {
                Err(_) => refused += 1,
                Ok(source) => {
                    let found = constants(&again(&source, options.opset));
                    assert!(found == constants(&other), "{name}: {}[{at}]", graph.value(id).name);
                    read_back += 1;
                }
            }
        }
    }
    assert!(refused > 40 && read_back > 200, "{name}: {refused} {read_back}");
}

/// Other operators, other connections, and nodes that do not belong to the network.
#[test]
fn no_node_is_changed_unnoticed() {
    let (name, options) = voices().remove(0);
    let graph = exported(name, &options);
    for at in 0..graph.nodes.len() {
        let node = &graph.nodes[at];
        let unary = ["Relu", "Tanh", "Sigmoid", "Exp", "Neg", "Identity"];
        let binary = ["Add", "Sub", "Mul", "Div", "Max", "Min"];
        let op = match () {
            () if unary.contains(&node.op.as_str()) => unary.iter().find(|op| **op != node.op),
            () if binary.contains(&node.op.as_str()) => binary.iter().find(|op| **op != node.op),
            () => None,
        };
        if let Some(op) = op {
            let mut changed = graph.clone();
            changed.nodes[at].op = (*op).to_owned();
            assert!(read(&changed).is_err(), "{} as {op}", node.name);
        }
        if let ([Some(a), Some(b)], "Sub" | "Div" | "MatMul") = (&node.inputs[..], node.op.as_str()) {
            let mut changed = graph.clone();
            changed.nodes[at].inputs = vec![Some(*b), Some(*a)];
            assert!(read(&changed).is_err(), "{} with its inputs exchanged", node.name);
        }
        // All of them would take as long as all attributes do.
        if at % 7 != 0 {
            continue;
        }
        let mut renamed = graph.clone();
        renamed.nodes[at].name.push('_');
        assert!(read(&renamed).is_err(), "{} under another name", node.name);
    }
}

#[test]
fn the_message_says_what_is_changed() {
    let (name, options) = voices().remove(0);
    let mut graph = exported(name, &options);
    let node = graph.nodes.iter_mut().rev().find(|node| node.op == "LeakyRelu").unwrap();
    node.attrs.insert("alpha".to_owned(), Attr::Float(0.3));
    let expected = format!(
        "changed.onnx: node {} (LeakyRelu): attribute `alpha`: expected 0.01, found 0.3: ",
        node.name
    );
    let error = read(&graph).err().unwrap();
    assert!(error.starts_with(&expected), "{error}");
}

/// Rounding to half precision does not count as a change.
#[test]
fn half_precision_is_no_change() {
    let options = ExportOptions::new().precision(Precision::F16Weights);
    for name in ["multi", "high"] {
        let mut graph = exported(name, &options);
        assert!(read(&graph).is_ok(), "{name}");
        let before = graph.nodes.len();
        WidenedWeights.run(&mut graph);
        assert!(graph.nodes.len() < before);
        assert!(read(&graph).is_ok(), "{name}");
    }
}
