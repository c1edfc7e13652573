//! Voices computed by our own engine, straight from anything that an export reads, exported folders included: no graph is
//! built and no other runtime is needed.
//!
//! ```
//! # let trained = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-vits/tests/golden/multi.ckpt");
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path().join("voice");
//! # vitstream::export::export(trained.as_ref(), &folder, &Default::default())?;
//! use vitstream::native::{self, NativeOptions};
//! use vitstream_synth::SpeakOptions;
//!
//! // A folder with encoder.onnx and decoder.onnx; a checkpoint or a voice.onnx would do as well.
//! let options = NativeOptions { sample_rate: Some(22_050), ..NativeOptions::default() };
//! let voice = native::open(&folder, &options)?;
//! for chunk in voice.stream(&[1, 0, 20, 0, 2], &SpeakOptions::default())? {
//!     println!("{} samples", chunk?.samples.len());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod spec;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;

use vitstream_checkpoint::MappedFile;
use vitstream_engine::{Decoder, Draws, Encoder, Noise, Options, Stream};
use vitstream_synth::engine::{
    DecodeSession, Decoder as DecoderSeam, EncodeRequest, Encoder as EncoderSeam, Latent,
};
use vitstream_synth::{Cost, Profile, Scales, Voice, VoiceInfo};
use vitstream_vits::{DecoderHalf, EncoderHalf};

use crate::Error;
use crate::config::VoiceConfig;
use crate::source::{self, Parts, ReadOptions};

/// How a voice is opened.
#[derive(Clone, Debug, Default)]
pub struct NativeOptions {
    /// How its file is read.
    pub read: ReadOptions,
    /// Threads; 0 means one. They change no bit of the result.
    pub threads: usize,
    /// The sample rate in hertz, if the files do not say it.
    pub sample_rate: Option<u32>,
    /// What pushes cost on this device.
    pub profile: Profile,
}

/// Opens the voice in `path`: anything that [`source::load`] reads.
///
/// # Errors
/// As [`source::load`]; when nothing says the sample rate; when the engine refuses the network or the options.
pub fn open(path: &Path, options: &NativeOptions) -> Result<Voice, Error> {
    let Parts { mut weights, hparams, config, files, warnings, .. } = source::read(path, &options.read)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let threads = options.threads.max(1);
    let engine = Options { threads, ..Options::default() };
    let weights_error = |source| Error::Weights { path: path.to_owned(), source };
    let engine_error = |source| Error::Engine { path: path.to_owned(), source };

    // The weights are held once more while they are packed: so one half after the other, the larger one first, and
    // without the pages from which they were read.
    let release = || files.iter().for_each(MappedFile::release);
    release();
    let decoder = {
        let half = DecoderHalf::load(&weights, &hparams).map_err(weights_error)?;
        release();
        Decoder::new(&spec::decoder(&half, &hparams), engine)
    };
    weights.drop_claimed();
    release();
    let encoder = {
        let half = EncoderHalf::load(&weights, &hparams).map_err(weights_error)?;
        release();
        Encoder::new(&spec::encoder(&half, &hparams), engine)
    };
    let audit = weights.finish().map_err(weights_error)?;
    let (encoder, decoder) = (encoder.map_err(engine_error)?, decoder.map_err(engine_error)?);

    let config = config.as_ref();
    let sample_rate =
        options.sample_rate.or(hparams.sample_rate).or_else(|| config.and_then(VoiceConfig::sample_rate));
    let defaults = Scales::default();
    let scale = |name: &str, default: f32| config.and_then(|config| config.scale(name)).unwrap_or(default);
    let profile_key = format!("native/{threads}/{:032x}", audit.fingerprint);
    let info = VoiceInfo {
        sample_rate: sample_rate.filter(|&rate| rate > 0).ok_or_else(|| {
            Error::Option(format!(
                "{}: nothing says the sample rate; give it with --sample-rate",
                path.display()
            ))
        })?,
        symbols: Some(hparams.num_symbols),
        speakers: hparams.num_speakers,
        speaker_ids: config.map(VoiceConfig::speaker_ids).unwrap_or_default(),
        scales: Scales {
            noise: scale("noise_scale", defaults.noise),
            length: scale("length_scale", defaults.length),
            noise_w: scale("noise_w", defaults.noise_w),
        },
        cost: options.profile.costs.get(&profile_key).copied().unwrap_or(COST),
        profile_key,
    };
    let path: Arc<Path> = path.into();
    let encoder = NativeEncoder { encoder, path: path.clone() };
    Ok(Voice::from_parts(Box::new(encoder), Arc::new(NativeDecoder { decoder, path }), info))
}

/// What a push is taken to cost where nothing was measured: a slow core's time.
const COST: Cost = Cost { overhead: 0.001, per_frame: 0.002 };

/// What the engine says of a call, with the voice's name.
fn failed(path: &Path) -> impl FnOnce(vitstream_engine::Error) -> vitstream_synth::Error {
    |error| vitstream_synth::Error::Run { path: path.to_owned(), message: error.to_string() }
}

struct NativeEncoder {
    encoder: Encoder,
    path: Arc<Path>,
}

impl EncoderSeam for NativeEncoder {
    fn encode(&self, request: &EncodeRequest<'_>) -> Result<Latent, vitstream_synth::Error> {
        let scales = vitstream_engine::Scales {
            noise: request.scales.noise,
            length: request.scales.length,
            noise_w: request.scales.noise_w,
        };
        // Without a seed every utterance is another one.
        let any = || vitstream_synth::Noise::new(RandomState::new().build_hasher().finish());
        let noise = SeededNoise(request.noise.unwrap_or_else(any));
        let speaker = request.speaker.and_then(|speaker| usize::try_from(speaker).ok());
        let latent = self.encoder.encode(request.ids, speaker, scales, Noise::Drawn(&noise));
        let latent = latent.map_err(failed(&self.path))?;
        if latent.frames > request.max_frames {
            return Err(vitstream_synth::Error::Runtime(format!(
                "the utterance has {} frames, more than {}",
                latent.frames, request.max_frames
            )));
        }
        Ok(Latent::new(latent.z_p, self.encoder.channels(), latent.g).with_durations(latent.durations))
    }

    fn takes_noise(&self) -> bool {
        true
    }

    fn gives_durations(&self) -> bool {
        true
    }
}

/// The noise that a seed stands for in every runtime.
#[derive(Debug)]
struct SeededNoise(vitstream_synth::Noise);

impl Draws for SeededNoise {
    fn durations(&self, ids: usize) -> Vec<f32> {
        self.0.durations(ids)
    }

    fn prior(&self, channels: usize, frames: usize) -> Vec<f32> {
        self.0.prior(channels, frames)
    }
}

struct NativeDecoder {
    decoder: Decoder,
    path: Arc<Path>,
}

impl DecoderSeam for NativeDecoder {
    fn hop_length(&self) -> usize {
        self.decoder.hop()
    }

    fn look_ahead(&self) -> usize {
        self.decoder.look_ahead()
    }

    fn start(self: Arc<Self>, g: Option<Vec<f32>>) -> Result<Box<dyn DecodeSession>, vitstream_synth::Error> {
        let stream = self.decoder.stream(g.as_deref()).map_err(failed(&self.path))?;
        Ok(Box::new(NativeSession { stream, channels: self.decoder.channels(), path: self.path.clone() }))
    }
}

struct NativeSession {
    stream: Stream,
    channels: usize,
    path: Arc<Path>,
}

impl DecodeSession for NativeSession {
    fn push(&mut self, frames: &[f32], last: bool) -> Result<Vec<f32>, vitstream_synth::Error> {
        let mut samples = Vec::new();
        self.stream.push(frames, frames.len() / self.channels, &mut samples).map_err(failed(&self.path))?;
        if last {
            self.stream.finish(&mut samples).map_err(failed(&self.path))?;
        }
        Ok(samples)
    }
}
