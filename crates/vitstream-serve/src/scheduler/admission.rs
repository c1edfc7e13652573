//! Who is let in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::queue::Queue;
use super::{Counts, Options, Shared};
use crate::error::{Error, Result};

/// When somebody who was refused should ask again.
const AGAIN: Duration = Duration::from_secs(1);

/// A place among those that are spoken for. Dropping it gives it back.
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
            // One that came to its end is not there any more.
            if left.is_some() && !state.ended {
                state.counts.cancelled += 1;
            }
            self.shared.admit_held(&mut state);
            left
        };
        drop(left);
    }
}

/// A place in the queue that nobody has called his own yet. It is made under the scheduler's lock, so it must not take it.
type Granted = Result<u64>;

/// Those who wait at the door.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<(f64, oneshot::Sender<Granted>)>);

impl Held {
    pub(super) fn len(&self) -> usize {
        self.0.iter().filter(|(_, sender)| !sender.is_closed()).count()
    }

    /// Lets in whom there is room for, in the order in which they came.
    pub(super) fn admit(&mut self, queue: &mut Queue, counts: &mut Counts, options: &Options, workers: f64) {
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

    /// Those who gave up take no memory.
    fn forget_gone(&mut self) {
        self.0.retain(|(_, sender)| !sender.is_closed());
    }

    pub(super) fn refuse_all(&mut self) {
        for (_, sender) in self.0.drain(..) {
            let _ = sender.send(Err(Error::Draining));
        }
    }
}

pub(super) fn has_room(queue: &Queue, weight: f64, options: &Options, workers: f64, now: Instant) -> bool {
    // Somebody always is: a voice that is slower than real time is still a voice.
    if queue.len() == 0 {
        return true;
    }
    let weight = queue.weight() + weight;
    // Weights are estimates, which leave a part of the workers free; what is really taken may be all of them.
    let fits =
        weight <= options.load * workers && weight * queue.slowness() <= options.load.max(1.0) * workers;
    fits && queue.len() < options.streams
        && (queue.starting() as f64) < options.starting as f64 * workers
        && !queue.is_short(now)
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
            // It may have been let in this very moment.
            if let Some(id) = receiver.close()? {
                return Ok(Ticket { shared: shared.clone(), id });
            }
            shared.lock().counts.refused += 1;
            Err(Error::Overloaded(AGAIN))
        }
    }
}

/// Waits at the door. Whoever leaves it, also by being dropped, takes no place with him.
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
