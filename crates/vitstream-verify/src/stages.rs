//! Finds upstream's values in a graph of any origin, by structure and not by number.

use vitstream_onnx::{Node, ValueId};

use crate::onnx_file::{OnnxFile, Readers};

/// Limit on the nodes between a draw of noise and the sum that forms the sample: a product with the
/// deviation, a product with the scale, and changes of shape.
const MOST_STEPS: usize = 6;

/// `w_ceil`, the frames of each id, and `w`, the value before rounding up: `f32[b, t]` or `f32[b, 1, t]`.
///
/// Durations are the only value in the network that is rounded up.
pub(super) fn durations(file: &OnnxFile) -> Option<(ValueId, ValueId)> {
    let mut ceils = file.graph.nodes.iter().filter(|node| node.op == "Ceil");
    let (ceil, None) = (ceils.next()?, ceils.next()) else { return None };
    Some((input(ceil, 0)?, output(ceil)?))
}

/// `z_p`, the prior's sample, in a graph that continues from it: `f32[b, inter, time]`.
///
/// It is the sum of the mean and of noise in the shape of the mean, multiplied by two factors: no other noise
/// in the network has the shape of the value that it is added to. If the noise is an input, it is found by
/// name.
pub(super) fn prior_sample(file: &OnnxFile) -> Option<ValueId> {
    if let Some(z) = file.output("z") {
        return Some(z);
    }
    let readers = Readers::of(&file.graph);
    let mut found = None;
    for node in file.graph.nodes.iter().filter(|node| node.op == "RandomNormalLike") {
        let (Some(mean), Some(draw)) = (input(node, 0), output(node)) else { continue };
        if let Some((sum, other)) = sum_after(&readers, draw)
            && other == mean
        {
            // With two of them it would be another network.
            if found.is_some() {
                return None;
            }
            found = Some(sum);
        }
    }
    found.or_else(|| sum_after(&readers, file.input("noise_p")?).map(|(sum, _)| sum))
}

/// `z`, the input of the generator: the latent after the flow, masked. `f32[b, inter, time]`, possibly with
/// an additional axis of length 1.
pub(super) fn latent(file: &OnnxFile) -> Option<ValueId> {
    let is_conv_pre = |node: &&Node| {
        let weight = input(node, 1).map(|id| file.name(id)).unwrap_or_default();
        node.op == "Conv" && (weight.ends_with("dec.conv_pre.weight") || node.name.contains("/dec/conv_pre/"))
    };
    input(file.graph.nodes.iter().find(is_conv_pre)?, 0)
}

/// Returns true if a decoder written by vitstream leaves the channels of [`latent`] in reverse order: it does
/// so after an odd number of flips, and reverses the weights that follow.
pub(super) fn is_reversed(file: &OnnxFile) -> bool {
    let layers = file.graph.initializers.keys().filter(|&&id| {
        let name = file.name(id);
        name.starts_with("flow.flows.") && name.ends_with(".pre.weight")
    });
    file.graph.metadata.contains_key("vitstream_version") && layers.count() % 2 == 1
}

/// The values that represent draws of noise, with their names in a reference, in a graph that draws its own:
/// the predictor's and the prior's.
pub(super) fn draws(file: &OnnxFile) -> Vec<(&'static str, ValueId)> {
    let readers = Readers::of(&file.graph);
    let random = file.graph.nodes.iter().filter(|node| node.op == "RandomNormalLike");
    let named = random.filter_map(|node| {
        let (mean, draw) = (input(node, 0)?, output(node)?);
        let prior = sum_after(&readers, draw).is_some_and(|(_, other)| other == mean);
        Some((if prior { NOISE_P } else { NOISE_DP }, draw))
    });
    named.collect()
}

/// Name of the duration predictor's noise in encoders with noise inputs.
pub(super) const NOISE_DP: &str = "noise_dp";
/// Name of the prior's noise in encoders with noise inputs.
pub(super) const NOISE_P: &str = "noise_p";

/// The sum that the draw enters, after only products and changes of shape, and the value that it is added to.
fn sum_after(readers: &Readers<'_>, mut value: ValueId) -> Option<(ValueId, ValueId)> {
    for _ in 0..MOST_STEPS {
        let [reader] = readers.get(value) else { return None };
        match reader.op.as_str() {
            "Mul" | "Cast" | "Identity" | "Transpose" => {}
            // Selects all frames by number.
            "Gather" | "Slice" if input(reader, 0) == Some(value) => {}
            "Add" => {
                let (a, b) = (input(reader, 0)?, input(reader, 1)?);
                return Some((output(reader)?, if a == value { b } else { a }));
            }
            _ => return None,
        }
        value = output(reader)?;
    }
    None
}

fn input(node: &Node, at: usize) -> Option<ValueId> {
    node.inputs.get(at).copied().flatten()
}

fn output(node: &Node) -> Option<ValueId> {
    node.outputs.first().copied().flatten()
}

/// `g`, the speakers' embeddings, in a graph that looks them up itself: as many values as `f32[b, gin]`.
pub(super) fn speaker(file: &OnnxFile) -> Option<ValueId> {
    output(pick(file, "sid")?)
}

/// Rows of the table indexed by the input `input`: the number of phoneme ids.
pub(super) fn symbols(file: &OnnxFile) -> Option<usize> {
    rows(file, "input")
}

/// Rows of the speakers' table.
pub(super) fn speakers(file: &OnnxFile) -> Option<usize> {
    rows(file, "sid")
}

fn rows(file: &OnnxFile, name: &str) -> Option<usize> {
    file.graph.constant(input(pick(file, name)?, 0)?)?.dims.first().copied()
}

/// The node that looks up rows of a table by the input `name`.
fn pick<'a>(file: &'a OnnxFile, name: &str) -> Option<&'a Node> {
    let readers = Readers::of(&file.graph);
    let mut index = file.input(name)?;
    for _ in 0..MOST_STEPS {
        for reader in readers.get(index) {
            if reader.op == "Gather" && input(reader, 1) == Some(index) {
                return Some(reader);
            }
        }
        index = output(readers.get(index).first()?)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_traced_voice_shows_its_stages() {
        for name in ["multi", "legacy-single"] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("../vitstream-vits/tests/golden/families/voices/{name}.onnx"));
            let file = OnnxFile::read(&path).unwrap();
            let names = |ids: &[ValueId]| ids.iter().map(|&id| file.name(id).to_owned()).collect::<Vec<_>>();
            let (w, w_ceil) = durations(&file).unwrap();
            assert_eq!(names(&[w, w_ceil]), ["/Mul_1_output_0", "/Ceil_output_0"]);
            assert_eq!(names(&[prior_sample(&file).unwrap()]), ["/Add_output_0"]);
            assert_eq!(names(&[latent(&file).unwrap()]), ["/Mul_7_output_0"]);
            let draws = draws(&file);
            assert_eq!(draws.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [NOISE_DP, NOISE_P]);
            assert_eq!(symbols(&file), Some(48));
            assert_eq!(speakers(&file), (name == "multi").then_some(3));
            assert_eq!(speaker(&file).is_some(), name == "multi");
        }
    }
}
