//! The command line of vitstream.

mod batch;
mod cmd;
mod play;
mod voices;

use std::io;
use std::process::ExitCode;

use clap::{ArgAction, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use cmd::terminal::{self, Lines};

/// Turn a trained VITS / Piper voice into a streaming voice, and speak with it
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more on standard error; twice for everything
    #[arg(short, long, visible_alias = "debug", action = ArgAction::Count, global = true)]
    verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    Export(cmd::export::Args),
    Inspect(cmd::inspect::Args),
    Speak(Box<cmd::speak::Args>),
    Batch(cmd::batch::Args),
    Phonemize(cmd::phonemize::Args),
    Bench(cmd::bench::Args),
    Verify(cmd::verify::Args),
    #[cfg(feature = "serve")]
    Serve(Box<cmd::serve::Args>),
    Voices(cmd::voices::Args),
    Speechd(Box<cmd::speechd::Args>),
    /// Measures one configuration for `bench`
    #[command(hide = true)]
    BenchWorker,
    /// Runs a graph for `speak` and `verify`, which it may end
    #[command(hide = true)]
    GraphWorker,
    /// Says how words sound for a server, which starts it anew if the library ends it
    #[command(hide = true)]
    PhonemizerWorker(cmd::phonemizer::PhonemizerArgs),
}

fn main() -> ExitCode {
    #[cfg_attr(not(feature = "serve"), expect(unused_mut))]
    let mut cli = Cli::parse();
    #[cfg(feature = "serve")]
    if let Command::Serve(args) = &mut cli.command
        && let Err(error) = args.read_settings()
    {
        terminal::say(&format!("error: {}", terminal::describe(&error)));
        return ExitCode::FAILURE;
    }
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => "error",
        // Who runs a server reads its log.
        #[cfg(feature = "serve")]
        (false, 0) if matches!(cli.command, Command::Serve(_)) => "info",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_env("VITSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    match &cli.command {
        #[cfg(feature = "serve")]
        Command::Serve(args) if args.logs_json() => {
            log.json().flatten_event(true).with_target(false).with_current_span(false).init();
            terminal::say_in_log();
        }
        _ => log.event_format(Lines::new()).init(),
    }
    // Proofs tell "no" from "cannot say".
    let failure = match cli.command {
        Command::Verify(_) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    };
    let done = |()| ExitCode::SUCCESS;
    let result = cmd::signals::watch().and_then(|()| match cli.command {
        Command::Export(args) => cmd::export::run(&args, cli.quiet).map(done),
        Command::Inspect(args) => cmd::inspect::run(args, cli.quiet).map(done),
        Command::Speak(args) => cmd::speak::run(*args, cli.quiet).map(done),
        Command::Batch(args) => cmd::batch::run(&args, cli.quiet),
        Command::Phonemize(args) => cmd::phonemize::run(&args, cli.quiet).map(done),
        Command::Bench(args) => cmd::bench::run(args, cli.quiet).map(done),
        Command::Verify(args) => cmd::verify::run(args, cli.quiet),
        #[cfg(feature = "serve")]
        Command::Serve(args) => cmd::serve::run(&args, cli.quiet).map(done),
        Command::Voices(args) => cmd::voices::run(&args, cli.quiet).map(done),
        Command::Speechd(args) => cmd::speechd::run(&args, cli.quiet).map(done),
        Command::BenchWorker => cmd::bench::run_worker().map(done),
        Command::GraphWorker => cmd::run_graphs().map(done),
        Command::PhonemizerWorker(args) => cmd::phonemizer::serve(&args).map(done),
    });
    match result {
        Ok(code) => code,
        // Whoever read the output has enough of it.
        Err(error) if terminal::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::say(&format!("error: {}", terminal::describe(&error)));
            // As for a usage that cannot be: this machine needs another one.
            if error.is::<play::NoPlayer>() { ExitCode::from(2) } else { failure }
        }
    }
}
