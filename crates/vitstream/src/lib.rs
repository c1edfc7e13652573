//! Turns a trained VITS / Piper voice into a streaming voice.
//!
//! [`export`](export::export) does the main job, [`inspect`](inspect::inspect) says what a file holds,
//! [`verify`](verify::verify) proves that an export is right:
//!
//! ```
//! # let voice = concat!(env!("CARGO_MANIFEST_DIR"), "/../vitstream-vits/tests/golden/multi.ckpt");
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path().join("voice");
//! use vitstream::export::{ExportOptions, export};
//!
//! let summary = export(voice.as_ref(), &directory, &ExportOptions::default())?;
//! assert_eq!((summary.speakers, summary.hop_length), (3, 256));
//! assert!(directory.join("encoder.onnx").is_file() && directory.join("decoder.onnx").is_file());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod config;
mod error;
pub mod export;
pub mod inspect;
mod json;
pub mod native;
pub mod package;
mod precision;
pub mod source;
pub mod staging;
pub mod verify;

pub use error::Error;
