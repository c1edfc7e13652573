//! Running an ONNX graph: one small trait, and the runtimes behind it.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};

#[cfg(feature = "onnxruntime")]
mod onnxruntime;
#[cfg(feature = "rten")]
mod rten;

#[cfg(feature = "onnxruntime")]
pub use onnxruntime::environment as onnxruntime_environment;

/// Who computes a pair's graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// [rten](https://crates.io/crates/rten): pure Rust, always there.
    Rten,
    /// Microsoft's ONNX Runtime, a shared library found at run time.
    OnnxRuntime,
}

impl Runtime {
    /// Every runtime, whether this build has it or not.
    pub const ALL: [Self; 2] = [Self::Rten, Self::OnnxRuntime];

    /// Whether this build has the runtime, and the runtime's library is there.
    ///
    /// # Errors
    /// Why not, and how to get it.
    pub fn available(self, library: Option<&Path>) -> Result<()> {
        match self {
            #[cfg(feature = "rten")]
            Self::Rten => Ok(()),
            #[cfg(feature = "onnxruntime")]
            Self::OnnxRuntime => onnxruntime::environment(library).map(|_| ()),
            #[allow(unreachable_patterns, reason = "which runtimes exist depends on the features")]
            other => {
                let _ = library;
                Err(Error::Runtime(format!(
                    "this build of vitstream is without the runtime {other}; build it with the feature `{other}`"
                )))
            }
        }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        if cfg!(feature = "rten") { Self::Rten } else { Self::OnnxRuntime }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rten => "rten",
            Self::OnnxRuntime => "onnxruntime",
        })
    }
}

impl FromStr for Runtime {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|runtime| runtime.to_string() == name).ok_or_else(|| {
            Error::Runtime(format!("no runtime is called {name:?}: expected rten or onnxruntime"))
        })
    }
}

/// How graphs are to be run.
#[derive(Clone, Debug)]
pub(crate) struct RuntimeOptions {
    pub(crate) runtime: Runtime,
    pub(crate) threads: usize,
    pub(crate) library: Option<PathBuf>,
}

/// A tensor on its way into a graph. The data is row-major.
pub(crate) struct Tensor<'a> {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Data<'a>,
}

pub(crate) enum Data<'a> {
    F32(Cow<'a, [f32]>),
    I64(Cow<'a, [i64]>),
}

impl<'a> Tensor<'a> {
    pub(crate) fn f32(shape: &[usize], data: impl Into<Cow<'a, [f32]>>) -> Self {
        Self { shape: shape.to_vec(), data: Data::F32(data.into()) }
    }

    pub(crate) fn i64(shape: &[usize], data: impl Into<Cow<'a, [i64]>>) -> Self {
        Self { shape: shape.to_vec(), data: Data::I64(data.into()) }
    }
}

/// A tensor out of a graph: every output of a pair is float32.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f32>,
}

/// One loaded graph. Several threads may run it; whether at once is the runtime's affair.
pub(crate) trait Runner: Send + Sync {
    /// Feeds `inputs` by name and gives the values of `outputs`, in their order.
    fn run(&self, inputs: &[(&str, Tensor<'_>)], outputs: &[&str]) -> Result<Vec<Output>>;
}

/// Loads the graph at `path`.
pub(crate) fn load(path: &Path, options: &RuntimeOptions) -> Result<Box<dyn Runner>> {
    options.runtime.available(options.library.as_deref())?;
    match options.runtime {
        #[cfg(feature = "rten")]
        Runtime::Rten => Ok(Box::new(rten::Model::load(path, options)?)),
        #[cfg(feature = "onnxruntime")]
        Runtime::OnnxRuntime => Ok(Box::new(onnxruntime::Model::load(path, options)?)),
        #[allow(unreachable_patterns, reason = "which runtimes exist depends on the features")]
        other => Err(Error::Runtime(format!("this build of vitstream is without the runtime {other}"))),
    }
}
