//! Opus in Ogg, packet by packet.

use opus_pure::{Application, MAX_PACKET_BYTES, OggOpusWriter, OpusEncoder, OpusHead};

use super::failed;
use crate::error::Result;

/// The rates that Opus supports.
pub(super) const RATES: [u32; 5] = [8_000, 12_000, 16_000, 24_000, 48_000];

/// Bits per second: from about this rate on, speech at 24 kHz is transparent.
const BITS: i32 = 32_000;

/// Half of the encoder's maximum: twice as fast, with no audible difference.
const COMPLEXITY: i32 = 5;

/// Packets per second.
const PACKETS: usize = 50;

/// Ogg's clock rate.
const TICKS: usize = 48_000;

/// Distinguishes the logical stream from others in the same file. There are no others, and the same speech
/// must give the same bytes.
const SERIAL: u32 = 1;

pub(super) struct Opus {
    encoder: OpusEncoder,
    /// `None` after the stream is finished.
    writer: Option<OggOpusWriter<Vec<u8>>>,
    rate: usize,
    pre_skip: usize,
    /// Samples kept until they fill a packet.
    waiting: Vec<f32>,
    taken: usize,
}

impl Opus {
    pub(super) fn new(rate: u32) -> Result<Self> {
        let mut encoder = OpusEncoder::new(rate as i32, 1, Application::Audio).map_err(failed_opus)?;
        encoder.bitrate_bps = BITS;
        encoder.complexity = COMPLEXITY;
        let head = OpusHead::for_encoder(&encoder, rate);
        let pre_skip = usize::from(head.pre_skip);
        let tags = opus_pure::OpusTags::new();
        let mut writer = OggOpusWriter::with_serial(Vec::new(), head, tags, SERIAL).map_err(failed_opus)?;
        // One page per packet, so that no packet waits for a page to fill.
        writer.set_page_target(1);
        Ok(Self {
            encoder,
            writer: Some(writer),
            rate: rate as usize,
            pre_skip,
            waiting: Vec::new(),
            taken: 0,
        })
    }

    pub(super) fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>> {
        self.taken += samples.len();
        self.waiting.extend(samples);
        let frame = self.rate / PACKETS;
        let waiting = std::mem::take(&mut self.waiting);
        let mut frames = waiting.chunks_exact(frame);
        for samples in frames.by_ref() {
            self.packet(samples, None)?;
        }
        self.waiting = frames.remainder().to_vec();
        Ok(self.writer.as_mut().and_then(OggOpusWriter::get_mut).map(std::mem::take).unwrap_or_default())
    }

    /// The encoder's last samples are flushed by the silence appended after them, and the last page states
    /// the end of the audio.
    pub(super) fn finish(&mut self) -> Result<Vec<u8>> {
        let frame = self.rate / PACKETS;
        let ticks = TICKS / self.rate;
        let ends = (self.pre_skip + self.taken * ticks) as u64;
        let mut rest = std::mem::take(&mut self.waiting);
        let missing = rest.len() + self.pre_skip.div_ceil(ticks);
        rest.resize(missing.next_multiple_of(frame), 0.0);
        let last = rest.len() / frame - 1;
        for (number, samples) in rest.chunks_exact(frame).enumerate() {
            self.packet(samples, (number == last).then_some(ends))?;
        }
        match self.writer.take() {
            Some(writer) => writer.finish().map_err(failed_opus),
            None => Ok(Vec::new()),
        }
    }

    /// Encodes a packet; `ends` is the end of the audio, if this is the last one.
    fn packet(&mut self, samples: &[f32], ends: Option<u64>) -> Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let mut packet = [0; MAX_PACKET_BYTES];
        let length = self.encoder.encode(samples, samples.len(), &mut packet).map_err(failed_opus)?;
        let packet = &packet[..length];
        let written = match ends {
            None => writer.write_packet(packet),
            Some(ends) => {
                let duration = ends.saturating_sub(writer.granule() as u64);
                writer.write_packet_with_duration(packet, duration as u32)
            }
        };
        written.map_err(failed_opus)
    }
}

fn failed_opus(error: opus_pure::Error) -> crate::error::Error {
    failed("Opus", error)
}
