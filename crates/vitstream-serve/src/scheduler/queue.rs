//! Where every stream stands.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::{AnyTask, Next, Stop};

/// How much those who have begun have to play before a newcomer is computed: some turns with an encoder, at 20 to 40 ms each.
const AHEAD: Duration = Duration::from_millis(120);

/// How long a newcomer stands back at most, if those who have begun never come to have that much.
const PATIENCE: Duration = Duration::from_millis(500);

/// Seconds of computing after which those before count half.
const RECENT: f64 = 1.0;

/// How long turns take beside how long they should, by the weights of their streams: longer when the cores have other things to
/// do, or when a weight was measured in a better hour.
#[derive(Debug)]
struct Pace {
    taken: f64,
    expected: f64,
}

impl Default for Pace {
    /// As expected, until some turns have shown it: one alone, with an encoder, says nothing.
    fn default() -> Self {
        Self { taken: RECENT / 2.0, expected: RECENT / 2.0 }
    }
}

impl Pace {
    fn add(&mut self, taken: Duration, expected: f64) {
        self.taken += taken.as_secs_f64();
        self.expected += expected;
        if self.taken > RECENT {
            self.taken /= 2.0;
            self.expected /= 2.0;
        }
    }

    /// How many times longer; never below one, as a good hour passes.
    fn factor(&self) -> f64 {
        (self.taken / self.expected.max(f64::MIN_POSITIVE)).max(1.0)
    }
}

/// The streams that were let in.
#[derive(Debug, Default)]
pub(super) struct Queue {
    slots: HashMap<u64, Slot>,
    /// Those that can be computed and have begun, the one first that runs dry first; of equally urgent ones the one that came
    /// first.
    begun: BTreeSet<(Instant, u64)>,
    /// Those that can be computed and have not begun, in the order in which they came.
    newcomers: BTreeSet<(Instant, u64)>,
    next_id: u64,
    /// Of all that have something to compute.
    weight: f64,
    /// Streams that have given nothing yet.
    starting: usize,
    pace: Pace,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Slot {
    place: Place,
    weight: f64,
    /// Not there while it is being computed, and before it was started.
    task: Option<Box<dyn AnyTask>>,
    stop: Stop,
    starting: bool,
    /// When its listener runs dry; when it came as long as it is starting.
    deadline: Instant,
    /// It was woken while it was being computed.
    woken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Let in, and not started.
    Admitted,
    /// In the queue.
    Runnable,
    /// With a worker.
    Running,
    /// Its channel is full.
    Parked,
    /// It has no text.
    Waiting,
}

impl Place {
    /// Whether there is something to compute.
    fn weighs(self) -> bool {
        self != Self::Waiting
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn weight(&self) -> f64 {
        self.weight
    }

    /// How many times longer turns take of late than weights say.
    pub(super) fn slowness(&self) -> f64 {
        self.pace.factor()
    }

    pub(super) fn starting(&self) -> usize {
        self.starting
    }

    /// Whether somebody who has begun, and whom nobody computes at the moment, has too little to play for newcomers.
    pub(super) fn is_short(&self, now: Instant) -> bool {
        self.begun.first().is_some_and(|(deadline, _)| *deadline < now + AHEAD)
    }

    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.slots.values().map(|slot| slot.place)
    }

    /// Lets a stream in.
    pub(super) fn admit(&mut self, weight: f64) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let slot = Slot {
            place: Place::Admitted,
            weight,
            task: None,
            stop: Stop::default(),
            starting: true,
            deadline: Instant::now(),
            woken: false,
        };
        self.slots.insert(id, slot);
        self.weight += weight;
        self.starting += 1;
        id
    }

    pub(super) fn start(&mut self, id: u64, task: Box<dyn AnyTask>, stop: Stop, now: Instant) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.task = Some(task);
        slot.stop = stop;
        slot.deadline = now;
        self.place(id, Place::Runnable);
    }

    /// The most urgent stream.
    pub(super) fn take(&mut self, now: Instant) -> Option<(u64, Box<dyn AnyTask>)> {
        let waits = |(came, _): &(Instant, u64)| *came + PATIENCE > now;
        let stands_back = self.newcomers.first().is_none_or(|newcomer| self.is_short(now) && waits(newcomer));
        let (_, id) = if stands_back { self.begun.pop_first() } else { self.newcomers.pop_first() }?;
        let slot = self.slots.get_mut(&id)?;
        slot.place = Place::Running;
        Some((id, slot.task.take()?))
    }

    /// A turn is over, and has `taken` that long. Gives back what is over with it.
    pub(super) fn put_back(
        &mut self,
        id: u64,
        task: Box<dyn AnyTask>,
        next: Next,
        taken: Duration,
    ) -> Option<Box<dyn AnyTask>> {
        // Its listener left meanwhile.
        let Some(slot) = self.slots.get_mut(&id) else { return Some(task) };
        let plays = if let Next::Begun { plays, .. } = next { plays } else { Duration::ZERO };
        self.pace.add(taken, slot.weight * plays.as_secs_f64());
        let has_room = task.has_room();
        let woken = std::mem::take(&mut slot.woken);
        let place = match next {
            Next::End => {
                self.leave(id);
                return Some(task);
            }
            Next::Begun { deadline, .. } => {
                slot.deadline = deadline;
                if std::mem::take(&mut slot.starting) {
                    self.starting -= 1;
                }
                if has_room { Place::Runnable } else { Place::Parked }
            }
            Next::Again => Place::Runnable,
            Next::Wait if woken => Place::Runnable,
            Next::Wait => Place::Waiting,
        };
        slot.task = Some(task);
        self.place(id, place);
        None
    }

    /// The listener took an item. Whether there is now something to compute.
    pub(super) fn taken(&mut self, id: u64, now: Instant) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        if slot.place != Place::Parked || !slot.task.as_ref().is_some_and(|task| task.has_room()) {
            return false;
        }
        // It waited for its listener, not for us: it is no more urgent than somebody who comes now.
        slot.deadline = slot.deadline.max(now);
        self.place(id, Place::Runnable);
        true
    }

    /// There is text. Whether there is now something to compute.
    pub(super) fn wake(&mut self, id: u64, now: Instant) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        if slot.place != Place::Waiting {
            slot.woken = true;
            return false;
        }
        slot.deadline = slot.deadline.max(now);
        self.place(id, Place::Runnable);
        true
    }

    /// The listener is gone. Gives back what it did not wait for; `None` when there was no such stream any more.
    pub(super) fn remove(&mut self, id: u64) -> Option<Slot> {
        self.slots.get(&id)?.stop.stop();
        self.leave(id)
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) -> Vec<Slot> {
        let ids: Vec<u64> = self.slots.keys().copied().collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    fn leave(&mut self, id: u64) -> Option<Slot> {
        let slot = self.slots.remove(&id)?;
        self.begun.remove(&(slot.deadline, id));
        self.newcomers.remove(&(slot.deadline, id));
        if slot.place.weighs() {
            self.weight -= slot.weight;
        }
        self.starting -= usize::from(slot.starting);
        if self.slots.is_empty() {
            // Sums of fractions do not come back to nothing by themselves.
            self.weight = 0.0;
        }
        Some(slot)
    }

    fn place(&mut self, id: u64, place: Place) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match (slot.place.weighs(), place.weighs()) {
            (true, false) => self.weight -= slot.weight,
            (false, true) => self.weight += slot.weight,
            _ => {}
        }
        if place == Place::Waiting && std::mem::take(&mut slot.starting) {
            // It begins when its text does, and takes nobody's place until then.
            self.starting -= 1;
        }
        slot.place = place;
        if place == Place::Runnable {
            let runnable = if slot.starting { &mut self.newcomers } else { &mut self.begun };
            runnable.insert((slot.deadline, id));
        }
    }
}
