//! Wyoming, the protocol of Home Assistant's voices: events, each a line of JSON followed by the data that it
//! announces.

pub mod frame;
mod info;
mod session;

pub use session::converse;
