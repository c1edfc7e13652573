//! The receptive field of a decoder, derived from its graph.
//!
//! A sample depends on a range of positions of every value on the way back to `z`. A convolution with kernel
//! `k`, dilation `d`, stride `s` and left padding `p` maps the positions `a..=b` of its output to `a*s - p
//! ..= b*s - p + (k-1)*d` of its input; a transposed one maps them to `ceil((a + p - (k-1)*d) / s) ..=
//! floor((b + p) / s)`; all other operators in such a decoder work position by position. Walking the graph
//! backwards from the samples of frame 0 therefore ends at the frames of `z` that frame 0 depends on, and,
//! because the network is the same everywhere, that any frame depends on.
//!
//! An operator that is not known to work position by position is an error, because a wrong guess would be
//! audible.

use std::collections::BTreeMap;

use vitstream_onnx::{Attr, Node, ValueId};

use crate::error::Result;
use crate::graph_file::GraphFile;

/// The geometry of a decoder along time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receptive {
    /// Frames before its own on which a frame's samples depend.
    pub(crate) left: usize,
    /// Frames after its own on which a frame's samples depend.
    pub(crate) right: usize,
    /// Samples per frame.
    pub(crate) hop: usize,
}

/// Positions `first..=last` on a value's last axis, relative to the frame in question.
#[derive(Clone, Copy)]
struct Span {
    first: i64,
    last: i64,
}

impl Span {
    fn union(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// Operators that work position by position on all their inputs.
const POINTWISE: [&str; 22] = [
    "Abs",
    "Add",
    "Cast",
    "Clip",
    "Concat",
    "Cos",
    "Div",
    "Exp",
    "Identity",
    "LeakyRelu",
    "Log",
    "Mul",
    "Neg",
    "Pow",
    "Relu",
    "Sigmoid",
    "Sin",
    "Sqrt",
    "Sub",
    "Sum",
    "Tanh",
    "Where",
];

/// The receptive field of the graph's `output` at its input `z`, in frames.
pub(crate) fn receptive_field(file: &GraphFile) -> Result<Receptive> {
    let graph = &file.graph;
    let (Some(z), Some(output)) = (graph.find("z"), graph.find("output")) else {
        return Err(file.error("expected an input `z` and an output `output`"));
    };

    // Only values computed from `z` have a time axis, and the product of the strides gives its rate.
    let mut rates: BTreeMap<ValueId, i64> = BTreeMap::from([(z, 1)]);
    for node in &graph.nodes {
        let Some(&rate) = data_inputs(node).find_map(|id| rates.get(&id)) else { continue };
        let rate = match node.op.as_str() {
            "Conv" => rate / Window::of(file, node)?.stride,
            "ConvTranspose" => rate.saturating_mul(Window::of(file, node)?.stride),
            _ => rate,
        };
        rates.extend(node.outputs.iter().flatten().map(|&id| (id, rate)));
    }
    let hop = rates.get(&output).copied().unwrap_or(0);
    if !(1..=1 << 20).contains(&hop) {
        return Err(file.error(format!("`output` has {hop} samples per frame of `z`: not a decoder")));
    }

    let mut spans: BTreeMap<ValueId, Span> = BTreeMap::from([(output, Span { first: 0, last: hop - 1 })]);
    for node in graph.nodes.iter().rev() {
        let needed =
            node.outputs.iter().flatten().filter_map(|id| spans.get(id)).copied().reduce(Span::union);
        let Some(span) = needed else { continue };
        if !data_inputs(node).any(|id| rates.contains_key(&id)) {
            continue;
        }
        let span = through(file, node, span)?;
        for id in data_inputs(node).filter(|id| rates.contains_key(id)) {
            spans.entry(id).and_modify(|known| *known = known.union(span)).or_insert(span);
        }
    }
    let span = spans.get(&z).ok_or_else(|| file.error("`output` does not depend on `z`"))?;
    let frames = |length: i64| {
        usize::try_from(length.max(0)).map_err(|_| file.error("the receptive field is too large"))
    };
    Ok(Receptive { left: frames(-span.first)?, right: frames(span.last)?, hop: frames(hop)? })
}

/// The inputs on whose positions a node's outputs depend, without amounts and shapes.
fn data_inputs(node: &Node) -> impl Iterator<Item = ValueId> {
    let count = match node.op.as_str() {
        "Shape" | "ConstantOfShape" => 0,
        "Conv" | "ConvTranspose" | "Slice" | "Split" | "Reshape" | "Squeeze" | "Unsqueeze" | "Pad" => 1,
        _ => node.inputs.len(),
    };
    node.inputs.iter().take(count).flatten().copied()
}

/// The positions of `node`'s inputs that the positions `span` of its outputs depend on.
fn through(file: &GraphFile, node: &Node, span: Span) -> Result<Span> {
    let refuse = |why: &str| {
        let advice = "the receptive field of this decoder cannot be derived from its graph; export the voice with vitstream";
        Err(file.error(format!("node `{}`: {} {why}: {advice}", node.name, node.op)))
    };
    match node.op.as_str() {
        op if POINTWISE.contains(&op) => match attr_int(node, "axis") {
            Some(axis) if op == "Concat" && !is_channel_axis(axis) => refuse("along the time axis"),
            _ => Ok(span),
        },
        "Split" => match attr_int(node, "axis") {
            Some(axis) if is_channel_axis(axis) => Ok(span),
            _ => refuse("along an axis that is not the channels'"),
        },
        "Slice" => match slice_axes(file, node) {
            Some(axes) if axes.iter().all(|&axis| is_channel_axis(axis)) => Ok(span),
            _ => refuse("along an axis that is not the channels'"),
        },
        "Conv" => {
            let Window { stride, pad, reach, .. } = Window::of(file, node)?;
            if stride != 1 {
                return refuse("with a stride");
            }
            Ok(Span { first: span.first - pad, last: span.last - pad + reach })
        }
        "ConvTranspose" => {
            let Window { stride, pad, reach } = Window::of(file, node)?;
            Ok(Span {
                first: (span.first + pad - reach + stride - 1).div_euclid(stride),
                last: (span.last + pad).div_euclid(stride),
            })
        }
        _ => refuse("is not known to work frame by frame"),
    }
}

/// Returns true for axis 1 of `[batch, channels, time]`.
fn is_channel_axis(axis: i64) -> bool {
    axis == 1 || axis == -2
}

fn slice_axes(file: &GraphFile, node: &Node) -> Option<Vec<i64>> {
    let axes = node.inputs.get(3).copied().flatten()?;
    if let Some(tensor) = file.graph.constant(axes) {
        return tensor.to_i64();
    }
    let maker = file.graph.nodes.iter().find(|node| node.outputs.contains(&Some(axes)))?;
    match (maker.op.as_str(), maker.attrs.get("value")) {
        ("Constant", Some(Attr::Tensor(tensor))) => tensor.to_i64(),
        _ => None,
    }
}

fn attr_int(node: &Node, name: &str) -> Option<i64> {
    match node.attrs.get(name) {
        Some(&Attr::Int(value)) => Some(value),
        _ => None,
    }
}

/// A convolution's geometry along time.
struct Window {
    stride: i64,
    /// Zeros before the first position.
    pad: i64,
    /// `(kernel - 1) * dilation`.
    reach: i64,
}

impl Window {
    fn of(file: &GraphFile, node: &Node) -> Result<Self> {
        let bad = |what: &str| file.error(format!("node `{}`: {what}", node.name));
        if let Some(Attr::String(auto)) = node.attrs.get("auto_pad")
            && auto != "NOTSET"
        {
            return Err(bad(&format!("auto_pad {auto} is not supported")));
        }
        let one = |name: &str, at: usize| -> Result<Option<i64>> {
            match node.attrs.get(name) {
                None => Ok(None),
                Some(Attr::Ints(values))
                    if values.len() == at + 1 || (name == "pads" && values.len() == 2) =>
                {
                    Ok(values.get(at).copied())
                }
                Some(other) => Err(bad(&format!("{name}: expected one axis, found {other:?}"))),
            }
        };
        let kernel = match one("kernel_shape", 0)? {
            Some(kernel) => kernel,
            None => node
                .inputs
                .get(1)
                .copied()
                .flatten()
                .and_then(|id| file.graph.constant(id))
                .and_then(|weight| i64::try_from(*weight.dims.get(2)?).ok())
                .ok_or_else(|| bad("its kernel's size is not in the file"))?,
        };
        let stride = one("strides", 0)?.unwrap_or(1);
        let dilation = one("dilations", 0)?.unwrap_or(1);
        let pad = one("pads", 0)?.unwrap_or(0);
        let sane = 1..=1 << 16;
        if !(sane.contains(&kernel)
            && sane.contains(&stride)
            && sane.contains(&dilation)
            && (0..=1 << 24).contains(&pad))
        {
            return Err(bad(&format!(
                "kernel {kernel}, stride {stride}, dilation {dilation}, padding {pad} are not valid"
            )));
        }
        Ok(Self { stride, pad, reach: (kernel - 1) * dilation })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_traced_decoder_of_medium_shape_looks_43_frames_to_each_side() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-multi/decoder.onnx");
        let receptive = receptive_field(&GraphFile::read(&path).unwrap()).unwrap();
        assert_eq!(receptive, Receptive { left: 43, right: 43, hop: 256 });
    }

    #[test]
    fn an_encoder_is_refused() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-multi/encoder.onnx");
        assert!(receptive_field(&GraphFile::read(&path).unwrap()).is_err());
    }

    #[test]
    fn an_operator_along_time_is_refused_by_name() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-multi/decoder.onnx");
        let mut file = GraphFile::read(&path).unwrap();
        let node = file.graph.nodes.iter_mut().rfind(|node| node.op == "Tanh").unwrap();
        node.op = "Softmax".to_owned();
        let name = node.name.clone();
        let message = receptive_field(&file).unwrap_err().to_string();
        assert!(message.contains(&name) && message.contains("Softmax"), "{message}");
    }
}
