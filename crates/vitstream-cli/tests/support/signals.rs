//! The command, and the signals that it takes.

use std::process::Command;

/// `vitstream`, taking signals as it does by default. A shell that starts the tests in the background has them ignore SIGINT, which
/// goes on to what they start, and the program respects that.
pub(crate) fn interruptible() -> Command {
    // No other system's `env` can do it.
    if cfg!(target_os = "linux") {
        let mut command = Command::new("env");
        command.args(["--default-signal=INT,TERM,HUP", env!("CARGO_BIN_EXE_vitstream")]);
        command
    } else {
        Command::new(env!("CARGO_BIN_EXE_vitstream"))
    }
}
