//! ONNX Runtime for graphs in memory.

use std::env;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::{Session as OrtSession, SessionInputValue};
use ort::value::{TensorRef, ValueType};

use super::session::{Array, Feed};
use crate::Error;

/// A process can have one environment, and a library once loaded cannot be unloaded safely.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// ONNX Runtime, loaded.
pub(super) struct Library {
    environment: Environment,
    threads: usize,
}

impl Library {
    /// Loads the library called `named`, or the one that `ORT_DYLIB_PATH` names, or one where it usually is.
    pub(super) fn load(named: Option<&Path>, threads: usize) -> Result<Self, Error> {
        let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(environment) = &*environment {
            return Ok(Self { environment: environment.clone(), threads });
        }
        let set = || env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
        let candidates = match named.map(Path::to_owned).or_else(set) {
            Some(path) => vec![path],
            None => candidates(),
        };
        let mut tried = Vec::new();
        for path in candidates {
            match ort::init_from(&path) {
                Ok(builder) => {
                    let loaded =
                        builder.with_name("vitstream").with_telemetry(false).build().map_err(|error| {
                            let problem = format!("ONNX Runtime does not start: {error}");
                            Error::Run { path, problem }
                        })?;
                    *environment = Some(loaded.clone());
                    return Ok(Self { environment: loaded, threads });
                }
                Err(error) => tried.push(error.to_string()),
            }
        }
        Err(Error::Option(format!(
            "ONNX Runtime 1.{} or later was not found ({}): get it with `pip install onnxruntime`, or name the shared library \
             (libonnxruntime.so.1.*) with --onnxruntime-library or ORT_DYLIB_PATH, or verify with `--runtime rten`",
            ort::MINOR_VERSION,
            tried.join("; ")
        )))
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

/// Where the library may be, the likeliest first: where the system's loader looks, then Python wheels.
fn candidates() -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from(format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}"))];
    let mut prefixes: Vec<PathBuf> = env::var_os("VIRTUAL_ENV").map(PathBuf::from).into_iter().collect();
    let path = env::var_os("PATH").unwrap_or_default();
    let pythons = env::split_paths(&path).map(|dir| dir.join("python3")).find(|python| python.is_file());
    if let Some(python) = pythons {
        // The link's own folder is a virtual environment's, its target's the interpreter's.
        let resolved = fs::canonicalize(&python).ok();
        let prefix = |python: PathBuf| Some(python.parent()?.parent()?.to_owned());
        prefixes.extend([Some(python), resolved].into_iter().flatten().filter_map(prefix));
    }
    for site in prefixes.iter().flat_map(|prefix| entries(&prefix.join("lib"))) {
        for packages in ["site-packages", "dist-packages"] {
            let capi = site.join(packages).join("onnxruntime").join("capi");
            paths.extend(entries(&capi).into_iter().filter(|path| is_library(path)));
        }
    }
    paths
}

/// `libonnxruntime.so.1.32.0`, but not its providers' libraries.
fn is_library(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(DLL_PREFIX).and_then(|name| name.strip_prefix("onnxruntime.")).is_some()
        && name.contains(DLL_SUFFIX)
}

/// What is in a folder, the newest version first.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.reverse();
    entries
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
