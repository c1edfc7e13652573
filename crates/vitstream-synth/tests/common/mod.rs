//! What the tests share: where voices are, and which runtimes this machine has.

#![allow(dead_code, reason = "not every test file needs all of it")]

use std::path::PathBuf;

use vitstream_synth::{Runtime, Scales, VoiceOptions};
use vitstream_testing::pair;

#[allow(unused_imports, reason = "not every test file needs all of it")]
pub(crate) use vitstream_testing::{array::largest_difference as difference, shared as fixture};

/// No noise: the same ids give the same latent.
pub(crate) const QUIET: Scales = Scales { noise: 0.0, length: 1.0, noise_w: 0.0 };

/// A pair of PyTorch's.
pub(crate) fn tiny() -> PathBuf {
    pair("tiny-multi")
}

/// A voice with a stream decoder and noise as inputs.
pub(crate) fn toy() -> PathBuf {
    pair("toy")
}

/// The runtimes that this build and machine have.
pub(crate) fn runtimes() -> Vec<Runtime> {
    let (there, missing): (Vec<_>, Vec<_>) =
        Runtime::ALL.into_iter().partition(|runtime| runtime.available(None).is_ok());
    for runtime in missing {
        eprintln!("skipped for {runtime}: it is not on this machine");
    }
    assert!(!there.is_empty());
    there
}

/// How the tests open a pair that has no JSON.
pub(crate) fn options(runtime: Runtime) -> VoiceOptions {
    VoiceOptions::new().runtime(runtime).sample_rate(22_050)
}
