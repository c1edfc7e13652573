//! Constant folding of shape arithmetic.

use super::{Pass, drop_unproduced_values};
use crate::dim::Dim;
use crate::graph::{Attr, DType, Graph, Node, Tensor};

/// Computes nodes whose inputs are constants, and turns the results into initializers.
///
/// The folded nodes are those that tracers leave around shapes: `Constant`, `Shape` of a known shape, and
/// `Gather`, `Concat`, `Slice`, `Squeeze`, `Unsqueeze`, `Cast`, `Add`, `Sub`, `Mul` and `Div` of int64
/// scalars and lists. Integers are exact, so the value is the one that the runtime would have computed; if an
/// operation overflows, divides by zero or reads past an end, the node stays and the runtime decides.
/// Floating-point arithmetic is left to the runtime too, because its rounding cannot be predicted.
#[derive(Clone, Copy, Debug)]
pub struct ConstantFolding;

/// Limit on the elements of a result: results are shapes, and chains of `Concat` must not grow without end.
const MAX_ELEMENTS: usize = 1024;

impl Pass for ConstantFolding {
    fn name(&self) -> &'static str {
        "constant folding"
    }

    fn run(&self, graph: &mut Graph) -> usize {
        let before = graph.nodes.len();
        let mut kept = Vec::with_capacity(before);
        for node in std::mem::take(&mut graph.nodes) {
            let folded = match node.outputs[..] {
                [Some(output)] if !graph.outputs.contains(&output) => {
                    fold(graph, &node).map(|tensor| (output, tensor))
                }
                _ => None,
            };
            let Some((output, tensor)) = folded else {
                kept.push(node);
                continue;
            };
            let info = &mut graph.values[output.index()];
            info.dtype = Some(tensor.dtype);
            info.shape = Some(tensor.dims.iter().map(|&dim| Dim::from(dim)).collect());
            graph.initializers.insert(output, tensor);
        }
        graph.nodes = kept;
        drop_unproduced_values(graph);
        before - graph.nodes.len()
    }
}

fn fold(graph: &Graph, node: &Node) -> Option<Tensor> {
    match node.op.as_str() {
        "Constant" => constant(node),
        "Shape" => shape(graph, node).and_then(Ints::into_tensor),
        _ => {
            let inputs: Vec<Option<Ints>> = node
                .inputs
                .iter()
                .map(|input| match input {
                    Some(id) => Ints::of(graph.constant(*id)?).map(Some),
                    None => Some(None),
                })
                .collect::<Option<_>>()?;
            integers(node, &inputs)?.into_tensor()
        }
    }
}

/// An int64 scalar or list.
#[derive(Clone)]
struct Ints {
    is_scalar: bool,
    values: Vec<i64>,
}

impl Ints {
    fn of(tensor: &Tensor) -> Option<Self> {
        if tensor.dims.len() > 1 || tensor.data.len() > MAX_ELEMENTS * DType::I64.size() {
            return None;
        }
        Some(Self { is_scalar: tensor.dims.is_empty(), values: tensor.to_i64()? })
    }

    fn list(values: Vec<i64>) -> Self {
        Self { is_scalar: false, values }
    }

    fn into_tensor(self) -> Option<Tensor> {
        let len = self.values.len();
        let dims: &[usize] = if self.is_scalar { &[] } else { &[len] };
        (len <= MAX_ELEMENTS).then(|| Tensor::i64(dims, &self.values))
    }

    /// The only element.
    fn single(&self) -> Option<i64> {
        match self.values[..] {
            [value] => Some(value),
            _ => None,
        }
    }
}

fn constant(node: &Node) -> Option<Tensor> {
    let mut attrs = node.attrs.iter();
    let ((name, attr), None) = (attrs.next()?, attrs.next()) else { return None };
    match (name.as_str(), attr) {
        ("value", Attr::Tensor(tensor)) => Some(tensor.clone()),
        ("value_int", Attr::Int(value)) => Some(Tensor::i64(&[], &[*value])),
        ("value_ints", Attr::Ints(values)) => Some(Tensor::i64(&[values.len()], values)),
        ("value_float", Attr::Float(value)) => Some(Tensor::f32(&[], &[*value])),
        ("value_floats", Attr::Floats(values)) => Some(Tensor::f32(&[values.len()], values)),
        _ => None,
    }
}

fn shape(graph: &Graph, node: &Node) -> Option<Ints> {
    let [Some(input)] = node.inputs[..] else { return None };
    let shape = graph.value(input).shape.as_ref()?;
    let rank = shape.len() as i64;
    let bound = |name, default| {
        let at = int_attr(node, name, default);
        if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank) as usize
    };
    let dims = shape.get(bound("start", 0)..bound("end", rank)).unwrap_or_default();
    dims.iter().map(Dim::as_const).collect::<Option<_>>().map(Ints::list)
}

fn integers(node: &Node, inputs: &[Option<Ints>]) -> Option<Ints> {
    match (node.op.as_str(), inputs) {
        ("Add", [Some(a), Some(b)]) => elementwise(a, b, i64::checked_add),
        ("Sub", [Some(a), Some(b)]) => elementwise(a, b, i64::checked_sub),
        ("Mul", [Some(a), Some(b)]) => elementwise(a, b, i64::checked_mul),
        ("Div", [Some(a), Some(b)]) => elementwise(a, b, i64::checked_div),
        ("Cast", [Some(a)]) => (int_attr(node, "to", 0) == 7).then(|| a.clone()),
        ("Gather", [Some(data), Some(at)]) if !data.is_scalar && is_first_axis(int_attr(node, "axis", 0)) => {
            let pick = |&at| data.values.get(wrap(at, data.values.len())?).copied();
            let values = at.values.iter().map(pick).collect::<Option<_>>()?;
            Some(Ints { is_scalar: at.is_scalar, values })
        }
        ("Concat", _) if is_first_axis(int_attr(node, "axis", 1)) => {
            let parts: Vec<&Ints> = inputs.iter().map(Option::as_ref).collect::<Option<_>>()?;
            let len: usize = parts.iter().map(|part| part.values.len()).sum();
            let fits = len <= MAX_ELEMENTS && parts.iter().all(|part| !part.is_scalar);
            fits.then(|| Ints::list(parts.iter().flat_map(|part| part.values.iter().copied()).collect()))
        }
        ("Unsqueeze", [Some(data), Some(axes)]) if data.is_scalar && is_first_axis(axes.single()?) => {
            Some(Ints::list(data.values.clone()))
        }
        ("Squeeze", [Some(data), axes @ ..]) if !data.is_scalar => {
            let axis = match axes {
                [] | [None] => 0,
                [Some(axes)] => axes.single()?,
                _ => return None,
            };
            let value = data.single().filter(|_| is_first_axis(axis))?;
            Some(Ints { is_scalar: true, values: vec![value] })
        }
        ("Slice", [Some(data), Some(start), Some(end), rest @ ..]) if !data.is_scalar => {
            let optional = |at: usize, default| match rest.get(at) {
                Some(Some(value)) => value.single(),
                _ => Some(default),
            };
            let (axis, step) = (optional(0, 0)?, optional(1, 1)?);
            is_first_axis(axis).then(|| slice(&data.values, start.single()?, end.single()?, step)).flatten()
        }
        _ => None,
    }
}

/// For a list, axis 0 is also the last one.
fn is_first_axis(axis: i64) -> bool {
    matches!(axis, 0 | -1)
}

fn int_attr(node: &Node, name: &str, default: i64) -> i64 {
    match node.attrs.get(name) {
        Some(Attr::Int(value)) => *value,
        _ => default,
    }
}

/// An index that may count from the end.
fn wrap(at: i64, len: usize) -> Option<usize> {
    usize::try_from(if at < 0 { at.checked_add(i64::try_from(len).ok()?)? } else { at }).ok()
}

fn elementwise(a: &Ints, b: &Ints, compute: impl Fn(i64, i64) -> Option<i64>) -> Option<Ints> {
    let values = match (a.values.as_slice(), b.values.as_slice()) {
        (a, &[b]) => a.iter().map(|&a| compute(a, b)).collect::<Option<_>>()?,
        (&[a], b) => b.iter().map(|&b| compute(a, b)).collect::<Option<_>>()?,
        (a, b) if a.len() == b.len() => {
            a.iter().zip(b).map(|(&a, &b)| compute(a, b)).collect::<Option<_>>()?
        }
        _ => return None,
    };
    Some(Ints { is_scalar: a.is_scalar && b.is_scalar, values })
}

/// ONNX's `Slice` of a list: bounds count from the end when negative and are cut to the list.
fn slice(values: &[i64], start: i64, end: i64, step: i64) -> Option<Ints> {
    let len = i64::try_from(values.len()).ok()?;
    let from_start = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let mut at = from_start(start).clamp(low.max(0).min(high), high);
    let end = from_start(end).clamp(low, high);
    let mut picked = Vec::new();
    while step != 0 && (if step > 0 { at < end } else { at > end }) {
        picked.push(*values.get(usize::try_from(at).ok()?)?);
        at = at.saturating_add(step);
    }
    (step != 0).then(|| Ints::list(picked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_graphs::{assert_pass_keeps_outputs, constant, node, small, typed};

    /// Reshapes `small`'s output, which has 2 columns, as a tracer would: `[-1, (2 + 4 - 3) * 2 / 3 * 2]`.
    #[test]
    fn shape_arithmetic_becomes_a_constant() {
        let mut graph = small();
        let y = graph.outputs[0];
        let list = |graph: &mut Graph, name: &str, values: &[i64]| {
            constant(graph, name, Tensor::i64(&[values.len()], values))
        };
        let w = graph.find("w").unwrap();
        let int = |graph: &mut Graph, name: &str, dims: &[i64]| {
            let dims: Vec<Dim> = dims.iter().map(|&dim| Dim::from(dim)).collect();
            typed(graph, name, DType::I64, &dims)
        };
        let zero = constant(&mut graph, "zero", Tensor::i64(&[], &[0]));
        let axis = list(&mut graph, "axis", &[0]);
        let minus = list(&mut graph, "minus", &[-1]);
        let four = list(&mut graph, "four", &[9, 4, -3]);
        let three = list(&mut graph, "three", &[3]);

        let shape = int(&mut graph, "shape", &[2]);
        node(&mut graph, "/Shape", "Shape", &[w], shape);
        let width = int(&mut graph, "width", &[]);
        node(&mut graph, "/Gather", "Gather", &[shape, zero], width);
        let row = int(&mut graph, "row", &[1]);
        node(&mut graph, "/Unsqueeze", "Unsqueeze", &[width, axis], row);
        let picked = int(&mut graph, "picked", &[1]);
        let (one, two) = (list(&mut graph, "one", &[1]), list(&mut graph, "two", &[-1]));
        node(&mut graph, "/Slice", "Slice", &[four, one, two], picked);
        let sum = int(&mut graph, "total", &[1]);
        node(&mut graph, "/Add_1", "Add", &[row, picked], sum);
        let less = int(&mut graph, "less", &[1]);
        node(&mut graph, "/Sub", "Sub", &[sum, three], less);
        let twice = int(&mut graph, "twice", &[1]);
        node(&mut graph, "/Mul", "Mul", &[less, row], twice);
        let part = int(&mut graph, "part", &[1]);
        node(&mut graph, "/Div", "Div", &[twice, three], part);
        let columns = int(&mut graph, "columns", &[1]);
        node(&mut graph, "/Mul_1", "Mul", &[part, row], columns);
        let target = int(&mut graph, "target", &[2]);
        node(&mut graph, "/Concat", "Concat", &[minus, columns], target);
        graph.nodes.last_mut().unwrap().attrs.insert("axis".to_owned(), Attr::Int(0));
        let flat = typed(&mut graph, "flat", DType::F32, &[Dim::symbol("rows"), Dim::from(4i64)]);
        node(&mut graph, "/Reshape", "Reshape", &[y, target], flat);
        graph.outputs = vec![flat];

        let after = assert_pass_keeps_outputs(&ConstantFolding, graph, 10);
        let target = after.constant(after.find("target").unwrap()).unwrap();
        assert_eq!(target.to_i64().unwrap(), [-1, 4]);
    }

    #[test]
    fn slices_as_onnx_does() {
        let sliced = |start, end, step| slice(&[0, 1, 2, 3], start, end, step).map(|ints| ints.values);
        assert_eq!(sliced(1, i64::MAX, 1), Some(vec![1, 2, 3]));
        assert_eq!(sliced(-3, -1, 1), Some(vec![1, 2]));
        assert_eq!(sliced(-1, i64::MIN, -2), Some(vec![3, 1]));
        assert_eq!(sliced(9, 0, -1), Some(vec![3, 2, 1]));
        assert_eq!(sliced(0, 4, i64::MAX), Some(vec![0]));
        assert_eq!(sliced(0, 4, 0), None);
        assert_eq!(slice(&[], 0, -9, -1).map(|ints| ints.values), Some(vec![]));
    }

    #[test]
    fn what_the_runtime_must_decide_stays() {
        let ints = |values: &[i64]| Some(Ints::list(values.to_vec()));
        let mut node = Node {
            name: "/Op".to_owned(),
            op: "Div".to_owned(),
            inputs: vec![],
            outputs: vec![],
            attrs: Default::default(),
        };
        assert!(integers(&node, &[ints(&[1]), ints(&[0])]).is_none());
        assert!(integers(&node, &[ints(&[i64::MIN]), ints(&[-1])]).is_none());
        node.op = "Mul".to_owned();
        assert!(integers(&node, &[ints(&[i64::MAX]), ints(&[2])]).is_none());
        assert!(integers(&node, &[ints(&[1, 2]), ints(&[1, 2, 3])]).is_none());
        node.op = "Gather".to_owned();
        assert!(integers(&node, &[ints(&[1, 2]), ints(&[2])]).is_none());
    }
}
