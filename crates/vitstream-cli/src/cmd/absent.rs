//! A command that this build does not contain: it says how to get a build with it.

use std::ffi::OsString;
use std::fmt;

use anyhow::Result;

/// Not in this build; says how to get it
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// The command's arguments in other builds.
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _all: Vec<OsString>,
}

/// The error that another build is needed.
#[derive(Debug)]
pub(crate) struct Absent(pub(crate) &'static str);

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(what) = self;
        write!(
            f,
            "this build of vitstream does not contain {what}; in a copy of its repository, `cargo install --path \
             crates/vitstream-cli --features full` installs one that has everything, and `cargo run --release --features \
             full -- ...` runs it"
        )
    }
}

impl std::error::Error for Absent {}

/// Replaces every missing command's `run`, whatever its arguments and result.
pub(crate) fn run<A, T>(_: A, _quiet: bool) -> Result<T> {
    Err(Absent("this command").into())
}
