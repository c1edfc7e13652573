//! Verifies an exported pair: that it runs, that streaming it gives the same audio as decoding it whole, and
//! that it is the same voice as its source.
//!
//! The files are verified as any client finds them: graphs run directly in a runtime, decoders are streamed
//! as docs/streaming.md says, and intermediate stages are obtained by extracting the part of the file that
//! computes them. All utterances are spoken without noise, so that there is one correct result.
//!
//! ```
//! # let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-vits/tests/golden/multi.ckpt");
//! # let voice: &std::path::Path = golden.as_ref();
//! # let directory = tempfile::tempdir()?;
//! # let pair = directory.path();
//! use vitstream_verify::{VerifyOptions, verify};
//!
//! # vitstream_export::export::export(voice, pair, &Default::default())?;
//! let report = verify(pair, &VerifyOptions::new().against(voice))?;
//! assert!(report.passed, "{}", report.table());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod compare;
mod contract;

mod error;
mod limits;
mod onnx_file;
mod page;
mod pair;
mod picture;
mod player;
mod reference;
mod report;
mod session;
mod source;
mod spectrum;
mod stages;
mod streaming;
mod table;
mod utterance;
mod voice;
mod weights;

use std::path::{Path, PathBuf};
use std::time::Instant;

use vitstream_synth::{MAX_IDS, Runtime, SAMPLE_RATES, Wall};

pub use report::{Against, Check, Part, Report, Verdict, WeightDifference};
pub use utterance::Utterance;

pub use error::Error;

use onnx_file::OnnxFile;
use pair::{Known, Pair, Spoken};
use reference::Reference;
use session::Sessions;
use source::Comparison;
use utterance::Vocabulary;
use vitstream_contract::{Progress, files};
use vitstream_source::config::VoiceConfig;
use vitstream_source::{self as sources, ReadOptions, Source};
use voice::{DecoderGraph, EncoderGraph, Origin, Request, Whole};
use weights::Settings;

/// Limit on the ids of an utterance.
const MOST_IDS: usize = MAX_IDS;

/// Limit on frames, and on samples per frame, in metadata: larger numbers mean damage.
const MOST_PER_FRAME: usize = 1 << 20;

/// Number of steps reported as progress.
const STEPS: usize = 5;

/// Sample rate assumed for audio of unknown rate: it affects only the axes of the page.
const ASSUMED_RATE: u32 = 22_050;

/// Options for verifying.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// The source to compare with: the origin of the pair, a voice with the same weights, or reference
    /// values.
    pub against: Option<PathBuf>,
    /// Options for reading the source.
    pub read: ReadOptions,
    /// The runtime that computes the graphs.
    pub runtime: Runtime,
    /// Threads for each graph, at least 1.
    pub threads: usize,
    /// Path of ONNX Runtime's shared library; searched for if absent.
    pub library: Option<PathBuf>,
    /// Process in which graphs run. If absent they run in this process, which a damaged file can then end.
    pub wall: Option<Wall>,
    /// Phoneme ids to speak instead of those chosen from the voice's symbols.
    pub ids: Option<Vec<i64>>,
    /// Reports each step of the work, and may stop it.
    pub progress: Progress,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            against: None,
            read: ReadOptions::default(),
            runtime: Runtime::default(),
            threads: 1,
            library: None,
            wall: None,
            ids: None,
            progress: Progress::default(),
        }
    }
}

impl VerifyOptions {
    /// The same as [`default`](Self::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the source to compare with: the origin of the pair, a voice with the same weights, or reference
    /// values.
    pub fn against(mut self, against: impl Into<PathBuf>) -> Self {
        self.against = Some(against.into());
        self
    }

    /// Sets the options for reading the source.
    pub fn read(mut self, read: ReadOptions) -> Self {
        self.read = read;
        self
    }

    /// Sets the runtime that computes the graphs.
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.runtime = runtime;
        self
    }

    /// Sets the number of threads for each graph, 1 to 256.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Sets the path of ONNX Runtime's shared library.
    pub fn library(mut self, library: impl Into<PathBuf>) -> Self {
        self.library = Some(library.into());
        self
    }

    /// Sets the process in which graphs run; without one, they run in this process.
    pub fn wall(mut self, wall: impl Into<Option<Wall>>) -> Self {
        self.wall = wall.into();
        self
    }

    /// Sets phoneme ids to speak instead of those chosen from the voice's symbols.
    pub fn ids(mut self, ids: impl IntoIterator<Item = i64>) -> Self {
        self.ids = Some(ids.into_iter().collect());
        self
    }

    /// Sets the callback that each step is reported to, and that may stop the work.
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }
}

/// The source that a pair is compared with.
enum Held {
    Reference(Box<Reference>),
    Voice(Box<HeldVoice>),
}

struct HeldVoice {
    /// The network, or the reason why it cannot be read.
    model: Result<Source, Error>,
    /// The runnable source, or the reason why it does not run.
    origin: Result<Origin, Error>,
    /// A description of the values compared.
    values: &'static str,
}

/// Verifies the pair in `dir`.
///
/// # Errors
/// When there is no pair, the source to compare with cannot be read, the runtime is not available, or an
/// option is invalid. Damaged files of the pair are not an error: the report lists them.
pub fn verify(dir: &Path, options: &VerifyOptions) -> Result<Report, Error> {
    let start = Instant::now();
    let begin = |next: &str, done| match options.progress.is_stopped_before(next, done, STEPS) {
        true => Err(Error::Interrupted),
        false => Ok(()),
    };
    begin("files", 0)?;
    let sessions =
        Sessions::new(options.runtime, options.threads, options.library.as_deref(), options.wall.clone())?;
    let mut checks = Vec::new();
    let pair = Pair::open(dir, &sessions, &mut checks)?;
    checks.push(contract::metadata(&pair));
    let mut broken_config = false;
    let config = match VoiceConfig::find_in(dir) {
        Ok(config) => config,
        Err(error) => {
            checks.push(Check::new(Part::Files, files::CONFIG, Verdict::Failed, error.to_string()));
            broken_config = true;
            None
        }
    };
    if let Some(config) = &config {
        checks.push(contract::config(config, &pair));
        // Hyper-parameters follow from the files of any pair that can be read back; its weights are not
        // loaded.
        if let Ok(parts) = sources::read(dir, &ReadOptions::default()) {
            let unusual = config.check(&parts.hparams);
            if !unusual.is_empty() {
                checks.push(contract::warnings(&unusual));
            }
        }
    }
    // Facts that another exporter does not write into its files are determined by the weights.
    let recovered = if pair.is_ours() { None } else { sources::load(dir, &ReadOptions::default()).ok() };
    let model = recovered.as_ref().map(|source| &source.model);
    let sensible = |frames: &usize| *frames <= MOST_PER_FRAME;
    let known = Known {
        receptive_field: pair
            .number("receptive_field")
            .or_else(|| Some(model?.receptive_field()))
            .filter(sensible),
        hop: pair
            .number("hop_length")
            .or_else(|| Some(model?.hparams.hop_length()))
            .filter(|hop| *hop > 0 && sensible(hop)),
    };
    let sample_rate = pair
        .number("sample_rate")
        .and_then(|rate| u32::try_from(rate).ok())
        .or_else(|| config.as_ref()?.sample_rate())
        .filter(|rate| SAMPLE_RATES.contains(rate));
    // If the folder states none, the user must state it; if it states an invalid one, it is damaged.
    let silent = !broken_config
        && pair.metadata("sample_rate").is_none()
        && config.as_ref().is_none_or(|config| !config.states_sample_rate());
    let assumed = silent.then_some(ASSUMED_RATE);
    let sample_rate = sample_rate.unwrap_or(ASSUMED_RATE);

    let utterances = utterances(&pair, config.as_ref(), options)?;
    let held = match &options.against {
        Some(path) => Some((path, open_against(path, &pair, &sessions, &options.read)?)),
        None => None,
    };
    begin("player", 1)?;
    if let Some(first) = utterances.first() {
        checks.extend(player::plays(dir, &pair, &sessions, first, assumed));
    }
    begin("utterances", 2)?;
    let spoken = pair.speak(&utterances, &mut checks);
    begin("chunks", 3)?;
    let mut sounds = pair.stream(&spoken, known, sample_rate, &mut checks);

    begin("source", 4)?;
    let limits = match pair.metadata("precision") {
        Some("f16-weights") => limits::ROUNDED,
        _ => limits::EXACT,
    };
    let mut differences = Vec::new();
    let mut against = None;
    if let Some((path, held)) = &held {
        let mut comparison = Comparison::new(sample_rate, limits);
        let (format, values) = match held {
            Held::Reference(reference) => {
                let chosen;
                let encoder = match (&pair.encoder, reference.request.is_noisy()) {
                    (Some((_, Some(encoder))), false) => Ok(encoder),
                    (Some((_, Some(encoder))), true) if encoder.takes_noise() => Ok(encoder),
                    (Some((file, Some(_))), true) => {
                        chosen = EncoderGraph::open(&sessions, file, true)?;
                        if chosen.takes_noise() { Ok(&chosen) } else { Err(NO_DRAWS) }
                    }
                    _ => Err("the pair's encoder does not load"),
                };
                source::add_reference(&mut comparison, &pair, encoder, reference);
                ("reference values (safetensors)", "values in the file")
            }
            Held::Voice(voice) => {
                let HeldVoice { model, origin, values } = &**voice;
                let found = compare_weights(&pair, recovered.as_ref(), model, &mut checks);
                differences.extend(found);
                let problem = compare_stages(&mut comparison, &pair, &spoken, origin, values);
                if let (Err(error), Some(problem)) = (model, problem) {
                    return Err(Error::Run {
                        path: (*path).clone(),
                        problem: format!(
                            "it cannot serve as a source: {error}; it does not speak: {problem}"
                        ),
                    });
                }
                (model.as_ref().map_or("voice (ONNX)", |source| source.format), *values)
            }
        };
        let shown = std::mem::take(&mut comparison.sounds);
        if !shown.is_empty() {
            sounds = shown;
        }
        checks.extend(comparison.finish());
        against =
            Some(Against { path: (*path).clone(), format: format.to_owned(), values: values.to_owned() });
    }
    begin("", STEPS)?;
    Ok(Report {
        pair: dir.to_owned(),
        against,
        runtime: sessions.options.runtime.to_string(),
        vitstream_version: env!("CARGO_PKG_VERSION"),
        passed: checks.iter().all(|check| check.verdict != Verdict::Failed),
        utterances,
        checks,
        weights: differences,
        seconds: start.elapsed().as_secs_f64(),
        sounds,
    })
}

/// The reason why an encoder cannot be compared with values that were computed with noise.
const NO_DRAWS: &str = "the reference was made with noise, but no draw that could be replaced by it was found in the pair's encoder; \
                        export the pair with --noise input";

fn utterances(
    pair: &Pair,
    config: Option<&VoiceConfig>,
    options: &VerifyOptions,
) -> Result<Vec<Utterance>, Error> {
    let symbols = pair.symbols();
    let speakers = pair.speakers(config.map(|config| config.speaker_ids().len()).filter(|&count| count > 0));
    let Some(ids) = &options.ids else {
        return Ok(Vocabulary::new(config, symbols).utterances(speakers));
    };
    if ids.is_empty() || ids.len() > MOST_IDS {
        return Err(Error::Option(format!("phoneme ids: expected 1 to {MOST_IDS}, found {}", ids.len())));
    }
    let symbols = symbols.unwrap_or(i32::MAX as usize);
    for (at, &id) in ids.iter().enumerate() {
        if !usize::try_from(id).is_ok_and(|id| id < symbols) {
            let last = symbols.saturating_sub(1);
            return Err(Error::Option(format!("phoneme id {id} at position {at}: expected 0 to {last}")));
        }
    }
    Ok(utterance::given(ids, speakers))
}

/// Recognises the format of `path`, reads it, and prepares it for running.
fn open_against(path: &Path, pair: &Pair, sessions: &Sessions, read: &ReadOptions) -> Result<Held, Error> {
    if let Some(reference) = Reference::read(path)? {
        reference.check(path, pair.symbols(), pair.speakers(None))?;
        return Ok(Held::Reference(Box::new(reference)));
    }
    let held = |model, origin, values| Ok(Held::Voice(Box::new(HeldVoice { model, origin, values })));
    let model = sources::load(path, read).map_err(Error::from);
    let is_pair = [files::ENCODER, files::DECODER].iter().all(|name| path.join(name).is_file());
    if is_pair {
        let origin = open_pair(
            sessions,
            &OnnxFile::read(&path.join(files::ENCODER))?,
            &OnnxFile::read(&path.join(files::DECODER))?,
        );
        if origin.is_err() {
            return held(Ok(model?), origin, "the pair");
        }
        return held(model, origin, "the pair, run in the same runtime");
    }
    if sources::is_onnx(path)? {
        let origin =
            Whole::open(sessions, &OnnxFile::read(path)?).map(|whole| Origin::Whole(Box::new(whole)));
        if origin.is_err() {
            // A source that can be neither read as a network nor run is of no use.
            return held(Ok(model?), origin, "the voice's own graph");
        }
        return held(model, origin, "the voice's own graph, run in the same runtime");
    }
    let model = model?;
    let graphs = weights::emit(&model.model, Settings::of(pair.files()))?;
    let file = |at: usize| {
        let (name, graph) = &graphs[at];
        OnnxFile::of(graph, &path.join(name))
    };
    let origin = open_pair(sessions, &file(0), &file(1));
    held(Ok(model), origin, "exported again, run in the same runtime")
}

fn open_pair(sessions: &Sessions, encoder: &OnnxFile, decoder: &OnnxFile) -> Result<Origin, Error> {
    let encoder = EncoderGraph::open(sessions, encoder, false)?;
    Ok(Origin::Pair(Box::new((encoder, DecoderGraph::open(sessions, decoder)?))))
}

/// Compares the pair's graphs with a new export of the source. A pair of another exporter is first exported
/// again itself.
fn compare_weights(
    pair: &Pair,
    recovered: Option<&Source>,
    model: &Result<Source, Error>,
    checks: &mut Vec<Check>,
) -> Vec<WeightDifference> {
    const NAME: &str = "weights";
    let skip = |why: String| report::not_checked(Part::Weights, NAME, why);
    let source = match model {
        Ok(source) => source,
        Err(error) => {
            checks.push(skip(format!("the source's weights cannot be read: {error}")));
            return Vec::new();
        }
    };
    let settings = if pair.is_ours() { Settings::of(pair.files()) } else { Settings::default() };
    let expected = match weights::emit(&source.model, settings) {
        Ok(expected) => expected,
        Err(error) => {
            checks.push(skip(format!("the source cannot be exported again: {error}")));
            return Vec::new();
        }
    };
    let emitted = match (pair.is_ours(), recovered) {
        (true, _) => Vec::new(),
        (false, Some(own)) => weights::emit(&own.model, settings).unwrap_or_default(),
        (false, None) => {
            checks.push(skip(
                "the pair's weights cannot be read: its files come from another exporter".to_owned(),
            ));
            return Vec::new();
        }
    };
    let version = pair.metadata("vitstream_version");
    let same_version = version.is_none_or(|found| found == env!("CARGO_PKG_VERSION"));
    let mut differences = Vec::new();
    for (name, expected) in &expected {
        let of_ours = pair.files().find(|file| file.path.file_name().is_some_and(|found| found == *name));
        let of_others = emitted.iter().find(|(other, _)| other == name).map(|(_, graph)| &**graph);
        let Some(found) = of_ours.filter(|_| pair.is_ours()).map(|file| &file.graph).or(of_others) else {
            continue;
        };
        let (found, wrong) = weights::compare(name, found, expected, same_version);
        checks.extend(found);
        differences.extend(wrong);
    }
    differences
}

/// Compares the speech of both. Returns the source's first problem if it spoke nothing.
fn compare_stages(
    comparison: &mut Comparison,
    pair: &Pair,
    spoken: &[Spoken],
    origin: &Result<Origin, Error>,
    values: &str,
) -> Option<String> {
    let (mut compared, mut first) = (false, None);
    for one in spoken {
        let result = origin.as_ref().map_err(ToString::to_string).and_then(|origin| {
            origin.stages(&Request::quiet(&one.utterance)).map_err(|error| error.to_string())
        });
        match result {
            Ok(expected) => {
                comparison.add(one, pair, &expected, values);
                compared = true;
            }
            Err(problem) => {
                comparison.source_failed(&one.utterance.to_string(), &problem);
                first.get_or_insert(problem);
            }
        }
    }
    first.filter(|_| !compared)
}
