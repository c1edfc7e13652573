//! The network and its split: upstream's `SynthesizerTrn`, emitted as an encoder and a decoder.

use std::collections::BTreeMap;
use std::path::Path;

use vitstream_checkpoint::Tensor as Weight;
use vitstream_onnx::{BuildError, ConvAxis, DType, Dim, Graph, GraphBuilder, RandomNormal, Tensor, ValueId};

use crate::alignment::align;
use crate::duration::{Duration, durations};
use crate::flow::ResidualCouplingBlock;
use crate::generator::Generator;
use crate::hparams::HParams;
use crate::modules::dim;
use crate::read_back::{ReadBack, ReadBackError};
use crate::stateful::Stateful;
use crate::text_encoder::TextEncoder;
use crate::timeline::{Signal, Timeline};
use crate::weights::{Audit, Param, Weights, WeightsError};
use crate::whole::Whole;

/// The source of the encoder's noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoiseSource {
    /// Noise drawn by nodes of the graph, seeded or not. Seeds below 2^24 are distinct.
    Internal {
        /// Seed of the first of the two nodes; the second one uses the next seed.
        seed: Option<u32>,
    },
    /// Noise passed as inputs of the graph.
    Input,
}

/// Options for a graph that begins with the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderForm {
    /// The source of the noise.
    pub noise: NoiseSource,
    /// Adds a last output to the graph: `durations: f32[batch_size, phonemes]`, the frames of each id
    /// (upstream's `w_ceil`), whole numbers, 0 beyond an item's length. An item whose ids all last 0 frames
    /// still has one frame, which belongs to none of them.
    pub durations: bool,
}

impl From<NoiseSource> for EncoderForm {
    fn from(noise: NoiseSource) -> Self {
        Self { noise, durations: false }
    }
}

/// Upstream's `SynthesizerTrn`, as far as inference requires it.
pub struct SynthesizerTrn {
    /// Hyper-parameters, which determine the network's shape.
    pub hparams: HParams,
    /// Text encoder.
    pub enc_p: TextEncoder,
    /// Duration predictor.
    pub dp: Duration,
    /// Normalising flow.
    pub flow: ResidualCouplingBlock,
    /// Vocoder.
    pub dec: Generator,
    /// `f32[num_speakers, gin]`
    pub emb_g: Option<Param>,
}

/// The part of [`SynthesizerTrn`] before the split, for loading the two halves separately.
pub struct EncoderHalf {
    /// Text encoder.
    pub enc_p: TextEncoder,
    /// Duration predictor.
    pub dp: Duration,
    /// `f32[num_speakers, gin]`
    pub emb_g: Option<Param>,
}

impl EncoderHalf {
    /// Claims the tensors of this half. After both halves, [`Weights::finish`] reports mismatches.
    ///
    /// # Errors
    /// When tensors are unreadable, or too many do not match.
    pub fn load(weights: &Weights, hparams: &HParams) -> Result<Self, WeightsError> {
        let root = weights.root();
        let table = || root.get(&[hparams.num_speakers, hparams.gin_channels], "emb_g.weight");
        Ok(Self {
            enc_p: TextEncoder::load(&root.pp("enc_p"), hparams)?,
            dp: Duration::load(&root.pp("dp"), hparams)?,
            emb_g: hparams.multi_speaker().then(table).transpose()?,
        })
    }
}

/// The part of [`SynthesizerTrn`] after the split.
pub struct DecoderHalf {
    /// Normalising flow.
    pub flow: ResidualCouplingBlock,
    /// Vocoder.
    pub dec: Generator,
}

impl DecoderHalf {
    /// As [`EncoderHalf::load`].
    ///
    /// # Errors
    /// As [`EncoderHalf::load`].
    pub fn load(weights: &Weights, hparams: &HParams) -> Result<Self, WeightsError> {
        let root = weights.root();
        Ok(Self {
            flow: ResidualCouplingBlock::load(&root.pp("flow"), hparams)?,
            dec: Generator::load(&root.pp("dec"), hparams)?,
        })
    }
}

/// A state of the stream decoder, as inputs and outputs of its graph.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct StateInfo {
    /// Name of the graph's input.
    pub input: String,
    /// Name of the graph's output that is passed to this input at the next call.
    pub output: String,
    /// Shape at the first call, for which the state is all zeros. A length may be 0.
    pub shape: [usize; 4],
}

/// The stream decoder, and the facts needed to drive it.
pub struct StreamDecoder {
    /// The graph.
    pub graph: Graph,
    /// Its states, in the order of its inputs.
    pub states: Vec<StateInfo>,
    /// Minimum number of frames in the first call, unless the utterance is shorter.
    pub look_ahead: usize,
    /// Samples by which the output lags behind the frames passed in, until the last call.
    pub lag: usize,
}

/// The inputs of the flow and the generator.
struct Prior {
    /// `f32[b, inter, time]`
    z_p: ValueId,
    /// `f32[b, 1, time]`
    y_mask: ValueId,
    /// `f32[b, gin, 1]`
    speaker: Option<ValueId>,
    /// `f32[b, phonemes]`
    durations: ValueId,
}

const BATCH: &str = "batch_size";

/// Name of the output that [`EncoderForm::durations`] adds.
const DURATIONS: &str = "durations";

impl SynthesizerTrn {
    /// Builds the network.
    ///
    /// # Errors
    /// When tensors are missing, unknown or unreadable, or have a wrong shape.
    pub fn load(
        tensors: impl IntoIterator<Item = (String, Weight)>,
        hparams: HParams,
    ) -> Result<(Self, Audit), WeightsError> {
        Self::load_weights(&Weights::new(tensors), hparams)
    }

    /// As [`load`](Self::load), from weights whose shapes have already been examined.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_weights(weights: &Weights, hparams: HParams) -> Result<(Self, Audit), WeightsError> {
        let EncoderHalf { enc_p, dp, emb_g } = EncoderHalf::load(weights, &hparams)?;
        let DecoderHalf { flow, dec } = DecoderHalf::load(weights, &hparams)?;
        let audit = weights.finish()?;
        Ok((Self { hparams, enc_p, dp, flow, dec, emb_g }, audit))
    }

    /// Recovers upstream's weights from the graphs of [`emit_encoder`](Self::emit_encoder) and
    /// [`emit_decoder`](Self::emit_decoder), or from the graph of [`emit_single`](Self::emit_single), which
    /// is then passed twice. `path` is used in messages about tensors. Only the parts that determine weights
    /// are examined; the caller must check that the rest of the graphs is as emitted.
    ///
    /// # Errors
    /// When a graph does not have the form in which it is emitted.
    pub fn read_back(
        path: &Path,
        encoder: &Graph,
        decoder: &Graph,
    ) -> Result<(Weights, HParams), ReadBackError> {
        let mut r = ReadBack::new(path, encoder);
        TextEncoder::read_back(&mut r, "enc_p")?;
        if r.has_input("sid") {
            // The graph's first node outside any module looks up the speaker.
            let table = r.operand("/Gather", 0)?;
            r.put("emb_g.weight", &table.dims, table.data)?;
        }
        Duration::read_back(&mut r, "dp")?;
        r.turn_to(decoder);
        let reversed = ResidualCouplingBlock::read_back(&mut r, "flow")?;
        Generator::read_back(&mut r, "dec", reversed)?;
        r.finish()
    }

    /// Frames on each side of a frame on which its samples depend: the overlap that windows need.
    pub fn receptive_field(&self) -> usize {
        let flow = self.flow.flows.iter().flat_map(|layer| &layer.enc.in_layers).map(|conv| conv.padding());
        flow.sum::<usize>() + self.dec.receptive_field()
    }

    /// `encoder.onnx`: ids to the prior sample z_p (upstream's `infer` up to the flow).
    ///
    /// # Errors
    /// Only if this crate has a defect: a loaded network can always be emitted.
    pub fn emit_encoder(&self, opset: i64, form: impl Into<EncoderForm>) -> Result<Graph, BuildError> {
        let form = form.into();
        let mut builder = GraphBuilder::new("encoder", opset);
        let g = &mut builder;
        let prior = self.emit_prior(g, form.noise);
        g.output("z", prior.z_p);
        g.output("y_mask", prior.y_mask);
        if let Some(speaker) = prior.speaker {
            g.output("g", speaker);
        }
        if form.durations {
            g.output(DURATIONS, prior.durations);
        }
        builder.finish()
    }

    /// `voice.onnx`: ids to samples, in one graph like that of piper's own exporter, with the encoder's
    /// inputs and `output: f32[batch_size, 1, 1, samples]`.
    ///
    /// # Errors
    /// As [`emit_encoder`](Self::emit_encoder).
    pub fn emit_single(&self, opset: i64, form: impl Into<EncoderForm>) -> Result<Graph, BuildError> {
        let form = form.into();
        let mut builder = GraphBuilder::new("voice", opset);
        let g = &mut builder;
        let prior = self.emit_prior(g, form.noise);
        let speaker = prior.speaker.map(|speaker| g.unsqueeze(speaker, &[2]));
        let samples = self.emit_whole(g, prior.z_p, prior.y_mask, speaker);
        let shape = vec![Dim::symbol(BATCH), dim(1), dim(1), Dim::symbol("samples")];
        let samples = g.assume_shape(samples, shape);
        g.output("output", samples);
        if form.durations {
            g.output(DURATIONS, prior.durations);
        }
        builder.finish()
    }

    /// The inputs, and everything up to the flow.
    fn emit_prior(&self, g: &mut GraphBuilder, noise: NoiseSource) -> Prior {
        let hp = &self.hparams;
        let (b, t) = (Dim::symbol(BATCH), Dim::symbol("phonemes"));
        let input = g.input("input", DType::I64, vec![b.clone(), t.clone()]);
        let lengths = g.input("input_lengths", DType::I64, vec![b.clone()]);
        let scales = g.input("scales", DType::F32, vec![dim(3)]);
        let sid = hp.multi_speaker().then(|| g.input("sid", DType::I64, vec![b.clone()]));
        let draws = matches!(noise, NoiseSource::Input).then(|| {
            let dp =
                hp.use_sdp().then(|| g.input("noise_dp", DType::F32, vec![b.clone(), dim(2), t.clone()]));
            let shape = vec![b.clone(), dim(hp.inter_channels), Dim::symbol("noise_frames")];
            (dp, g.input("noise_p", DType::F32, shape))
        });
        let seeded = |offset: u32| match noise {
            NoiseSource::Internal { seed } => RandomNormal { seed: seed.map(|seed| (seed + offset) as f32) },
            NoiseSource::Input => RandomNormal::default(),
        };
        let scales = g.split(scales, 0, &[1, 1, 1]);
        let (noise_scale, length_scale, noise_w) = (scales[0], scales[1], scales[2]);

        let speaker = self.emb_g.as_ref().zip(sid).map(|(table, sid)| {
            let table = g.scope("emb_g", |g| g.initializer("weight", table.tensor()));
            let row = g.gather(table, sid, 0);
            (g.unsqueeze(row, &[1, 2]), g.unsqueeze(row, &[2]))
        });
        let encoded = g.scope("enc_p", |g| self.enc_p.emit(g, input, lengths));
        let row = speaker.map(|(row, _)| row);
        let logw = g.scope("dp", |g| match &self.dp {
            Duration::Plain(dp) => dp.emit(g, encoded.x, encoded.x_mask, row),
            Duration::Stochastic(dp) => {
                let z = match draws {
                    Some((Some(noise_dp), _)) => noise_dp,
                    _ => {
                        let like = g.fill(&[b.clone(), dim(2), t.clone()], Tensor::f32(&[1], &[0.0]));
                        g.random_normal_like(like, seeded(0))
                    }
                };
                let z = g.mul(z, noise_w);
                dp.emit(g, encoded.x, encoded.x_mask, z, row)
            }
        });
        let w_ceil = g.scope("dp", |g| durations(g, logw, encoded.x_mask, length_scale));
        let aligned = g.scope("align", |g| align(g, encoded.stats, w_ceil));

        // From here on the axes are in upstream's order, which the contract requires.
        let c = hp.inter_channels;
        let stats = g.transpose(aligned.stats, &[0, 2, 1]);
        let stats = g.split(stats, 1, &[c, c]);
        let (m_p, logs_p) = (stats[0], stats[1]);
        let time = g.dim(m_p, 2);
        let draw = match draws {
            // A Gather of all frames by number: unlike a Slice, it fails if there are too few.
            Some((_, noise_p)) => {
                let length = g.dim_value(&time);
                let frames = g.range(length, &time);
                g.gather(noise_p, frames, 2)
            }
            None => g.random_normal_like(m_p, seeded(1)),
        };
        let deviation = g.exp(logs_p);
        let draw = g.mul(draw, deviation);
        let draw = g.mul(draw, noise_scale);
        let z_p = g.add(m_p, draw);
        let y_mask = g.reshape(aligned.y_mask, &[b, dim(1), time]);
        Prior { z_p, y_mask, speaker: speaker.map(|(_, column)| column), durations: w_ceil }
    }

    /// `decoder.onnx`: the prior sample to samples (flow and generator).
    ///
    /// # Errors
    /// As [`emit_encoder`](Self::emit_encoder).
    pub fn emit_decoder(&self, opset: i64) -> Result<Graph, BuildError> {
        let hp = &self.hparams;
        let mut builder = GraphBuilder::new("decoder", opset);
        let g = &mut builder;
        let (b, t) = (Dim::symbol(BATCH), Dim::symbol("time"));
        let z = g.input("z", DType::F32, vec![b.clone(), dim(hp.inter_channels), t.clone()]);
        let y_mask = g.input("y_mask", DType::F32, vec![b.clone(), dim(1), t]);
        let speaker = self.speaker_input(g, b.clone());
        let samples = self.emit_whole(g, z, y_mask, speaker);
        let samples = g.squeeze(samples, &[2]);
        let samples = g.assume_shape(samples, vec![b, dim(1), Dim::symbol("samples")]);
        g.output("output", samples);
        builder.finish()
    }

    /// Flow and generator for whole utterances. `z: f32[b, inter, t]`, `y_mask: f32[b, 1, t]`, `speaker:
    /// f32[b, gin, 1, 1]` → `f32[b, 1, 1, samples]`.
    fn emit_whole(
        &self,
        g: &mut GraphBuilder,
        z: ValueId,
        y_mask: ValueId,
        speaker: Option<ValueId>,
    ) -> ValueId {
        let (c, h) = (self.hparams.inter_channels, self.hparams.hidden_channels);
        let (lower, upper, masks) = g.scope("split", |g| {
            let z = g.unsqueeze(z, &[2]);
            let mask = g.unsqueeze(y_mask, &[2]);
            split_blocked(g, z, mask, c, &[c, h])
        });
        let time = &mut Whole::new(masks);
        self.emit_synthesis(g, time, (lower, upper), speaker).value
    }

    /// `decoder.stream.onnx`: the same as [`emit_decoder`](Self::emit_decoder), chunk by chunk, for batch 1.
    ///
    /// # Errors
    /// As [`emit_encoder`](Self::emit_encoder).
    pub fn emit_stream_decoder(&self, opset: i64) -> Result<StreamDecoder, BuildError> {
        let hp = &self.hparams;
        let half = hp.inter_channels / 2;
        let mut builder = GraphBuilder::new("stream_decoder", opset);
        let g = &mut builder;
        let z = g.input("z", DType::F32, vec![dim(1), dim(2 * half), Dim::symbol("frames")]);
        let speaker = self.speaker_input(g, dim(1));
        let last = g.input("last", DType::I64, vec![dim(1)]);
        let z = g.unsqueeze(z, &[2]);
        let halves = g.split(z, 1, &[half, half]);
        let signal = |value| Signal { value, lag: 0, rate: 1 };
        let mut time = Stateful::new(last);
        let output = self.emit_synthesis(g, &mut time, (signal(halves[0]), signal(halves[1])), speaker);
        let samples = g.squeeze(output.value, &[2]);
        let samples = g.assume_shape(samples, vec![dim(1), dim(1), Dim::symbol("samples")]);
        g.output("output", samples);
        let states = time.finish(g);
        let states = states.into_iter().map(|state| StateInfo {
            input: format!("{}.state", state.name),
            output: format!("{}.next", state.name),
            shape: state.initial,
        });
        Ok(StreamDecoder {
            states: states.collect(),
            look_ahead: output.lag / hp.hop_length() + 1,
            lag: output.lag,
            graph: builder.finish()?,
        })
    }

    fn speaker_input(&self, g: &mut GraphBuilder, b: Dim) -> Option<ValueId> {
        let gin = self.hparams.gin_channels;
        self.hparams.multi_speaker().then(|| {
            let speaker = g.input("g", DType::F32, vec![b, dim(gin), dim(1)]);
            g.unsqueeze(speaker, &[2])
        })
    }

    /// Flow and generator: the single definition of both decoders.
    fn emit_synthesis(
        &self,
        g: &mut GraphBuilder,
        time: &mut dyn Timeline,
        halves: (Signal, Signal),
        speaker: Option<ValueId>,
    ) -> Signal {
        let (lower, upper, flipped) = g.scope("flow", |g| self.flow.emit(g, time, halves, speaker));
        let halves = time.align(g, &[lower, upper]);
        let z = g.concat(&[halves[0].value, halves[1].value], 1);
        let z = time.mask(g, halves[0].with(z));
        g.scope("dec", |g| self.dec.emit(g, time, z, flipped, speaker))
    }
}

/// Splits `z: f32[b, c, 1, t]` into halves, and repeats `mask: f32[b, 1, 1, t]` over each number of channels
/// in `widths`, by pointwise convolutions of one tensor. Their results begin in ONNX Runtime's blocked
/// layout, which Split and Expand would leave, and their lengths are provably equal.
fn split_blocked(
    g: &mut GraphBuilder,
    z: ValueId,
    mask: ValueId,
    c: usize,
    widths: &[usize],
) -> (Signal, Signal, BTreeMap<usize, ValueId>) {
    // The mask and zeros fill up a block of channels.
    let filler = (c + 1).next_multiple_of(16) - c;
    let unit: Vec<f32> = (0..filler).map(|i| if i == 0 { 1.0 } else { 0.0 }).collect();
    let unit = g.constant(Tensor::f32(&[1, filler, 1, 1], &unit));
    let filling = g.mul(mask, unit);
    let all = g.concat(&[z, filling], 1);
    let mut pick = |name: &str, channels: &mut dyn Iterator<Item = usize>| {
        let rows: Vec<usize> = channels.collect();
        let mut weight = vec![0.0; rows.len() * (c + filler)];
        for (row, channel) in rows.iter().enumerate() {
            weight[row * (c + filler) + channel] = 1.0;
        }
        let weight = g.initializer(name, Tensor::f32(&[rows.len(), c + filler, 1, 1], &weight));
        g.conv(all, weight, None, &[ConvAxis::default(), ConvAxis::default()], 1)
    };
    let signal = |value| Signal { value, lag: 0, rate: 1 };
    let lower = signal(pick("lower", &mut (0..c / 2)));
    let upper = signal(pick("upper", &mut (c / 2..c)));
    let mut masks = BTreeMap::new();
    for &width in widths {
        masks
            .entry(width)
            .or_insert_with(|| pick(&format!("mask.{width}"), &mut std::iter::repeat_n(c, width)));
    }
    (lower, upper, masks)
}
