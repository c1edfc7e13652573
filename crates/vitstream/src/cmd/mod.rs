//! The subcommands, one file each.

pub(crate) mod export;
pub(crate) mod inspect;
