//! Limits the memory that a file may cost. Views of stride 0 and tensors that share a storage let a few bytes
//! claim any size, so limits on single tensors are not enough: all tensors in use are counted together before
//! memory is allocated for any of them.

use std::path::Path;

use vitstream_checkpoint::MappedFile;
use vitstream_vits::weights::unneeded;

use crate::Error;
use crate::{Parts, ReadOptions};

/// The weights of an honest file take as float32 at most twice their size in the file, which is the case for
/// half precision.
const PER_BYTE: u64 = 2;

/// Allowance for tensors that honest files repeat (tied weights, layers filled with one value) and for
/// tensors recovered from graphs, in which skip and post convolutions are one product. Measured: none in any
/// known voice.
const SLACK: u64 = 64 << 20;

/// Archives of voices unpack to little more than their size, because trained weights do not compress. Text
/// does, tenfold.
const UNPACKED_PER_BYTE: u64 = 4;

/// Bytes that an archive of `size` bytes may unpack to.
pub(crate) fn unpacked(size: usize, options: &ReadOptions) -> u64 {
    options
        .memory_budget
        .unwrap_or_else(|| (size as u64).saturating_mul(UNPACKED_PER_BYTE).saturating_add(SLACK))
}

pub(crate) fn exceeded(path: &Path, needed: u64, budget: u64) -> Error {
    let size = path.metadata().map_or(0, |metadata| metadata.len());
    Error::Budget { path: path.to_owned(), needed, budget, size }
}

/// Checks that the tensors of a voice do not take more memory than its files justify, or than was allowed.
pub(crate) fn check(path: &Path, parts: &Parts, options: &ReadOptions) -> Result<(), Error> {
    let used = parts.weights.iter().filter(|(key, _)| unneeded(key).is_none());
    let needed =
        used.fold(0u64, |sum, (_, tensor)| sum.saturating_add((tensor.numel() as u64).saturating_mul(4)));
    let size = parts.files.iter().map(|file: &MappedFile| file.bytes().len() as u64).sum::<u64>();
    let budget = options.memory_budget.unwrap_or_else(|| size.saturating_mul(PER_BYTE).saturating_add(SLACK));
    if needed > budget {
        return Err(Error::Budget { path: path.to_owned(), needed, budget, size });
    }
    Ok(())
}
