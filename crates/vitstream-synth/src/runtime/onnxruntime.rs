//! ONNX Runtime: a shared library that is searched for on first use.

use std::env;
use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::{TensorRef, ValueType};

use super::{Data, GraphSource, Output, Runner, RuntimeOptions, Tensor, reason};
use crate::error::{Error, Result};

/// Once loaded, the library stays for the life of the process, because it cannot be unloaded safely.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// The process's only environment; programs that run graphs of their own besides voices use it too. The first
/// call that finds a library decides which one is used; `library` has no effect in later calls.
///
/// # Errors
/// When no library is found, with the places searched and how to get one.
pub fn environment(library: Option<&Path>) -> Result<Environment> {
    let mut environment = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*environment {
        return Ok(environment.clone());
    }
    let loaded = load_library(library)?;
    *environment = Some(loaded.clone());
    Ok(loaded)
}

fn load_library(library: Option<&Path>) -> Result<Environment> {
    let set = env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    let named = library.map(Path::to_owned).or(set);
    let must = named.is_some();
    let candidates = named.map_or_else(candidates, |path| vec![path]);
    let mut tried = Vec::new();
    for path in candidates {
        match ort::init_from(&path) {
            Ok(builder) => {
                log::debug!("ONNX Runtime: {}", path.display());
                return builder.with_name("vitstream").with_telemetry(false).build().map_err(|e| {
                    Error::Runtime(format!("{}: ONNX Runtime does not start: {e}", path.display()))
                });
            }
            Err(e) => tried.push(e.to_string()),
        }
    }
    let advice = if must {
        "name the shared library itself, e.g. .../onnxruntime/capi/libonnxruntime.so.1.32.0".to_owned()
    } else {
        "get it with `pip install onnxruntime` (in the active virtual environment or for python3 on PATH), or set \
         ORT_DYLIB_PATH to the library, or use rten, which needs no library"
            .to_owned()
    };
    Err(Error::Runtime(format!(
        "ONNX Runtime 1.{} or later was not found ({}): {advice}",
        ort::MINOR_VERSION,
        tried.join("; ")
    )))
}

/// Paths where the library may be, the most likely first: those of the system's loader, then Python wheels.
fn candidates() -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from(format!("{DLL_PREFIX}onnxruntime{DLL_SUFFIX}"))];
    let mut prefixes: Vec<PathBuf> = env::var_os("VIRTUAL_ENV").map(PathBuf::from).into_iter().collect();
    if let Some(python) = env::var_os("PATH").and_then(|path| {
        env::split_paths(&path).map(|dir| dir.join("python3")).find(|python| python.is_file())
    }) {
        // The link is in a virtual environment's folder, its target in the interpreter's.
        let resolved = fs::canonicalize(&python).ok();
        prefixes.extend(
            [Some(python), resolved]
                .into_iter()
                .flatten()
                .filter_map(|p| Some(p.parent()?.parent()?.to_owned())),
        );
    }
    prefixes.extend(env::home_dir().map(|home| home.join(".local")));
    for prefix in prefixes {
        for site in site_packages(&prefix) {
            paths.extend(libraries(&site.join("onnxruntime").join("capi")));
        }
    }
    let mut unique = Vec::new();
    for path in paths {
        if !unique.contains(&path) {
            unique.push(path);
        }
    }
    unique
}

fn site_packages(prefix: &Path) -> Vec<PathBuf> {
    let mut sites = vec![prefix.join("Lib").join("site-packages")];
    for python in sorted_entries(&prefix.join("lib")) {
        if python.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("python3")) {
            sites.extend([python.join("site-packages"), python.join("dist-packages")]);
        }
    }
    sites
}

/// `libonnxruntime.so.1.32.0`, but not the libraries of its providers.
fn libraries(capi: &Path) -> Vec<PathBuf> {
    let is_library = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
            let rest = name.strip_prefix(DLL_PREFIX).and_then(|name| name.strip_prefix("onnxruntime"));
            rest.is_some_and(|rest| rest.starts_with('.') && rest.contains(DLL_SUFFIX))
        })
    };
    sorted_entries(capi).into_iter().filter(is_library).collect()
}

/// The entries in reverse order, so that the newest version comes first.
fn sorted_entries(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries.reverse();
    entries
}

pub(super) struct Model {
    path: PathBuf,
    /// `Session::run` needs exclusive access: threads that share a voice take turns, push by push.
    session: Mutex<Session>,
}

impl Model {
    pub(super) fn load(graph: GraphSource<'_>, options: &RuntimeOptions) -> Result<Self> {
        let path = graph.path();
        let refused = |e: &dyn std::fmt::Display| {
            Error::model(path, format!("ONNX Runtime cannot load it: {}", reason(e)))
        };
        let environment = environment(options.library.as_deref())?;
        let mut builder = Session::builder(&environment)
            .map_err(|e| refused(&e))?
            .with_intra_threads(options.threads)
            .map_err(|e| refused(&e))?;
        let session = match graph {
            GraphSource::File(path) => builder.commit_from_file(path),
            GraphSource::Memory { bytes, .. } => builder.commit_from_memory(&bytes),
        };
        let session = session.map_err(|e| refused(&e))?;
        Ok(Self { path: path.to_owned(), session: Mutex::new(session) })
    }
}

impl Runner for Model {
    fn run(&self, inputs: &[(&str, Tensor<'_>)], outputs: &[&str]) -> Result<Vec<Output>> {
        let failed = |e: &dyn std::fmt::Display| Error::run(&self.path, reason(e));
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for (name, tensor) in inputs {
            let shape = tensor.shape.as_slice();
            let value = match &tensor.data {
                Data::F32(data) => TensorRef::from_array_view((shape, &**data)).map(SessionInputValue::from),
                Data::I64(data) => TensorRef::from_array_view((shape, &**data)).map(SessionInputValue::from),
            };
            values.push((name, value.map_err(|e| failed(&e))?));
        }
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let results = session.run(values).map_err(|e| failed(&e))?;
        outputs
            .iter()
            .map(|name| {
                let value = results.get(name).ok_or_else(|| {
                    Error::model(&self.path, format!("the graph has no output called `{name}`"))
                })?;
                // A tensor without elements may have no address for a slice.
                if let ValueType::Tensor { shape, .. } = value.dtype()
                    && shape.num_elements() == 0
                {
                    return Ok(Output { shape: lengths(shape), data: Vec::new() });
                }
                let (shape, data) = value.try_extract_tensor::<f32>().map_err(|e| failed(&e))?;
                Ok(Output { shape: lengths(shape), data: data.to_vec() })
            })
            .collect()
    }
}

fn lengths(shape: &[i64]) -> Vec<usize> {
    shape.iter().map(|&length| usize::try_from(length).unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_is_found_and_its_providers_are_not_taken_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let capi = dir.path().join("lib/python3.11/site-packages/onnxruntime/capi");
        fs::create_dir_all(&capi).unwrap();
        let name = |rest: &str| capi.join(format!("{DLL_PREFIX}onnxruntime{rest}"));
        for file in [name(&format!("{DLL_SUFFIX}.1.32.0")), name(&format!("_providers_shared{DLL_SUFFIX}"))] {
            fs::write(file, "").unwrap();
        }
        let found: Vec<_> =
            site_packages(dir.path()).iter().flat_map(|s| libraries(&s.join("onnxruntime/capi"))).collect();
        assert_eq!(found, [name(&format!("{DLL_SUFFIX}.1.32.0"))]);
    }

    #[test]
    fn a_library_that_is_none_is_an_error_that_says_what_to_do() {
        let message = load_library(Some(Path::new("/nowhere/libonnxruntime.so"))).err().unwrap().to_string();
        assert!(
            message.contains("/nowhere/libonnxruntime.so") && message.contains("libonnxruntime.so.1"),
            "{message}"
        );
    }
}
