//! Finished voices: the whole network in one ONNX file, as written by piper's exporter and PyTorch's tracer.

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

/// Element types that decoders know and that occur only in quantised networks.
const QUANTISED: [&str; 6] = ["int4", "uint4", "int8", "uint8", "int16", "uint16"];

/// Prefix of the domains of operators that ONNX Runtime's optimiser writes.
const ONNX_RUNTIME: &str = "com.microsoft";

/// Reads the voice in `file`; `path` is used in messages. Elements outside the file are looked up through
/// `beside`.
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
            format!("this is {half}, half of a streaming pair: use the directory that holds the pair");
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

/// Decodes the graph in `bytes` without copying its weights, except that weights which our export stored in
/// half precision become float32 again. Weights outside the file are looked up through `beside`.
pub(crate) fn open(path: &Path, bytes: Bytes, beside: Option<&mut Beside>) -> Result<Graph, Error> {
    let unrecoverable = |place, problem| Error::Unrecoverable { path: path.to_owned(), place, problem };
    let decoded = match beside {
        Some(beside) => decode_with(bytes, &mut |name| beside.open(name)),
        None => decode(bytes),
    };
    let mut graph = decoded.map_err(|source| match source {
        DecodeError::ElementType { place, found } if QUANTISED.contains(&found.as_str()) => unrecoverable(
            place,
            format!("expected float32, found {found}: use the voice before it was quantised"),
        ),
        DecodeError::Domain { place, op, domain } if domain.starts_with(ONNX_RUNTIME) => unrecoverable(
            place,
            format!(
                "{op} of the domain `{domain}` was put in by ONNX Runtime's optimiser: use the voice \
                 before it was optimised"
            ),
        ),
        source => Error::Onnx { path: path.to_owned(), source },
    })?;
    if is_own(&graph) {
        WidenedWeights.run(&mut graph);
    }
    Ok(graph)
}

/// The sample rate in hertz, if the file states it.
pub(crate) fn sample_rate(graph: &Graph) -> Option<u32> {
    graph.metadata.get("sample_rate")?.parse().ok()
}
