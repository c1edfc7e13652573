//! A voice that speaks, independent of its source.

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
    /// [`Native`](Self::Native); for a folder whose graphs cannot be read back as a network,
    /// [`Rten`](Self::Rten) with a warning.
    #[default]
    Auto,
    /// vitstream's own engine in pure Rust, for any voice that can be read.
    Native,
    /// rten, in pure Rust, for the graphs of an exported folder.
    Rten,
    /// Microsoft's ONNX Runtime, a shared library found at run time, for the graphs of an exported folder.
    OnnxRuntime,
}

/// Options for opening a voice.
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
    /// The backend that computes the voice.
    pub backend: Backend,
    /// Options for reading the voice: facts that its file does not state.
    pub read: ReadOptions,
    /// Number of threads, 1 to 256. With the native backend it does not change a single bit of the result.
    pub threads: usize,
    /// Whether the native backend keeps weights as float16, in half the memory; for voices that were exported with
    /// [`Precision::F16Weights`](crate::export::Precision). It does not change a single bit of the audio.
    pub half_weights: bool,
    /// The sample rate in hertz, for a voice whose files do not state it.
    pub sample_rate: Option<u32>,
    /// The decoder to use from a folder, for backends that run its graphs.
    pub decoder: DecoderChoice,
    /// Path of ONNX Runtime's shared library. Searched for if absent.
    pub library: Option<PathBuf>,
    /// Process in which a folder's graphs run, for backends that run them. Without a wall they run in this
    /// process: a panic in them becomes an error, but an abort, or memory running out, ends the process.
    pub wall: Option<Wall>,
    /// The cost of chunks on this device, from which chunk sizes are derived.
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

    /// Sets the backend that computes the voice.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = backend;
        self
    }

    /// Sets the options for reading the voice: facts that its file does not state.
    pub fn read(mut self, read: ReadOptions) -> Self {
        self.read = read;
        self
    }

    /// Sets the number of threads, 1 to 256.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets whether the native backend keeps weights as float16; for voices that were exported with float16
    /// weights. It does not change a single bit of the audio.
    pub fn half_weights(mut self, half_weights: bool) -> Self {
        self.half_weights = half_weights;
        self
    }

    /// Sets the sample rate in hertz, for a voice whose files do not state it.
    pub fn sample_rate(mut self, hertz: impl Into<Option<u32>>) -> Self {
        self.sample_rate = hertz.into();
        self
    }

    /// Sets the decoder to use from a folder, for backends that run its graphs.
    pub fn decoder(mut self, decoder: DecoderChoice) -> Self {
        self.decoder = decoder;
        self
    }

    /// Sets the path of ONNX Runtime's shared library.
    pub fn library(mut self, path: impl Into<PathBuf>) -> Self {
        self.library = Some(path.into());
        self
    }

    /// Sets the process in which a folder's graphs run.
    pub fn wall(mut self, wall: impl Into<Option<Wall>>) -> Self {
        self.wall = wall.into();
        self
    }

    /// Sets the cost of chunks on this device.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }
}

/// A voice that speaks. Clones are cheap and share the voice; any number of threads may speak with it at
/// once.
#[derive(Clone, Debug)]
pub struct Voice {
    voice: vitstream_synth::Voice,
    backend: Backend,
    warnings: Vec<String>,
}

impl Voice {
    /// Opens a voice: an exported folder, any file that [`export`](crate::export()) reads, or contents in
    /// memory.
    ///
    /// # Errors
    /// When the voice cannot be read, its sample rate is unknown, the backend is not available, or an option
    /// is invalid.
    pub fn open(input: impl Into<Input>, options: &OpenOptions) -> Result<Self> {
        let input = &input.into();
        // Checked before any backend is tried: no backend may speak with the files of two voices.
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
            // Options for reading and keeping the weights would have no effect on the folder's graphs.
            Err(error)
                if input.path().is_some_and(Path::is_dir)
                    && error.is_about_content()
                    && options.read == ReadOptions::default()
                    && !options.half_weights =>
            {
                if let Err(absent) = Runtime::Rten.available(None) {
                    let problem = format!("{error}; rten could run its graphs, but {absent}");
                    return Err(vitstream_synth::Error::Runtime(problem).into());
                }
                let mut voice = Self::open_graphs(input, options, Backend::Rten, Runtime::Rten)?;
                voice.warnings.push(format!("{error}; rten is used instead of the native engine"));
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
        Err(Error::option(
            "this build does not contain the native engine: build it with the feature `native`",
        ))
    }

    fn open_graphs(input: &Input, options: &OpenOptions, backend: Backend, runtime: Runtime) -> Result<Self> {
        if options.read != ReadOptions::default() {
            return Err(Error::option(format!(
                "{runtime} runs a folder's graphs as they are: options for reading a voice work only with the native backend"
            )));
        }
        if options.half_weights {
            return Err(Error::option(format!(
                "{runtime} keeps weights in its own way: keeping them as float16 works only with the native backend"
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

    /// The backend in use; never [`Backend::Auto`].
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Warnings about the voice's files.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The sample rate, the speakers, and other facts about the voice apart from its network.
    pub fn info(&self) -> &VoiceInfo {
        self.voice.info()
    }

    /// The voice's JSON, as read from its files or as derived from the settings of its family; empty if there
    /// is none. It defines how text becomes the ids that the voice was trained with.
    pub fn config(&self) -> &serde_json::Map<String, serde_json::Value> {
        &self.voice.info().json
    }

    /// The name under which a [`Profile`] stores this voice on its backend.
    pub fn profile_key(&self) -> &str {
        self.voice.profile_key()
    }

    /// Duration of one frame in seconds.
    pub fn frame_seconds(&self) -> f64 {
        self.voice.frame_seconds()
    }

    /// Bytes that its weights take in memory, as packed for the kernels; `None` for backends that do not tell. Clones share
    /// them.
    pub fn weight_bytes(&self) -> Option<usize> {
        self.voice.weight_bytes()
    }

    /// Returns true if [`SpeechStream::durations`] gives the length of each phoneme.
    pub fn gives_durations(&self) -> bool {
        self.voice.gives_durations()
    }

    /// The decoder, for callers that feed it themselves.
    pub fn decoder(&self) -> Arc<dyn DecodeBackend> {
        self.voice.decoder()
    }

    /// Speaks phoneme `ids`, chunk by chunk. Nothing is computed before the first chunk is requested;
    /// dropping the stream stops the work.
    ///
    /// # Errors
    /// When the voice cannot speak this: no ids or too many, an id outside the vocabulary, an unknown
    /// speaker, scales outside their range, a chunk of zero frames, or a seed for a voice that draws its own
    /// noise.
    pub fn stream(&self, ids: &[i64], options: &SpeakOptions) -> Result<SpeechStream> {
        Ok(SpeechStream(self.voice.stream(ids, options)?))
    }

    /// Speaks phoneme `ids` and returns all samples at once, f32 between -1 and 1.
    ///
    /// # Errors
    /// As [`stream`](Self::stream), and when the computation fails.
    pub fn synthesize(&self, ids: &[i64], options: &SpeakOptions) -> Result<Vec<f32>> {
        Ok(self.voice.synthesize(ids, options)?)
    }
}

/// The chunks of one utterance. No chunks follow an error.
#[derive(Debug)]
pub struct SpeechStream(vitstream_synth::SpeechStream);

impl SpeechStream {
    /// A handle that stops the stream from any thread: between chunks, and with the native backend also
    /// between the encoder's layers. The stream then ends with an error of kind
    /// [`Interrupted`](crate::ErrorKind::Interrupted).
    pub fn cancel_handle(&self) -> Cancel {
        self.0.cancel_handle()
    }

    /// Time from the creation of the stream to the end of the encoder; `None` before the first chunk.
    pub fn encoded(&self) -> Option<std::time::Duration> {
        self.0.encoded()
    }

    /// Number of samples of the whole utterance; known once the encoder has finished.
    pub fn total_samples(&self) -> Option<usize> {
        self.0.total_samples()
    }

    /// Number of samples of each phoneme id, in order from the start of the utterance. Known once the encoder
    /// has finished, and only for voices that [provide durations](Voice::gives_durations).
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
