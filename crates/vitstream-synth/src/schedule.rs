//! The sizes of chunks.
//!
//! # The cost model
//! A push of `n` frames takes `overhead + n * per_frame` seconds ([`Cost`]). A decoder with windows computes
//! its overlap again on every push, so its overlap is part of the overhead. Playing `n` frames takes `n * T`,
//! where `T` is the hop length divided by the sample rate.
//!
//! - *The first chunk* is the smallest that could be repeated for ever: with
//!   `n * T >= margin * (overhead + n * per_frame)`, its own playing time covers the computation of a second
//!   one like it. A smaller chunk would start earlier and then stall.
//! - *Each later chunk* is as large as the audio already available allows: the next push must be ready while
//!   the `buffered` seconds play, so `margin * (overhead + n * per_frame) <= buffered`. It is at most twice
//!   the previous chunk, because the costs are estimates and a small chunk risks little.
//! - *No chunk is larger than worthwhile*: once the overhead is below a tenth of a push, larger chunks gain
//!   little, and cost memory and the time that a cancelled utterance still takes.
//!
//! If a frame takes longer to compute than to play, no schedule can keep up; chunks then double up to that
//! largest size, which finishes soonest.
//!
//! The sizes depend only on the costs, never on a clock, so the same request is divided the same way every
//! time.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

/// Factor by which estimated costs may be too low.
const MARGIN: f64 = 1.25;

/// Limit on the frames of a chunk, whatever the costs: 512 frames are about six seconds.
const LARGEST: usize = 512;

/// The cost of a push on some device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Seconds that a push takes regardless of its number of frames.
    pub overhead: f64,
    /// Seconds per frame.
    pub per_frame: f64,
}

impl Cost {
    /// The cost of a medium voice on a slow core (three times slower than a current desktop's) with the
    /// stateful decoder: for schedules without calibration.
    pub const STATEFUL: Self = Self { overhead: 4e-3, per_frame: 2e-3 };

    /// The same for windows that overlap by `overlap` frames in all.
    pub fn windowed(overlap: usize) -> Self {
        Self {
            overhead: Self::STATEFUL.overhead + overlap as f64 * Self::STATEFUL.per_frame,
            ..Self::STATEFUL
        }
    }

    /// The line through `(frames, seconds)` pairs with the least squares of the relative error and without
    /// negative parts. `None` for fewer than two different lengths.
    pub fn fit(measured: &[(usize, f64)]) -> Option<Self> {
        let (mut w, mut x, mut y, mut xx, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for &(frames, seconds) in measured {
            let (n, weight) = (frames as f64, 1.0 / (seconds * seconds));
            w += weight;
            x += weight * n;
            y += weight * seconds;
            xx += weight * n * n;
            xy += weight * n * seconds;
        }
        let determinant = w * xx - x * x;
        let cost =
            Self { overhead: (xx * y - x * xy) / determinant, per_frame: (w * xy - x * y) / determinant };
        let distinct = measured.iter().any(|&(frames, _)| frames != measured[0].0);
        (distinct && cost.overhead.is_finite() && cost.per_frame.is_finite())
            .then(|| Self { overhead: cost.overhead.max(0.0), per_frame: cost.per_frame.max(1e-9) })
    }

    /// Seconds for a push of `frames`.
    pub fn seconds(&self, frames: usize) -> f64 {
        self.overhead + frames as f64 * self.per_frame
    }

    /// The largest number of frames that are ready within `seconds`.
    fn within(&self, seconds: f64) -> usize {
        ((seconds - self.overhead) / self.per_frame).floor().clamp(0.0, LARGEST as f64) as usize
    }

    /// The smallest chunk that can be repeated for ever, or, if there is none, the largest useful one.
    fn sustained(&self, frame: f64) -> usize {
        let gain = frame - MARGIN * self.per_frame;
        if gain <= 0.0 {
            return self.largest();
        }
        ((MARGIN * self.overhead / gain).ceil() as usize).clamp(1, LARGEST)
    }

    /// From this size on, the overhead is below a tenth.
    fn largest(&self) -> usize {
        ((10.0 * self.overhead / self.per_frame).ceil() as usize).clamp(16, LARGEST)
    }
}

/// The cost of pushes on one device, for the voices that were measured on it. Written by `vitstream bench
/// --calibrate`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// Costs by [`Voice::profile_key`](crate::Voice::profile_key): the runtime, its threads, the decoder and
    /// the voice.
    pub costs: BTreeMap<String, Cost>,
}

/// The caller's choice of how to divide an utterance into chunks.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Chunking {
    /// As explained in this module's documentation.
    #[default]
    Scheduled,
    /// So too, but the first chunks are no smaller than this many frames, at least 1: for whoever cannot be sure to compute the
    /// next one at once.
    ScheduledFrom(usize),
    /// Always this many frames, except in the last chunk. At least 1.
    Fixed(usize),
    /// These numbers of frames in order, each at least 1; the last one is repeated as long as needed.
    List(Vec<usize>),
    /// Everything at once.
    Whole,
}

/// The endless sequence of an utterance's chunk sizes.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    chunking: Chunking,
    cost: Cost,
    /// Duration of a frame in seconds.
    frame: f64,
    /// Seconds of audio that are ready and not yet played, even if every push takes longer by the margin.
    buffered: f64,
    previous: Option<usize>,
    index: usize,
}

impl Schedule {
    pub(crate) fn new(chunking: Chunking, cost: Cost, frame: f64) -> Self {
        Self { chunking, cost, frame, buffered: 0.0, previous: None, index: 0 }
    }

    /// Frames of the next chunk, at least 1.
    pub(crate) fn next_frames(&mut self) -> usize {
        let frames = match &self.chunking {
            Chunking::Whole => usize::MAX,
            Chunking::Fixed(frames) => *frames,
            Chunking::List(list) => list.get(self.index).or(list.last()).copied().unwrap_or(1),
            Chunking::Scheduled => self.scheduled(1),
            Chunking::ScheduledFrom(least) => self.scheduled(*least),
        };
        self.index += 1;
        frames.max(1)
    }

    fn scheduled(&mut self, least: usize) -> usize {
        let largest = self.cost.largest();
        let frames = match self.previous {
            None => self.cost.sustained(self.frame),
            Some(previous) => {
                let keeps_up = self.cost.within(self.buffered / MARGIN);
                let behind = self.frame <= MARGIN * self.cost.per_frame;
                let wanted = if behind { 2 * previous } else { keeps_up.clamp(1, 2 * previous) };
                // Never below the size that can be repeated: smaller chunks would fall behind for good.
                wanted.max(self.cost.sustained(self.frame)).min(largest.max(self.cost.sustained(self.frame)))
            }
        };
        let frames = frames.max(least.min(LARGEST));
        // The first push starts the clock: playing begins when it is done.
        let spent = if self.previous.is_some() { MARGIN * self.cost.seconds(frames) } else { 0.0 };
        self.buffered = (self.buffered - spent).max(0.0) + frames as f64 * self.frame;
        self.previous = Some(frames);
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME: f64 = 256.0 / 22_050.0;

    fn sizes(cost: Cost, count: usize) -> Vec<usize> {
        let mut schedule = Schedule::new(Chunking::Scheduled, cost, FRAME);
        (0..count).map(|_| schedule.next_frames()).collect()
    }

    proptest! {
        /// Whatever the costs of a device, if it can keep up at all then the audio never runs out, even if
        /// every push takes longer than estimated by the margin; and chunks do not become smaller than the
        /// first.
        #[test]
        fn never_starves(overhead in 0.0..0.05f64, per_frame in 1e-5..FRAME / 1.3) {
            let cost = Cost { overhead, per_frame };
            let sizes = sizes(cost, 40);
            let mut buffered = sizes[0] as f64 * FRAME;
            // A device on which even the largest chunk cannot be repeated cannot keep up.
            prop_assume!(buffered >= MARGIN * cost.seconds(sizes[0]));
            for &frames in &sizes[1..] {
                buffered -= MARGIN * cost.seconds(frames);
                prop_assert!(buffered >= -1e-9, "{sizes:?}: {buffered}");
                buffered += frames as f64 * FRAME;
                prop_assert!(frames >= sizes[0] && frames <= LARGEST);
            }
        }
    }

    #[test]
    fn a_fast_device_starts_small_and_grows() {
        let sizes = sizes(Cost { overhead: 1e-3, per_frame: 5e-4 }, 12);
        assert_eq!(sizes[0], 1);
        assert!(sizes.windows(2).all(|pair| pair[0] <= pair[1] && pair[1] <= 2 * pair[0]), "{sizes:?}");
        assert_eq!(sizes[11], 20);
    }

    #[test]
    fn whoever_may_be_kept_waiting_starts_larger() {
        let mut schedule =
            Schedule::new(Chunking::ScheduledFrom(4), Cost { overhead: 1e-3, per_frame: 5e-4 }, FRAME);
        let sizes: Vec<usize> = (0..12).map(|_| schedule.next_frames()).collect();
        assert_eq!(sizes[0], 4);
        assert!(sizes.windows(2).all(|pair| pair[0] <= pair[1] && pair[1] <= 2 * pair[0]), "{sizes:?}");
        assert_eq!(sizes[11], 20);
        // What is larger by itself stays so.
        let mut schedule =
            Schedule::new(Chunking::ScheduledFrom(4), Cost { overhead: 0.1, per_frame: 0.02 }, FRAME);
        assert_eq!(schedule.next_frames(), 50);
    }

    #[test]
    fn a_device_that_cannot_keep_up_takes_the_largest_chunks() {
        let sizes = sizes(Cost { overhead: 0.1, per_frame: 0.02 }, 5);
        assert_eq!(sizes, [50; 5]);
    }

    #[test]
    fn fit_finds_the_line() {
        let line = |n: usize| (n, 3e-3 + n as f64 * 7e-4);
        let cost = Cost::fit(&[line(1), line(8), line(64)]).unwrap();
        assert!((cost.overhead - 3e-3).abs() < 1e-9 && (cost.per_frame - 7e-4).abs() < 1e-9, "{cost:?}");
        assert_eq!(Cost::fit(&[line(8), line(8)]), None);
        assert_eq!(Cost::fit(&[]), None);
    }
}
