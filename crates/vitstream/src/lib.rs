//! Turns a trained VITS / Piper voice into a streaming voice, and speaks with it.
//!
//! # Speak
//! A [`Voice`] is opened from an exported folder or straight from a trained checkpoint, and speaks phoneme ids:
//!
//! ```
//! # let trained = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-vits/tests/golden/multi.ckpt");
//! use vitstream::{OpenOptions, SpeakOptions, Voice};
//!
//! let voice = Voice::open(trained, &OpenOptions::new().sample_rate(22_050))?;
//! let samples = voice.synthesize(&[1, 0, 20, 0, 2], &SpeakOptions::default())?;
//! println!("{} samples at {} hertz", samples.len(), voice.info().sample_rate);
//! # Ok::<(), vitstream::Error>(())
//! ```
//!
//! # Stream
//! The same audio comes chunk by chunk, the first one long before the last:
//!
//! ```
//! # let trained = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-vits/tests/golden/multi.ckpt");
//! # use vitstream::{OpenOptions, SpeakOptions, Voice};
//! # let voice = Voice::open(trained, &OpenOptions::new().sample_rate(22_050))?;
//! for chunk in voice.stream(&[1, 0, 20, 0, 2], &SpeakOptions::default())? {
//!     let chunk = chunk?;
//!     println!("{} samples, ready after {:?}", chunk.samples.len(), chunk.ready);
//! }
//! # Ok::<(), vitstream::Error>(())
//! ```
//!
//! # Export and verify
//! [`export()`] writes the voice as ONNX graphs that any client can stream; [`verify()`] proves that they are the same voice:
//!
//! ```
//! # #[cfg(feature = "verify")] {
//! # let trained = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-vits/tests/golden/multi.ckpt");
//! # let directory = tempfile::tempdir()?;
//! # let folder = directory.path().join("voice");
//! use vitstream::export::ExportOptions;
//! use vitstream::verify::VerifyOptions;
//!
//! // `durations` adds the frames of each phoneme as a further output of the encoder.
//! let summary = vitstream::export(trained, &folder, &ExportOptions::new().durations(true))?;
//! assert_eq!((summary.speakers, summary.hop_length), (3, 256));
//!
//! let report = vitstream::verify(&folder, &VerifyOptions::new().against(trained))?;
//! assert!(report.passed);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Inspect
//! [`inspect()`] lists the contents of a file without running any of it.
//!
//! # Features
//! All features except `onnxruntime` are on by default:
//! - `native`: vitstream's own engine. A program that only speaks needs no other feature; it then builds 43
//!   crates.
//! - `threads`: more than one thread for the native engine.
//! - `safetensors` and `archives`: voices in safetensors files, and in zip, tar and gzip archives.
//! - `rten` and `onnxruntime`: runtimes for the graphs of an exported folder.
//! - `export` and `verify`: [`export()`] and [`verify()`].
#![forbid(unsafe_code)]

mod error;
mod voice;

#[cfg(feature = "export")]
use std::path::Path;

pub use error::{Error, ErrorKind, Result, message_with_causes};
/// Functions that read small files named by a user: regular files only, and only up to a given size.
pub use vitstream_checkpoint::{decode_text, read_file, regular_file};
pub use vitstream_contract::{Description, PackageOption, Progress, Remedy, Step, files};
#[cfg(feature = "export")]
pub use vitstream_export::{export, package, staging};
pub use vitstream_source as source;
pub use vitstream_source::Input;
pub use vitstream_source::{config, inspect};
/// The decoder that [`Voice::decoder`] returns.
pub use vitstream_synth::backend::{DecodeBackend, DecodeSession};
#[cfg(feature = "native")]
pub use vitstream_synth::native::Isa;
/// Functions that run graphs; the process that [`Wall`] starts needs them.
pub use vitstream_synth::runtime;
pub use vitstream_synth::{
    Cancel, Chunk, Chunking, Cost, DecoderChoice, MAX_IDS, Noise, Profile, Runtime, Scales, SpeakOptions,
    Speaker, VoiceInfo, Wall, wav,
};
#[cfg(feature = "verify")]
pub use vitstream_verify as verify;
pub use vitstream_vits::{HParams, NoiseSource};
pub use voice::{Backend, OpenOptions, SpeechStream, Voice};

/// Reads the voice in `input` and writes its pair to the directory `output`: see [`export`](mod@export).
///
/// # Errors
/// When the voice cannot be read, an option is invalid, or the directory cannot be written to.
#[cfg(feature = "export")]
pub fn export(
    input: impl Into<Input>,
    output: impl AsRef<Path>,
    options: &export::ExportOptions,
) -> Result<export::ExportSummary> {
    Ok(export::export(input, output.as_ref(), options)?)
}

/// Lists the contents of a file without running any of it: see [`inspect`](mod@inspect).
///
/// # Errors
/// When the file is neither a voice nor an ONNX graph that can be read.
pub fn inspect(input: impl Into<Input>, options: &source::ReadOptions) -> Result<inspect::Inspection> {
    Ok(inspect::inspect(input, options)?)
}

/// Verifies the pair in `directory`: see [`verify`](mod@verify).
///
/// # Errors
/// When there is no pair, the reference cannot be read, the runtime is not available, or an option is
/// invalid. Damaged files of the pair are not an error: the report lists them.
#[cfg(feature = "verify")]
pub fn verify(directory: impl AsRef<Path>, options: &verify::VerifyOptions) -> Result<verify::Report> {
    Ok(verify::verify(directory.as_ref(), options)?)
}
