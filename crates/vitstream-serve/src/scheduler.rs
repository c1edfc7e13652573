//! Scheduling and admission.
//!
//! # Chunks, not requests
//! A listener must never run out of audio. The streams that have something to compute are therefore in one
//! queue, ordered by their *deadline*: the moment at which all audio sent so far has been played. A worker
//! takes the earliest one, computes one turn of it (a chunk, a few milliseconds), and puts it back. New
//! streams are due immediately, but the first turn of each, which includes its encoder, is the longest and
//! cannot be interrupted. They therefore stand back until the started streams have more audio left than
//! several such turns take, and then come before them. No stream runs out of audio as long as the total work
//! is less than the capacity of the workers, and listeners that read faster than playback (into a file) get
//! the remaining capacity.
//!
//! A stream has a channel of a few items. When it is full, the stream is *parked*: it costs no computation,
//! and a limited amount of memory, until its listener takes an item. While its text is still arriving, it
//! *waits*. When its [`Listener`] is dropped, it is cancelled, if possible in the middle of a turn.
//!
//! # Admission
//! The weight of a stream is the share of a core needed to speak it in real time: its voice's real-time
//! factor. Streams are admitted while the total weight of those that have something to compute stays below a
//! share of the cores, and while the number of streams that have not started is small enough for the next one
//! to start soon. Weights are estimates, and the cores may have other work: weights therefore count more when
//! turns take longer than expected, and no stream is admitted while another has little audio left, unless a
//! worker is free: the audio that is ready is the reserve that lasts until some streams end. A limited
//! number of other requests wait for a moment, and are then refused.

mod admission;
mod queue;
mod work;

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::error::{Error, Result};
use admission::Held;
pub use admission::Ticket;
use queue::{Place, Queue};
pub use work::{Stop, Turn, Work};

/// Options for scheduling.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Number of computing threads: one per core.
    pub workers: usize,
    /// Share of the workers that real-time streams may take. The rest is for work that is not counted: audio
    /// encoders, the system, estimates that are too low.
    pub load: f64,
    /// Limit on the number of streams, whatever their weights.
    pub streams: usize,
    /// Limit on the admitted streams that have not started, per worker: two first chunks, at about 25 ms
    /// each, take 50 ms.
    pub starting: usize,
    /// Time for which a request waits for capacity.
    pub hold: Duration,
    /// Limit on the number of waiting requests. More would only wait to be refused.
    pub held: usize,
    /// Items in a stream's channel. With chunks of 0.2 s to 0.5 s they are about a second of audio, which is
    /// also the work wasted by a cancelled stream.
    pub channel: usize,
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            workers: cores,
            load: 0.9,
            streams: 1_024,
            starting: 2,
            hold: Duration::from_millis(150),
            held: 64,
            channel: 4,
        }
    }
}

/// Counts since the scheduler was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Number of admitted streams.
    pub accepted: u64,
    /// Number of refused streams.
    pub refused: u64,
    /// Number of streams whose listener left before their end.
    pub cancelled: u64,
    /// Number of chunks that were ready only after their listener had run out of audio, if it plays from the
    /// first one on.
    pub underruns: u64,
}

/// The current state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Now {
    /// Number of streams that were admitted and have not ended.
    pub active: usize,
    /// Number of those that have something to compute.
    pub runnable: usize,
    /// Number of those whose listener is slower than they are.
    pub parked: usize,
    /// Number of those that wait for text.
    pub waiting: usize,
    /// Number of requests waiting for admission.
    pub held: usize,
    /// Share of the workers in use, as counted by admission.
    pub load: f64,
    /// Counts so far.
    pub counts: Counts,
}

/// Computes streams, one chunk per turn. Clones share it; when the last clone is dropped, its threads end.
#[derive(Clone, Debug)]
pub struct Scheduler {
    shared: Arc<Shared>,
    _workers: Arc<Workers>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    state: Mutex<State>,
    /// Signalled when there may be something to compute.
    work: Condvar,
    /// Number of streams.
    active: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    held: Held,
    counts: Counts,
    draining: bool,
    ended: bool,
}

#[derive(Debug)]
struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        let tasks = {
            let mut state = self.shared.lock();
            state.ended = true;
            state.queue.clear()
        };
        drop(tasks);
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // Panics of the work are caught inside the worker.
            let _ = thread.join();
        }
    }
}

impl Scheduler {
    /// Creates a scheduler and its threads.
    ///
    /// # Errors
    /// When the system cannot start the threads.
    pub fn new(options: Options) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            options,
            state: Mutex::default(),
            work: Condvar::new(),
            active: watch::Sender::new(0),
        });
        let mut workers = Workers { shared: shared.clone(), threads: Vec::new() };
        for number in 0..shared.options.workers.max(1) {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name(format!("speech-{number}"));
            workers.threads.push(thread.spawn(move || shared.run())?);
        }
        Ok(Self { shared, _workers: Arc::new(workers) })
    }

    /// Requests admission for a stream that needs the share `weight` of a core for real time.
    ///
    /// # Errors
    /// When there is no capacity, after a short wait, and when the scheduler is [draining](Self::drain).
    pub async fn admit(&self, weight: f64) -> Result<Ticket> {
        admission::admit(&self.shared, weight).await
    }

    /// Starts a stream. Its first chunk is due now.
    pub fn start<W: Work>(&self, ticket: Ticket, work: W) -> Listener<W::Item> {
        let (sender, receiver) = mpsc::channel(self.shared.options.channel.max(1));
        let stop = Stop::default();
        let task = Task { work, sender, stop: stop.clone(), due: None, waited: false };
        let mut state = self.shared.lock();
        let id = ticket.id();
        state.queue.start(id, Box::new(task), stop, Instant::now());
        drop(state);
        self.shared.work.notify_one();
        Listener { receiver, ticket }
    }

    /// The current state.
    pub fn now(&self) -> Now {
        let state = self.shared.lock();
        let mut now = Now {
            active: state.queue.len(),
            held: state.held.len(),
            load: state.queue.weight() / self.shared.workers() as f64,
            counts: state.counts,
            ..Now::default()
        };
        for place in state.queue.places() {
            match place {
                Place::Parked => now.parked += 1,
                Place::Waiting => now.waiting += 1,
                _ => now.runnable += 1,
            }
        }
        now
    }

    /// Stops admitting streams.
    pub fn drain(&self) {
        let mut state = self.shared.lock();
        state.draining = true;
        state.held.refuse_all();
    }

    /// Returns true if [`drain`](Self::drain) was called.
    pub fn is_draining(&self) -> bool {
        self.shared.lock().draining
    }

    /// Waits until no stream is left.
    pub async fn idle(&self) {
        let mut active = self.shared.active.subscribe();
        // The sender lives as long as this scheduler.
        let _ = active.wait_for(|&active| active == 0).await;
    }
}

/// Receives the items of a stream. Dropping it cancels the stream.
#[derive(Debug)]
pub struct Listener<T> {
    receiver: mpsc::Receiver<Result<T>>,
    ticket: Ticket,
}

impl<T> Listener<T> {
    /// The next item; `None` after the last. No items follow an error.
    pub async fn next(&mut self) -> Option<Result<T>> {
        let item = self.receiver.recv().await;
        self.ticket.taken();
        item
    }

    /// [`next`](Self::next) for threads that may block.
    pub fn blocking_next(&mut self) -> Option<Result<T>> {
        let item = self.receiver.blocking_recv();
        self.ticket.taken();
        item
    }

    /// Wakes the stream when there is something to compute.
    pub fn waker(&self) -> Waker {
        Waker { shared: self.ticket.shared().clone(), id: self.ticket.id() }
    }
}

/// Wakes a stream that [waits](Turn::Wait). A stream that has ended is not affected.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
    id: u64,
}

impl Waker {
    /// Reports that there is something to compute, or that nothing will follow.
    pub fn wake(&self) {
        if self.shared.lock().queue.wake(self.id, Instant::now()) {
            self.shared.work.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> usize {
        self.options.workers.max(1)
    }

    /// A worker.
    fn run(&self) {
        let mut state = self.lock();
        loop {
            if state.ended {
                return;
            }
            let Some((id, mut task)) = state.queue.take(Instant::now()) else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let started = Instant::now();
            let next = catch_unwind(AssertUnwindSafe(|| task.turn()));
            let next = next.unwrap_or_else(|_| {
                task.fail(Error::Internal("a bug in vitstream ended this stream".to_owned()));
                Next::End
            });
            let taken = started.elapsed();
            state = self.lock();
            if matches!(next, Next::Begun { late: true, .. }) {
                state.counts.underruns += 1;
            }
            let left = state.queue.put_back(id, task, next, taken);
            self.admit_held(&mut state);
            if left.is_some() {
                // A stream's data are large, and are freed after the lock has been released.
                drop(state);
                drop(left);
                state = self.lock();
            }
        }
    }

    /// A stream has left or started, so there may be capacity.
    fn admit_held(&self, state: &mut State) {
        let State { queue, held, counts, .. } = state;
        held.admit(queue, counts, &self.options, self.workers());
        self.active.send_if_modified(|active| std::mem::replace(active, queue.len()) != queue.len());
    }
}

/// The state of a stream after its turn.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// It has more to compute immediately.
    Again,
    /// It returned an item that plays for `plays`. Its listener runs out of audio at `deadline`; `late` means
    /// that it already had before.
    Begun { plays: Duration, deadline: Instant, late: bool },
    /// It waits for text.
    Wait,
    /// Nothing follows.
    End,
}

/// A stream with any kind of work.
trait AnyTask: Send {
    /// Computes one turn. The channel has room.
    fn turn(&mut self) -> Next;

    /// Returns true if the channel has room for an item.
    fn has_room(&self) -> bool;

    /// Tells the listener that nothing follows, and the reason.
    fn fail(&mut self, error: Error);
}

struct Task<W: Work> {
    work: W,
    sender: mpsc::Sender<Result<W::Item>>,
    stop: Stop,
    /// The time when a listener that plays from the first item on runs out of audio.
    due: Option<Instant>,
    /// Set if it has had to wait for its text or its listener since, which does not count as a gap.
    waited: bool,
}

impl<W: Work> AnyTask for Task<W> {
    fn turn(&mut self) -> Next {
        if self.stop.is_stopped() {
            return Next::End;
        }
        match self.work.turn(&self.stop) {
            Err(error) => {
                self.fail(error);
                Next::End
            }
            Ok(Turn::Again) => Next::Again,
            Ok(Turn::Wait) => {
                self.waited = true;
                Next::Wait
            }
            Ok(Turn::End) => Next::End,
            Ok(Turn::Item { item, plays }) => {
                // There was room before the turn, and there is no other sender.
                if self.sender.try_send(Ok(item)).is_err() {
                    return Next::End;
                }
                let now = Instant::now();
                let due = self.due.unwrap_or(now);
                let late = now > due && !std::mem::take(&mut self.waited);
                // A listener that ran out of audio continues from here.
                let deadline = due.max(now) + plays;
                self.due = Some(deadline);
                // A listener that has not taken the available audio has not run out.
                self.waited |= !self.has_room();
                Next::Begun { plays, deadline, late }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.sender.capacity() > 0
    }

    fn fail(&mut self, error: Error) {
        let _ = self.sender.try_send(Err(error));
    }
}

impl std::fmt::Debug for dyn AnyTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
}

#[cfg(test)]
mod tests;
