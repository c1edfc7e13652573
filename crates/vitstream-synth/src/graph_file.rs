//! Facts in a graph's file: metadata, inputs, outputs, and the sizes of its tables. Read once when a voice is
//! opened, regardless of the runtime.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use vitstream_checkpoint::map_file;
use vitstream_onnx::{Graph, ValueId, ValueInfo};

use crate::error::{Error, Result};

pub(crate) struct GraphFile {
    pub(crate) path: PathBuf,
    pub(crate) graph: Graph,
    /// The mapped file.
    pub(crate) bytes: Bytes,
}

impl GraphFile {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = map_file(path)?;
        let graph = vitstream_onnx::decode(bytes.clone()).map_err(|e| {
            Error::model(path, format!("not an ONNX graph that can be read: {e}; export the voice again"))
        })?;
        Ok(Self { path: path.to_owned(), graph, bytes })
    }

    pub(crate) fn error(&self, message: impl Into<String>) -> Error {
        Error::model(&self.path, message)
    }

    pub(crate) fn metadata(&self, key: &str) -> Option<&str> {
        self.graph.metadata.get(key).map(String::as_str)
    }

    /// The metadata entry `key` as a number, if it exists.
    pub(crate) fn number<T: FromStr>(&self, key: &str) -> Result<Option<T>> {
        self.metadata(key)
            .map(|text| {
                text.parse()
                    .map_err(|_| self.error(format!("metadata `{key}`: expected a number, found {text:?}")))
            })
            .transpose()
    }

    pub(crate) fn input(&self, name: &str) -> Option<&ValueInfo> {
        self.graph.inputs.iter().map(|&id| self.graph.value(id)).find(|info| info.name == name)
    }

    pub(crate) fn output(&self, name: &str) -> Option<&ValueInfo> {
        self.graph.outputs.iter().map(|&id| self.graph.value(id)).find(|info| info.name == name)
    }

    /// Checks that the graph has these `inputs` and `outputs`, possibly among others.
    pub(crate) fn expect(&self, inputs: &[&str], outputs: &[&str]) -> Result<()> {
        let names = |ids: &[ValueId]| -> String {
            let names: Vec<_> = ids.iter().map(|&id| self.graph.value(id).name.as_str()).collect();
            names.join(", ")
        };
        if let Some(missing) = inputs.iter().find(|name| self.input(name).is_none()) {
            let found = names(&self.graph.inputs);
            return Err(
                self.error(format!("expected an input `{missing}`, found {found}: not a graph of this kind"))
            );
        }
        if let Some(missing) = outputs.iter().find(|name| self.output(name).is_none()) {
            let found = names(&self.graph.outputs);
            return Err(self
                .error(format!("expected an output `{missing}`, found {found}: not a graph of this kind")));
        }
        Ok(())
    }

    /// Rows of the table that the graph's input `name` indexes, if there is such a table.
    pub(crate) fn table_rows(&self, name: &str) -> Option<usize> {
        let input = self.graph.inputs.iter().copied().find(|&id| self.graph.value(id).name == name)?;
        let mut indices = vec![input];
        // Half-precision weights are cast before they are used.
        let mut tables = self.graph.initializers.keys().copied().collect::<BTreeSet<_>>();
        // Nodes are in topological order: a node follows the producers of its inputs.
        for node in &self.graph.nodes {
            let at = |i: usize| node.inputs.get(i).copied().flatten();
            match node.op.as_str() {
                "Cast" | "Unsqueeze" | "Squeeze" | "Identity" | "Reshape"
                    if at(0).is_some_and(|id| indices.contains(&id)) =>
                {
                    indices.extend(node.outputs.iter().flatten());
                }
                "Gather" if at(1).is_some_and(|id| indices.contains(&id)) => {
                    if let Some(table) = at(0).filter(|id| tables.contains(id)) {
                        return fixed(self.graph.value(table), 0);
                    }
                }
                "Cast" if at(0).is_some_and(|id| tables.contains(&id)) => {
                    tables.extend(node.outputs.iter().flatten());
                }
                _ => {}
            }
        }
        None
    }
}

/// The length of `info`'s axis, if the file fixes it.
pub(crate) fn fixed(info: &ValueInfo, axis: usize) -> Option<usize> {
    info.shape.as_ref()?.get(axis)?.as_const().and_then(|length| usize::try_from(length).ok())
}
