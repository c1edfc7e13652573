//! Streams speech from an exported VITS pair.
//!
//! ```no_run
//! use vitstream_synth::{SpeakOptions, Voice, VoiceOptions};
//!
//! let voice = Voice::open("voice".as_ref(), &VoiceOptions::default())?;
//! for chunk in voice.stream(&[1, 0, 20, 0, 59, 0, 2], &SpeakOptions::default())? {
//!     let chunk = chunk?;
//!     println!("chunk {}: {} samples after {:?}", chunk.index, chunk.samples.len(), chunk.ready);
//! }
//! # Ok::<(), vitstream_synth::Error>(())
//! ```
//!
//! What a datum goes through: phoneme ids → [`EncodeBackend`](backend::EncodeBackend) → [`Latent`](backend::Latent) →
//! [`DecodeBackend`](backend::DecodeBackend), a chunk at a time as the [schedule] says → samples. The streamed audio is the
//! audio: it equals decoding everything at once.

pub mod backend;
mod cancel;

mod error;
mod graph_file;
#[cfg(feature = "native")]
pub mod native;
mod noise;
mod options;
mod pair;
mod receptive;
#[cfg_attr(
    not(any(feature = "rten", feature = "onnxruntime")),
    allow(dead_code, unused_variables, reason = "without a runtime nobody reads what one would be given")
)]
pub mod runtime;
pub mod schedule;
mod stream;
mod voice;
pub mod wav;

pub use cancel::Cancel;
pub use error::{Error, Result};
pub use noise::Noise;
pub use options::{
    DecoderChoice, MAX_FRAMES, MAX_IDS, MAX_STRETCHED_IDS, SAMPLE_RATES, Scales, SpeakOptions, Speaker,
    VoiceOptions,
};
#[cfg(feature = "onnxruntime")]
pub use runtime::onnxruntime_environment;
pub use runtime::{Runtime, Wall};
pub use schedule::{Chunking, Cost, Profile};
pub use stream::{Chunk, SpeechStream};
pub use voice::{Voice, VoiceInfo};
