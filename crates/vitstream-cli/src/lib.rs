//! The command line of vitstream. It is a library only so that its program can be tested with all features,
//! by a dependency of the crate on itself for tests; [`main`] is its only function.

#[cfg(feature = "batch")]
mod batch;
mod cmd;
mod play;
#[cfg(feature = "voices")]
mod voices;

use std::process::ExitCode;
use std::{env, io};

use clap::{ArgAction, Parser, Subcommand};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use cmd::terminal::{self, Lines};

/// Turn a trained VITS / Piper voice into a streaming voice, and speak with it
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print more on standard error; repeat for everything
    #[arg(short, long, visible_alias = "debug", action = ArgAction::Count, global = true)]
    verbose: u8,
    /// Print nothing but errors
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
    Serve(Box<cmd::serve::Args>),
    Voices(cmd::voices::Args),
    Speechd(Box<cmd::speechd::Args>),
    /// Measures one configuration for `bench`
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchWorker,
    /// Runs a graph for `speak` and `verify`; the graph may crash this process
    #[command(hide = true)]
    GraphWorker,
    /// Phonemizes for a server, which restarts this process if the library ends it
    #[command(hide = true)]
    PhonemizerWorker(cmd::phonemizer::PhonemizerArgs),
}

/// Runs the program.
pub fn main() -> ExitCode {
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
        (true, _) => LevelFilter::ERROR,
        // The operator of a server reads its log.
        (false, 0) if matches!(cli.command, Command::Serve(_)) => LevelFilter::INFO,
        (false, 0) => LevelFilter::WARN,
        (false, 1) => LevelFilter::INFO,
        (false, _) => LevelFilter::TRACE,
    };
    let filter = env::var("VITSTREAM_LOG").ok().and_then(|text| text.parse::<Targets>().ok());
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(level));
    let log = fmt::layer().with_writer(io::stderr).with_ansi(false);
    match &cli.command {
        #[cfg(feature = "serve")]
        Command::Serve(args) if args.logs_json() => {
            let objects = log.json().flatten_event(true).with_target(false).with_current_span(false);
            tracing_subscriber::registry().with(objects.with_filter(filter)).init();
            terminal::say_in_log();
        }
        _ => tracing_subscriber::registry().with(log.event_format(Lines::new()).with_filter(filter)).init(),
    }
    // `verify` distinguishes "failed" from "could not verify".
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
        Command::Serve(args) => cmd::serve::run(&args, cli.quiet).map(done),
        Command::Voices(args) => cmd::voices::run(&args, cli.quiet).map(done),
        Command::Speechd(args) => cmd::speechd::run(&args, cli.quiet).map(done),
        #[cfg(feature = "bench")]
        Command::BenchWorker => cmd::bench::run_worker().map(done),
        Command::GraphWorker => cmd::run_graphs().map(done),
        Command::PhonemizerWorker(args) => cmd::phonemizer::serve(&args).map(done),
    });
    match result {
        Ok(code) => code,
        // The reader of the output has closed it.
        Err(error) if terminal::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::say(&format!("error: {}", terminal::describe(&error)));
            if needs_another(&error) { ExitCode::from(2) } else { failure }
        }
    }
}

/// Returns true for errors that need another machine or build; the exit status is that of invalid usage.
fn needs_another(error: &anyhow::Error) -> bool {
    #[cfg(not(feature = "full"))]
    if error.is::<cmd::absent::Absent>() {
        return true;
    }
    error.is::<play::NoPlayer>()
}
