//! Runs ONNX graphs: one small trait, and its implementations by runtimes.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};

#[cfg(feature = "onnxruntime")]
mod onnxruntime;
#[cfg(feature = "rten")]
mod rten;
mod wall;

pub use wall::{Wall, serve};

#[cfg(feature = "onnxruntime")]
pub use onnxruntime::environment as onnxruntime_environment;

/// The runtime that computes a pair's graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Runtime {
    /// [rten](https://crates.io/crates/rten): pure Rust, needs no library.
    Rten,
    /// Microsoft's ONNX Runtime, a shared library found at run time.
    OnnxRuntime,
}

impl Runtime {
    /// All runtimes, including those that this build lacks.
    pub const ALL: [Self; 2] = [Self::Rten, Self::OnnxRuntime];

    /// Checks that this build has the runtime, and that the runtime's library is found.
    ///
    /// # Errors
    /// The reason why not, and how to get it.
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
                    "this build of vitstream does not have the runtime {other}; build it with the feature `{other}`"
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
            Error::Runtime(format!("there is no runtime {name:?}: expected rten or onnxruntime"))
        })
    }
}

/// Options for running graphs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RuntimeOptions {
    /// The runtime that computes.
    pub runtime: Runtime,
    /// Threads, at least 1.
    pub threads: usize,
    /// Path of ONNX Runtime's shared library; searched for if absent.
    pub library: Option<PathBuf>,
    /// Process in which graphs run. Without a wall they run in this process: a panic in them becomes an
    /// error, but an abort, or memory running out, ends the process.
    pub wall: Option<Wall>,
}

impl RuntimeOptions {
    /// Options for one thread of `runtime`, in this process.
    pub fn new(runtime: Runtime) -> Self {
        Self { runtime, threads: 1, library: None, wall: None }
    }

    /// Sets the number of threads, 1 to 256.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the path of ONNX Runtime's shared library.
    pub fn library(mut self, library: impl Into<PathBuf>) -> Self {
        self.library = Some(library.into());
        self
    }

    /// Sets the process in which graphs run; without one, they run in this process.
    pub fn wall(mut self, wall: impl Into<Option<Wall>>) -> Self {
        self.wall = wall.into();
        self
    }
}

/// The source of a graph.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GraphSource<'a> {
    /// A file.
    File(&'a Path),
    /// The contents of a file, in memory.
    Memory {
        /// Name used in messages.
        name: &'a Path,
        /// The ONNX file.
        bytes: Cow<'a, [u8]>,
    },
}

impl<'a> GraphSource<'a> {
    /// The path of the file, or the name used in messages.
    pub fn path(&self) -> &'a Path {
        match self {
            Self::File(path) | Self::Memory { name: path, .. } => path,
        }
    }
}

/// An input tensor of a graph. The data is row-major.
pub struct Tensor<'a> {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The elements.
    pub data: Data<'a>,
}

/// A tensor's elements.
pub enum Data<'a> {
    /// float32
    F32(Cow<'a, [f32]>),
    /// int64
    I64(Cow<'a, [i64]>),
}

impl<'a> Tensor<'a> {
    /// A float32 tensor.
    pub fn f32(shape: &[usize], data: impl Into<Cow<'a, [f32]>>) -> Self {
        Self { shape: shape.to_vec(), data: Data::F32(data.into()) }
    }

    /// An int64 tensor.
    pub fn i64(shape: &[usize], data: impl Into<Cow<'a, [i64]>>) -> Self {
        Self { shape: shape.to_vec(), data: Data::I64(data.into()) }
    }
}

/// An output tensor of a graph: every output of a pair is float32.
#[derive(Clone, Debug)]
pub struct Output {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The elements, row-major.
    pub data: Vec<f32>,
}

/// A loaded graph. Several threads may run it; the runtime decides whether they run at the same time.
pub trait Runner: Send + Sync {
    /// Runs the graph on the named `inputs` and returns the values of `outputs`, in order.
    ///
    /// # Errors
    /// When the runtime refuses the inputs, fails, or crashes.
    fn run(&self, inputs: &[(&str, Tensor<'_>)], outputs: &[&str]) -> Result<Vec<Output>>;
}

/// Loads a graph.
///
/// # Errors
/// When the runtime is not available, refuses the graph, or crashes.
pub fn load(graph: GraphSource<'_>, options: &RuntimeOptions) -> Result<Box<dyn Runner>> {
    options.runtime.available(options.library.as_deref())?;
    if let Some(wall) = &options.wall
        && let Some(walled) = wall::Walled::load(&graph, options, wall)?
    {
        return Ok(Box::new(walled));
    }
    let (path, runtime) = (graph.path().to_owned(), options.runtime);
    let inner = caught(&path, runtime, "loading", || load_here(graph, options))?;
    Ok(Box::new(Caught { path, runtime, inner }))
}

/// Loads the graph in this process.
fn load_here(graph: GraphSource<'_>, options: &RuntimeOptions) -> Result<Box<dyn Runner>> {
    match options.runtime {
        #[cfg(feature = "rten")]
        Runtime::Rten => Ok(Box::new(rten::Model::load(graph, options)?)),
        #[cfg(feature = "onnxruntime")]
        Runtime::OnnxRuntime => Ok(Box::new(onnxruntime::Model::load(graph, options)?)),
        #[allow(unreachable_patterns, reason = "which runtimes exist depends on the features")]
        other => Err(Error::Runtime(format!("this build of vitstream does not have the runtime {other}"))),
    }
}

/// A graph in this process, whose panics are caught.
struct Caught {
    path: PathBuf,
    runtime: Runtime,
    inner: Box<dyn Runner>,
}

impl Runner for Caught {
    fn run(&self, inputs: &[(&str, Tensor<'_>)], outputs: &[&str]) -> Result<Vec<Output>> {
        caught(&self.path, self.runtime, "running", || self.inner.run(inputs, outputs))
    }
}

/// Turns a panic of `work` into an error.
fn caught<T>(path: &Path, runtime: Runtime, doing: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    // State left behind by the runtime is its own: the next call starts with the graph and new inputs.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let why = reason(&panic_message(&*panic));
        Err(Error::Crashed {
            path: path.to_owned(),
            message: format!("{runtime} crashed while {doing} it: {why}; the graph is damaged"),
        })
    })
}

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic")
}

/// A runtime's message shortened to a part of one line: it quotes names of the graph, and can be of any
/// length.
fn reason(error: &dyn fmt::Display) -> String {
    const LONGEST: usize = 400;
    let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown = String::new();
    for c in text.chars().take(LONGEST) {
        if c.is_control() { shown.extend(c.escape_debug()) } else { shown.push(c) }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_the_files_name() {
        let error = caught("g.onnx".as_ref(), Runtime::Rten, "running", || -> Result<()> {
            panic!("index {} out of\nrange", 7)
        })
        .unwrap_err();
        assert!(matches!(error, Error::Crashed { .. }));
        let message = error.to_string();
        for part in ["g.onnx", "rten", "running", "index 7 out of range"] {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }

    #[test]
    fn what_a_runtime_says_is_one_line_of_some_length() {
        assert_eq!(reason(&"node \"a\x1b[2J\"\n\n  failed "), "node \"a\\u{1b}[2J\" failed");
        assert_eq!(reason(&"ä".repeat(1000)).chars().count(), 403);
    }
}
