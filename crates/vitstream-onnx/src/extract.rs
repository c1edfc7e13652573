//! Extracts a part of an ONNX file, from some of its values to others, as a file of its own.
//!
//! The part is copied from the file's own bytes, message by message, so it is exactly the network in the
//! file, whoever wrote it: weights are not interpreted, and messages unknown to this crate are passed on.

use std::collections::{BTreeSet, HashSet};

use crate::wire::{Fields, put, put_number, text, texts};
use crate::{DType, Graph, ValueId};

/// `ModelProto.graph`
const GRAPH: u64 = 7;
/// Fields of `GraphProto`.
mod graph_proto {
    pub(super) const NODE: u64 = 1;
    pub(super) const NAME: u64 = 2;
    pub(super) const INITIALIZER: u64 = 5;
    pub(super) const INPUT: u64 = 11;
    pub(super) const OUTPUT: u64 = 12;
}
/// `NodeProto.output`
const NODE_OUTPUT: u64 = 2;
/// `TensorProto.name`
const TENSOR_NAME: u64 = 8;
/// `ValueInfoProto.name`
const VALUE_NAME: u64 = 1;

/// An extracted part of a file.
#[derive(Clone, Debug)]
pub struct Extracted {
    /// An ONNX file.
    pub bytes: Vec<u8>,
    /// Names of its inputs.
    pub inputs: Vec<String>,
}

/// Extracts the part of `file` that computes `outputs`. Values in `fed` become inputs, and the nodes that
/// compute them are left out. `graph` is the result of [`decode`](crate::decode()) for the file. `None` if
/// the file is not valid ONNX, which decoding would already have refused.
pub fn extract(file: &[u8], graph: &Graph, outputs: &[ValueId], fed: &[ValueId]) -> Option<Extracted> {
    let name = |id: &ValueId| graph.value(*id).name.as_str();
    let needed = needed(graph, outputs, fed);
    let inputs: Vec<ValueId> =
        graph.inputs.iter().chain(fed).copied().filter(|id| needed.contains(id)).collect();
    let names: HashSet<&str> = needed.iter().map(name).collect();
    let computed: HashSet<&str> = needed.iter().filter(|id| !fed.contains(id)).map(name).collect();

    let mut model = Vec::with_capacity(file.len());
    let mut parts = Vec::new();
    for field in Fields(file) {
        let field = field?;
        if field.number == GRAPH { parts.push(field.payload) } else { model.extend(field.whole) }
    }
    let mut kept = Vec::with_capacity(file.len());
    for field in parts.into_iter().flat_map(Fields) {
        let field = field?;
        let named = |number| text(field.payload, number).is_some_and(|name| names.contains(name));
        let keep = match field.number {
            graph_proto::NODE => texts(field.payload, NODE_OUTPUT).any(|name| computed.contains(name)),
            graph_proto::NAME => true,
            graph_proto::INITIALIZER => named(TENSOR_NAME),
            graph_proto::INPUT => named(VALUE_NAME),
            // Declarations of intermediate values are optional, so they are left out.
            _ => false,
        };
        if keep {
            kept.extend(field.whole);
        }
    }
    for (number, ids) in [(graph_proto::INPUT, fed), (graph_proto::OUTPUT, outputs)] {
        for id in ids.iter().filter(|id| needed.contains(id)) {
            put(&mut kept, number, &declaration(graph, *id));
        }
    }
    put(&mut model, GRAPH, &kept);
    Some(Extracted { bytes: model, inputs: inputs.iter().map(|id| name(id).to_owned()).collect() })
}

/// All values that `outputs` depend on, including themselves, back to `fed`.
fn needed(graph: &Graph, outputs: &[ValueId], fed: &[ValueId]) -> BTreeSet<ValueId> {
    let mut needed: BTreeSet<ValueId> = outputs.iter().copied().collect();
    // Nodes are in topological order: a value's readers come after its producer.
    for node in graph.nodes.iter().rev() {
        let gives = |id: &ValueId| needed.contains(id) && !fed.contains(id);
        if node.outputs.iter().flatten().any(gives) {
            needed.extend(node.inputs.iter().flatten());
        }
    }
    needed
}

/// A `ValueInfoProto` with a name and an element type.
fn declaration(graph: &Graph, id: ValueId) -> Vec<u8> {
    const INT64: u64 = 7;
    const FLOAT: u64 = 1;
    let value = graph.value(id);
    let code = if value.dtype == Some(DType::I64) { INT64 } else { FLOAT };
    // type.tensor_type.elem_type
    let (mut tensor, mut kind, mut info) = (Vec::new(), Vec::new(), Vec::new());
    put_number(&mut tensor, 1, code);
    put(&mut kind, 1, &tensor);
    put(&mut info, VALUE_NAME, value.name.as_bytes());
    put(&mut info, 2, &kind);
    info
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[test]
    fn a_part_is_a_file_with_what_it_needs_and_no_more() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-vits/tests/golden/families/voices/multi.onnx");
        let file = std::fs::read(path).unwrap();
        let voice = decode(file.clone().into()).unwrap();
        let ceil = voice.nodes.iter().find(|node| node.op == "Ceil").unwrap().outputs[0].unwrap();
        let part = extract(&file, &voice, &[ceil], &[]).unwrap();
        assert_eq!(part.inputs, ["input", "input_lengths", "scales", "sid"]);
        let head = decode(part.bytes.into()).unwrap();
        assert_eq!(
            head.outputs.iter().map(|&id| &head.value(id).name).collect::<Vec<_>>(),
            ["/Ceil_output_0"]
        );
        assert!(head.nodes.len() < voice.nodes.len());
        assert!(head.find("dec.conv_pre.weight").is_none() && head.find("enc_p.emb.weight").is_some());

        let output = voice.find("output").unwrap();
        let conv_pre = voice.nodes.iter().find(|node| node.name == "/dec/conv_pre/Conv").unwrap();
        let part = extract(&file, &voice, &[output], &[conv_pre.inputs[0].unwrap()]).unwrap();
        assert_eq!(part.inputs, ["sid", "/Mul_7_output_0"]);
        let tail = decode(part.bytes.into()).unwrap();
        assert!(tail.find("dec.conv_pre.weight").is_some() && tail.find("enc_p.emb.weight").is_none());
    }
}
