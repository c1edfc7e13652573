//! A graph as text, for people and for snapshots whose differences are reviewed.

use std::fmt::{self, Display};

use crate::dim;
use crate::graph::{Attr, Graph, Node, Tensor, ValueId, ValueInfo};

/// Shows a whole graph: metadata, inputs, outputs, initializers with a hash of their elements, and the nodes
/// in order, each as `name: output type[shape] = Op(inputs) {attributes}`. `?` marks an unknown part, `_` an
/// omitted one.
#[derive(Clone, Copy, Debug)]
pub struct Dump<'a>(pub &'a Graph);

/// Limit on the integers of a constant or attribute that are shown in full.
const SHOWN_VALUES: usize = 8;

impl Display for Dump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let graph = self.0;
        writeln!(f, "graph {} (opset {})", graph.name, graph.opset)?;
        for (key, value) in &graph.metadata {
            writeln!(f, "meta {key} = {value:?}")?;
        }
        for &id in &graph.inputs {
            writeln!(f, "in   {}", Value(graph.value(id)))?;
        }
        for &id in &graph.outputs {
            writeln!(f, "out  {}", Value(graph.value(id)))?;
        }
        for (&id, tensor) in &graph.initializers {
            writeln!(f, "init {}: {}", graph.value(id).name, Elements(tensor))?;
        }
        for node in &graph.nodes {
            writeln!(f, "{}", NodeLine { graph, node })?;
        }
        Ok(())
    }
}

struct Value<'a>(&'a ValueInfo);

impl Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(info) = self;
        write!(f, "{} ", info.name)?;
        match info.dtype {
            Some(dtype) => write!(f, "{dtype}")?,
            None => f.write_str("?")?,
        }
        match &info.shape {
            Some(shape) => f.write_str(&dim::show(shape)),
            None => f.write_str("[?]"),
        }
    }
}

struct NodeLine<'a> {
    graph: &'a Graph,
    node: &'a Node,
}

impl NodeLine<'_> {
    fn list(&self, ids: &[Option<ValueId>], show: impl Fn(&ValueInfo) -> String) -> String {
        let items: Vec<String> =
            ids.iter().map(|id| id.map_or_else(|| "_".to_owned(), |id| show(self.graph.value(id)))).collect();
        items.join(", ")
    }
}

impl Display for NodeLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Node { name, op, inputs, outputs, attrs } = self.node;
        let outputs = self.list(outputs, |info| Value(info).to_string());
        write!(f, "{name}: {outputs} = {op}({})", self.list(inputs, |info| info.name.clone()))?;
        if attrs.is_empty() {
            return Ok(());
        }
        let attrs: Vec<String> =
            attrs.iter().map(|(name, attr)| format!("{name}={}", AttrValue(attr))).collect();
        write!(f, " {{{}}}", attrs.join(", "))
    }
}

struct AttrValue<'a>(&'a Attr);

impl Display for AttrValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Attr::Int(value) => write!(f, "{value}"),
            Attr::Float(value) => write!(f, "{value:?}"),
            Attr::String(value) => write!(f, "{value:?}"),
            Attr::Ints(values) => write!(f, "{values:?}"),
            Attr::Floats(values) => write!(f, "{values:?}"),
            Attr::Tensor(tensor) => write!(f, "{}", Elements(tensor)),
            Attr::Graph(body) => write!(f, "[\n{}]", Dump(body)),
        }
    }
}

/// Type, dimensions, and either a few integers or a hash.
struct Elements<'a>(&'a Tensor);

impl Display for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(tensor) = self;
        write!(f, "{}{:?} ", tensor.dtype, tensor.dims)?;
        match tensor.to_i64() {
            Some(values) if values.len() <= SHOWN_VALUES => write!(f, "= {values:?}"),
            _ => write!(f, "#{:08x}", fingerprint(&tensor.data)),
        }
    }
}

/// FNV-1a folded to 32 bits, which is the same on every machine and in every version.
fn fingerprint(bytes: &[u8]) -> u32 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_graphs;

    #[test]
    fn everything_is_shown() {
        let mut graph = test_graphs::small();
        graph.nodes[1].inputs.push(None);
        graph.values[3].shape = None;
        graph.nodes[0].attrs.insert("axes".to_owned(), Attr::Tensor(Tensor::i64(&[2], &[0, -1])));
        insta::assert_snapshot!(Dump(&graph), @r#"
        graph small (opset 15)
        meta hop_length = "256"
        meta sample_rate = "22050"
        in   x float32[batch, 2*time + 1, 2]
        out  y float32[batch, 2*time + 1, 2]
        init w: float32[2, 2] #0629f6c5
        init b: float32[2] #bbb9495d
        /MatMul: product float32[?] = MatMul(x, w) {axes=int64[2] = [0, -1]}
        /Add: sum float32[batch, 2*time + 1, 2] = Add(product, b, _)
        /LeakyRelu: y float32[batch, 2*time + 1, 2] = LeakyRelu(sum) {alpha=0.1}
        "#);
    }
}
