//! The work of a stream.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vitstream::Cancel;

use crate::error::Result;

/// Work that is done in turns.
pub trait Work: Send + 'static {
    /// The items for its listener.
    type Item: Send + 'static;

    /// Computes for a few milliseconds. It is not called again after an error or the end.
    ///
    /// # Errors
    /// When no more items can follow; the listener receives the error.
    fn turn(&mut self, stop: &Stop) -> Result<Turn<Self::Item>>;
}

/// The result of a turn.
#[derive(Debug)]
pub enum Turn<T> {
    /// An item for the listener.
    Item {
        /// The item for the listener.
        item: T,
        /// Its playing time.
        plays: Duration,
    },
    /// No item yet, but there is more to compute.
    Again,
    /// No item until more text arrives.
    Wait,
    /// The end.
    End,
}

/// Tells a stream that its listener has left.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stopped: AtomicBool,
    running: Mutex<Option<Cancel>>,
}

impl Stop {
    /// Returns true if the listener has left.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// Registers `cancel`, which then ends the stream's computation from now on.
    pub fn ends(&self, cancel: Cancel) {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_stopped() {
            cancel.cancel();
        }
        *running = Some(cancel);
    }

    /// Reports that the listener has left.
    pub(super) fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cancel) = &*running {
            cancel.cancel();
        }
    }
}
