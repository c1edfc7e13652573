//! The native module of Python's package `vitstream`, which performs all computation. The package itself,
//! `python/vitstream`, provides the Python interface.
//!
//! The interpreter's lock is released during all computing and waiting.

mod error;
mod files;
mod reading;
mod utterance;
mod voice;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _vitstream(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<voice::Voice>()?;
    module.add_class::<utterance::Utterance>()?;
    module.add_class::<reading::TextStream>()?;
    module.add_function(wrap_pyfunction!(utterance::pcm, module)?)?;
    module.add_function(wrap_pyfunction!(utterance::wav_header, module)?)?;
    module.add_function(wrap_pyfunction!(files::export, module)?)?;
    module.add_function(wrap_pyfunction!(files::inspect, module)?)?;
    module.add_function(wrap_pyfunction!(files::verify, module)?)?;
    module.add_function(wrap_pyfunction!(files::write_file, module)?)?;
    module.add_function(wrap_pyfunction!(files::serve_graphs, module)?)
}
