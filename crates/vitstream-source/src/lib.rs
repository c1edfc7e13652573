//! Voices to export from, whatever file they come in.
//!
//! One module for each format. A reader knows its files and no more of VITS than upstream's names: it gives `Parts`, and
//! the rest of the program does not know the difference. Adding a format: one module, one arm in `read`, one fixture,
//! one fuzz target.

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

/// A voice that was read from a file.
pub struct Source {
    /// The network.
    pub model: SynthesizerTrn,
    /// What became of the file's tensors.
    pub audit: Audit,
    /// The voice's JSON, if there is one.
    pub config: Option<VoiceConfig>,
    /// What the file is, for people.
    pub format: &'static str,
    /// What the reader found unusual.
    pub warnings: Vec<String>,
    /// What the reader did and chose, for people.
    pub notes: Vec<String>,
    /// What it was read from.
    pub files: Vec<MappedFile>,
}

/// Makes sure that `files` are as they were when they were opened: see [`MappedFile::check_unchanged`]. To be asked before
/// anything that was made of them is put in its place.
pub fn check_unchanged(files: &[MappedFile]) -> Result<(), Error> {
    files.iter().try_for_each(|file| Ok(file.check_unchanged()?))
}

/// Refuses a folder whose files an export is just replacing, or was when it was killed: they may be of two voices.
///
/// # Errors
/// When it is such a folder.
pub fn check_finished(directory: &Path) -> Result<(), Error> {
    match directory.join(files::UNFINISHED).exists() {
        true => Err(Error::Unfinished { path: directory.to_owned() }),
        false => Ok(()),
    }
}

/// What is said of a voice beside its file.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// The voice's JSON, or the configuration of its training; without it, each format looks where its own usually is.
    pub config: Option<PathBuf>,
    /// Hyper-parameters for weights that state none, or in place of those that a checkpoint states, `NAME=VALUE` each:
    /// `upsample_rates=8,8,4`.
    pub hparams: Vec<String>,
    /// Whether weights may be infinite or not numbers. What is made of them will be noise or silence.
    pub allow_nan: bool,
    /// Which weights to take from a checkpoint that holds those as trained and their average; `None` takes what
    /// upstream's export takes (those in the place where Piper has them) and warns when there are both.
    pub weights: Option<WeightSet>,
    /// Bytes of memory that the tensors of the file may take as float32, and those that an archive may unpack to.
    /// Without it, twice the file's size and 64 MiB, for archives four times: no honest file takes more, and a small one
    /// that was made to exhaust memory is refused first.
    pub memory_budget: Option<u64>,
}

impl ReadOptions {
    /// The same as [`default`](Self::default).
    pub fn new() -> Self {
        Self::default()
    }

    /// The voice's JSON, or the configuration of its training.
    pub fn config(mut self, config: impl Into<PathBuf>) -> Self {
        self.config = Some(config.into());
        self
    }

    /// Hyper-parameters, `NAME=VALUE` each, for weights that state none, or in place of those that a checkpoint states.
    pub fn hparams(mut self, hparams: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.hparams = hparams.into_iter().map(Into::into).collect();
        self
    }

    /// Whether weights may be infinite or not numbers.
    pub fn allow_nan(mut self, allow_nan: bool) -> Self {
        self.allow_nan = allow_nan;
        self
    }

    /// Which weights to take from a checkpoint that holds several sets.
    pub fn weights(mut self, weights: impl Into<Option<WeightSet>>) -> Self {
        self.weights = weights.into();
        self
    }

    /// Bytes of memory that the tensors of the file may take as float32.
    pub fn memory_budget(mut self, memory_budget: impl Into<Option<u64>>) -> Self {
        self.memory_budget = memory_budget.into();
        self
    }
}

/// One of the sets of weights in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WeightSet {
    /// As the last step of training left them.
    Raw,
    /// Averaged over steps (exponential moving average, stochastic weight averaging).
    Ema,
}

/// What readers of checkpoints are told beside the tensors.
pub(crate) struct Context<'a> {
    /// The voice's file, as messages name it.
    path: &'a Path,
    options: &'a ReadOptions,
    around: &'a Surroundings,
}

impl Context<'_> {
    /// The voice's JSON: the one that was named, or the one that lies beside the voice under a name of its own.
    fn voice_json(&self) -> Result<Option<VoiceConfig>, Error> {
        match &self.options.config {
            Some(path) => VoiceConfig::read(path).map(Some),
            None => self.around.voice_json(&VoiceConfig::names_beside(self.path)),
        }
    }
}

/// What a reader makes of its file.
pub struct Parts {
    /// The tensors under upstream's keys.
    pub weights: Weights,
    /// The hyper-parameters that go with them.
    pub hparams: HParams,
    /// The voice's JSON, if there is one.
    pub config: Option<VoiceConfig>,
    /// What the file is, for people.
    pub format: &'static str,
    /// What is unusual about it.
    pub warnings: Vec<String>,
    /// What was done and chosen, for people.
    pub notes: Vec<String>,
    /// The mapped files that the tensors lie in.
    pub files: Vec<MappedFile>,
}

/// Reads the voice in `input`. What it is is told by its content.
///
/// # Errors
/// When the file cannot be read, holds no VITS network, or holds one whose parts contradict each other or are not all
/// stated.
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

/// Refuses weights that are no numbers, unless they are allowed.
pub fn check_finite(path: &Path, audit: &Audit, options: &ReadOptions) -> Result<(), Error> {
    /// Tensors that the message lists.
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

/// Tells what `input` is and hands it to its reader.
///
/// # Errors
/// As [`load`], but for the weights, which are not looked at yet.
pub fn read(input: impl Into<Input>, options: &ReadOptions) -> Result<Parts, Error> {
    let input = input.into();
    if !input.is_dir() {
        return read_opened(&input, input.open()?, options);
    }
    let parts = read_folder(input.name(), options)?;
    budget::check(input.name(), &parts, options)?;
    Ok(parts)
}

/// As [`read`], for an `input` that is no folder and whose `file` has been opened.
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

/// The pair in `directory`, whatever else is there.
pub(crate) fn read_pair(directory: &Path, config: Option<&Path>) -> Result<Parts, Error> {
    graphs::folder::read(directory, config)
}

/// Says where a voice's JSON was looked for in vain, and which ones were not taken.
fn missing_json(path: &Path, names: &[String], around: &Surroundings, parts: &mut Parts) {
    if parts.config.is_some() {
        return;
    }
    let names = names.join(", ");
    parts.notes.push(format!("no voice JSON: there is none of {names}"));
    if let Some(others) = around.other_voices() {
        parts.warnings.push(format!(
            "{}: no voice JSON is taken: {others} can be that of another voice, by its name; expected one of {names}, or \
             one that is named",
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
                "a folder with {weights} and without the config.json that a Hugging Face VitsModel has beside it: fetch \
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

/// Reads the voice's `file`; `path` stands for it in messages.
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
        // What lies in the archive as it is, is a part of its map.
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

/// Hyper-parameters and sets of weights are for checkpoints only.
fn refuse_flags(path: &Path, options: &ReadOptions, found: &str) -> Result<(), Error> {
    if !options.hparams.is_empty() {
        return Err(hparams_without_effect(path, found));
    }
    if options.weights.is_some() {
        let problem = "trained and averaged weights are told apart in checkpoints only";
        return Err(Error::Option(format!("{problem}; {} is {found}", path.display())));
    }
    Ok(())
}

fn hparams_without_effect(path: &Path, found: &str) -> Error {
    let problem =
        "hyper-parameters can be given for checkpoints of VITS and Piper and for weights that state none";
    Error::Option(format!("{problem}; {} is {found}", path.display()))
}

/// Whether the file at `path` is an ONNX model.
pub fn is_onnx(path: &Path) -> Result<bool, Error> {
    if !path.is_file() {
        // The reader of checkpoints says what it is instead.
        return Ok(false);
    }
    let mut start = Vec::new();
    regular_file(path)?.take(9).read_to_end(&mut start).map_err(Error::io(path))?;
    Ok(begins_as_onnx(&start))
}

/// An ONNX model begins with its IR version, a small number. The length that a safetensors file begins with can look like
/// it, but is followed by a brace.
fn begins_as_onnx(data: &[u8]) -> bool {
    let start = &data[..data.len().min(9)];
    matches!(start, [0x08, 0..0x20, ..]) && !matches!(start, [.., 0, 0, 0, 0, b'{'])
}

#[cfg(test)]
mod tests;
