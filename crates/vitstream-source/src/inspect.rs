//! What a file holds: a checkpoint, or an exported graph.
//!
//! The types are also what `vitstream inspect --json` prints; their fields and what these mean are listed in
//! `docs/inspect.md`. Fields are added, and none is renamed or gets another meaning, without a new major version.

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

/// Parts that are counted apart. Networks that are read have five; a file can call its tensors anything.
const MAX_PARTS: usize = 16;

/// What the others are counted under.
const OTHER_PARTS: &str = "(others)";

/// What was found.
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
    pub shape: Vec<i64>,
}

/// What a graph is to a voice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VoicePart {
    /// All of it: ids to samples.
    Whole,
    /// Of a streaming pair, ids to the latent.
    Encoder,
    /// Of a streaming pair, the latent to samples.
    Decoder,
    /// Of a streaming pair, the latent to samples with carried state.
    StreamDecoder,
}

/// The voice that a graph is, or is a part of.
#[derive(Clone, Debug, Serialize)]
pub struct VoiceInspection {
    /// Which part the graph is.
    pub part: VoicePart,
    /// Where the voice comes from; absent when it cannot be read.
    pub family: Option<&'static str>,
    /// Whether audio can be had before all of it is computed, which takes a pair.
    pub streaming: bool,
    /// Speakers; absent when the voice cannot be read and the file does not say.
    pub speakers: Option<usize>,
    /// Samples a second, if the file or the voice's JSON says.
    pub sample_rate: Option<u32>,
    /// Whether it can be exported: the file, or the folder that holds the pair.
    pub exportable: bool,
    /// Why it cannot.
    pub problem: Option<String>,
    /// The network's hyper-parameters; absent when the voice cannot be read.
    pub hparams: Option<HParams>,
}

/// An ONNX graph.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct GraphInspection {
    /// The file.
    pub path: PathBuf,
    /// The voice that it is, or is a part of, if its inputs and outputs are those of one.
    pub voice: Option<VoiceInspection>,
    /// Why the graph cannot be read, if it cannot. Everything else is listed as it is written in the file.
    pub problem: Option<String>,
    /// Version of the default operator set; 0 if the file names none.
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
    /// Files beside this one that hold its constants.
    pub external: Vec<String>,
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
/// let Inspection::Checkpoint(found) = inspect(voice, &ReadOptions::default())? else { panic!("a checkpoint") };
/// assert_eq!((found.hparams.num_speakers, found.receptive_field), (3, Some(43)));
///
/// let error = inspect("Cargo.toml", &ReadOptions::default()).expect_err("no voice");
/// assert!(error.to_string().starts_with("Cargo.toml: not a checkpoint"), "{error}");
/// # Ok::<(), vitstream_source::Error>(())
/// ```
///
/// # Errors
/// When the file can be read neither as a voice nor as an ONNX graph.
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
        None => Err("there are no files beside a graph in memory".to_owned()),
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

/// What a graph of these inputs and outputs is to a voice.
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

/// The pair that the graph in `path` belongs to.
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
        Some(file) => format!("is a part of a streaming pair, and there is no {file} beside it"),
    };
    Err(Error::Unrecoverable { path: path.to_owned(), place: "graph".to_owned(), problem })
}
