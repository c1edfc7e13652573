//! The C library: [`abi`] is `vitstream.h`, [`piper`] contains the functions for programs written for
//! libpiper.
//!
//! Callers guarantee what C cannot check, so every function here is unsafe to call: pointers are null where
//! allowed, or point to the objects described in the headers, and handles were returned by this library and
//! not freed. Panics never cross the boundary: a panic becomes an error of the kind `VITSTREAM_ERR_INTERNAL`.
#![allow(clippy::missing_safety_doc, reason = "the promise is the same everywhere, and stands above")]

pub mod abi;
mod codes;
mod failure;
pub mod piper;
mod speech;
mod voice;
