//! Compares the form of a graph written by vitstream with the form that its network should have.
//!
//! Reading back examines only the places that define weights. Slopes, strides, masks and everything else that
//! belongs to the form must equal what is emitted for the network that was read; otherwise the file holds
//! another network. The graph is therefore emitted once more, with all weights set to NaN: every number in it
//! is a constant of the form and must be found in the file, and every NaN comes from a weight. Nothing is
//! computed from such weights ([`Weights::blank`]), so the cost is that of the graph's nodes.
//!
//! Both graphs are walked from their outputs. An export merges equal small constants, and nodes that become
//! equal by that, so several emitted values may correspond to one value of the file, but never the other way
//! round.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use vitstream_onnx::passes::{ConstantFolding, DeadCode, Pass};
use vitstream_onnx::{Attr, BuildError, DType, Dim, Graph, LOOP_INPUTS, Node, OPSETS, Tensor, ValueId};
use vitstream_vits::{EncoderForm, HParams, NoiseSource, SynthesizerTrn, Weights};

use crate::Error;

/// The remedy for a form that differs.
const REMEDY: &str = "the file was changed after its export, or was written by a version with another form: export the \
     voice again from its source";

/// Half the distance between neighbouring float16 numbers, relative to them.
const HALF_PRECISION: f32 = 1.0 / 2048.0;

/// Checks that `encoder` and `decoder`, or one graph passed twice, equal the graphs that vitstream emits for
/// the network of `weights`, except for the weights' values.
pub(super) fn check(
    path: &Arc<Path>,
    (encoder, decoder): (&Graph, &Graph),
    weights: &Weights,
    hparams: &HParams,
) -> Result<(), Error> {
    let loaded = SynthesizerTrn::load_weights(&weights.blank(), hparams.clone());
    let (model, _) = loaded.map_err(|source| Error::Weights { path: path.to_path_buf(), source })?;
    let check = |name: &'static str, graph: &Graph, emitted: Result<Graph, BuildError>| {
        let mut emitted = emitted.map_err(|error| Error::Unrecoverable {
            path: path.to_path_buf(),
            place: name.to_owned(),
            problem: format!("its network cannot be emitted to compare the graph with: {error}"),
        })?;
        // The passes of an export that do not depend on the weights.
        ConstantFolding.run(&mut emitted);
        DeadCode.run(&mut emitted);
        let rounded = graph.metadata.get("precision").is_some_and(|precision| precision == "f16-weights");
        Comparison::new(path, &emitted, graph, rounded).run()
    };
    let [form, _] = [form(path, encoder)?, form(path, decoder)?];
    if std::ptr::eq(encoder, decoder) {
        return check("voice", encoder, model.emit_single(encoder.opset, form));
    }
    check("encoder", encoder, model.emit_encoder(encoder.opset, form))?;
    check("decoder", decoder, model.emit_decoder(decoder.opset))
}

/// The options of the export that wrote `graph`, as far as the graph shows them.
fn form(path: &Path, graph: &Graph) -> Result<EncoderForm, Error> {
    if !OPSETS.contains(&graph.opset) {
        let (first, last) = (OPSETS.start(), OPSETS.end());
        let problem = format!("expected opset {first} to {last}, found {}: {REMEDY}", graph.opset);
        return Err(Error::Unrecoverable { path: path.to_owned(), place: "graph".to_owned(), problem });
    }
    let has = |ids: &[ValueId], name: &str| ids.iter().any(|&id| graph.value(id).name == name);
    let noise = match has(&graph.inputs, "noise_p") {
        true => NoiseSource::Input,
        false => NoiseSource::Internal { seed: None },
    };
    Ok(EncoderForm { noise, durations: has(&graph.outputs, "durations") })
}

/// A graph, and the producers of its values.
struct Side<'a> {
    graph: &'a Graph,
    /// Index of the producing node, and of its output.
    producers: HashMap<ValueId, (usize, usize)>,
    /// Position among the graph's inputs.
    inputs: HashMap<ValueId, usize>,
}

impl<'a> Side<'a> {
    fn new(graph: &'a Graph) -> Self {
        let outputs = |(at, node): (usize, &'a Node)| {
            let given = move |(k, &id): (usize, &Option<ValueId>)| Some((id?, (at, k)));
            node.outputs.iter().enumerate().filter_map(given)
        };
        let producers = graph.nodes.iter().enumerate().flat_map(outputs).collect();
        let inputs = graph.inputs.iter().enumerate().map(|(at, &id)| (id, at)).collect();
        Self { graph, producers, inputs }
    }

    fn name(&self, value: ValueId) -> &'a str {
        &self.graph.value(value).name
    }
}

/// Two graphs, or two bodies of loops, being compared from their outputs to their inputs.
struct Comparison<'a> {
    path: &'a Path,
    emitted: Side<'a>,
    found: Side<'a>,
    /// Set if large constants were rounded to float16.
    rounded: bool,
    /// For each emitted value, the corresponding value of the file.
    values: HashMap<ValueId, ValueId>,
    /// For each node of the file, the first emitted node that corresponds to it.
    nodes: Vec<Option<usize>>,
    /// Values still to be compared, with the place in the file that reads them.
    open: Vec<(ValueId, ValueId, String)>,
    /// Values of the enclosing graph that a loop's body reads, as positions among the body's inputs.
    captured: Vec<(usize, usize)>,
    /// Set for a loop's body, whose later inputs are captured values.
    is_body: bool,
}

impl<'a> Comparison<'a> {
    fn new(path: &'a Path, emitted: &'a Graph, found: &'a Graph, rounded: bool) -> Self {
        Self {
            path,
            nodes: vec![None; found.nodes.len()],
            emitted: Side::new(emitted),
            found: Side::new(found),
            rounded,
            values: HashMap::new(),
            open: Vec::new(),
            captured: Vec::new(),
            is_body: false,
        }
    }

    fn error(&self, place: impl Into<String>, problem: impl std::fmt::Display) -> Error {
        let problem = format!("{problem}: {REMEDY}");
        Error::Unrecoverable { path: self.path.to_owned(), place: place.into(), problem }
    }

    fn differs(
        &self,
        place: impl Into<String>,
        what: &str,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) -> Error {
        self.error(place, format!("{what}: expected {expected}, found {found}"))
    }

    /// Compares whole graphs, whose inputs and outputs are the contract.
    fn run(&mut self) -> Result<(), Error> {
        let (emitted, found) = (self.emitted.graph, self.found.graph);
        for (what, expected, found) in
            [("inputs", &emitted.inputs, &found.inputs), ("outputs", &emitted.outputs, &found.outputs)]
        {
            let expected: Vec<String> = expected.iter().map(|&id| port(self.emitted.graph, id)).collect();
            let found: Vec<String> = found.iter().map(|&id| port(self.found.graph, id)).collect();
            if expected != found {
                return Err(self.differs("graph", what, expected.join(", "), found.join(", ")));
            }
        }
        self.walk()
    }

    /// Compares everything that the outputs depend on.
    fn walk(&mut self) -> Result<(), Error> {
        let outputs = self.emitted.graph.outputs.iter().zip(&self.found.graph.outputs);
        for (&emitted, &found) in outputs {
            self.open.push((emitted, found, "the graph's outputs".to_owned()));
        }
        while let Some((emitted, found, reader)) = self.open.pop() {
            self.compare(emitted, found, &reader)?;
        }
        for (node, emitted) in self.found.graph.nodes.iter().zip(&self.nodes) {
            let expected = emitted.map(|at| &self.emitted.graph.nodes[at].name);
            match expected {
                None => {
                    return Err(self.error(place(node), "no such node is part of the network"));
                }
                // Weights are read from nodes that are found by name.
                Some(name) if *name != node.name => {
                    return Err(self.differs(place(node), "name", format!("`{name}`"), "another"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn compare(&mut self, emitted: ValueId, found: ValueId, reader: &str) -> Result<(), Error> {
        let constant = self.emitted.graph.constant(emitted);
        if let Some(&known) = self.values.get(&emitted) {
            // Numbers that come from weights may have been merged into one constant by chance.
            let by_chance = constant.is_some_and(|tensor| tensor.data.len() == DType::F32.size());
            if known == found {
                return Ok(());
            }
            if !by_chance {
                let (expected, found) = (self.found.name(known), self.found.name(found));
                return Err(self.differs(reader, "input", format!("`{expected}`"), format!("`{found}`")));
            }
        }
        self.values.insert(emitted, found);
        if let Some(expected) = constant {
            return match self.found.graph.constant(found) {
                Some(tensor) => self.compare_constant(expected, tensor, reader, self.found.name(found)),
                None => Err(self.differs(
                    reader,
                    "input",
                    format!("the constant `{}`", self.emitted.name(emitted)),
                    format!("`{}`, which is computed", self.found.name(found)),
                )),
            };
        }
        if let Some(&at) = self.emitted.inputs.get(&emitted) {
            return match self.found.inputs.get(&found) {
                // The loop's node defines which value that is.
                Some(&other) if self.is_body && at >= LOOP_INPUTS && other >= LOOP_INPUTS => {
                    self.captured.push((at, other));
                    Ok(())
                }
                Some(&other) if at == other => Ok(()),
                _ => {
                    let (expected, found) = (self.emitted.name(emitted), self.found.name(found));
                    Err(self.differs(reader, "input", format!("`{expected}`"), format!("`{found}`")))
                }
            };
        }
        let Some(&(expected, out)) = self.emitted.producers.get(&emitted) else {
            return Err(self.error(reader, "reads a value that nothing produces"));
        };
        match self.found.producers.get(&found) {
            Some(&(node, other)) if out == other => self.compare_nodes(expected, node),
            _ => {
                let expected = &self.emitted.graph.nodes[expected];
                let what = format!("output {out} of {} {}", expected.op, expected.name);
                Err(self.differs(reader, "input", what, format!("`{}`", self.found.name(found))))
            }
        }
    }

    fn compare_nodes(&mut self, emitted: usize, found: usize) -> Result<(), Error> {
        let (expected, node) = (&self.emitted.graph.nodes[emitted], &self.found.graph.nodes[found]);
        let place = place(node);
        match &mut self.nodes[found] {
            Some(known) if *known == emitted => return Ok(()),
            Some(_) if node.op.starts_with("Random") => {
                return Err(self.error(place, "two places of the network share the same random draws"));
            }
            Some(known) => *known = emitted.min(*known),
            none => *none = Some(emitted),
        }
        if expected.op != node.op {
            return Err(self.differs(place, "operator", &expected.op, &node.op));
        }
        let is_loop = expected.attrs.values().any(|attr| matches!(attr, Attr::Graph(_)));
        let own = |node: &Node| if is_loop { LOOP_INPUTS.min(node.inputs.len()) } else { node.inputs.len() };
        for (what, expected, found) in [
            ("number of inputs", own(expected), own(node)),
            ("number of outputs", expected.outputs.len(), node.outputs.len()),
        ] {
            if expected != found {
                return Err(self.differs(place, what, expected, found));
            }
        }
        let inputs = expected.inputs.iter().zip(&node.inputs).take(own(expected));
        for (at, (emitted, found)) in inputs.enumerate() {
            match (emitted, found) {
                (Some(emitted), Some(found)) => {
                    self.open.push((*emitted, *found, format!("{place}, input {at}")));
                }
                (None, None) => {}
                (emitted, _) => {
                    let (expected, found) =
                        if emitted.is_some() { ("a value", "none") } else { ("none", "a value") };
                    return Err(self.differs(place, &format!("input {at}"), expected, found));
                }
            }
        }
        self.compare_attributes(expected, node, &place)
    }

    fn compare_attributes(&mut self, expected: &Node, node: &Node, place: &str) -> Result<(), Error> {
        let mut names: Vec<&String> = expected.attrs.keys().chain(node.attrs.keys()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let what = format!("attribute `{name}`");
            match (expected.attrs.get(name), node.attrs.get(name)) {
                // The seed of the draws is not part of the network.
                (None, Some(Attr::Float(_))) if node.op == "RandomNormalLike" && name == "seed" => {}
                (Some(Attr::Graph(emitted)), Some(Attr::Graph(found))) => {
                    let mut body = Comparison {
                        is_body: true,
                        ..Comparison::new(self.path, emitted, found, self.rounded)
                    };
                    if emitted.outputs.len() != found.outputs.len() {
                        let (expected, found) = (emitted.outputs.len(), found.outputs.len());
                        return Err(self.differs(place, "outputs of the body", expected, found));
                    }
                    body.walk()?;
                    for (at, other) in body.captured {
                        let around = |node: &Node, at: usize| node.inputs.get(at).copied().flatten();
                        let (Some(emitted), Some(found)) = (around(expected, at), around(node, other)) else {
                            return Err(self.error(place, "its body reads a value that nothing produces"));
                        };
                        self.open.push((emitted, found, format!("{place}, in its body")));
                    }
                }
                (Some(Attr::Tensor(expected)), Some(Attr::Tensor(found))) => {
                    self.compare_constant(expected, found, place, &what)?;
                }
                (Some(expected), Some(found)) if same(expected, found) => {}
                (expected, found) => {
                    return Err(self.differs(place, &what, show(expected), show(found)));
                }
            }
        }
        Ok(())
    }

    fn compare_constant(
        &self,
        expected: &Tensor,
        found: &Tensor,
        place: &str,
        what: &str,
    ) -> Result<(), Error> {
        let describe = |tensor: &Tensor| format!("{} {:?}", tensor.dtype, tensor.dims);
        if (expected.dtype, &expected.dims) != (found.dtype, &found.dims) {
            return Err(self.differs(
                place,
                &format!("constant `{what}`"),
                describe(expected),
                describe(found),
            ));
        }
        if expected.dtype != DType::F32 {
            return match expected.data == found.data {
                true => Ok(()),
                false => {
                    let (expected, found) = (first_of(expected), first_of(found));
                    Err(self.differs(place, &format!("constant `{what}`"), expected, found))
                }
            };
        }
        let tolerance = if self.rounded { HALF_PRECISION } else { 0.0 };
        // The file's weights are not examined, so their pages are not read. Without an early exit the loop
        // can be vectorised.
        let floats = expected.data.as_chunks().0.iter().map(|&number| f32::from_le_bytes(number));
        if floats.fold(true, |none, number| none & number.is_nan()) {
            return Ok(());
        }
        let others = found.data.as_chunks::<4>().0;
        for (at, &number) in expected.data.as_chunks().0.iter().enumerate() {
            let number = f32::from_le_bytes(number);
            if number.is_nan() {
                continue;
            }
            let other = others.get(at).map_or(f32::NAN, |&other| f32::from_le_bytes(other));
            let is_same = (number - other).abs() <= tolerance * number.abs();
            if !is_same {
                let what = format!("element {at} of the constant `{what}`");
                return Err(self.differs(place, &what, number, other));
            }
        }
        Ok(())
    }
}

fn place(node: &Node) -> String {
    format!("node {} ({})", node.name, node.op)
}

/// `input: int64 [batch_size, phonemes]`
fn port(graph: &Graph, value: ValueId) -> String {
    let info = graph.value(value);
    let dtype = info.dtype.map_or_else(|| "?".to_owned(), |dtype| dtype.to_string());
    let shape: Vec<String> = info.shape.iter().flatten().map(Dim::to_string).collect();
    format!("{}: {dtype} [{}]", info.name, shape.join(", "))
}

/// Compares to the bit: a NaN differs from another NaN.
fn same(a: &Attr, b: &Attr) -> bool {
    match (a, b) {
        (Attr::Float(a), Attr::Float(b)) => a.to_bits() == b.to_bits(),
        (a, b) => a == b,
    }
}

fn show(attr: Option<&Attr>) -> String {
    match attr {
        None => "none".to_owned(),
        Some(Attr::Int(value)) => value.to_string(),
        Some(Attr::Float(value)) => value.to_string(),
        Some(Attr::String(text)) => format!("{:?}", shortened(text)),
        Some(Attr::Ints(values)) => listed(values),
        Some(Attr::Floats(values)) => listed(values),
        Some(Attr::Tensor(tensor)) => format!("{} {:?}", tensor.dtype, tensor.dims),
        Some(Attr::Graph(_)) => "a graph".to_owned(),
    }
}

/// A list shortened for a message.
fn listed<T: std::fmt::Debug>(values: &[T]) -> String {
    const MOST: usize = 8;
    match values.len() > MOST {
        true => format!("{:?} and {} more", &values[..MOST], values.len() - MOST),
        false => format!("{values:?}"),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The start of a constant that is not float32.
fn first_of(tensor: &Tensor) -> String {
    match tensor.to_i64() {
        Some(values) => listed(&values),
        None => format!("{} {}", tensor.dtype, listed(&tensor.data)),
    }
}
