//! Text encoder, duration predictor and alignment: from phoneme ids to the latent `z_p`.

mod attention;
mod duration;
mod layers;
mod noise;
mod spline;

use std::sync::Arc;

pub use noise::{Draws, DrawsFrom};

use crate::conv::{Fold, HalfWeights, Halves, Target, Tiles};
use crate::error::{Error, input, shape};
use crate::kernels::{Arena, Isa, Kernels};
use crate::line::{LINE, padded};
use crate::options::Options;
use crate::spec::{ConvSpec, DdsConvSpec, DurationSpec, EncoderSpec, limit, tensor};
use crate::workers::Workers;
use attention::{EncoderLayer, Room, pointwise};
use duration::{DurationPredictor, StochasticDurationPredictor};
use layers::{Linear, Sequence};
use noise::Normal;

/// Limit on the ids of a call.
pub const MAX_IDS: usize = 1 << 16;

/// Limit on the frames of a call: 25 minutes at Piper's rates.
pub const MAX_FRAMES: usize = 1 << 17;

/// Limit on the floats of zeros around the sequences of all layers together, 128 MiB, as for a stream of the
/// decoder: published voices need less than a hundredth of it.
const MAX_CONTEXT: usize = 1 << 25;

/// The three numbers that control an utterance, upstream's `scales`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    /// Scale of the latent's noise.
    pub noise: f32,
    /// Scale of the durations: larger than 1 is slower.
    pub length: f32,
    /// Scale of the durations' noise.
    pub noise_w: f32,
}

/// The encoder's result for an utterance.
#[derive(Debug, Clone, PartialEq)]
pub struct Latent {
    /// `[inter_channels, frames]`, row-major: the input of [`Stream::push`](crate::Stream::push).
    pub z_p: Vec<f32>,
    /// Number of frames: the sum of the durations, at least 1.
    pub frames: usize,
    /// Frames of each id, upstream's `w_ceil`.
    pub durations: Vec<usize>,
    /// `[gin_channels]`: the input of [`Decoder::stream`](crate::Decoder::stream); `None` without speakers.
    pub g: Option<Vec<f32>>,
}

/// `enc_p`, `dp` and the alignment of `SynthesizerTrn.infer`, packed for the kernels. Cheap to clone, because
/// weights are shared.
#[derive(Debug, Clone)]
pub struct Encoder {
    weights: Arc<Weights>,
    workers: Workers,
}

#[derive(Debug)]
struct Weights {
    kernels: Kernels,
    /// `[n_vocab, hidden]`, times `sqrt(hidden)`.
    emb: Vec<f32>,
    hidden: usize,
    layers: Vec<EncoderLayer>,
    m: Linear,
    logs: Linear,
    inter: usize,
    duration: Duration,
    /// `[n_speakers, gin]`.
    emb_g: Vec<f32>,
    gin: usize,
    halves: HalfWeights,
}

#[derive(Debug)]
enum Duration {
    Stochastic(Box<StochasticDurationPredictor>),
    Plain(Box<DurationPredictor>),
}

impl Encoder {
    /// Checks and packs a network.
    ///
    /// # Errors
    /// When shapes disagree, weights are not finite, sizes exceed the limits, or `options` request something
    /// that this machine lacks.
    pub fn new(spec: &EncoderSpec<'_>, options: Options) -> Result<Self, Error> {
        let kernels = Kernels::new(options.isa, options.threads)?;
        let arena = &Arena::default();
        // An utterance is encoded at once, so Winograd's method does not make the result depend on its
        // division.
        let tiles = Tiles { accurate: true, always: false, wait: None };
        let halves = Halves::new(options.half_weights);
        let target = Target { kernels, arena, tiles: Some(tiles), halves: &halves };
        let hidden = spec.hidden;
        limit("enc_p", "hidden channels", hidden, 1..=65_536, "1 to 65536")?;
        if spec.n_heads == 0 || !hidden.is_multiple_of(spec.n_heads) {
            return Err(shape("enc_p", format!("a number of heads that divides {hidden}"), spec.n_heads));
        }
        limit("enc_p", "window_size", spec.window_size, 0..=512, "0 to 512")?;
        let vocabulary = spec.emb.len() / hidden;
        limit("enc_p.emb", "ids", vocabulary, 1..=1 << 24, "1 to 2^24")?;
        tensor("enc_p.emb.weight", &spec.emb, &[vocabulary, hidden])?;
        let inter = spec.proj.c_out / 2;
        limit("enc_p.proj", "channels", inter, 1..=65_536, "1 to 65536")?;
        let proj = pointwise("enc_p.proj", &spec.proj, hidden, 2 * inter)?;
        let (emb_g, gin) = match &spec.emb_g {
            None => (Vec::new(), 0),
            Some(table) => {
                let speakers = spec.n_speakers.max(1);
                let gin = table.len() / speakers;
                limit("emb_g", "gin_channels", gin, 1..=65_536, "1 to 65536")?;
                tensor("emb_g.weight", table, &[speakers, gin])?;
                (table.to_vec(), gin)
            }
        };
        let layers = spec.layers.iter().enumerate();
        let root = (hidden as f32).sqrt();
        let part = |range| Linear::part(target, &proj, 0..hidden, range, Fold::default());
        let encoder = Self {
            workers: Workers::new(options.threads)?,
            weights: Arc::new(Weights {
                kernels,
                emb: spec.emb.iter().map(|v| v * root).collect(),
                hidden,
                layers: layers
                    .map(|(i, layer)| {
                        EncoderLayer::new(target, layer, i, hidden, (spec.n_heads, spec.window_size))
                    })
                    .collect::<Result<_, _>>()?,
                m: part(0..inter),
                logs: part(inter..2 * inter),
                inter,
                duration: match &spec.duration {
                    DurationSpec::Stochastic(dp) => Duration::Stochastic(Box::new(
                        StochasticDurationPredictor::new(target, dp, hidden, gin)?,
                    )),
                    DurationSpec::Plain(dp) => {
                        Duration::Plain(Box::new(DurationPredictor::new(target, dp, hidden, gin)?))
                    }
                },
                emb_g,
                gin,
                halves: halves.counted(),
            }),
        };
        // The layers have been checked, so these are small numbers.
        let held = contexts(spec).fold(0usize, usize::saturating_add);
        limit(
            "enc_p and dp",
            "context in floats",
            held,
            0..=MAX_CONTEXT,
            "at most 2^25 in all layers together",
        )?;
        Ok(encoder)
    }

    /// `inter_channels`: the rows of the latent.
    pub fn channels(&self) -> usize {
        self.weights.inter
    }

    /// Number of ids of the embedding: ids are less than this.
    pub fn vocabulary(&self) -> usize {
        self.weights.emb.len() / self.weights.hidden
    }

    /// Number of speakers; 0 if the network has no speaker embedding.
    pub fn speakers(&self) -> usize {
        self.weights.emb_g.len().checked_div(self.weights.gin).unwrap_or(0)
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.weights.kernels.isa()
    }

    /// Encodes `ids` spoken by `speaker`, which is given exactly if the network has speakers.
    ///
    /// # Errors
    /// When `ids` are empty, too many or unknown, the speaker is missing, unexpected or unknown, a scale is
    /// not finite, given noise has the wrong size, or the utterance would be longer than [`MAX_FRAMES`].
    pub fn encode(
        &self,
        ids: &[i64],
        speaker: Option<usize>,
        scales: Scales,
        noise: DrawsFrom<'_>,
    ) -> Result<Latent, Error> {
        self.encode_unless(ids, speaker, scales, noise, &|| false)
    }

    /// As [`encode`](Self::encode), but ends with [`Error::Stopped`] soon after `stop` becomes true: it is
    /// checked before each layer and each part.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and when it was stopped.
    pub fn encode_unless(
        &self,
        ids: &[i64],
        speaker: Option<usize>,
        scales: Scales,
        noise: DrawsFrom<'_>,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Latent, Error> {
        self.workers.run(|| self.encode_here(ids, speaker, scales, noise, stop))
    }

    fn encode_here(
        &self,
        ids: &[i64],
        speaker: Option<usize>,
        scales: Scales,
        noise: DrawsFrom<'_>,
        stop: &(dyn Fn() -> bool + Sync),
    ) -> Result<Latent, Error> {
        let go_on = || if stop() { Err(Error::Stopped) } else { Ok(()) };
        let weights = &*self.weights;
        let kernels = weights.kernels;
        let g = self.speaker(speaker)?;
        let mut x = self.embed(ids)?;
        if ![scales.noise, scales.length, scales.noise_w].iter().all(|s| s.is_finite()) || scales.length < 0.0
        {
            return Err(input("scales", "finite values, a length of at least 0", format!("{scales:?}")));
        }
        let mut room = Room::default();
        for layer in &weights.layers {
            go_on()?;
            layer.run(kernels, &mut x, &mut room);
        }
        drop(room);
        go_on()?;
        let (m, logs) = (weights.m.run(kernels, &x, false), weights.logs.run(kernels, &x, false));

        let logw = match &weights.duration {
            Duration::Stochastic(dp) => {
                dp.run(kernels, &x, duration_noise(ids.len(), scales.noise_w, noise)?, g)
            }
            Duration::Plain(dp) => dp.run(kernels, x, g),
        };
        let durations = durations(&logw, scales.length)?;
        let frames = durations.iter().sum::<usize>().max(1);
        go_on()?;
        let z_p = weights.align(&m, &logs, &durations, frames, scales.noise, noise)?;
        Ok(Latent { z_p, frames, durations, g: g.map(<[f32]>::to_vec) })
    }

    fn speaker(&self, speaker: Option<usize>) -> Result<Option<&[f32]>, Error> {
        let speakers = self.speakers();
        match speaker {
            None if speakers == 0 => Ok(None),
            None => Err(input("speaker", format!("one of 0 to {}", speakers - 1), "none")),
            Some(_) if speakers == 0 => Err(input("speaker", "none, the network has no speakers", "one")),
            Some(s) if s >= speakers => Err(input("speaker", format!("0 to {}", speakers - 1), s)),
            Some(s) => Ok(Some(&self.weights.emb_g[s * self.weights.gin..][..self.weights.gin])),
        }
    }

    fn embed(&self, ids: &[i64]) -> Result<Sequence, Error> {
        if ids.is_empty() || ids.len() > MAX_IDS {
            return Err(input("ids", format!("1 to {MAX_IDS}"), ids.len()));
        }
        let hidden = self.weights.hidden;
        let mut x = Sequence::new(hidden, ids.len(), 0);
        let stride = x.stride();
        for (row, &id) in x.rows_mut().chunks_exact_mut(stride).zip(ids) {
            let known = usize::try_from(id).ok().filter(|&id| id < self.vocabulary());
            let Some(id) = known else {
                return Err(input("phoneme id", format!("0 to {}", self.vocabulary() - 1), id));
            };
            row[..hidden].copy_from_slice(&self.weights.emb[id * hidden..][..hidden]);
        }
        Ok(x)
    }

    /// Number of weights kept as float16; see [`Options::half_weights`].
    pub fn half_weights(&self) -> HalfWeights {
        self.weights.halves
    }

    /// Size of the packed weights in bytes.
    pub fn weight_bytes(&self) -> usize {
        let weights = &*self.weights;
        size_of_val(weights.emb.as_slice())
            + size_of_val(weights.emb_g.as_slice())
            + weights.m.bytes()
            + weights.logs.bytes()
            + weights.layers.iter().map(EncoderLayer::bytes).sum::<usize>()
    }
}

/// Number of floats around the sequence read by each convolution.
fn contexts(spec: &EncoderSpec<'_>) -> impl Iterator<Item = usize> {
    let dds = |convs: &DdsConvSpec<'_>| convs.convs_sep.iter().map(context).collect::<Vec<_>>();
    let predictor = match &spec.duration {
        DurationSpec::Stochastic(dp) => {
            let flows = dp.flows.iter().flat_map(|flow| dds(&flow.convs));
            dds(&dp.convs).into_iter().chain(flows).collect()
        }
        DurationSpec::Plain(dp) => vec![context(&dp.conv_1), context(&dp.conv_2)],
    };
    spec.layers.iter().flat_map(|layer| [context(&layer.conv_1), context(&layer.conv_2)]).chain(predictor)
}

fn context(conv: &ConvSpec<'_>) -> usize {
    2 * conv.reach() * padded(conv.c_in)
}

/// Number of frames of noise arranged at a time, because the latent's rows are far apart.
const FRAMES: usize = 64;

impl Weights {
    /// `m_p + noise * exp(logs_p) * noise_scale`, with each id's statistics repeated for its frames.
    fn align(
        &self,
        m: &Sequence,
        logs: &Sequence,
        durations: &[usize],
        frames: usize,
        scale: f32,
        noise: DrawsFrom<'_>,
    ) -> Result<Vec<f32>, Error> {
        let inter = self.inter;
        let mut z_p = vec![0.0; inter * frames];
        match noise {
            _ if scale == 0.0 => {}
            DrawsFrom::Seed(seed) => {
                let mut normal = Normal::new(seed, 1);
                let mut draws = vec![0.0; inter * FRAMES];
                for first in (0..frames).step_by(FRAMES) {
                    let n = FRAMES.min(frames - first);
                    draws[..inter * n].iter_mut().zip(&mut normal).for_each(|(v, draw)| *v = draw);
                    for (c, row) in z_p.chunks_exact_mut(frames).enumerate() {
                        for (v, frame) in row[first..][..n].iter_mut().zip(draws.chunks_exact(inter)) {
                            *v = frame[c];
                        }
                    }
                }
            }
            DrawsFrom::Given { p, .. } => copy_noise(p, &mut z_p, inter, frames)?,
            DrawsFrom::Generator(draws) => copy_noise(&draws.prior(inter, frames), &mut z_p, inter, frames)?,
        }
        let stride = m.stride();
        let spoken = durations.iter().sum();
        // A few channels at a time, because their rows are far apart.
        for channels in (0..inter).step_by(LINE).map(|c| c..inter.min(c + LINE)) {
            let mut first = 0;
            for (i, &n) in durations.iter().enumerate() {
                let (m, logs) = (&m.rows()[i * stride..], &logs.rows()[i * stride..]);
                for c in channels.clone() {
                    let (mean, deviation) = (m[c], libm::expf(logs[c]));
                    for v in &mut z_p[c * frames + first..][..n] {
                        *v = mean + *v * deviation * scale;
                    }
                }
                first += n;
            }
        }
        // A frame after all durations, which occurs if they sum to 0: the statistics are 0, so the result is
        // the noise itself.
        for row in z_p.chunks_exact_mut(frames) {
            for v in &mut row[spoken..] {
                *v *= scale;
            }
        }
        match z_p.iter().position(|v| !v.is_finite()) {
            None => Ok(z_p),
            Some(i) => {
                Err(input("noise and scales", "such that the latent is finite", format!("{} in it", z_p[i])))
            }
        }
    }
}

/// The first `frames` columns of `p: [inter, n]`.
fn copy_noise(p: &[f32], z_p: &mut [f32], inter: usize, frames: usize) -> Result<(), Error> {
    let columns = p.len() / inter;
    if columns < frames || columns * inter != p.len() {
        return Err(input("noise p", format!("{inter} rows of at least {frames}"), p.len()));
    }
    for (row, given) in z_p.chunks_exact_mut(frames).zip(p.chunks_exact(columns)) {
        row.copy_from_slice(&given[..frames]);
    }
    Ok(())
}

/// `z` of the stochastic predictor: `[2, t]` draws times `noise_w`.
fn duration_noise(t: usize, scale: f32, noise: DrawsFrom<'_>) -> Result<[Vec<f32>; 2], Error> {
    if scale == 0.0 {
        return Ok([vec![0.0; t], vec![0.0; t]]);
    }
    let draws: Vec<f32> = match noise {
        DrawsFrom::Seed(seed) => Normal::new(seed, 0).take(2 * t).collect(),
        DrawsFrom::Given { dp, .. } => dp.to_vec(),
        DrawsFrom::Generator(draws) => draws.durations(t),
    };
    if draws.len() != 2 * t {
        return Err(input("noise dp", format!("2 rows of {t}"), draws.len()));
    }
    let scaled = |half: &[f32]| half.iter().map(|v| v * scale).collect();
    Ok([scaled(&draws[..t]), scaled(&draws[t..])])
}

/// `ceil(exp(logw) * length_scale)`.
fn durations(logw: &[f32], length_scale: f32) -> Result<Vec<usize>, Error> {
    let mut total = 0f64;
    let mut durations = Vec::with_capacity(logw.len());
    for &logw in logw {
        let w = (libm::expf(logw) * length_scale).ceil();
        total += f64::from(w);
        if total.is_nan() {
            return Err(input(
                "durations",
                "numbers; the weights are damaged, or the scales are far too large",
                w,
            ));
        }
        if total > MAX_FRAMES as f64 {
            return Err(input(
                "utterance",
                format!("at most {MAX_FRAMES} frames; give fewer ids or a smaller length scale"),
                format!("more (a duration of {w})"),
            ));
        }
        durations.push(w as usize);
    }
    Ok(durations)
}
