//! Samples that wait to be played: the voice puts them in as they are computed, a device takes them out as they are heard.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Error;

/// How much may wait, in seconds. Chunks grow up to several seconds, and a slow machine needs the time that the ones before
/// play; beyond that a voice that computes ahead costs memory only.
const SECONDS: usize = 60;

/// Nobody takes samples out any more.
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
    /// Whether more of the same utterance is to come.
    within_utterance: bool,
    closed: bool,
    /// Why the device plays no more.
    failure: Option<Error>,
    failed: bool,
}

impl Queue {
    pub(super) fn new(sample_rate: u32) -> Self {
        let capacity = (sample_rate as usize).saturating_mul(2 * SECONDS);
        Self { state: Mutex::default(), changed: Condvar::new(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is left half done by those who hold it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds samples, once fewer than the capacity wait.
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

    /// Nothing more will come.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.within_utterance = false;
        self.changed.notify_all();
    }

    /// The device plays no more, and this is why.
    pub(super) fn fail(&self, error: Error) {
        let mut state = self.lock();
        state.failed = true;
        state.failure.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Why the device failed, once.
    pub(super) fn failure(&self) -> Option<Error> {
        self.lock().failure.take()
    }

    /// Whether silence now would be heard as a gap.
    #[cfg_attr(not(feature = "playback"), allow(dead_code, reason = "asked by devices that count underruns"))]
    pub(super) fn is_within_utterance(&self) -> bool {
        let state = self.lock();
        state.within_utterance || !state.bytes.is_empty()
    }

    /// Up to `most` bytes, at least one sample; waits for them. `None` when there will be no more.
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

/// For devices that ask, and do not wait.
#[cfg(all(feature = "playback", any(windows, target_vendor = "apple")))]
impl Queue {
    /// Up to `most` bytes of those that are there.
    pub(super) fn take_now(&self, most: usize) -> Vec<u8> {
        let mut state = self.lock();
        let n = most.min(state.bytes.len());
        let taken = state.bytes.drain(..n).collect();
        self.changed.notify_all();
        taken
    }

    /// Whether all was taken that will ever come.
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
        assert!(queue.take(1).is_none(), "what waited is not played any more");
        assert_eq!(queue.failure().unwrap().to_string(), "unplugged");
    }

    #[test]
    fn silence_after_an_utterance_is_no_gap() {
        let queue = Queue::new(1);
        assert!(!queue.is_within_utterance());
        queue.push(&[0; 4]).unwrap();
        assert!(queue.is_within_utterance());
        queue.end_utterance();
        assert!(queue.is_within_utterance(), "its samples are not played yet");
        queue.take(4).unwrap();
        assert!(!queue.is_within_utterance());
    }
}
