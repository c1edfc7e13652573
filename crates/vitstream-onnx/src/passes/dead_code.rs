//! Dead-code elimination.

use super::{Pass, drop_unproduced_values};
use crate::graph::Graph;

/// Removes nodes and initializers that no graph output depends on.
///
/// A node is alive if one of its outputs is a graph output or an input of a node that is alive. Nodes are in
/// topological order, so one walk from the last to the first finds all of them. Inputs of the graph stay,
/// because they are the contract. A living node keeps all its outputs, because some operators derive from
/// their number what to do.
#[derive(Clone, Copy, Debug)]
pub struct DeadCode;

impl Pass for DeadCode {
    fn name(&self) -> &'static str {
        "dead-code elimination"
    }

    fn run(&self, graph: &mut Graph) -> usize {
        let before = graph.nodes.len() + graph.initializers.len();
        let mut needed = vec![false; graph.values.len()];
        for id in &graph.outputs {
            needed[id.index()] = true;
        }
        let mut alive = vec![false; graph.nodes.len()];
        for (node, alive) in graph.nodes.iter().zip(&mut alive).rev() {
            *alive = node.outputs.iter().flatten().any(|id| needed[id.index()]);
            if *alive {
                for id in node.inputs.iter().flatten() {
                    needed[id.index()] = true;
                }
            }
        }
        let mut alive = alive.into_iter();
        graph.nodes.retain(|_| alive.next().unwrap_or(false));
        graph.initializers.retain(|id, _| needed[id.index()]);
        drop_unproduced_values(graph);
        before - graph.nodes.len() - graph.initializers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Dim;
    use crate::graph::Tensor;
    use crate::test_graphs::{assert_pass_keeps_outputs, constant, node, small, value};

    #[test]
    fn what_no_output_needs_goes() {
        let mut graph = small();
        let x = graph.inputs[0];
        let unused_input = value(&mut graph, "unused", &[Dim::symbol("batch")]);
        graph.inputs.push(unused_input);
        let weight = constant(&mut graph, "dead.weight", Tensor::f32(&[2], &[1.0, 2.0]));
        let shape = graph.value(x).shape.clone().unwrap();
        let [first, second] = ["first", "second"].map(|name| value(&mut graph, name, &shape));
        node(&mut graph, "/dead/Mul", "Mul", &[x, weight], first);
        node(&mut graph, "/dead/Exp", "Exp", &[first], second);

        let mut after = assert_pass_keeps_outputs(&DeadCode, graph, 3);
        assert_eq!(after.nodes.len(), 3);
        assert_eq!(after.find("dead.weight"), None);
        assert_eq!(after.inputs.len(), 2, "the contract stays");
        assert_eq!(DeadCode.run(&mut after), 0);
    }
}
