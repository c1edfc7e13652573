//! Weights in half precision, and back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use bytes::Bytes;
use half::f16;

use super::{Pass, drop_unproduced_values, replace_inputs};
use crate::graph::{Attr, DType, Graph, Node, Tensor, ValueId, ValueInfo};
use crate::proto::data_type;

/// Stores large float32 initializers as float16 and casts them back, so that everything is still computed in float32.
///
/// `w` becomes `Cast(h, to = float32)` with `h = round(w)` to the nearest float16, ties to even. Every float16 is a
/// float32, so the Cast is exact and the only error is the rounding: for a weight of float16's normal range, `|w - h|
/// <= 2^-11 |w|`; below it (`|w| < 2^-14`), `|w - h| <= 2^-25`. Runtimes that fold constants compute the Casts once,
/// when the graph is loaded; the others at every run.
///
/// A tensor stays float32
/// - if it has fewer than [`MIN_ELEMENTS`](Self::MIN_ELEMENTS) elements, which would save nothing,
/// - if an element is not finite, or would not be finite after rounding (65,520 and above),
/// - if rounding changes the whole tensor, `‖w - h‖ / ‖w‖`, by more than
///   [`MAX_RELATIVE_ERROR`](Self::MAX_RELATIVE_ERROR), because most of it is below float16's normal range,
/// - if it is a graph output.
///
/// The initializer keeps its name. Unlike the [other passes](super), this one is not exact, so it is not
/// among the defaults.
#[derive(Clone, Copy, Debug)]
pub struct HalfPrecisionWeights;

/// The changes that [`HalfPrecisionWeights`] made.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct HalfPrecisionReport {
    /// Number of tensors converted to float16.
    pub converted: usize,
    /// Names of the large tensors that stayed float32, and the reasons.
    pub kept: BTreeMap<String, KeptReason>,
    /// The largest `‖w - h‖ / ‖w‖` of all converted tensors.
    pub largest_relative_error: f64,
}

/// The reason why a large tensor stayed float32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeptReason {
    /// An element is not finite as float16.
    TooLarge,
    /// Too much of the tensor is below float16's normal range.
    TooSmall,
}

impl fmt::Display for KeptReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "holds numbers beyond float16's range",
            Self::TooSmall => "is mostly below float16's normal range",
        })
    }
}

impl HalfPrecisionWeights {
    /// Number of elements of the smallest tensor that is converted.
    pub const MIN_ELEMENTS: usize = 1024;

    /// Limit on the change of a tensor by rounding, relative to its Euclidean norm. Rounding in the normal
    /// range stays below half of this.
    pub const MAX_RELATIVE_ERROR: f64 = 1.0 / 1024.0;

    /// Rewrites `graph`.
    pub fn run(self, graph: &mut Graph) -> HalfPrecisionReport {
        let mut report = HalfPrecisionReport::default();
        let outputs: BTreeSet<ValueId> = graph.outputs.iter().copied().collect();
        let candidates: Vec<ValueId> = graph
            .initializers
            .iter()
            .filter(|(id, tensor)| {
                tensor.dtype == DType::F32
                    && tensor.data.len() >= Self::MIN_ELEMENTS * DType::F32.size()
                    && !outputs.contains(id)
            })
            .map(|(&id, _)| id)
            .collect();
        let mut names: HashSet<String> = graph.nodes.iter().map(|node| node.name.clone()).collect();
        names.extend(graph.values().map(|(_, info)| info.name.clone()));
        let mut casts = HashMap::new();
        let mut replacements = HashMap::new();
        for id in candidates {
            let tensor = &graph.initializers[&id];
            let info = graph.value(id).clone();
            let (halves, error) = match round(&tensor.data) {
                Ok(rounded) => rounded,
                Err(reason) => {
                    report.kept.insert(info.name, reason);
                    continue;
                }
            };
            report.converted += 1;
            report.largest_relative_error = report.largest_relative_error.max(error);
            let tensor = Tensor { dtype: DType::F16, dims: tensor.dims.clone(), data: halves };
            graph.initializers.insert(id, tensor);
            graph.values[id.index()].dtype = Some(DType::F16);

            let base = format!("/{}/Cast", info.name.trim_start_matches('/').replace('.', "/"));
            let name = unused(&mut names, base);
            let value = unused(&mut names, format!("{name}_output_0"));
            let output = graph.add_value(ValueInfo { name: value, ..info });
            let attrs = [("to".to_owned(), Attr::Int(data_type::code(DType::F32).into()))].into();
            let cast = Node {
                name,
                op: "Cast".to_owned(),
                inputs: vec![Some(id)],
                outputs: vec![Some(output)],
                attrs,
            };
            casts.insert(output, cast);
            replacements.insert(id, output);
        }
        replace_inputs(&mut graph.nodes, &replacements);
        // The Cast is placed just before its first reader, so that a runtime that casts at every run holds
        // few copies at once.
        for node in std::mem::take(&mut graph.nodes) {
            let read: Vec<Node> = node.inputs.iter().flatten().filter_map(|id| casts.remove(id)).collect();
            graph.nodes.extend(read);
            graph.nodes.push(node);
        }
        // Values that nothing reads.
        drop_unproduced_values(graph);
        report
    }
}

/// Rounds little-endian float32s to the nearest float16s; also returns the error relative to the norm.
fn round(data: &[u8]) -> Result<(Bytes, f64), KeptReason> {
    let mut halves = Vec::with_capacity(data.len() / 2);
    let (mut difference, mut norm) = (0.0f64, 0.0f64);
    for bytes in data.chunks_exact(4) {
        let exact = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let rounded = f16::from_f32(exact);
        if !rounded.is_finite() {
            return Err(KeptReason::TooLarge);
        }
        halves.extend_from_slice(&rounded.to_le_bytes());
        difference += f64::from(exact - rounded.to_f32()).powi(2);
        norm += f64::from(exact).powi(2);
    }
    let error = if norm > 0.0 { (difference / norm).sqrt() } else { 0.0 };
    if error > HalfPrecisionWeights::MAX_RELATIVE_ERROR {
        return Err(KeptReason::TooSmall);
    }
    Ok((halves.into(), error))
}

fn unused(names: &mut HashSet<String>, base: String) -> String {
    let mut name = base.clone();
    let mut count = 0;
    while !names.insert(name.clone()) {
        count += 1;
        name = format!("{base}_{count}");
    }
    name
}

/// Undoes [`HalfPrecisionWeights`]: a Cast of a float16 initializer to float32 becomes a float32 initializer
/// with the float16's name.
///
/// Every float16 is a float32, so this is exact. A float16 that other nodes read as well stays, and so does
/// its Cast.
#[derive(Clone, Copy, Debug)]
pub struct WidenedWeights;

impl Pass for WidenedWeights {
    fn name(&self) -> &'static str {
        "widening of half-precision weights"
    }

    fn run(&self, graph: &mut Graph) -> usize {
        let mut readers: HashMap<ValueId, usize> = HashMap::new();
        for id in graph.nodes.iter().flat_map(|node| &node.inputs).flatten().chain(&graph.outputs) {
            *readers.entry(*id).or_default() += 1;
        }
        let to_f32 = Attr::Int(data_type::code(DType::F32).into());
        let before = graph.nodes.len();
        let mut replacements = HashMap::new();
        for node in std::mem::take(&mut graph.nodes) {
            let widened = match (node.op.as_str(), &node.inputs[..], &node.outputs[..]) {
                ("Cast", &[Some(input)], &[Some(output)])
                    if node.attrs.get("to") == Some(&to_f32)
                        && readers[&input] == 1
                        && !graph.outputs.contains(&output) =>
                {
                    let tensor = graph.constant(input).filter(|tensor| tensor.dtype == DType::F16);
                    tensor.map(|tensor| (input, output, widen(tensor)))
                }
                _ => None,
            };
            let Some((input, output, tensor)) = widened else {
                graph.nodes.push(node);
                continue;
            };
            graph.values[input.index()].dtype = Some(DType::F32);
            graph.initializers.insert(input, tensor);
            replacements.insert(output, input);
        }
        replace_inputs(&mut graph.nodes, &replacements);
        drop_unproduced_values(graph);
        before - graph.nodes.len()
    }
}

fn widen(tensor: &Tensor) -> Tensor {
    let halves = tensor.data.chunks_exact(2).map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32());
    Tensor {
        dtype: DType::F32,
        dims: tensor.dims.clone(),
        data: halves.flat_map(f32::to_le_bytes).collect::<Vec<u8>>().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;
    use crate::dim::Dim;
    use crate::encode::to_bytes;
    use crate::test_graphs::{assert_pass_keeps_outputs, constant, node, outputs, small, value};
    use crate::validate::validate;

    const ROWS: usize = HalfPrecisionWeights::MIN_ELEMENTS / 2;

    /// `small`, and `y2 = x @ first @ second + y` with `first: f32[2, ROWS]`, `second: f32[ROWS, 2]`.
    fn with_weights(first: impl Fn(usize) -> f32, second: impl Fn(usize) -> f32) -> Graph {
        let mut graph = small();
        let [x, y] = [graph.inputs[0], graph.outputs[0]];
        let shape = graph.value(y).shape.clone().unwrap();
        let elements = |f: &dyn Fn(usize) -> f32| (0..2 * ROWS).map(f).collect::<Vec<_>>();
        let first = constant(&mut graph, "dec.first.weight", Tensor::f32(&[2, ROWS], &elements(&first)));
        let second = constant(&mut graph, "dec.second.weight", Tensor::f32(&[ROWS, 2], &elements(&second)));
        let mut wide = shape.clone();
        wide[2] = Dim::from(ROWS);
        let hidden = value(&mut graph, "hidden", &wide);
        let [out, sum] = ["out", "y2"].map(|name| value(&mut graph, name, &shape));
        node(&mut graph, "/1/MatMul", "MatMul", &[x, first], hidden);
        node(&mut graph, "/2/MatMul", "MatMul", &[hidden, second], out);
        node(&mut graph, "/2/Add", "Add", &[out, y], sum);
        graph.outputs = vec![sum];
        graph
    }

    fn weight(i: usize) -> f32 {
        (i as f32 * 0.37).sin() / 32.0
    }

    #[test]
    fn weights_are_halved_and_results_stay_near() {
        let before = with_weights(weight, |i| weight(i + 5));
        let mut after = before.clone();
        let report = HalfPrecisionWeights.run(&mut after);
        assert_eq!((report.converted, report.kept.len()), (2, 0));
        assert!((1e-5..4.9e-4).contains(&report.largest_relative_error), "{report:?}");

        let kinds: Vec<_> =
            after.initializers.iter().map(|(&id, t)| (after.value(id).name.as_str(), t.dtype)).collect();
        let (half, whole) = (DType::F16, DType::F32);
        assert_eq!(
            kinds,
            [("w", whole), ("b", whole), ("dec.first.weight", half), ("dec.second.weight", half)]
        );
        let ops: Vec<&str> = after.nodes.iter().map(|node| node.op.as_str()).collect();
        assert_eq!(ops, ["MatMul", "Add", "LeakyRelu", "Cast", "MatMul", "Cast", "MatMul", "Add"]);
        assert_eq!(after.nodes[3].name, "/dec/first/weight/Cast");

        let sizes = [&before, &after].map(|graph| to_bytes(&validate(graph.clone()).unwrap()).len());
        let saved = 2 * 2 * 2 * ROWS;
        assert!(sizes[0] - sizes[1] > saved - 400, "{sizes:?}: {saved} saved but for the names");
        let (before, after) = (outputs(&before), outputs(&after));
        for (a, b) in before[0].iter().zip(&after[0]) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
        assert_ne!(before, after);
    }

    /// Numbers that float16 holds exactly are restored bit by bit, also from the file.
    #[test]
    fn widening_undoes_it() {
        let before = with_weights(|i| f16::from_f32(weight(i)).to_f32(), |i| (i % 7) as f32);
        let mut halved = before.clone();
        assert_eq!(HalfPrecisionWeights.run(&mut halved).largest_relative_error, 0.0);
        let read = decode(to_bytes(&validate(halved).unwrap()).into()).unwrap();
        let after = assert_pass_keeps_outputs(&WidenedWeights, read, 2);
        assert_eq!(to_bytes(&validate(after).unwrap()), to_bytes(&validate(before).unwrap()));
    }

    #[test]
    fn what_does_not_survive_stays() {
        let kept = |first: &dyn Fn(usize) -> f32| {
            let before = with_weights(first, weight);
            let mut after = before.clone();
            let report = HalfPrecisionWeights.run(&mut after);
            assert_eq!(report.converted, 1);
            let bytes =
                |graph: &Graph| graph.constant(graph.find("dec.first.weight").unwrap()).unwrap().clone();
            assert_eq!(bytes(&after), bytes(&before));
            report.kept["dec.first.weight"]
        };
        assert_eq!(kept(&|i| if i == 9 { 65_520.0 } else { weight(i) }), KeptReason::TooLarge);
        assert_eq!(kept(&|i| if i == 9 { f32::NAN } else { weight(i) }), KeptReason::TooLarge);
        assert_eq!(kept(&|i| weight(i) * 1e-5), KeptReason::TooSmall);
        // The largest float16, and single small weights among normal ones, are converted.
        let mut graph =
            with_weights(|i| if i == 9 { 65_519.0 } else { 1.0 }, |i| if i % 2 == 0 { 1e-9 } else { 0.5 });
        assert_eq!(HalfPrecisionWeights.run(&mut graph).converted, 2);
        // Nothing but zeros.
        assert_eq!(HalfPrecisionWeights.run(&mut with_weights(|_| 0.0, |_| 0.0)).converted, 2);
    }

    #[test]
    fn small_tensors_and_outputs_stay() {
        let mut graph = small();
        assert_eq!(HalfPrecisionWeights.run(&mut graph), HalfPrecisionReport::default());
        let mut graph = with_weights(weight, weight);
        graph.outputs.push(graph.find("dec.first.weight").unwrap());
        let report = HalfPrecisionWeights.run(&mut graph);
        assert_eq!((report.converted, report.kept.len()), (1, 0));
    }
}
