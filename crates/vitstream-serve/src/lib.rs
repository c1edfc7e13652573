//! Serves voices to many listeners at once, with low latency for all.
//!
//! # The path of a request
//! ```text
//! Wyoming, HTTP, WebSocket ─▶ Service ─▶ admission ─▶ Scheduler ─▶ Listener ─▶ the client
//!                                │                       ▲ │
//!                              Voices                    │ ▼ a chunk a turn
//!                                                text, phonemes, Voice, resampling, encoding
//! ```
//! - A [`Service`](service::Service) turns a request of any protocol into a stream of bytes.
//! - The [`scheduler`] decides on order and admission. It knows neither protocols nor audio.
//! - [`Voices`](voices::Voices) opens each voice once for all requests.
//!
//! # Design
//! Threads of the runtime only move bytes; all computation (phonemes, the network, resampling, encoding) runs
//! on the scheduler's workers, one per core. A full server therefore still answers health checks and refuses
//! requests immediately.
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
