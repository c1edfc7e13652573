//! `If` nodes of which both branches give the same elements.
//!
//! PyTorch writes one for `squeeze(dim)` where it does not know the length of the axis: a Squeeze if it is 1, the value
//! itself if not. A [`Graph`](crate::Graph) has no branches, so the node is replaced by the branch that changes the
//! shape: that a graph is written for an axis of length 1 is why it squeezes at all. Branches that differ in more are
//! refused.

use std::collections::{HashMap, HashSet};

use prost::Message;

use crate::error::{DecodeError, shown};
use crate::proto::{self, attribute_type};

/// Operators that give the elements of their first input, in their order.
const RESHAPING: [&str; 5] = ["Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten"];

/// Most nodes of a branch that is looked at.
const MAX_NODES: usize = 16;

/// What stands in a graph in place of the `If` called `place`.
pub(crate) fn inline(node: proto::Node, place: &str) -> Result<Vec<proto::Node>, DecodeError> {
    let refused = |what: String| {
        let what = format!("an If {what}: give the checkpoint that the graph was exported from");
        DecodeError::unsupported(place, what)
    };
    let [output] = &node.output[..] else {
        return Err(refused(format!("with {} outputs", node.output.len())));
    };
    let mut branches = HashMap::new();
    for attribute in node.attribute {
        let name = attribute.name.unwrap_or_default();
        if attribute.r#type == Some(attribute_type::GRAPH) {
            let branch = proto::Graph::decode(attribute.g.unwrap_or_default())?;
            branches.insert(name, branch);
        }
    }
    let (Some(then), Some(otherwise)) = (branches.remove("then_branch"), branches.remove("else_branch"))
    else {
        return Err(DecodeError::malformed(place, "expected then_branch and else_branch"));
    };
    let then = Branch::of(then).map_err(|why| refused(format!("whose then_branch {why}")))?;
    let otherwise = Branch::of(otherwise).map_err(|why| refused(format!("whose else_branch {why}")))?;
    if then.source != otherwise.source {
        return Err(refused("whose branches give different values".to_owned()));
    }
    let chosen = if otherwise.changes > then.changes { otherwise } else { then };
    Ok(chosen.into_nodes(output))
}

/// A branch that does nothing but give another shape to a value from around it.
struct Branch {
    graph: proto::Graph,
    /// The value around it that its result has the elements of.
    source: String,
    /// How many nodes change the shape.
    changes: usize,
}

impl Branch {
    fn of(graph: proto::Graph) -> Result<Self, String> {
        if !graph.input.is_empty() || !graph.initializer.is_empty() || !graph.sparse_initializer.is_empty() {
            return Err("has inputs or constants of its own".to_owned());
        }
        let [output] = &graph.output[..] else {
            return Err(format!("has {} outputs", graph.output.len()));
        };
        if graph.node.len() > MAX_NODES {
            return Err(format!("has {} nodes", graph.node.len()));
        }
        let mut changes = 0;
        let mut inside = HashSet::new();
        // What each value has the elements of.
        let mut sources: HashMap<&str, &str> = HashMap::new();
        for node in &graph.node {
            let op = node.op_type.as_deref().unwrap_or_default();
            let [result] = &node.output[..] else { return Err(format!("has an {op} of several outputs")) };
            if op == "Constant" {
                inside.insert(result.as_str());
                continue;
            }
            let (true, Some(from)) = (RESHAPING.contains(&op), node.input.first()) else {
                return Err(format!("has a node {}", shown(op)));
            };
            if inside.contains(from.as_str()) {
                return Err("gives a constant".to_owned());
            }
            changes += usize::from(op != "Identity");
            let source = sources.get(from.as_str()).copied().unwrap_or(from);
            sources.insert(result, source);
        }
        let name = output.name.as_deref().unwrap_or_default();
        if inside.contains(name) {
            return Err("gives a constant".to_owned());
        }
        let source = sources.get(name).copied().unwrap_or(name).to_owned();
        Ok(Self { source, changes, graph })
    }

    /// The nodes, of which the last gives `output`.
    fn into_nodes(self, output: &str) -> Vec<proto::Node> {
        let result = self.graph.output.into_iter().next().and_then(|info| info.name).unwrap_or_default();
        let mut nodes = self.graph.node;
        let renamed = |name: &mut String| {
            if *name == result {
                output.clone_into(name);
            }
        };
        if !nodes.iter().any(|node| node.output.contains(&result)) {
            return vec![proto::Node {
                input: vec![result],
                output: vec![output.to_owned()],
                op_type: Some("Identity".to_owned()),
                ..proto::Node::default()
            }];
        }
        for node in &mut nodes {
            node.input.iter_mut().chain(&mut node.output).for_each(renamed);
        }
        nodes
    }
}
