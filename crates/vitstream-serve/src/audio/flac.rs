//! FLAC, frame by frame.

use flacenc::bitsink::ByteSink;
use flacenc::component::{BitRepr as _, Stream, StreamInfo};
use flacenc::config::Encoder;
use flacenc::encode_fixed_size_frame;
use flacenc::error::{Verified, Verify as _};
use flacenc::source::{Fill as _, FrameBuf};

use super::{failed, to_i16};
use crate::error::Result;

/// Samples per frame, as in FLAC's own encoder.
const BLOCK: usize = 4_096;

pub(super) struct Flac {
    config: Verified<Encoder>,
    info: StreamInfo,
    /// Samples kept until they fill a frame.
    waiting: Vec<i32>,
    frames: usize,
    header: Option<Vec<u8>>,
}

impl Flac {
    pub(super) fn new(rate: u32) -> Result<Self> {
        let config = Encoder::default().into_verified().map_err(|(_, error)| failed("FLAC", error))?;
        let mut stream = Stream::new(rate as usize, 1, 16).map_err(|error| failed("FLAC", error))?;
        // The number of samples and their hash are unknown when the header is sent, so both are 0.
        let info = stream.stream_info_mut();
        info.set_block_sizes(BLOCK, BLOCK).map_err(|error| failed("FLAC", error))?;
        info.set_frame_sizes(0, 0).map_err(|error| failed("FLAC", error))?;
        let info = info.clone();
        let mut sink = ByteSink::new();
        stream.write(&mut sink).map_err(|error| failed("FLAC", error))?;
        Ok(Self { config, info, waiting: Vec::new(), frames: 0, header: Some(sink.into_inner()) })
    }

    pub(super) fn push(&mut self, samples: &[f32]) -> Result<Vec<u8>> {
        self.waiting.extend(samples.iter().map(|&sample| i32::from(to_i16(sample))));
        let mut bytes = self.header.take().unwrap_or_default();
        let waiting = std::mem::take(&mut self.waiting);
        let mut frames = waiting.chunks_exact(BLOCK);
        for frame in frames.by_ref() {
            bytes.extend(self.frame(frame)?);
        }
        self.waiting = frames.remainder().to_vec();
        Ok(bytes)
    }

    pub(super) fn finish(&mut self) -> Result<Vec<u8>> {
        let mut bytes = self.header.take().unwrap_or_default();
        let rest = std::mem::take(&mut self.waiting);
        if !rest.is_empty() {
            bytes.extend(self.frame(&rest)?);
        }
        Ok(bytes)
    }

    fn frame(&mut self, samples: &[i32]) -> Result<Vec<u8>> {
        let mut buffer = FrameBuf::with_size(1, BLOCK).map_err(|error| failed("FLAC", error))?;
        buffer.fill_interleaved(samples).map_err(|error| failed("FLAC", error))?;
        let frame = encode_fixed_size_frame(&self.config, &buffer, self.frames, &self.info)
            .map_err(|error| failed("FLAC", error))?;
        self.frames += 1;
        let mut sink = ByteSink::new();
        frame.write(&mut sink).map_err(|error| failed("FLAC", error))?;
        Ok(sink.into_inner())
    }
}
