//! Phonemizers shared by many threads.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{About, Phonemizer, PhonemizerError};

type Boxed = Box<dyn Phonemizer + Send>;
type Make = dyn Fn() -> Result<Boxed, PhonemizerError> + Send + Sync;

/// A pool of phonemizers: each call has one of them exclusively, and waits if all are in use.
///
/// A server uses it to keep libespeak-ng out of its own process: every phonemizer is a
/// [`Command`](super::Command) whose program calls [`serve_phonemizer`](super::serve_phonemizer), such as
/// `vitstream phonemizer-worker`. A crash or hang in C then costs only the current clause, and the program is
/// started again for the next one.
///
/// Clones share their phonemizers, so each request of a server can use a clone as its [`Phonemizer`].
///
/// ```
/// # fn main() -> Result<(), vitstream_text::phonemizer::PhonemizerError> {
/// use std::num::NonZeroUsize;
/// use vitstream_text::phonemizer::{Command, Phonemizer, Pool, TIME_LIMIT};
///
/// let worker = || Command::new("vitstream", ["phonemizer-worker".to_owned()]);
/// let pool = Pool::new(NonZeroUsize::MIN, TIME_LIMIT, move || Ok(Box::new(worker())));
/// let mut phonemizer = pool.clone();
/// # if false {
/// phonemizer.ipa("en-us", "Hello.")?;
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    make: Box<Make>,
    size: NonZeroUsize,
    patience: Duration,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Default)]
struct State {
    idle: Vec<Boxed>,
    lent: usize,
    about: Option<About>,
}

impl Pool {
    /// Creates a pool of at most `size` phonemizers, which `make` creates on demand. A call waits at most
    /// `patience` for one.
    pub fn new(
        size: NonZeroUsize,
        patience: Duration,
        make: impl Fn() -> Result<Boxed, PhonemizerError> + Send + Sync + 'static,
    ) -> Self {
        let (make, state, returned) = (Box::new(make), Mutex::default(), Condvar::new());
        Self(Arc::new(Shared { make, size, patience, state, returned }))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("size", &self.0.size).finish_non_exhaustive()
    }
}

impl Shared {
    /// Held only while a phonemizer is taken or returned, never during a request.
    fn state(&self) -> MutexGuard<'_, State> {
        // No entry is ever left half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lend(&self) -> Result<Lent<'_>, PhonemizerError> {
        let deadline = Instant::now() + self.patience;
        let mut state = self.state();
        while state.idle.is_empty() && state.lent >= self.size.get() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(PhonemizerError::Busy { count: self.size.get(), waited: self.patience });
            }
            let waited = self.returned.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.lent += 1;
        let phonemizer = state.idle.pop();
        drop(state);
        // From here on, dropping `lent` returns the phonemizer or its place.
        let mut lent = Lent { shared: self, phonemizer };
        if lent.phonemizer.is_none() {
            lent.phonemizer = Some((self.make)()?);
        }
        Ok(lent)
    }
}

/// A phonemizer lent for one call.
struct Lent<'a> {
    shared: &'a Shared,
    /// `None` if it could not be created.
    phonemizer: Option<Boxed>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.lent -= 1;
        state.about = self.phonemizer.as_ref().map(|phonemizer| phonemizer.about()).or(state.about.take());
        state.idle.extend(self.phonemizer.take());
        drop(state);
        self.shared.returned.notify_one();
    }
}

impl Phonemizer for Pool {
    fn ipa(&mut self, voice: &str, clause: &str) -> Result<String, PhonemizerError> {
        let mut lent = self.0.lend()?;
        let phonemizer = lent.phonemizer.as_mut().expect("it was lent or made");
        phonemizer.ipa(voice, clause)
    }

    /// Description of the phonemizer that answered last; empty before the first answer.
    fn about(&self) -> About {
        self.0.state().about.clone().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::phonemizer::Recorded;

    const LONG: Duration = Duration::from_secs(600);

    /// Answers with its name once all at the barrier have been asked.
    struct Waits(String, Arc<Barrier>);

    impl Phonemizer for Waits {
        fn ipa(&mut self, _: &str, clause: &str) -> Result<String, PhonemizerError> {
            match clause {
                "wait" => drop(self.1.wait()),
                "panic" => panic!("asked for"),
                _ => {}
            }
            Ok(self.0.clone())
        }

        fn about(&self) -> About {
            About { library: self.0.clone(), version: String::new() }
        }
    }

    fn pool(size: usize, patience: Duration) -> Pool {
        let (made, barrier) = (AtomicUsize::new(0), Arc::new(Barrier::new(size)));
        let make = move || {
            let number = made.fetch_add(1, Ordering::Relaxed).to_string();
            Ok(Box::new(Waits(number, barrier.clone())) as Boxed)
        };
        Pool::new(NonZeroUsize::new(size).unwrap(), patience, make)
    }

    #[test]
    fn threads_are_answered_at_the_same_time_and_no_more_are_made_than_allowed() {
        let mut pool = pool(2, LONG);
        // Each waits until another one is asked at the same time.
        let answers: Vec<String> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    let mut pool = pool.clone();
                    scope.spawn(move || pool.ipa("en", "wait").unwrap())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(answers.iter().all(|answer| ["0", "1"].contains(&&**answer)), "{answers:?}");
        let last = pool.ipa("en", "a").unwrap();
        assert_eq!(pool.about().library, last, "who is idle is asked first");
    }

    #[test]
    fn waiting_has_an_end_and_what_panics_is_given_back() {
        let pool = pool(1, Duration::ZERO);
        let mut lent = pool.0.lend().unwrap();
        let error = pool.clone().ipa("en", "a").unwrap_err();
        assert!(matches!(error, PhonemizerError::Busy { count: 1, .. }), "{error}");
        assert_eq!(lent.phonemizer.as_mut().unwrap().ipa("en", "wait").unwrap(), "0");
        drop(lent);
        let mut panics = pool.clone();
        assert!(thread::spawn(move || panics.ipa("en", "panic")).join().is_err());
        assert_eq!(pool.clone().ipa("en", "wait").unwrap(), "0");
    }

    #[test]
    fn what_cannot_be_made_is_tried_again() {
        let tries = AtomicUsize::new(0);
        let make = move || match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Err(PhonemizerError::Other("not yet".to_owned())),
            _ => Ok(Box::<Recorded>::default() as Boxed),
        };
        let mut pool = Pool::new(NonZeroUsize::MIN, Duration::ZERO, make);
        assert_eq!(pool.ipa("en", "a").unwrap_err().to_string(), "not yet");
        assert!(pool.ipa("en", "a").unwrap_err().to_string().contains("no recorded answer"));
    }
}
