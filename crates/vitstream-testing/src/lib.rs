//! Code shared by the tests of all crates: the places of fixtures, arrays and reference values, and writers
//! of small checkpoints.
//!
//! Files of the repository always exist. Larger fixtures (a real voice, more checkpoints) may be absent; a
//! test that needs one prints that it is skipped.
#![forbid(unsafe_code)]

pub mod array;
pub mod random;
pub mod state_dict;
pub mod torch;
pub mod zip;

use std::path::{Path, PathBuf};

/// The folder of all crates.
fn crates() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate lies in a folder")
}

/// The folder of the small checkpoints and their reference values from PyTorch.
pub fn goldens() -> PathBuf {
    crates().join("vitstream-vits/tests/golden")
}

/// A file among [`goldens`].
pub fn golden(name: &str) -> PathBuf {
    goldens().join(name)
}

/// A folder with an exported pair: `toy`, made by hand, or `tiny-multi`, traced by PyTorch.
pub fn pair(name: &str) -> PathBuf {
    crates().join("vitstream-synth/tests/data").join(name)
}

/// A file or folder of the larger fixtures, which are not part of the repository: below `VITSTREAM_FIXTURES`,
/// or else below `../shared/fixtures` next to the checkout. Prints that the test is skipped when it does not
/// exist.
pub fn shared(name: &str) -> Option<PathBuf> {
    let beside = || crates().join("../../shared/fixtures");
    let path = std::env::var_os("VITSTREAM_FIXTURES").map_or_else(beside, PathBuf::from).join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not on this machine", path.display());
    None
}

/// Small checkpoints of every kind of network.
pub const TINY: [&str; 9] = [
    "single.ckpt",
    "multi.ckpt",
    "nosdp.ckpt",
    "multi-nosdp.ckpt",
    "high.ckpt",
    "high-multi.ckpt",
    "textual.ckpt",
    "legacy-single.ckpt",
    "legacy-multi-nosdp.ckpt",
];

/// The checkpoint `name` among [`goldens`], or among the larger fixtures.
pub fn tiny(name: &str) -> Option<PathBuf> {
    let committed = golden(name);
    if committed.is_file() { Some(committed) } else { shared(&format!("tiny/{name}")) }
}
