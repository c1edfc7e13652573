//! A voice that speaks, whatever it was opened from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use vitstream_source::{Input, ReadOptions};
use vitstream_synth::backend::DecodeBackend;
#[cfg(feature = "native")]
use vitstream_synth::native::{self, NativeOptions};
use vitstream_synth::{
    Cancel, Chunk, DecoderChoice, Profile, Runtime, SpeakOptions, VoiceInfo, VoiceOptions, Wall,
};

use crate::{Error, Result};

/// The runtime that computes a voice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// [`Native`](Self::Native), or [`Rten`](Self::Rten) with a warning for a folder whose graphs cannot be read back as
    /// a network.
    #[default]
    Auto,
    /// vitstream's own engine: any voice that can be read, in pure Rust.
    Native,
    /// rten: the graphs of an exported folder, in pure Rust.
    Rten,
    /// Microsoft's ONNX Runtime, a shared library found at run time: the graphs of an exported folder.
    OnnxRuntime,
}

/// How a voice is opened.
///
/// ```
/// use vitstream::{Backend, OpenOptions};
///
/// let options = OpenOptions::new().backend(Backend::Native).threads(2).sample_rate(22_050);
/// assert_eq!(options.threads, 2);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenOptions {
    /// The backend that computes.
    pub backend: Backend,
    /// How the voice is read: what its file does not say.
    pub read: ReadOptions,
    /// Threads, 1 to 256. With the native backend they change no bit of the result.
    pub threads: usize,
    /// Whether the native backend keeps weights as float16, in half the memory: for voices that were exported with
    /// [`Precision::F16Weights`](crate::Precision). It changes no bit of the audio.
    pub half_weights: bool,
    /// The sample rate in hertz, for a voice whose files do not say it.
    pub sample_rate: Option<u32>,
    /// Which of a folder's decoders, for backends that run its graphs.
    pub decoder: DecoderChoice,
    /// Where ONNX Runtime's shared library is; looked for when absent.
    pub library: Option<PathBuf>,
    /// Where the graphs of a folder run, for backends that run them. Without a wall they run in this process: what panics
    /// there is an error, but what aborts or takes all memory ends the process.
    pub wall: Option<Wall>,
    /// The cost of chunks on this device, which decides how large they are.
    pub profile: Profile,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            backend: Backend::Auto,
            read: ReadOptions::default(),
            threads: 1,
            half_weights: false,
            sample_rate: None,
            decoder: DecoderChoice::default(),
            library: None,
            wall: None,
            profile: Profile::default(),
        }
    }
}

impl OpenOptions {
    /// The same as [`default`](Self::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// The backend that computes.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// How the voice is read: what its file does not say.
    pub fn read(mut self, read: ReadOptions) -> Self {
        self.read = read;
        self
    }

    /// Threads, 1 to 256.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Whether the native backend keeps weights as float16: for voices that were exported so. It changes no bit of the
    /// audio.
    pub fn half_weights(mut self, half_weights: bool) -> Self {
        self.half_weights = half_weights;
        self
    }

    /// The sample rate in hertz, for a voice whose files do not say it.
    pub fn sample_rate(mut self, hertz: impl Into<Option<u32>>) -> Self {
        self.sample_rate = hertz.into();
        self
    }

    /// Which of a folder's decoders, for backends that run its graphs.
    pub fn decoder(mut self, decoder: DecoderChoice) -> Self {
        self.decoder = decoder;
        self
    }

    /// Where ONNX Runtime's shared library is.
    pub fn library(mut self, path: impl Into<PathBuf>) -> Self {
        self.library = Some(path.into());
        self
    }

    /// Where the graphs of a folder run.
    pub fn wall(mut self, wall: impl Into<Option<Wall>>) -> Self {
        self.wall = wall.into();
        self
    }

    /// The cost of chunks on this device.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }
}

/// A voice that speaks. Cloning it is cheap and shares it; any number of threads may speak with it at once.
#[derive(Clone, Debug)]
pub struct Voice {
    voice: vitstream_synth::Voice,
    backend: Backend,
    warnings: Vec<String>,
}

impl Voice {
    /// Opens a voice: an exported folder, any file that [`export`](crate::export()) reads, or contents in memory.
    ///
    /// # Errors
    /// When the voice cannot be read, nothing says its sample rate, the backend is not there, or an option makes no
    /// sense.
    pub fn open(input: impl Into<Input>, options: &OpenOptions) -> Result<Self> {
        let input = &input.into();
        // Before any backend is tried: none may speak with files of two voices.
        input.path().map_or(Ok(()), vitstream_source::check_finished)?;
        match options.backend {
            Backend::Auto => Self::open_auto(input, options),
            Backend::Native => Self::open_native(input, options),
            Backend::Rten => Self::open_graphs(input, options, Backend::Rten, Runtime::Rten),
            Backend::OnnxRuntime => {
                Self::open_graphs(input, options, Backend::OnnxRuntime, Runtime::OnnxRuntime)
            }
        }
    }

    fn open_auto(input: &Input, options: &OpenOptions) -> Result<Self> {
        match Self::open_native(input, options) {
            // What is said of how to read and to keep the voice would have no effect on its graphs.
            Err(error)
                if input.path().is_some_and(Path::is_dir)
                    && error.is_about_content()
                    && options.read == ReadOptions::default()
                    && !options.half_weights =>
            {
                let mut voice = Self::open_graphs(input, options, Backend::Rten, Runtime::Rten)?;
                voice.warnings.push(format!("{error}; so not the native engine but rten speaks"));
                Ok(voice)
            }
            result => result,
        }
    }

    #[cfg(feature = "native")]
    fn open_native(input: &Input, options: &OpenOptions) -> Result<Self> {
        let given = NativeOptions::new()
            .read(options.read.clone())
            .threads(options.threads)
            .half_weights(options.half_weights)
            .sample_rate(options.sample_rate)
            .profile(options.profile.clone());
        let voice = native::open(input, &given)?;
        Ok(Self { voice, backend: Backend::Native, warnings: Vec::new() })
    }

    #[cfg(not(feature = "native"))]
    fn open_native(_: &Input, _: &OpenOptions) -> Result<Self> {
        Err(Error::option("this build is without the native engine: build it with the feature `native`"))
    }

    fn open_graphs(input: &Input, options: &OpenOptions, backend: Backend, runtime: Runtime) -> Result<Self> {
        if options.read != ReadOptions::default() {
            return Err(Error::option(format!(
                "{runtime} runs a folder's graphs as they are: what is said of how to read a voice is for the native backend"
            )));
        }
        if options.half_weights {
            return Err(Error::option(format!(
                "{runtime} keeps weights as it likes: to keep them as float16 is for the native backend"
            )));
        }
        let directory = input.path().ok_or_else(|| {
            Error::option(format!(
                "{}: {runtime} runs the files of a folder, not contents in memory",
                input.name().display()
            ))
        })?;
        let mut given = VoiceOptions::new()
            .runtime(runtime)
            .threads(options.threads)
            .wall(options.wall.clone())
            .decoder(options.decoder)
            .sample_rate(options.sample_rate)
            .profile(options.profile.clone());
        given.library.clone_from(&options.library);
        Ok(Self { voice: vitstream_synth::Voice::open(directory, &given)?, backend, warnings: Vec::new() })
    }

    /// The backend that computes it; never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Warnings about its files.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Its sample rate, speakers, and whatever else is known beside its network.
    pub fn info(&self) -> &VoiceInfo {
        self.voice.info()
    }

    /// Its JSON, as its files have it or as it was put together from its family's; empty when there is none. It says how
    /// text becomes the ids that it was trained with.
    pub fn config(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.voice.info().json
    }

    /// Under what name a [`Profile`] knows it on its backend.
    pub fn profile_key(&self) -> &str {
        self.voice.profile_key()
    }

    /// Seconds that one frame plays.
    pub fn frame_seconds(&self) -> f64 {
        self.voice.frame_seconds()
    }

    /// Whether [`SpeechStream::durations`] tells when each phoneme is spoken.
    pub fn gives_durations(&self) -> bool {
        self.voice.gives_durations()
    }

    /// The decoder, for those who feed it themselves.
    pub fn decoder(&self) -> Arc<dyn DecodeBackend> {
        self.voice.decoder()
    }

    /// Speaks phoneme `ids`, chunk by chunk. Nothing is computed before the first chunk is asked for; dropping the
    /// stream ends the work.
    ///
    /// # Errors
    /// When the voice cannot speak this: no ids or too many, an id outside the vocabulary, an unknown speaker, scales
    /// outside their range, a chunk of no frames, or a seed for a voice that draws its own noise.
    pub fn stream(&self, ids: &[i64], options: &SpeakOptions) -> Result<SpeechStream> {
        Ok(SpeechStream(self.voice.stream(ids, options)?))
    }

    /// Speaks phoneme `ids` and gives all samples at once, f32 between -1 and 1.
    ///
    /// # Errors
    /// As [`stream`](Self::stream), and when computing fails.
    pub fn synthesize(&self, ids: &[i64], options: &SpeakOptions) -> Result<Vec<f32>> {
        Ok(self.voice.synthesize(ids, options)?)
    }
}

/// The chunks of one utterance. After an error there are no more.
#[derive(Debug)]
pub struct SpeechStream(vitstream_synth::SpeechStream);

impl SpeechStream {
    /// Stops it, from any thread: between chunks, and with the native backend between the encoder's layers as well. Then
    /// it ends with an error of the kind [`Interrupted`](crate::ErrorKind::Interrupted).
    pub fn cancel_handle(&self) -> Cancel {
        self.0.cancel_handle()
    }

    /// When the encoder was done, counted from when the stream was made; `None` before the first chunk.
    pub fn encoded(&self) -> Option<std::time::Duration> {
        self.0.encoded()
    }

    /// Samples of the whole utterance, known as soon as the encoder is done.
    pub fn total_samples(&self) -> Option<usize> {
        self.0.total_samples()
    }

    /// Samples of each phoneme id, one after the other from the utterance's first; known as soon as the encoder is
    /// done, and only of voices that [tell them](Voice::gives_durations).
    pub fn durations(&self) -> Option<&[usize]> {
        self.0.durations()
    }
}

impl Iterator for SpeechStream {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map_err(Error::from))
    }
}
