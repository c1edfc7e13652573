//! The VITS decoder and encoder computed by plain Rust kernels: weights in, samples out.
//!
//! The crate knows no file and no graph. [`spec`] describes a network in PyTorch's layout; [`Encoder`] makes
//! a latent of phoneme ids; [`Decoder`] opens [`Stream`]s, which take latent frames in any portions and
//! return the samples that are determined so far. A whole utterance is one push and a finish.
//!
//! # Design
//! - Signals are rows of time with their channels side by side, addressed by absolute time; every convolution
//!   keeps in front of it the rows that it will read again. A branch that looks ahead lags behind by itself,
//!   and a sum of branches reads the faster one's older rows, so nothing is copied to delay it.
//! - One micro-kernel does all the work: a tile of rows times a panel of output channels, the accumulators in
//!   registers. It is written once over arrays of floats and compiled for each instruction set; `kernels`
//!   holds all `unsafe` code.
//! - An output value is one chain of multiply-adds in a fixed order, whatever the tile, the push or the
//!   thread: so [`Mode::Direct`] gives the same bits for every way of cutting an utterance, on a given
//!   instruction set.
//! - [`Mode::Fast`], and the encoder in both modes, use Winograd's method where a kernel has 2 to 14 taps, at
//!   least 32 input channels, and, where the weights are transformed on the way, rows for eight tiles: below
//!   that the transforms cost more than the multiplications they save (measured with the example `measure`).
#![deny(unsafe_code)]

mod conv;
mod decoder;
mod encoder;
mod error;
#[cfg(feature = "from_vits")]
pub mod from_vits;
mod kernels;
mod network;
mod options;
mod rows;
pub mod spec;
mod winograd;

pub use conv::Mode;
pub use decoder::{Decoder, Stream};
pub use encoder::{Draws, Encoder, Latent, MAX_FRAMES, MAX_IDS, Noise, Scales};
pub use error::Error;
pub use kernels::Isa;
pub use options::Options;
