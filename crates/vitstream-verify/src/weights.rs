//! Compares a pair's graphs with a new export of the source, to name differing weights and nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use half::f16;
use vitstream_onnx::{
    Attr, BuildError, DType, Dump, Graph, Node, Tensor, Validated, ValueId, passes, validate,
};
use vitstream_vits::{EncoderForm, NoiseSource, SynthesizerTrn};

use super::limits;
use super::report::{Check, Part, Verdict, WeightDifference};
use crate::Error;
use crate::onnx_file::{OnnxFile, Readers};
use vitstream_export::error;
use vitstream_export::export::{self, ExportOptions, files, network_metadata};

/// Limit on the names that are listed.
const MOST_NODES: usize = 4;

/// Names and graphs of a pair's files.
pub(super) type Graphs = Vec<(&'static str, Validated)>;

/// The export options that affect the graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) opset: i64,
    pub(super) noise: NoiseSource,
    /// Set if the encoder returns the frames of each id.
    pub(super) durations: bool,
    pub(super) stream_decoder: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let ExportOptions { opset, noise, durations, stream_decoder, .. } = ExportOptions::default();
        Self { opset, noise, durations, stream_decoder }
    }
}

impl Settings {
    /// Recovers the options from the files of a pair.
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a OnnxFile>) -> Self {
        let mut settings = Self { stream_decoder: false, ..Self::default() };
        for file in files {
            settings.opset = file.graph.opset;
            settings.durations |= file.output("durations").is_some();
            settings.stream_decoder |= file.graph.name == "stream_decoder";
            if file.input("noise_p").is_some() {
                settings.noise = NoiseSource::Input;
                continue;
            }
            let random = file.graph.nodes.iter().find(|node| node.op == "RandomNormalLike");
            let Some(random) = random else { continue };
            let seed = match random.attrs.get("seed") {
                // In a predictor that draws nothing, the first seed is unused.
                Some(&Attr::Float(seed)) => {
                    Some((seed as u32).saturating_sub(u32::from(!random.name.starts_with("/dp/"))))
                }
                _ => None,
            };
            settings.noise = NoiseSource::Internal { seed };
        }
        settings
    }
}

/// The graphs that an export of `model` would write.
pub(super) fn emit(model: &SynthesizerTrn, settings: Settings) -> Result<Graphs, Error> {
    let finish = |file: &'static str, name: &'static str, graph: Result<Graph, BuildError>| {
        let mut graph = graph.map_err(error::build(name))?;
        graph.metadata.extend(network_metadata(model));
        Ok::<_, Error>((file, validate(passes::run_default(graph)).map_err(error::validate(name))?))
    };
    let Settings { opset, noise, durations, stream_decoder } = settings;
    let form = EncoderForm { noise, durations };
    let mut graphs = vec![
        finish(files::ENCODER, "encoder", model.emit_encoder(opset, form))?,
        finish(files::DECODER, "decoder", model.emit_decoder(opset))?,
    ];
    if stream_decoder {
        let graph = export::stream_decoder(model, opset);
        graphs.push(finish(files::STREAM_DECODER, "stream_decoder", graph)?);
    }
    Ok(graphs)
}

/// Compares `found`, the graph of `file`, with `expected`: one check for the constants, one for everything
/// else. Another version of this program may write another graph: then only common constants are compared,
/// and no other difference is a failure.
pub(super) fn compare(
    file: &str,
    found: &Graph,
    expected: &Graph,
    same_version: bool,
) -> (Vec<Check>, Vec<WeightDifference>) {
    let (found, expected) = (Named::of(found), Named::of(expected));
    let structure = compare_structure(file, &found, &expected, same_version);
    // Constants without a name of their own are numbered: in another graph, a number may refer to another
    // constant.
    let comparable = |name: &str| structure.verdict == Verdict::Ok || !name.starts_with(NUMBERED);
    let (mut differences, mut compared, mut left_out) = (Vec::new(), 0usize, 0usize);
    let (mut rounded, mut halved, mut largest) = (0usize, 0usize, 0.0f64);
    let names: BTreeSet<&str> = found.constants.keys().chain(expected.constants.keys()).copied().collect();
    for name in names.into_iter().filter(|name| comparable(name)) {
        let (ours, theirs) = (found.constants.get(name), expected.constants.get(name));
        let difference = match (ours, theirs) {
            (Some(ours), Some(theirs)) => compare_tensors(ours, theirs),
            (None, _) => Some((0, f64::INFINITY, "is missing".to_owned())),
            (_, None) => Some((0, f64::INFINITY, "is not expected".to_owned())),
        };
        let same_shape = ours
            .zip(theirs)
            .is_some_and(|(a, b)| a.dims == b.dims && (a.dtype == b.dtype || is_halved(a, b)));
        if !same_version && !same_shape {
            left_out += 1;
            continue;
        }
        compared += 1;
        let Some((differing, relative, detail)) = difference else { continue };
        largest = largest.max(relative);
        if ours.zip(theirs).is_some_and(|(a, b)| is_halved(a, b)) && relative <= limits::HALF {
            halved += 1;
            continue;
        }
        if relative <= limits::WEIGHT {
            rounded += 1;
            continue;
        }
        let elements = theirs.or(ours).map_or(0, |tensor| tensor.dims.iter().product());
        let nodes = if ours.is_some() { found.readers(name) } else { expected.readers(name) };
        let (file, name) = (file.to_owned(), name.to_owned());
        differences.push(WeightDifference { file, name, nodes, differing, elements, relative, detail });
    }
    differences.sort_by(|a, b| b.relative.total_cmp(&a.relative));
    let mut detail = match (differences.first(), rounded) {
        (None, 0) if halved > 0 => {
            format!("{halved} of {compared} are rounded to float16, the others are equal")
        }
        (Some(worst), _) => {
            format!("{} of {compared} differ, the most {}: {}", differences.len(), worst.name, worst.detail)
        }
        (None, 0) => format!("all {compared} are equal to the last bit"),
        (None, n) => format!("{n} of {compared} differ by rounding, the others are equal"),
    };
    if left_out > 0 {
        detail += &format!("; {left_out} are not in both graphs, or differ in shape");
    }
    let verdict = if differences.is_empty() { Verdict::Ok } else { Verdict::Failed };
    let weights = Check {
        max: Some(largest),
        limit: Some(if halved > 0 { limits::HALF } else { limits::WEIGHT }),
        unit: "rel",
        ..Check::new(Part::Weights, format!("{file}: weights"), verdict, detail)
    };
    (vec![weights, structure], differences)
}

/// Returns true if a tensor is stored in half precision although float32 was expected.
fn is_halved(found: &Tensor, expected: &Tensor) -> bool {
    (found.dtype, expected.dtype) == (DType::F16, DType::F32)
}

/// Prefix of the names of constants without a name of their own.
const NUMBERED: &str = "const.";

fn compare_structure(file: &str, found: &Named<'_>, expected: &Named<'_>, same_version: bool) -> Check {
    let mut problems: Vec<String> = Vec::new();
    if found.graph.opset != expected.graph.opset {
        problems.push(format!("opset {}, expected {}", found.graph.opset, expected.graph.opset));
    }
    for (what, found, expected) in [
        ("inputs", found.names(&found.graph.inputs), expected.names(&expected.graph.inputs)),
        ("outputs", found.names(&found.graph.outputs), expected.names(&expected.graph.outputs)),
    ] {
        if found != expected {
            problems.push(format!("{what} {}, expected {}", list(&found), list(&expected)));
        }
    }
    for (key, value) in &expected.graph.metadata {
        let stated = found.graph.metadata.get(key);
        if stated != Some(value) {
            let stated = stated.map_or("nothing", String::as_str);
            problems.push(format!("metadata `{key}`: {}, expected {}", short(stated), short(value)));
        }
    }
    let (ours, theirs) = (found.descriptions(), expected.descriptions());
    if ours != theirs {
        let [a, b]: [HashSet<&String>; 2] = [ours.iter().collect(), theirs.iter().collect()];
        let others = |named: &Named<'_>, own: &[String], other: &HashSet<&String>| -> Vec<String> {
            let nodes = named.computing().zip(own);
            nodes.filter(|(_, text)| !other.contains(text)).map(|(node, _)| node.name.clone()).collect()
        };
        let (strange, absent) = (others(found, &ours, &b), others(expected, &theirs, &a));
        problems.push(format!(
            "{} nodes differ from the expected ones ({}), {} are missing ({})",
            strange.len(),
            list(&strange),
            absent.len(),
            list(&absent)
        ));
    }
    let name = format!("{file}: graph");
    let (verdict, detail) = match (problems.is_empty(), same_version) {
        (true, _) => (Verdict::Ok, format!("all {} nodes are equal", ours.len())),
        (false, true) => (Verdict::Failed, problems.join("; ")),
        (false, false) => {
            (Verdict::NotChecked, format!("written by another version: {}", problems.join("; ")))
        }
    };
    Check::new(Part::Weights, name, verdict, detail)
}

/// The first few names.
fn list(names: &[impl AsRef<str>]) -> String {
    let shown: Vec<&str> = names.iter().take(MOST_NODES).map(AsRef::as_ref).collect();
    let more = if names.len() > MOST_NODES { ", ..." } else { "" };
    shown.join(", ") + more
}

fn short(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

/// The number of elements that differ, the largest difference relative to the largest expected value, and a
/// description; `None` for equal tensors.
fn compare_tensors(found: &Tensor, expected: &Tensor) -> Option<(usize, f64, String)> {
    let halved = is_halved(found, expected);
    if (found.dtype != expected.dtype && !halved) || found.dims != expected.dims {
        let detail =
            format!("is {} {:?}, expected {} {:?}", found.dtype, found.dims, expected.dtype, expected.dims);
        return Some((0, f64::INFINITY, detail));
    }
    if found.data == expected.data {
        return None;
    }
    let widened = || {
        let values = found.data.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
        values.collect::<Vec<_>>()
    };
    let found_values = if halved { Some(widened()) } else { found.to_f32() };
    let (Some(a), Some(b)) = (found_values, expected.to_f32()) else {
        let size = expected.dtype.size();
        let pairs = found.data.chunks(size).zip(expected.data.chunks(size));
        let differing = pairs.filter(|(a, b)| a != b).count();
        return Some((
            differing,
            f64::INFINITY,
            format!("{differing} of its {} values differ", expected.dtype),
        ));
    };
    let scale = b.iter().map(|v| f64::from(v.abs())).fold(f64::MIN_POSITIVE, f64::max);
    let (mut differing, mut largest, mut at) = (0, 0.0f64, 0);
    for (i, (&x, &y)) in a.iter().zip(&b).enumerate() {
        if x.to_bits() == y.to_bits() || x == y {
            continue;
        }
        differing += 1;
        let d = (f64::from(x) - f64::from(y)).abs() / scale;
        let d = if d.is_nan() { f64::INFINITY } else { d };
        if d > largest {
            (largest, at) = (d, i);
        }
    }
    if differing == 0 {
        return None;
    }
    let place = place(at, &expected.dims);
    let detail =
        format!("{differing} of {} elements, the most at {place}: {} instead of {}", b.len(), a[at], b[at]);
    Some((differing, largest, detail))
}

/// The indices of element number `at`.
fn place(at: usize, dims: &[usize]) -> String {
    let mut rest = at;
    let mut indices: Vec<String> = dims
        .iter()
        .rev()
        .map(|&length| {
            let index = rest % length.max(1);
            rest /= length.max(1);
            index.to_string()
        })
        .collect();
    indices.reverse();
    format!("[{}]", indices.join(", "))
}

/// A graph whose values are identified by name.
struct Named<'a> {
    graph: &'a Graph,
    /// Constants in half precision, by the values that they are widened to.
    widened: HashMap<ValueId, ValueId>,
    constants: BTreeMap<&'a str, &'a Tensor>,
    readers: Readers<'a>,
}

impl<'a> Named<'a> {
    fn of(graph: &'a Graph) -> Self {
        let constants =
            graph.initializers.iter().map(|(&id, tensor)| (graph.value(id).name.as_str(), tensor)).collect();
        let casts = graph.nodes.iter().filter(|node| node.op == "Cast").filter_map(|node| {
            let (&Some(from), &Some(to)) = (node.inputs.first()?, node.outputs.first()?) else { return None };
            (graph.constant(from)?.dtype == DType::F16).then_some((to, from))
        });
        Self { graph, widened: casts.collect(), constants, readers: Readers::of(graph) }
    }

    fn name(&self, id: ValueId) -> &'a str {
        &self.graph.value(self.widened.get(&id).copied().unwrap_or(id)).name
    }

    fn names(&self, ids: &[ValueId]) -> Vec<&'a str> {
        ids.iter().map(|&id| self.name(id)).collect()
    }

    fn readers(&self, name: &str) -> Vec<String> {
        let readers = self.graph.find(name).map(|id| self.readers.get(id)).unwrap_or_default();
        let through = |node: &&Node| node.outputs.iter().flatten().any(|id| self.widened.contains_key(id));
        let further = readers
            .iter()
            .filter(|node| through(node))
            .flat_map(|node| node.outputs.iter().flatten().flat_map(|&id| self.readers.get(id)));
        let direct = readers.iter().filter(|node| !through(node));
        let mut names: Vec<String> = direct.chain(further).map(|node| node.name.clone()).collect();
        names.dedup();
        names
    }

    fn descriptions(&self) -> Vec<String> {
        self.computing().map(|node| self.describe(node)).collect()
    }

    /// The nodes, except those that widen constants.
    fn computing(&self) -> impl Iterator<Item = &'a Node> {
        let widens = |node: &Node| node.outputs.iter().flatten().any(|id| self.widened.contains_key(id));
        self.graph.nodes.iter().filter(move |node| !widens(node))
    }

    /// All properties of a node, including the names of its inputs and outputs.
    fn describe(&self, node: &Node) -> String {
        let names = |ids: &[Option<ValueId>]| -> Vec<&str> {
            ids.iter().map(|id| id.map_or("", |id| self.name(id))).collect()
        };
        let (inputs, outputs) = (names(&node.inputs), names(&node.outputs));
        match node.body(|id| self.name(id).to_owned()) {
            Some(body) => format!("{} {} {inputs:?} {outputs:?} {}", node.name, node.op, Dump(&body)),
            None => format!("{} {} {inputs:?} {outputs:?} {:?}", node.name, node.op, node.attrs),
        }
    }
}

/// The constants of a file that are not finite, each with its first such element.
pub(super) fn not_finite(file: &OnnxFile) -> Vec<String> {
    let graph = &file.graph;
    let spoilt = |(&id, tensor): (&ValueId, &Tensor)| {
        // The elements are read in place, without a copy of all weights.
        let at = match tensor.dtype {
            DType::F32 => {
                let infinite = |b: &[u8]| !f32::from_le_bytes([b[0], b[1], b[2], b[3]]).is_finite();
                tensor.data.chunks_exact(4).position(infinite)
            }
            DType::F16 => {
                tensor.data.chunks_exact(2).position(|b| !f16::from_le_bytes([b[0], b[1]]).is_finite())
            }
            _ => None,
        };
        Some(format!("{} at {}", file.name(id), place(at?, &tensor.dims)))
    };
    graph.initializers.iter().filter_map(spoilt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_told_apart() {
        let one = Tensor::f32(&[2, 2], &[1.0, -4.0, 0.0, 2.0]);
        assert_eq!(compare_tensors(&one, &one), None);
        // Zeros of different signs are equal.
        assert_eq!(compare_tensors(&Tensor::f32(&[2, 2], &[1.0, -4.0, -0.0, 2.0]), &one), None);
        let (count, relative, detail) =
            compare_tensors(&Tensor::f32(&[2, 2], &[1.0, -4.0, 1.0, 2.5]), &one).unwrap();
        assert_eq!((count, relative), (2, 0.25));
        assert!(detail.contains("[1, 0]: 1 instead of 0"), "{detail}");
        let spoilt = compare_tensors(&Tensor::f32(&[2, 2], &[f32::NAN, -4.0, 0.0, 2.0]), &one).unwrap();
        assert_eq!((spoilt.0, spoilt.1), (1, f64::INFINITY));
        assert_eq!(compare_tensors(&Tensor::f32(&[4], &[1.0; 4]), &one).unwrap().1, f64::INFINITY);
        assert_eq!(compare_tensors(&Tensor::i64(&[1], &[1]), &Tensor::i64(&[1], &[2])).unwrap().0, 1);
        let zeros = Tensor::f32(&[1], &[0.0]);
        assert!(compare_tensors(&Tensor::f32(&[1], &[1.0]), &zeros).unwrap().1 > 1.0);
    }
}
