//! The graph itself: values, nodes, initializers. It is plain data: [`crate::builder`] creates it,
//! [`crate::validate()`] checks it, [`crate::encode`] writes it.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::dim::Shape;

/// The element types that occur in VITS graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit IEEE float.
    F32,
    /// 64-bit IEEE float.
    F64,
    /// 16-bit IEEE float.
    F16,
    /// Signed 64-bit integer.
    I64,
    /// Signed 32-bit integer.
    I32,
    /// Boolean, one byte.
    Bool,
}

impl DType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 => 2,
            Self::Bool => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "float32",
            Self::F64 => "float64",
            Self::F16 => "float16",
            Self::I64 => "int64",
            Self::I32 => "int32",
            Self::Bool => "bool",
        })
    }
}

/// Identifies a value of one [`Graph`]. Cheap to copy; meaningless in another graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(crate) u32);

impl ValueId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Name, element type and shape of a value, as far as known. A graph built by this crate knows all of them; a
/// decoded graph may not.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueInfo {
    /// Unique within the graph.
    pub name: String,
    /// Element type, if known.
    pub dtype: Option<DType>,
    /// Shape, if known.
    pub shape: Option<Shape>,
}

/// A constant tensor. `data` is little-endian and contiguous, and may be part of a mapped file.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    /// Element type.
    pub dtype: DType,
    /// Lengths of the axes, outermost first. Empty for a scalar.
    pub dims: Vec<usize>,
    /// `dims.product() * dtype.size()` bytes.
    pub data: Bytes,
}

impl Tensor {
    /// A float32 tensor.
    ///
    /// # Panics
    /// When `values` does not hold as many elements as `dims` say.
    pub fn f32(dims: &[usize], values: &[f32]) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "shape {dims:?}");
        Self {
            dtype: DType::F32,
            dims: dims.to_vec(),
            data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    /// An int64 tensor.
    ///
    /// # Panics
    /// When `values` does not hold as many elements as `dims` say.
    pub fn i64(dims: &[usize], values: &[i64]) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "shape {dims:?}");
        Self {
            dtype: DType::I64,
            dims: dims.to_vec(),
            data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }

    /// The elements as float32, if that is their type.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        (self.dtype == DType::F32).then(|| {
            self.data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect()
        })
    }

    /// The elements as int64, if that is their type.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        (self.dtype == DType::I64).then(|| {
            self.data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes"))).collect()
        })
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({} {:?}, {} bytes)", self.dtype, self.dims, self.data.len())
    }
}

/// A node's attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// `INT`
    Int(i64),
    /// `FLOAT`
    Float(f32),
    /// `STRING`
    String(String),
    /// `INTS`
    Ints(Vec<i64>),
    /// `FLOATS`
    Floats(Vec<f32>),
    /// `TENSOR`
    Tensor(Tensor),
    /// `GRAPH`: the body of a `Loop`, see [`Node::inputs`].
    Graph(Box<Graph>),
}

/// One operation of the default domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The scope path, unique within the graph: `/flow/flows.0/enc/in_layers.1/Conv`.
    pub name: String,
    /// The operator, as ONNX spells it.
    pub op: String,
    /// Inputs; `None` for an optional input that is left out.
    ///
    /// A `Loop` has [`LOOP_INPUTS`] of its own and carries nothing from one round to the next. Values of the
    /// enclosing graph that its body reads, which ONNX finds by name, follow these inputs here, and the
    /// body's own inputs in the body. A graph therefore never refers to values that it does not contain.
    pub inputs: Vec<Option<ValueId>>,
    /// Outputs; `None` for an optional output that is left out.
    pub outputs: Vec<Option<ValueId>>,
    /// Attributes sorted by name, so that the same node is always written as the same bytes.
    pub attrs: BTreeMap<String, Attr>,
}

impl Node {
    /// The body of a `Loop`, with the values read from the enclosing graph renamed by `name`.
    pub fn body(&self, name: impl Fn(ValueId) -> String) -> Option<Graph> {
        let mut body = self.attrs.values().find_map(|attr| match attr {
            Attr::Graph(body) => Some(Graph::clone(body)),
            _ => None,
        })?;
        let captured = body.inputs.iter().zip(&self.inputs).skip(LOOP_INPUTS);
        for (inner, outer) in captured {
            if let Some(outer) = outer {
                body.values[inner.index()].name = name(*outer);
            }
        }
        Some(body)
    }
}

/// Number of a `Loop`'s own inputs (number of rounds and condition), and of its body's (number of the round
/// and condition).
pub const LOOP_INPUTS: usize = 2;

/// A whole model: one graph, its constants, and its metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// The graph's name.
    pub name: String,
    /// Version of the default operator set.
    pub opset: i64,
    /// All values, indexed by [`ValueId`].
    pub(crate) values: Vec<ValueInfo>,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// Values passed by the caller, in the order of the contract.
    pub inputs: Vec<ValueId>,
    /// Values returned to the caller, in the order of the contract.
    pub outputs: Vec<ValueId>,
    /// The constants, by value.
    pub initializers: BTreeMap<ValueId, Tensor>,
    /// `metadata_props` of the model.
    pub metadata: BTreeMap<String, String>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>, opset: i64) -> Self {
        Self {
            name: name.into(),
            opset,
            values: Vec::new(),
            nodes: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            initializers: BTreeMap::new(),
            metadata: BTreeMap::new(),
        }
    }

    /// Name, element type and shape of `id`, as far as known.
    pub fn value(&self, id: ValueId) -> &ValueInfo {
        &self.values[id.index()]
    }

    /// Every value and its id, in order of creation.
    pub fn values(&self) -> impl ExactSizeIterator<Item = (ValueId, &ValueInfo)> {
        self.values.iter().enumerate().map(|(i, info)| (ValueId(i as u32), info))
    }

    /// The value called `name`.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values().find(|(_, info)| info.name == name).map(|(id, _)| id)
    }

    /// Adds a value. The caller must keep names unique; [`crate::validate()`] checks it.
    pub fn add_value(&mut self, info: ValueInfo) -> ValueId {
        let id = ValueId(u32::try_from(self.values.len()).expect("fewer than 2^32 values"));
        self.values.push(info);
        id
    }

    /// The constant for `id`, if it is one.
    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self.initializers.get(&id)
    }
}
