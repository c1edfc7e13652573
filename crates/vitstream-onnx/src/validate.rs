//! Says whether a graph is whole. `Ok` means that [`crate::encode`] succeeds and that the file is well-formed ONNX.

use std::collections::HashSet;
use std::fmt;
use std::ops::{Deref, RangeInclusive};

use crate::dim::{self, Dim, Shape, parse_dim};
use crate::encode;
use crate::graph::{Attr, DType, Graph, LOOP_INPUTS, Node, Tensor, ValueId};
use crate::schema::{self, Lookup, MANY, OPSETS};

/// The size from which on no protobuf library reads a message.
const MAX_FILE: usize = (1 << 31) - 1;

/// A graph that has passed [`validate`].
#[derive(Clone, Debug)]
pub struct Validated(Graph);

impl Validated {
    /// The graph, free to be changed again.
    pub fn into_inner(self) -> Graph {
        self.0
    }
}

impl Deref for Validated {
    type Target = Graph;

    fn deref(&self) -> &Graph {
        &self.0
    }
}

/// The first mistake that was found in a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValidateError {
    /// The graph has no name, which ONNX requires.
    #[error("the graph has no name")]
    UnnamedGraph,
    /// An opset whose operators are not known here.
    #[error("opset {opset}: expected one of {} to {}", OPSETS.start(), OPSETS.end())]
    Opset {
        /// The graph's opset.
        opset: i64,
    },
    /// A [`ValueId`] of another graph.
    #[error("{place}: refers to value number {index}, but the graph has {count} values")]
    ForeignValue {
        /// Where the reference stands.
        place: String,
        /// The value's number.
        index: usize,
        /// How many values there are.
        count: usize,
    },
    /// A value without a name.
    #[error("value number {index} has no name")]
    UnnamedValue {
        /// The value's number.
        index: usize,
    },
    /// Two values of one name.
    #[error("two values are called `{name}`")]
    DuplicateValue {
        /// The name.
        name: String,
    },
    /// A node without a name.
    #[error("node number {index} ({op}) has no name")]
    UnnamedNode {
        /// The node's place in the order.
        index: usize,
        /// Its operator.
        op: String,
    },
    /// Two nodes of one name.
    #[error("two nodes are called `{name}`")]
    DuplicateNode {
        /// The name.
        name: String,
    },
    /// A value whose element type or shape is not known.
    #[error("value `{name}`: its {} is not known", if *.dtype { "element type" } else { "shape" })]
    Unknown {
        /// The value.
        name: String,
        /// Whether the element type is missing, else the shape.
        dtype: bool,
    },
    /// A dimension that ONNX cannot say, or that would be read back as another.
    #[error("value `{name}`: dimension `{dim}` is negative, or its symbols are no plain identifiers")]
    Dimension {
        /// The value.
        name: String,
        /// The dimension.
        dim: String,
    },
    /// A value that is given more than once, by inputs, initializers or nodes.
    #[error("value `{name}` is given both by {first} and by {second}")]
    ProducedTwice {
        /// The value.
        name: String,
        /// The input, initializer or node that gave it first.
        first: String,
        /// The one that gave it again.
        second: String,
    },
    /// A value that no input, initializer or node gives.
    #[error("value `{name}` is neither an input nor an initializer nor any node's output")]
    NeverProduced {
        /// The value.
        name: String,
    },
    /// A node that reads what a later node gives.
    #[error("node `{node}` reads `{value}` before it is given: nodes must be in topological order")]
    OutOfOrder {
        /// The node that reads.
        node: String,
        /// The value.
        value: String,
    },
    /// A value that is returned twice.
    #[error("output `{name}` is listed twice")]
    DuplicateOutput {
        /// The value.
        name: String,
    },
    /// The number of bytes does not follow from type and dimensions.
    #[error("{place}: {dtype} {dims:?} expects {}, found {found} bytes", show_len(*.expected))]
    TensorSize {
        /// The initializer, or node and attribute.
        place: String,
        /// Element type.
        dtype: DType,
        /// Lengths of the axes.
        dims: Vec<usize>,
        /// Bytes that these make; `None` when beyond what a tensor can have.
        expected: Option<usize>,
        /// Bytes that are there.
        found: usize,
    },
    /// The declaration of an initializer's value disagrees with the tensor.
    #[error("initializer `{name}` is declared as {declared}, found {found}")]
    Declaration {
        /// The value.
        name: String,
        /// As the value says.
        declared: String,
        /// As the tensor is.
        found: String,
    },
    /// An operator that the table of operators does not have.
    #[error("node `{node}`: operator {op} is not known in the default domain")]
    UnknownOp {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
    },
    /// An operator that is younger than the graph's opset.
    #[error("node `{node}`: {op} exists since opset {since}, the graph is of opset {opset}")]
    OpTooNew {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The first opset that has it.
        since: i64,
        /// The graph's opset.
        opset: i64,
    },
    /// Too few or too many inputs or outputs, or one left out that may not be.
    #[error("node `{node}`: {op} at opset {opset} takes {expected} {what}, found {found}")]
    Arity {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The graph's opset.
        opset: i64,
        /// `inputs` or `outputs`.
        what: &'static str,
        /// How many there may be.
        expected: String,
        /// How many there are.
        found: String,
    },
    /// An attribute that the operator does not have at this opset, or has with another type.
    #[error("node `{node}`: {op} at opset {opset} has no attribute `{attr}` of this type")]
    UnknownAttr {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The graph's opset.
        opset: i64,
        /// The attribute.
        attr: String,
    },
    /// An attribute that must be there and is not.
    #[error("node `{node}`: {op} needs the attribute `{attr}`")]
    MissingAttr {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// The attribute.
        attr: &'static str,
    },
    /// The body of a loop that does not fit its node.
    #[error("node `{node}`: its body {problem}")]
    Body {
        /// The node.
        node: String,
        /// The part that does not fit.
        problem: String,
    },
    /// A file beyond what protobuf libraries read.
    #[error("the file would have {size} bytes; ONNX files without external data end at {MAX_FILE}")]
    TooLarge {
        /// The file's size.
        size: usize,
    },
}

fn show_len(len: Option<usize>) -> String {
    len.map_or_else(|| "more bytes than there can be".to_owned(), |len| format!("{len} bytes"))
}

/// Checks that `graph` is well-formed and completely described:
///
/// - names of values and of nodes are there and unique;
/// - every value is given by exactly one input, initializer or node, and before it is read; outputs are distinct;
/// - every value has an element type and a shape, initializers the one that they are declared with;
/// - tensors have as many bytes as type and dimensions say;
/// - every operator exists in the graph's opset (15 to 21), with these numbers of inputs and outputs and these
///   attributes;
/// - the body of a `Loop` is as well-formed, shares no name with the graph around it but those that it reads there,
///   and contains no other loop;
/// - the file does not exceed protobuf's 2 GiB.
///
/// Whether a node's types and shapes fit its operator is the builder's to know, whether weights are finite their
/// owner's.
///
/// # Errors
/// The first thing that is wrong, by name.
pub fn validate(graph: Graph) -> Result<Validated, ValidateError> {
    if graph.name.is_empty() {
        return Err(ValidateError::UnnamedGraph);
    }
    if !OPSETS.contains(&graph.opset) {
        return Err(ValidateError::Opset { opset: graph.opset });
    }
    check_graph(&graph)?;
    for node in &graph.nodes {
        for attr in node.attrs.values() {
            if let Attr::Graph(body) = attr {
                check_body(&graph, node, body)?;
            }
        }
    }
    let size = encode::encoded_len(&graph);
    if size > MAX_FILE {
        return Err(ValidateError::TooLarge { size });
    }
    Ok(Validated(graph))
}

fn check_graph(graph: &Graph) -> Result<(), ValidateError> {
    check_values(graph)?;
    check_flow(graph)?;
    check_initializers(graph)?;
    graph.nodes.iter().try_for_each(|node| check_schema(node, graph.opset))
}

fn check_body(graph: &Graph, node: &Node, body: &Graph) -> Result<(), ValidateError> {
    let problem = |problem: String| ValidateError::Body { node: node.name.clone(), problem };
    check_graph(body)?;
    if body.opset != graph.opset {
        return Err(problem(format!("is of opset {}, the graph of {}", body.opset, graph.opset)));
    }
    if body.inputs.len() != node.inputs.len() || body.outputs.len() != node.outputs.len() + 1 {
        let (inputs, outputs) = (node.inputs.len(), node.outputs.len() + 1);
        let found = (body.inputs.len(), body.outputs.len());
        return Err(problem(format!(
            "needs {inputs} inputs and {outputs} outputs, found {} and {}",
            found.0, found.1
        )));
    }
    if body.nodes.iter().flat_map(|node| node.attrs.values()).any(|attr| matches!(attr, Attr::Graph(_))) {
        return Err(problem("contains a loop".to_owned()));
    }
    let outside: HashSet<&str> = graph.values().map(|(_, info)| info.name.as_str()).collect();
    let captured = &body.inputs[LOOP_INPUTS.min(body.inputs.len())..];
    let own = body.values().filter(|(id, _)| !captured.contains(id));
    match own.map(|(_, info)| &info.name).find(|name| outside.contains(name.as_str())) {
        Some(name) => Err(problem(format!("has a value `{name}`, and so has the graph"))),
        None => Ok(()),
    }
}

/// Bytes of a tensor; `None` when a dimension does not fit ONNX's int64 or the product overflows.
pub(crate) fn byte_len(dtype: DType, dims: &[usize]) -> Option<usize> {
    // A zero must not hide that the others overflow, whatever their order.
    let mut len = dtype.size();
    for &dim in dims {
        i64::try_from(dim).ok()?;
        len = len.checked_mul(dim.max(1))?;
    }
    Some(if dims.contains(&0) { 0 } else { len })
}

fn check_values(graph: &Graph) -> Result<(), ValidateError> {
    let mut names = HashSet::new();
    for (id, info) in graph.values() {
        if info.name.is_empty() {
            return Err(ValidateError::UnnamedValue { index: id.index() });
        }
        if !names.insert(&info.name) {
            return Err(ValidateError::DuplicateValue { name: info.name.clone() });
        }
        let unknown = |dtype| ValidateError::Unknown { name: info.name.clone(), dtype };
        info.dtype.ok_or_else(|| unknown(true))?;
        let shape = info.shape.as_ref().ok_or_else(|| unknown(false))?;
        if let Some(dim) = shape.iter().find(|dim| !is_sayable(dim)) {
            return Err(ValidateError::Dimension { name: info.name.clone(), dim: dim.to_string() });
        }
    }
    Ok(())
}

/// Whether a dimension survives being written and read.
fn is_sayable(dim: &Dim) -> bool {
    match dim.as_const() {
        Some(value) => value >= 0,
        None => parse_dim(&dim.to_string()) == *dim,
    }
}

/// What gives a value.
#[derive(Clone, Copy)]
enum Producer<'a> {
    Input,
    Initializer,
    Node(usize, &'a str),
}

impl fmt::Display for Producer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("an input"),
            Self::Initializer => f.write_str("an initializer"),
            Self::Node(_, name) => write!(f, "node `{name}`"),
        }
    }
}

/// Names of nodes, single assignment, topological order, and that nothing refers to what is not there.
fn check_flow(graph: &Graph) -> Result<(), ValidateError> {
    let mut producers = vec![None; graph.values.len()];
    for &id in &graph.inputs {
        produce(graph, &mut producers, id, Producer::Input)?;
    }
    for &id in graph.initializers.keys() {
        produce(graph, &mut producers, id, Producer::Initializer)?;
    }
    let mut names = HashSet::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if node.name.is_empty() {
            return Err(ValidateError::UnnamedNode { index, op: node.op.clone() });
        }
        if !names.insert(&node.name) {
            return Err(ValidateError::DuplicateNode { name: node.name.clone() });
        }
        for &id in node.outputs.iter().flatten() {
            produce(graph, &mut producers, id, Producer::Node(index, &node.name))?;
        }
    }
    if let Some(index) = producers.iter().position(Option::is_none) {
        return Err(ValidateError::NeverProduced { name: graph.values[index].name.clone() });
    }

    for (index, node) in graph.nodes.iter().enumerate() {
        for &id in node.inputs.iter().flatten() {
            let producer = producers.get(id.index()).ok_or_else(|| foreign(graph, id, &node.name))?;
            if matches!(producer, Some(Producer::Node(from, _)) if *from >= index) {
                let value = graph.value(id).name.clone();
                return Err(ValidateError::OutOfOrder { node: node.name.clone(), value });
            }
        }
    }
    let mut returned = HashSet::new();
    for &id in &graph.outputs {
        if id.index() >= graph.values.len() {
            return Err(foreign(graph, id, "outputs"));
        }
        if !returned.insert(id) {
            return Err(ValidateError::DuplicateOutput { name: graph.value(id).name.clone() });
        }
    }
    Ok(())
}

fn produce<'a>(
    graph: &Graph,
    producers: &mut [Option<Producer<'a>>],
    id: ValueId,
    producer: Producer<'a>,
) -> Result<(), ValidateError> {
    let slot = producers.get_mut(id.index()).ok_or_else(|| foreign(graph, id, &producer.to_string()))?;
    match slot.replace(producer) {
        None => Ok(()),
        Some(first) => Err(ValidateError::ProducedTwice {
            name: graph.value(id).name.clone(),
            first: first.to_string(),
            second: producer.to_string(),
        }),
    }
}

fn foreign(graph: &Graph, id: ValueId, place: &str) -> ValidateError {
    ValidateError::ForeignValue { place: place.to_owned(), index: id.index(), count: graph.values.len() }
}

fn check_initializers(graph: &Graph) -> Result<(), ValidateError> {
    for (&id, tensor) in &graph.initializers {
        let info = graph.value(id);
        check_tensor(tensor, || format!("initializer `{}`", info.name))?;
        let shape: Shape = tensor.dims.iter().map(|&dim| Dim::from(dim)).collect();
        if info.dtype != Some(tensor.dtype) || info.shape.as_ref() != Some(&shape) {
            let dtype = info.dtype.map_or_else(|| "?".to_owned(), |dtype| dtype.to_string());
            return Err(ValidateError::Declaration {
                name: info.name.clone(),
                declared: format!(
                    "{dtype} {}",
                    info.shape.as_deref().map_or_else(|| "?".to_owned(), dim::show)
                ),
                found: format!("{} {:?}", tensor.dtype, tensor.dims),
            });
        }
    }
    Ok(())
}

fn check_tensor(tensor: &Tensor, place: impl Fn() -> String) -> Result<(), ValidateError> {
    let expected = byte_len(tensor.dtype, &tensor.dims);
    if expected == Some(tensor.data.len()) {
        return Ok(());
    }
    Err(ValidateError::TensorSize {
        place: place(),
        dtype: tensor.dtype,
        dims: tensor.dims.clone(),
        expected,
        found: tensor.data.len(),
    })
}

fn check_schema(node: &Node, opset: i64) -> Result<(), ValidateError> {
    let (name, op) = (|| node.name.clone(), || node.op.clone());
    let schema = match schema::lookup(&node.op, opset) {
        Lookup::Found(schema) => schema,
        Lookup::Since(since) => return Err(ValidateError::OpTooNew { node: name(), op: op(), since, opset }),
        Lookup::Unknown => return Err(ValidateError::UnknownOp { node: name(), op: op() }),
    };
    for (what, allowed, ids) in
        [("inputs", &schema.inputs, &node.inputs), ("outputs", &schema.outputs, &node.outputs)]
    {
        let variadic = *allowed.end() == MANY;
        let absent = ids.iter().position(Option::is_none).filter(|&at| variadic || at < *allowed.start());
        if !allowed.contains(&ids.len()) || absent.is_some() {
            return Err(ValidateError::Arity {
                node: name(),
                op: op(),
                opset,
                what,
                expected: show_range(allowed),
                found: match absent {
                    Some(at) => format!("{} of which number {at} is left out", ids.len()),
                    None => ids.len().to_string(),
                },
            });
        }
    }
    for (attr, value) in &node.attrs {
        if !schema.accepts(attr, value) {
            return Err(ValidateError::UnknownAttr { node: name(), op: op(), opset, attr: attr.clone() });
        }
        if let Attr::Tensor(tensor) = value {
            check_tensor(tensor, || format!("node `{}`, attribute `{attr}`", node.name))?;
        }
    }
    match schema.required_attrs().find(|&attr| !node.attrs.contains_key(attr)) {
        Some(attr) => Err(ValidateError::MissingAttr { node: name(), op: op(), attr }),
        None => Ok(()),
    }
}

fn show_range(range: &RangeInclusive<usize>) -> String {
    match (*range.start(), *range.end()) {
        (start, MANY) => format!("at least {start}"),
        (start, end) if start == end => start.to_string(),
        (start, end) => format!("{start} to {end}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_graphs::{self, rejected};

    #[test]
    fn a_whole_graph_passes() {
        let graph = test_graphs::small();
        assert_eq!(validate(graph).unwrap().nodes.len(), 3);
    }

    #[test]
    fn names_are_there_and_unique() {
        assert_eq!(rejected(|g| g.name.clear()), ValidateError::UnnamedGraph);
        assert_eq!(rejected(|g| g.values[1].name.clear()), ValidateError::UnnamedValue { index: 1 });
        assert_eq!(
            rejected(|g| g.values[1].name = "x".to_owned()),
            ValidateError::DuplicateValue { name: "x".to_owned() }
        );
        assert_eq!(
            rejected(|g| g.nodes[1].name.clear()),
            ValidateError::UnnamedNode { index: 1, op: "Add".to_owned() }
        );
        assert_eq!(
            rejected(|g| g.nodes[1].name = "/MatMul".to_owned()),
            ValidateError::DuplicateNode { name: "/MatMul".to_owned() }
        );
    }

    #[test]
    fn each_value_is_given_once_and_before_it_is_read() {
        assert_eq!(
            rejected(|g| g.nodes.swap(0, 1)).to_string(),
            "node `/Add` reads `product` before it is given: nodes must be in topological order"
        );
        assert_eq!(
            rejected(|g| g.inputs.push(g.find("w").unwrap())).to_string(),
            "value `w` is given both by an input and by an initializer"
        );
        assert_eq!(
            rejected(|g| g.nodes[1].outputs = g.nodes[0].outputs.clone()).to_string(),
            "value `product` is given both by node `/MatMul` and by node `/Add`"
        );
        assert_eq!(
            rejected(|g| {
                g.nodes.pop();
            }),
            ValidateError::NeverProduced { name: "y".to_owned() }
        );
        assert_eq!(
            rejected(|g| g.nodes[0].inputs[0] = Some(ValueId(77))).to_string(),
            "/MatMul: refers to value number 77, but the graph has 6 values"
        );
        assert_eq!(
            rejected(|g| g.outputs.push(ValueId(77))).to_string(),
            "outputs: refers to value number 77, but the graph has 6 values"
        );
        assert_eq!(
            rejected(|g| g.outputs.push(g.outputs[0])),
            ValidateError::DuplicateOutput { name: "y".to_owned() }
        );
    }

    #[test]
    fn every_value_is_described() {
        assert_eq!(rejected(|g| g.values[0].shape = None).to_string(), "value `x`: its shape is not known");
        assert_eq!(
            rejected(|g| g.values[0].dtype = None).to_string(),
            "value `x`: its element type is not known"
        );
        assert_eq!(
            rejected(|g| g.values[0].shape = Some(vec![Dim::from(-1i64)])),
            ValidateError::Dimension { name: "x".to_owned(), dim: "-1".to_owned() }
        );
        assert_eq!(
            rejected(|g| g.values[0].shape = Some(vec![Dim::symbol("a*b")])),
            ValidateError::Dimension { name: "x".to_owned(), dim: "a*b".to_owned() }
        );
    }

    #[test]
    fn tensors_have_their_size() {
        let resized = |dims: &[usize]| {
            rejected(|g| {
                let w = g.find("w").unwrap();
                g.initializers.get_mut(&w).unwrap().dims = dims.to_vec();
            })
            .to_string()
        };
        assert_eq!(resized(&[2, 3]), "initializer `w`: float32 [2, 3] expects 24 bytes, found 16 bytes");
        assert_eq!(resized(&[4]), "initializer `w` is declared as float32 [2, 2], found float32 [4]");
        assert!(resized(&[usize::MAX, 0]).contains("more bytes than there can be"));
    }

    #[test]
    fn operators_fit_the_opset() {
        let changed = |op: &str, opset| {
            rejected(|g| {
                g.opset = opset;
                g.nodes[2].op = op.to_owned();
            })
            .to_string()
        };
        assert_eq!(changed("Relu", 14), "opset 14: expected one of 15 to 21");
        assert_eq!(
            changed("Gelu", 19),
            "node `/LeakyRelu`: Gelu exists since opset 20, the graph is of opset 19"
        );
        assert_eq!(
            changed("Frobnicate", 15),
            "node `/LeakyRelu`: operator Frobnicate is not known in the default domain"
        );
        assert_eq!(changed("Add", 15), "node `/LeakyRelu`: Add at opset 15 takes 2 inputs, found 1");
        assert_eq!(
            changed("Relu", 15),
            "node `/LeakyRelu`: Relu at opset 15 has no attribute `alpha` of this type"
        );
        assert_eq!(
            rejected(|g| {
                g.nodes[2].op = "Cast".to_owned();
                g.nodes[2].attrs.clear();
            })
            .to_string(),
            "node `/LeakyRelu`: Cast needs the attribute `to`"
        );
        assert_eq!(
            rejected(|g| g.nodes[0].inputs[1] = None).to_string(),
            "node `/MatMul`: MatMul at opset 15 takes 2 inputs, found 2 of which number 1 is left out"
        );
    }
}
