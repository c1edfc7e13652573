//! What the folder of an exported voice says, to whoever writes, reads or checks one: the names of its files, what its metadata
//! list, what can be done when one of them is not as it should be, and how far that work is.
//!
//! Nothing is read or written here, and nothing of the network is known.
#![forbid(unsafe_code)]

pub mod files;
mod progress;
mod remedy;
mod states;

pub use progress::{Progress, Step};
pub use remedy::{Description, PackageOption, Remedy};
pub use states::{MAX_STATE_ELEMENTS, StreamState};
