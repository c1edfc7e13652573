//! An ONNX file under verification: its bytes and its graph.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use vitstream_checkpoint::map_file;
use vitstream_onnx::{Extracted, Graph, Node, Validated, ValueId, decode, encode, extract};

use crate::Error;

/// An ONNX file and the graph in it.
#[derive(Clone)]
pub(super) struct OnnxFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Bytes,
    pub(super) graph: Graph,
}

impl OnnxFile {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let bytes = map_file(path)?;
        let graph = decode(bytes.clone()).map_err(|source| Error::Onnx { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), bytes, graph })
    }

    /// The file that an export of `graph` would write; `name` is used in messages.
    pub(super) fn of(graph: &Validated, name: &Path) -> Self {
        let bytes = encode::to_bytes(graph).into();
        Self { path: name.to_owned(), bytes, graph: (**graph).clone() }
    }

    pub(super) fn name(&self, id: ValueId) -> &str {
        &self.graph.value(id).name
    }

    /// The input called `name`.
    pub(super) fn input(&self, name: &str) -> Option<ValueId> {
        self.graph.inputs.iter().copied().find(|&id| self.name(id) == name)
    }

    /// The output called `name`.
    pub(super) fn output(&self, name: &str) -> Option<ValueId> {
        self.graph.outputs.iter().copied().find(|&id| self.name(id) == name)
    }

    /// The part that computes `outputs`. Values in `fed` become inputs, and the nodes that compute them are
    /// left out.
    pub(super) fn part(&self, outputs: &[ValueId], fed: &[ValueId]) -> Result<Extracted, Error> {
        extract(&self.bytes, &self.graph, outputs, fed).ok_or_else(|| Error::Unrecoverable {
            path: self.path.clone(),
            place: "file".to_owned(),
            problem: "expected the messages of an ONNX model, found other messages; export the voice again"
                .to_owned(),
        })
    }
}

/// The nodes that read each value.
pub(super) struct Readers<'a> {
    readers: HashMap<ValueId, Vec<&'a Node>>,
}

impl<'a> Readers<'a> {
    pub(super) fn of(graph: &'a Graph) -> Self {
        let mut readers = Self { readers: HashMap::new() };
        for node in &graph.nodes {
            for &id in node.inputs.iter().flatten() {
                readers.readers.entry(id).or_default().push(node);
            }
        }
        readers
    }

    /// The nodes that read `id`.
    pub(super) fn get(&self, id: ValueId) -> &[&'a Node] {
        self.readers.get(&id).map_or(&[], Vec::as_slice)
    }
}
