//! Reads ONNX files, whoever wrote them.
//!
//! The file is not trusted. Before anything is parsed, its messages are counted along the schema and bounded, so that
//! a small file cannot ask for much memory; the schema as declared here has no recursion, and loops no loops within;
//! what a [`Graph`] cannot hold is refused by name instead of being left out. Weights stay where they are: tensors
//! are slices of the input.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use prost::Message;
use prost::encoding::{self, DecodeContext, WireType};

use crate::bounds;
use crate::branches;
use crate::dim::{Dim, Shape, parse_dim};
use crate::error::{DecodeError, MAX_RECORDS, shown};
use crate::external::{External, OpenBeside};
use crate::graph::{Attr, DType, Graph, LOOP_INPUTS, Node, Tensor, ValueId, ValueInfo};
use crate::proto::{self, attribute_type, data_type};
use crate::validate::byte_len;

fn unsupported(place: impl Into<String>, what: impl Into<String>) -> DecodeError {
    DecodeError::unsupported(place, what)
}

fn malformed(place: impl Into<String>, what: impl Into<String>) -> DecodeError {
    DecodeError::malformed(place, what)
}

/// Reads an ONNX file. Initializers with `raw_data` are slices of `bytes`, which may lie in a mapped file
/// ([`Bytes::from_owner`]).
///
/// Values keep their names. Nodes do too; one without a name, or with that of an earlier node, is called after its
/// operator and its place. Dimensions that the file leaves open become symbols of their own, called `unknown_0` and so
/// on. An initializer that is listed among the inputs as well, as files of IR version 3 must, is a constant here.
/// Documentation strings, training information and metadata of nodes are left out. An `If` whose branches differ only in
/// shape is replaced by the branch that changes it.
///
/// # Errors
/// [`DecodeError::Unsupported`] for subgraphs other than those and the body of a `Loop` that carries nothing, functions,
/// sparse tensors, other domains than the default one, and element types other than [`DType`]'s;
/// [`DecodeError::External`] for elements that lie in another file, see [`decode_with`]; the other variants for files
/// that are broken, or that ask for what no runtime can do.
pub fn decode(bytes: Bytes) -> Result<Graph, DecodeError> {
    decode_model(bytes, External::new(None))
}

/// As [`decode`], for a graph whose elements may lie in other files. `open` gives the contents of the file of a plain
/// name (no path leads anywhere else) that lies beside the graph; it is asked once for each file.
///
/// # Errors
/// As [`decode`]; [`DecodeError::External`] when a file is given by more than its name, cannot be opened, is too short,
/// or two tensors share its bytes.
pub fn decode_with(bytes: Bytes, open: &mut OpenBeside<'_>) -> Result<Graph, DecodeError> {
    decode_model(bytes, External::new(Some(open)))
}

fn decode_model(bytes: Bytes, external: External<'_>) -> Result<Graph, DecodeError> {
    let external = RefCell::new(external);
    count_records(&bytes)?;
    let model = proto::Model::decode(bytes)?;
    if let Some(function) = model.functions.first() {
        let name = function.name.as_deref().unwrap_or_default();
        return Err(unsupported(format!("function `{}`", shown(name)), "a function defined in the file"));
    }
    let opset = default_opset(&model.opset_import)?;
    let graph = model.graph.ok_or_else(|| malformed("model", "expected a graph, found none"))?;
    let (mut decoded, _) = GraphReader::new(&graph, opset, &external, None)?.decode(graph)?;
    for entry in model.metadata_props {
        let key = entry.key.unwrap_or_default();
        if decoded.metadata.contains_key(&key) {
            return Err(malformed(format!("metadata `{}`", shown(&key)), "is given twice"));
        }
        decoded.metadata.insert(key, entry.value.unwrap_or_default());
    }
    Ok(decoded)
}

fn default_opset(imports: &[proto::OperatorSetId]) -> Result<i64, DecodeError> {
    let mut versions = imports
        .iter()
        .filter(|import| is_default_domain(import.domain.as_deref()))
        .map(|import| import.version.unwrap_or_default());
    match (versions.next(), versions.next()) {
        (Some(version @ 1..), None) => Ok(version),
        (Some(version), None) => Err(malformed("model", format!("opset {version} does not exist"))),
        (None, _) => Err(malformed("model", "expected the opset of the default domain, found none")),
        (Some(_), Some(_)) => Err(malformed("model", "has two opsets of the default domain")),
    }
}

fn is_default_domain(domain: Option<&str>) -> bool {
    matches!(domain, None | Some("" | "ai.onnx"))
}

/// The messages of which a file can hold many, each with its own memory once parsed.
#[derive(Clone, Copy)]
enum Record {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Leaf,
}

impl Record {
    /// What a length-delimited field holds, if it is one to count.
    fn child(self, tag: u32) -> Option<Self> {
        Some(match (self, tag) {
            (Self::Model, 7) => Self::Graph,
            (Self::Model, 8 | 14 | 25) => Self::Leaf,
            (Self::Graph, 1) => Self::Node,
            (Self::Graph, 5) => Self::Tensor,
            (Self::Graph, 11..=13) => Self::ValueInfo,
            (Self::Graph, 14 | 15) => Self::Leaf,
            (Self::Node, 1 | 2) => Self::Leaf,
            (Self::Node, 5) => Self::Attribute,
            (Self::Attribute, 5) => Self::Tensor,
            (Self::Attribute, 6) => Self::Graph,
            (Self::Tensor, 13) => Self::Leaf,
            (Self::ValueInfo, 2) => Self::Type,
            (Self::Type, 1) => Self::TensorType,
            (Self::TensorType, 2) => Self::Shape,
            (Self::Shape, 1) => Self::Leaf,
            _ => return None,
        })
    }
}

/// Refuses more than [`MAX_RECORDS`] before memory is spent on them.
pub(crate) fn count_records(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut records = 0;
    // No deeper than the file is long: there is an entry for each message around the one that is read.
    let mut open = vec![(Record::Model, bytes)];
    while let Some((record, mut rest)) = open.pop() {
        if rest.is_empty() {
            continue;
        }
        let (tag, wire_type) = encoding::decode_key(&mut rest)?;
        if wire_type != WireType::LengthDelimited {
            encoding::skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
            open.push((record, rest));
            continue;
        }
        let len = encoding::decode_varint(&mut rest)?;
        let (field, after) =
            usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len)).ok_or_else(|| {
                malformed("file", format!("a field of {len} bytes where {} are left", rest.len()))
            })?;
        open.push((record, after));
        if let Some(child) = record.child(tag) {
            records += 1;
            if records > MAX_RECORDS {
                return Err(DecodeError::TooManyRecords);
            }
            if !matches!(child, Record::Leaf) {
                open.push((child, field));
            }
        }
    }
    Ok(())
}

/// The nodes, with those in place of an `If` that either of its branches may stand for.
fn without_branches(nodes: Vec<proto::Node>) -> Result<Vec<proto::Node>, DecodeError> {
    let mut straight = Vec::with_capacity(nodes.len());
    for node in nodes {
        let is_if = node.op_type.as_deref() == Some("If") && is_default_domain(node.domain.as_deref());
        if is_if {
            let place = format!("node `{}`", shown(node.name.as_deref().unwrap_or_default()));
            straight.extend(branches::inline(node, &place)?);
        } else {
            straight.push(node);
        }
    }
    Ok(straight)
}

/// What a `Constant` gives.
fn constant_of(node: &Node) -> Option<Tensor> {
    match (node.op.as_str(), node.attrs.first_key_value()?) {
        ("Constant", (_, Attr::Tensor(tensor))) => Some(tensor.clone()),
        ("Constant", (_, Attr::Int(value))) => Some(Tensor::i64(&[], &[*value])),
        ("Constant", (_, Attr::Ints(values))) => Some(Tensor::i64(&[values.len()], values)),
        _ => None,
    }
}

/// What the file declares of a value.
type Declared = (Option<DType>, Option<Shape>);

/// The graph as far as it has been read.
struct GraphReader<'a, 'e> {
    graph: Graph,
    /// Where elements lie that are not in the file.
    external: &'a RefCell<External<'e>>,
    /// What nodes give that are constants.
    constants: HashMap<ValueId, Tensor>,
    /// The graph around it, if this is a body.
    around: Option<&'a GraphReader<'a, 'e>>,
    /// What the body reads of that: its values, as often as the body has captured inputs.
    captured: Vec<ValueId>,
    ids: HashMap<String, ValueId>,
    declared: HashMap<String, Declared>,
    /// Names that nodes have or have been given.
    node_names: HashSet<String>,
}

impl<'a, 'e> GraphReader<'a, 'e> {
    fn new(
        graph: &proto::Graph,
        opset: i64,
        external: &'a RefCell<External<'e>>,
        around: Option<&'a Self>,
    ) -> Result<Self, DecodeError> {
        if let Some(sparse) = graph.sparse_initializer.first() {
            let name = sparse.values.as_ref().and_then(|values| values.name.as_deref()).unwrap_or_default();
            return Err(unsupported(format!("initializer `{}`", shown(name)), "a sparse tensor"));
        }
        if let Some(annotation) = graph.quantization_annotation.first() {
            let name = annotation.tensor_name.as_deref().unwrap_or_default();
            return Err(unsupported(format!("value `{}`", shown(name)), "quantization"));
        }
        let mut declarations = Declarations::new(graph);
        let mut declared = HashMap::new();
        // Where several declare the same value, the graph's own inputs and outputs are believed.
        for info in graph.value_info.iter().chain(&graph.output).chain(&graph.input) {
            let name = info.name.clone().unwrap_or_default();
            let described = declaration(info, &mut declarations)?;
            declared.insert(name, described);
        }
        Ok(Self {
            graph: Graph::new(graph.name.clone().unwrap_or_default(), opset),
            external,
            constants: HashMap::new(),
            around,
            captured: Vec::new(),
            ids: HashMap::new(),
            declared,
            node_names: graph.node.iter().filter_map(|node| node.name.clone()).collect(),
        })
    }

    /// The graph, and what of the graph around it its last inputs stand for.
    fn decode(mut self, graph: proto::Graph) -> Result<(Graph, Vec<ValueId>), DecodeError> {
        let constants: HashSet<String> =
            graph.initializer.iter().filter_map(|tensor| tensor.name.clone()).collect();
        for input in graph.input {
            let name = input.name.unwrap_or_default();
            if !constants.contains(&name) {
                let id = self.add_value(name)?;
                self.graph.inputs.push(id);
            }
        }
        for mut tensor in graph.initializer {
            let name = tensor.name.take().unwrap_or_default();
            let place = || format!("initializer `{}`", shown(&name));
            let tensor = decode_tensor(tensor, &mut self.external.borrow_mut(), &place)?;
            let shape = tensor.dims.iter().map(|&dim| Dim::from(dim)).collect();
            self.declared.insert(name.clone(), (Some(tensor.dtype), Some(shape)));
            let id = self.add_value(name)?;
            self.graph.initializers.insert(id, tensor);
        }
        let mut used_names = HashSet::new();
        for (index, mut node) in without_branches(graph.node)?.into_iter().enumerate() {
            let op = node.op_type.as_deref().unwrap_or_default();
            let name = match node.name.take() {
                Some(name) if !name.is_empty() && used_names.insert(name.clone()) => name,
                _ => self.fresh_node_name(op, index),
            };
            let node = self.decode_node(node, name)?;
            bounds::check(&self.graph, &self.constants, &node)?;
            if let (Some(tensor), [Some(output)]) = (constant_of(&node), &node.outputs[..]) {
                self.constants.insert(*output, tensor);
            }
            self.graph.nodes.push(node);
        }
        for output in graph.output {
            let name = output.name.unwrap_or_default();
            let id = self
                .find(&name)?
                .ok_or_else(|| malformed("outputs", format!("nothing gives `{}`", shown(&name))))?;
            self.graph.outputs.push(id);
        }
        Ok((self.graph, self.captured))
    }

    /// The value called `name` here, or in the graph around.
    fn find(&mut self, name: &str) -> Result<Option<ValueId>, DecodeError> {
        if let Some(&id) = self.ids.get(name) {
            return Ok(Some(id));
        }
        let Some((around, &outer)) = self.around.and_then(|around| Some((around, around.ids.get(name)?)))
        else {
            return Ok(None);
        };
        let ValueInfo { dtype, shape, .. } = around.graph.value(outer).clone();
        self.declared.insert(name.to_owned(), (dtype, shape));
        let inner = self.add_value(name.to_owned())?;
        self.graph.inputs.push(inner);
        self.captured.push(outer);
        Ok(Some(inner))
    }

    /// Adds the value `name` at the place that gives it.
    fn add_value(&mut self, name: String) -> Result<ValueId, DecodeError> {
        if name.is_empty() {
            return Err(malformed("graph", "an input or initializer without a name"));
        }
        if self.ids.contains_key(&name) {
            return Err(malformed(format!("value `{}`", shown(&name)), "is given twice"));
        }
        let (dtype, shape) = self.declared.remove(&name).unwrap_or_default();
        let id = self.graph.add_value(ValueInfo { name: name.clone(), dtype, shape });
        self.ids.insert(name, id);
        Ok(id)
    }

    fn fresh_node_name(&mut self, op: &str, index: usize) -> String {
        let mut name = format!("{op}_{index}");
        while !self.node_names.insert(name.clone()) {
            name.push('_');
        }
        name
    }

    fn decode_node(&mut self, node: proto::Node, name: String) -> Result<Node, DecodeError> {
        let place = || format!("node `{}`", shown(&name));
        let op = node.op_type.unwrap_or_default();
        if op.is_empty() {
            return Err(malformed(place(), "has no operator"));
        }
        if !is_default_domain(node.domain.as_deref()) {
            let domain = node.domain.unwrap_or_default();
            return Err(DecodeError::Domain { place: place(), op: shown(&op), domain: shown(&domain) });
        }
        if let Some(overload) = node.overload.filter(|overload| !overload.is_empty()) {
            return Err(unsupported(place(), format!("overload `{}` of {}", shown(&overload), shown(&op))));
        }
        let mut attrs = BTreeMap::new();
        let mut captured = Vec::new();
        for mut attribute in node.attribute {
            let attr_name = attribute.name.take().unwrap_or_default();
            let place = || format!("node `{}`, attribute `{}`", shown(&name), shown(&attr_name));
            let attr = match attribute.r#type {
                Some(attribute_type::GRAPH) if op == "Loop" && node.input.len() == LOOP_INPUTS => {
                    let (body, outer) = self.decode_body(attribute.g.unwrap_or_default(), place)?;
                    captured = outer;
                    Attr::Graph(Box::new(body))
                }
                _ => decode_attribute(attribute, &mut self.external.borrow_mut(), place)?,
            };
            if attrs.contains_key(&attr_name) {
                return Err(malformed(place(), "is given twice"));
            }
            attrs.insert(attr_name, attr);
        }
        let input = |input: String| match self.find(&input)? {
            _ if input.is_empty() => Ok(None),
            Some(id) => Ok(Some(id)),
            None => {
                Err(malformed(place(), format!("reads `{}`, which nothing before it gives", shown(&input))))
            }
        };
        let mut inputs = node.input.into_iter().map(input).collect::<Result<Vec<_>, _>>()?;
        inputs.extend(captured.into_iter().map(Some));
        let output = |output: String| match output.is_empty() {
            true => Ok(None),
            false => self.add_value(output).map(Some),
        };
        let outputs = node.output.into_iter().map(output).collect::<Result<_, _>>()?;
        Ok(Node { name, op, inputs, outputs, attrs })
    }

    /// The body of a `Loop`.
    fn decode_body(
        &self,
        bytes: Bytes,
        place: impl Fn() -> String,
    ) -> Result<(Graph, Vec<ValueId>), DecodeError> {
        if self.around.is_some() {
            return Err(unsupported(place(), "a loop within a loop"));
        }
        let body = proto::Graph::decode(bytes)?;
        let (body, captured) =
            GraphReader::new(&body, self.graph.opset, self.external, Some(self))?.decode(body)?;
        match body.inputs.len() - captured.len() {
            LOOP_INPUTS => Ok((body, captured)),
            found => {
                Err(malformed(place(), format!("expected a body of {LOOP_INPUTS} inputs, found {found}")))
            }
        }
    }
}

/// The dimensions of a graph's declarations, and names for those that have none.
struct Declarations {
    /// What each text stands for: a graph says few different ones, thousands of times.
    dims: HashMap<String, Dim>,
    /// Symbols of these.
    taken: HashSet<String>,
    /// Names that were given.
    count: usize,
}

impl Declarations {
    fn new(graph: &proto::Graph) -> Self {
        let mut dims = HashMap::new();
        let shapes = [&graph.value_info, &graph.output, &graph.input]
            .into_iter()
            .flatten()
            .filter_map(|info| info.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref());
        for text in shapes.flat_map(|shape| &shape.dim).filter_map(|dim| dim.dim_param.as_deref()) {
            if !dims.contains_key(text) {
                dims.insert(text.to_owned(), parse_dim(text));
            }
        }
        let symbols = dims.values().flat_map(Dim::terms).flat_map(|(_, factors)| factors.to_vec());
        Self { taken: symbols.collect(), dims, count: 0 }
    }

    /// What `text` stands for.
    fn dim(&self, text: &str) -> Dim {
        self.dims.get(text).cloned().unwrap_or_else(|| parse_dim(text))
    }

    fn fresh(&mut self) -> Dim {
        loop {
            let name = format!("unknown_{}", self.count);
            self.count += 1;
            if !self.taken.contains(&name) {
                return Dim::symbol(name);
            }
        }
    }
}

fn declaration(info: &proto::ValueInfo, declarations: &mut Declarations) -> Result<Declared, DecodeError> {
    let place = || format!("value `{}`", shown(info.name.as_deref().unwrap_or_default()));
    let Some(r#type) = &info.r#type else { return Ok((None, None)) };
    let others = [
        (&r#type.sequence_type, "a sequence"),
        (&r#type.map_type, "a map"),
        (&r#type.opaque_type, "an opaque type"),
        (&r#type.sparse_tensor_type, "a sparse tensor"),
        (&r#type.optional_type, "an optional value"),
    ];
    if let Some((_, what)) = others.into_iter().find(|(present, _)| present.is_some()) {
        return Err(unsupported(place(), what));
    }
    let Some(tensor) = &r#type.tensor_type else { return Ok((None, None)) };
    let dtype = match tensor.elem_type {
        None | Some(0) => None,
        Some(code) => Some(decode_dtype(code, place)?),
    };
    let Some(shape) = &tensor.shape else { return Ok((dtype, None)) };
    let dimension = |dim: &proto::Dimension| match (dim.dim_value, dim.dim_param.as_deref()) {
        (Some(value @ 0..=bounds::MAX_DIM), _) => Ok(Dim::from(value)),
        (Some(value), _) => Err(malformed(place(), format!("a dimension of {value}"))),
        (None, None | Some("")) => Ok(declarations.fresh()),
        (None, Some(text)) => Ok(declarations.dim(text)),
    };
    bounds::check_rank(shape.dim.len(), place)?;
    let shape = shape.dim.iter().map(dimension).collect::<Result<_, _>>()?;
    Ok((dtype, Some(shape)))
}

fn decode_dtype(code: i32, place: impl Fn() -> String) -> Result<DType, DecodeError> {
    data_type::dtype(code).map_err(|name| DecodeError::ElementType { place: place(), found: name })
}

fn decode_attribute(
    attribute: proto::Attribute,
    external: &mut External<'_>,
    place: impl Fn() -> String,
) -> Result<Attr, DecodeError> {
    if let Some(reference) = attribute.ref_attr_name.filter(|name| !name.is_empty()) {
        return Err(unsupported(
            place(),
            format!("a reference to the attribute `{}` of a function", shown(&reference)),
        ));
    }
    Ok(match attribute.r#type.unwrap_or_default() {
        attribute_type::INT => Attr::Int(attribute.i.unwrap_or_default()),
        attribute_type::FLOAT => Attr::Float(attribute.f.unwrap_or_default()),
        attribute_type::INTS => Attr::Ints(attribute.ints),
        attribute_type::FLOATS => Attr::Floats(attribute.floats),
        attribute_type::STRING => {
            let bytes = attribute.s.unwrap_or_default();
            let text =
                String::from_utf8(bytes.into()).map_err(|_| unsupported(place(), "a string not in UTF-8"))?;
            Attr::String(text)
        }
        attribute_type::TENSOR => {
            let tensor = attribute.t.ok_or_else(|| malformed(place(), "expected a tensor, found none"))?;
            Attr::Tensor(decode_tensor(*tensor, external, &place)?)
        }
        other => return Err(unsupported(place(), attribute_type::describe(other))),
    })
}

fn decode_tensor(
    tensor: proto::Tensor,
    external: &mut External<'_>,
    place: &dyn Fn() -> String,
) -> Result<Tensor, DecodeError> {
    const EXTERNAL: i32 = 1;
    if tensor.segment.is_some() {
        return Err(unsupported(place(), "a tensor in segments"));
    }
    let dtype = decode_dtype(tensor.data_type.unwrap_or_default(), place)?;
    bounds::check_rank(tensor.dims.len(), place)?;
    let negative = |dim| malformed(place(), format!("a dimension of {dim}"));
    let dims: Vec<usize> = tensor
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim).map_err(|_| negative(dim)))
        .collect::<Result<_, _>>()?;
    let expected = byte_len(dtype, &dims).filter(|_| dims.iter().all(|&dim| dim as i64 <= bounds::MAX_DIM));
    let Some(expected) = expected else {
        return Err(malformed(place(), format!("{dtype} {dims:?} is larger than memory")));
    };
    let inside = tensor.raw_data.is_some();

    let typed = tensor.float_data.len()
        + tensor.int32_data.len()
        + tensor.int64_data.len()
        + tensor.double_data.len();
    if tensor.data_location == Some(EXTERNAL) || !tensor.external_data.is_empty() {
        if inside || typed > 0 {
            return Err(malformed(place(), "has its elements both here and in another file"));
        }
        let data = external.read(&tensor.external_data, expected, place)?;
        return Ok(Tensor { dtype, dims, data });
    }
    let data = match tensor.raw_data {
        Some(_) if typed > 0 => return Err(malformed(place(), "has its elements both raw and typed")),
        Some(raw) => raw,
        None => match dtype {
            DType::F32 => tensor.float_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            DType::F64 => tensor.double_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            DType::I64 => tensor.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            DType::I32 => tensor.int32_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            DType::Bool => tensor.int32_data.iter().map(|&value| u8::from(value != 0)).collect(),
            // The bits stand in the lower half.
            DType::F16 => tensor.int32_data.iter().flat_map(|value| (*value as u16).to_le_bytes()).collect(),
        },
    };
    match expected == data.len() {
        true => Ok(Tensor { dtype, dims, data }),
        false => Err(malformed(
            place(),
            format!("{dtype} {dims:?} expects {expected} bytes, found {} bytes", data.len()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::to_bytes;
    use crate::test_graphs;
    use crate::validate::validate;

    /// What reading says of `small`'s file after `damage`.
    fn refused(damage: impl FnOnce(&mut proto::Model, &mut proto::Graph)) -> String {
        decoded(damage).expect_err("the damage is found").to_string()
    }

    fn decoded(damage: impl FnOnce(&mut proto::Model, &mut proto::Graph)) -> Result<Graph, DecodeError> {
        let bytes = to_bytes(&validate(test_graphs::small()).unwrap());
        let mut model = proto::Model::decode(&bytes[..]).unwrap();
        let mut graph = model.graph.take().unwrap();
        damage(&mut model, &mut graph);
        model.graph = Some(graph);
        decode(model.encode_to_vec().into())
    }

    fn attribute(code: i32) -> proto::Attribute {
        proto::Attribute { name: Some("alpha".to_owned()), r#type: Some(code), ..Default::default() }
    }

    #[test]
    fn what_a_graph_cannot_hold_is_refused_by_name() {
        assert_eq!(
            refused(|_, g| g.node[2].domain = Some("com.microsoft".to_owned())),
            "node `/LeakyRelu`: operator LeakyRelu of the domain `com.microsoft` is not supported"
        );
        assert_eq!(
            refused(|_, g| g.node[2].attribute = vec![attribute(5)]),
            "node `/LeakyRelu`, attribute `alpha`: a subgraph is not supported"
        );
        assert_eq!(
            refused(|_, g| g.initializer[0].data_type = Some(3)),
            "initializer `w`: element type int8 is not supported"
        );
        assert_eq!(
            refused(|_, g| {
                let entry = |key: &str, value: &str| proto::StringStringEntry {
                    key: Some(key.to_owned()),
                    value: Some(value.to_owned()),
                };
                g.initializer[0].raw_data = None;
                g.initializer[0].external_data = vec![entry("location", "../../etc/passwd")];
            }),
            "initializer `w`: data kept in `../../etc/passwd`: only files that lie beside the graph are read"
        );
        assert_eq!(
            refused(|_, g| {
                let values = Some(proto::TensorName { name: Some("holes".to_owned()) });
                g.sparse_initializer = vec![proto::SparseTensor { values }];
            }),
            "initializer `holes`: a sparse tensor is not supported"
        );
        assert_eq!(
            refused(|m, _| m.functions = vec![proto::Function { name: Some("Gelu".to_owned()) }]),
            "function `Gelu`: a function defined in the file is not supported"
        );
        assert_eq!(
            refused(|_, g| {
                let r#type = g.input[0].r#type.as_mut().unwrap();
                r#type.tensor_type = None;
                r#type.sequence_type = Some(Bytes::new());
            }),
            "value `x`: a sequence is not supported"
        );
    }

    #[test]
    fn broken_files_are_refused_by_name() {
        assert_eq!(
            refused(|_, g| g.initializer[0].dims = vec![2, 3]),
            "initializer `w`: float32 [2, 3] expects 24 bytes, found 16 bytes"
        );
        assert_eq!(
            refused(|_, g| g.initializer[0].dims = vec![-2, -2]),
            "initializer `w`: a dimension of -2"
        );
        assert!(
            refused(|_, g| g.initializer[0].dims = vec![i64::MAX, 8, 0]).ends_with("is larger than memory")
        );
        assert_eq!(
            refused(|_, g| g.initializer[0].float_data = vec![1.0]),
            "initializer `w`: has its elements both raw and typed"
        );
        assert_eq!(
            refused(|_, g| g.node.swap(0, 1)),
            "node `/Add`: reads `product`, which nothing before it gives"
        );
        assert_eq!(refused(|_, g| g.node[1].output[0] = "x".to_owned()), "value `x`: is given twice");
        assert_eq!(refused(|_, g| g.node[2].output[0].clear()), "outputs: nothing gives `y`");
        assert_eq!(refused(|m, _| m.opset_import[0].version = Some(-3)), "model: opset -3 does not exist");
        assert!(refused(|m, _| m.opset_import.clear()).contains("found none"));
        assert!(decode(Bytes::new()).unwrap_err().to_string().contains("opset"));
    }

    #[test]
    fn what_others_write_is_read() {
        let graph = decoded(|m, g| {
            m.opset_import
                .push(proto::OperatorSetId { domain: Some("com.microsoft".to_owned()), version: Some(1) });
            // Constants listed as inputs, typed elements, open dimensions, nodes without names of their own.
            let described = g.input[0].clone();
            g.input.push(proto::ValueInfo { name: Some("w".to_owned()), ..described });
            g.initializer[1].raw_data = None;
            g.initializer[1].float_data = vec![0.25, -0.25];
            let shape =
                g.input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().shape.as_mut().unwrap();
            shape.dim[0] = proto::Dimension::default();
            shape.dim[1].dim_param = Some("unknown_0".to_owned());
            g.node[0].name = None;
            g.node[2].name = Some("/Add".to_owned());
            g.value_info.clear();
        })
        .unwrap();
        assert_eq!(graph.inputs.len(), 1);
        assert_eq!(graph.constant(graph.find("b").unwrap()), Some(&Tensor::f32(&[2], &[0.25, -0.25])));
        let shape = graph.value(graph.inputs[0]).shape.as_ref().unwrap();
        assert_eq!(shape[..2], [Dim::symbol("unknown_1"), Dim::symbol("unknown_0")]);
        let names: Vec<&str> = graph.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(names, ["MatMul_0", "/Add", "LeakyRelu_2"]);
        assert_eq!(graph.value(graph.find("sum").unwrap()).shape, None);
    }

    /// Two bytes on disk are some hundred in memory: a file of empty nodes is refused before they are spent.
    #[test]
    fn too_many_messages_are_not_parsed() {
        let mut graph = Vec::new();
        for _ in 0..=MAX_RECORDS {
            graph.extend([0x0a, 0]);
        }
        let mut file = vec![0x3a];
        encoding::encode_varint(graph.len() as u64, &mut file);
        file.extend(graph);
        assert!(matches!(decode(file.into()), Err(DecodeError::TooManyRecords)));
    }
}
