//! Running graphs that lie in memory.
//!
//! The runtimes are driven directly, not through [`vitstream_synth::Voice`]: what is verified is what any client finds in
//! the files, and stages inside a graph are outputs that the file does not have.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rten::{ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView, ValueView};
use rten_tensor::prelude::*;
use vitstream_synth::Runtime;

use crate::Error;
use crate::cut::{OnnxFile, Part};
#[cfg(feature = "onnxruntime")]
use crate::onnxruntime;

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

/// What a graph is fed with.
#[derive(Clone, Copy)]
pub(super) enum Feed<'a> {
    F32(&'a Array<f32>),
    I64(&'a Array<i64>),
}

/// Who runs the graphs, and how.
pub(super) struct Engine {
    pub(super) runtime: Runtime,
    threads: Arc<ThreadPool>,
    #[cfg(feature = "onnxruntime")]
    onnxruntime: Option<onnxruntime::Library>,
}

impl Engine {
    pub(super) fn new(runtime: Runtime, threads: usize, library: Option<&Path>) -> Result<Self, Error> {
        if !(1..=256).contains(&threads) {
            return Err(Error::Option(format!("threads: expected 1 to 256, found {threads}")));
        }
        #[cfg(not(feature = "onnxruntime"))]
        if runtime == Runtime::OnnxRuntime {
            let _ = library;
            return Err(Error::Option(
                "this build of vitstream is without ONNX Runtime; build it with the feature `onnxruntime`"
                    .to_owned(),
            ));
        }
        Ok(Self {
            runtime,
            threads: Arc::new(ThreadPool::with_num_threads(threads)),
            #[cfg(feature = "onnxruntime")]
            onnxruntime: match runtime {
                Runtime::OnnxRuntime => Some(onnxruntime::Library::load(library, threads)?),
                Runtime::Rten => None,
            },
        })
    }

    /// Loads a whole file.
    pub(super) fn load(&self, file: &OnnxFile) -> Result<Session, Error> {
        let inputs = file.graph.inputs.iter().map(|&id| file.name(id).to_owned()).collect();
        self.load_bytes(&file.path, &file.bytes, inputs)
    }

    /// Loads a part of `file`.
    pub(super) fn load_part(&self, file: &OnnxFile, part: Part) -> Result<Session, Error> {
        self.load_bytes(&file.path, &part.bytes, part.inputs)
    }

    fn load_bytes(&self, path: &Path, bytes: &[u8], inputs: Vec<String>) -> Result<Session, Error> {
        let refused = |name: &str, error: &dyn std::fmt::Display| Error::Run {
            path: path.to_owned(),
            problem: format!("{name} cannot load it: {error}"),
        };
        #[cfg(feature = "onnxruntime")]
        if let Some(library) = &self.onnxruntime {
            let session = library.session(bytes).map_err(|error| refused("ONNX Runtime", &error))?;
            return Ok(Session { path: path.to_owned(), inputs, graph: Loaded::OnnxRuntime(session) });
        }
        let model = ModelOptions::with_all_ops()
            .prepack_weights(true)
            .load(bytes.to_vec())
            .map_err(|error| refused("rten", &error))?;
        let graph = Loaded::Rten(Box::new(model), self.threads.clone());
        Ok(Session { path: path.to_owned(), inputs, graph })
    }
}

enum Loaded {
    Rten(Box<rten::Model>, Arc<ThreadPool>),
    #[cfg(feature = "onnxruntime")]
    OnnxRuntime(onnxruntime::Session),
}

/// A loaded graph.
pub(super) struct Session {
    path: PathBuf,
    /// What it takes.
    inputs: Vec<String>,
    graph: Loaded,
}

impl Session {
    /// Runs the graph and gives the values of `outputs`, all float32. Of `feeds` it gets those that it takes.
    pub(super) fn run(&self, feeds: &[(&str, Feed<'_>)], outputs: &[&str]) -> Result<Vec<Array<f32>>, Error> {
        let mut given = Vec::with_capacity(self.inputs.len());
        for name in &self.inputs {
            let feed = feeds.iter().find(|(fed, _)| fed == name).ok_or_else(|| {
                self.failed(&format!(
                    "takes an input `{name}` that is none of a voice's: not a graph of this kind"
                ))
            })?;
            given.push(*feed);
        }
        match &self.graph {
            Loaded::Rten(model, threads) => self.run_rten(model, threads, &given, outputs),
            #[cfg(feature = "onnxruntime")]
            Loaded::OnnxRuntime(session) => {
                session.run(&given, outputs).map_err(|problem| self.failed(&problem))
            }
        }
    }

    fn failed(&self, problem: &dyn std::fmt::Display) -> Error {
        Error::Run { path: self.path.clone(), problem: problem.to_string() }
    }

    fn run_rten(
        &self,
        model: &rten::Model,
        threads: &Arc<ThreadPool>,
        feeds: &[(&str, Feed<'_>)],
        outputs: &[&str],
    ) -> Result<Vec<Array<f32>>, Error> {
        let node = |name: &str| {
            model
                .find_node(name)
                .ok_or_else(|| self.failed(&format!("the graph has no value called `{name}`")))
        };
        let mut values: Vec<(NodeId, ValueOrView<'_>)> = Vec::with_capacity(feeds.len());
        for (name, feed) in feeds {
            let value = match feed {
                Feed::F32(array) => ValueView::from_shape(&array.dims, &array.data)
                    .map_err(|error| self.failed(&error))?
                    .into(),
                // rten's only wide integer is int32: it reads int64 graphs as such.
                Feed::I64(array) => {
                    let data = array.data.iter().map(|&v| i32::try_from(v)).collect::<Result<Vec<_>, _>>();
                    let data =
                        data.map_err(|_| self.failed(&format!("`{name}` holds a number beyond 32 bits")))?;
                    Value::from_shape(&array.dims, data).map_err(|error| self.failed(&error))?.into()
                }
            };
            values.push((node(name)?, value));
        }
        let ids = outputs.iter().map(|name| node(name)).collect::<Result<Vec<_>, _>>()?;
        let options = RunOptions::default().with_thread_pool(Some(threads.clone()));
        let results = model.run(values, &ids, Some(options)).map_err(|error| self.failed(&error))?;
        let arrays = outputs.iter().zip(results).map(|(name, value)| {
            let tensor = value
                .into_tensor::<f32>()
                .ok_or_else(|| self.failed(&format!("`{name}`: expected float32, found something else")))?;
            Ok(Array { dims: tensor.shape().to_vec(), data: tensor.into_data() })
        });
        arrays.collect()
    }
}
