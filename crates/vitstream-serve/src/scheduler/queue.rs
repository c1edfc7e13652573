//! The state of every stream.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::{AnyTask, Next, Stop};

/// Audio that all started streams must have left before a new one is computed: several turns with an encoder,
/// at 20 to 40 ms each.
const AHEAD: Duration = Duration::from_millis(120);

/// Audio that all started streams must have left before a new one is admitted. An admitted stream is computed until
/// its end, so if the cores become slower, what the streams have beyond [`AHEAD`] has to last until some of them end.
const RESERVE: Duration = Duration::from_millis(300);

/// Limit on the time for which a new stream stands back if the started ones never have that much audio.
const PATIENCE: Duration = Duration::from_millis(500);

/// Half-life, in seconds of computing, of earlier turns in the average.
const RECENT: f64 = 1.0;

/// The actual time of turns compared with the time expected from their streams' weights: larger if the cores
/// have other work, or if a weight was measured under better conditions.
#[derive(Debug)]
struct Pace {
    taken: f64,
    expected: f64,
}

impl Default for Pace {
    /// As expected, until several turns have shown otherwise: a single turn with an encoder is not
    /// significant.
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

    /// The slowdown factor; never below one, because good conditions do not last.
    fn factor(&self) -> f64 {
        (self.taken / self.expected.max(f64::MIN_POSITIVE)).max(1.0)
    }
}

/// The admitted streams.
#[derive(Debug, Default)]
pub(super) struct Queue {
    slots: HashMap<u64, Slot>,
    /// Started streams that can be computed, ordered by the time when they run out of audio, then by arrival.
    begun: BTreeSet<(Instant, u64)>,
    /// New streams that can be computed, in order of arrival.
    newcomers: BTreeSet<(Instant, u64)>,
    next_id: u64,
    /// Total weight of all streams that have something to compute.
    weight: f64,
    /// Number of streams that have not returned anything yet.
    starting: usize,
    /// Number of turns that are being computed.
    busy: usize,
    pace: Pace,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Slot {
    place: Place,
    weight: f64,
    /// `None` while it is being computed, and before it was started.
    task: Option<Box<dyn AnyTask>>,
    stop: Stop,
    starting: bool,
    /// The time when its listener runs out of audio; for a new stream, its arrival.
    deadline: Instant,
    /// Set if it was woken while it was being computed.
    woken: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Admitted, but not started.
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
    /// Returns true if there is something to compute.
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

    /// The recent slowdown of turns compared with their weights.
    pub(super) fn slowness(&self) -> f64 {
        self.pace.factor()
    }

    pub(super) fn starting(&self) -> usize {
        self.starting
    }

    /// Returns true if a started stream that is not being computed has too little audio for new streams to be
    /// computed.
    pub(super) fn is_short(&self, now: Instant) -> bool {
        self.runs_dry_before(now + AHEAD)
    }

    /// Returns true if a started stream that is not being computed has too little audio for new streams to be
    /// admitted. While one of the `workers` would be left for the new stream, it takes nothing from the others,
    /// and the result is false.
    pub(super) fn lacks_reserve(&self, now: Instant, workers: usize) -> bool {
        self.busy + self.begun.len() + self.newcomers.len() >= workers && self.runs_dry_before(now + RESERVE)
    }

    fn runs_dry_before(&self, end: Instant) -> bool {
        self.begun.first().is_some_and(|(deadline, _)| *deadline < end)
    }

    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.slots.values().map(|slot| slot.place)
    }

    /// Admits a stream.
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
        let task = slot.task.take()?;
        slot.place = Place::Running;
        self.busy += 1;
        Some((id, task))
    }

    /// Ends a turn that has `taken` this time. Returns the task if it is finished.
    pub(super) fn put_back(
        &mut self,
        id: u64,
        task: Box<dyn AnyTask>,
        next: Next,
        taken: Duration,
    ) -> Option<Box<dyn AnyTask>> {
        self.busy -= 1;
        // Its listener left during the turn.
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

    /// The listener took an item. Returns true if there is now something to compute.
    pub(super) fn taken(&mut self, id: u64, now: Instant) -> bool {
        let Some(slot) = self.slots.get_mut(&id) else { return false };
        if slot.place != Place::Parked || !slot.task.as_ref().is_some_and(|task| task.has_room()) {
            return false;
        }
        // It waited for its listener, not for us, so it is no more urgent than a new stream.
        slot.deadline = slot.deadline.max(now);
        self.place(id, Place::Runnable);
        true
    }

    /// Text has arrived. Returns true if there is now something to compute.
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

    /// Removes the stream of a listener that has left; `None` if there is no such stream any more.
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
            // Sums of fractions do not return to zero by themselves.
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
            // It starts when its text does, and takes no place until then.
            self.starting -= 1;
        }
        slot.place = place;
        if place == Place::Runnable {
            let runnable = if slot.starting { &mut self.newcomers } else { &mut self.begun };
            runnable.insert((slot.deadline, id));
        }
    }
}
