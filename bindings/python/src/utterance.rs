//! A unit of speech for the network, chunk by chunk.

use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vitstream::{Cancel, SpeechStream, wav};

use crate::error::Failure;

/// The sample format.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Format {
    Float32,
    Int16,
}

impl Format {
    pub(crate) fn parse(name: &str) -> Result<Self, Failure> {
        match name {
            "float32" => Ok(Self::Float32),
            "int16" => Ok(Self::Int16),
            other => Err(Failure::request(format!("format: expected float32 or int16, found {other:?}"))),
        }
    }
}

/// Converts float32 samples to signed 16-bit little-endian bytes.
#[pyfunction]
pub(crate) fn pcm<'py>(py: Python<'py>, samples: &[u8]) -> Bound<'py, PyBytes> {
    let samples: Vec<f32> = samples.as_chunks().0.iter().map(|&bytes| f32::from_ne_bytes(bytes)).collect();
    PyBytes::new(py, &wav::s16le(&samples))
}

/// The header of a 16-bit WAV file.
#[pyfunction]
pub(crate) fn wav_header(py: Python<'_>, sample_rate: u32, samples: u64) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &wav::header(sample_rate, Some(samples)))
}

/// The chunks of one utterance.
#[pyclass(frozen, module = "vitstream._vitstream")]
pub(crate) struct Utterance {
    stream: Mutex<SpeechStream>,
    cancel: Cancel,
    format: Format,
    volume: f32,
}

impl Utterance {
    pub(crate) fn new(stream: SpeechStream, format: Format, volume: f32) -> Self {
        let cancel = stream.cancel_handle();
        Self { stream: Mutex::new(stream), cancel, format, volume }
    }

    fn bytes(&self, mut samples: Vec<f32>) -> Vec<u8> {
        if self.volume != 1.0 {
            samples.iter_mut().for_each(|sample| *sample *= self.volume);
        }
        match self.format {
            Format::Float32 => samples.iter().flat_map(|sample| sample.to_ne_bytes()).collect(),
            Format::Int16 => wav::s16le(&samples),
        }
    }
}

/// Samples, seconds until they were ready, and true if they are the last.
type Chunk<'py> = (Bound<'py, PyBytes>, f64, bool);

#[pymethods]
impl Utterance {
    /// The next chunk, computed without the interpreter's lock; None after the last.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Chunk<'py>>> {
        let next = py.detach(|| {
            let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            let chunk = stream.next()?.map(|chunk| (self.bytes(chunk.samples), chunk.ready, chunk.last));
            Some(chunk.map_err(Failure::from))
        });
        let Some((samples, ready, last)) = next.transpose()? else { return Ok(None) };
        Ok(Some((PyBytes::new(py, &samples), ready.as_secs_f64(), last)))
    }

    /// Stops it, from any thread.
    fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Samples of each id; known after the first chunk.
    fn durations(&self, py: Python<'_>) -> Option<Vec<usize>> {
        py.detach(|| {
            let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            stream.durations().map(<[usize]>::to_vec)
        })
    }

    /// Samples of the whole utterance; known after the first chunk.
    fn total_samples(&self, py: Python<'_>) -> Option<usize> {
        py.detach(|| self.stream.lock().unwrap_or_else(PoisonError::into_inner).total_samples())
    }
}
