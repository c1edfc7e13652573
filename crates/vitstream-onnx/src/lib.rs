//! Builds, checks, transforms, writes and reads ONNX graphs. Knows ONNX and nothing of VITS.
#![forbid(unsafe_code)]

mod dim;
pub mod graph;

pub use dim::{Dim, Shape};
pub use graph::{Attr, DType, Graph, Node, Tensor, ValueId, ValueInfo};
