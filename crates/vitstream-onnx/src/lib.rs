//! Builds, checks, transforms, writes and reads ONNX graphs. Knows ONNX and nothing of VITS.
#![forbid(unsafe_code)]

pub mod builder;
mod dim;
pub mod graph;
mod infer;
pub mod ops;

pub use builder::{BuildError, GraphBuilder};
pub use dim::{Dim, Shape};
pub use graph::{Attr, DType, Graph, Node, Tensor, ValueId, ValueInfo};
pub use ops::{ConvAxis, Noise};
