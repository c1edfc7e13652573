//! A part of an ONNX file as a file of its own: from some of its values to others.
//!
//! The part is taken from the file's own bytes, message by message, so that it is the very network that the file holds,
//! whoever wrote it: weights are not interpreted and what this program does not know is passed on.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use vitstream_checkpoint::map_file;
use vitstream_onnx::wire::{Fields, put, put_number, text, texts};
use vitstream_onnx::{DType, Graph, Node, Validated, ValueId, decode, encode};

use crate::Error;

/// `ModelProto.graph`
const GRAPH: u64 = 7;
/// Fields of `GraphProto`.
mod graph {
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

/// An ONNX file and the graph in it.
#[derive(Clone)]
pub(super) struct OnnxFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Bytes,
    pub(super) graph: Graph,
}

/// A part of a file.
pub(super) struct Part {
    /// An ONNX file.
    pub(super) bytes: Vec<u8>,
    /// Names of what it takes.
    pub(super) inputs: Vec<String>,
}

impl OnnxFile {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let bytes = map_file(path)?;
        let graph = decode(bytes.clone()).map_err(|source| Error::Onnx { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), bytes, graph })
    }

    /// The file that `graph` would be written as; `name` stands for it in messages.
    pub(super) fn of(graph: &Validated, name: &Path) -> Self {
        let bytes = encode::to_bytes(graph).into();
        Self { path: name.to_owned(), bytes, graph: (**graph).clone() }
    }

    pub(super) fn name(&self, id: ValueId) -> &str {
        &self.graph.value(id).name
    }

    /// The input called `name`.
    pub(super) fn input(&self, name: &str) -> Option<ValueId> {
        self.graph.inputs.iter().copied().find(|&id| self.name(id) == name)
    }

    /// The output called `name`.
    pub(super) fn output(&self, name: &str) -> Option<ValueId> {
        self.graph.outputs.iter().copied().find(|&id| self.name(id) == name)
    }

    /// The part that computes `outputs`. Values of `fed` become inputs, and what computes them is left out.
    pub(super) fn part(&self, outputs: &[ValueId], fed: &[ValueId]) -> Result<Part, Error> {
        let needed = self.needed(outputs, fed);
        let inputs: Vec<ValueId> =
            self.graph.inputs.iter().chain(fed).copied().filter(|id| needed.contains(id)).collect();
        let names: HashSet<&str> = needed.iter().map(|&id| self.name(id)).collect();
        let computed: HashSet<&str> =
            needed.iter().filter(|id| !fed.contains(id)).map(|&id| self.name(id)).collect();
        let bytes = self.rewrite(&names, &computed, outputs, fed).ok_or_else(|| Error::Unrecoverable {
            path: self.path.clone(),
            place: "file".to_owned(),
            problem: "expected the messages of an ONNX model, found others; export the voice again"
                .to_owned(),
        })?;
        Ok(Part { bytes, inputs: inputs.into_iter().map(|id| self.name(id).to_owned()).collect() })
    }

    /// Everything that `outputs` depend on, themselves included, back to `fed`.
    fn needed(&self, outputs: &[ValueId], fed: &[ValueId]) -> BTreeSet<ValueId> {
        let mut needed: BTreeSet<ValueId> = outputs.iter().copied().collect();
        // Nodes are in order: whoever reads a value comes after who gives it.
        for node in self.graph.nodes.iter().rev() {
            let gives = |id: &ValueId| needed.contains(id) && !fed.contains(id);
            if node.outputs.iter().flatten().any(gives) {
                needed.extend(node.inputs.iter().flatten());
            }
        }
        needed
    }

    /// `None` when the file is not built as ONNX says. Decoding has seen to it that this does not happen.
    fn rewrite(
        &self,
        needed: &HashSet<&str>,
        computed: &HashSet<&str>,
        outputs: &[ValueId],
        fed: &[ValueId],
    ) -> Option<Vec<u8>> {
        let mut model = Vec::with_capacity(self.bytes.len());
        let mut parts = Vec::new();
        for field in Fields(&self.bytes) {
            let field = field?;
            if field.number == GRAPH { parts.push(field.payload) } else { model.extend(field.whole) }
        }
        let mut kept = Vec::with_capacity(self.bytes.len());
        for field in parts.into_iter().flat_map(Fields) {
            let field = field?;
            let named = |number| text(field.payload, number).is_some_and(|name| needed.contains(name));
            let keep = match field.number {
                graph::NODE => texts(field.payload, NODE_OUTPUT).any(|name| computed.contains(name)),
                graph::NAME => true,
                graph::INITIALIZER => named(TENSOR_NAME),
                graph::INPUT => named(VALUE_NAME),
                // What is declared of values in between is a help that nobody needs.
                _ => false,
            };
            if keep {
                kept.extend(field.whole);
            }
        }
        for (number, ids) in [(graph::INPUT, fed), (graph::OUTPUT, outputs)] {
            for &id in ids.iter().filter(|&&id| needed.contains(self.name(id))) {
                put(&mut kept, number, &self.declaration(id));
            }
        }
        put(&mut model, GRAPH, &kept);
        Some(model)
    }

    /// `ValueInfoProto` with a name and an element type.
    fn declaration(&self, id: ValueId) -> Vec<u8> {
        const INT64: u64 = 7;
        const FLOAT: u64 = 1;
        let code = if self.graph.value(id).dtype == Some(DType::I64) { INT64 } else { FLOAT };
        // type.tensor_type.elem_type
        let (mut tensor, mut kind, mut info) = (Vec::new(), Vec::new(), Vec::new());
        put_number(&mut tensor, 1, code);
        put(&mut kind, 1, &tensor);
        put(&mut info, VALUE_NAME, self.name(id).as_bytes());
        put(&mut info, 2, &kind);
        info
    }
}

/// Which nodes read each value.
pub(super) struct Ways<'a> {
    readers: HashMap<ValueId, Vec<&'a Node>>,
}

impl<'a> Ways<'a> {
    pub(super) fn of(graph: &'a Graph) -> Self {
        let mut ways = Self { readers: HashMap::new() };
        for node in &graph.nodes {
            for &id in node.inputs.iter().flatten() {
                ways.readers.entry(id).or_default().push(node);
            }
        }
        ways
    }

    pub(super) fn readers(&self, id: ValueId) -> &[&'a Node] {
        self.readers.get(&id).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice() -> OnnxFile {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../vitstream-vits/tests/golden/families/voices/multi.onnx");
        OnnxFile::read(&path).unwrap()
    }

    #[test]
    fn a_part_is_a_file_with_what_it_needs_and_no_more() {
        let voice = voice();
        let ceil = voice.graph.nodes.iter().find(|node| node.op == "Ceil").unwrap().outputs[0].unwrap();
        let part = voice.part(&[ceil], &[]).unwrap();
        assert_eq!(part.inputs, ["input", "input_lengths", "scales", "sid"]);
        let head = decode(part.bytes.into()).unwrap();
        assert_eq!(
            head.outputs.iter().map(|&id| &head.value(id).name).collect::<Vec<_>>(),
            ["/Ceil_output_0"]
        );
        assert!(head.nodes.len() < voice.graph.nodes.len());
        assert!(head.find("dec.conv_pre.weight").is_none() && head.find("enc_p.emb.weight").is_some());

        let output = voice.output("output").unwrap();
        let conv_pre = voice.graph.nodes.iter().find(|node| node.name == "/dec/conv_pre/Conv").unwrap();
        let part = voice.part(&[output], &[conv_pre.inputs[0].unwrap()]).unwrap();
        assert_eq!(part.inputs, ["sid", "/Mul_7_output_0"]);
        let tail = decode(part.bytes.into()).unwrap();
        assert!(tail.find("dec.conv_pre.weight").is_some() && tail.find("enc_p.emb.weight").is_none());
    }
}
