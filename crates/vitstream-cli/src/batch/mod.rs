//! Speaks many utterances into files: every line of a manifest gets its own file.
//!
//! The result depends only on the lines and the voice: not on their order, the number of jobs, the number of
//! machines ([`Shard`]), or the number of interruptions. Two trees of files can therefore be compared by a
//! hash.

mod format;
mod journal;
mod line;
mod place;
mod reading;
mod work;

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, bail};

pub(crate) use format::Format;
pub(crate) use reading::Reading;
pub(crate) use work::{Batch, Progress, Summary, run};

/// A part of the manifest: its lines `index`, `index + of`, ..., counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shard {
    pub(crate) index: u64,
    pub(crate) of: u64,
}

impl Shard {
    fn has(self, line: u64) -> bool {
        line % self.of == self.index % self.of
    }
}

impl Default for Shard {
    fn default() -> Self {
        Self { index: 1, of: 1 }
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if let Some((index, of)) = text.split_once('/')
            && let (Ok(index), Ok(of)) = (index.parse(), of.parse())
            && (1..=of).contains(&index)
        {
            return Ok(Self { index, of });
        }
        bail!("expected I/N with I from 1 to N, found {text:?}")
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_all_lines() {
        for of in 1..=5 {
            for line in 1..=20 {
                let owners = (1..=of).filter(|&index| Shard { index, of }.has(line)).count();
                assert_eq!(owners, 1, "line {line} of {of} shards");
            }
        }
        assert_eq!("2/3".parse::<Shard>().unwrap(), Shard { index: 2, of: 3 });
        for bad in ["", "1", "0/3", "4/3", "1/0", "-1/2", "1/2/3", "a/b", "1/"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
