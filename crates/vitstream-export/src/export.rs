//! Exports a trained voice as a streaming pair or as one graph.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;
use serde_json::Value;
pub use vitstream_onnx::OPSETS;
use vitstream_onnx::passes::HalfPrecisionWeights;
use vitstream_onnx::{BuildError, Graph, Validated, encode, passes, validate};
use vitstream_vits::{EncoderForm, HParams, NoiseSource, SynthesizerTrn};

pub use crate::deviation::AudioDeviation;
use crate::deviation::audio_deviation;
use crate::error::{self, Error};
use crate::package::{self, PackageOptions, Prepared};
use crate::staging::{Interrupted, Staging};
use vitstream_contract::Progress;
pub use vitstream_contract::files;
use vitstream_contract::files::MODEL_CARD;
use vitstream_source::config::VoiceConfig;
use vitstream_source::json::MAX_SIZE;
use vitstream_source::{self as source, Input, ReadOptions, Source};

/// Seeds from this one on are not distinct, because ONNX stores them as float32.
pub const MAX_SEED: u32 = 1 << 24;

/// The files to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// A streaming pair: [`files::ENCODER`], [`files::DECODER`] and [`files::STREAM_DECODER`].
    #[default]
    Pair,
    /// One graph with the inputs and the output of piper's own exporter: [`files::VOICE`], for clients that
    /// load only this form.
    Single,
}

/// Storage format of the weights. All computation is in float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// As float32.
    #[default]
    F32,
    /// Large ones as float16, which the graph casts back: about half the size. The files' metadata have
    /// `precision` = `f16-weights`, and the summary states the loss of accuracy.
    F16Weights,
}

/// Options for exporting.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ExportOptions {
    /// The files to write.
    pub layout: Layout,
    /// Version of ONNX's default operator set, one of [`OPSETS`].
    pub opset: i64,
    /// The source of the encoder's noise.
    pub noise: NoiseSource,
    /// Adds the frames of each phoneme as an output of the encoder, or of the one graph: see
    /// [`EncoderForm::durations`].
    pub durations: bool,
    /// Storage format of the weights.
    pub precision: Precision,
    /// The client that a pair is for; `None` writes a plain pair.
    pub package: Option<PackageOptions>,
    /// Options for reading the voice: facts that its file does not state.
    pub read: ReadOptions,
    /// Adds [`files::STREAM_DECODER`] to a pair. Clients' packages never have it.
    pub stream_decoder: bool,
    /// Set by the caller from any thread to stop the export, which then changes nothing.
    pub cancel: Arc<AtomicBool>,
    /// Reports each file before it is written, and may stop the export, which then changes nothing.
    pub progress: Progress,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self {
            layout: Layout::Pair,
            opset: 15,
            noise: NoiseSource::Internal { seed: None },
            durations: false,
            precision: Precision::F32,
            package: None,
            read: ReadOptions::default(),
            stream_decoder: true,
            cancel: Arc::default(),
            progress: Progress::default(),
        }
    }
}

impl ExportOptions {
    /// The same as [`default`](Self::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the files to write.
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Sets the version of ONNX's default operator set, one of [`OPSETS`].
    pub fn opset(mut self, opset: i64) -> Self {
        self.opset = opset;
        self
    }

    /// Sets the source of the encoder's noise.
    pub fn noise(mut self, noise: NoiseSource) -> Self {
        self.noise = noise;
        self
    }

    /// Adds the frames of each phoneme as an output of the encoder, or of the one graph.
    pub fn durations(mut self, durations: bool) -> Self {
        self.durations = durations;
        self
    }

    /// Sets the storage format of the weights.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Sets the client that a pair is for; without one, a plain pair is written.
    pub fn package(mut self, package: impl Into<Option<PackageOptions>>) -> Self {
        self.package = package.into();
        self
    }

    /// Sets the options for reading the voice: facts that its file does not state.
    pub fn read(mut self, read: ReadOptions) -> Self {
        self.read = read;
        self
    }

    /// Adds [`files::STREAM_DECODER`] to a pair.
    pub fn stream_decoder(mut self, stream_decoder: bool) -> Self {
        self.stream_decoder = stream_decoder;
        self
    }

    /// Sets the flag by which the caller stops the export from any thread. Nothing is changed then.
    pub fn cancel(mut self, cancel: Arc<AtomicBool>) -> Self {
        self.cancel = cancel;
        self
    }

    /// Sets the callback that each file is reported to before it is written, and that may stop the export.
    /// Nothing is changed then.
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }
}

/// The result of an export.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ExportSummary {
    /// The voice that was read.
    pub input: PathBuf,
    /// Its format.
    pub format: &'static str,
    /// The voice's JSON in use, or the file from which it was derived; `None` if there is none.
    pub config: Option<PathBuf>,
    /// Choices that were made to read the voice.
    pub notes: Vec<String>,
    /// The directory.
    pub output: PathBuf,
    /// The network's hyper-parameters.
    pub hparams: HParams,
    /// Number of speakers.
    pub speakers: usize,
    /// Sample rate in hertz, if the checkpoint or the JSON states it.
    pub sample_rate: Option<u32>,
    /// Samples per frame.
    pub hop_length: usize,
    /// Frames on each side by which windows must overlap.
    pub receptive_field: usize,
    /// Identifies files that belong together.
    pub pair_id: String,
    /// The files, in the order in which they were written.
    pub files: Vec<FileSummary>,
    /// The effect of rounded weights on the audio, with [`Precision::F16Weights`]. If it could not be
    /// measured, the warnings say why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_deviation: Option<AudioDeviation>,
    /// Instructions for opening the result in the client, with [`ExportOptions::package`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    /// Warnings about the voice.
    pub warnings: Vec<String>,
    /// Duration in seconds.
    pub seconds: f64,
}

/// A file that was written.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FileSummary {
    /// Its name in the directory. In an archive: the archive's name, a slash, and the name inside.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Number of nodes, if it is a graph.
    pub nodes: Option<usize>,
    /// The rounding of weights, if it is a graph with [`Precision::F16Weights`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_precision: Option<HalfPrecision>,
}

/// The effect of rounding on a graph's weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HalfPrecision {
    /// Tensors stored as float16.
    pub tensors: usize,
    /// Names of large tensors that stayed float32, and the reasons.
    pub kept: BTreeMap<String, String>,
    /// The largest change of a tensor: the norm of its change relative to its own.
    pub largest_relative_error: f64,
}

impl FileSummary {
    fn plain(name: &str, bytes: u64) -> Self {
        Self { name: name.to_owned(), bytes, nodes: None, half_precision: None }
    }
}

impl ExportOptions {
    /// Number of graphs that are written.
    fn graphs(&self) -> usize {
        match self.layout {
            Layout::Single => 1,
            Layout::Pair if self.stream_decoder && self.package.is_none() => 3,
            Layout::Pair => 2,
        }
    }

    fn encoder_form(&self) -> EncoderForm {
        EncoderForm { noise: self.noise, durations: self.durations }
    }
}

/// Reads the voice in `input` and writes its pair to the directory `output`, which is created if it does not
/// exist. Either all files are written or none: after an error, the previous files are unchanged.
///
/// # Errors
/// When the voice cannot be read, an option is invalid, or the directory cannot be written to.
pub fn export(
    input: impl Into<Input>,
    output: &Path,
    options: &ExportOptions,
) -> Result<ExportSummary, Error> {
    let source = input.into();
    let input = source.name();
    let start = Instant::now();
    check(input, output, options)?;
    log::info!("reading {}", input.display());
    // The source and the folder are steps as well.
    let mut steps = Steps { progress: options.progress.clone(), done: 0, of: options.graphs() + 2 };
    steps.begin("source")?;
    let Source { model, audit, config, format, mut warnings, notes, files: read_from } =
        source::load(&source, &options.read)?;
    warnings.extend(config.iter().flat_map(|config| config.check(&model.hparams)));
    if !audit.non_finite.is_empty() {
        let keys = audit.non_finite.join(", ");
        warnings.push(format!(
            "{}: weights that are not finite in {keys}: the voice will not produce speech",
            input.display()
        ));
    }
    for (reason, (count, bytes)) in &audit.unneeded {
        log::info!("left out {count} tensors, {bytes} bytes: {reason}");
    }

    if let Some(config) = config.as_ref().filter(|config| config.is_derived())
        && same_file(&config.path, &output.join(files::CONFIG))
    {
        let problem = format!("would be overwritten by the pair's {}: name another directory", files::CONFIG);
        return Err(Error::Output { path: config.path.clone(), problem });
    }

    let sample_rate =
        model.hparams.sample_rate.or_else(|| config.as_ref().and_then(VoiceConfig::sample_rate));
    let package = match &options.package {
        Some(package) => Some((package, package.prepare(input, config.as_ref(), &model, sample_rate)?)),
        None => None,
    };
    let mut export = Export {
        staging: Staging::begin(output, &inputs(input, config.as_ref()))?,
        metadata: metadata(&model, sample_rate, audit.fingerprint),
        precision: options.precision,
        cancel: options.cancel.clone(),
        steps,
        files: Vec::new(),
    };
    if options.precision == Precision::F16Weights {
        export.metadata.insert("precision".to_owned(), "f16-weights".to_owned());
    }
    let pair_id = export.metadata["pair_id"].clone();
    match options.layout {
        Layout::Pair => match &package {
            Some((_, prepared)) => export.package(&model, prepared, config.as_ref(), options)?,
            None => export.pair(&model, config.as_ref(), options)?,
        },
        Layout::Single => {
            if config.is_none() {
                let absent = "no voice JSON: sherpa-onnx and piper-tts need one next to voice.onnx";
                warnings.push(format!("{}: {absent}", input.display()));
            }
            export.single(&model, config.as_ref(), options)?;
        }
    }
    let mut measured = None;
    if options.precision == Precision::F16Weights {
        export.check_cancelled()?;
        match audio_deviation(&model, options.opset) {
            Ok(error) => measured = Some(error),
            Err(why) => warnings.push(format!(
                "{}: the effect of rounded weights on the audio could not be measured: {why}",
                input.display()
            )),
        }
    }
    export.check_cancelled()?;
    source::check_unchanged(&read_from)?;
    export.steps.begin("folder")?;
    export.staging.finish()?;
    // The files are in their places already, so stopping has no effect.
    let _ = export.steps.begin("");
    let usage = package.map(|(package, prepared)| package.usage(output, prepared.archive.as_deref()));
    Ok(ExportSummary {
        input: input.to_owned(),
        format,
        config: config.map(|config| config.path),
        notes,
        output: output.to_owned(),
        speakers: model.hparams.num_speakers,
        sample_rate,
        hop_length: model.hparams.hop_length(),
        receptive_field: model.receptive_field(),
        pair_id,
        files: export.files,
        audio_deviation: measured,
        usage,
        warnings,
        seconds: start.elapsed().as_secs_f64(),
        hparams: model.hparams,
    })
}

/// Checks that are possible before anything is read.
fn check(input: &Path, output: &Path, options: &ExportOptions) -> Result<(), Error> {
    if !OPSETS.contains(&options.opset) {
        let (first, last) = (OPSETS.start(), OPSETS.end());
        return Err(Error::Option(format!(
            "opset {} is not offered: expected {first} to {last}",
            options.opset
        )));
    }
    if let NoiseSource::Internal { seed: Some(seed) } = options.noise
        && seed >= MAX_SEED
    {
        return Err(Error::Option(format!("seed {seed} is too large: expected less than {MAX_SEED}")));
    }
    if let Some(package) = &options.package {
        package.check(options)?;
    }
    if output.exists() && !output.is_dir() {
        let problem = "expected a directory for the pair, found a file".to_owned();
        return Err(Error::Output { path: output.to_owned(), problem });
    }
    let same = |name: &str| same_file(input, &output.join(name));
    let written: &[&str] = match options.layout {
        Layout::Pair => &[files::ENCODER, files::DECODER, files::STREAM_DECODER],
        Layout::Single => &[files::VOICE],
    };
    if written.iter().any(|name| same(name)) || (options.layout == Layout::Pair && same("")) {
        let problem = "is the input itself: name another directory".to_owned();
        return Err(Error::Output { path: input.to_owned(), problem });
    }
    Ok(())
}

/// The files read by an export of `input` whose names could equal those of written files.
fn inputs(input: &Path, config: Option<&VoiceConfig>) -> Vec<PathBuf> {
    let graphs = [files::ENCODER, files::DECODER, files::VOICE].map(|name| input.join(name));
    // A folder with a pair may contain a `voice.onnx` of an earlier export, which is not read.
    let graphs = graphs
        .into_iter()
        .filter(|path| !(path.ends_with(files::VOICE) && input.join(files::ENCODER).exists()));
    graphs.chain([input.to_owned()]).chain(config.map(|config| config.path.clone())).collect()
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The `metadata_props` of all files of a pair.
fn metadata(model: &SynthesizerTrn, sample_rate: Option<u32>, fingerprint: u128) -> BTreeMap<String, String> {
    let mut entries = vec![
        ("vitstream_version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
        ("pair_id".to_owned(), format!("{fingerprint:032x}")),
    ];
    entries.extend(sample_rate.map(|rate| ("sample_rate".to_owned(), rate.to_string())));
    network_metadata(model).into_iter().chain(entries).collect()
}

/// The entries determined by the network alone.
pub fn network_metadata(model: &SynthesizerTrn) -> [(String, String); 6] {
    let hp = &model.hparams;
    [
        ("n_speakers", hp.num_speakers),
        ("hop_length", hp.hop_length()),
        ("receptive_field", model.receptive_field()),
        ("inter_channels", hp.inter_channels),
        ("gin_channels", hp.gin_channels),
        ("num_symbols", hp.num_symbols),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_string()))
}

/// [`files::STREAM_DECODER`], whose metadata describe how to drive it.
pub fn stream_decoder(model: &SynthesizerTrn, opset: i64) -> Result<Graph, BuildError> {
    let stream = model.emit_stream_decoder(opset)?;
    let states = serde_json::to_string(&stream.states).expect("names and shapes are always JSON");
    let mut graph = stream.graph;
    graph.metadata.insert("look_ahead".to_owned(), stream.look_ahead.to_string());
    graph.metadata.insert("states".to_owned(), states);
    Ok(graph)
}

/// An export in progress.
struct Export {
    staging: Staging,
    metadata: BTreeMap<String, String>,
    precision: Precision,
    cancel: Arc<AtomicBool>,
    steps: Steps,
    files: Vec<FileSummary>,
}

/// Counts finished steps.
struct Steps {
    progress: Progress,
    done: usize,
    of: usize,
}

impl Steps {
    /// Begins the next step; the previous one is finished.
    fn begin(&mut self, next: &str) -> Result<(), Error> {
        let stopped = self.progress.is_stopped_before(next, self.done, self.of);
        self.done += 1;
        if stopped { Err(Error::Interrupted) } else { Ok(()) }
    }
}

impl Export {
    fn pair(
        &mut self,
        model: &SynthesizerTrn,
        config: Option<&VoiceConfig>,
        options: &ExportOptions,
    ) -> Result<(), Error> {
        self.graph(files::ENCODER, "encoder", model.emit_encoder(options.opset, options.encoder_form()))?;
        self.graph(files::DECODER, "decoder", model.emit_decoder(options.opset))?;
        if options.stream_decoder {
            self.graph(files::STREAM_DECODER, "stream_decoder", stream_decoder(model, options.opset))?;
        } else {
            self.staging.remove(files::STREAM_DECODER)?;
        }
        match config {
            Some(config) => self.text(files::CONFIG, &config.to_streaming()),
            None => self.remove_config(files::CONFIG),
        }?;
        self.remove_config(files::ENCODER_CONFIG)
    }

    /// Writes the pair for a client: in the directory, or in one archive.
    fn package(
        &mut self,
        model: &SynthesizerTrn,
        prepared: &Prepared,
        config: Option<&VoiceConfig>,
        options: &ExportOptions,
    ) -> Result<(), Error> {
        let encoder = model.emit_encoder(options.opset, options.encoder_form());
        let Some(archive) = &prepared.archive else {
            self.graph(files::ENCODER, "encoder", encoder)?;
            self.graph(files::DECODER, "decoder", model.emit_decoder(options.opset))?;
            self.staging.remove(files::STREAM_DECODER)?;
            let other =
                if prepared.config_name == files::CONFIG { files::ENCODER_CONFIG } else { files::CONFIG };
            self.remove_config(other)?;
            return self.text(prepared.config_name, &prepared.config);
        };
        let mut members = vec![(prepared.config_name, prepared.config.clone())];
        members.extend(config.and_then(VoiceConfig::model_card).map(|card| (MODEL_CARD, card)));
        let decoder = model.emit_decoder(options.opset);
        for (file, name, graph) in
            [(files::ENCODER, "encoder", encoder), (files::DECODER, "decoder", decoder)]
        {
            let (graph, mut summary) = self.finish_graph(&format!("{archive}/{file}"), name, graph)?;
            let bytes = encode::to_bytes(&graph);
            summary.bytes = bytes.len() as u64;
            self.files.push(summary);
            members.push((file, bytes));
        }
        let cancel = self.cancel.clone();
        let bytes = self
            .staging
            .write(archive, |out| package::write_archive(&mut Cancellable { out, cancel }, &members))?;
        self.files.push(FileSummary::plain(archive, bytes));
        Ok(())
    }

    fn single(
        &mut self,
        model: &SynthesizerTrn,
        config: Option<&VoiceConfig>,
        options: &ExportOptions,
    ) -> Result<(), Error> {
        // sherpa-onnx decides by these how to drive the graph.
        let fixed = [("model_type", "vits"), ("comment", "piper"), ("version", "1")];
        self.metadata.extend(fixed.map(|(key, value)| (key.to_owned(), value.to_owned())));
        if let Some(config) = config {
            self.metadata.extend(config.sherpa_metadata());
        }
        self.graph(files::VOICE, "voice", model.emit_single(options.opset, options.encoder_form()))?;
        let Some(config) = config else {
            return [files::VOICE_CONFIG, files::TOKENS]
                .into_iter()
                .try_for_each(|name| self.staging.remove(name));
        };
        self.text(files::VOICE_CONFIG, &config.to_whole())?;
        match config.sherpa_tokens() {
            Some(tokens) => self.text(files::TOKENS, tokens.as_bytes()),
            None => self.staging.remove(files::TOKENS),
        }
    }

    /// Removes an earlier export's JSON, which would be mistaken for this voice's. A JSON that no export
    /// wrote stays, and is an error.
    fn remove_config(&mut self, name: &str) -> Result<(), Error> {
        let path = self.staging.directory().join(name);
        if let Ok(metadata) = fs::symlink_metadata(&path)
            && metadata.is_file()
        {
            let json =
                if metadata.len() <= MAX_SIZE { fs::read(&path).map_err(Error::io(&path))? } else { vec![] };
            let json: Value = serde_json::from_slice(&json).unwrap_or_default();
            if json.get("streaming") != Some(&Value::Bool(true)) {
                let problem = "does not come from an earlier export, and would be mistaken for the JSON of this voice, which has none: move \
                               it away, or name another directory";
                return Err(Error::Output { path, problem: problem.to_owned() });
            }
        }
        self.staging.remove(name)
    }

    fn text(&mut self, name: &str, text: &[u8]) -> Result<(), Error> {
        let bytes = self.staging.write(name, |out| out.write_all(text))?;
        self.files.push(FileSummary::plain(name, bytes));
        Ok(())
    }

    fn graph(
        &mut self,
        file: &str,
        name: &'static str,
        graph: Result<Graph, BuildError>,
    ) -> Result<(), Error> {
        let (graph, mut summary) = self.finish_graph(file, name, graph)?;
        let cancel = self.cancel.clone();
        summary.bytes =
            self.staging.write(file, |out| encode::write(&graph, &mut Cancellable { out, cancel }))?;
        log::info!("wrote {file}: {} nodes, {} bytes", graph.nodes.len(), summary.bytes);
        self.files.push(summary);
        Ok(())
    }

    /// The final graph. The summary lacks its size.
    fn finish_graph(
        &mut self,
        file: &str,
        name: &'static str,
        graph: Result<Graph, BuildError>,
    ) -> Result<(Validated, FileSummary), Error> {
        self.check_cancelled()?;
        self.steps.begin(file)?;
        let mut graph = graph.map_err(error::build(name))?;
        graph.metadata.extend(self.metadata.clone());
        let mut graph = passes::run_default(graph);
        let half_precision = match self.precision {
            Precision::F32 => None,
            Precision::F16Weights => {
                let report = HalfPrecisionWeights.run(&mut graph);
                Some(HalfPrecision {
                    tensors: report.converted,
                    kept: report.kept.into_iter().map(|(name, reason)| (name, reason.to_string())).collect(),
                    largest_relative_error: report.largest_relative_error,
                })
            }
        };
        let graph = validate(graph).map_err(error::validate(name))?;
        let nodes = Some(graph.nodes.len());
        Ok((graph, FileSummary { name: file.to_owned(), bytes: 0, nodes, half_precision }))
    }

    fn check_cancelled(&self) -> Result<(), Error> {
        if self.cancel.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// A writer that stops as soon as the caller asks.
struct Cancellable<'a> {
    out: &'a mut dyn Write,
    cancel: Arc<AtomicBool>,
}

impl Write for Cancellable<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(io::Error::other(Interrupted));
        }
        self.out.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
