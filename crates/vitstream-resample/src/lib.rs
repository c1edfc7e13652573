//! Changes the sample rate of a stream of speech.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};

/// The filter rejected its parameters.
#[derive(Debug, thiserror::Error)]
#[error("resampling: {0}")]
pub struct Error(String);

impl Error {
    fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Samples that are transformed at once. A voice's first chunk has several thousand samples, so it never
/// waits for a block to fill.
const BLOCK: u32 = 1_024;

/// Changes the sample rate of a stream of mono samples. The output has the same duration as the input and no
/// delay.
pub struct Resampler {
    fft: Fft<f32>,
    ratio: f64,
    /// Samples kept until they fill a block.
    waiting: Vec<f32>,
    taken: usize,
    /// Samples of the filter's delay that remain to be dropped.
    delay: usize,
    given: usize,
}

impl Resampler {
    /// Creates a resampler from one rate to another, both in hertz.
    ///
    /// # Errors
    /// When one of the rates is 0.
    pub fn new(from: u32, to: u32) -> Result<Self, Error> {
        if from == 0 || to == 0 {
            return Err(Error(format!("expected rates above 0, found {from} and {to}")));
        }
        // The filter's delay is half a block: a whole number of samples only if the block is even.
        let step = from / gcd(from, to);
        let even = (BLOCK.div_ceil(step)).next_multiple_of(2) * step;
        let fft = Fft::new(from as usize, to as usize, even as usize, 1, FixedSync::Both);
        let fft = fft.map_err(Error::new)?;
        let (ratio, delay) = (f64::from(to) / f64::from(from), fft.output_delay());
        Ok(Self { fft, ratio, waiting: Vec::new(), taken: 0, delay, given: 0 })
    }

    /// Takes input samples and returns the output samples that are ready.
    ///
    /// # Errors
    /// Only if the filter has a defect.
    pub fn push(&mut self, samples: &[f32]) -> Result<Vec<f32>, Error> {
        self.taken += samples.len();
        self.compute(samples)
    }

    fn compute(&mut self, samples: &[f32]) -> Result<Vec<f32>, Error> {
        self.waiting.extend(samples);
        let mut output = Vec::new();
        let mut at = 0;
        loop {
            let needed = self.fft.input_frames_next();
            let Some(block) = self.waiting.get(at..at + needed) else { break };
            let block = InterleavedSlice::new(block, 1, needed).map_err(Error::new)?;
            let given = self.fft.process(&block, None).map_err(Error::new)?;
            output.extend(given.take_data());
            at += needed;
        }
        self.waiting.drain(..at);
        let dropped = self.delay.min(output.len());
        output.drain(..dropped);
        self.delay -= dropped;
        self.given += output.len();
        Ok(output)
    }

    /// Returns the remaining samples and resets the resampler for another stream.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self) -> Result<Vec<f32>, Error> {
        let total = (self.taken as f64 * self.ratio).round() as usize;
        let mut output = Vec::new();
        while self.given < total {
            let missing = total - self.given;
            let more = self.compute(&[0.0; BLOCK as usize])?;
            output.extend(&more[..more.len().min(missing)]);
        }
        self.fft.reset();
        self.waiting.clear();
        (self.taken, self.given, self.delay) = (0, 0, self.fft.output_delay());
        Ok(output)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(rate: u32, count: usize) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 440.0 * std::f32::consts::TAU / rate as f32).sin()).collect()
    }

    #[test]
    fn a_tone_stays_the_same_tone_whatever_the_pieces() {
        for (from, to) in [
            (22_050, 24_000),
            (16_000, 24_000),
            (22_050, 8_000),
            (22_050, 48_000),
            (16_000, 44_100),
            (22_050, 44_100),
            (48_000, 44_100),
        ] {
            let mut resampler = Resampler::new(from, to).unwrap();
            let input = tone(from, from as usize);
            let mut whole = Vec::new();
            for piece in [from as usize, 1, 700, 5_000] {
                let mut output = Vec::new();
                for chunk in input.chunks(piece) {
                    output.extend(resampler.push(chunk).unwrap());
                }
                output.extend(resampler.finish().unwrap());
                assert_eq!(output.len(), to as usize, "one second of {from} to {to}");
                // The tone starts and stops abruptly, which no filter can follow.
                let inner = output.iter().zip(tone(to, to as usize)).skip(500).take(to as usize - 1_000);
                let worst = inner.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(worst < 0.01, "{from} to {to}: {worst}");
                if whole.is_empty() {
                    whole.clone_from(&output);
                }
                assert!(output == whole, "{from} to {to} in pieces of {piece}");
            }
        }
    }
    #[test]
    fn short_utterances_are_whole() {
        let mut resampler = Resampler::new(22_050, 48_000).unwrap();
        for count in [0, 1, 10, 1_023, 1_024, 1_025] {
            let mut output = resampler.push(&tone(22_050, count)).unwrap();
            output.extend(resampler.finish().unwrap());
            assert_eq!(output.len(), (count as f64 * 48_000.0 / 22_050.0).round() as usize);
        }
    }

    #[test]
    fn a_rate_of_nothing_is_an_error() {
        assert!(Resampler::new(0, 1).is_err() && Resampler::new(1, 0).is_err());
    }
}
