//! The VITS decoder and encoder computed by plain Rust kernels: weights in, samples out.
//!
//! The crate knows neither files nor graphs. [`spec`] describes a network in PyTorch's layout; [`Encoder`]
//! turns phoneme ids into a latent; [`Decoder`] opens [`Stream`]s, which take latent frames in any portions
//! and return the samples that are determined so far. A whole utterance is one push and a finish.
//!
//! # Design
//! - Signals are rows of time with their channels side by side, addressed by absolute time; every convolution
//!   keeps the rows before it that it will read again. A branch that looks ahead lags behind automatically,
//!   and a sum of branches reads the faster one's older rows, so nothing is copied for a delay.
//! - One micro-kernel does all the work: a tile of rows times a panel of output channels, with the
//!   accumulators in registers. It is written once over arrays of floats and compiled for each instruction
//!   set; `kernels` contains all `unsafe` code.
//! - An output value is one chain of multiply-adds in a fixed order, independent of neighbouring rows, pushes
//!   and threads. Winograd's method, which the encoder and by default the decoder use for kernels with 2 to
//!   14 taps and at least 32 input channels, rounds the outputs of a tile together; in a stream, the tiles of
//!   each layer are therefore at fixed times. The bits are the same for every division of an utterance, on a
//!   given instruction set.
//! - A tile is computed when all its inputs are known, and therefore looks ahead. Each layer uses the tile
//!   with the fewest multiplications that waits for at most one frame more than a direct sum; the ends of
//!   blocks of tiles are chosen so that a chain of layers waits once ([`Decoder::look_ahead`] gives the
//!   total, and the samples are held back to lag by exactly that).
//! - Transforming weights during use pays from eight tiles on: with fewer, it costs more than the
//!   multiplications that it saves (measured with the example `measure`). Only the encoder does so, whose
//!   rows are always a whole sequence.
//! - The memory of all rows of a stream is limited before it is allocated; a sample that is NaN is an error
//!   and not the loudest sound.
#![deny(unsafe_code)]

mod conv;
mod decoder;
mod encoder;
mod error;
#[cfg(feature = "from_vits")]
pub mod from_vits;
mod kernels;
mod lag;
mod line;

mod options;
mod program;
mod rows;
pub mod spec;
mod winograd;
mod workers;

pub use conv::{HalfWeights, Mode};
pub use decoder::{Decoder, Stream};
pub use encoder::{Draws, DrawsFrom, Encoder, Latent, MAX_FRAMES, MAX_IDS, Scales};
pub use error::Error;
pub use kernels::{Isa, give_back_freed_memory};
pub use options::Options;
