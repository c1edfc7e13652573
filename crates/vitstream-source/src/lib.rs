//! Reads voices from files of any supported format.
//!
//! There is one module for each format. A reader knows its own files, and of VITS only upstream's names. It
//! returns `Parts`, and the rest of the program does not see the difference. To add a format: one module, one
//! arm in `read`, one fixture, one fuzz target.

mod archive;
mod beside;
mod budget;
pub mod config;
mod coqui;
mod error;
mod graphs;
mod huggingface;
mod input;
pub mod inspect;
pub mod json;
mod keys;
mod lightning;
mod settings;
mod state_dict;
mod surroundings;
#[cfg_attr(not(feature = "archives"), path = "unpack_absent.rs")]
mod unpack;
mod voice_json;

use std::io::Read;
use std::path::{Path, PathBuf};

use vitstream_checkpoint::{Checkpoint, MappedFile, excerpt, regular_file};
use vitstream_contract::files;
use vitstream_vits::{Audit, HParams, Network, SynthesizerTrn, Weights};

use archive::Inside;
use beside::Beside;
use config::VoiceConfig;
pub use error::Error;
pub use input::Input;
use keys::Keys;
pub(crate) use surroundings::Surroundings;

/// A voice read from a file.
pub struct Source {
    /// The network.
    pub model: SynthesizerTrn,
    /// The uses of the file's tensors.
    pub audit: Audit,
    /// The voice's JSON, if there is one.
    pub config: Option<VoiceConfig>,
    /// The file's format, for people.
    pub format: &'static str,
    /// Warnings of the reader.
    pub warnings: Vec<String>,
    /// Choices of the reader, for people.
    pub notes: Vec<String>,
    /// The files that it was read from.
    pub files: Vec<MappedFile>,
}

/// Checks that `files` are unchanged since they were opened: see [`MappedFile::check_unchanged`]. To be
/// called before anything derived from them is put into its place.
pub fn check_unchanged(files: &[MappedFile]) -> Result<(), Error> {
    files.iter().try_for_each(|file| Ok(file.check_unchanged()?))
}

/// Refuses a folder whose files are being replaced by an export, or were when the export was killed: they may
/// belong to two voices.
///
/// # Errors
/// When the folder is in this state.
pub fn check_finished(directory: &Path) -> Result<(), Error> {
    match directory.join(files::UNFINISHED).exists() {
        true => Err(Error::Unfinished { path: directory.to_owned() }),
        false => Ok(()),
    }
}

/// Facts about a voice that its file does not state.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// The voice's JSON, or its training configuration; without it, each format looks in its usual places.
    pub config: Option<PathBuf>,
    /// Hyper-parameters, `NAME=VALUE` each (`upsample_rates=8,8,4`), for weights that state none, or to
    /// override those that a checkpoint states.
    pub hparams: Vec<String>,
    /// Accepts weights that are infinite or NaN. The resulting audio will be noise or silence.
    pub allow_nan: bool,
    /// Weights to use from a checkpoint that holds both the weights as trained and their average. `None`
    /// selects the set that upstream's export uses (the one in the place where Piper keeps its weights) and
    /// warns if there are both.
    pub weights: Option<WeightSet>,
    /// Limit on the bytes of memory that the file's tensors may take as float32, and that an archive may
    /// unpack to. The default is twice the file's size plus 64 MiB, or four times for archives: no honest
    /// file takes more, so a small file made to exhaust memory is refused.
    pub memory_budget: Option<u64>,
}

impl ReadOptions {
    /// The same as [`default`](Self::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the voice's JSON, or its training configuration.
    pub fn config(mut self, config: impl Into<PathBuf>) -> Self {
        self.config = Some(config.into());
        self
    }

    /// Sets hyper-parameters, `NAME=VALUE` each, for weights that state none, or to override those that a
    /// checkpoint states.
    pub fn hparams(mut self, hparams: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.hparams = hparams.into_iter().map(Into::into).collect();
        self
    }

    /// Accepts weights that are infinite or NaN.
    pub fn allow_nan(mut self, allow_nan: bool) -> Self {
        self.allow_nan = allow_nan;
        self
    }

    /// Sets which weights to use from a checkpoint that holds several sets.
    pub fn weights(mut self, weights: impl Into<Option<WeightSet>>) -> Self {
        self.weights = weights.into();
        self
    }

    /// Sets the limit on the bytes of memory that the file's tensors may take as float32.
    pub fn memory_budget(mut self, memory_budget: impl Into<Option<u64>>) -> Self {
        self.memory_budget = memory_budget.into();
        self
    }
}

/// A set of weights in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightSet {
    /// The weights after the last step of training.
    Raw,
    /// The weights averaged over steps (exponential moving average, stochastic weight averaging).
    Ema,
}

/// Information for readers of checkpoints, besides the tensors.
pub(crate) struct Context<'a> {
    /// The voice's file, as named in messages.
    path: &'a Path,
    options: &'a ReadOptions,
    around: &'a Surroundings,
}

impl Context<'_> {
    /// The voice's JSON: the one named by the caller, or the one found next to the voice under a known name.
    fn voice_json(&self) -> Result<Option<VoiceConfig>, Error> {
        match &self.options.config {
            Some(path) => VoiceConfig::read(path).map(Some),
            None => self.around.voice_json(&VoiceConfig::names_beside(self.path)),
        }
    }
}

/// The result of a reader.
pub struct Parts {
    /// The tensors under upstream's keys.
    pub weights: Weights,
    /// The hyper-parameters that belong to them.
    pub hparams: HParams,
    /// The voice's JSON, if there is one.
    pub config: Option<VoiceConfig>,
    /// The file's format, for people.
    pub format: &'static str,
    /// Warnings about the file.
    pub warnings: Vec<String>,
    /// Choices of the reader, for people.
    pub notes: Vec<String>,
    /// The mapped files that hold the tensors.
    pub files: Vec<MappedFile>,
}

/// Reads the voice in `input`. Its format is recognised by content.
///
/// # Errors
/// When the file cannot be read, holds no VITS network, or holds one whose parts contradict each other or are
/// not all stated.
pub fn load(input: impl Into<Input>, options: &ReadOptions) -> Result<Source, Error> {
    let input = input.into();
    put_together(input.name(), read(&input, options)?, options)
}

fn put_together(path: &Path, parts: Parts, options: &ReadOptions) -> Result<Source, Error> {
    let Parts { weights, hparams, config, format, warnings, notes, files } = parts;
    let weights_error = |source| Error::Weights { path: path.to_owned(), source };
    let (model, audit) = SynthesizerTrn::load_weights(&weights, hparams).map_err(weights_error)?;
    check_finite(path, &audit, options)?;
    Ok(Source { model, audit, config, format, warnings, notes, files })
}

/// Refuses weights that are not finite, unless they are allowed.
pub fn check_finite(path: &Path, audit: &Audit, options: &ReadOptions) -> Result<(), Error> {
    /// Limit on the tensors that the message lists.
    const LISTED: usize = 5;
    if audit.non_finite.is_empty() || options.allow_nan {
        return Ok(());
    }
    let mut tensors: Vec<String> = audit.non_finite.iter().take(LISTED).map(|key| excerpt(key)).collect();
    if audit.non_finite.len() > LISTED {
        tensors.push(format!("{} more", audit.non_finite.len() - LISTED));
    }
    Err(Error::NotFinite { path: path.to_owned(), tensors: tensors.join(", ") })
}

/// Recognises the format of `input` and calls its reader.
///
/// # Errors
/// As [`load`], except for the weights, which are not examined yet.
pub fn read(input: impl Into<Input>, options: &ReadOptions) -> Result<Parts, Error> {
    let input = input.into();
    if !input.is_dir() {
        return read_opened(&input, input.open()?, options);
    }
    let parts = read_folder(input.name(), options)?;
    budget::check(input.name(), &parts, options)?;
    Ok(parts)
}

/// As [`read`], for an `input` that is not a folder and whose `file` is already open.
pub(crate) fn read_opened(input: &Input, file: MappedFile, options: &ReadOptions) -> Result<Parts, Error> {
    let path = input.name();
    let parts = match input.member(files::DECODER) {
        Some(decoder) => {
            let graphs = [file.bytes(), decoder];
            read_inside(path, Inside::Pair { graphs, around: input.around() }, options)?
        }
        None => read_file(path, file, &input.around(), options)?,
    };
    budget::check(path, &parts, options)?;
    Ok(parts)
}

/// Reads the pair in `directory`, ignoring any other voice there.
pub(crate) fn read_pair(directory: &Path, config: Option<&Path>) -> Result<Parts, Error> {
    graphs::folder::read(directory, config)
}

/// Reports where a voice's JSON was looked for in vain, and which files were not used.
fn missing_json(path: &Path, names: &[String], around: &Surroundings, parts: &mut Parts) {
    if parts.config.is_some() {
        return;
    }
    let names = names.join(", ");
    parts.notes.push(format!("no voice JSON: none of {names} exists"));
    if let Some(others) = around.other_voices() {
        parts.warnings.push(format!(
            "{}: no voice JSON is used: judging by its name, {others} may belong to another voice; expected one of {names}, or \
             one that is named explicitly",
            path.display()
        ));
    }
}

fn read_folder(path: &Path, options: &ReadOptions) -> Result<Parts, Error> {
    let container = |problem: String| Error::Container { path: path.to_owned(), problem };
    if let Some(weights) = huggingface::weights_in(path) {
        let has = |name: &str| path.join(name).exists();
        if !has("config.json") && !has(files::ENCODER) {
            let weights = weights.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(container(format!(
                "a folder with {weights} but without the config.json of a Hugging Face VitsModel: fetch \
                 the model's config.json into the folder as well"
            )));
        }
        if has("config.json") {
            return read_file(&weights, MappedFile::open(&weights)?, &Surroundings::of(&weights), options);
        }
    }
    for pickle in ["data.pkl", "archive/data.pkl"] {
        if path.join(pickle).is_file() {
            let problem = format!("this is a checkpoint that was unpacked ({pickle}): {}", archive::REPACK);
            return Err(container(problem));
        }
    }
    refuse_flags(path, options, "a directory with a pair")?;
    let mut parts = graphs::folder::read(path, options.config.as_deref())?;
    missing_json(path, &VoiceConfig::names_in_folder(), &Surroundings::Folder(path.to_owned()), &mut parts);
    Ok(parts)
}

/// Reads the voice's `file`; `path` is used in messages.
fn read_file(
    path: &Path,
    file: MappedFile,
    around: &Surroundings,
    options: &ReadOptions,
) -> Result<Parts, Error> {
    let context = Context { path, options, around };
    let bytes = file.bytes();
    if begins_as_onnx(&bytes) {
        refuse_flags(path, options, "a finished voice")?;
        let beside = matches!(around, Surroundings::Folder(_)).then(|| Beside::of(path));
        let parts = graphs::file::read_file(path, file, beside)?;
        let mut parts = Parts { config: context.voice_json()?, ..parts };
        missing_json(path, &VoiceConfig::names_beside(path), around, &mut parts);
        return Ok(parts);
    }
    // Archives within archives are not opened.
    if !matches!(around, Surroundings::Archive { .. })
        && let Some(inside) = archive::voice(path, &bytes, budget::unpacked(bytes.len(), options))?
    {
        let mut parts = read_inside(path, inside, options)?;
        // An uncompressed member is part of the archive's map.
        parts.files.push(file);
        return Ok(parts);
    }
    let checkpoint = Checkpoint::from_file(path, file)?;
    let keys = Keys::of(&checkpoint, options.weights)?;
    let states_hparams = checkpoint.metadata().get("hyper_parameters").is_some();
    if keys.network != Network::Vits && !options.hparams.is_empty() {
        return Err(hparams_without_effect(path, keys.network.describe()));
    }
    let mut parts = match keys.network {
        Network::Vits if states_hparams => lightning::read(&checkpoint, keys, &context),
        Network::Vits => state_dict::read(&checkpoint, keys, &context),
        Network::HuggingFaceVits => huggingface::read(&checkpoint, keys, &context),
        Network::CoquiVits => coqui::read(&checkpoint, keys, &context),
        Network::Unknown => Err(Error::UnknownNetwork { path: path.to_owned(), keys: keys.examples() }),
        other => Err(Error::OtherNetwork { path: path.to_owned(), found: other.describe() }),
    }?;
    missing_json(path, &VoiceConfig::names_beside(path), around, &mut parts);
    Ok(parts)
}

/// Reads the voice inside the archive at `path`.
fn read_inside(path: &Path, inside: Inside, options: &ReadOptions) -> Result<Parts, Error> {
    match inside {
        Inside::File { name, contents, around } => {
            let inner = path.join(&name);
            let mut parts = read_file(&inner, contents.into(), &around, options)?;
            parts.notes.push(format!("read from inside the archive: {}", excerpt(&name)));
            Ok(parts)
        }
        Inside::Pair { graphs: [encoder, decoder], around } => {
            refuse_flags(path, options, "an archive with a pair")?;
            let config = match &options.config {
                Some(path) => Some(VoiceConfig::read(path)?),
                None => around.voice_json(&VoiceConfig::names_in_folder())?,
            };
            let parts = graphs::folder::read_graphs(path, [encoder.into(), decoder.into()], None, config)?;
            let notes = vec!["read from inside the archive: encoder.onnx, decoder.onnx".to_owned()];
            Ok(Parts { notes, ..parts })
        }
    }
}

/// Refuses hyper-parameters and sets of weights, which apply only to checkpoints.
fn refuse_flags(path: &Path, options: &ReadOptions, found: &str) -> Result<(), Error> {
    if !options.hparams.is_empty() {
        return Err(hparams_without_effect(path, found));
    }
    if options.weights.is_some() {
        let problem = "a choice between trained and averaged weights exists for checkpoints only";
        return Err(Error::Option(format!("{problem}; {} is {found}", path.display())));
    }
    Ok(())
}

fn hparams_without_effect(path: &Path, found: &str) -> Error {
    let problem =
        "hyper-parameters can be given for checkpoints of VITS and Piper and for weights that state none";
    Error::Option(format!("{problem}; {} is {found}", path.display()))
}

/// Returns true if the file at `path` is an ONNX model.
pub fn is_onnx(path: &Path) -> Result<bool, Error> {
    if !path.is_file() {
        // The reader of checkpoints reports what it is instead.
        return Ok(false);
    }
    let mut start = Vec::new();
    regular_file(path)?.take(9).read_to_end(&mut start).map_err(Error::io(path))?;
    Ok(begins_as_onnx(&start))
}

/// An ONNX model begins with its IR version, a small number. The length at the start of a safetensors file
/// can look the same, but is followed by a brace.
fn begins_as_onnx(data: &[u8]) -> bool {
    let start = &data[..data.len().min(9)];
    matches!(start, [0x08, 0..0x20, ..]) && !matches!(start, [.., 0, 0, 0, 0, b'{'])
}

#[cfg(test)]
mod tests;
