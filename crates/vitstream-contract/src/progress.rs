//! Progress of a long-running operation.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// One step of an operation: its name and its position among all steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step<'a> {
    /// Name of the next step: a file, or a part of the work. Empty at the end.
    pub next: &'a str,
    /// Number of finished steps.
    pub done: usize,
    /// Total number of steps.
    pub of: usize,
}

type Told = dyn Fn(Step<'_>) -> ControlFlow<()> + Send + Sync;

/// Reports the progress of an operation to a callback, which may also stop it. The default has no callback.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<Told>>);

impl Progress {
    /// Calls `told` before each step and at the end. If `told` breaks, the operation stops without leaving
    /// anything behind.
    pub fn new(told: impl Fn(Step<'_>) -> ControlFlow<()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    /// Reports the step that comes next. Returns true if the operation must stop.
    #[must_use]
    pub fn is_stopped_before(&self, next: &str, done: usize, of: usize) -> bool {
        self.0.as_ref().is_some_and(|told| told(Step { next, done, of }).is_break())
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Progress(told)" } else { "Progress(nobody)" })
    }
}
