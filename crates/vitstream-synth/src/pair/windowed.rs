//! `decoder.onnx` over overlapping windows, for pairs without `decoder.stream.onnx`.
//!
//! A window extends the wanted frames by the decoder's whole receptive field on each side, up to the ends of
//! the utterance, so every sample depends on the same frames as when decoding at once. The price is that
//! every push computes the overlap again.

use std::path::PathBuf;
use std::sync::Arc;

use crate::backend::{DecodeBackend, DecodeSession};
use crate::error::{Error, Result};
use crate::graph_file::{GraphFile, fixed};
use crate::receptive::{Receptive, receptive_field};
use crate::runtime::{self, GraphSource, Runner, RuntimeOptions, Tensor};

pub(crate) struct WindowedDecoder {
    path: PathBuf,
    runner: Box<dyn Runner>,
    channels: usize,
    has_y_mask: bool,
    has_g: bool,
    receptive: Receptive,
}

impl WindowedDecoder {
    pub(crate) fn open(file: GraphFile, options: &RuntimeOptions) -> Result<Self> {
        let channels = file
            .input("z")
            .and_then(|info| fixed(info, 1))
            .filter(|&channels| channels > 0)
            .ok_or_else(|| file.error("input `z`: expected a fixed number of channels on axis 1"))?;
        let receptive = match (file.number("receptive_field")?, file.number("hop_length")?) {
            (Some(frames), Some(hop)) if hop > 0 => Receptive { left: frames, right: frames, hop },
            _ => receptive_field(&file)?,
        };
        log::debug!("{}: windows overlap by {receptive:?} frames", file.path.display());
        Ok(Self {
            runner: runtime::load(GraphSource::File(&file.path), options)?,
            channels,
            has_y_mask: file.input("y_mask").is_some(),
            has_g: file.input("g").is_some(),
            receptive,
            path: file.path,
        })
    }

    /// Frames of a window beyond the wanted ones.
    pub(crate) fn overlap(&self) -> usize {
        self.receptive.left + self.receptive.right
    }

    /// Decodes `window`, f32 `[channels, frames]`, to all its samples.
    fn decode(&self, window: Vec<f32>, g: Option<&[f32]>) -> Result<Vec<f32>> {
        let frames = window.len() / self.channels;
        let mut inputs = vec![("z", Tensor::f32(&[1, self.channels, frames], window))];
        if self.has_y_mask {
            inputs.push(("y_mask", Tensor::f32(&[1, 1, frames], vec![1.0; frames])));
        }
        if let Some(g) = g {
            inputs.push(("g", Tensor::f32(&[1, g.len(), 1], g)));
        }
        let samples =
            self.runner.run(&inputs, &["output"])?.pop().map(|output| output.data).unwrap_or_default();
        let expected = frames * self.receptive.hop;
        if samples.len() != expected {
            return Err(Error::run(
                &self.path,
                format!("expected {expected} samples for {frames} frames, found {}", samples.len()),
            ));
        }
        Ok(samples)
    }
}

impl DecodeBackend for WindowedDecoder {
    fn hop_length(&self) -> usize {
        self.receptive.hop
    }

    fn look_ahead(&self) -> usize {
        self.receptive.right
    }

    fn start(self: Arc<Self>, g: Option<Vec<f32>>) -> Result<Box<dyn DecodeSession>> {
        if g.is_some() != self.has_g {
            return Err(Error::model(
                &self.path,
                "the decoder and the encoder disagree on whether the voice has speakers",
            ));
        }
        Ok(Box::new(Session {
            held: vec![Vec::new(); self.channels],
            decoder: self,
            g,
            start: 0,
            emitted: 0,
        }))
    }
}

struct Session {
    decoder: Arc<WindowedDecoder>,
    g: Option<Vec<f32>>,
    /// For each channel, the frames from `start` on that are still needed.
    held: Vec<Vec<f32>>,
    /// The utterance's frame at the start of `held`.
    start: usize,
    /// Frames whose samples have been returned.
    emitted: usize,
}

impl DecodeSession for Session {
    fn push(&mut self, frames: &[f32], last: bool) -> Result<Vec<f32>> {
        let Receptive { left, right, hop } = self.decoder.receptive;
        let count = frames.len() / self.decoder.channels;
        if count == 0 || count * self.decoder.channels != frames.len() {
            return Err(Error::request(format!(
                "{} values are not a whole number of frames of {} channels",
                frames.len(),
                self.decoder.channels
            )));
        }
        for (held, new) in self.held.iter_mut().zip(frames.chunks_exact(count)) {
            held.extend_from_slice(new);
        }
        let received = self.start + self.held[0].len();
        let known = if last { received } else { received.saturating_sub(right) };
        if known <= self.emitted {
            return Ok(Vec::new());
        }
        let samples = self.decoder.decode(self.held.concat(), self.g.as_deref())?;
        let samples = samples[(self.emitted - self.start) * hop..(known - self.start) * hop].to_vec();
        Error::unless_numbers(&self.decoder.path, &samples)?;
        let start = known.saturating_sub(left);
        for held in &mut self.held {
            held.drain(..start - self.start);
        }
        (self.start, self.emitted) = (start, known);
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::runtime::Runtime;

    /// The receptive field is no larger than necessary, and a smaller one would be noticed.
    #[test]
    fn a_smaller_overlap_is_not_exact() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-multi/decoder.onnx");
        let options = RuntimeOptions { runtime: Runtime::default(), threads: 1, library: None, wall: None };
        let exact = WindowedDecoder::open(GraphFile::read(&path).unwrap(), &options).unwrap().receptive;
        let z: Vec<f32> = (0..16 * 130).map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0).collect();
        let stream = |receptive: Receptive, pushes: &[usize]| {
            let mut decoder = WindowedDecoder::open(GraphFile::read(&path).unwrap(), &options).unwrap();
            decoder.receptive = receptive;
            let mut session = Arc::new(decoder).start(Some(vec![0.5; 8])).unwrap();
            let mut at = 0;
            let mut samples = Vec::new();
            for &count in pushes {
                let part: Vec<f32> =
                    z.chunks_exact(130).flat_map(|channel| &channel[at..at + count]).copied().collect();
                at += count;
                samples.extend(session.push(&part, at == 130).unwrap());
            }
            samples
        };
        let whole = stream(exact, &[130]);
        let differs = |samples: Vec<f32>| whole.iter().zip(samples).any(|(a, b)| (a - b).abs() > 1e-5);
        assert!(!differs(stream(exact, &[60, 30, 40])));
        for less in [Receptive { left: 20, ..exact }, Receptive { right: 20, ..exact }] {
            assert!(differs(stream(less, &[60, 30, 40])), "{less:?}");
        }
    }
}
