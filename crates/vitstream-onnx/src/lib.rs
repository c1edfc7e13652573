//! Builds, checks, transforms, writes and reads ONNX graphs. Knows ONNX and nothing of VITS.
#![forbid(unsafe_code)]

pub mod builder;
pub mod decode;
mod dim;
pub mod dump;
pub mod encode;
pub mod graph;
mod infer;
#[cfg(test)]
mod loops;
pub mod ops;
pub mod passes;
mod proto;
#[cfg(test)]
mod round_trip;
mod schema;
#[cfg(test)]
mod test_graphs;
pub mod validate;
pub mod wire;

pub use builder::{BuildError, GraphBuilder};
pub use decode::{DecodeError, decode};
pub use dim::{Dim, Shape};
pub use dump::Dump;
pub use graph::{Attr, DType, Graph, LOOP_INPUTS, Node, Tensor, ValueId, ValueInfo};
pub use ops::{ConvAxis, Noise};
pub use validate::{ValidateError, Validated, validate};
