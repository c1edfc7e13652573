//! The VITS network (Kim et al. 2021, "Conditional Variational Autoencoder with Adversarial Learning for End-to-End
//! Text-to-Speech"): hyper-parameters, weights, blocks, and the graphs they emit.
//!
//! # Design
//! Every block of upstream is a type here, with upstream's class and field names. `load` claims its tensors
//! and checks their shapes; `emit` adds its nodes to a graph and mirrors upstream's `forward`, so that the
//! two can be read side by side. Hyper-parameters decide where the network branches. Upstream is
//! jaywalnut310/vits (`models.py`, `modules.py`, `attentions.py`, `transforms.py`, `commons.py`) and piper's
//! `piper_train.vits`, which do not differ at inference.
//!
//! Loaded blocks hold upstream's weights with only weight norm folded in; every other folding happens where
//! the graph is emitted, next to the algebra that allows it.
#![forbid(unsafe_code)]

mod alignment;
pub mod attentions;
pub mod duration;
mod elements;
pub mod flow;
pub mod generator;
pub mod hparams;
pub mod modules;
mod network;
mod product;
mod read_back;
mod rows;
mod shapes;
mod spline;
mod stateful;
mod strided;
mod synthesizer;
pub mod text_encoder;
mod timeline;
pub mod upsample;
pub mod weights;
mod whole;
mod winograd;

// The blocks' tests use the support code of the integration tests.
#[cfg(test)]
extern crate self as vitstream_vits;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;

pub use hparams::{HParams, HParamsError, ResBlockKind};
pub use network::Network;
pub use read_back::ReadBackError;
pub use shapes::{Contradiction, Untold};
pub use synthesizer::{
    DecoderHalf, EncoderForm, EncoderHalf, NoiseSource, StateInfo, StreamDecoder, SynthesizerTrn,
};
pub use weights::{Audit, Mismatch, Weights, WeightsError};
