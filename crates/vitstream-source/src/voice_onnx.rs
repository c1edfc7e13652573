//! A finished voice: the whole network in one ONNX file, as piper's exporter and PyTorch's tracer write it.

use std::path::Path;

use bytes::Bytes;
use vitstream_checkpoint::MappedFile;
use vitstream_onnx::passes::{Pass, WidenedWeights};
use vitstream_onnx::{DecodeError, Graph, decode};

use crate::Error;
use crate::Parts;
use crate::config::VoiceConfig;
use crate::own::{self, is_own};
use crate::recover::recover;

/// Element types that decoders know and that only quantised networks have.
const QUANTISED: [&str; 6] = ["int4", "uint4", "int8", "uint8", "int16", "uint16"];

pub(crate) fn read(path: &Path, config: Option<&Path>) -> Result<Parts, Error> {
    let parts = read_file(path, MappedFile::open(path)?)?;
    Ok(Parts { config: VoiceConfig::named_or_beside(config, path)?, ..parts })
}

/// The voice in `file`; `path` stands for it in messages.
pub(crate) fn read_file(path: &Path, file: MappedFile) -> Result<Parts, Error> {
    let graph = open(path, file.bytes())?;
    let named = |ids: &[_], name: &str| ids.iter().any(|&id| graph.value(id).name == name);
    let half = match () {
        () if named(&graph.outputs, "z") => Some("an encoder"),
        () if named(&graph.inputs, "z") => Some("a decoder"),
        () => None,
    };
    if let Some(half) = half {
        let problem =
            format!("this is {half}, half of a streaming pair: give the directory that holds the pair");
        return Err(Error::Unrecoverable { path: path.to_owned(), place: "graph".to_owned(), problem });
    }
    let (weights, hparams, format) = if is_own(&graph) {
        let (weights, hparams) = own::recover(path, &graph, &graph)?;
        (weights, hparams, "vitstream voice (ONNX)")
    } else {
        let (weights, mut hparams) = recover(path, std::slice::from_ref(&graph))?;
        hparams.sample_rate = sample_rate(&graph);
        (weights, hparams, "Piper voice (ONNX)")
    };
    Ok(Parts {
        weights,
        hparams,
        config: None,
        format,
        warnings: Vec::new(),
        notes: Vec::new(),
        files: vec![file],
    })
}

/// The graph in `bytes`, with its weights where they are; those that our export stored in half precision are float32
/// again.
pub(crate) fn open(path: &Path, bytes: Bytes) -> Result<Graph, Error> {
    let unrecoverable = |place, problem| Error::Unrecoverable { path: path.to_owned(), place, problem };
    let mut graph = decode(bytes).map_err(|source| match source {
        DecodeError::ElementType { place, found } if QUANTISED.contains(&found.as_str()) => unrecoverable(
            place,
            format!("expected float32, found {found}: give the voice before it was quantised"),
        ),
        source => Error::Onnx { path: path.to_owned(), source },
    })?;
    if is_own(&graph) {
        WidenedWeights.run(&mut graph);
    }
    Ok(graph)
}

/// Samples a second, if the file says.
pub(crate) fn sample_rate(graph: &Graph) -> Option<u32> {
    graph.metadata.get("sample_rate")?.parse().ok()
}
