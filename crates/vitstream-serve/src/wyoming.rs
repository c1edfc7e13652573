//! Wyoming, the protocol of Home Assistant's voices: events, each a line of JSON and what it announces.

pub mod frame;
mod info;
mod session;

pub use session::converse;
