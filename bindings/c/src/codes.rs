//! The constants of `vitstream.h`: its version, and the results of calls.

use std::ffi::c_int;

/// The version of this interface. Additions leave it unchanged; a breaking change raises it.
/// `vitstream_abi_version` returns that of the loaded library.
pub const VITSTREAM_ABI_VERSION: u32 = 1;

/// Success.
pub const VITSTREAM_OK: c_int = 0;
/// There are no more chunks.
pub const VITSTREAM_DONE: c_int = 1;
/// A file or folder could not be read or written.
pub const VITSTREAM_ERR_IO: c_int = -1;
/// The input is damaged, or is not a voice.
pub const VITSTREAM_ERR_INPUT: c_int = -2;
/// The input is a voice, another network, or a text that vitstream does not support.
pub const VITSTREAM_ERR_UNSUPPORTED: c_int = -3;
/// An argument is not valid, or not valid for this voice.
pub const VITSTREAM_ERR_REQUEST: c_int = -4;
/// The output cannot be written to the requested place.
pub const VITSTREAM_ERR_OUTPUT: c_int = -5;
/// The computation failed.
pub const VITSTREAM_ERR_RUNTIME: c_int = -6;
/// The stream was cancelled.
pub const VITSTREAM_ERR_INTERRUPTED: c_int = -7;
/// A bug in vitstream.
pub const VITSTREAM_ERR_INTERNAL: c_int = -8;
/// No pronunciation is available: espeak-ng is missing, or did not answer.
pub const VITSTREAM_ERR_PHONEMIZER: c_int = -9;
