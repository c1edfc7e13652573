//! Builds, checks, transforms, writes and reads ONNX graphs. Knows ONNX and nothing of VITS.
#![forbid(unsafe_code)]

pub mod bounds;
mod branches;
pub mod builder;
pub mod decode;
mod dim;
pub mod dump;
pub mod encode;
mod error;
mod external;
mod extract;
pub mod graph;
mod infer;
#[cfg(test)]
mod loops;
pub mod ops;
pub mod outline;
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
pub use decode::{decode, decode_with};
pub use dim::{Dim, Shape};
pub use dump::Dump;
pub use error::DecodeError;
pub use external::OpenBeside;
pub use extract::{Extracted, extract};
pub use graph::{Attr, DType, Graph, LOOP_INPUTS, Node, Tensor, ValueId, ValueInfo};
pub use ops::{ConvAxis, RandomNormal};
pub use outline::{Outline, outline};
pub use schema::OPSETS;
pub use validate::{ValidateError, Validated, validate};
