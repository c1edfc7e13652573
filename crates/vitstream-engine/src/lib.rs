//! The VITS decoder and encoder computed by plain Rust kernels: weights in, samples out.
//!
//! The crate knows no file and no graph. [`spec`] describes a network in PyTorch's layout; [`Decoder`] packs it and
//! opens [`Stream`]s, which take latent frames in any portions and return the samples that are determined so far.
#![deny(unsafe_code)]

mod conv;
mod decoder;
mod encoder;
mod error;
mod kernels;
mod network;
mod options;
mod rows;
pub mod spec;
mod winograd;

pub use conv::Mode;
pub use decoder::{Decoder, Stream};
pub use encoder::{Encoder, Latent, MAX_FRAMES, MAX_IDS, Noise, Scales};
pub use error::Error;
pub use kernels::Isa;
pub use options::Options;
