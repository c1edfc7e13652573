//! Graphs for the tests of several modules.

use crate::dim::Dim;
use crate::graph::{Attr, DType, Graph, Node, Tensor, ValueId, ValueInfo};
use crate::validate::{ValidateError, validate};

/// Adds a float32 value.
pub(crate) fn value(graph: &mut Graph, name: &str, shape: &[Dim]) -> ValueId {
    typed(graph, name, DType::F32, shape)
}

/// Adds a value.
pub(crate) fn typed(graph: &mut Graph, name: &str, dtype: DType, shape: &[Dim]) -> ValueId {
    graph.add_value(ValueInfo { name: name.to_owned(), dtype: Some(dtype), shape: Some(shape.to_vec()) })
}

/// Adds a constant.
pub(crate) fn constant(graph: &mut Graph, name: &str, tensor: Tensor) -> ValueId {
    let shape: Vec<Dim> = tensor.dims.iter().map(|&dim| Dim::from(dim)).collect();
    let id = typed(graph, name, tensor.dtype, &shape);
    graph.initializers.insert(id, tensor);
    id
}

/// Adds a node with one output, called after it.
pub(crate) fn node(graph: &mut Graph, name: &str, op: &str, inputs: &[ValueId], output: ValueId) {
    graph.nodes.push(Node {
        name: name.to_owned(),
        op: op.to_owned(),
        inputs: inputs.iter().copied().map(Some).collect(),
        outputs: vec![Some(output)],
        attrs: Default::default(),
    });
}

/// `y = LeakyRelu(x @ w + b)` with `x: f32[batch, 2*time + 1, 2]`.
pub(crate) fn small() -> Graph {
    let mut graph = Graph::new("small", 15);
    let rows = &(&Dim::symbol("time") * &Dim::from(2i64)) + &Dim::from(1i64);
    let shape = [Dim::symbol("batch"), rows, Dim::from(2i64)];
    let x = value(&mut graph, "x", &shape);
    let w = constant(&mut graph, "w", Tensor::f32(&[2, 2], &[1.0, -2.0, 0.5, 3.0]));
    let b = constant(&mut graph, "b", Tensor::f32(&[2], &[0.25, -0.25]));
    let product = value(&mut graph, "product", &shape);
    let sum = value(&mut graph, "sum", &shape);
    let y = value(&mut graph, "y", &shape);
    graph.inputs.push(x);
    node(&mut graph, "/MatMul", "MatMul", &[x, w], product);
    node(&mut graph, "/Add", "Add", &[product, b], sum);
    node(&mut graph, "/LeakyRelu", "LeakyRelu", &[sum], y);
    graph.nodes[2].attrs.insert("alpha".to_owned(), Attr::Float(0.1));
    graph.outputs.push(y);
    graph.metadata.insert("sample_rate".to_owned(), "22050".to_owned());
    graph.metadata.insert("hop_length".to_owned(), "256".to_owned());
    graph
}

/// Why [`small`] is refused after `damage`.
pub(crate) fn rejected(damage: impl FnOnce(&mut Graph)) -> ValidateError {
    let mut graph = small();
    damage(&mut graph);
    validate(graph).expect_err("the damage is found")
}
