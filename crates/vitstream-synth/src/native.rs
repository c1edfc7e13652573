//! Voices computed by our own engine, from anything that an export can read, including exported folders: no
//! graph is built and no other runtime is needed.
//!
//! ```
//! # let trained = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-vits/tests/golden/multi.ckpt");
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path().join("voice");
//! # vitstream_export::export::export(trained, &folder, &Default::default())?;
//! use vitstream_synth::native::{self, NativeOptions};
//! use vitstream_synth::SpeakOptions;
//!
//! // A folder with encoder.onnx and decoder.onnx; a checkpoint or a voice.onnx works as well.
//! let options = NativeOptions::new().sample_rate(22_050);
//! let voice = native::open(&folder, &options)?;
//! for chunk in voice.stream(&[1, 0, 20, 0, 2], &SpeakOptions::default())? {
//!     println!("{} samples", chunk?.samples.len());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::sync::Arc;

pub use vitstream_engine::Isa;
use vitstream_engine::{Decoder, Draws, DrawsFrom, Encoder, Options, Stream, from_vits};
use vitstream_source::config::VoiceConfig;
use vitstream_source::{self as source, Input, Parts, ReadOptions};
use vitstream_vits::{DecoderHalf, EncoderHalf};

use crate::backend::{DecodeBackend, DecodeSession, EncodeBackend, EncodeRequest, Latent};
use crate::{Cost, Error, Profile, SAMPLE_RATES, Scales, Voice, VoiceInfo};

/// Options for opening a voice.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct NativeOptions {
    /// Options for reading the voice's file.
    pub read: ReadOptions,
    /// Number of threads; 0 means one. It does not change a single bit of the result.
    pub threads: usize,
    /// Whether weights are kept as float16, in half the memory; for voices that were exported with float16
    /// weights. It does not change a single bit of the result.
    pub half_weights: bool,
    /// The sample rate in hertz, if the files do not state it.
    pub sample_rate: Option<u32>,
    /// The cost of pushes on this device.
    pub profile: Profile,
}

impl NativeOptions {
    /// The same as [`default`](Self::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the options for reading the voice's file.
    pub fn read(mut self, read: ReadOptions) -> Self {
        self.read = read;
        self
    }

    /// Sets the number of threads, 1 to 256; 0 means one. It does not change a single bit of the result.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets whether weights are kept as float16; for voices that were exported with float16 weights. It does not
    /// change a single bit of the result.
    pub fn half_weights(mut self, half_weights: bool) -> Self {
        self.half_weights = half_weights;
        self
    }

    /// Sets the sample rate in hertz, if the files do not state it.
    pub fn sample_rate(mut self, sample_rate: impl Into<Option<u32>>) -> Self {
        self.sample_rate = sample_rate.into();
        self
    }

    /// Sets the cost of pushes on this device.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }
}

/// Opens the voice in `input`: anything that [`source::load`] reads.
///
/// # Errors
/// As [`source::load`]; when the sample rate is unknown; when the engine refuses the network or the options;
/// when weights are to be kept as float16 and most of them are not float16 numbers.
pub fn open(input: impl Into<Input>, options: &NativeOptions) -> Result<Voice, Error> {
    let voice = read_and_pack(&input.into(), options)?;
    if options.half_weights {
        // The float32 weights that were read are freed now; an allocator that keeps their memory would keep
        // more than was saved.
        vitstream_engine::give_back_freed_memory();
    }
    Ok(voice)
}

fn read_and_pack(input: &Input, options: &NativeOptions) -> Result<Voice, Error> {
    let path = input.name();
    let Parts { mut weights, hparams, config, files, warnings, notes, .. } =
        source::read(input, &options.read)?;
    for warning in warnings {
        log::warn!("{warning}");
    }
    for note in notes {
        log::info!("{}: {note}", path.display());
    }
    match &config {
        Some(config) => log::info!("{}: voice JSON {}", path.display(), config.path.display()),
        None => log::info!("{}: no voice JSON", path.display()),
    }
    let threads = options.threads.max(1);
    let engine = Options::new().threads(threads).half_weights(options.half_weights);
    let weights_error = |source| vitstream_source::Error::Weights { path: path.to_owned(), source };
    let engine_error = |reason| Error::Engine { path: path.to_owned(), reason };

    let half = DecoderHalf::load(&weights, &hparams).map_err(weights_error)?;
    weights.drop_claimed();
    let (decoder, encoder) = together(
        || Decoder::new(&from_vits::decoder(&half, &hparams), engine),
        || {
            let half = EncoderHalf::load(&weights, &hparams).map_err(weights_error)?;
            Ok::<_, Error>(Encoder::new(&from_vits::encoder(&half, &hparams), engine))
        },
    );
    let encoder = encoder?;
    drop(half);
    let audit = weights.finish().map_err(weights_error)?;
    source::check_finite(path, &audit, &options.read)?;
    source::check_unchanged(&files)?;
    let (encoder, decoder) = (encoder.map_err(engine_error)?, decoder.map_err(engine_error)?);
    if options.half_weights {
        let (mut found, of_decoder) = (encoder.half_weights(), decoder.half_weights());
        found.kept += of_decoder.kept;
        found.all += of_decoder.all;
        if 2 * found.kept < found.all {
            return Err(Error::NotHalf { path: path.to_owned(), found });
        }
    }

    let config = config.as_ref();
    let sample_rate =
        options.sample_rate.or(hparams.sample_rate).or_else(|| config.and_then(VoiceConfig::sample_rate));
    let defaults = Scales::default();
    let scale = |name: &str, default: f32| config.and_then(|config| config.scale(name)).unwrap_or(default);
    let profile_key = format!("native/{threads}/{:032x}", audit.fingerprint);
    let info = VoiceInfo {
        sample_rate: checked_rate(path, sample_rate)?,
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
        json: config.map(|config| config.json().clone()).unwrap_or_default(),
    };
    let path: Arc<Path> = path.into();
    let encoder = NativeEncoder { encoder, path: path.clone() };
    Ok(Voice::from_parts(Box::new(encoder), Arc::new(NativeDecoder { decoder, path }), info))
}

/// Returns both results. The first is computed on a separate thread if one is available.
fn together<A: Send, B>(beside: impl Fn() -> A + Sync, here: impl FnOnce() -> B) -> (A, B) {
    #[cfg(feature = "threads")]
    {
        use std::panic::resume_unwind;
        use std::thread::{Builder, scope};
        scope(|threads| {
            let beside_thread = Builder::new().spawn_scoped(threads, &beside);
            let here = here();
            // If no thread can be started, this one does all the work.
            let beside = beside_thread.map_or_else(
                |_| beside(),
                |thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            );
            (beside, here)
        })
    }
    #[cfg(not(feature = "threads"))]
    {
        let here = here();
        (beside(), here)
    }
}

/// The sample rate stated by the files or the caller.
fn checked_rate(path: &Path, rate: Option<u32>) -> Result<u32, Error> {
    match rate {
        Some(rate) if SAMPLE_RATES.contains(&rate) => Ok(rate),
        Some(rate) => {
            let (least, most) = (SAMPLE_RATES.start(), SAMPLE_RATES.end());
            Err(Error::model(
                path,
                format!("the sample rate: expected {least} to {most} hertz, found {rate}"),
            ))
        }
        None => Err(Error::NoSampleRate {
            path: path.to_owned(),
            where_not: "neither the network nor a voice JSON".to_owned(),
        }),
    }
}

/// The cost of a push if none was measured: that of a slow core.
const COST: Cost = Cost { overhead: 0.001, per_frame: 0.002 };

/// The engine's error for a call, with the voice's path.
fn failed(path: &Path) -> impl FnOnce(vitstream_engine::Error) -> Error {
    |error| match error {
        vitstream_engine::Error::Stopped => Error::Cancelled,
        error => Error::Run { path: path.to_owned(), message: error.to_string() },
    }
}

struct NativeEncoder {
    encoder: Encoder,
    path: Arc<Path>,
}

impl EncodeBackend for NativeEncoder {
    fn encode(&self, request: &EncodeRequest<'_>) -> Result<Latent, Error> {
        let scales = vitstream_engine::Scales {
            noise: request.scales.noise,
            length: request.scales.length,
            noise_w: request.scales.noise_w,
        };
        // Without a seed every utterance is different.
        let any = || crate::Noise::new(RandomState::new().build_hasher().finish());
        let noise = SeededNoise(request.noise.unwrap_or_else(any));
        let stop = || request.cancel.is_cancelled();
        let latent = self.encoder.encode_unless(
            request.ids,
            request.speaker,
            scales,
            DrawsFrom::Generator(&noise),
            &stop,
        );
        let latent = latent.map_err(failed(&self.path))?;
        if latent.frames > request.max_frames {
            return Err(Error::Runtime(format!(
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

    fn weight_bytes(&self) -> Option<usize> {
        Some(self.encoder.weight_bytes())
    }
}

/// The noise for a seed, which is the same in every runtime.
#[derive(Debug)]
struct SeededNoise(crate::Noise);

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

impl DecodeBackend for NativeDecoder {
    fn hop_length(&self) -> usize {
        self.decoder.hop()
    }

    fn look_ahead(&self) -> usize {
        self.decoder.look_ahead()
    }

    fn start(self: Arc<Self>, g: Option<Vec<f32>>) -> Result<Box<dyn DecodeSession>, Error> {
        let stream = self.decoder.stream(g.as_deref()).map_err(failed(&self.path))?;
        Ok(Box::new(NativeSession { stream, channels: self.decoder.channels(), path: self.path.clone() }))
    }

    fn weight_bytes(&self) -> Option<usize> {
        Some(self.decoder.weight_bytes())
    }
}

struct NativeSession {
    stream: Stream,
    channels: usize,
    path: Arc<Path>,
}

impl DecodeSession for NativeSession {
    fn push(&mut self, frames: &[f32], last: bool) -> Result<Vec<f32>, Error> {
        let mut samples = Vec::new();
        self.stream.push(frames, frames.len() / self.channels, &mut samples).map_err(failed(&self.path))?;
        if last {
            self.stream.finish(&mut samples).map_err(failed(&self.path))?;
        }
        Ok(samples)
    }
}
