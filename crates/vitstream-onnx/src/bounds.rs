//! What a graph may ask of a runtime, as far as its constants say.
//!
//! Runtimes take a graph at its word: a permutation that is none, a padding of gigabytes or a constant of a hundred
//! thousand axes ends the process and not the run. So what is written in the file is checked when the file is read,
//! before a runtime sees it. Lengths that are computed when the graph runs are not known here.

use std::collections::HashMap;

use crate::error::{DecodeError, shown};
use crate::graph::{Attr, DType, Graph, Node, Tensor, ValueId};

/// Most axes of a tensor. VITS has at most five; a runtime that works through axes recursively survives these.
pub const MAX_RANK: usize = 16;
/// Largest length of an axis that a file states: more bytes than a file can hold.
pub const MAX_DIM: i64 = (1 << 31) - 1;
/// Largest kernel, stride, dilation, group or padding: the receptive field of a whole voice is some hundred frames, and
/// what hyper-parameters may ask for is within it.
pub const MAX_REACH: i64 = 1 << 17;
/// Most elements of a tensor whose size stands in the file: 1 GiB of float32.
pub const MAX_ELEMENTS: i64 = 1 << 28;
/// Most numbers in a list that an attribute holds: those of VITS have one for each axis.
const MAX_LIST: usize = 1 << 12;

/// Checks `node`, whose inputs are in `graph`, or in `constants` if nodes give them.
pub(crate) fn check(
    graph: &Graph,
    constants: &HashMap<ValueId, Tensor>,
    node: &Node,
) -> Result<(), DecodeError> {
    let checked = Checked { graph, constants, node };
    checked.lists()?;
    match node.op.as_str() {
        "Transpose" => checked.permutation(),
        "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool" | "LpPool" => checked.convolution(),
        "Pad" => checked.each(1, -MAX_REACH..=MAX_REACH, "padding"),
        "Reshape" => checked.shape(1, true),
        "Expand" | "ConstantOfShape" => checked.shape(usize::from(node.op == "Expand"), false),
        "Tile" => checked.shape(1, false),
        "RandomNormal" | "RandomUniform" => match node.attrs.get("shape") {
            Some(Attr::Ints(dims)) => checked.size(dims, false, "attribute `shape`"),
            _ => Ok(()),
        },
        "OneHot" => checked.each(1, 0..=MAX_REACH, "depth"),
        "Range" => checked.range(),
        "Loop" => checked.each(0, 0..=MAX_DIM, "number of rounds"),
        "Squeeze" | "Unsqueeze" | "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" | "ReduceL2"
        | "ReduceProd" => checked.axes_input(),
        "DepthToSpace" => checked.int("blocksize", 1..=MAX_REACH),
        "Split" => checked.split(),
        _ => Ok(()),
    }?;
    checked.axes()
}

/// Checks the lengths that are declared of a value or stand in a tensor.
pub(crate) fn check_rank(rank: usize, place: impl Fn() -> String) -> Result<(), DecodeError> {
    match rank > MAX_RANK {
        true => Err(DecodeError::malformed(place(), format!("has {rank} axes, more than {MAX_RANK}"))),
        false => Ok(()),
    }
}

struct Checked<'a> {
    graph: &'a Graph,
    constants: &'a HashMap<ValueId, Tensor>,
    node: &'a Node,
}

impl Checked<'_> {
    fn error(&self, what: impl Into<String>) -> DecodeError {
        let place = format!("node `{}` ({})", shown(&self.node.name), shown(&self.node.op));
        DecodeError::malformed(place, what)
    }

    fn input(&self, at: usize) -> Option<ValueId> {
        self.node.inputs.get(at).copied().flatten()
    }

    fn tensor(&self, at: usize) -> Option<&Tensor> {
        let input = self.input(at)?;
        self.graph.constant(input).or_else(|| self.constants.get(&input))
    }

    /// The numbers that input `at` stands for, if it is a constant.
    fn constant(&self, at: usize) -> Option<Vec<i64>> {
        integers(self.tensor(at)?)
    }

    fn rank(&self, at: usize) -> Option<usize> {
        if let Some(tensor) = self.tensor(at) {
            return Some(tensor.dims.len());
        }
        self.graph.value(self.input(at)?).shape.as_ref().map(Vec::len)
    }

    fn list(&self, name: &str) -> Option<&[i64]> {
        match self.node.attrs.get(name) {
            Some(Attr::Ints(values)) => Some(values),
            _ => None,
        }
    }

    fn lists(&self) -> Result<(), DecodeError> {
        for (name, attr) in &self.node.attrs {
            let len = match attr {
                Attr::Ints(values) => values.len(),
                Attr::Floats(values) => values.len(),
                _ => 0,
            };
            if len > MAX_LIST && self.node.op != "Constant" {
                let what = format!("attribute `{}` has {len} numbers, more than {MAX_LIST}", shown(name));
                return Err(self.error(what));
            }
        }
        Ok(())
    }

    fn int(&self, name: &str, allowed: std::ops::RangeInclusive<i64>) -> Result<(), DecodeError> {
        match self.node.attrs.get(name) {
            Some(Attr::Int(value)) if !allowed.contains(value) => {
                let (low, high) = allowed.into_inner();
                Err(self.error(format!("attribute `{name}`: expected {low} to {high}, found {value}")))
            }
            _ => Ok(()),
        }
    }

    /// The numbers of a constant input.
    fn each(&self, at: usize, allowed: std::ops::RangeInclusive<i64>, what: &str) -> Result<(), DecodeError> {
        let values = self.constant(at).unwrap_or_default();
        match values.iter().find(|value| !allowed.contains(value)) {
            None => Ok(()),
            Some(value) => {
                let (low, high) = allowed.into_inner();
                Err(self.error(format!("{what}: expected {low} to {high}, found {value}")))
            }
        }
    }

    fn permutation(&self) -> Result<(), DecodeError> {
        let Some(perm) = self.list("perm") else { return Ok(()) };
        let mut sorted = perm.to_vec();
        sorted.sort_unstable();
        if perm.len() > MAX_RANK || !sorted.iter().copied().eq(0..perm.len() as i64) {
            let perm = &perm[..perm.len().min(MAX_RANK)];
            return Err(self.error(format!("attribute `perm`: {perm:?} is no permutation")));
        }
        match self.rank(0).filter(|&rank| rank != perm.len()) {
            None => Ok(()),
            Some(rank) => Err(self.error(format!("attribute `perm`: {perm:?} of an input of {rank} axes"))),
        }
    }

    fn convolution(&self) -> Result<(), DecodeError> {
        self.int("group", 1..=MAX_REACH)?;
        let weight = self.tensor(1);
        let mut spatial = weight.map(|weight| weight.dims.len().saturating_sub(2));
        let lists = [
            ("kernel_shape", 1, 1),
            ("strides", 1, 1),
            ("dilations", 1, 1),
            ("pads", 2, 0),
            ("output_padding", 1, 0),
            ("output_shape", 1, 1),
        ];
        for (name, each, least) in lists {
            let Some(values) = self.list(name) else { continue };
            let axes = *spatial.get_or_insert(values.len() / each);
            if values.len() != each * axes {
                let (expected, found) = (each * axes, values.len());
                return Err(
                    self.error(format!("attribute `{name}`: expected {expected} numbers, found {found}"))
                );
            }
            let most = if name == "output_shape" { MAX_DIM } else { MAX_REACH };
            if let Some(value) = values.iter().find(|value| !(least..=most).contains(value)) {
                let what = format!("attribute `{name}`: expected {least} to {most} each, found {value}");
                return Err(self.error(what));
            }
        }
        let Some(weight) = weight else { return Ok(()) };
        if weight.dims.len() < 3 {
            return Err(self.error(format!("its weight has the shape {:?}, without a kernel", weight.dims)));
        }
        let kernel = weight.dims[2..].iter().map(|&dim| dim as i64);
        if let Some(shape) =
            self.list("kernel_shape").filter(|shape| !kernel.clone().eq(shape.iter().copied()))
        {
            let found = &weight.dims;
            let what =
                format!("attribute `kernel_shape`: {shape:?} contradicts the weight's shape {found:?}");
            return Err(self.error(what));
        }
        if let Some(taps) = kernel.clone().find(|taps| !(1..=MAX_REACH).contains(taps)) {
            return Err(self.error(format!("its weight has a kernel of {taps} taps")));
        }
        let group = match self.node.attrs.get("group") {
            Some(Attr::Int(group)) => *group as usize,
            _ => 1,
        };
        let transposed = self.node.op == "ConvTranspose";
        // Each group has outputs of its own; of a transposed convolution the first axis is the inputs'.
        if !weight.dims[0].is_multiple_of(group) {
            return Err(
                self.error(format!("{group} groups do not divide the weight's shape {:?}", weight.dims))
            );
        }
        let outputs = if transposed { weight.dims[1].saturating_mul(group) } else { weight.dims[0] };
        match self.tensor(2).filter(|bias| bias.dims != [outputs]) {
            None => Ok(()),
            Some(bias) => Err(self.error(format!("expected a bias of [{outputs}], found {:?}", bias.dims))),
        }
    }

    /// A constant that is a shape. With `wildcards` -1 stands for what is left, and 0 for what was there.
    fn shape(&self, at: usize, wildcards: bool) -> Result<(), DecodeError> {
        let Some(dims) = self.constant(at) else { return Ok(()) };
        self.size(&dims, wildcards, &format!("input {at}"))
    }

    fn size(&self, dims: &[i64], wildcards: bool, what: &str) -> Result<(), DecodeError> {
        if dims.len() > MAX_RANK {
            return Err(self.error(format!("{what}: {} axes, more than {MAX_RANK}", dims.len())));
        }
        let least = if wildcards { -1 } else { 0 };
        if dims.iter().any(|dim| !(least..=MAX_DIM).contains(dim))
            || dims.iter().filter(|dim| **dim == -1).count() > 1
        {
            return Err(self.error(format!("{what}: {dims:?} is no shape")));
        }
        let elements = dims.iter().try_fold(1i64, |product, &dim| product.checked_mul(dim.max(1)));
        match elements.is_none_or(|elements| elements > MAX_ELEMENTS) {
            true => Err(self.error(format!("{what}: {dims:?} has more than {MAX_ELEMENTS} elements"))),
            false => Ok(()),
        }
    }

    fn range(&self) -> Result<(), DecodeError> {
        let one = |at| match self.constant(at).as_deref() {
            Some(&[value]) => Some(i128::from(value)),
            _ => None,
        };
        let (Some(start), Some(limit), Some(delta)) = (one(0), one(1), one(2)) else { return Ok(()) };
        if delta == 0 || (limit - start) / delta > i128::from(MAX_ELEMENTS) {
            return Err(self.error(format!("{start} to {limit} by {delta} has no end that memory holds")));
        }
        Ok(())
    }

    fn split(&self) -> Result<(), DecodeError> {
        self.each(1, 0..=MAX_DIM, "length of a part")?;
        let parts = self.constant(1).map(|parts| parts.len());
        match parts.filter(|&parts| parts != self.node.outputs.len()) {
            None => Ok(()),
            Some(parts) => {
                let outputs = self.node.outputs.len();
                Err(self.error(format!("lengths of {parts} parts for {outputs} outputs")))
            }
        }
    }

    /// Axes as an input, which they are from opset 13 or 18 on.
    fn axes_input(&self) -> Result<(), DecodeError> {
        let Some(axes) = self.constant(1) else { return Ok(()) };
        self.distinct(&axes, "axes")
    }

    fn axes(&self) -> Result<(), DecodeError> {
        if let Some(axes) = self.list("axes") {
            self.distinct(axes, "attribute `axes`")?;
        }
        let Some(&Attr::Int(axis)) = self.node.attrs.get("axis") else { return Ok(()) };
        // A Concat or Gather of values of which nothing is declared is bounded all the same.
        let rank = self.rank(0).unwrap_or(MAX_RANK) as i64;
        // One past the end: Flatten, OneHot.
        match (-rank - 1..=rank).contains(&axis) {
            true => Ok(()),
            false => Err(self.error(format!("attribute `axis`: {axis} of {rank} axes"))),
        }
    }

    fn distinct(&self, axes: &[i64], what: &str) -> Result<(), DecodeError> {
        let limit = MAX_RANK as i64;
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        let sane = axes.len() <= MAX_RANK && axes.iter().all(|axis| (-limit..limit).contains(axis));
        match sane && sorted.len() == axes.len() {
            true => Ok(()),
            false => {
                let axes = &axes[..axes.len().min(MAX_RANK)];
                Err(self.error(format!("{what}: {axes:?} are no distinct axes")))
            }
        }
    }
}

fn integers(tensor: &Tensor) -> Option<Vec<i64>> {
    let count = tensor.data.len() / DType::I64.size();
    (count <= MAX_LIST).then(|| tensor.to_i64()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::decode;
    use crate::proto::{self, attribute_type};

    fn ints(name: &str, values: &[i64]) -> proto::Attribute {
        proto::Attribute {
            name: Some(name.to_owned()),
            r#type: Some(attribute_type::INTS),
            ints: values.to_vec(),
            ..Default::default()
        }
    }

    fn int(name: &str, value: i64) -> proto::Attribute {
        proto::Attribute {
            name: Some(name.to_owned()),
            r#type: Some(attribute_type::INT),
            i: Some(value),
            ..Default::default()
        }
    }

    /// Reads a graph of one node, whose first input is `x` of four axes and whose others are constants.
    fn read(op: &str, constants: &[Tensor], attributes: Vec<proto::Attribute>) -> Result<Graph, DecodeError> {
        let dim = |n: i64| proto::Dimension { dim_value: Some(n), dim_param: None };
        let shape = proto::TensorShape { dim: [1, 4, 1, 8].map(dim).into() };
        let tensor_type = proto::TensorType { elem_type: Some(1), shape: Some(shape) };
        let kind = proto::Type { tensor_type: Some(tensor_type), ..Default::default() };
        let info = |name: &str, kind: Option<proto::Type>| proto::ValueInfo {
            name: Some(name.to_owned()),
            r#type: kind.map(Box::new),
        };
        let constant = |(at, tensor): (usize, &Tensor)| proto::Tensor {
            name: Some(format!("c{at}")),
            dims: tensor.dims.iter().map(|&dim| dim as i64).collect(),
            data_type: Some(proto::data_type::code(tensor.dtype)),
            raw_data: Some(tensor.data.clone()),
            ..Default::default()
        };
        let inputs = (0..constants.len()).map(|at| format!("c{at}"));
        let node = proto::Node {
            input: std::iter::once("x".to_owned()).chain(inputs).collect(),
            output: vec!["y".to_owned()],
            name: Some("/node".to_owned()),
            op_type: Some(op.to_owned()),
            attribute: attributes,
            ..Default::default()
        };
        let graph = proto::Graph {
            node: vec![node],
            name: Some("g".to_owned()),
            initializer: constants.iter().enumerate().map(constant).collect(),
            input: vec![info("x", Some(kind))],
            output: vec![info("y", None)],
            ..Default::default()
        };
        let opset = proto::OperatorSetId { domain: None, version: Some(15) };
        let model = proto::Model { graph: Some(graph), opset_import: vec![opset], ..Default::default() };
        decode(model.encode_to_vec().into())
    }

    #[track_caller]
    fn refused(op: &str, constants: &[Tensor], attributes: Vec<proto::Attribute>, what: &str) {
        let error = read(op, constants, attributes).expect_err(what).to_string();
        assert!(error.starts_with(&format!("node `/node` ({op}): ")) && error.contains(what), "{error}");
    }

    fn weight(dims: &[usize]) -> Tensor {
        Tensor::f32(dims, &vec![0.5; dims.iter().product()])
    }

    fn list(values: &[i64]) -> Tensor {
        Tensor::i64(&[values.len()], values)
    }

    #[test]
    fn permutations_are_permutations() {
        assert!(read("Transpose", &[], vec![ints("perm", &[3, 1, 0, 2])]).is_ok());
        for perm in [&[0, 0, 0, 0][..], &[0, 1, 2, 4], &[-1, 0, 1, 2], &[1, 2, 3, i64::MAX]] {
            refused("Transpose", &[], vec![ints("perm", perm)], "is no permutation");
        }
        refused("Transpose", &[], vec![ints("perm", &[1, 0, 2])], "of an input of 4 axes");
        refused("Transpose", &[], vec![ints("perm", &vec![0; 4096])], "is no permutation");
    }

    #[test]
    fn convolutions_are_bounded() {
        let small = || weight(&[4, 4, 1, 3]);
        let fine =
            vec![ints("pads", &[0, 1, 0, 1]), ints("dilations", &[1, 1]), ints("kernel_shape", &[1, 3])];
        assert!(read("Conv", &[small(), weight(&[4])], fine).is_ok());
        refused("Conv", &[small()], vec![ints("pads", &[0, 1 << 30, 0, 1 << 30])], "attribute `pads`");
        refused("Conv", &[small()], vec![ints("pads", &[0, -1, 0, 0])], "attribute `pads`");
        refused("Conv", &[small()], vec![ints("pads", &[1, 1])], "expected 4 numbers, found 2");
        refused("Conv", &[small()], vec![ints("strides", &[1, 0])], "attribute `strides`");
        refused("Conv", &[small()], vec![ints("dilations", &[i64::MAX, 1])], "attribute `dilations`");
        refused("Conv", &[small()], vec![ints("kernel_shape", &[1, 5])], "contradicts the weight's shape");
        refused("Conv", &[small()], vec![int("group", 3)], "3 groups do not divide");
        refused("Conv", &[small()], vec![int("group", 0)], "attribute `group`");
        refused("Conv", &[weight(&[4, 4])], vec![], "without a kernel");
        refused("Conv", &[weight(&[4, 4, 1, 0])], vec![], "a kernel of 0 taps");
        refused("Conv", &[small(), weight(&[5])], vec![], "expected a bias of [4], found [5]");
        refused("ConvTranspose", &[small()], vec![ints("output_padding", &[0, 1 << 40])], "output_padding");
        refused("ConvTranspose", &[small(), weight(&[3])], vec![], "expected a bias of [4]");
    }

    #[test]
    fn shapes_that_constants_state_are_bounded() {
        for dims in [&[1 << 20, 1 << 20][..], &[-2], &[-1, -1], &[i64::MAX], &[1; 17]] {
            refused("Reshape", &[list(dims)], vec![], "input 1");
        }
        assert!(read("Reshape", &[list(&[0, -1, 4])], vec![]).is_ok());
        refused("Expand", &[list(&[1 << 30, 1])], vec![], "input 1");
        refused("Tile", &[list(&[1, 1, 1, 1 << 40])], vec![], "input 1");
        refused("Pad", &[list(&[0, 0, 0, 1 << 30, 0, 0, 0, 0])], vec![], "padding");
        refused("Squeeze", &[list(&[1, 1])], vec![], "no distinct axes");
        refused("Unsqueeze", &[list(&[1 << 40])], vec![], "no distinct axes");
        refused("Split", &[list(&[1, 1])], vec![], "2 parts for 1 outputs");
        refused("Concat", &[], vec![int("axis", 1 << 40)], "attribute `axis`");
        refused("ReduceMean", &[], vec![ints("axes", &[0, 0])], "attribute `axes`");
        refused("DepthToSpace", &[], vec![int("blocksize", 0)], "blocksize");
        refused("RandomNormal", &[], vec![ints("shape", &[1 << 20, 1 << 20])], "attribute `shape`");
        refused("Gather", &[], vec![ints("axes", &[1; 5000])], "5000 numbers");
    }

    #[test]
    fn tensors_have_few_axes() {
        assert!(read("Add", &[weight(&[1; MAX_RANK])], vec![]).is_ok());
        let error = read("Add", &[weight(&[1; MAX_RANK + 1])], vec![]).unwrap_err().to_string();
        assert_eq!(error, "initializer `c0`: has 17 axes, more than 16");
        let many = read("Add", &[weight(&[1; 100_000])], vec![]).unwrap_err().to_string();
        assert!(many.len() < 100, "{many}");
    }

    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![-3i64..6, any::<i64>(), Just(1 << 30), Just(i64::MIN), Just(i64::MAX)]
    }

    proptest! {
        /// Whatever stands in a node, it is refused, or within what a runtime is asked for.
        #[test]
        fn what_is_read_is_bounded(
            op in prop_oneof![
                Just("Transpose"), Just("Conv"), Just("ConvTranspose"), Just("Reshape"), Just("Expand"), Just("Pad"),
                Just("Tile"), Just("Split"), Just("Squeeze"), Just("ReduceMean"), Just("Concat"), Just("Loop"),
                Just("Range"), Just("If"), Just("OneHot"), Just("DepthToSpace"),
            ],
            attrs in vec((prop_oneof![
                Just("perm"), Just("pads"), Just("strides"), Just("dilations"), Just("kernel_shape"), Just("axes"),
                Just("axis"), Just("group"), Just("blocksize"), Just("output_padding"),
            ], vec(number(), 0..9)), 0..4),
            constants in vec(prop_oneof![
                vec(number(), 0..9).prop_map(|values| list(&values)),
                vec(0usize..5, 0..5).prop_map(|dims| weight(&dims)),
            ], 0..4),
        ) {
            let attrs = attrs.into_iter().map(|(name, values)| match (name, &values[..]) {
                ("axis" | "group" | "blocksize", [value, ..]) => int(name, *value),
                _ => ints(name, &values),
            });
            if let Ok(graph) = read(op, &constants, attrs.collect()) {
                let node = &graph.nodes[0];
                for (name, attr) in &node.attrs {
                    match (attr, name.as_str()) {
                        (Attr::Ints(perm), "perm") if node.op == "Transpose" => {
                            prop_assert!((0..perm.len() as i64).all(|axis| perm.contains(&axis)));
                        }
                        (Attr::Ints(values), "pads" | "strides" | "dilations") if node.op.starts_with("Conv") => {
                            prop_assert!(values.iter().all(|value| (0..=MAX_REACH).contains(value)));
                        }
                        _ => {}
                    }
                }
                if let ("Reshape" | "Expand" | "Tile", Some(Some(shape))) = (&node.op[..], node.inputs.get(1)) {
                    let dims = graph.constant(*shape).and_then(Tensor::to_i64).unwrap_or_default();
                    let size: i128 = dims.iter().map(|&dim| i128::from(dim.max(1))).product();
                    prop_assert!(size <= i128::from(MAX_ELEMENTS));
                }
            }
        }
    }
}
