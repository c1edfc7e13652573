//! Samples that wait to be played: the voice adds them as they are computed, and a device takes them out as
//! they are played.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Error;

/// The maximum length of the waiting audio, in seconds. Chunks grow up to several seconds, and a slow machine
/// needs the time in which the earlier ones play; beyond that, computing ahead only costs memory.
const SECONDS: usize = 60;

/// The device no longer takes samples.
#[derive(Debug)]
pub(super) struct Gone;

/// Signed 16-bit little-endian samples, bounded.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    capacity: usize,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// True if more of the same utterance will follow.
    within_utterance: bool,
    closed: bool,
    /// The reason why the device has stopped.
    failure: Option<Error>,
    failed: bool,
}

impl Queue {
    pub(super) fn new(sample_rate: u32) -> Self {
        let capacity = (sample_rate as usize).saturating_mul(2 * SECONDS);
        Self { state: Mutex::default(), changed: Condvar::new(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No thread leaves the state inconsistent, so a poisoned lock is safe to use.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds samples as soon as fewer than the capacity are waiting.
    pub(super) fn push(&self, bytes: &[u8]) -> Result<(), Gone> {
        let full = |state: &mut State| state.bytes.len() >= self.capacity && !state.failed;
        let mut state = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if state.failed {
            return Err(Gone);
        }
        state.bytes.extend(bytes);
        state.within_utterance = true;
        self.changed.notify_all();
        Ok(())
    }

    pub(super) fn end_utterance(&self) {
        self.lock().within_utterance = false;
    }

    /// Declares that no more samples will follow.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.within_utterance = false;
        self.changed.notify_all();
    }

    /// Stops the queue because the device has failed, with the reason.
    pub(super) fn fail(&self, error: Error) {
        let mut state = self.lock();
        state.failed = true;
        state.failure.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Number of waiting bytes.
    pub(super) fn waiting(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Returns the reason why the device failed, once.
    pub(super) fn failure(&self) -> Option<Error> {
        self.lock().failure.take()
    }

    /// True if silence now would be heard as a gap.
    #[cfg_attr(not(feature = "playback"), allow(dead_code, reason = "asked by devices that count underruns"))]
    pub(super) fn is_within_utterance(&self) -> bool {
        let state = self.lock();
        state.within_utterance || !state.bytes.is_empty()
    }

    /// Takes up to `most` bytes, at least one sample, and waits for them. Returns `None` when no more will
    /// follow.
    pub(super) fn take(&self, most: usize) -> Option<Vec<u8>> {
        let empty = |state: &mut State| state.bytes.is_empty() && !state.closed && !state.failed;
        let mut state = self.changed.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
        if state.failed || state.bytes.is_empty() {
            return None;
        }
        let n = most.min(state.bytes.len());
        let taken = state.bytes.drain(..n).collect();
        self.changed.notify_all();
        Some(taken)
    }
}

/// Functions for devices that request samples and must not wait.
#[cfg(all(feature = "playback", any(windows, target_vendor = "apple")))]
impl Queue {
    /// Takes up to `most` of the waiting bytes.
    pub(super) fn take_now(&self, most: usize) -> Vec<u8> {
        let mut state = self.lock();
        let n = most.min(state.bytes.len());
        let taken = state.bytes.drain(..n).collect();
        self.changed.notify_all();
        taken
    }

    /// True if all samples were taken and no more will follow.
    pub(super) fn is_done(&self) -> bool {
        let state = self.lock();
        state.closed && state.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn everything_comes_out_in_order_and_then_the_end() {
        let queue = Arc::new(Queue::new(1));
        let input: Vec<u8> = (0..5_000u32).map(|i| i as u8).collect();
        let writer = {
            let (queue, input) = (queue.clone(), input.clone());
            // Far more than the capacity of 120 bytes: the writer has to wait for the reader.
            thread::spawn(move || {
                input.chunks(50).for_each(|chunk| queue.push(chunk).unwrap());
                queue.close();
            })
        };
        let mut output = Vec::new();
        while let Some(bytes) = queue.take(64) {
            assert!((1..=64).contains(&bytes.len()));
            output.extend(bytes);
        }
        writer.join().unwrap();
        assert_eq!(output, input);
    }

    #[test]
    fn a_full_queue_is_left_when_the_device_fails() {
        let queue = Arc::new(Queue::new(1));
        queue.push(&[0; 500]).unwrap();
        let writer = {
            let queue = queue.clone();
            thread::spawn(move || queue.push(&[0; 2]).is_err())
        };
        queue.fail(Error::msg("unplugged"));
        queue.fail(Error::msg("a later consequence"));
        assert!(writer.join().unwrap());
        assert!(queue.take(1).is_none(), "waiting samples are dropped");
        assert_eq!(queue.failure().unwrap().to_string(), "unplugged");
    }

    #[test]
    fn silence_after_an_utterance_is_no_gap() {
        let queue = Queue::new(1);
        assert!(!queue.is_within_utterance());
        queue.push(&[0; 4]).unwrap();
        assert!(queue.is_within_utterance());
        queue.end_utterance();
        assert!(queue.is_within_utterance(), "its samples are still to be played");
        queue.take(4).unwrap();
        assert!(!queue.is_within_utterance());
    }
}
