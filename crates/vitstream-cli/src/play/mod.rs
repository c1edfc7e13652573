//! Playback: sends samples to the loudspeaker with whatever this machine has.
//!
//! Samples go into a [queue](queue::Queue), and a device takes them out as it plays. On Linux and similar
//! systems the device is PulseAudio or PipeWire, used over its socket; without one, it is the first program
//! found that plays its input. On macOS and Windows it is the system's own interface.

#[cfg(all(feature = "playback", any(windows, target_vendor = "apple")))]
mod native;
mod program;
#[cfg(all(feature = "playback", unix, not(target_vendor = "apple")))]
mod pulse;
mod queue;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow, bail};
use vitstream::wav;

use queue::Queue;

/// This machine has nothing to play with.
#[derive(Debug)]
pub(crate) struct NoPlayer;

impl fmt::Display for NoPlayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no sound device or player found; write a file with -o FILE or samples with --raw")
    }
}

impl std::error::Error for NoPlayer {}

/// The maximum time to wait for the device to finish. Sound servers and players buffer about two seconds
/// beyond the queue. A device that takes longer was stopped by a person or has disappeared, and without this
/// limit the program would never end.
const MOST_BUFFERED: Duration = Duration::from_secs(30);

/// A device that plays the samples of a queue.
trait Device {
    /// Waits until everything was played, but not beyond `deadline`; the queue is closed already, or has
    /// failed. Returns how often the sound was interrupted within an utterance, if the device can tell.
    fn finish(self: Box<Self>, deadline: Instant) -> Result<Option<u64>>;
}

/// The error for a device that did not finish in time.
fn late() -> Error {
    anyhow!("the sound device has stopped: it did not finish playing in time")
}

/// A loudspeaker in use. It falls silent at once if it is dropped without [`finish`](Self::finish).
pub(crate) struct Player {
    queue: Arc<Queue>,
    /// `None` after a failure.
    device: Option<Box<dyn Device>>,
    clock: Clock,
    /// For a device with another sample rate.
    #[cfg(all(feature = "playback", any(windows, target_vendor = "apple")))]
    resampler: Option<vitstream_resample::Resampler>,
}

impl Player {
    /// Opens the first device that works. The error is [`NoPlayer`] if there is none.
    pub(crate) fn open(sample_rate: u32) -> Result<Self> {
        let queue = Arc::new(Queue::new(sample_rate));
        #[cfg(all(feature = "playback", any(windows, target_vendor = "apple")))]
        match native::Native::open(&queue, sample_rate) {
            Ok((device, rate)) => {
                let resampler =
                    (rate != sample_rate).then(|| vitstream_resample::Resampler::new(sample_rate, rate));
                let mut player = Self::new(queue, Box::new(device), sample_rate);
                player.resampler = resampler.transpose()?;
                return Ok(player);
            }
            Err(error) => passed_over("the system's sound device", &error),
        }
        let device = open_device(&queue, sample_rate).ok_or(NoPlayer)?;
        Ok(Self::new(queue, device, sample_rate))
    }

    fn new(queue: Arc<Queue>, device: Box<dyn Device>, sample_rate: u32) -> Self {
        Self {
            queue,
            device: Some(device),
            clock: Clock::new(sample_rate),
            #[cfg(all(feature = "playback", any(windows, target_vendor = "apple")))]
            resampler: None,
        }
    }

    /// Plays a chunk after all earlier ones. Blocks while much more audio is waiting than the device has
    /// played.
    pub(crate) fn write(&mut self, samples: &[f32]) -> Result<()> {
        self.clock.arrived(samples.len(), Instant::now());
        #[cfg(all(feature = "playback", any(windows, target_vendor = "apple")))]
        if let Some(resampler) = &mut self.resampler {
            let samples = resampler.push(samples)?;
            return self.push(&samples);
        }
        self.push(samples)
    }

    fn push(&mut self, samples: &[f32]) -> Result<()> {
        if self.queue.push(&wav::s16le(samples)).is_err() {
            // The device knows best why playback ended.
            if let Some(device) = self.device.take() {
                device.finish(Instant::now() + MOST_BUFFERED)?;
            }
            bail!("the sound device is gone");
        }
        Ok(())
    }

    /// Marks the utterance as complete: a pause from here on is not an underrun.
    pub(crate) fn end_utterance(&mut self) -> Result<()> {
        #[cfg(all(feature = "playback", any(windows, target_vendor = "apple")))]
        if let Some(resampler) = &mut self.resampler {
            let rest = resampler.finish()?;
            self.push(&rest)?;
        }
        self.clock.utterance_ended();
        self.queue.end_utterance();
        Ok(())
    }

    /// Waits until everything was played. Returns how often the sound was interrupted within an utterance
    /// because the next samples were missing.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.end_utterance()?;
        self.queue.close();
        let waiting = self.queue.waiting() as f64 / (2.0 * f64::from(self.clock.sample_rate));
        let deadline = Instant::now() + Duration::from_secs_f64(waiting) + MOST_BUFFERED;
        let counted = self.device.map(|device| device.finish(deadline)).transpose()?.flatten();
        Ok(counted.unwrap_or(self.clock.underruns))
    }
}

/// Reports, with `-v`, a way to play that exists but does not work.
fn passed_over(name: &str, error: &Error) {
    tracing::info!("not played by {name}: {error:#}");
}

/// Opens the first device that works.
fn open_device(queue: &Arc<Queue>, sample_rate: u32) -> Option<Box<dyn Device>> {
    #[cfg(all(feature = "playback", unix, not(target_vendor = "apple")))]
    match pulse::Pulse::open(queue, sample_rate) {
        Ok(device) => return Some(Box::new(device)),
        Err(error) => passed_over("PulseAudio or PipeWire", &error),
    }
    for player in &program::PLAYERS {
        match program::Program::start(player, queue, sample_rate) {
            Ok(Some(device)) => return Some(Box::new(device)),
            Ok(None) => {}
            Err(error) => passed_over(player.name, &error),
        }
    }
    None
}

/// Detects underruns from the clock alone: samples that arrive after all earlier ones must have been played
/// are late.
struct Clock {
    sample_rate: u32,
    /// The time until which there is something to play; `None` between utterances.
    until: Option<Instant>,
    underruns: u64,
}

impl Clock {
    fn new(sample_rate: u32) -> Self {
        Self { sample_rate, until: None, underruns: 0 }
    }

    fn arrived(&mut self, samples: usize, now: Instant) {
        let plays = Duration::from_secs_f64(samples as f64 / f64::from(self.sample_rate));
        let start = match self.until {
            Some(until) if until >= now => until,
            Some(_) => {
                self.underruns += 1;
                now
            }
            None => now,
        };
        self.until = Some(start + plays);
    }

    fn utterance_ended(&mut self) {
        self.until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_that_come_too_late_are_underruns() {
        let mut clock = Clock::new(1_000);
        let start = Instant::now();
        let mut at = |ms, samples| {
            clock.arrived(samples, start + Duration::from_millis(ms));
            clock.underruns
        };
        assert_eq!(at(0, 100), 0);
        assert_eq!(at(90, 50), 0, "audio until 150");
        assert_eq!(at(150, 10), 0, "just in time");
        assert_eq!(at(200, 10), 1, "40 ms of silence");
        assert_eq!(at(205, 10), 1, "the gap delays the rest");
        assert_eq!(at(219, 10), 1);
        clock.utterance_ended();
        clock.arrived(10, start + Duration::from_secs(9));
        assert_eq!(clock.underruns, 1, "silence between utterances is no underrun");
    }
}
