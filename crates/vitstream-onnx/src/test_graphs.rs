//! Graphs for the tests of several modules.

use rten_tensor::AsView;

use crate::dim::Dim;
use crate::encode::to_bytes;
use crate::graph::{Attr, DType, Graph, Node, Tensor, ValueId, ValueInfo};
use crate::passes::Pass;
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

/// Adds a node with one output, named after it.
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

/// The error for [`small`] after `damage`.
pub(crate) fn rejected(damage: impl FnOnce(&mut Graph)) -> ValidateError {
    let mut graph = small();
    damage(&mut graph);
    validate(graph).expect_err("the damage is found")
}

/// Runs a float32 graph in rten, with every input filled with numbers between -1 and 1, `batch` 2 and `time`
/// 3.
pub(crate) fn outputs(graph: &Graph) -> Vec<Vec<f32>> {
    let graph = validate(graph.clone()).expect("a whole graph");
    let model = rten::Model::load(to_bytes(&graph)).expect("rten reads it");
    let lengths = |name: &str| Some(if name == "batch" { 2 } else { 3 });
    let inputs = graph.inputs.iter().map(|&id| {
        let info = graph.value(id);
        let dims = info.shape.iter().flatten().map(|dim| dim.eval(&lengths).expect("a length") as usize);
        let dims: Vec<usize> = dims.collect();
        let values = (0..dims.iter().product()).map(|i: usize| (i as f32 * 0.7).sin()).collect::<Vec<_>>();
        let tensor = rten_tensor::Tensor::from_data(&dims, values);
        (model.node_id(&info.name).expect("an input"), tensor.into())
    });
    let ids: Vec<_> =
        graph.outputs.iter().map(|&id| model.node_id(&graph.value(id).name).expect("an output")).collect();
    let outputs = model.run(inputs.collect(), &ids, None).expect("rten runs it");
    let elements = |value: rten::Value| value.into_tensor::<f32>().expect("float32").to_vec();
    outputs.into_iter().map(elements).collect()
}

/// Runs `pass` and asserts that it removes `removed` nodes and constants and changes neither the contract nor
/// the results.
pub(crate) fn assert_pass_keeps_outputs(pass: &dyn Pass, before: Graph, removed: usize) -> Graph {
    let mut after = before.clone();
    assert_eq!(pass.run(&mut after), removed, "{}", pass.name());
    let names =
        |graph: &Graph, ids: &[ValueId]| ids.iter().map(|&id| graph.value(id).clone()).collect::<Vec<_>>();
    assert_eq!(names(&after, &after.inputs), names(&before, &before.inputs));
    assert_eq!(names(&after, &after.outputs), names(&before, &before.outputs));
    assert_eq!(outputs(&after), outputs(&before));
    after
}
