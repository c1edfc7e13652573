//! The contract of an exported voice's folder, shared by the crates that write, read or check one: file
//! names, metadata, remedies for errors, and progress.
//!
//! This crate performs no input or output, and does not know the network.
#![forbid(unsafe_code)]

pub mod files;
mod progress;
mod remedy;
mod states;

pub use progress::{Progress, Step};
pub use remedy::{Description, PackageOption, Remedy};
pub use states::{MAX_STATE_ELEMENTS, StreamState};
