//! Code shared by the tests and the example `measure`: voices from checkpoints, random networks.
#![allow(dead_code, unreachable_pub, missing_docs)]

pub mod naive;
pub mod voice;

#[allow(unused_imports)]
pub use vitstream_testing::array::{Array, Reference, largest_difference as difference};
#[allow(unused_imports)]
pub use vitstream_testing::{shared, tiny};

pub fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}
