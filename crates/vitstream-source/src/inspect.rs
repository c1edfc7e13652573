//! The contents of a file: a checkpoint, or an exported graph.
//!
//! The types are also the output of `vitstream inspect --json`; `docs/inspect.md` lists their fields and
//! meanings. Fields may be added, but none is renamed or changes its meaning without a new major version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use vitstream_checkpoint::{MappedFile, excerpt};
use vitstream_contract::files;
use vitstream_onnx::outline::{Outline, Port, outline};
use vitstream_onnx::{DecodeError, decode_with};
use vitstream_vits::{HParams, SynthesizerTrn, weights};

use crate::beside::Beside;
use crate::config::VoiceConfig;
use crate::{Error, Input, Parts, ReadOptions, begins_as_onnx, read_opened};

/// Limit on the parts that are counted separately. Supported networks have five, but a file can name its
/// tensors anything.
const MAX_PARTS: usize = 16;

/// Name of the part that collects all others.
const OTHER_PARTS: &str = "(others)";

/// The result of an inspection.
#[derive(Clone, Debug, Serialize)]
#[allow(clippy::large_enum_variant, reason = "a file has one, and callers take its fields apart")]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Inspection {
    /// A trained network.
    Checkpoint(Box<CheckpointInspection>),
    /// An ONNX graph.
    Graph(GraphInspection),
}

/// A checkpoint.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CheckpointInspection {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: &'static str,
    /// The voice's JSON that belongs to it, if there is one.
    pub config: Option<PathBuf>,
    /// The network's hyper-parameters.
    pub hparams: HParams,
    /// Samples per frame.
    pub hop_length: usize,
    /// Frames on each side by which windows must overlap; absent if the weights do not form a network.
    pub receptive_field: Option<usize>,
    /// The reason why it cannot be exported, if it cannot.
    pub problem: Option<String>,
    /// Warnings about it.
    pub warnings: Vec<String>,
    /// Choices that were made to read it.
    pub notes: Vec<String>,
    /// The tensors that an export uses, grouped by upstream's part.
    pub parts: BTreeMap<String, Size>,
    /// The tensors that an export leaves out, grouped by reason.
    pub unneeded: BTreeMap<String, Size>,
    /// Every tensor, sorted by upstream's keys.
    pub tensors: Vec<TensorInspection>,
}

/// Totals of a group of tensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Number of tensors.
    pub tensors: usize,
    /// Number of their elements.
    pub parameters: u64,
    /// Their size in the file, in bytes.
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
    pub shape: Vec<i64>,
}

/// The role of a graph in a voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VoicePart {
    /// The whole voice: ids to samples.
    Whole,
    /// The encoder of a streaming pair: ids to the latent.
    Encoder,
    /// The decoder of a streaming pair: the latent to samples.
    Decoder,
    /// The stream decoder of a streaming pair: the latent to samples with carried state.
    StreamDecoder,
}

/// The voice that a graph is, or is part of.
#[derive(Clone, Debug, Serialize)]
pub struct VoiceInspection {
    /// The role of the graph.
    pub part: VoicePart,
    /// The family of the voice; absent if the voice cannot be read.
    pub family: Option<&'static str>,
    /// True if audio is available before all of it is computed, which requires a pair.
    pub streaming: bool,
    /// Number of speakers; absent if the voice cannot be read and the file does not state it.
    pub speakers: Option<usize>,
    /// Sample rate in hertz, if the file or the voice's JSON states it.
    pub sample_rate: Option<u32>,
    /// True if the file, or the folder that holds the pair, can be exported.
    pub exportable: bool,
    /// The reason why it cannot be exported.
    pub problem: Option<String>,
    /// The network's hyper-parameters; absent if the voice cannot be read.
    pub hparams: Option<HParams>,
}

/// An ONNX graph.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct GraphInspection {
    /// The file.
    pub path: PathBuf,
    /// The voice that it is, or is part of, if its inputs and outputs are those of one.
    pub voice: Option<VoiceInspection>,
    /// The reason why the graph cannot be read, if it cannot. All other fields are then listed as they are in
    /// the file.
    pub problem: Option<String>,
    /// Version of the default operator set; 0 if the file states none.
    pub opset: i64,
    /// The graph's inputs.
    pub inputs: Vec<PortInspection>,
    /// The graph's outputs.
    pub outputs: Vec<PortInspection>,
    /// Number of nodes of each operator.
    pub operators: BTreeMap<String, usize>,
    /// Number of nodes.
    pub nodes: usize,
    /// The constants.
    pub weights: Size,
    /// Other files that hold its constants.
    pub external: Vec<String>,
    /// The metadata in the file.
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
    /// Lengths of the axes; names for variable ones.
    pub shape: Option<Vec<String>>,
}

/// Inspects `path` without changing anything. `options` supplies facts that the weights do not state.
///
/// ```
/// # let voice = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-vits/tests/golden/multi.ckpt");
/// use vitstream_source::inspect::{Inspection, inspect};
/// use vitstream_source::ReadOptions;
///
/// let Inspection::Checkpoint(found) = inspect(voice, &ReadOptions::default())? else { panic!("a checkpoint") };
/// assert_eq!((found.hparams.num_speakers, found.receptive_field), (3, Some(43)));
///
/// let error = inspect("Cargo.toml", &ReadOptions::default()).expect_err("no voice");
/// assert!(error.to_string().starts_with("Cargo.toml: not a checkpoint"), "{error}");
/// # Ok::<(), vitstream_source::Error>(())
/// ```
///
/// # Errors
/// When the file is neither a voice nor an ONNX graph that can be read.
pub fn inspect(input: impl Into<Input>, options: &ReadOptions) -> Result<Inspection, Error> {
    let input = input.into();
    let parts = if input.is_dir() {
        crate::read(&input, options)?
    } else {
        let file = input.open()?;
        if begins_as_onnx(&file.bytes()) {
            return inspect_graph(&input, file, options).map(Inspection::Graph);
        }
        read_opened(&input, file, options)?
    };
    let found = inspect_checkpoint(input.name(), parts, options);
    Ok(Inspection::Checkpoint(Box::new(found)))
}

fn inspect_checkpoint(path: &Path, parts: Parts, options: &ReadOptions) -> CheckpointInspection {
    let Parts { weights: network, hparams, config, format, mut warnings, notes, .. } = parts;
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
        shape: tensor.shape().iter().map(|&length| length as i64).collect(),
    });
    CheckpointInspection {
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
    }
}

fn inspect_graph(input: &Input, file: MappedFile, options: &ReadOptions) -> Result<GraphInspection, Error> {
    let path = input.name();
    let onnx = |source: DecodeError| Error::Onnx { path: path.to_owned(), source };
    let bytes = file.bytes();
    let outline = outline(bytes.clone()).map_err(onnx)?;
    let mut beside = input.path().map(Beside::of);
    let decoded = decode_with(bytes, &mut |name| match &mut beside {
        Some(beside) => beside.open(name),
        None => Err("a graph in memory has no files next to it".to_owned()),
    });
    let mut weights = Size::default();
    for tensor in &outline.tensors {
        let length = |product: u64, &dim: &i64| product.checked_mul(u64::try_from(dim).ok()?);
        weights.tensors += 1;
        weights.parameters =
            weights.parameters.saturating_add(tensor.dims.iter().try_fold(1, length).unwrap_or(0));
        weights.bytes = weights.bytes.saturating_add(tensor.bytes);
    }
    let voice = part_of(&outline).map(|part| inspect_voice(input, file, part, &outline, options));
    Ok(GraphInspection {
        path: path.to_owned(),
        voice,
        problem: decoded.err().map(|source| source.to_string()),
        opset: outline.opsets.get("").copied().unwrap_or_default(),
        inputs: outline.inputs.into_iter().map(port).collect(),
        outputs: outline.outputs.into_iter().map(port).collect(),
        nodes: outline.operators.values().sum(),
        operators: outline.operators,
        weights,
        external: outline.external,
        metadata: outline.metadata,
        tensors: outline
            .tensors
            .into_iter()
            .map(|tensor| TensorInspection { name: tensor.name, dtype: tensor.dtype, shape: tensor.dims })
            .collect(),
    })
}

fn port(port: Port) -> PortInspection {
    PortInspection { name: port.name, dtype: port.dtype, shape: port.shape }
}

/// The role of a graph with these inputs and outputs in a voice.
fn part_of(outline: &Outline) -> Option<VoicePart> {
    let has = |ports: &[Port], name: &str| ports.iter().any(|port| port.name == name);
    match () {
        () if has(&outline.outputs, "z") && has(&outline.inputs, "input") => Some(VoicePart::Encoder),
        () if has(&outline.inputs, "z") && has(&outline.inputs, "last") => Some(VoicePart::StreamDecoder),
        () if has(&outline.inputs, "z") => Some(VoicePart::Decoder),
        () if has(&outline.inputs, "input") && has(&outline.inputs, "input_lengths") => {
            Some(VoicePart::Whole)
        }
        () => None,
    }
}

fn inspect_voice(
    input: &Input,
    file: MappedFile,
    part: VoicePart,
    outline: &Outline,
    options: &ReadOptions,
) -> VoiceInspection {
    let path = input.name();
    let number = |key: &str| outline.metadata.get(key)?.parse::<usize>().ok();
    let mut voice = VoiceInspection {
        part,
        family: None,
        streaming: part != VoicePart::Whole,
        speakers: number("n_speakers"),
        sample_rate: number("sample_rate").and_then(|rate| u32::try_from(rate).ok()),
        exportable: false,
        problem: None,
        hparams: None,
    };
    let read = match part {
        VoicePart::Whole => read_opened(input, file, options),
        _ => read_pair(path, options),
    };
    let parts = read.and_then(|parts| {
        let loaded = SynthesizerTrn::load_weights(&parts.weights, parts.hparams.clone());
        loaded.map_err(|source| Error::Weights { path: path.to_owned(), source })?;
        Ok(parts)
    });
    match parts {
        Ok(Parts { hparams, config, format, .. }) => {
            voice.family = Some(format);
            voice.speakers = Some(hparams.num_speakers);
            let stated = hparams.sample_rate.or(voice.sample_rate);
            voice.sample_rate = stated.or_else(|| config.as_ref().and_then(VoiceConfig::sample_rate));
            voice.exportable = true;
            voice.hparams = Some(hparams);
        }
        Err(error) => voice.problem = Some(error.to_string()),
    }
    voice
}

/// The pair to which the graph in `path` belongs.
fn read_pair(path: &Path, options: &ReadOptions) -> Result<Parts, Error> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default();
    let own = [files::ENCODER, files::DECODER, files::STREAM_DECODER];
    let absent = [files::ENCODER, files::DECODER].into_iter().find(|file| !folder.join(file).is_file());
    let problem = match absent {
        None if own.iter().any(|file| name == *file) => {
            return crate::read_pair(folder, options.config.as_deref());
        }
        None => format!("is none of {}, {} and {} of its folder", own[0], own[1], own[2]),
        Some(file) => format!("is part of a streaming pair, but there is no {file} next to it"),
    };
    Err(Error::Unrecoverable { path: path.to_owned(), place: "graph".to_owned(), problem })
}
