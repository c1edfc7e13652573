//! Turns a trained VITS / Piper voice into a streaming voice, and speaks with it.
#![forbid(unsafe_code)]

mod error;
#[cfg(feature = "native")]
pub mod native;

pub use error::Error;
#[cfg(feature = "export")]
pub use vitstream_export::{export, package};
pub use vitstream_source as source;
pub use vitstream_source::{config, inspect};
pub use vitstream_synth::{
    Chunk, Chunking, Cost, DecoderChoice, Profile, Runtime, Scales, SpeakOptions, Speaker, SpeechStream,
    Voice, VoiceInfo, VoiceOptions, wav,
};
#[cfg(feature = "verify")]
pub use vitstream_verify as verify;
pub use vitstream_vits::NoiseSource;
