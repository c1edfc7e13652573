//! What a stream computes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vitstream::Cancel;

use crate::error::Result;

/// Something that is computed turn by turn.
pub trait Work: Send + 'static {
    /// What its listener gets.
    type Item: Send + 'static;

    /// Computes for some milliseconds. After an error or an end it is not called again.
    ///
    /// # Errors
    /// When nothing more can come; the listener is told.
    fn turn(&mut self, stop: &Stop) -> Result<Turn<Self::Item>>;
}

/// What a turn gave.
#[derive(Debug)]
pub enum Turn<T> {
    /// Something to hear.
    Item {
        /// What the listener gets.
        item: T,
        /// How long it plays.
        plays: Duration,
    },
    /// Nothing yet; there is more to compute.
    Again,
    /// Nothing before more text comes.
    Wait,
    /// Nothing any more.
    End,
}

/// Tells a stream that nobody listens.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    stopped: AtomicBool,
    running: Mutex<Option<Cancel>>,
}

impl Stop {
    /// Whether nobody listens.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::SeqCst)
    }

    /// `cancel` ends what the stream computes from now on.
    pub fn ends(&self, cancel: Cancel) {
        let mut running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_stopped() {
            cancel.cancel();
        }
        *running = Some(cancel);
    }

    /// Nobody listens any more.
    pub(super) fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cancel) = &*running {
            cancel.cancel();
        }
    }
}
