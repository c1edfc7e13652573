//! Writes a VITS network as the files of a streaming voice, as one graph, or as a client's package.
#![forbid(unsafe_code)]

mod deviation;
pub mod error;
pub mod export;
pub mod package;
pub mod staging;

pub use error::Error;
