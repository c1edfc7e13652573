//! Rewrites that are valid for any graph. Each is exact (no output changes by a single bit) except
//! [`HalfPrecisionWeights`], which states its error.
//!
//! A pass turns a well-formed graph (one that [`crate::validate()`] accepts, or [`crate::decode()`] returns)
//! into a well-formed graph. Graph inputs and outputs keep their names and order; nodes that draw random
//! numbers are neither merged nor computed in advance.

mod constant_folding;
mod dead_code;
mod half_precision;
mod initializer_sharing;
mod subexpressions;

pub use constant_folding::ConstantFolding;
pub use dead_code::DeadCode;
pub use half_precision::{HalfPrecisionReport, HalfPrecisionWeights, KeptReason, WidenedWeights};
pub use initializer_sharing::InitializerSharing;
pub use subexpressions::CommonSubexpressions;

use std::collections::HashMap;

use crate::graph::{Graph, Node, ValueId};

/// One rewrite.
pub trait Pass {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Rewrites `graph` and returns how many nodes and constants it removed.
    fn run(&self, graph: &mut Graph) -> usize;
}

/// The passes of [`run_default`], in order: each creates work only for those after it.
pub fn default_passes() -> [&'static dyn Pass; 4] {
    [&ConstantFolding, &InitializerSharing, &CommonSubexpressions, &DeadCode]
}

/// Runs [`default_passes`].
pub fn run_default(mut graph: Graph) -> Graph {
    for pass in default_passes() {
        pass.run(&mut graph);
    }
    graph
}

/// Replaces the inputs of all nodes. The caller must resolve replacements of replacements.
fn replace_inputs(nodes: &mut [Node], replacements: &HashMap<ValueId, ValueId>) {
    for input in nodes.iter_mut().flat_map(|node| &mut node.inputs).flatten() {
        if let Some(&replacement) = replacements.get(input) {
            *input = replacement;
        }
    }
}

/// Drops the values that are no longer produced, and renumbers the others in order.
fn drop_unproduced_values(graph: &mut Graph) {
    let mut produced = vec![false; graph.values.len()];
    let outputs = graph.nodes.iter().flat_map(|node| node.outputs.iter().flatten());
    for id in graph.inputs.iter().chain(graph.initializers.keys()).chain(outputs) {
        produced[id.index()] = true;
    }
    let mut count = 0;
    let renumbered: Vec<ValueId> = produced
        .iter()
        .map(|&produced| {
            let id = ValueId(count);
            count += u32::from(produced);
            id
        })
        .collect();
    let mut produced = produced.into_iter();
    graph.values.retain(|_| produced.next().unwrap_or(false));

    let renumber = |id: &mut ValueId| *id = renumbered[id.index()];
    graph.inputs.iter_mut().for_each(renumber);
    graph.outputs.iter_mut().for_each(renumber);
    for node in &mut graph.nodes {
        node.inputs.iter_mut().chain(&mut node.outputs).flatten().for_each(renumber);
    }
    graph.initializers = std::mem::take(&mut graph.initializers)
        .into_iter()
        .map(|(id, tensor)| (renumbered[id.index()], tensor))
        .collect();
}

/// Returns true if two runs of the same node on the same inputs may differ.
fn is_random(op: &str) -> bool {
    op.starts_with("Random") || matches!(op, "Bernoulli" | "Multinomial" | "Dropout")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Dim;
    use crate::encode::to_bytes;
    use crate::graph::{Attr, Tensor};
    use crate::test_graphs::{assert_pass_keeps_outputs, node, small, typed, value};
    use crate::validate::validate;

    struct Default;

    impl Pass for Default {
        fn name(&self) -> &'static str {
            "all in their order"
        }

        fn run(&self, graph: &mut Graph) -> usize {
            let count = |graph: &Graph| graph.nodes.len() + graph.initializers.len();
            let before = count(graph);
            *graph = run_default(graph.clone());
            before - count(graph)
        }
    }

    /// Two additions of equal constants, which are nodes: one pass alone finds nothing to merge.
    #[test]
    fn each_pass_finds_what_the_one_before_left() {
        let mut graph = small();
        let y = graph.outputs[0];
        let shape = graph.value(y).shape.clone().unwrap();
        let [first, second] = ["first", "second"].map(|name| {
            let constant = typed(&mut graph, &format!("{name}.one"), crate::DType::F32, &[Dim::from(1i64)]);
            node(&mut graph, &format!("/{name}/Constant"), "Constant", &[], constant);
            let attr = Attr::Tensor(Tensor::f32(&[1], &[1.0]));
            graph.nodes.last_mut().unwrap().attrs.insert("value".to_owned(), attr);
            let sum = value(&mut graph, name, &shape);
            node(&mut graph, &format!("/{name}/Add"), "Add", &[y, constant], sum);
            sum
        });
        let product = value(&mut graph, "product.2", &shape);
        node(&mut graph, "/Mul", "Mul", &[first, second], product);
        graph.outputs = vec![product];

        let after = assert_pass_keeps_outputs(&Default, graph, 2);
        assert_eq!(after.nodes.len(), 5);
        assert_eq!(Default.run(&mut after.clone()), 0);
        assert_eq!(
            to_bytes(&validate(run_default(after.clone())).unwrap()),
            to_bytes(&validate(after).unwrap()),
            "nothing is left to do"
        );
    }
}
