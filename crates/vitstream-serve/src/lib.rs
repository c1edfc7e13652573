//! Serves voices to many listeners at once, and keeps everyone's latency.
//!
//! # What a request goes through
//! ```text
//! Wyoming, HTTP, WebSocket ─▶ Service ─▶ admission ─▶ Scheduler ─▶ Listener ─▶ the client
//!                                │                       ▲ │
//!                              Voices                    │ ▼ a chunk a turn
//!                                                text, phonemes, Voice, resampling, encoding
//! ```
//! - A [`Service`](service::Service) turns a request of any protocol into a stream of bytes.
//! - The [`scheduler`] decides who is computed next and who is let in. It knows no protocol and no audio.
//! - [`Voices`](voices::Voices) opens each voice once for all.
//!
//! # Design
//! Threads of the runtime only move bytes; all that computes (phonemes, the network, resampling, encoding) runs on the
//! scheduler's workers, one a core. So a server that is full still answers at once whether it lives, and refuses at once.
#![forbid(unsafe_code)]

pub mod audio;
mod error;
pub mod http;
mod limits;
pub mod metrics;
mod reading;
pub mod scheduler;
mod server;
pub mod service;
pub mod voices;
pub mod wyoming;

pub use error::{Error, Fault, Result};
pub use limits::Limits;
pub use reading::{Audio, Utterance};
pub use server::{Server, is_loopback};
