//! Sharing of equal constants.

use std::collections::HashMap;

use super::{Pass, drop_unproduced_values, replace_inputs};
use crate::graph::{DType, Graph, ValueId};

/// Keeps the first of several small initializers with the same type, dimensions and bytes, and lets all nodes
/// read it.
///
/// Equal bytes are equal values, so the result is the same. Only tensors of at most
/// [`MAX_BYTES`](Self::MAX_BYTES) are shared: these are axes, shapes and scalars, while a weight should keep
/// its name from the checkpoint. Graph outputs keep their names as well.
#[derive(Clone, Copy, Debug)]
pub struct InitializerSharing;

impl InitializerSharing {
    /// Limit on the size of a shared tensor.
    pub const MAX_BYTES: usize = 4096;
}

impl Pass for InitializerSharing {
    fn name(&self) -> &'static str {
        "initializer sharing"
    }

    fn run(&self, graph: &mut Graph) -> usize {
        let mut first: HashMap<(DType, &[usize], &[u8]), ValueId> = HashMap::new();
        let mut replacements = HashMap::new();
        for (&id, tensor) in &graph.initializers {
            if tensor.data.len() > Self::MAX_BYTES || graph.outputs.contains(&id) {
                continue;
            }
            let kept = *first.entry((tensor.dtype, &tensor.dims, &tensor.data)).or_insert(id);
            if kept != id {
                replacements.insert(id, kept);
            }
        }
        replace_inputs(&mut graph.nodes, &replacements);
        graph.initializers.retain(|id, _| !replacements.contains_key(id));
        drop_unproduced_values(graph);
        replacements.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Tensor;
    use crate::test_graphs::{assert_pass_keeps_outputs, constant, node, small, value};

    /// `small` with a further addition of `tensor`.
    fn with_addend(tensor: Tensor) -> Graph {
        let mut graph = small();
        let before = graph.outputs[0];
        let addend = constant(&mut graph, "addend", tensor);
        let shape = graph.value(before).shape.clone().unwrap();
        let after = value(&mut graph, "z", &shape);
        node(&mut graph, "/Add_1", "Add", &[before, addend], after);
        graph.outputs[0] = after;
        graph
    }

    #[test]
    fn equal_constants_are_one() {
        let after =
            assert_pass_keeps_outputs(&InitializerSharing, with_addend(Tensor::f32(&[2], &[0.25, -0.25])), 1);
        assert_eq!(after.initializers.len(), 2);
        assert_eq!(after.nodes[3].inputs[1], after.find("b"));
    }

    #[test]
    fn other_dimensions_or_types_are_others() {
        for other in [
            Tensor::f32(&[1, 2], &[0.25, -0.25]),
            Tensor::f32(&[2], &[0.25, 0.25]),
            Tensor { dtype: DType::I32, ..Tensor::f32(&[2], &[0.25, -0.25]) },
        ] {
            assert_eq!(InitializerSharing.run(&mut with_addend(other)), 0);
        }
    }

    #[test]
    fn weights_keep_their_names() {
        let mut graph = small();
        let large = Tensor::f32(&[2048], &[0.0; 2048]);
        constant(&mut graph, "enc_p.a", large.clone());
        constant(&mut graph, "enc_p.b", large);
        assert_eq!(InitializerSharing.run(&mut graph), 0);
    }
}
