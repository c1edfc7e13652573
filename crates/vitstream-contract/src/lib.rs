//! The folder of an exported voice as a contract between whoever writes, reads or checks one: the names of its files.
//!
//! Nothing is read or written here, and nothing of the network is known.
#![forbid(unsafe_code)]

pub mod files;
