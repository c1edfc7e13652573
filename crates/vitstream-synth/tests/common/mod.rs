//! Code shared by the tests: paths of voices, and the runtimes on this machine.

#![allow(dead_code, reason = "not every test file needs all of it")]

use std::path::{Path, PathBuf};

use vitstream_synth::{Runtime, Scales, VoiceOptions};

/// No noise: the same ids give the same latent.
pub(crate) const QUIET: Scales = Scales { noise: 0.0, length: 1.0, noise_w: 0.0 };

/// The pair in this crate's own test data.
pub(crate) fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny-multi")
}

/// A voice with a stream decoder and noise as inputs.
pub(crate) fn toy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/toy")
}

/// A folder of the larger fixtures, which are not part of the repository.
pub(crate) fn fixture(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("VITSTREAM_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures"),
        PathBuf::from,
    );
    // A worktree may be one level deeper than a checkout.
    let deeper = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/fixtures");
    let found = [root, deeper].into_iter().map(|root| root.join(name)).find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: the fixture {name} is not on this machine");
    }
    found
}

/// The runtimes that this build has and this machine can load.
pub(crate) fn runtimes() -> Vec<Runtime> {
    let (there, missing): (Vec<_>, Vec<_>) =
        Runtime::ALL.into_iter().partition(|runtime| runtime.available(None).is_ok());
    for runtime in missing {
        eprintln!("skipped for {runtime}: it is not on this machine");
    }
    assert!(!there.is_empty());
    there
}

/// Options for opening a pair without a JSON.
pub(crate) fn options(runtime: Runtime) -> VoiceOptions {
    VoiceOptions::new().runtime(runtime).sample_rate(22_050)
}

/// The largest difference between two signals of the same length; NaN if either contains one.
pub(crate) fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |max, d| if d.is_nan() || max.is_nan() { f32::NAN } else { max.max(d) })
}
