//! Runs graphs from memory.
//!
//! The runtimes are called directly, not through [`vitstream_synth::Voice`]: verification uses the files as
//! any client does, and intermediate stages are outputs that the file does not have.

use std::path::{Path, PathBuf};

use vitstream_synth::runtime::{self, GraphSource, Runner, RuntimeOptions, Tensor};
use vitstream_synth::{Runtime, Wall};

use crate::Error;
use crate::onnx_file::OnnxFile;
use vitstream_onnx::Extracted;

/// A tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array<T> {
    pub(super) dims: Vec<usize>,
    pub(super) data: Vec<T>,
}

impl<T: Clone> Array<T> {
    pub(super) fn new(dims: &[usize], data: impl Into<Vec<T>>) -> Self {
        let data = data.into();
        debug_assert_eq!(dims.iter().product::<usize>(), data.len());
        Self { dims: dims.to_vec(), data }
    }

    pub(super) fn full(dims: &[usize], value: T) -> Self {
        Self { dims: dims.to_vec(), data: vec![value; dims.iter().product()] }
    }
}

/// An input of a graph.
#[derive(Clone, Copy)]
pub(super) enum Feed<'a> {
    F32(&'a Array<f32>),
    I64(&'a Array<i64>),
}

/// The runtime of the graphs, and its options.
pub(super) struct Sessions {
    pub(super) options: RuntimeOptions,
}

impl Sessions {
    pub(super) fn new(
        runtime: Runtime,
        threads: usize,
        library: Option<&Path>,
        wall: Option<Wall>,
    ) -> Result<Self, Error> {
        if !(1..=256).contains(&threads) {
            return Err(Error::Option(format!("threads: expected 1 to 256, found {threads}")));
        }
        runtime.available(library).map_err(|error| Error::Option(error.to_string()))?;
        let mut options = RuntimeOptions::new(runtime).threads(threads).wall(wall);
        options.library = library.map(Path::to_owned);
        Ok(Self { options })
    }

    /// Loads a whole file.
    pub(super) fn load(&self, file: &OnnxFile) -> Result<Session, Error> {
        let inputs = file.graph.inputs.iter().map(|&id| file.name(id).to_owned()).collect();
        self.load_bytes(&file.path, &file.bytes, inputs)
    }

    /// Loads a part of `file`.
    pub(super) fn load_part(&self, file: &OnnxFile, part: Extracted) -> Result<Session, Error> {
        self.load_bytes(&file.path, &part.bytes, part.inputs)
    }

    fn load_bytes(&self, path: &Path, bytes: &[u8], inputs: Vec<String>) -> Result<Session, Error> {
        let graph = GraphSource::Memory { name: path, bytes: bytes.into() };
        let runner = runtime::load(graph, &self.options).map_err(|error| failed(path, error))?;
        Ok(Session { path: path.to_owned(), inputs, runner })
    }
}

/// A loaded graph.
pub(super) struct Session {
    path: PathBuf,
    /// Names of its inputs.
    inputs: Vec<String>,
    runner: Box<dyn Runner>,
}

impl Session {
    /// Runs the graph and returns the values of `outputs`, all float32. Only those of `feeds` that the graph
    /// takes are passed.
    pub(super) fn run(&self, feeds: &[(&str, Feed<'_>)], outputs: &[&str]) -> Result<Vec<Array<f32>>, Error> {
        let mut given = Vec::with_capacity(self.inputs.len());
        for name in &self.inputs {
            let (_, feed) = feeds.iter().find(|(fed, _)| fed == name).ok_or_else(|| Error::Run {
                path: self.path.clone(),
                problem: format!("takes an input `{name}`, which no voice has: not a graph of this kind"),
            })?;
            let tensor = match feed {
                Feed::F32(array) => Tensor::f32(&array.dims, array.data.as_slice()),
                Feed::I64(array) => Tensor::i64(&array.dims, array.data.as_slice()),
            };
            given.push((name.as_str(), tensor));
        }
        let values = self.runner.run(&given, outputs).map_err(|error| failed(&self.path, error))?;
        Ok(values.into_iter().map(|value| Array { dims: value.shape, data: value.data }).collect())
    }
}

/// The runtime's error, with the file named only once.
fn failed(path: &Path, error: vitstream_synth::Error) -> Error {
    use vitstream_synth::Error as Reason;
    let problem = match error {
        Reason::Model { message, .. } | Reason::Run { message, .. } | Reason::Crashed { message, .. } => {
            message
        }
        other => other.to_string(),
    };
    Error::Run { path: path.to_owned(), problem }
}
