//! Runs the graphs of a voice stage by stage.

use vitstream_onnx::ValueId;

use crate::Error;
use crate::limits;
use crate::onnx_file::OnnxFile;
use crate::session::{Array, Feed, Session, Sessions};
use crate::stages::{self, NOISE_DP, NOISE_P};
use crate::utterance::Utterance;

/// The inputs of an encoder: a batch of utterances.
#[derive(Clone)]
pub(super) struct Request {
    /// `i64[b, t]`
    pub(super) input: Array<i64>,
    /// `i64[b]`
    pub(super) input_lengths: Array<i64>,
    /// `f32[3]`
    pub(super) scales: Array<f32>,
    /// `i64[b]`, for voices with several speakers.
    pub(super) sid: Option<Array<i64>>,
    /// Draws `f32[b, 2, t]`; zeros when absent.
    pub(super) noise_dp: Option<Array<f32>>,
    /// Draws `f32[b, inter, frames]`; zeros when absent.
    pub(super) noise_p: Option<Array<f32>>,
}

impl Request {
    /// A request without noise, at the voice's own speed.
    pub(super) fn quiet(utterance: &Utterance) -> Self {
        let ids = &utterance.ids;
        Self {
            input: Array::new(&[1, ids.len()], ids.clone()),
            input_lengths: Array::new(&[1], [ids.len() as i64]),
            scales: Array::new(&[3], [0.0, 1.0, 0.0]),
            sid: utterance.speaker.map(|speaker| Array::new(&[1], [speaker])),
            noise_dp: None,
            noise_p: None,
        }
    }

    /// Returns true if the result depends on the draws.
    pub(super) fn is_noisy(&self) -> bool {
        self.scales.data.first() != Some(&0.0) || self.scales.data.get(2) != Some(&0.0)
    }
}

/// Upstream's intermediate values between ids and samples, as far as they are known.
#[derive(Clone, Default)]
pub(super) struct Stages {
    /// Durations in frames before rounding: one value per id.
    pub(super) w: Option<Array<f32>>,
    /// Durations rounded up.
    pub(super) w_ceil: Option<Array<f32>>,
    /// `f32[b, inter, time]`
    pub(super) z_p: Option<Array<f32>>,
    /// `f32[b, 1, time]`
    pub(super) y_mask: Option<Array<f32>>,
    /// `f32[b, gin, 1]`
    pub(super) g: Option<Array<f32>>,
    /// `f32[b, inter, time]`, masked.
    pub(super) z: Option<Array<f32>>,
    /// One value per sample.
    pub(super) audio: Option<Array<f32>>,
}

/// The front of a network: from ids to durations, and in a pair's encoder to the prior's sample.
struct Front {
    /// The part taken from the graph, and the names of its outputs.
    session: Session,
    outputs: Vec<String>,
    /// The durations alone, which are checked before anything of their length is computed.
    head: Option<(Session, [String; 2])>,
    noise: Draws,
}

/// The inputs by which draws enter a graph.
struct Draws {
    /// The graph's names of the two draws that it takes.
    dp: Option<String>,
    p: Option<String>,
    /// Channels of the second draw.
    channels: usize,
    /// Set if the caller can choose the draws.
    chosen: bool,
}

impl Front {
    /// With `chosen`, draws that the graph makes itself become its inputs.
    fn open(sessions: &Sessions, file: &OnnxFile, outputs: &[ValueId], chosen: bool) -> Result<Self, Error> {
        let draws = if chosen { stages::draws(file) } else { Vec::new() };
        let fed: Vec<ValueId> = draws.iter().map(|&(_, id)| id).collect();
        let name = |id: ValueId| file.name(id).to_owned();
        let of = |draw: &str| {
            let inside = draws.iter().find(|(name, _)| *name == draw).map(|&(_, id)| id);
            inside.or_else(|| file.input(draw))
        };
        let channels = file.input(NOISE_P).and_then(|id| {
            let shape = file.graph.value(id).shape.as_ref()?;
            usize::try_from(shape.get(1)?.as_const()?).ok()
        });
        let inputs = [NOISE_DP, NOISE_P].iter().any(|name| file.input(name).is_some());
        let noise = Draws {
            dp: of(NOISE_DP).map(name),
            p: of(NOISE_P).map(name),
            channels: channels.unwrap_or(1),
            chosen: inputs || (chosen && !draws.is_empty()),
        };
        let head = match stages::durations(file) {
            Some((w, w_ceil)) => {
                let session = sessions.load_part(file, file.part(&[w, w_ceil], &fed)?)?;
                Some((session, [w, w_ceil].map(name)))
            }
            None => None,
        };
        let whole = fed.is_empty() && outputs.iter().all(|id| file.graph.outputs.contains(id));
        let session =
            if whole { sessions.load(file)? } else { sessions.load_part(file, file.part(outputs, &fed)?)? };
        Ok(Self { session, outputs: outputs.iter().map(|&id| name(id)).collect(), head, noise })
    }

    /// Returns the durations, then the requested values.
    fn run(&self, file: &OnnxFile, request: &Request) -> Result<(Stages, Vec<Array<f32>>), Error> {
        let mut stages = Stages::default();
        let (batch, ids) = (request.input.dims[0], request.input.dims[1]);
        let silence = Array::full(&[batch, 2, ids], 0.0);
        let noise_dp = request.noise_dp.as_ref().unwrap_or(&silence);
        let mut feeds = vec![
            ("input", Feed::I64(&request.input)),
            ("input_lengths", Feed::I64(&request.input_lengths)),
            ("scales", Feed::F32(&request.scales)),
        ];
        feeds.extend(request.sid.as_ref().map(|sid| ("sid", Feed::I64(sid))));
        feeds.extend(self.noise.dp.as_deref().map(|name| (name, Feed::F32(noise_dp))));
        let mut frames = 1;
        if let Some((head, [w, w_ceil])) = &self.head {
            let mut values = head.run(&feeds, &[w, w_ceil])?.into_iter();
            (stages.w, stages.w_ceil) = (values.next(), values.next());
            frames = longest(file, stages.w_ceil.as_ref(), ids)?;
        }
        let silence = Array::full(&[batch, self.noise.channels, frames], 0.0);
        let noise_p = request.noise_p.as_ref().unwrap_or(&silence);
        if request.noise_p.is_some() && self.head.is_some() && noise_p.dims.get(2) != Some(&frames) {
            let found = noise_p.dims.get(2).copied().unwrap_or_default();
            return Err(run_error(
                file,
                format!("gives {frames} frames, but the reference has draws for {found}"),
            ));
        }
        feeds.extend(self.noise.p.as_deref().map(|name| (name, Feed::F32(noise_p))));
        let names: Vec<&str> = self.outputs.iter().map(String::as_str).collect();
        Ok((stages, self.session.run(&feeds, &names)?))
    }
}

/// Number of frames of the batch's longest item.
fn longest(file: &OnnxFile, w_ceil: Option<&Array<f32>>, ids: usize) -> Result<usize, Error> {
    let Some(w_ceil) = w_ceil else { return Ok(1) };
    let mut longest = 1.0f64;
    for item in w_ceil.data.chunks(ids.max(1)) {
        if let Some(at) = item.iter().position(|&w| !w.is_finite() || w < 0.0) {
            return Err(run_error(
                file,
                format!("the duration of id number {at} is {}: its weights are damaged", item[at]),
            ));
        }
        longest = longest.max(item.iter().map(|&w| f64::from(w)).sum());
    }
    if longest > limits::frames(ids) {
        let problem = format!(
            "makes {longest} frames from {ids} ids: the weights of its duration predictor are damaged"
        );
        return Err(run_error(file, problem));
    }
    Ok(longest as usize)
}

fn run_error(file: &OnnxFile, problem: String) -> Error {
    Error::Run { path: file.path.clone(), problem }
}

/// `encoder.onnx`
pub(super) struct EncoderGraph {
    file: OnnxFile,
    front: Front,
    has_g: bool,
}

impl EncoderGraph {
    pub(super) fn open(sessions: &Sessions, file: &OnnxFile, chosen_noise: bool) -> Result<Self, Error> {
        let output = |name: &str| {
            file.output(name).ok_or_else(|| {
                run_error(file, format!("expected an output `{name}`, found none: not an encoder of a pair"))
            })
        };
        let mut outputs = vec![output("z")?, output("y_mask")?];
        let g = file.input("sid").map(|_| output("g")).transpose()?;
        outputs.extend(g);
        let front = Front::open(sessions, file, &outputs, chosen_noise)?;
        Ok(Self { file: file.clone(), front, has_g: g.is_some() })
    }

    /// Returns true if the encoder uses the caller's draws.
    pub(super) fn takes_noise(&self) -> bool {
        self.front.noise.chosen
    }

    /// Computes everything up to the prior's sample.
    pub(super) fn encode(&self, request: &Request) -> Result<Stages, Error> {
        let (mut stages, values) = self.front.run(&self.file, request)?;
        let mut values = values.into_iter();
        (stages.z_p, stages.y_mask) = (values.next(), values.next());
        stages.g = values.next().filter(|_| self.has_g);
        Ok(stages)
    }
}

/// `decoder.onnx`
pub(super) struct DecoderGraph {
    pub(super) file: OnnxFile,
    session: Session,
    /// The latent after the flow, as an output of its own.
    tap: Option<(Session, String)>,
    reversed: bool,
}

impl DecoderGraph {
    pub(super) fn open(sessions: &Sessions, file: &OnnxFile) -> Result<Self, Error> {
        if file.input("z").is_none() || file.output("output").is_none() {
            let problem = "expected an input `z` and an output `output`: not a decoder of a pair".to_owned();
            return Err(run_error(file, problem));
        }
        let tap = match stages::latent(file) {
            Some(z) => Some((sessions.load_part(file, file.part(&[z], &[])?)?, file.name(z).to_owned())),
            None => None,
        };
        let session = sessions.load(file)?;
        Ok(Self { file: file.clone(), session, tap, reversed: stages::is_reversed(file) })
    }

    /// Computes the samples of `z_p: f32[b, inter, time]`.
    pub(super) fn audio(
        &self,
        z_p: &Array<f32>,
        y_mask: Option<&Array<f32>>,
        g: Option<&Array<f32>>,
    ) -> Result<Array<f32>, Error> {
        self.with_feeds(z_p, y_mask, g, |feeds| single(self.session.run(feeds, &["output"]), &self.file))
    }

    /// Computes the latent after the flow; `None` if it cannot be found in the graph.
    pub(super) fn latent(
        &self,
        z_p: &Array<f32>,
        y_mask: Option<&Array<f32>>,
        g: Option<&Array<f32>>,
    ) -> Result<Option<Array<f32>>, Error> {
        let Some((tap, name)) = &self.tap else { return Ok(None) };
        let z = self.with_feeds(z_p, y_mask, g, |feeds| single(tap.run(feeds, &[name]), &self.file))?;
        let z = Array { dims: z_p.dims.clone(), data: z.data };
        if z.data.len() != z_p.data.len() {
            return Err(run_error(
                &self.file,
                format!("`{name}` has {} values, expected {}", z.data.len(), z_p.data.len()),
            ));
        }
        Ok(Some(if self.reversed { reverse_channels(&z) } else { z }))
    }

    fn with_feeds<T>(
        &self,
        z_p: &Array<f32>,
        y_mask: Option<&Array<f32>>,
        g: Option<&Array<f32>>,
        run: impl FnOnce(&[(&str, Feed<'_>)]) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let &[batch, _, frames] = z_p.dims.as_slice() else {
            return Err(run_error(&self.file, format!("`z`: expected three axes, found {:?}", z_p.dims)));
        };
        let ones = Array::full(&[batch, 1, frames], 1.0);
        let mut feeds = vec![("z", Feed::F32(z_p)), ("y_mask", Feed::F32(y_mask.unwrap_or(&ones)))];
        feeds.extend(g.map(|g| ("g", Feed::F32(g))));
        run(&feeds)
    }
}

fn single(values: Result<Vec<Array<f32>>, Error>, file: &OnnxFile) -> Result<Array<f32>, Error> {
    values?.pop().ok_or_else(|| run_error(file, "returned nothing".to_owned()))
}

fn reverse_channels(z: &Array<f32>) -> Array<f32> {
    let (channels, frames) = (z.dims[1], z.dims[2].max(1));
    let items = z.data.chunks_exact((channels * frames).max(1));
    let data = items.flat_map(|item| item.chunks_exact(frames).rev().flatten().copied()).collect::<Vec<_>>();
    Array::new(&z.dims, data)
}

/// A voice to compare with.
pub(super) enum Origin {
    /// A pair.
    Pair(Box<(EncoderGraph, DecoderGraph)>),
    /// The whole network in one graph.
    Whole(Box<Whole>),
}

/// `voice.onnx`
pub(super) struct Whole {
    file: OnnxFile,
    front: Front,
    /// Set if the prior's sample, the latent and the speakers were found in the graph.
    has_z_p: bool,
    has_z: bool,
    has_g: bool,
}

impl Whole {
    pub(super) fn open(sessions: &Sessions, file: &OnnxFile) -> Result<Self, Error> {
        let output = match (file.output("output"), file.graph.outputs.as_slice()) {
            (Some(output), _) | (None, &[output]) => output,
            (None, outputs) => {
                let problem =
                    format!("expected an output `output`, found {} others: not a voice", outputs.len());
                return Err(run_error(file, problem));
            }
        };
        let (z_p, z) = (stages::prior_sample(file), stages::latent(file));
        let g = stages::speaker(file);
        let outputs: Vec<ValueId> = [Some(output), z_p, z, g].into_iter().flatten().collect();
        let front = Front::open(sessions, file, &outputs, false)?;
        let (has_z_p, has_z, has_g) = (z_p.is_some(), z.is_some(), g.is_some());
        Ok(Self { file: file.clone(), front, has_z_p, has_z, has_g })
    }

    fn stages(&self, request: &Request) -> Result<Stages, Error> {
        let (mut stages, values) = self.front.run(&self.file, request)?;
        let mut values = values.into_iter();
        let mut next = |there: bool| if there { values.next() } else { None };
        stages.audio = next(true);
        stages.z_p = next(self.has_z_p);
        stages.z = next(self.has_z).zip(stages.z_p.as_ref()).map(|(z, z_p)| {
            // Some graphs have an additional axis of length 1.
            if z.data.len() == z_p.data.len() { Array { dims: z_p.dims.clone(), data: z.data } } else { z }
        });
        let batch = request.input.dims[0].max(1);
        stages.g =
            next(self.has_g).map(|g| Array { dims: vec![batch, g.data.len() / batch, 1], data: g.data });
        if stages::is_reversed(&self.file) {
            stages.z = stages.z.map(|z| if z.dims.len() == 3 { reverse_channels(&z) } else { z });
        }
        Ok(stages)
    }
}

impl Origin {
    /// Computes all stages of an utterance.
    pub(super) fn stages(&self, request: &Request) -> Result<Stages, Error> {
        match self {
            Self::Whole(whole) => whole.stages(request),
            Self::Pair(pair) => {
                let (encoder, decoder) = &**pair;
                let mut stages = encoder.encode(request)?;
                if let Some(z_p) = &stages.z_p {
                    let (y_mask, g) = (stages.y_mask.as_ref(), stages.g.as_ref());
                    let (z, audio) = (decoder.latent(z_p, y_mask, g)?, decoder.audio(z_p, y_mask, g)?);
                    (stages.z, stages.audio) = (z, Some(audio));
                }
                Ok(stages)
            }
        }
    }
}
