//! How far some work is.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What work does next, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step<'a> {
    /// What is done next: the name of a file, or of a part of the work. Empty at the end.
    pub next: &'a str,
    /// Steps that are done.
    pub done: usize,
    /// Steps in all.
    pub of: usize,
}

type Told = dyn Fn(Step<'_>) -> ControlFlow<()> + Send + Sync;

/// Is told how far some work is, and may end it. Nobody is told by default.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<Told>>);

impl Progress {
    /// Tells `told` before each step and at the end. The work stops, as if it had never begun, when that breaks.
    pub fn new(told: impl Fn(Step<'_>) -> ControlFlow<()> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }

    /// Before a step. Whether the work is to end.
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
