//! Who is computed next, and who is let in.
//!
//! # Chunks, not requests
//! What a listener needs is never to run dry. So the streams that have something to compute stand in one queue, ordered by
//! their *deadline*: the moment at which all audio that was handed over has been played. A worker takes the earliest, computes
//! one turn of it (a chunk, some milliseconds), and puts it back. Newcomers are due at once, but the first turn of each, with its
//! encoder, is the longest of all, and nothing interrupts it: so they stand back until those who have begun have more to play
//! than some such turns take, and come before them then. Nobody runs dry while the work of all is less than the workers can do,
//! and whoever reads faster than it plays (a file) gets what is left over.
//!
//! A stream has a channel of a few items. When it is full the stream is *parked*: it costs no computing, and a bounded
//! amount of memory, until its listener takes one. When its text is still arriving it *waits*. When its [`Listener`] is
//! dropped, it is cancelled, in the middle of a turn where that is possible.
//!
//! # Admission
//! A stream weighs what share of a core it takes to be spoken as fast as it plays, its voice's real-time factor. Streams are
//! let in while the weights of those that have something to compute stay below a share of the cores, and while few enough
//! have still to begin that the next one begins soon. Weights are estimates, and the cores may have other things to do: so
//! weights count more when turns take longer than they say, and nobody is let in while somebody has little to play. Others are
//! held for a moment, a bounded number of them, and then refused.

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

/// How the scheduler schedules.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// Threads that compute: one a core.
    pub workers: usize,
    /// The share of the workers that real-time streams may take. The rest is for what is not counted: encoders of audio, the
    /// system, estimates that were too low.
    pub load: f64,
    /// The most streams at once, whatever they weigh.
    pub streams: usize,
    /// How many streams may have been let in and not begun, for each worker: two first chunks, at some 25 ms each, are 50 ms.
    pub starting: usize,
    /// How long a stream that finds no room is held.
    pub hold: Duration,
    /// How many are held at once. More would only wait to be refused.
    pub held: usize,
    /// Items of a stream's channel. With chunks of 0.2 s to 0.5 s they are a second of audio, which is also what a cancelled
    /// stream has computed in vain.
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

/// Counts since the scheduler was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Streams that were let in.
    pub accepted: u64,
    /// Streams that found no room.
    pub refused: u64,
    /// Streams whose listener left before their end.
    pub cancelled: u64,
    /// Chunks that were ready only after their listener had run dry, if it plays from the first one on.
    pub underruns: u64,
}

/// How things are now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Now {
    /// Streams that were let in and have not ended.
    pub active: usize,
    /// Those of them that have something to compute.
    pub runnable: usize,
    /// Those whose listener is slower than they are.
    pub parked: usize,
    /// Those that wait for text.
    pub waiting: usize,
    /// Streams that are held at the door.
    pub held: usize,
    /// The share of the workers that is taken, as admission counts it.
    pub load: f64,
    /// What happened so far.
    pub counts: Counts,
}

/// Computes streams, one chunk a turn. Cloning shares it; when the last clone is dropped, its threads end.
#[derive(Clone, Debug)]
pub struct Scheduler {
    shared: Arc<Shared>,
    _workers: Arc<Workers>,
}

#[derive(Debug)]
struct Shared {
    options: Options,
    state: Mutex<State>,
    /// There may be something to compute.
    work: Condvar,
    /// How many streams there are.
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
            // What a worker computes never panics through it.
            let _ = thread.join();
        }
    }
}

impl Scheduler {
    /// A scheduler with its threads.
    ///
    /// # Errors
    /// When the system has no more threads.
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

    /// Asks for room for a stream that takes the share `weight` of a core to be spoken as fast as it plays.
    ///
    /// # Errors
    /// When there is none, after a moment, and when the scheduler is [draining](Self::drain).
    pub async fn admit(&self, weight: f64) -> Result<Ticket> {
        admission::admit(&self.shared, weight).await
    }

    /// Begins a stream. Its first chunk is due now.
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

    /// How things are now.
    pub fn now(&self) -> Now {
        let state = self.shared.lock();
        let mut now = Now {
            active: state.queue.len(),
            held: state.held.len(),
            load: state.queue.weight() / self.shared.workers(),
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

    /// Lets nobody in any more.
    pub fn drain(&self) {
        let mut state = self.shared.lock();
        state.draining = true;
        state.held.refuse_all();
    }

    /// Whether [`drain`](Self::drain) was called.
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

/// Takes what a stream computes. Dropping it cancels the stream.
#[derive(Debug)]
pub struct Listener<T> {
    receiver: mpsc::Receiver<Result<T>>,
    ticket: Ticket,
}

impl<T> Listener<T> {
    /// The next item; `None` behind the last. After an error there are no more.
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

    /// Wakes the stream when there is something for it to compute.
    pub fn waker(&self) -> Waker {
        Waker { shared: self.ticket.shared().clone(), id: self.ticket.id() }
    }
}

/// Wakes a stream that [waits](Turn::Wait). One that has ended stays so.
#[derive(Clone, Debug)]
pub struct Waker {
    shared: Arc<Shared>,
    id: u64,
}

impl Waker {
    /// There is something to compute, or nothing will come any more.
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

    fn workers(&self) -> f64 {
        self.options.workers.max(1) as f64
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
                task.fail(Error::Internal("a defect of vitstream ended this stream".to_owned()));
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
                // What a stream holds is large, and freed where nobody waits for the lock.
                drop(state);
                drop(left);
                state = self.lock();
            }
        }
    }

    /// Somebody left, or has begun: there may be room.
    fn admit_held(&self, state: &mut State) {
        let State { queue, held, counts, .. } = state;
        held.admit(queue, counts, &self.options, self.workers());
        self.active.send_if_modified(|active| std::mem::replace(active, queue.len()) != queue.len());
    }
}

/// What becomes of a stream after its turn.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// It has more to compute at once.
    Again,
    /// It gave something to hear that `plays` so long; its listener runs dry at `deadline`, and had done so before when it is
    /// `late`.
    Begun { plays: Duration, deadline: Instant, late: bool },
    /// It waits for text.
    Wait,
    /// Nothing follows.
    End,
}

/// A stream, whatever it computes.
trait AnyTask: Send {
    /// Computes one turn. The channel has room.
    fn turn(&mut self) -> Next;

    /// Whether the channel has room for an item.
    fn has_room(&self) -> bool;

    /// Tells the listener that nothing more comes, and why.
    fn fail(&mut self, error: Error);
}

struct Task<W: Work> {
    work: W,
    sender: mpsc::Sender<Result<W::Item>>,
    stop: Stop,
    /// When a listener that plays from the first item on runs dry.
    due: Option<Instant>,
    /// It has had to wait for its text or its listener since: that is no gap of ours.
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
                // There was room before the turn, and nobody else sends.
                if self.sender.try_send(Ok(item)).is_err() {
                    return Next::End;
                }
                let now = Instant::now();
                let due = self.due.unwrap_or(now);
                let late = now > due && !std::mem::take(&mut self.waited);
                // A listener that ran dry plays on from here.
                let deadline = due.max(now) + plays;
                self.due = Some(deadline);
                // A listener that has not taken what there is has not run dry.
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
