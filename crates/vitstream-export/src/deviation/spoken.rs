//! A short utterance spoken by both, on the same noise.

use rten::{NodeId, Value, ValueOrView};
use vitstream_onnx::passes::{self, HalfPrecisionWeights};
use vitstream_onnx::{Graph, encode, validate};
use vitstream_synth::{Noise, Scales};
use vitstream_vits::{EncoderForm, NoiseSource, SynthesizerTrn};

use super::AudioDeviation;

/// Phoneme ids of the utterance.
const IDS: usize = 32;

/// About as many frames are spoken; what would last longer is spoken faster.
const FRAMES: f32 = 96.0;

/// An utterance that lasts longer even then is not spoken.
const MAX_FRAMES: f32 = 512.0;

/// Speaks with `model` in single precision and with weights in half precision.
///
/// # Errors
/// Why it cannot be told, in words.
pub(crate) fn audio_deviation(model: &SynthesizerTrn, opset: i64) -> Result<AudioDeviation, String> {
    let hp = &model.hparams;
    let symbols = i32::try_from(hp.num_symbols).map_err(|_| "too many symbols".to_owned())?.max(1);
    // Any ids will do; these visit all parts of the table.
    let ids: Vec<i32> = (0..IDS as i32).map(|i| (i * 37 + 1) % symbols).collect();
    let form = EncoderForm { noise: NoiseSource::Input, durations: true };
    let encoder = || model.emit_encoder(opset, form).map_err(|error| error.to_string());
    let decoder = || model.emit_decoder(opset).map_err(|error| error.to_string());

    let exact = Utterance::encode(model, &ids, &Session::new(encoder()?, false)?, None)?;
    let rounded = Utterance::encode(model, &ids, &Session::new(encoder()?, true)?, Some(exact.length_scale))?;
    let comparable = if rounded.frames == exact.frames { &rounded } else { &exact };
    let before = exact.decode(&Session::new(decoder()?, false)?)?;
    let after = comparable.decode(&Session::new(decoder()?, true)?)?;
    if before.len() != after.len() {
        return Err(format!("{} samples against {}", before.len(), after.len()));
    }
    let (mut difference, mut loudness, mut largest) = (0.0, 0.0, 0.0f64);
    for (&a, &b) in before.iter().zip(&after) {
        let (a, b) = (f64::from(a), f64::from(b));
        difference += (a - b).powi(2);
        loudness += a.powi(2);
        largest = largest.max((a - b).abs());
    }
    let relative = (difference / loudness).sqrt();
    if !relative.is_finite() {
        return Err("the test utterance is silent, or not finite".to_owned());
    }
    let (frames, half_precision_frames) = (exact.frames, rounded.frames);
    Ok(AudioDeviation { frames, half_precision_frames, relative, largest })
}

/// The encoder's outputs.
struct Utterance {
    length_scale: f32,
    frames: usize,
    /// `f32[1, inter, frames]`
    z: Vec<f32>,
    /// `f32[1, gin, 1]`
    g: Option<Vec<f32>>,
}

impl Utterance {
    fn encode(
        model: &SynthesizerTrn,
        ids: &[i32],
        encoder: &Session,
        length_scale: Option<f32>,
    ) -> Result<Self, String> {
        let (hp, count, noise) = (&model.hparams, ids.len(), Noise::new(1));
        let noise_dp = noise.durations(count);
        let run = |length_scale: f32, frames: usize, outputs: &[&str]| {
            let Scales { noise: noise_scale, noise_w, .. } = Scales::default();
            let mut inputs = vec![
                encoder.ints("input", &[1, count], ids)?,
                encoder.ints("input_lengths", &[1], &[count as i32])?,
                encoder.floats("scales", &[3], vec![noise_scale, length_scale, noise_w])?,
            ];
            if hp.multi_speaker() {
                inputs.push(encoder.ints("sid", &[1], &[0])?);
            }
            if hp.use_sdp() {
                inputs.push(encoder.floats("noise_dp", &[1, 2, count], noise_dp.clone())?);
            }
            let noise_p = noise.prior(hp.inter_channels, frames);
            inputs.push(encoder.floats("noise_p", &[1, hp.inter_channels, frames], noise_p)?);
            encoder.run(inputs, outputs)
        };
        // The durations alone cost nothing, whatever they are; then it is known how long all the rest would be.
        let frames_at = |length_scale| -> Result<f32, String> {
            let durations = run(length_scale, 1, &["durations"])?;
            let total: f32 = durations.iter().flatten().sum();
            if total.is_finite() { Ok(total.max(1.0)) } else { Err("durations are not finite".to_owned()) }
        };
        let length_scale = match length_scale {
            Some(given) => given,
            None => (FRAMES / frames_at(1.0)?).min(1.0),
        };
        let frames = frames_at(length_scale)?;
        if frames > MAX_FRAMES {
            return Err(format!("{count} phoneme ids last {frames} frames"));
        }
        let names: &[&str] = if hp.multi_speaker() { &["z", "g"] } else { &["z"] };
        let mut outputs = run(length_scale, frames as usize, names)?.into_iter();
        let z = outputs.next().unwrap_or_default();
        Ok(Self { length_scale, frames: z.len() / hp.inter_channels.max(1), z, g: outputs.next() })
    }

    fn decode(&self, decoder: &Session) -> Result<Vec<f32>, String> {
        let channels = self.z.len() / self.frames.max(1);
        let mut inputs = vec![
            decoder.floats("z", &[1, channels, self.frames], self.z.clone())?,
            decoder.floats("y_mask", &[1, 1, self.frames], vec![1.0; self.frames])?,
        ];
        if let Some(g) = &self.g {
            inputs.push(decoder.floats("g", &[1, g.len(), 1], g.clone())?);
        }
        Ok(decoder.run(inputs, &["output"])?.into_iter().next().unwrap_or_default())
    }
}

/// A graph in rten.
struct Session(rten::Model);

impl Session {
    fn new(graph: Graph, half_precision: bool) -> Result<Self, String> {
        let mut graph = passes::run_default(graph);
        if half_precision {
            HalfPrecisionWeights.run(&mut graph);
        }
        let bytes = encode::to_bytes(&validate(graph).map_err(|error| error.to_string())?);
        rten::Model::load(bytes).map(Self).map_err(|error| error.to_string())
    }

    fn node(&self, name: &str) -> Result<NodeId, String> {
        self.0.find_node(name).ok_or_else(|| format!("there is no {name}"))
    }

    fn ints(&self, name: &str, shape: &[usize], data: &[i32]) -> Result<(NodeId, Value), String> {
        let value = Value::from_shape(shape, data.to_vec()).map_err(|error| error.to_string())?;
        Ok((self.node(name)?, value))
    }

    fn floats(&self, name: &str, shape: &[usize], data: Vec<f32>) -> Result<(NodeId, Value), String> {
        let value = Value::from_shape(shape, data).map_err(|error| error.to_string())?;
        Ok((self.node(name)?, value))
    }

    fn run(&self, inputs: Vec<(NodeId, Value)>, outputs: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        let inputs: Vec<(NodeId, ValueOrView<'_>)> =
            inputs.into_iter().map(|(id, value)| (id, value.into())).collect();
        let ids = outputs.iter().map(|name| self.node(name)).collect::<Result<Vec<_>, _>>()?;
        let values = self.0.run(inputs, &ids, None).map_err(|error| error.to_string())?;
        values
            .into_iter()
            .map(|value| match value.into_tensor::<f32>() {
                Some(tensor) => Ok(tensor.into_data()),
                None => Err("an output is not float32".to_owned()),
            })
            .collect()
    }
}
