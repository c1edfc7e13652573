//! ONNX Runtime for graphs in memory.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{TensorRef, ValueType};

use crate::Error;
use crate::session::{Array, Feed};

/// ONNX Runtime, loaded.
pub(super) struct Library {
    environment: Environment,
    threads: usize,
}

impl Library {
    /// Loads the library called `named`, or the one that `vitstream_synth` finds.
    pub(super) fn load(named: Option<&Path>, threads: usize) -> Result<Self, Error> {
        let found = vitstream_synth::onnxruntime_environment(named);
        let environment = found.map_err(|error| Error::Option(error.to_string()))?;
        Ok(Self { environment, threads })
    }

    /// Loads the ONNX file in `bytes`.
    pub(super) fn session(&self, bytes: &[u8]) -> Result<Session, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let session = OrtSession::builder(&self.environment)
            .map_err(|error| text(&error))?
            .with_intra_threads(self.threads)
            .map_err(|error| text(&error))?
            .commit_from_memory(bytes)
            .map_err(|error| text(&error))?;
        Ok(Session(Mutex::new(session)))
    }
}

/// A loaded graph.
pub(super) struct Session(Mutex<OrtSession>);

impl Session {
    pub(super) fn run(
        &self,
        feeds: &[(&str, Feed<'_>)],
        outputs: &[&str],
    ) -> Result<Vec<Array<f32>>, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(feeds.len());
        for (name, feed) in feeds {
            let value = match feed {
                Feed::F32(array) => {
                    TensorRef::from_array_view((array.dims.as_slice(), array.data.as_slice()))
                        .map(SessionInputValue::from)
                }
                Feed::I64(array) => {
                    TensorRef::from_array_view((array.dims.as_slice(), array.data.as_slice()))
                        .map(SessionInputValue::from)
                }
            };
            values.push((name, value.map_err(|error| text(&error))?));
        }
        let mut session = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let results = session.run(values).map_err(|error| text(&error))?;
        let arrays = outputs.iter().map(|name| {
            let value =
                results.get(name).ok_or_else(|| format!("the graph has no output called `{name}`"))?;
            // A tensor without elements may have no address to make a slice of.
            if let ValueType::Tensor { shape, .. } = value.dtype()
                && shape.num_elements() == 0
            {
                return Ok(Array { dims: lengths(shape), data: Vec::new() });
            }
            let (shape, data) = value.try_extract_tensor::<f32>().map_err(|error| text(&error))?;
            Ok(Array { dims: lengths(shape), data: data.to_vec() })
        });
        arrays.collect()
    }
}

fn lengths(shape: &[i64]) -> Vec<usize> {
    shape.iter().map(|&length| usize::try_from(length).unwrap_or(0)).collect()
}
