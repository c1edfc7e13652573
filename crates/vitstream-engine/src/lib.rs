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
//! - An output value is one chain of multiply-adds in a fixed order, whatever the rows beside it, the push or
//!   the thread. Winograd's method, which the encoder and by default the decoder use where a kernel has 2 to 14
//!   taps and at least 32 input channels, rounds the outputs of a tile together; so in a stream the tiles of each
//!   layer lie at fixed times. The bits are therefore the same for every way of cutting an utterance, on a given
//!   instruction set.
//! - A tile is computed when all its inputs are known, and so looks ahead. Each layer takes the tile with the
//!   fewest multiplications that waits for at most a frame more than a direct sum; where blocks of tiles end is
//!   chosen so that a chain of layers waits once ([`Decoder::look_ahead`] says for how long in all, and the
//!   samples are held back to lag by exactly that).
//! - Weights that are transformed while they are used pay from eight tiles on: below that it costs more than the
//!   multiplications that it saves (measured with the example `measure`). Only the encoder does so, whose rows
//!   are always a whole sequence.
//! - What all rows of a stream take together is bounded before it is allocated; a sample that is not a number is
//!   an error and not the loudest sound.
#![deny(unsafe_code)]

mod conv;
mod decoder;
mod encoder;
mod error;
#[cfg(feature = "from_vits")]
pub mod from_vits;
mod kernels;
mod lag;

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
