//! Stopping an utterance from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Stops an utterance from any thread. Clones stop the same utterance.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A new handle.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests a stop. The computation ends at the next opportunity: between chunks, and with our own engine
    /// also between the encoder's layers.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns true if a stop was requested.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
