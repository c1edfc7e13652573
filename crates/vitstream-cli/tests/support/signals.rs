//! The command with its default handling of signals.

use std::process::Command;

/// Runs `vitstream` with the default handling of signals. A shell that starts the tests in the background
/// makes them ignore SIGINT, which their child processes inherit and the program respects.
pub(crate) fn interruptible() -> Command {
    // Other systems' `env` has no such option.
    if cfg!(target_os = "linux") {
        let mut command = Command::new("env");
        command.args(["--default-signal=INT,TERM,HUP", env!("CARGO_BIN_EXE_vitstream")]);
        command
    } else {
        Command::new(env!("CARGO_BIN_EXE_vitstream"))
    }
}
