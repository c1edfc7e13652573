//! MP3, frame by frame.

use rusty_mp3::{Mp3Encoder, Mp3EncoderConfig};

use super::failed;
use crate::error::Result;

/// The lower rates of MP3: a frame there depends on none before it, so that none is held back. Speech has no more.
pub(super) const RATES: [u32; 6] = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000];

/// Kilobits a second: transparent enough for speech, and every lower rate has it.
const KBPS: u32 = 64;

pub(super) struct Mp3 {
    encoder: Mp3Encoder,
    rate: u32,
    /// The frame that says how long the stream is stands first, and knows nothing yet.
    tag: bool,
}

impl Mp3 {
    pub(super) fn new(rate: u32) -> Self {
        let config = Mp3EncoderConfig { bitrate_kbps: KBPS, vbr_quality: None };
        Self { encoder: Mp3Encoder::new(config), rate, tag: true }
    }

    pub(super) fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>> {
        if !samples.is_empty() {
            self.encoder.push_pcm_f32(samples, 1, self.rate).map_err(|error| failed("MP3", error))?;
        }
        Ok(self.packets())
    }

    pub(super) fn finish(&mut self) -> Result<Vec<u8>> {
        self.encoder.finish();
        Ok(self.packets())
    }

    fn packets(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Ok(packet) = self.encoder.next_packet() {
            if !std::mem::take(&mut self.tag) {
                bytes.extend(packet);
            }
        }
        bytes
    }
}
