//! Recognises packed files in a build without the feature `archives`, and refuses them.

use bytes::Bytes;

const PROBLEM: &str = "cannot be unpacked (this build does not have the feature `archives`)";

pub(crate) fn inflate(_: &[u8], _: u64) -> Result<Bytes, String> {
    Err(PROBLEM.to_owned())
}

pub(crate) fn gunzip(_: &[u8], _: u64) -> Result<Bytes, String> {
    Err(PROBLEM.to_owned())
}

pub(crate) fn tar_members(_: &Bytes) -> Result<Vec<(String, Bytes)>, String> {
    Err(format!("a tar archive that {PROBLEM}; unpack it first"))
}
