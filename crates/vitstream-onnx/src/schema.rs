//! The operators of ONNX's default domain that this crate knows, for opset 15 to 21.

use std::ops::RangeInclusive;

use crate::graph::Attr;
use AttrKind::{Float, Floats, Graph, Int, Ints, String, Tensor};

/// No upper limit on the number of inputs or outputs.
pub(crate) const MANY: usize = usize::MAX;

/// The supported versions of the default operator set.
pub const OPSETS: RangeInclusive<i64> = 15..=21;

/// One version of an operator.
pub(crate) struct Schema {
    op: &'static str,
    /// The first opset with this version of the operator.
    since: i64,
    /// Allowed numbers of inputs; those up to the lower bound are required.
    pub(crate) inputs: RangeInclusive<usize>,
    /// Allowed numbers of outputs; those up to the lower bound are required.
    pub(crate) outputs: RangeInclusive<usize>,
    attrs: &'static [AttrSchema],
}

struct AttrSchema {
    name: &'static str,
    kind: AttrKind,
    required: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AttrKind {
    Int,
    Float,
    String,
    Ints,
    Floats,
    Tensor,
    Graph,
}

impl AttrKind {
    fn of(attr: &Attr) -> Self {
        match attr {
            Attr::Int(_) => Int,
            Attr::Float(_) => Float,
            Attr::String(_) => String,
            Attr::Ints(_) => Ints,
            Attr::Floats(_) => Floats,
            Attr::Tensor(_) => Tensor,
            Attr::Graph(_) => Graph,
        }
    }
}

impl Schema {
    /// Names of the required attributes.
    pub(crate) fn required_attrs(&self) -> impl Iterator<Item = &'static str> {
        self.attrs.iter().filter(|attr| attr.required).map(|attr| attr.name)
    }

    /// Returns true if the operator has an attribute of this name and type.
    pub(crate) fn accepts(&self, name: &str, attr: &Attr) -> bool {
        self.attrs.iter().any(|schema| schema.name == name && schema.kind == AttrKind::of(attr))
    }
}

/// The result of looking up an operator at an opset.
pub(crate) enum Lookup {
    /// The version in force.
    Found(&'static Schema),
    /// The operator exists only from this opset on.
    Since(i64),
    /// The operator is unknown to this crate.
    Unknown,
}

/// The version of `op` that is in force at `opset`, one of [`OPSETS`].
pub(crate) fn lookup(op: &str, opset: i64) -> Lookup {
    let versions = || OPS.iter().filter(|schema| schema.op == op);
    match (versions().rfind(|schema| schema.since <= opset), versions().next()) {
        (Some(schema), _) => Lookup::Found(schema),
        (None, Some(first)) => Lookup::Since(first.since),
        (None, None) => Lookup::Unknown,
    }
}

const fn op(
    op: &'static str,
    since: i64,
    inputs: RangeInclusive<usize>,
    outputs: RangeInclusive<usize>,
    attrs: &'static [AttrSchema],
) -> Schema {
    Schema { op, since, inputs, outputs, attrs }
}

const fn req(name: &'static str, kind: AttrKind) -> AttrSchema {
    AttrSchema { name, kind, required: true }
}

const fn opt(name: &'static str, kind: AttrKind) -> AttrSchema {
    AttrSchema { name, kind, required: false }
}

/// Sorted by name, then by version. Versions that differ only in types are left out.
#[rustfmt::skip]
const OPS: &[Schema] = &[
    op("Abs", 13, 1..=1, 1..=1, &[]),
    op("Add", 14, 2..=2, 1..=1, &[]),
    op("And", 7, 2..=2, 1..=1, &[]),
    op("ArgMax", 13, 1..=1, 1..=1, &[opt("axis", Int), opt("keepdims", Int), opt("select_last_index", Int)]),
    op("Cast", 13, 1..=1, 1..=1, &[req("to", Int)]),
    op("Cast", 19, 1..=1, 1..=1, &[opt("saturate", Int), req("to", Int)]),
    op("CastLike", 15, 2..=2, 1..=1, &[]),
    op("CastLike", 19, 2..=2, 1..=1, &[opt("saturate", Int)]),
    op("Ceil", 13, 1..=1, 1..=1, &[]),
    op("Clip", 13, 1..=3, 1..=1, &[]),
    op("Concat", 13, 1..=MANY, 1..=1, &[req("axis", Int)]),
    op("Constant", 13, 0..=0, 1..=1, &[opt("value", Tensor), opt("value_float", Float), opt("value_floats", Floats), opt("value_int", Int), opt("value_ints", Ints), opt("value_string", String)]),
    op("ConstantOfShape", 9, 1..=1, 1..=1, &[opt("value", Tensor)]),
    op("Conv", 11, 2..=3, 1..=1, &[opt("auto_pad", String), opt("dilations", Ints), opt("group", Int), opt("kernel_shape", Ints), opt("pads", Ints), opt("strides", Ints)]),
    op("ConvTranspose", 11, 2..=3, 1..=1, &[opt("auto_pad", String), opt("dilations", Ints), opt("group", Int), opt("kernel_shape", Ints), opt("output_padding", Ints), opt("output_shape", Ints), opt("pads", Ints), opt("strides", Ints)]),
    op("Cos", 7, 1..=1, 1..=1, &[]),
    op("CumSum", 14, 2..=2, 1..=1, &[opt("exclusive", Int), opt("reverse", Int)]),
    op("DepthToSpace", 13, 1..=1, 1..=1, &[req("blocksize", Int), opt("mode", String)]),
    op("Div", 14, 2..=2, 1..=1, &[]),
    op("Einsum", 12, 1..=MANY, 1..=1, &[req("equation", String)]),
    op("Equal", 13, 2..=2, 1..=1, &[]),
    op("Erf", 13, 1..=1, 1..=1, &[]),
    op("Exp", 13, 1..=1, 1..=1, &[]),
    op("Expand", 13, 2..=2, 1..=1, &[]),
    op("Flatten", 13, 1..=1, 1..=1, &[opt("axis", Int)]),
    op("Floor", 13, 1..=1, 1..=1, &[]),
    op("Gather", 13, 2..=2, 1..=1, &[opt("axis", Int)]),
    op("GatherElements", 13, 2..=2, 1..=1, &[opt("axis", Int)]),
    op("GatherND", 13, 2..=2, 1..=1, &[opt("batch_dims", Int)]),
    op("Gelu", 20, 1..=1, 1..=1, &[opt("approximate", String)]),
    op("Gemm", 13, 2..=3, 1..=1, &[opt("alpha", Float), opt("beta", Float), opt("transA", Int), opt("transB", Int)]),
    op("Greater", 13, 2..=2, 1..=1, &[]),
    op("GreaterOrEqual", 12, 2..=2, 1..=1, &[]),
    op("HardSigmoid", 6, 1..=1, 1..=1, &[opt("alpha", Float), opt("beta", Float)]),
    op("Identity", 14, 1..=1, 1..=1, &[]),
    op("InstanceNormalization", 6, 3..=3, 1..=1, &[opt("epsilon", Float)]),
    op("LayerNormalization", 17, 2..=3, 1..=3, &[opt("axis", Int), opt("epsilon", Float), opt("stash_type", Int)]),
    op("LeakyRelu", 6, 1..=1, 1..=1, &[opt("alpha", Float)]),
    op("Less", 13, 2..=2, 1..=1, &[]),
    op("LessOrEqual", 12, 2..=2, 1..=1, &[]),
    op("Log", 13, 1..=1, 1..=1, &[]),
    op("LogSoftmax", 13, 1..=1, 1..=1, &[opt("axis", Int)]),
    op("Loop", 13, 2..=MANY, 1..=MANY, &[req("body", Graph)]),
    op("MatMul", 13, 2..=2, 1..=1, &[]),
    op("Max", 13, 1..=MANY, 1..=1, &[]),
    op("Mean", 13, 1..=MANY, 1..=1, &[]),
    op("Min", 13, 1..=MANY, 1..=1, &[]),
    op("Mish", 18, 1..=1, 1..=1, &[]),
    op("Mod", 13, 2..=2, 1..=1, &[opt("fmod", Int)]),
    op("Mul", 14, 2..=2, 1..=1, &[]),
    op("Neg", 13, 1..=1, 1..=1, &[]),
    op("NonZero", 13, 1..=1, 1..=1, &[]),
    op("Not", 1, 1..=1, 1..=1, &[]),
    op("OneHot", 11, 3..=3, 1..=1, &[opt("axis", Int)]),
    op("Or", 7, 2..=2, 1..=1, &[]),
    op("Pad", 13, 2..=3, 1..=1, &[opt("mode", String)]),
    op("Pad", 18, 2..=4, 1..=1, &[opt("mode", String)]),
    op("Pow", 15, 2..=2, 1..=1, &[]),
    op("RandomNormal", 1, 0..=0, 1..=1, &[opt("dtype", Int), opt("mean", Float), opt("scale", Float), opt("seed", Float), req("shape", Ints)]),
    op("RandomNormalLike", 1, 1..=1, 1..=1, &[opt("dtype", Int), opt("mean", Float), opt("scale", Float), opt("seed", Float)]),
    op("RandomUniform", 1, 0..=0, 1..=1, &[opt("dtype", Int), opt("high", Float), opt("low", Float), opt("seed", Float), req("shape", Ints)]),
    op("RandomUniformLike", 1, 1..=1, 1..=1, &[opt("dtype", Int), opt("high", Float), opt("low", Float), opt("seed", Float)]),
    op("Range", 11, 3..=3, 1..=1, &[]),
    op("Reciprocal", 13, 1..=1, 1..=1, &[]),
    op("ReduceL2", 13, 1..=1, 1..=1, &[opt("axes", Ints), opt("keepdims", Int)]),
    op("ReduceL2", 18, 1..=2, 1..=1, &[opt("keepdims", Int), opt("noop_with_empty_axes", Int)]),
    op("ReduceMax", 13, 1..=1, 1..=1, &[opt("axes", Ints), opt("keepdims", Int)]),
    op("ReduceMax", 18, 1..=2, 1..=1, &[opt("keepdims", Int), opt("noop_with_empty_axes", Int)]),
    op("ReduceMean", 13, 1..=1, 1..=1, &[opt("axes", Ints), opt("keepdims", Int)]),
    op("ReduceMean", 18, 1..=2, 1..=1, &[opt("keepdims", Int), opt("noop_with_empty_axes", Int)]),
    op("ReduceMin", 13, 1..=1, 1..=1, &[opt("axes", Ints), opt("keepdims", Int)]),
    op("ReduceMin", 18, 1..=2, 1..=1, &[opt("keepdims", Int), opt("noop_with_empty_axes", Int)]),
    op("ReduceProd", 13, 1..=1, 1..=1, &[opt("axes", Ints), opt("keepdims", Int)]),
    op("ReduceProd", 18, 1..=2, 1..=1, &[opt("keepdims", Int), opt("noop_with_empty_axes", Int)]),
    op("ReduceSum", 13, 1..=2, 1..=1, &[opt("keepdims", Int), opt("noop_with_empty_axes", Int)]),
    op("Relu", 14, 1..=1, 1..=1, &[]),
    op("Reshape", 14, 2..=2, 1..=1, &[opt("allowzero", Int)]),
    op("Round", 11, 1..=1, 1..=1, &[]),
    op("ScatterElements", 13, 3..=3, 1..=1, &[opt("axis", Int)]),
    op("ScatterElements", 16, 3..=3, 1..=1, &[opt("axis", Int), opt("reduction", String)]),
    op("ScatterND", 13, 3..=3, 1..=1, &[]),
    op("ScatterND", 16, 3..=3, 1..=1, &[opt("reduction", String)]),
    op("Shape", 15, 1..=1, 1..=1, &[opt("end", Int), opt("start", Int)]),
    op("Sigmoid", 13, 1..=1, 1..=1, &[]),
    op("Sign", 13, 1..=1, 1..=1, &[]),
    op("Sin", 7, 1..=1, 1..=1, &[]),
    op("Size", 13, 1..=1, 1..=1, &[]),
    op("Slice", 13, 3..=5, 1..=1, &[]),
    op("Softmax", 13, 1..=1, 1..=1, &[opt("axis", Int)]),
    op("Softplus", 1, 1..=1, 1..=1, &[]),
    op("Split", 13, 1..=2, 1..=MANY, &[opt("axis", Int)]),
    op("Split", 18, 1..=2, 1..=MANY, &[opt("axis", Int), opt("num_outputs", Int)]),
    op("Sqrt", 13, 1..=1, 1..=1, &[]),
    op("Squeeze", 13, 1..=2, 1..=1, &[]),
    op("Sub", 14, 2..=2, 1..=1, &[]),
    op("Sum", 13, 1..=MANY, 1..=1, &[]),
    op("Tanh", 13, 1..=1, 1..=1, &[]),
    op("Tile", 13, 2..=2, 1..=1, &[]),
    op("Transpose", 13, 1..=1, 1..=1, &[opt("perm", Ints)]),
    op("Trilu", 14, 1..=2, 1..=1, &[opt("upper", Int)]),
    op("Unsqueeze", 13, 2..=2, 1..=1, &[]),
    op("Where", 9, 3..=3, 1..=1, &[]),
    op("Xor", 7, 2..=2, 1..=1, &[]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_follow_the_opset() {
        let inputs = |op, opset| match lookup(op, opset) {
            Lookup::Found(schema) => schema.inputs.clone(),
            _ => panic!("{op} at {opset}"),
        };
        assert_eq!(inputs("ReduceMean", 17), 1..=1);
        assert_eq!(inputs("ReduceMean", 18), 1..=2);
        assert_eq!(inputs("ReduceSum", 15), 1..=2);
        assert!(matches!(lookup("LayerNormalization", 16), Lookup::Since(17)));
        assert!(matches!(lookup("Gelu", 19), Lookup::Since(20)));
        assert!(matches!(lookup("Gelu", 20), Lookup::Found(_)));
        assert!(matches!(lookup("FusedConv", 21), Lookup::Unknown));
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(OPS.is_sorted_by_key(|schema| (schema.op, schema.since)));
    }
}
