//! The system's own sound interface, CoreAudio or WASAPI.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use cpal::traits::{DeviceTrait as _, HostTrait as _, StreamTrait as _};
use cpal::{BufferSize, OutputCallbackInfo, Stream, StreamConfig};

use super::queue::Queue;
use super::{Device, late};

/// Interval of the checks that the device still exists.
const LOOK: Duration = Duration::from_millis(100);

/// The system's default device.
pub(super) struct Native {
    queue: Arc<Queue>,
    stream: Stream,
    underruns: Arc<AtomicU64>,
    /// Receives, once the last sample was taken, the time until it will have been played.
    taken: Receiver<Duration>,
}

impl Native {
    /// Also returns the device's sample rate.
    pub(super) fn open(queue: &Arc<Queue>, sample_rate: u32) -> Result<(Self, u32)> {
        let device = cpal::default_host().default_output_device().context("there is no sound device")?;
        let default = device.default_output_config()?;
        let mut refusal = None;
        // Some devices accept any rate, others only their own.
        for rate in [sample_rate, default.sample_rate()] {
            let channels = default.channels();
            let config = StreamConfig { channels, sample_rate: rate, buffer_size: BufferSize::Default };
            let underruns = Arc::new(AtomicU64::new(0));
            let (tell, taken) = channel();
            let mut feed = Feed {
                queue: queue.clone(),
                underruns: underruns.clone(),
                channels: usize::from(channels).max(1),
                started: false,
                dry: false,
                tell,
            };
            let failed = queue.clone();
            let stream = device.build_output_stream(
                config,
                move |frames: &mut [f32], info: &OutputCallbackInfo| feed.fill(frames, info, rate),
                move |error| failed.fail(anyhow!("the sound device: {error}")),
                None,
            );
            match stream.and_then(|stream| stream.play().map(|()| stream)) {
                Ok(stream) => return Ok((Self { queue: queue.clone(), stream, underruns, taken }, rate)),
                Err(error) => refusal = Some(error),
            }
        }
        Err(refusal.map_or_else(|| anyhow!("the sound device accepts no samples"), Error::from))
    }
}

impl Device for Native {
    fn finish(self: Box<Self>, deadline: Instant) -> Result<Option<u64>> {
        let Self { queue, stream, underruns, taken } = *self;
        let latency = loop {
            match taken.recv_timeout(LOOK) {
                Ok(latency) => break latency,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break Duration::ZERO,
            }
            if let Some(failure) = queue.failure() {
                return Err(failure);
            }
            if Instant::now() >= deadline {
                return Err(late());
            }
        };
        thread::sleep(latency);
        drop(stream);
        queue.failure().map_or_else(|| Ok(Some(underruns.load(Ordering::Relaxed))), Err)
    }
}

/// Supplies the samples that the device requests, in the device's own thread.
struct Feed {
    queue: Arc<Queue>,
    underruns: Arc<AtomicU64>,
    channels: usize,
    started: bool,
    /// True if the current silence was counted already.
    dry: bool,
    tell: Sender<Duration>,
}

impl Feed {
    fn fill(&mut self, frames: &mut [f32], info: &OutputCallbackInfo, rate: u32) {
        let count = frames.len() / self.channels;
        // Checked before samples are taken: if too few are waiting now, more were still to come.
        let within = self.queue.is_within_utterance();
        let bytes = self.queue.take_now(2 * count);
        let samples =
            bytes.chunks_exact(2).map(|pair| f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_767.0);
        let given = samples.len();
        frames.fill(0.0);
        for (frame, sample) in frames.chunks_exact_mut(self.channels).zip(samples) {
            frame.fill(sample);
        }
        self.started |= given > 0;
        let dry = given < count && within && self.queue.is_within_utterance();
        if dry && self.started && !self.dry {
            self.underruns.fetch_add(1, Ordering::Relaxed);
        }
        self.dry = dry;
        if self.queue.is_done() {
            let at = info.timestamp();
            let buffer = Duration::from_secs_f64(count as f64 / f64::from(rate.max(1)));
            // The receiver exists until it has received this.
            let _ = self.tell.send(at.playback.duration_since(at.callback) + buffer);
        }
    }
}
