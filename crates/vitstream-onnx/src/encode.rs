//! Writes a graph as an ONNX file.
//!
//! The two outer messages, `ModelProto` and `GraphProto`, and the weights are written as a stream with their
//! lengths computed beforehand. Weights in a mapped file therefore go straight to the output and are never
//! held in memory as a whole. Everything inside them is encoded by `prost`.

use std::collections::BTreeSet;
use std::io::{self, Write};

use prost::Message;
use prost::encoding::{self, WireType};

use crate::dim::Dim;
use crate::graph::{Attr, Graph, LOOP_INPUTS, Node, Tensor, ValueId, ValueInfo};
use crate::proto::{self, attribute_type, data_type};
use crate::validate::Validated;

/// The value of `producer_name`.
const PRODUCER: &str = "vitstream";

/// A tensor's elements begin at multiples of this offset in the file, so that readers can use them in place.
const ALIGNMENT: usize = size_of::<f32>();

/// Writes `graph` as an ONNX file. The same graph gives the same bytes.
///
/// The IR version is the lowest that the graph's opset requires. Every value that a node produces is declared
/// with its element type and shape; a dimension that is not constant is named by its
/// [`Display`](std::fmt::Display).
///
/// # Errors
/// Only the errors of `out`. Wrap a file in a [`BufWriter`](std::io::BufWriter).
pub fn write(graph: &Validated, out: &mut impl Write) -> io::Result<()> {
    write_graph(graph, out)
}

/// The ONNX file of `graph`, in memory.
pub fn to_bytes(graph: &Validated) -> Vec<u8> {
    graph_to_bytes(graph)
}

/// As [`to_bytes`], for a decoded graph in which some shapes are unknown.
pub(crate) fn graph_to_bytes(graph: &Graph) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_graph(graph, &mut bytes).expect("a vector takes all bytes");
    bytes
}

fn write_graph(graph: &Graph, out: &mut impl Write) -> io::Result<()> {
    let layout = Layout::new(graph);
    out.write_all(&layout.before)?;
    out.write_all(&delimiter(proto::GRAPH_TAG, layout.graph_len()))?;
    out.write_all(&layout.head)?;
    for initializer in &layout.initializers {
        out.write_all(&initializer.delimiter())?;
        out.write_all(&initializer.head)?;
        out.write_all(initializer.data)?;
        out.write_all(&initializer.padding)?;
    }
    out.write_all(&layout.tail)?;
    out.write_all(&layout.after)
}

/// Size in bytes of the file that [`write`] produces for `graph`.
pub(crate) fn encoded_len(graph: &Graph) -> usize {
    let layout = Layout::new(graph);
    let graph_len = layout.graph_len();
    layout.before.len() + delimiter(proto::GRAPH_TAG, graph_len).len() + graph_len + layout.after.len()
}

/// The pieces of the file, in order.
struct Layout<'a> {
    /// Bytes before `ModelProto.graph`.
    before: Vec<u8>,
    /// Bytes of the graph before the initializers.
    head: Vec<u8>,
    initializers: Vec<Initializer<'a>>,
    /// Bytes of the graph after the initializers.
    tail: Vec<u8>,
    /// Bytes after the graph.
    after: Vec<u8>,
}

/// The pieces of a `TensorProto`.
struct Initializer<'a> {
    /// Bytes before the elements.
    head: Vec<u8>,
    data: &'a [u8],
    /// Bytes after the elements, which align the elements of the next tensor.
    padding: Vec<u8>,
}

impl Initializer<'_> {
    fn delimiter(&self) -> Vec<u8> {
        delimiter(proto::INITIALIZER_TAG, self.head.len() + self.data.len() + self.padding.len())
    }

    /// Number of bytes before the elements.
    fn lead(&self) -> usize {
        self.delimiter().len() + self.head.len()
    }

    fn len(&self) -> usize {
        self.lead() + self.data.len() + self.padding.len()
    }
}

/// Pads each tensor but the last so that the elements of the next one begin at a multiple of [`ALIGNMENT`].
/// `start` is the offset of the first tensor in the file.
fn align(initializers: &mut [Initializer<'_>], start: usize) {
    let mut at = start;
    for i in 1..initializers.len() {
        let next = initializers[i].lead();
        let this = &mut initializers[i - 1];
        for padding in paddings() {
            this.padding = padding;
            if (at + this.len() + next).is_multiple_of(ALIGNMENT) {
                break;
            }
        }
        at += this.len();
    }
}

/// Paddings for each remainder: nothing, or a comment field of a tensor, which readers skip.
fn paddings() -> impl Iterator<Item = Vec<u8>> {
    let comment = |len| {
        let comment = proto::Tensor { doc_string: Some(" ".repeat(len)), ..Default::default() };
        comment.encode_to_vec()
    };
    std::iter::once(Vec::new()).chain((0..ALIGNMENT).map(comment))
}

impl<'a> Layout<'a> {
    fn new(graph: &'a Graph) -> Self {
        let before = proto::Model {
            ir_version: Some(ir_version(graph.opset)),
            producer_name: Some(PRODUCER.to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            ..Default::default()
        };
        let head = graph_head(graph);
        let initializers = graph
            .initializers
            .iter()
            .map(|(&id, tensor)| Initializer {
                head: initializer_head(&graph.value(id).name, tensor),
                data: &tensor.data,
                padding: Vec::new(),
            })
            .collect();
        let tail = graph_tail(graph);
        let entry = |(key, value): (&String, &String)| proto::StringStringEntry {
            key: Some(key.clone()),
            value: Some(value.clone()),
        };
        let after = proto::Model {
            opset_import: vec![proto::OperatorSetId {
                domain: Some(String::new()),
                version: Some(graph.opset),
            }],
            metadata_props: graph.metadata.iter().map(entry).collect(),
            ..Default::default()
        };
        let mut layout = Self {
            before: before.encode_to_vec(),
            head: head.encode_to_vec(),
            initializers,
            tail: tail.encode_to_vec(),
            after: after.encode_to_vec(),
        };
        let graph = delimiter(proto::GRAPH_TAG, layout.graph_len()).len();
        let start = layout.before.len() + graph + layout.head.len();
        align(&mut layout.initializers, start);
        layout
    }

    fn graph_len(&self) -> usize {
        self.head.len() + self.initializers.iter().map(Initializer::len).sum::<usize>() + self.tail.len()
    }
}

/// The part of a graph before its initializers.
fn graph_head(graph: &Graph) -> proto::Graph {
    proto::Graph {
        node: graph.nodes.iter().map(|node| node_proto(graph, node)).collect(),
        name: Some(graph.name.clone()),
        ..Default::default()
    }
}

/// The part of a graph after its initializers.
fn graph_tail(graph: &Graph) -> proto::Graph {
    proto::Graph {
        input: graph.inputs.iter().map(|&id| value_info(graph.value(id))).collect(),
        output: graph.outputs.iter().map(|&id| value_info(graph.value(id))).collect(),
        value_info: intermediates(graph).map(value_info).collect(),
        ..Default::default()
    }
}

/// The body of a loop in ONNX's form: without the inputs that ONNX finds by name in the enclosing graph.
fn body_proto(mut body: Graph) -> proto::Graph {
    body.inputs.truncate(LOOP_INPUTS);
    let initializer = |(&id, tensor): (&ValueId, &Tensor)| proto::Tensor {
        name: Some(body.value(id).name.clone()),
        ..tensor_proto(tensor)
    };
    let initializer = body.initializers.iter().map(initializer).collect();
    let proto::Graph { node, name, .. } = graph_head(&body);
    proto::Graph { node, name, initializer, ..graph_tail(&body) }
}

/// The lowest IR version whose release of ONNX knew the opset (the table in ONNX's `helper.py`).
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        24 => 12,
        25..=27 => 13,
        _ => 14,
    }
}

/// The key and length that precede a message or byte string of `len` bytes.
fn delimiter(tag: u32, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16);
    encoding::encode_key(tag, WireType::LengthDelimited, &mut bytes);
    encoding::encode_varint(len as u64, &mut bytes);
    bytes
}

/// A `TensorProto` up to and including the length of `raw_data`.
fn initializer_head(name: &str, tensor: &Tensor) -> Vec<u8> {
    let mut head =
        proto::Tensor { name: Some(name.to_owned()), raw_data: None, ..tensor_proto(tensor) }.encode_to_vec();
    head.extend(delimiter(proto::RAW_DATA_TAG, tensor.data.len()));
    head
}

fn tensor_proto(tensor: &Tensor) -> proto::Tensor {
    proto::Tensor {
        dims: tensor.dims.iter().map(|&dim| dim as i64).collect(),
        data_type: Some(data_type::code(tensor.dtype)),
        raw_data: Some(tensor.data.clone()),
        ..Default::default()
    }
}

/// The values that nodes produce and the graph does not return.
fn intermediates(graph: &Graph) -> impl Iterator<Item = &ValueInfo> {
    let returned: BTreeSet<_> = graph.outputs.iter().collect();
    graph
        .nodes
        .iter()
        .flat_map(|node| node.outputs.iter().flatten())
        .filter(move |id| !returned.contains(id))
        .map(|&id| graph.value(id))
        .filter(|info| info.dtype.is_some() || info.shape.is_some())
}

fn value_info(info: &ValueInfo) -> proto::ValueInfo {
    let tensor_type = proto::TensorType {
        elem_type: info.dtype.map(data_type::code),
        shape: info
            .shape
            .as_ref()
            .map(|shape| proto::TensorShape { dim: shape.iter().map(dimension).collect() }),
    };
    let r#type = proto::Type { tensor_type: Some(tensor_type), ..Default::default() };
    proto::ValueInfo { name: Some(info.name.clone()), r#type: Some(Box::new(r#type)) }
}

fn dimension(dim: &Dim) -> proto::Dimension {
    match dim.as_const() {
        Some(value) => proto::Dimension { dim_value: Some(value), dim_param: None },
        None => proto::Dimension { dim_value: None, dim_param: Some(dim.to_string()) },
    }
}

fn node_proto(graph: &Graph, node: &Node) -> proto::Node {
    let names = |ids: &[Option<ValueId>]| {
        ids.iter().map(|id| id.map_or_else(String::new, |id| graph.value(id).name.clone())).collect()
    };
    let body = node.body(|id| graph.value(id).name.clone());
    let own_inputs = if body.is_some() { LOOP_INPUTS } else { node.inputs.len() };
    let mut attributes: Vec<proto::Attribute> =
        node.attrs.iter().map(|(name, attr)| attribute(name, attr)).collect();
    if let (Some(body), Some(attribute)) =
        (body, attributes.iter_mut().find(|attribute| attribute.r#type == Some(attribute_type::GRAPH)))
    {
        attribute.g = Some(body_proto(body).encode_to_vec().into());
    }
    proto::Node {
        input: names(&node.inputs[..own_inputs.min(node.inputs.len())]),
        output: names(&node.outputs),
        name: Some(node.name.clone()),
        op_type: Some(node.op.clone()),
        attribute: attributes,
        ..Default::default()
    }
}

fn attribute(name: &str, attr: &Attr) -> proto::Attribute {
    let mut attribute = proto::Attribute { name: Some(name.to_owned()), ..Default::default() };
    attribute.r#type = Some(match attr {
        Attr::Int(value) => {
            attribute.i = Some(*value);
            attribute_type::INT
        }
        Attr::Float(value) => {
            attribute.f = Some(*value);
            attribute_type::FLOAT
        }
        Attr::String(value) => {
            attribute.s = Some(value.clone().into());
            attribute_type::STRING
        }
        Attr::Ints(values) => {
            attribute.ints.clone_from(values);
            attribute_type::INTS
        }
        Attr::Floats(values) => {
            attribute.floats.clone_from(values);
            attribute_type::FLOATS
        }
        Attr::Tensor(tensor) => {
            attribute.t = Some(Box::new(tensor_proto(tensor)));
            attribute_type::TENSOR
        }
        // The graph itself needs the node's names.
        Attr::Graph(_) => attribute_type::GRAPH,
    });
    attribute
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::DType;
    use crate::test_graphs;
    use crate::validate::validate;

    #[test]
    fn the_computed_lengths_are_those_written() {
        let graph = validate(test_graphs::small()).unwrap();
        let bytes = to_bytes(&graph);
        assert_eq!(bytes.len(), encoded_len(&graph));
        let model = proto::Model::decode(&bytes[..]).unwrap();
        assert_eq!(model.ir_version, Some(8));
        // The bytes that a plain protobuf library would have written.
        assert_eq!(model.encode_to_vec(), bytes);
    }

    /// The elements of all tensors but the first can be used in place, whatever the names before them.
    #[test]
    fn elements_are_aligned() {
        let mut graph = test_graphs::small();
        for (i, name) in ["a", "bb", "ccc", "dddd", "e", "ff"].into_iter().enumerate() {
            let tensor = match i {
                3 => Tensor { dtype: DType::Bool, dims: vec![3], data: vec![1; 3].into() },
                _ => Tensor::f32(&[i, 7], &vec![0.5; 7 * i]),
            };
            test_graphs::constant(&mut graph, name, tensor);
        }
        let bytes = bytes::Bytes::from(to_bytes(&validate(graph).unwrap()));
        let decoded = crate::decode::decode(bytes.clone()).unwrap();
        let places = decoded.initializers.values().filter(|tensor| !tensor.data.is_empty());
        let places: Vec<usize> =
            places.map(|tensor| tensor.data.as_ptr().addr() - bytes.as_ptr().addr()).collect();
        assert_eq!(places.len(), 7);
        assert!(places[1..].iter().all(|place| place % ALIGNMENT == 0), "{places:?}");
    }

    #[test]
    fn the_same_graph_gives_the_same_bytes() {
        let bytes = || to_bytes(&validate(test_graphs::small()).unwrap());
        assert_eq!(bytes(), bytes());
    }

    #[test]
    fn the_first_failure_to_write_is_told() {
        let mut full = [0u8; 40];
        let graph = validate(test_graphs::small()).unwrap();
        let error = write(&graph, &mut &mut full[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
