//! MP3, frame by frame.

use rusty_mp3::{Mp3Encoder, Mp3EncoderConfig};

use super::failed;
use crate::error::Result;

/// The lower rates of MP3, at which no frame depends on earlier ones, so that none is held back. Speech has
/// no higher frequencies.
pub(super) const RATES: [u32; 6] = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000];

/// Kilobits per second: sufficient for speech, and supported at every lower rate.
const KBPS: u32 = 64;

pub(super) struct Mp3 {
    encoder: Mp3Encoder,
    rate: u32,
    /// Set until the first frame, which would state the stream's length, has been skipped.
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
