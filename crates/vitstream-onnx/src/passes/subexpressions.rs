//! Common-subexpression elimination.

use std::collections::{HashMap, HashSet};

use super::{Pass, drop_unproduced_values, is_random, replace_inputs};
use crate::graph::{Graph, Node, ValueId};

/// Removes a node that repeats an earlier node, and redirects its readers to the earlier one's outputs.
///
/// An operator is a function of its inputs and attributes: equal ones produce equal outputs. This holds for
/// all operators except those that draw random numbers, which are left alone. Inputs are compared after
/// earlier replacements, so equal chains collapse in one walk. A node that produces a graph output stays,
/// because the output has a name of its own.
#[derive(Clone, Copy, Debug)]
pub struct CommonSubexpressions;

impl Pass for CommonSubexpressions {
    fn name(&self) -> &'static str {
        "common-subexpression elimination"
    }

    fn run(&self, graph: &mut Graph) -> usize {
        let returned: HashSet<ValueId> = graph.outputs.iter().copied().collect();
        let mut replacements = HashMap::new();
        let mut kept: Vec<Node> = Vec::with_capacity(graph.nodes.len());
        let mut same_call: HashMap<(String, Vec<Option<ValueId>>), Vec<usize>> = HashMap::new();
        let before = graph.nodes.len();
        for mut node in std::mem::take(&mut graph.nodes) {
            replace_inputs(std::slice::from_mut(&mut node), &replacements);
            if is_random(&node.op) {
                kept.push(node);
                continue;
            }
            let candidates = same_call.entry((node.op.clone(), node.inputs.clone())).or_default();
            let is_returned = node.outputs.iter().flatten().any(|id| returned.contains(id));
            let earlier = candidates.iter().map(|&at| &kept[at]).find(|earlier| serves(earlier, &node));
            match earlier {
                Some(earlier) if !is_returned => {
                    let pairs = node.outputs.iter().zip(&earlier.outputs);
                    replacements.extend(pairs.filter_map(|(&gone, &stays)| gone.zip(stays)));
                }
                _ => {
                    candidates.push(kept.len());
                    kept.push(node);
                }
            }
        }
        graph.nodes = kept;
        drop_unproduced_values(graph);
        before - graph.nodes.len()
    }
}

/// Returns true if `earlier`, with the same operator and inputs, produces all outputs of `node`.
fn serves(earlier: &Node, node: &Node) -> bool {
    earlier.attrs == node.attrs
        && earlier.outputs.len() == node.outputs.len()
        && earlier.outputs.iter().zip(&node.outputs).all(|(stays, gone)| stays.is_some() || gone.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Attr;
    use crate::test_graphs::{assert_pass_keeps_outputs, node, small, value};

    /// `small` and a copy of it, both with the attribute `alpha`, and the sum of both.
    fn twice(alpha: f32) -> Graph {
        let mut graph = small();
        let [x, y] = [graph.inputs[0], graph.outputs[0]];
        let [w, b] = ["w", "b"].map(|name| graph.find(name).unwrap());
        let shape = graph.value(x).shape.clone().unwrap();
        let [product, sum, copy, both] =
            ["product.2", "sum.2", "y.2", "both"].map(|name| value(&mut graph, name, &shape));
        node(&mut graph, "/2/MatMul", "MatMul", &[x, w], product);
        node(&mut graph, "/2/Add", "Add", &[product, b], sum);
        node(&mut graph, "/2/LeakyRelu", "LeakyRelu", &[sum], copy);
        graph.nodes[5].attrs.insert("alpha".to_owned(), Attr::Float(alpha));
        node(&mut graph, "/Add", "Add", &[y, copy], both);
        graph.nodes[6].name = "/both".to_owned();
        graph.outputs = vec![both];
        graph
    }

    #[test]
    fn equal_chains_collapse() {
        let after = assert_pass_keeps_outputs(&CommonSubexpressions, twice(0.1), 3);
        assert_eq!(after.nodes[3].inputs, [after.find("y"); 2]);
    }

    #[test]
    fn attributes_tell_apart() {
        let after = assert_pass_keeps_outputs(&CommonSubexpressions, twice(0.2), 2);
        assert_eq!(after.nodes[4].inputs, ["y", "y.2"].map(|name| after.find(name)));
    }

    #[test]
    fn outputs_keep_their_names() {
        let mut graph = twice(0.1);
        graph.outputs.push(graph.find("y.2").unwrap());
        let after = assert_pass_keeps_outputs(&CommonSubexpressions, graph, 2);
        assert!(after.find("y.2").is_some());
    }

    #[test]
    fn draws_are_never_merged() {
        let mut graph = twice(0.1);
        for at in [2, 5] {
            graph.nodes[at].op = "RandomNormalLike".to_owned();
            graph.nodes[at].attrs.clear();
        }
        assert_eq!(CommonSubexpressions.run(&mut graph), 2);
        assert_eq!(graph.nodes.iter().filter(|node| node.op == "RandomNormalLike").count(), 2);
    }
}
