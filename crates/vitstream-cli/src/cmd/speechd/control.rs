//! Stops a message that is being spoken.

use std::sync::{Mutex, MutexGuard, PoisonError};

use vitstream::Cancel;

/// The server's request about the message that is being spoken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wish {
    /// Stop immediately.
    Stop,
    /// Stop after the next of the server's own marks.
    Pause,
}

/// Shared by the thread that listens and the thread that speaks.
#[derive(Default)]
pub(super) struct Control(Mutex<State>);

#[derive(Default)]
struct State {
    is_busy: bool,
    wish: Option<Wish>,
    cancel: Option<Cancel>,
}

impl Control {
    /// Begins a message, unless another one is being spoken.
    pub(super) fn begin(&self) -> bool {
        let mut state = self.lock();
        let is_free = !state.is_busy;
        if is_free {
            *state = State { is_busy: true, ..State::default() };
        }
        is_free
    }

    /// Ends the message.
    pub(super) fn end(&self) {
        *self.lock() = State::default();
    }

    /// Records a request; ignored without a message.
    pub(super) fn wish(&self, wish: Wish) {
        let mut state = self.lock();
        if !state.is_busy || state.wish == Some(Wish::Stop) {
            return;
        }
        state.wish = Some(wish);
        if let (Wish::Stop, Some(cancel)) = (wish, &state.cancel) {
            cancel.cancel();
        }
    }

    pub(super) fn wished(&self) -> Option<Wish> {
        self.lock().wish
    }

    /// The computation from now on, which a stop cancels.
    pub(super) fn computing(&self, cancel: Cancel) {
        let mut state = self.lock();
        if state.wish == Some(Wish::Stop) {
            cancel.cancel();
        }
        state.cancel = Some(cancel);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_reaches_what_is_computed_before_and_after_it() {
        let control = Control::default();
        // There is nothing to stop.
        control.wish(Wish::Stop);
        assert!(control.begin() && !control.begin());
        assert_eq!(control.wished(), None);
        let [first, second] = [Cancel::new(), Cancel::new()];
        control.computing(first.clone());
        control.wish(Wish::Pause);
        assert!(!first.is_cancelled());
        control.wish(Wish::Stop);
        assert!(first.is_cancelled());
        control.wish(Wish::Pause);
        assert_eq!(control.wished(), Some(Wish::Stop));
        control.computing(second.clone());
        assert!(second.is_cancelled());
        control.end();
        assert!(control.begin());
        assert_eq!(control.wished(), None);
    }
}
