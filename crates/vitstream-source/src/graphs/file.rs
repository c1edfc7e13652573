//! A finished voice: the whole network in one ONNX file, as piper's exporter and PyTorch's tracer write it.

use std::path::Path;

use bytes::Bytes;
use vitstream_checkpoint::MappedFile;
use vitstream_onnx::passes::{Pass, WidenedWeights};
use vitstream_onnx::{DecodeError, Graph, decode, decode_with};

use crate::Error;
use crate::Parts;
use crate::beside::Beside;
use crate::graphs::exported::{self, is_own};
use crate::graphs::traced::recover;

/// Element types that decoders know and that only quantised networks have.
const QUANTISED: [&str; 6] = ["int4", "uint4", "int8", "uint8", "int16", "uint16"];

/// Domains of the operators that ONNX Runtime's optimiser writes begin so.
const ONNX_RUNTIME: &str = "com.microsoft";

/// The voice in `file`; `path` stands for it in messages. Elements that are not in it are looked for `beside` it.
pub(crate) fn read_file(path: &Path, file: MappedFile, mut beside: Option<Beside>) -> Result<Parts, Error> {
    let graph = open(path, file.bytes(), beside.as_mut())?;
    let mut files = vec![file];
    files.extend(beside.into_iter().flat_map(|beside| beside.files));
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
        let (weights, hparams) = exported::recover(path, &graph, &graph)?;
        (weights, hparams, "vitstream voice (ONNX)")
    } else {
        let (weights, mut hparams) = recover(path, std::slice::from_ref(&graph))?;
        hparams.sample_rate = sample_rate(&graph);
        (weights, hparams, "Piper voice (ONNX)")
    };
    Ok(Parts { weights, hparams, config: None, format, warnings: Vec::new(), notes: Vec::new(), files })
}

/// The graph in `bytes`, with its weights where they are; those that our export stored in half precision are float32
/// again. Those that lie elsewhere are looked for `beside` it.
pub(crate) fn open(path: &Path, bytes: Bytes, beside: Option<&mut Beside>) -> Result<Graph, Error> {
    let unrecoverable = |place, problem| Error::Unrecoverable { path: path.to_owned(), place, problem };
    let decoded = match beside {
        Some(beside) => decode_with(bytes, &mut |name| beside.open(name)),
        None => decode(bytes),
    };
    let mut graph = decoded.map_err(|source| match source {
        DecodeError::ElementType { place, found } if QUANTISED.contains(&found.as_str()) => unrecoverable(
            place,
            format!("expected float32, found {found}: give the voice before it was quantised"),
        ),
        DecodeError::Domain { place, op, domain } if domain.starts_with(ONNX_RUNTIME) => unrecoverable(
            place,
            format!(
                "{op} of the domain `{domain}` is what ONNX Runtime makes of a graph for its own use: give the voice \
                 before ONNX Runtime optimised it"
            ),
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
