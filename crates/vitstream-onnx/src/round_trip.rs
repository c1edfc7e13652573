//! Writing and reading undo each other, and no bytes make the reader fall over.

use std::path::PathBuf;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use vitstream_testing::shared;

use crate::decode::decode;
use crate::dim::Dim;
use crate::encode::{graph_to_bytes, to_bytes};
use crate::graph::{Attr, DType, Graph, Node, Tensor};
use crate::test_graphs;
use crate::validate::validate;

/// Asserts that the graphs are equal up to the numbers of their values.
fn assert_same(a: &Graph, b: &Graph) {
    assert_eq!((&a.name, a.opset, &a.metadata), (&b.name, b.opset, &b.metadata));
    let values = |graph: &Graph, ids: &[_]| ids.iter().map(|&id| graph.value(id).clone()).collect::<Vec<_>>();
    assert_eq!(values(a, &a.inputs), values(b, &b.inputs));
    assert_eq!(values(a, &a.outputs), values(b, &b.outputs));
    let initializers = |graph: &Graph| {
        let named = |(&id, tensor): (_, &Tensor)| (graph.value(id).clone(), tensor.clone());
        graph.initializers.iter().map(named).collect::<Vec<_>>()
    };
    assert_eq!(initializers(a), initializers(b));
    assert_eq!(a.nodes.len(), b.nodes.len());
    for (x, y) in a.nodes.iter().zip(&b.nodes) {
        let ends = |graph: &Graph, node: &Node| {
            let named = |ids: &[Option<_>]| {
                ids.iter().map(|id| id.map(|id| graph.value(id).clone())).collect::<Vec<_>>()
            };
            (named(&node.inputs), named(&node.outputs))
        };
        assert_eq!((&x.name, &x.op, &x.attrs), (&y.name, &y.op, &y.attrs));
        assert_eq!(ends(a, x), ends(b, y));
    }
}

#[test]
fn a_graph_survives() {
    let graph = validate(test_graphs::small()).unwrap();
    let bytes = Bytes::from(to_bytes(&graph));
    let decoded = decode(bytes.clone()).unwrap();
    assert_same(&graph, &decoded);
    let weights = decoded.constant(decoded.find("w").unwrap()).unwrap();
    assert!(bytes.as_ptr_range().contains(&weights.data.as_ptr()), "the weights were copied");
}

fn fixtures() -> Vec<PathBuf> {
    let files = ["joe/encoder", "joe/decoder", "tiny-multi/encoder", "tiny-multi/decoder"];
    files.iter().filter_map(|file| shared(&format!("traced/{file}.onnx"))).collect()
}

#[test]
fn traced_pairs_survive() {
    for path in fixtures() {
        let graph = decode(std::fs::read(&path).unwrap().into()).unwrap();
        let again = decode(graph_to_bytes(&graph).into()).unwrap();
        assert_same(&graph, &again);
        assert!(graph.nodes.iter().any(|node| node.op == "Constant"), "constants stay nodes");
        let name = |id: &_| graph.value(*id).name.as_str();
        let expected: &[&str] = match path.ends_with("joe/decoder.onnx") {
            true => &["z", "y_mask"],
            false if path.ends_with("joe/encoder.onnx") => &["input", "input_lengths", "scales"],
            false if path.ends_with("decoder.onnx") => &["z", "y_mask", "g"],
            false => &["input", "input_lengths", "scales", "sid"],
        };
        assert_eq!(graph.inputs.iter().map(name).collect::<Vec<_>>(), expected, "{}", path.display());
    }
}

fn dim() -> impl Strategy<Value = Dim> {
    let term = (-9i64..9, vec("[a-c]{1,2}", 0..3));
    let symbols = vec(term, 1..4).prop_map(|terms| {
        terms.into_iter().fold(Dim::from(0i64), |sum, (coefficient, names)| {
            let term =
                names.into_iter().fold(Dim::from(coefficient), |term, name| &term * &Dim::symbol(name));
            &sum + &term
        })
    });
    // A negative constant is no length, anything else is.
    prop_oneof![(0i64..1000).prop_map(Dim::from), symbols]
        .prop_filter("no negative constant", |dim| dim.as_const().is_none_or(|value| value >= 0))
}

fn dtype() -> impl Strategy<Value = DType> {
    use DType::{Bool, F16, F32, F64, I32, I64};
    proptest::sample::select(vec![F32, F64, F16, I64, I32, Bool])
}

fn tensor() -> impl Strategy<Value = Tensor> {
    (dtype(), vec(0usize..4, 0..4)).prop_flat_map(|(dtype, dims)| {
        let len = dims.iter().product::<usize>() * dtype.size();
        vec(any::<u8>(), len).prop_map(move |data| Tensor { dtype, dims: dims.clone(), data: data.into() })
    })
}

fn attr() -> impl Strategy<Value = Attr> {
    prop_oneof![
        any::<i64>().prop_map(Attr::Int),
        any::<f32>().prop_map(Attr::Float),
        any::<String>().prop_map(Attr::String),
        vec(any::<i64>(), 0..4).prop_map(Attr::Ints),
        vec(any::<f32>(), 0..4).prop_map(Attr::Floats),
        tensor().prop_map(Attr::Tensor),
    ]
}

/// Any graph that decoding can give: operators and attributes need not make sense.
fn graph() -> impl Strategy<Value = Graph> {
    let described = || (dtype(), vec(dim(), 0..4));
    let node = (
        // None of those of which decoding looks at the inputs and attributes.
        "[A-Z][a-z]{1,4}".prop_filter("is checked", |op| {
            !matches!(op.as_str(), "If" | "Pad" | "Tile" | "Loop" | "Range" | "Split")
        }),
        vec(proptest::option::weighted(0.9, any::<Index>()), 0..4),
        vec(proptest::option::weighted(0.9, described()), 1..3),
        btree_map("[a-z]{1,5}", attr(), 0..4),
    );
    let metadata = btree_map(any::<String>(), any::<String>(), 0..4);
    (vec(described(), 1..4), vec(tensor(), 0..4), vec(node, 0..8), any::<Index>(), metadata, 1i64..30)
        .prop_map(|(inputs, constants, nodes, output, metadata, opset)| {
            let mut graph = Graph::new("any", opset);
            graph.metadata = metadata;
            let mut ids = Vec::new();
            for (i, (dtype, shape)) in inputs.iter().enumerate() {
                ids.push(test_graphs::typed(&mut graph, &format!("in.{i}"), *dtype, shape));
            }
            graph.inputs.clone_from(&ids);
            for (i, tensor) in constants.into_iter().enumerate() {
                ids.push(test_graphs::constant(&mut graph, &format!("w.{i}"), tensor));
            }
            for (i, (op, inputs, outputs, attrs)) in nodes.into_iter().enumerate() {
                let inputs = inputs.iter().map(|index| index.map(|index| *index.get(&ids))).collect();
                let output = |(k, described): (usize, &Option<(DType, Vec<Dim>)>)| {
                    let (dtype, shape) = described.as_ref()?;
                    Some(test_graphs::typed(&mut graph, &format!("v.{i}.{k}"), *dtype, shape))
                };
                let outputs: Vec<_> = outputs.iter().enumerate().map(output).collect();
                ids.extend(outputs.iter().flatten());
                graph.nodes.push(Node { name: format!("/{i}/{op}"), op, inputs, outputs, attrs });
            }
            graph.outputs.push(*output.get(&ids));
            graph
        })
}

proptest! {
    #[test]
    fn any_graph_survives(graph in graph()) {
        let bytes = graph_to_bytes(&graph);
        let decoded = decode(bytes.clone().into()).unwrap();
        assert_same(&graph, &decoded);
        prop_assert_eq!(graph_to_bytes(&decoded), bytes);
    }

    /// Damaged files are refused, or read as a graph that survives in its turn.
    #[test]
    fn no_damage_is_fatal(
        graph in graph(),
        damage in vec((any::<Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<Index>()),
    ) {
        let mut bytes = graph_to_bytes(&graph);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(decoded) = decode(bytes.into()) {
            let written = graph_to_bytes(&decoded);
            let again = decode(written.clone().into()).unwrap();
            prop_assert_eq!(graph_to_bytes(&again), written);
        }
    }

    #[test]
    fn noise_is_no_graph(bytes in vec(any::<u8>(), 0..256)) {
        prop_assert!(decode(bytes.into()).is_err());
    }
}
