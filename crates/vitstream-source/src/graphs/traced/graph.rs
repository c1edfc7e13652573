//! Views a foreign graph as the modules that it was traced from.
//!
//! PyTorch names initializers after upstream's keys, and nodes after the module that ran:
//! `/dec/ups.0/ConvTranspose`. Both may be missing: a value computed only from constants loses its name,
//! equal tensors are shared, and optimisers rename what they touch. A constant is therefore found by its own
//! name, or by the node that uses it.

use std::collections::HashMap;

use vitstream_onnx::{Attr, DType, Graph, Node, Tensor, ValueId};

/// Upstream's modules that run at inference.
const ROOTS: [&str; 5] = ["enc_p", "dp", "flow", "dec", "emb_g"];

/// A graph with its constants and the connections between its nodes.
pub(crate) struct Traced<'a> {
    pub(crate) graph: &'a Graph,
    constants: HashMap<ValueId, &'a Tensor>,
    producers: HashMap<ValueId, &'a Node>,
    consumers: HashMap<ValueId, Vec<&'a Node>>,
}

impl<'a> Traced<'a> {
    pub(crate) fn new(graph: &'a Graph) -> Self {
        let mut constants: HashMap<ValueId, &Tensor> =
            graph.initializers.iter().map(|(&id, tensor)| (id, tensor)).collect();
        let mut producers = HashMap::new();
        let mut consumers: HashMap<ValueId, Vec<&Node>> = HashMap::new();
        for node in &graph.nodes {
            let constant = match (node.op.as_str(), node.inputs.first()) {
                ("Constant", _) => match node.attrs.get("value") {
                    Some(Attr::Tensor(tensor)) => Some(tensor),
                    _ => None,
                },
                // Represents a tensor that is stored once and has several names.
                ("Identity", Some(Some(of))) => constants.get(of).copied(),
                _ => None,
            };
            for &output in node.outputs.iter().flatten() {
                producers.insert(output, node);
                if let Some(tensor) = constant {
                    constants.insert(output, tensor);
                }
            }
            for &input in node.inputs.iter().flatten() {
                consumers.entry(input).or_default().push(node);
            }
        }
        Self { graph, constants, producers, consumers }
    }

    /// The constants, with the names by which nodes refer to them.
    pub(crate) fn constants(&self) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        self.graph.values().filter_map(|(id, info)| Some((info.name.as_str(), *self.constants.get(&id)?)))
    }

    pub(crate) fn name(&self, value: ValueId) -> &'a str {
        &self.graph.value(value).name
    }

    /// Input `at` of `node`.
    pub(crate) fn input(&self, node: &Node, at: usize) -> Option<ValueId> {
        node.inputs.get(at).copied().flatten()
    }

    pub(crate) fn constant(&self, value: ValueId) -> Option<&'a Tensor> {
        self.constants.get(&value).copied()
    }

    pub(crate) fn producer(&self, value: ValueId) -> Option<&'a Node> {
        self.producers.get(&value).copied()
    }

    /// The nodes that read the first output of `node`.
    pub(crate) fn readers(&self, node: &Node) -> &[&'a Node] {
        let output = node.outputs.first().copied().flatten();
        output.and_then(|output| self.consumers.get(&output)).map_or(&[], Vec::as_slice)
    }

    /// The value of the float32 scalar `value`, if it is one.
    pub(crate) fn scalar(&self, value: ValueId) -> Option<f32> {
        let tensor = self.constant(value)?;
        match (tensor.dtype, tensor.dims.iter().product::<usize>()) {
            (DType::F32, 1) => tensor.to_f32()?.first().copied(),
            _ => None,
        }
    }

    /// The two inputs of `node`, with the one that satisfies `is` first.
    pub(crate) fn ordered(&self, node: &Node, is: impl Fn(ValueId) -> bool) -> Option<(ValueId, ValueId)> {
        match (self.input(node, 0)?, self.input(node, 1)?) {
            (a, b) if is(a) => Some((a, b)),
            (a, b) if is(b) => Some((b, a)),
            _ => None,
        }
    }

    /// Position of the graph's input that `value` equals apart from its type or shape.
    pub(crate) fn graph_input(&self, mut value: ValueId) -> Option<usize> {
        const MAX_STEPS: usize = 8;
        for _ in 0..MAX_STEPS {
            if let Some(at) = self.graph.inputs.iter().position(|&input| input == value) {
                return Some(at);
            }
            let node = self.producer(value)?;
            if !matches!(node.op.as_str(), "Cast" | "Identity" | "Reshape" | "Unsqueeze" | "Squeeze") {
                return None;
            }
            value = self.input(node, 0)?;
        }
        None
    }
}

/// Upstream's key contained in the name of a value: `gen.dec.ups.0.bias` gives `dec.ups.0.bias`.
pub(crate) fn key(name: &str) -> Option<&str> {
    if name.starts_with('/') || name.contains("::") {
        return None;
    }
    let mut start = 0;
    for segment in name.split('.') {
        let rest = &name[start..];
        if ROOTS.contains(&segment) {
            return (rest.len() > segment.len()).then_some(rest);
        }
        start += segment.len() + 1;
    }
    None
}

/// Upstream's module contained in the name of a node: `/dec/ups.0/ConvTranspose` gives `dec.ups.0`.
pub(crate) fn module(node: &Node) -> Option<String> {
    let (scope, _) = node.name.strip_prefix('/')?.rsplit_once('/')?;
    let mut segments = scope.split('/').skip_while(|segment| !ROOTS.contains(segment)).peekable();
    segments.peek()?;
    Some(segments.collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_become_keys_and_modules() {
        assert_eq!(key("dec.ups.0.bias"), Some("dec.ups.0.bias"));
        assert_eq!(key("gen.model.dp.flows.0.m"), Some("dp.flows.0.m"));
        for other in ["sid", "onnx::Conv_812", "/dec/Constant_output_0", "dec", "decoder.weight", ""] {
            assert_eq!(key(other), None, "{other}");
        }
        let of = |name: &str| {
            let (op, inputs, outputs) = ("Conv".to_owned(), Vec::new(), Vec::new());
            module(&Node { name: name.to_owned(), op, inputs, outputs, attrs: BTreeMap::new() })
        };
        assert_eq!(
            of("/gen/flow/flows.0/enc/in_layers.1/Conv").as_deref(),
            Some("flow.flows.0.enc.in_layers.1")
        );
        assert_eq!(of("/dp/Split").as_deref(), Some("dp"));
        for other in ["Conv_12", "/Split", "", "/", "/decoder/Conv"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
