//! A voice for Python.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process;
use std::sync::{Arc, PoisonError, RwLock};

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use vitstream::source::{ReadOptions, WeightSet};
use vitstream::{Backend, Chunking, DecoderChoice, Input, OpenOptions, Scales, SpeakOptions, Speaker, Wall};

use crate::error::Failure;
use crate::reading::{self, Read, Reading, ReadingOptions, TextStream};
use crate::utterance::{Format, Utterance};

/// Beyond this factor, everything but silence would be clipped.
const LOUDEST: f32 = 100.0;

/// Facts about a voice that its file does not state.
#[derive(FromPyObject)]
pub(crate) struct ReadArguments {
    config: Option<PathBuf>,
    hparams: Vec<String>,
    weights: Option<String>,
    allow_nan: bool,
    memory_budget: Option<u64>,
}

impl ReadArguments {
    pub(crate) fn options(self) -> Result<ReadOptions, Failure> {
        let weights = match self.weights.as_deref() {
            None => None,
            Some("raw") => Some(WeightSet::Raw),
            Some("ema") => Some(WeightSet::Ema),
            Some(other) => {
                return Err(Failure::request(format!("weights: expected raw or ema, found {other:?}")));
            }
        };
        let mut options = ReadOptions::new()
            .hparams(self.hparams)
            .allow_nan(self.allow_nan)
            .weights(weights)
            .memory_budget(self.memory_budget);
        options.config = self.config;
        Ok(options)
    }
}

/// A voice's file: a path, or a name, the contents and the files next to them.
#[derive(FromPyObject)]
pub(crate) enum Source {
    Memory(String, PyBackedBytes, BTreeMap<String, PyBackedBytes>),
    Path(PathBuf),
}

impl Source {
    pub(crate) fn input(self) -> Input {
        match self {
            Self::Path(path) => path.into(),
            Self::Memory(name, contents, beside) => {
                let input = Input::bytes(name, contents.to_vec());
                beside.into_iter().fold(input, |input, (name, json)| input.beside(name, json.to_vec()))
            }
        }
    }
}

/// Options for opening a voice.
#[derive(FromPyObject)]
struct OpenArguments {
    backend: String,
    threads: usize,
    sample_rate: Option<u32>,
    decoder: String,
    library: Option<PathBuf>,
    /// The program that runs a folder's graphs, and its arguments.
    wall: Option<(PathBuf, Vec<String>)>,
}

impl OpenArguments {
    fn options(self, read: ReadOptions) -> Result<OpenOptions, Failure> {
        let backend = match &*self.backend {
            "auto" => Backend::Auto,
            "native" => Backend::Native,
            "rten" => Backend::Rten,
            "onnxruntime" => Backend::OnnxRuntime,
            other => {
                return Err(Failure::request(format!(
                    "backend: expected auto, native, rten or onnxruntime, found {other:?}"
                )));
            }
        };
        let decoder = match &*self.decoder {
            "auto" => DecoderChoice::Auto,
            "stateful" => DecoderChoice::Stateful,
            "windowed" => DecoderChoice::Windowed,
            other => {
                return Err(Failure::request(format!(
                    "decoder: expected auto, stateful or windowed, found {other:?}"
                )));
            }
        };
        if self.threads == 0 {
            return Err(Failure::request("threads: expected at least 1, found 0"));
        }
        let mut options = OpenOptions::new()
            .backend(backend)
            .read(read)
            .threads(self.threads)
            .decoder(decoder)
            .sample_rate(self.sample_rate)
            .wall(self.wall.map(|(program, arguments)| Wall::new(program, arguments)));
        options.library = self.library;
        Ok(options)
    }
}

/// A speaker, by name or number.
#[derive(FromPyObject)]
enum Named {
    Id(i64),
    Name(String),
}

/// Options for speaking an utterance.
#[derive(FromPyObject)]
struct SpeakArguments {
    speaker: Option<Named>,
    noise_scale: Option<f32>,
    length_scale: Option<f32>,
    noise_w: Option<f32>,
    seed: Option<u64>,
    chunk: Option<usize>,
    format: String,
    volume: f32,
}

/// The state of an open voice.
struct Open {
    voice: vitstream::Voice,
    reading: Reading,
    /// The process that opened it, if its children cannot use it.
    bound_to: Option<u32>,
}

/// A voice. Any number of threads may use it at the same time.
#[pyclass(frozen, module = "vitstream._vitstream")]
pub(crate) struct Voice(RwLock<Option<Arc<Open>>>);

impl Voice {
    fn open(&self) -> Result<Arc<Open>, Failure> {
        let open = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        open.ok_or_else(|| Failure::request("this voice is closed"))
    }
}

#[pymethods]
impl Voice {
    #[new]
    fn new(
        py: Python<'_>,
        source: Source,
        read: ReadArguments,
        open: OpenArguments,
        reading: ReadingOptions,
    ) -> PyResult<Self> {
        let threads = open.threads;
        let options = open.options(read.options()?)?;
        let open = py.detach(|| -> Result<Open, Failure> {
            let voice = vitstream::Voice::open(source.input(), &options)?;
            let reading = Reading::new(&voice, reading)?;
            // Threads and the processes of runtimes stay with the parent when a process forks.
            let bound = threads > 1 || voice.backend() != Backend::Native;
            Ok(Open { voice, reading, bound_to: bound.then(process::id) })
        })?;
        Ok(Self(RwLock::new(Some(Arc::new(open)))))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| drop(self.0.write().unwrap_or_else(PoisonError::into_inner).take()));
    }

    #[getter]
    fn closed(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    #[getter]
    fn sample_rate(&self) -> PyResult<u32> {
        Ok(self.open()?.voice.info().sample_rate)
    }

    #[getter]
    fn hop_length(&self) -> PyResult<usize> {
        Ok(self.open()?.voice.decoder().hop_length())
    }

    #[getter]
    fn speakers(&self) -> PyResult<usize> {
        Ok(self.open()?.voice.info().speakers)
    }

    #[getter]
    fn speaker_ids(&self) -> PyResult<BTreeMap<String, i64>> {
        Ok(self.open()?.voice.info().speaker_ids.clone())
    }

    #[getter]
    fn symbols(&self) -> PyResult<Option<usize>> {
        Ok(self.open()?.voice.info().symbols)
    }

    /// Noise, length, noise_w.
    #[getter]
    fn scales(&self) -> PyResult<(f32, f32, f32)> {
        let Scales { noise, length, noise_w } = self.open()?.voice.info().scales;
        Ok((noise, length, noise_w))
    }

    #[getter]
    fn backend(&self) -> PyResult<&'static str> {
        Ok(match self.open()?.voice.backend() {
            Backend::Rten => "rten",
            Backend::OnnxRuntime => "onnxruntime",
            _ => "native",
        })
    }

    #[getter]
    fn warnings(&self) -> PyResult<Vec<String>> {
        Ok(self.open()?.voice.warnings().to_vec())
    }

    #[getter]
    fn gives_durations(&self) -> PyResult<bool> {
        Ok(self.open()?.voice.gives_durations())
    }

    /// The voice's JSON.
    fn config(&self) -> PyResult<String> {
        Ok(serde_json::Value::Object(self.open()?.voice.config().clone()).to_string())
    }

    /// The phonemizer: library or program, and its version. Searches for it.
    fn phonemizer(&self, py: Python<'_>) -> PyResult<Option<(String, String)>> {
        let open = self.open()?;
        let about = py.detach(|| {
            open.reading.with(|reader| {
                reader.prepare()?;
                Ok(reader.about())
            })
        })?;
        Ok(about.map(|about| (about.library, about.version)))
    }

    /// The sentences of a whole text.
    fn read(&self, py: Python<'_>, text: &str, ssml: bool) -> PyResult<Vec<Read>> {
        let open = self.open()?;
        let read = py.detach(|| {
            open.reading.with(|reader| Ok(if ssml { reader.ssml(text)? } else { reader.whole(text)? }))
        });
        Ok(reading::all(read?))
    }

    /// The contents of one of the sentences of a [`TextStream`].
    fn read_sentence(&self, py: Python<'_>, text: &str) -> PyResult<Vec<Read>> {
        let open = self.open()?;
        Ok(reading::all(py.detach(|| open.reading.with(|reader| Ok(reader.sentence(text)?)))?))
    }

    /// A text given as phonemes.
    fn read_phonemes(&self, py: Python<'_>, phonemes: &str) -> PyResult<Read> {
        let open = self.open()?;
        Ok(py.detach(|| open.reading.with(|reader| Ok(reader.phonemes(phonemes)?)))?.into())
    }

    /// The ids of separate phonemes; `near` as in `Frontend::near_phonemes`. The second list has those
    /// without an id.
    fn encode(&self, py: Python<'_>, phonemes: Vec<String>, near: bool) -> PyResult<(Vec<i64>, Vec<String>)> {
        let open = self.open()?;
        let encoded =
            py.detach(|| open.reading.with(|reader| Ok(reader.frontend().ids().encode(&phonemes, near))))?;
        Ok((encoded.ids, encoded.missing.into_iter().collect()))
    }

    /// Begins a text that arrives in pieces.
    fn text_stream(&self, py: Python<'_>, whole_sentences: bool) -> PyResult<TextStream> {
        let open = self.open()?;
        let sentences = py.detach(|| {
            open.reading.with(|reader| {
                // Without a phonemizer every sentence fails like the first.
                reader.prepare()?;
                Ok(reader.begin())
            })
        })?;
        Ok(TextStream::new(if whole_sentences { sentences.whole_sentences() } else { sentences }))
    }

    /// Checks the options for utterances of this voice.
    fn check(&self, how: SpeakArguments) -> PyResult<()> {
        // Nothing is computed; every voice has this id.
        self.utterance(vec![0], 1.0, how).map(drop)
    }

    /// Speaks ids, `rate` times as fast.
    fn utterance(&self, ids: Vec<i64>, rate: f32, how: SpeakArguments) -> PyResult<Utterance> {
        let open = self.open()?;
        if open.bound_to.is_some_and(|process| process != process::id()) {
            return Err(Failure::request(
                "this voice was opened before the process forked, and its threads or its runtime stayed with the parent: open it \
                 in the child, or with backend=\"native\" and threads=1",
            )
            .into());
        }
        let format = Format::parse(&how.format)?;
        if !(0.0..=LOUDEST).contains(&how.volume) {
            let volume = how.volume;
            return Err(Failure::request(format!("volume: expected 0 to {LOUDEST}, found {volume}")).into());
        }
        let defaults = open.voice.info().scales;
        let options = SpeakOptions::new()
            .speaker(how.speaker.map(|speaker| match speaker {
                Named::Id(id) => Speaker::Id(id),
                Named::Name(name) => Speaker::Name(name),
            }))
            .scales(Scales {
                noise: how.noise_scale.unwrap_or(defaults.noise),
                length: how.length_scale.unwrap_or(defaults.length) / rate,
                noise_w: how.noise_w.unwrap_or(defaults.noise_w),
            })
            .seed(how.seed)
            .chunking(how.chunk.map_or(Chunking::Scheduled, Chunking::Fixed));
        let stream = open.voice.stream(&ids, &options).map_err(Failure::from)?;
        Ok(Utterance::new(stream, format, how.volume))
    }
}
