//! The numbers of `vitstream.h`: its version, and what calls give.

use std::ffi::c_int;

/// The version of this interface. What is added leaves it as it is; a break raises it. `vitstream_abi_version` tells that of
/// the library that is loaded.
pub const VITSTREAM_ABI_VERSION: u32 = 1;

/// All is well.
pub const VITSTREAM_OK: c_int = 0;
/// There are no more chunks.
pub const VITSTREAM_DONE: c_int = 1;
/// A file or folder could not be read or written.
pub const VITSTREAM_ERR_IO: c_int = -1;
/// The input is damaged, or is no voice.
pub const VITSTREAM_ERR_INPUT: c_int = -2;
/// The input is a voice, another network, or a text that vitstream cannot handle.
pub const VITSTREAM_ERR_UNSUPPORTED: c_int = -3;
/// An argument makes no sense, or not for this voice.
pub const VITSTREAM_ERR_REQUEST: c_int = -4;
/// The output cannot be put where it was asked for.
pub const VITSTREAM_ERR_OUTPUT: c_int = -5;
/// Computing failed.
pub const VITSTREAM_ERR_RUNTIME: c_int = -6;
/// The stream was cancelled.
pub const VITSTREAM_ERR_INTERRUPTED: c_int = -7;
/// A defect of vitstream.
pub const VITSTREAM_ERR_INTERNAL: c_int = -8;
/// Nothing says how words sound: espeak-ng is not there, or did not answer.
pub const VITSTREAM_ERR_PHONEMIZER: c_int = -9;
