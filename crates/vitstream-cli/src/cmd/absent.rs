//! A command that this build is without, by its name: it says how to get one that has it.

use std::ffi::OsString;
use std::fmt;

use anyhow::Result;

/// Not in this build; says how to get it
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Whatever the command takes where it is there.
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _all: Vec<OsString>,
}

/// The error: not a fault of what was asked for, but another build is needed.
#[derive(Debug)]
pub(crate) struct Absent(pub(crate) &'static str);

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(what) = self;
        write!(
            f,
            "this build of vitstream is without {what}; in a copy of its repository, `cargo install --path \
             crates/vitstream-cli --features full` installs one that has everything, and `cargo run --release --features \
             full -- ...` runs it"
        )
    }
}

impl std::error::Error for Absent {}

/// What every command's `run` is here, whatever it takes and gives elsewhere.
pub(crate) fn run<A, T>(_: A, _quiet: bool) -> Result<T> {
    Err(Absent("this command").into())
}
