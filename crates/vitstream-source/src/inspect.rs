//! What a file holds: a checkpoint, or an exported graph.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vitstream_checkpoint::{excerpt, map_file};
use vitstream_onnx::{Graph, ValueId, decode};
use vitstream_vits::{HParams, SynthesizerTrn, weights};

use crate::Error;
use crate::{Parts, ReadOptions};

/// Parts that are counted apart. Networks that are read have five; a file can call its tensors anything.
const MAX_PARTS: usize = 16;

/// What the others are counted under.
const OTHER_PARTS: &str = "(others)";

/// What was found.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Inspection {
    /// A trained network.
    Checkpoint(Box<CheckpointInspection>),
    /// An ONNX graph.
    Graph(GraphInspection),
}

/// A checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointInspection {
    /// The file.
    pub path: PathBuf,
    /// What it is.
    pub format: &'static str,
    /// The voice's JSON that goes with it, if there is one.
    pub config: Option<PathBuf>,
    /// The network's hyper-parameters.
    pub hparams: HParams,
    /// Samples of a frame.
    pub hop_length: usize,
    /// Frames to each side that windows have to overlap by; absent when the weights do not make a network.
    pub receptive_field: Option<usize>,
    /// Why it cannot be exported, if it cannot.
    pub problem: Option<String>,
    /// What is unusual about it.
    pub warnings: Vec<String>,
    /// What was done and chosen to read it.
    pub notes: Vec<String>,
    /// The tensors that an export uses, by upstream's part.
    pub parts: BTreeMap<String, Size>,
    /// The tensors that it leaves out, by reason.
    pub unneeded: BTreeMap<String, Size>,
    /// Every tensor, sorted by upstream's keys.
    pub tensors: Vec<TensorInspection>,
}

/// A number of tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Size {
    /// How many.
    pub tensors: usize,
    /// Their elements.
    pub parameters: u64,
    /// Their bytes in the file.
    pub bytes: u64,
}

/// One tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorInspection {
    /// Key in the file.
    pub name: String,
    /// Element type.
    pub dtype: String,
    /// Lengths of the axes.
    pub shape: Vec<usize>,
}

/// An ONNX graph.
#[derive(Clone, Debug, Serialize)]
pub struct GraphInspection {
    /// The file.
    pub path: PathBuf,
    /// Version of the default operator set.
    pub opset: i64,
    /// What it is fed.
    pub inputs: Vec<PortInspection>,
    /// What it gives.
    pub outputs: Vec<PortInspection>,
    /// How many nodes there are of each operator.
    pub operators: BTreeMap<String, usize>,
    /// Number of nodes.
    pub nodes: usize,
    /// The constants.
    pub weights: Size,
    /// What the file says of itself.
    pub metadata: BTreeMap<String, String>,
    /// Every constant.
    pub tensors: Vec<TensorInspection>,
}

/// An input or output of a graph.
#[derive(Clone, Debug, Serialize)]
pub struct PortInspection {
    /// Its name.
    pub name: String,
    /// Element type, if known.
    pub dtype: Option<String>,
    /// Lengths of the axes; names for those that vary.
    pub shape: Option<Vec<String>>,
}

/// Reads `path`, without changing anything. `options` is for weights that do not say everything themselves.
///
/// ```
/// # let voice = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-vits/tests/golden/multi.ckpt");
/// use vitstream_source::inspect::{Inspection, inspect};
/// use vitstream_source::ReadOptions;
///
/// let Inspection::Checkpoint(found) = inspect(voice.as_ref(), &ReadOptions::default())? else { panic!("a checkpoint") };
/// assert_eq!((found.hparams.num_speakers, found.receptive_field), (3, Some(43)));
///
/// let error = inspect("Cargo.toml".as_ref(), &ReadOptions::default()).expect_err("no voice");
/// assert!(error.to_string().starts_with("Cargo.toml: not a checkpoint"), "{error}");
/// # Ok::<(), vitstream_source::Error>(())
/// ```
///
/// # Errors
/// When the file can be read neither as a voice nor as an ONNX graph.
pub fn inspect(path: &Path, options: &ReadOptions) -> Result<Inspection, Error> {
    if crate::is_onnx(path)? {
        inspect_graph(path).map(Inspection::Graph)
    } else {
        inspect_checkpoint(path, options).map(|found| Inspection::Checkpoint(Box::new(found)))
    }
}

fn inspect_checkpoint(path: &Path, options: &ReadOptions) -> Result<CheckpointInspection, Error> {
    let Parts { weights: network, hparams, config, format, mut warnings, notes, .. } =
        crate::read(path, options)?;
    warnings.extend(config.iter().flat_map(|config| config.check(&hparams)));
    let loaded = SynthesizerTrn::load_weights(&network, hparams.clone());
    let problem = match &loaded {
        Ok((_, audit)) => crate::check_finite(path, audit, options).err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    let mut parts = BTreeMap::<String, Size>::new();
    let mut unneeded = BTreeMap::<String, Size>::new();
    for (key, tensor) in network.iter() {
        let entry = match weights::unneeded(key) {
            Some(reason) => unneeded.entry(reason.to_owned()).or_default(),
            None => {
                let part = excerpt(key.split('.').next().unwrap_or(key));
                let room = parts.len() < MAX_PARTS || parts.contains_key(&part);
                parts.entry(if room { part } else { OTHER_PARTS.to_owned() }).or_default()
            }
        };
        entry.tensors += 1;
        entry.parameters += tensor.numel() as u64;
        entry.bytes += tensor.nbytes() as u64;
    }
    let tensors = network.iter().map(|(_, tensor)| TensorInspection {
        name: tensor.name().to_owned(),
        dtype: tensor.dtype().to_string(),
        shape: tensor.shape().to_vec(),
    });
    Ok(CheckpointInspection {
        path: path.to_owned(),
        format,
        hop_length: hparams.hop_length(),
        receptive_field: loaded.as_ref().ok().map(|(model, _)| model.receptive_field()),
        problem,
        config: config.map(|config| config.path),
        hparams,
        warnings,
        notes,
        parts,
        unneeded,
        tensors: tensors.collect(),
    })
}

fn inspect_graph(path: &Path) -> Result<GraphInspection, Error> {
    let graph = decode(map_file(path)?).map_err(|source| Error::Onnx { path: path.to_owned(), source })?;
    let mut operators = BTreeMap::<String, usize>::new();
    for node in &graph.nodes {
        *operators.entry(node.op.clone()).or_default() += 1;
    }
    let mut weights = Size::default();
    for tensor in graph.initializers.values() {
        weights.tensors += 1;
        weights.parameters += tensor.dims.iter().product::<usize>() as u64;
        weights.bytes += tensor.data.len() as u64;
    }
    let tensors = graph.initializers.iter().map(|(&id, tensor)| TensorInspection {
        name: graph.value(id).name.clone(),
        dtype: tensor.dtype.to_string(),
        shape: tensor.dims.clone(),
    });
    Ok(GraphInspection {
        path: path.to_owned(),
        opset: graph.opset,
        inputs: ports(&graph, &graph.inputs),
        outputs: ports(&graph, &graph.outputs),
        nodes: graph.nodes.len(),
        operators,
        weights,
        metadata: graph.metadata.clone(),
        tensors: tensors.collect(),
    })
}

fn ports(graph: &Graph, ids: &[ValueId]) -> Vec<PortInspection> {
    let port = |&id: &ValueId| {
        let value = graph.value(id);
        PortInspection {
            name: value.name.clone(),
            dtype: value.dtype.map(|dtype| dtype.to_string()),
            shape: value.shape.as_ref().map(|shape| shape.iter().map(ToString::to_string).collect()),
        }
    };
    ids.iter().map(port).collect()
}
