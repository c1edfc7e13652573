//! `encoder.onnx`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bound::{Bounded, bounded};
use crate::backend::{EncodeBackend, EncodeRequest, Latent};
use crate::error::{Error, Result};
use crate::graph_file::{GraphFile, fixed};
use crate::noise::Noise;
use crate::options::MAX_FRAMES;
use crate::runtime::{self, GraphSource, Output, Runner, RuntimeOptions, Tensor};

/// Frames for each id, at length scale 1, that noise is drawn for before a voice has spoken. Piper's voices take about
/// two, pauses between phonemes counted as ids.
const FRAMES_PER_ID: usize = 4;

pub(crate) struct OnnxEncoder {
    path: PathBuf,
    runner: Box<dyn Runner>,
    /// The output that tells the sum of the durations, where [they are bounded](super::bound).
    total: Option<String>,
    has_sid: bool,
    has_noise_dp: bool,
    has_durations: bool,
    /// Channels of `noise_p`, when the noise is an input.
    noise_channels: Option<usize>,
    /// The most frames for each id that any utterance took so far.
    frames_per_id: AtomicUsize,
}

impl OnnxEncoder {
    pub(crate) fn open(file: GraphFile, options: &RuntimeOptions) -> Result<Self> {
        let noise_channels = match file.input("noise_p") {
            None => None,
            Some(info) => Some(fixed(info, 1).ok_or_else(|| {
                file.error("input `noise_p`: expected a fixed number of channels on axis 1")
            })?),
        };
        let (runner, total) = match bounded(&file, MAX_FRAMES) {
            Some(Bounded { bytes, total }) => {
                let graph = GraphSource::Memory { name: &file.path, bytes: bytes.into() };
                (runtime::load(graph, options)?, Some(total))
            }
            None => {
                log::debug!("{}: its durations are not found, and have no bound", file.path.display());
                (runtime::load(GraphSource::File(&file.path), options)?, None)
            }
        };
        Ok(Self {
            runner,
            total,
            has_sid: file.input("sid").is_some(),
            has_noise_dp: file.input("noise_dp").is_some(),
            has_durations: file.output("durations").is_some(),
            noise_channels,
            frames_per_id: AtomicUsize::new(FRAMES_PER_ID),
            path: file.path,
        })
    }

    fn run(
        &self,
        request: &EncodeRequest<'_>,
        noise_dp: &[f32],
        noise_p: Option<(usize, &[f32])>,
    ) -> Result<Vec<Output>> {
        let phonemes = request.ids.len();
        let scales = request.scales;
        let mut inputs = vec![
            ("input", Tensor::i64(&[1, phonemes], request.ids)),
            ("input_lengths", Tensor::i64(&[1], vec![phonemes as i64])),
            ("scales", Tensor::f32(&[3], vec![scales.noise, scales.length, scales.noise_w])),
        ];
        if self.has_sid {
            inputs.push(("sid", Tensor::i64(&[1], vec![request.speaker.unwrap_or(0) as i64])));
        }
        if self.has_noise_dp {
            inputs.push(("noise_dp", Tensor::f32(&[1, 2, phonemes], noise_dp)));
        }
        if let Some((channels, noise)) = noise_p {
            inputs.push(("noise_p", Tensor::f32(&[1, channels, noise.len() / channels], noise)));
        }
        let optional = [(self.has_sid, "g"), (self.has_durations, "durations")];
        let mut outputs = vec!["z"];
        outputs.extend(optional.iter().filter(|(is_there, _)| *is_there).map(|(_, name)| name));
        outputs.extend(self.total.as_deref());
        let mut values = self.runner.run(&inputs, &outputs)?;
        if self.total.is_some() {
            let total = values.pop().and_then(|total| total.data.first().copied()).unwrap_or(f32::NAN);
            self.check_total(total, phonemes)?;
        }
        Ok(values)
    }

    /// Refuses an utterance whose durations were beyond the bound: what was made is not as long as they say.
    fn check_total(&self, total: f32, phonemes: usize) -> Result<()> {
        if !total.is_finite() {
            return Err(Error::model(
                &self.path,
                format!(
                    "the durations of {phonemes} phoneme ids are not finite numbers; the voice's weights are damaged"
                ),
            ));
        }
        if total > MAX_FRAMES as f32 {
            return Err(Error::request(format!(
                "the utterance of {phonemes} phoneme ids would last {total} frames, more than the {MAX_FRAMES} allowed; make it \
                 shorter, or, if other utterances do the same, the voice's weights are damaged"
            )));
        }
        Ok(())
    }

    /// The frames of each id, which must be those of `z`.
    fn durations(&self, output: &Output, ids: usize, frames: usize) -> Result<Vec<usize>> {
        let durations: Vec<usize> = output.data.iter().map(|&duration| duration as usize).collect();
        let whole = output.data.iter().all(|&duration| duration >= 0.0 && duration.fract() == 0.0);
        let total = durations.iter().fold(0, |total: usize, &duration| total.saturating_add(duration));
        if !whole || durations.len() != ids || total.max(1) != frames {
            return Err(Error::run(
                &self.path,
                format!(
                    "`durations`: expected whole numbers for {ids} ids that add up to {frames} frames, found {} numbers that add \
                     up to {total}",
                    durations.len()
                ),
            ));
        }
        Ok(durations)
    }

    /// Runs with the noise as inputs. How many frames of it are needed is known only afterwards, and too few are an
    /// error of the graph: so enough for what this voice usually takes, and more when that fails.
    fn run_with_noise(&self, request: &EncodeRequest<'_>, channels: usize) -> Result<Vec<Output>> {
        let noise = request.noise.unwrap_or_else(|| Noise::new(0));
        let draw = |scale: f32, len: usize, draw: &dyn Fn() -> Vec<f32>| {
            if scale == 0.0 { vec![0.0; len] } else { draw() }
        };
        let phonemes = request.ids.len();
        let noise_dp = draw(request.scales.noise_w, 2 * phonemes, &|| noise.durations(phonemes));
        let length = request.ids.len() as f64 * f64::from(request.scales.length).max(0.25);
        let usual = self.frames_per_id.load(Ordering::Relaxed) as f64;
        let mut frames = ((usual * length) as usize + 32).min(request.max_frames);
        loop {
            if request.cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let noise_p = draw(request.scales.noise, channels * frames, &|| noise.prior(channels, frames));
            match self.run(request, &noise_dp, Some((channels, &noise_p))) {
                Err(Error::Run { .. }) if frames < request.max_frames => {
                    frames = frames.saturating_mul(4).min(request.max_frames);
                }
                result => return result,
            }
        }
    }
}

impl EncodeBackend for OnnxEncoder {
    fn encode(&self, request: &EncodeRequest<'_>) -> Result<Latent> {
        let outputs = match self.noise_channels {
            None => self.run(request, &[], None)?,
            Some(channels) => self.run_with_noise(request, channels)?,
        };
        let mut outputs = outputs.into_iter();
        let z = outputs.next().ok_or_else(|| Error::run(&self.path, "no `z` came out"))?;
        let &[1, channels, frames] = z.shape.as_slice() else {
            return Err(Error::run(
                &self.path,
                format!("`z`: expected [1, channels, time], found {:?}", z.shape),
            ));
        };
        if channels == 0 || frames == 0 {
            return Err(Error::run(&self.path, format!("`z` is empty: {:?}", z.shape)));
        }
        if frames > request.max_frames {
            return Err(Error::request(format!(
                "the utterance came out at {frames} frames, more than the {} allowed; lower the length scale or noise_w, or split the text",
                request.max_frames
            )));
        }
        if z.data.iter().any(|value| !value.is_finite()) {
            return Err(Error::run(
                &self.path,
                "`z` holds numbers that are not finite; the voice's weights are damaged",
            ));
        }
        let seen = frames as f64 / (request.ids.len() as f64 * f64::from(request.scales.length)).max(1.0);
        self.frames_per_id.fetch_max((seen.ceil() as usize + 1).min(64), Ordering::Relaxed);
        let g = if self.has_sid { outputs.next() } else { None };
        let latent = Latent::new(z.data, channels, g.map(|g| g.data));
        match outputs.next() {
            Some(durations) => {
                Ok(latent.with_durations(self.durations(&durations, request.ids.len(), frames)?))
            }
            None => Ok(latent),
        }
    }

    fn gives_durations(&self) -> bool {
        self.has_durations
    }

    fn takes_noise(&self) -> bool {
        self.noise_channels.is_some()
    }
}
