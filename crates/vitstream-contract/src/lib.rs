//! What the folder of an exported voice says, to whoever writes, reads or checks one: the names of its files, what can be
//! done when one of them is not as it should be, and how far that work is.
//!
//! Nothing is read or written here, and nothing of the network is known.
#![forbid(unsafe_code)]

pub mod files;
mod progress;
mod remedy;

pub use progress::{Progress, Step};
pub use remedy::{Description, PackageOption, Remedy};
