//! Admission control.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::queue::Queue;
use super::{Counts, Options, Shared};
use crate::error::{Error, Result};

/// Time after which a refused client should try again.
const AGAIN: Duration = Duration::from_secs(1);

/// A place among the admitted streams. Dropping it returns the place.
#[derive(Debug)]
pub struct Ticket {
    shared: Arc<Shared>,
    id: u64,
}

impl Ticket {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The listener took an item.
    pub(super) fn taken(&self) {
        if self.shared.lock().queue.taken(self.id, Instant::now()) {
            self.shared.work.notify_one();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let left = {
            let mut state = self.shared.lock();
            let left = state.queue.remove(self.id);
            // A stream that has ended is not there any more.
            if left.is_some() && !state.ended {
                state.counts.cancelled += 1;
            }
            self.shared.admit_held(&mut state);
            left
        };
        drop(left);
    }
}

/// A place that has not been claimed yet. It is created under the scheduler's lock, so it must not take that
/// lock.
type Granted = Result<u64>;

/// The waiting requests.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<(f64, oneshot::Sender<Granted>)>);

impl Held {
    pub(super) fn len(&self) -> usize {
        self.0.iter().filter(|(_, sender)| !sender.is_closed()).count()
    }

    /// Admits waiting requests for which there is capacity, in order of arrival.
    pub(super) fn admit(
        &mut self,
        queue: &mut Queue,
        counts: &mut Counts,
        options: &Options,
        workers: usize,
    ) {
        while let Some((weight, sender)) = self.0.pop_front() {
            if sender.is_closed() {
                continue;
            }
            if !has_room(queue, weight, options, workers, Instant::now()) {
                self.0.push_front((weight, sender));
                return;
            }
            let id = queue.admit(weight);
            match sender.send(Ok(id)) {
                Ok(()) => counts.accepted += 1,
                // It has just given up.
                Err(_) => drop(queue.remove(id)),
            }
        }
    }

    /// Removes requests that gave up, so that they take no memory.
    fn forget_gone(&mut self) {
        self.0.retain(|(_, sender)| !sender.is_closed());
    }

    pub(super) fn refuse_all(&mut self) {
        for (_, sender) in self.0.drain(..) {
            let _ = sender.send(Err(Error::Draining));
        }
    }
}

pub(super) fn has_room(queue: &Queue, weight: f64, options: &Options, workers: usize, now: Instant) -> bool {
    // One stream is always admitted: a voice slower than real time is still a voice.
    if queue.len() == 0 {
        return true;
    }
    let (weight, cores) = (queue.weight() + weight, workers as f64);
    // Weights are estimates that leave a part of the workers free; the actual use may be all of them.
    let fits = weight <= options.load * cores && weight * queue.slowness() <= options.load.max(1.0) * cores;
    fits && queue.len() < options.streams
        && queue.starting() < options.starting.saturating_mul(workers)
        && !queue.lacks_reserve(now, workers)
}

pub(super) async fn admit(shared: &Arc<Shared>, weight: f64) -> Result<Ticket> {
    let mut receiver = {
        let mut state = shared.lock();
        if state.draining || state.ended {
            return Err(Error::Draining);
        }
        let workers = shared.workers();
        if state.held.len() == 0 && has_room(&state.queue, weight, &shared.options, workers, Instant::now()) {
            let id = state.queue.admit(weight);
            state.counts.accepted += 1;
            shared.admit_held(&mut state);
            return Ok(Ticket { shared: shared.clone(), id });
        }
        state.held.forget_gone();
        if state.held.len() >= shared.options.held {
            state.counts.refused += 1;
            return Err(Error::Overloaded(AGAIN));
        }
        let (sender, receiver) = oneshot::channel();
        state.held.0.push_back((weight, sender));
        Door { shared, receiver: Some(receiver) }
    };
    match timeout(shared.options.hold, receiver.granted()).await {
        Ok(granted) => Ok(Ticket { shared: shared.clone(), id: granted? }),
        Err(_) => {
            // It may have been admitted at this very moment.
            if let Some(id) = receiver.close()? {
                return Ok(Ticket { shared: shared.clone(), id });
            }
            shared.lock().counts.refused += 1;
            Err(Error::Overloaded(AGAIN))
        }
    }
}

/// A waiting request. If it gives up, also by being dropped, it takes no place.
struct Door<'a> {
    shared: &'a Arc<Shared>,
    receiver: Option<oneshot::Receiver<Granted>>,
}

impl Door<'_> {
    async fn granted(&mut self) -> Granted {
        let Some(receiver) = &mut self.receiver else { return Err(Error::Draining) };
        let granted = receiver.await;
        self.receiver = None;
        // The scheduler keeps every sender until it has been used.
        granted.unwrap_or(Err(Error::Draining))
    }

    fn close(&mut self) -> Result<Option<u64>> {
        let Some(mut receiver) = self.receiver.take() else { return Ok(None) };
        receiver.close();
        receiver.try_recv().ok().transpose()
    }
}

impl Drop for Door<'_> {
    fn drop(&mut self) {
        if let Ok(Some(id)) = self.close() {
            drop(Ticket { shared: self.shared.clone(), id });
        }
    }
}
