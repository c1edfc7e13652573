//! Inserts a bound on durations into an encoder's graph before it runs.
//!
//! In a single call, an encoder computes the duration of each phoneme and then creates a latent of the total
//! length: if a weight of its duration predictor is damaged, the call requests more memory than there is. The
//! graph that runs is therefore the file's graph with four additional nodes. At the only node that rounds
//! durations up (`Ceil`), they compute the sum; if it exceeds the bound, the durations become zeros, so that
//! nothing long is created; and the sum is an output, which tells the caller. Durations within the bound pass
//! unchanged, to the last bit.
//!
//! A graph that rounds up nothing, or several values, runs unchanged: there, only the wall's memory limit
//! applies.

use vitstream_onnx::wire::{Field, Fields, put, put_number, text};
use vitstream_onnx::{DType, Node};

use crate::graph_file::GraphFile;

/// `ModelProto.graph`
const GRAPH: u64 = 7;
/// `GraphProto.node`, `.initializer`, `.output`
const NODE: u64 = 1;
const INITIALIZER: u64 = 5;
const OUTPUT: u64 = 12;
/// `NodeProto.input`, `.output`, `.op_type`
const NODE_INPUT: u64 = 1;
const NODE_OUTPUT: u64 = 2;
const NODE_OP: u64 = 4;
/// Element type code of float32.
const FLOAT: u64 = 1;

/// Lowest opset with all inserted operators.
const LEAST_OPSET: i64 = 9;

/// An encoder with bounded durations.
pub(super) struct Bounded {
    /// The ONNX file.
    pub(super) bytes: Vec<u8>,
    /// The output with the sum of the absolute durations, which may be NaN.
    pub(super) total: String,
}

/// The graph of `file` with durations that become zeros if their sum exceeds `most`.
pub(super) fn bounded(file: &GraphFile, most: usize) -> Option<Bounded> {
    let mut ceils = file.graph.nodes.iter().filter(|node| node.op == "Ceil");
    let (ceil, None) = (ceils.next()?, ceils.next()) else { return None };
    let info = file.graph.value(ceil.outputs.first().copied().flatten()?);
    if file.graph.opset < LEAST_OPSET || info.dtype.is_some_and(|dtype| dtype != DType::F32) {
        return None;
    }
    let names = Names::new(file);
    let mut model = Vec::with_capacity(file.bytes.len() + 1024);
    let mut graph = Vec::with_capacity(file.bytes.len() + 1024);
    for field in Fields(&file.bytes) {
        let field = field?;
        if field.number != GRAPH {
            model.extend(field.whole);
            continue;
        }
        for field in Fields(field.payload) {
            let field = field?;
            if is_output_of(&field, ceil, &info.name) {
                put(&mut graph, NODE, &with_output(field.payload, &names.raw)?);
                names.put_nodes(&mut graph, &info.name);
            } else {
                graph.extend(field.whole);
            }
        }
    }
    names.put_constants(&mut graph, most);
    put(&mut model, GRAPH, &graph);
    Some(Bounded { bytes: model, total: names.total })
}

/// Returns true if the field is the node `ceil`, which produces `name`.
fn is_output_of(field: &Field<'_>, ceil: &Node, name: &str) -> bool {
    field.number == NODE
        && text(field.payload, NODE_OP) == Some(&ceil.op)
        && text(field.payload, NODE_OUTPUT) == Some(name)
}

/// The node with its only output renamed to `name`.
fn with_output(node: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut changed = Vec::with_capacity(node.len() + name.len());
    for field in Fields(node) {
        let field = field?;
        if field.number == NODE_OUTPUT {
            put(&mut changed, NODE_OUTPUT, name.as_bytes());
        } else {
            changed.extend(field.whole);
        }
    }
    Some(changed)
}

/// Names of the inserted values, which the graph does not use.
struct Names {
    raw: String,
    absolute: String,
    total: String,
    limit: String,
    fits: String,
    zero: String,
}

impl Names {
    fn new(file: &GraphFile) -> Self {
        let mut scope = "durations_bound".to_owned();
        while file.graph.values().any(|(_, info)| info.name.starts_with(&scope)) {
            scope.push('_');
        }
        let name = |part: &str| format!("{scope}/{part}");
        Self {
            raw: name("raw"),
            absolute: name("absolute"),
            total: name("total"),
            limit: name("limit"),
            fits: name("fits"),
            zero: name("zero"),
        }
    }

    /// The nodes after the one that produces `raw`; the last of them produces `durations`.
    fn put_nodes(&self, graph: &mut Vec<u8>, durations: &str) {
        let Self { raw, absolute, total, limit, fits, zero } = self;
        let nodes: [(&str, &[&str], &str); 4] = [
            // NaN stays NaN, and is not below the limit.
            ("Abs", &[raw], absolute),
            ("ReduceSum", &[absolute], total),
            ("Less", &[total, limit], fits),
            ("Where", &[fits, raw, zero], durations),
        ];
        for (op, inputs, output) in nodes {
            let mut node = Vec::new();
            inputs.iter().for_each(|input| put(&mut node, NODE_INPUT, input.as_bytes()));
            put(&mut node, NODE_OUTPUT, output.as_bytes());
            put(&mut node, NODE_OP, op.as_bytes());
            put(graph, NODE, &node);
        }
    }

    fn put_constants(&self, graph: &mut Vec<u8>, most: usize) {
        for (name, value) in [(&self.limit, most as f32 + 1.0), (&self.zero, 0.0)] {
            // data_type, name, raw_data
            let mut tensor = Vec::new();
            put_number(&mut tensor, 2, FLOAT);
            put(&mut tensor, 8, name.as_bytes());
            put(&mut tensor, 9, &value.to_le_bytes());
            put(graph, INITIALIZER, &tensor);
        }
        // name, type.tensor_type.elem_type
        let (mut tensor, mut kind, mut info) = (Vec::new(), Vec::new(), Vec::new());
        put_number(&mut tensor, 1, FLOAT);
        put(&mut kind, 1, &tensor);
        put(&mut info, 1, self.total.as_bytes());
        put(&mut info, 2, &kind);
        put(graph, OUTPUT, &info);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn encoder() -> GraphFile {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-multi/encoder.onnx");
        GraphFile::read(&path).unwrap()
    }

    #[test]
    fn four_nodes_stand_behind_the_rounding() {
        let file = encoder();
        let before = file.graph.nodes.iter().find(|node| node.op == "Ceil").unwrap();
        let durations = &file.graph.value(before.outputs[0].unwrap()).name;
        let bounded = bounded(&file, 1000).unwrap();
        let graph = vitstream_onnx::decode(bounded.bytes.into()).unwrap();
        assert_eq!(graph.nodes.len(), file.graph.nodes.len() + 4);
        let at = graph.nodes.iter().position(|node| node.op == "Ceil").unwrap();
        let ops: Vec<&str> = graph.nodes[at..at + 5].iter().map(|node| &*node.op).collect();
        assert_eq!(ops, ["Ceil", "Abs", "ReduceSum", "Less", "Where"]);
        assert_eq!(&graph.value(graph.nodes[at + 4].outputs[0].unwrap()).name, durations);
        let outputs = |graph: &vitstream_onnx::Graph| -> Vec<String> {
            graph.outputs.iter().map(|&id| graph.value(id).name.clone()).collect()
        };
        let mut expected = outputs(&file.graph);
        expected.push(bounded.total);
        assert_eq!(outputs(&graph), expected);
    }

    #[test]
    fn names_of_the_graph_are_not_taken_twice() {
        let mut file = encoder();
        let name = "durations_bound/total".to_owned();
        file.graph.add_value(vitstream_onnx::ValueInfo { name, dtype: None, shape: None });
        assert!(bounded(&file, 1000).unwrap().total.starts_with("durations_bound_/"));
    }

    #[test]
    fn another_graph_is_left_as_it_is() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-multi/decoder.onnx");
        assert!(bounded(&GraphFile::read(&path).unwrap(), 1000).is_none());
        let mut file = encoder();
        file.graph.opset = 8;
        assert!(bounded(&file, 1000).is_none());
    }
}
