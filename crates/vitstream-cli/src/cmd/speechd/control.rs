//! How a message that is being spoken is stopped.

use std::sync::{Mutex, MutexGuard, PoisonError};

use vitstream::Cancel;

/// What the server wants of the message that is being spoken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Wish {
    /// Nothing more of it, at once.
    Stop,
    /// Nothing more behind the next of the server's own marks.
    Pause,
}

/// Shared by who listens and who speaks.
#[derive(Default)]
pub(super) struct Control(Mutex<State>);

#[derive(Default)]
struct State {
    is_busy: bool,
    wish: Option<Wish>,
    cancel: Option<Cancel>,
}

impl Control {
    /// Begins a message; not while there is another.
    pub(super) fn begin(&self) -> bool {
        let mut state = self.lock();
        let is_free = !state.is_busy;
        if is_free {
            *state = State { is_busy: true, ..State::default() };
        }
        is_free
    }

    /// The message is over.
    pub(super) fn end(&self) {
        *self.lock() = State::default();
    }

    /// Without a message there is nothing to wish.
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

    /// What is computed from now on, which a stop ends.
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
        // Nothing is there to be stopped.
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
