//! The command line of vitstream.

mod cmd;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Turns a trained VITS / Piper voice into a streaming voice, and speaks with it.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Speak(cmd::speak::Args),
    Bench(cmd::bench::Args),
    /// Measures one configuration for `bench`
    #[command(hide = true)]
    BenchWorker,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("VITSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).without_time().init();
    let result = match Cli::parse().command {
        Command::Speak(args) => cmd::speak::run(args),
        Command::Bench(args) => cmd::bench::run(args),
        Command::BenchWorker => cmd::bench::run_worker(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has enough of it.
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
