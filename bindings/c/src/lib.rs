//! The C library: [`abi`] is `vitstream.h`, [`piper`] is what programs for libpiper call.
//!
//! Callers promise what C cannot check, so every function here is unsafe to call: pointers are null where that is allowed, or
//! point to what the headers say, and handles are those that this library gave and has not freed. Nothing panics across the
//! border: a panic is an error of the kind `VITSTREAM_ERR_INTERNAL`.
#![allow(clippy::missing_safety_doc, reason = "the promise is the same everywhere, and stands above")]

pub mod abi;
mod codes;
mod failure;
pub mod piper;
mod speech;
mod voice;
