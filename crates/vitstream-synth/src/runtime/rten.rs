//! rten: pure Rust.

use std::path::PathBuf;
use std::sync::Arc;

use rten::{ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueOrView, ValueView};
use rten_tensor::prelude::*;

use super::{Data, GraphSource, Output, Runner, RuntimeOptions, Tensor, reason};
use crate::error::{Error, Result};

pub(super) struct Model {
    path: PathBuf,
    model: rten::Model,
    threads: Arc<ThreadPool>,
}

impl Model {
    pub(super) fn load(graph: GraphSource<'_>, options: &RuntimeOptions) -> Result<Self> {
        let path = graph.path();
        let mut loader = ModelOptions::with_all_ops();
        loader.prepack_weights(true);
        let model = match graph {
            GraphSource::File(path) => loader.load_file(path),
            GraphSource::Memory { bytes, .. } => loader.load(bytes.into_owned()),
        };
        let model = model.map_err(|e| Error::model(path, format!("rten cannot load it: {}", reason(&e))))?;
        let threads = Arc::new(ThreadPool::with_num_threads(options.threads));
        Ok(Self { path: path.to_owned(), model, threads })
    }

    fn node(&self, name: &str) -> Result<NodeId> {
        self.model
            .find_node(name)
            .ok_or_else(|| Error::model(&self.path, format!("the graph has no value called `{name}`")))
    }
}

impl Runner for Model {
    fn run(&self, inputs: &[(&str, Tensor<'_>)], outputs: &[&str]) -> Result<Vec<Output>> {
        let failed = |e: &dyn std::fmt::Display| Error::run(&self.path, reason(e));
        let mut values: Vec<(NodeId, ValueOrView<'_>)> = Vec::with_capacity(inputs.len());
        for (name, tensor) in inputs {
            let value = match &tensor.data {
                Data::F32(data) => ValueView::from_shape(&tensor.shape, data).map_err(|e| failed(&e))?.into(),
                // rten's only wide integer type is int32: it reads int64 graphs as such.
                Data::I64(data) => {
                    let data = data
                        .iter()
                        .map(|&v| i32::try_from(v))
                        .collect::<Result<Vec<_>, _>>()
                        .map_err(|_| failed(&format!("`{name}` holds a number beyond 32 bits")))?;
                    Value::from_shape(&tensor.shape, data).map_err(|e| failed(&e))?.into()
                }
            };
            values.push((self.node(name)?, value));
        }
        let ids = outputs.iter().map(|name| self.node(name)).collect::<Result<Vec<_>>>()?;
        let options = RunOptions::default().with_thread_pool(Some(self.threads.clone()));
        let results = self.model.run(values, &ids, Some(options)).map_err(|e| failed(&e))?;
        outputs
            .iter()
            .zip(results)
            .map(|(name, value)| {
                let tensor = value
                    .into_tensor::<f32>()
                    .ok_or_else(|| Error::model(&self.path, format!("`{name}` is not float32")))?;
                Ok(Output { shape: tensor.shape().to_vec(), data: tensor.into_data() })
            })
            .collect()
    }
}
