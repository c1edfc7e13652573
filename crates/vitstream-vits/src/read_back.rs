//! Recovers upstream's weights from a graph written by vitstream.
//!
//! The block that performs a folding at export also reverses it: its `read_back` is next to its `emit`. Nodes
//! keep the scope paths of their modules, so a weight is found through the node that uses it: equal small
//! constants are stored once, under the name of one of them. Shapes and attributes determine the whole
//! network, so no further record is needed, and a folding that was not reversed shows as a missing node.
//!
//! A product with a constant is reversed such that the same product gives the same bits again: exporting the
//! recovered weights gives the constants that were read.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use vitstream_checkpoint::{DType as WeightType, Tensor as Weight};
use vitstream_onnx::{Attr, DType, Graph, Node, ValueId};

use crate::hparams::{DurationHParams, HParams, HParamsError};
use crate::shapes::Untold;
use crate::weights::Weights;

/// The reason why a graph cannot be converted back to a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadBackError {
    /// A part of the graph differs from what vitstream writes.
    #[error("{place}: {problem}")]
    Graph {
        /// The node, module or tensor.
        place: String,
        /// The expected and the actual value.
        problem: String,
    },
    /// The hyper-parameters that were read do not describe a network.
    #[error(transparent)]
    HParams(#[from] HParamsError),
    /// A tensor could not be created.
    #[error(transparent)]
    Tensor(#[from] vitstream_checkpoint::Error),
}

pub(crate) type Result<T, E = ReadBackError> = std::result::Result<T, E>;

/// A float32 tensor of a graph.
pub(crate) struct Array {
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Bytes,
}

impl Array {
    pub(crate) fn floats(&self) -> Vec<f32> {
        self.data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    /// The elements of `rows` along the first axis.
    pub(crate) fn rows(&self, rows: Range<usize>) -> Bytes {
        let row = self.data.len().checked_div(self.dims[0]).unwrap_or(0);
        self.data.slice(rows.start * row..rows.end * row)
    }
}

/// A convolution found in a graph.
pub(crate) struct FoundConv {
    /// `[c_out, c_in, kernel]`
    pub(crate) weight: Array,
    pub(crate) bias: Option<Array>,
    pub(crate) dilation: usize,
}

/// The graph being read, and the results so far.
pub(crate) struct ReadBack<'a> {
    /// The voice's path, for messages about its tensors.
    path: Arc<Path>,
    graph: &'a Graph,
    nodes: HashMap<&'a str, &'a Node>,
    /// Tensors by upstream's key.
    tensors: BTreeMap<String, Weight>,
    /// Epsilons of the layer norms, by upstream's part.
    norm_eps: BTreeMap<&'static str, f32>,
    tail_bound: Option<f32>,
    /// Factor between the dilations of successive layers of the flow.
    pub(crate) flow_dilation: usize,
    /// Hyper-parameters that no shape determines.
    pub(crate) untold: Untold,
}

impl<'a> ReadBack<'a> {
    pub(crate) fn new(path: &Path, graph: &'a Graph) -> Self {
        Self {
            path: path.into(),
            graph,
            nodes: by_name(graph),
            tensors: BTreeMap::new(),
            norm_eps: BTreeMap::new(),
            tail_bound: None,
            flow_dilation: 1,
            untold: Untold::default(),
        }
    }

    /// Continues with `graph`.
    pub(crate) fn turn_to(&mut self, graph: &'a Graph) {
        self.graph = graph;
        self.nodes = by_name(graph);
    }

    pub(crate) fn error(&self, place: impl Into<String>, problem: impl Into<String>) -> ReadBackError {
        ReadBackError::Graph { place: place.into(), problem: problem.into() }
    }

    /// Returns true if there is a node called `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.nodes.contains_key(name)
    }

    /// Returns true if the graph has an input called `name`.
    pub(crate) fn has_input(&self, name: &str) -> bool {
        self.graph.inputs.iter().any(|&input| self.graph.value(input).name == name)
    }

    pub(crate) fn node(&self, name: &str) -> Result<&'a Node> {
        self.nodes.get(name).copied().ok_or_else(|| {
            let problem = "is missing: the file was changed, or this version does not know its form";
            self.error(format!("node {name}"), problem)
        })
    }

    /// The float32 constant `value`.
    fn constant(&self, value: ValueId) -> Result<Array> {
        let name = &self.graph.value(value).name;
        let Some(tensor) = self.graph.constant(value) else {
            return Err(self.error(name, "is not among the initializers: the file was changed"));
        };
        if tensor.dtype != DType::F32 {
            return Err(self.error(name, format!("expected float32, found {}", tensor.dtype)));
        }
        Ok(Array { dims: tensor.dims.clone(), data: tensor.data.clone() })
    }

    /// The constant at input `at` of the node called `name`.
    pub(crate) fn operand(&self, name: &str, at: usize) -> Result<Array> {
        self.operand_of(self.node(name)?, at)
    }

    fn operand_of(&self, node: &Node, at: usize) -> Result<Array> {
        let value = node.inputs.get(at).copied().flatten();
        let value =
            value.ok_or_else(|| self.error(format!("node {}", node.name), format!("has no input {at}")))?;
        self.constant(value)
    }

    /// The same for a constant outside a loop, read by the node of its body that is called `name` below the
    /// loop.
    pub(crate) fn operand_in_loop(&self, path: &str, name: &str, at: usize) -> Result<Array> {
        let node = self.node(path)?;
        let lost = || self.error(format!("node {path}/{name}"), "is missing: the file was changed");
        let Some(Attr::Graph(body)) = node.attrs.get("body") else { return Err(lost()) };
        let inner =
            body.nodes.iter().find(|inner| inner.name.strip_prefix(path) == Some(name)).ok_or_else(lost)?;
        let value = inner.inputs.get(at).copied().flatten().ok_or_else(lost)?;
        let place = body.inputs.iter().position(|&input| input == value).ok_or_else(lost)?;
        self.operand_of(node, place)
    }

    /// The single number at input `at` of the node called `name`.
    pub(crate) fn scalar(&self, name: &str, at: usize) -> Result<f32> {
        self.scalar_of(self.node(name)?, at)
    }

    pub(crate) fn scalar_of(&self, node: &Node, at: usize) -> Result<f32> {
        let array = self.operand_of(node, at)?;
        match array.floats()[..] {
            [value] => Ok(value),
            _ => {
                let problem = format!("expected one number, found {:?}", array.dims);
                Err(self.error(format!("node {}", node.name), problem))
            }
        }
    }

    /// The node that produces input `at` of `node`, if its operator is `op`.
    pub(crate) fn producer(&self, node: &Node, at: usize, op: &str) -> Option<&'a Node> {
        let value = node.inputs.get(at).copied().flatten()?;
        self.graph.nodes.iter().find(|node| node.op == op && node.outputs.first() == Some(&Some(value)))
    }

    /// The node that reads the first output of `node` as its input 0, if its operator is `op`.
    pub(crate) fn reader(&self, node: &Node, op: &str) -> Option<&'a Node> {
        let value = node.outputs.first().copied().flatten()?;
        self.graph.nodes.iter().find(|node| node.op == op && node.inputs.first() == Some(&Some(value)))
    }

    /// The lengths of the axes of `array`, which is found at `place`.
    pub(crate) fn expect<const N: usize>(&self, place: &str, array: &Array) -> Result<[usize; N]> {
        <[usize; N]>::try_from(&array.dims[..])
            .map_err(|_| self.error(place, format!("expected {N} axes, found the shape {:?}", array.dims)))
    }

    /// The convolution in the node called `name`, for the module at `path`.
    pub(crate) fn conv_of(&self, name: &str, path: &str) -> Result<FoundConv> {
        let node = self.node(name)?;
        let place = format!("{}.weight", key(path));
        let mut weight = self.operand_of(node, 1)?;
        let [c_out, c_in, height, kernel] = self.expect(&place, &weight)?;
        if height != 1 || weight.dims.contains(&0) {
            return Err(self.error(place, format!("expected [out, in, 1, taps], found {:?}", weight.dims)));
        }
        weight.dims = vec![c_out, c_in, kernel];
        let bias = node.inputs.get(2).copied().flatten().map(|bias| self.constant(bias)).transpose()?;
        if let Some(found) = bias.as_ref().map(|bias| &bias.dims).filter(|dims| dims[..] != [c_out]) {
            let place = place.replace(".weight", ".bias");
            return Err(self.error(place, format!("expected {:?}, found {found:?}", [c_out])));
        }
        let dilation = match node.attrs.get("dilations") {
            None => 1,
            Some(Attr::Ints(values)) => match values[..] {
                [_, dilation @ 1..=0xffff] => dilation as usize,
                _ => {
                    let problem = format!("dilations {values:?} are not valid");
                    return Err(self.error(format!("node {name}"), problem));
                }
            },
            Some(other) => return Err(self.error(format!("node {name}"), format!("dilations {other:?}"))),
        };
        Ok(FoundConv { weight, bias, dilation })
    }

    /// Records the tensor with upstream's `key`.
    pub(crate) fn put(&mut self, key: impl Into<String>, dims: &[usize], data: Bytes) -> Result<()> {
        let key = key.into();
        let weight = Weight::from_bytes(&self.path, &key, WeightType::F32, dims.to_vec(), data)?;
        self.tensors.insert(key, weight);
        Ok(())
    }

    /// Records a tensor whose elements are in several others, and are put together by `arrange` on request.
    pub(crate) fn put_rearranged<const N: usize>(
        &mut self,
        key: String,
        dims: &[usize],
        sources: [Bytes; N],
        arrange: impl Fn(&[Bytes]) -> Bytes + Send + Sync + 'static,
    ) -> Result<()> {
        let weight = Weight::rearranged(&self.path, &key, WeightType::F32, dims.to_vec(), sources, arrange)?;
        self.tensors.insert(key, weight);
        Ok(())
    }

    /// Records a convolution under upstream's `key`.
    pub(crate) fn put_conv(&mut self, key: &str, conv: FoundConv) -> Result<()> {
        if let Some(bias) = conv.bias {
            self.put(format!("{key}.bias"), &bias.dims, bias.data)?;
        }
        self.put(format!("{key}.weight"), &conv.weight.dims, conv.weight.data)
    }

    /// Records the epsilon of a layer norm. All norms of upstream's `part` have the same epsilon.
    pub(crate) fn put_epsilon(&mut self, part: &'static str, key: &str, epsilon: f32) -> Result<()> {
        let before = *self.norm_eps.entry(part).or_insert(epsilon);
        if before != epsilon {
            let problem = format!("its epsilon is {epsilon}, but that of the norms before it is {before}");
            return Err(self.error(key, problem));
        }
        Ok(())
    }

    /// Records the bound of the spline at which the node called `name` clips; all splines have the same
    /// bound.
    pub(crate) fn put_tail_bound(&mut self, name: &str, bound: f32) -> Result<()> {
        if *self.tail_bound.get_or_insert(bound) != bound {
            return Err(self.error(format!("node {name}"), "contradicts the bound of the other splines"));
        }
        Ok(())
    }

    /// Everything that was read, as a network.
    pub(crate) fn finish(self) -> Result<(Weights, HParams)> {
        let shape = |key: &str| self.tensors.get(key).map(|tensor| tensor.shape().to_vec());
        let mut hparams = HParams::from_shapes(&shape, self.untold.clone())?;
        hparams.flow.dilation_rate = self.flow_dilation;
        if let Some(&epsilon) = self.norm_eps.get("enc_p") {
            hparams.layer_norm_eps = epsilon;
        }
        let epsilon = self.norm_eps.get("dp");
        match &mut hparams.duration {
            DurationHParams::Stochastic { layer_norm_eps, tail_bound, .. } => {
                *layer_norm_eps = epsilon.copied().unwrap_or(*layer_norm_eps);
                *tail_bound = self.tail_bound.unwrap_or(*tail_bound);
            }
            DurationHParams::Plain { layer_norm_eps, .. } => {
                *layer_norm_eps = epsilon.copied().unwrap_or(*layer_norm_eps);
            }
        }
        hparams.check()?;
        Ok((Weights::new(self.tensors), hparams))
    }
}

fn by_name(graph: &Graph) -> HashMap<&str, &Node> {
    graph.nodes.iter().map(|node| (node.name.as_str(), node)).collect()
}

/// Upstream's key of the module at `path`.
pub(crate) fn key(path: &str) -> String {
    path.replace('/', ".")
}
