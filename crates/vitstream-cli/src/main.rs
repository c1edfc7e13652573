//! The command `vitstream`.

use std::process::ExitCode;

fn main() -> ExitCode {
    vitstream_cli::main()
}
