//! Reads model checkpoints as lazy tensors and inert metadata, and never executes anything in them.
//!
//! ```no_run
//! let checkpoint = vitstream_checkpoint::Checkpoint::open("voice.ckpt")?;
//! let hidden = checkpoint.lookup(&["hyper_parameters", "hidden_channels"])?.and_then(|v| v.as_int());
//! let weight = checkpoint.tensors().require("model_g.dec.conv_pre.weight")?;
//! println!("{hidden:?} {:?}: {:?}", weight.shape(), weight.to_f32()?.first());
//! # Ok::<(), vitstream_checkpoint::Error>(())
//! ```
//!
//! # Design
//!
//! **A trust boundary.** Checkpoints are exchanged between strangers, and a pickle is a program: unpickling
//! one the usual way runs whatever its author wrote. This crate turns such bytes into data; its results (a
//! [`Value`] tree and [`Tensor`]s) are safe to walk. All of the crate is safe Rust except for the calls that
//! map a file and release its pages (`src/map.rs`).
//!
//! **An unpickler of its own.** Other pickle readers either execute the pickle, or give up at the first
//! unknown class, of which a Lightning checkpoint has many. Here the work is split in two. The pickle machine
//! (`src/pickle.rs`) knows only opcodes: a call becomes a node that describes the call. The allow-list
//! (`src/inert.rs`) knows the meaning of a few dozen names and builds data from the description; every other
//! name becomes [`Value::Opaque`]. That is harmless for values that are never used (callbacks, optimizers);
//! using such a value ([`Tensors::require`], [`Checkpoint::lookup`]) is an error that names the global.
//!
//! **Lazy.** Opening a checkpoint reads the zip's directory and the pickle. A tensor's bytes are a slice of
//! the map: they are read from disk when they are used, and a contiguous float32 weight goes from the
//! checkpoint into an output file without a copy ([`F32Buf::into_bytes`]). A tensor is checked against its
//! storage when its elements are requested, so a broken optimizer does not spoil an intact generator.
//!
//! **Limits.** Every way in which a small file could demand much memory or time has a stated limit: see
//! [`limits`]. Nothing recurses deeper than [`limits::MAX_DEPTH`].
//!
//! To add a format: one reader that builds `Value` and `Tensors`, one arm in [`Checkpoint::from_bytes`], one
//! fixture, one fuzz target.
#![deny(unsafe_code)]

mod error;
mod inert;
pub mod limits;
mod map;
mod origin;
mod pickle;
mod regular;
#[cfg_attr(not(feature = "safetensors"), path = "safetensors_absent.rs")]
mod safetensors;
mod sniff;
mod tensor;
mod tensors;
mod text;
mod torch_zip;
mod value;
mod zip;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

pub use error::{Error, ErrorKind};
pub use map::MappedFile;
use origin::Origin;
pub use regular::{read_file, regular_file};
pub use tensor::{DType, F32Buf, Tensor, TensorRef};
pub use tensors::Tensors;
pub use text::{decode_text, excerpt};
use torch_zip::Archive;
pub use value::{Malformed, Object, Value};
pub use zip::{Packing, ZipMember, is_zip, zip_members};

/// Keys of the root that may hold a state dict, in order of preference: the key of PyTorch Lightning, then
/// that of the original VITS and of Coqui.
const STATE_DICT_KEYS: [&str; 2] = ["state_dict", "model"];

/// A container format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// The zip archive written by `torch.save` since PyTorch 1.6.
    TorchZip,
    /// A safetensors file: named tensors, and strings as the only metadata.
    Safetensors,
}

/// An open checkpoint.
#[derive(Clone)]
pub struct Checkpoint {
    origin: Origin,
    format: Format,
    metadata: Value,
    tensors: Tensors,
    file: MappedFile,
}

impl Checkpoint {
    /// Maps the file and reads its directory and pickle, or its header. The format is recognised by content.
    ///
    /// The file must not be changed while it is open.
    ///
    /// # Errors
    /// When the file cannot be read, is neither a PyTorch zip checkpoint nor a safetensors file (the error
    /// says what it is), is damaged, exceeds a limit, or holds no state dict.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = MappedFile::open(path).map_err(|e| match e.kind() {
            ErrorKind::NotAFile("a directory") => {
                e.remedy("Give the checkpoint file itself; a sharded checkpoint directory is not read")
            }
            _ => e,
        })?;
        Self::read(path.to_path_buf(), file)
    }

    /// Reads a checkpoint from a file that is already mapped. `path` is used in messages.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_file(path: &Path, file: MappedFile) -> Result<Self, Error> {
        Self::read(path.to_path_buf(), file)
    }

    /// Reads a checkpoint that is already in memory. `name` is used as its path in messages.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn from_bytes(name: &str, data: Bytes) -> Result<Self, Error> {
        Self::read(PathBuf::from(name), data.into())
    }

    fn read(path: PathBuf, file: MappedFile) -> Result<Self, Error> {
        let data = file.bytes();
        let read = || {
            if sniff::is_safetensors(&data) {
                let (tensors, metadata) = safetensors::read(&path, &data)?;
                let origin = Origin::File(path.clone().into());
                let tensors = Tensors::new(&tensors, origin.clone());
                return Ok(Self { origin, format: Format::Safetensors, metadata, tensors, file });
            }
            if !data.starts_with(b"PK") {
                return Err(sniff::not_a_checkpoint(&data));
            }
            let archive = Archive::open(&path, data.clone())?;
            let metadata = inert::value(&pickle::parse(&archive.pickle()?)?)?;
            let origin = Origin::Archive(Arc::new(archive));
            let tensors = Tensors::new(&state_dict(&metadata)?, origin.clone());
            Ok(Self { origin, format: Format::TorchZip, metadata, tensors, file })
        };
        read().map_err(|e: Error| e.in_file(&path))
    }

    /// The path or name under which the checkpoint was opened.
    pub fn path(&self) -> &Path {
        self.origin.path()
    }

    /// The mapped file, whose pages can be released.
    pub fn file(&self) -> &MappedFile {
        &self.file
    }

    /// The container format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The root object of a pickle, in which tensors are references; or the metadata strings of a safetensors
    /// file.
    pub fn metadata(&self) -> &Value {
        &self.metadata
    }

    /// The value at the path `keys`, each key within the one before; `None` if there is no such entry.
    ///
    /// # Errors
    /// When a value on the path, or the last one, depends on a global that is never loaded, or is malformed.
    pub fn lookup(&self, keys: &[&str]) -> Result<Option<&Value>, Error> {
        let mut value = &self.metadata;
        for (depth, key) in keys.iter().enumerate() {
            match value.get(key) {
                Some(next) => value = next,
                None => return Ok(None),
            }
            if let Some(error) = tensors::unusable(value) {
                return Err(error.in_file(self.path()).of(keys[..=depth].join(".")));
            }
        }
        Ok(Some(value))
    }

    /// The tensors of the state dict: the one under `state_dict` (Lightning) or `model` (original VITS,
    /// Coqui), or the root itself. Without any of these, the tensors of all dicts within the root, with their
    /// names joined by dots. For a safetensors file, all of its tensors.
    pub fn tensors(&self) -> &Tensors {
        &self.tensors
    }

    /// Makes a reference from [`Checkpoint::metadata`] readable. `name` is its name in messages.
    pub fn tensor(&self, name: &str, reference: &TensorRef) -> Tensor {
        Tensor::new(name.into(), reference.clone(), self.origin.clone())
    }
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checkpoint({}, {} tensors)", self.path().display(), self.tensors.len())
    }
}

/// Maps a file, for readers of formats unknown to this crate. The mapping lives as long as any slice of the
/// result; the file must not be changed during that time.
///
/// # Errors
/// When the path is not a regular file, or cannot be read.
pub fn map_file(path: &Path) -> Result<Bytes, Error> {
    MappedFile::open(path).map(|file| file.bytes())
}

impl MappedFile {
    /// As [`map_file`], but returns a handle to the mapping.
    ///
    /// # Errors
    /// As [`map_file`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::map(path, regular_file(path)?).map_err(|e| Error::io(e).in_file(path))
    }
}

/// The items of the state dict.
fn state_dict(root: &Value) -> Result<Cow<'_, [(Value, Value)]>, Error> {
    for key in STATE_DICT_KEYS {
        let Some(value) = root.get(key) else { continue };
        // In other checkpoints, `model` may be a table of settings.
        match value.items() {
            Some(items) if key == "state_dict" || holds_tensors(items) => return Ok(items.into()),
            _ => {}
        }
        if let Some(error) = tensors::unusable(value) {
            return Err(error.of(key));
        }
    }
    if let Some(error) = tensors::unusable(root) {
        return Err(
            error.remedy("The checkpoint holds a whole pickled object: save its state_dict() instead")
        );
    }
    let Some(items) = root.items() else {
        return Err(Error::new(ErrorKind::NoStateDict).found(root.describe()));
    };
    if holds_tensors(items) {
        return Ok(items.into());
    }
    let mut found = Vec::new();
    nested(items, "", 0, &mut found);
    if found.is_empty() {
        let keys: Vec<String> =
            items.iter().filter_map(|(key, _)| key.as_str().map(excerpt)).take(12).collect();
        return Err(Error::new(ErrorKind::NoStateDict)
            .expected("the key state_dict or model, or tensors at the top level")
            .found(format!("the keys {}", keys.join(", "))));
    }
    Ok(found.into())
}

/// Collects the tensors of nested dicts, as written by projects that save a network in parts: `{generator:
/// {...}}`, `{net: {decoder: {...}}}`. Optimizers hold tensors as well, but their keys are numbers.
fn nested(items: &[(Value, Value)], prefix: &str, depth: usize, found: &mut Vec<(Value, Value)>) {
    for (key, value) in items {
        let Some(key) = key.as_str().filter(|key| prefix.len() + key.len() < limits::MAX_KEY_BYTES) else {
            continue;
        };
        match value {
            Value::Tensor(_) => found.push((Value::Str(format!("{prefix}{key}")), value.clone())),
            _ if depth < limits::MAX_STATE_DICT_DEPTH => {
                if let Some(items) = value.items() {
                    nested(items, &format!("{prefix}{key}."), depth + 1, found);
                }
            }
            _ => {}
        }
    }
}

fn holds_tensors(items: &[(Value, Value)]) -> bool {
    items.iter().any(|(_, value)| matches!(value, Value::Tensor(_)))
}
