//! `vitstream verify`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};
use vitstream::Runtime;
use vitstream::staging;
use vitstream::verify::VerifyOptions;

use super::ids::Ids;
use super::outputs::Outputs;
use super::{ReadArgs, terminal, voices};

/// Prove that an exported voice is right
///
/// Every graph of DIR is loaded and run on generated utterances of several lengths, without noise: outputs
/// must be finite, audio must be within full scale and not silent, and audio decoded in chunks, with windows
/// and with carried state, must equal audio decoded at once.
///
/// With --against, the pair is also compared with its source, or with anything that it should be equal to:
/// any input of `export`, or a safetensors file of reference values (input, scales, z_p, audio, ... as in the
/// project's golden files). The source is exported again in memory and compared weight by weight, which
/// identifies damaged weights; and the values of every stage are compared: durations, latent before and after
/// the flow, audio. For that, a finished voice (`voice.onnx`) or another pair is run in the same runtime; the
/// values of a checkpoint are those of its new export.
///
/// The exit status is 0 if nothing failed, 1 if something did, and 2 if the voice could not be verified: it
/// does not exist, the source is broken, or the runtime is missing. Checks that were not possible are listed
/// as not checked, with the reason, and do not fail.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vitstream verify my-voice\n  \
                        vitstream verify my-voice --against my-voice.ckpt --report report.html\n  \
                        vitstream verify joe --against en_US-joe-medium.onnx --runtime onnxruntime --json\n  \
                        vitstream verify my-voice --against reference.safetensors --ids 1,0,20,0,121,0,2")]
pub(crate) struct Args {
    /// The voice's folder: encoder.onnx, decoder.onnx, and decoder.stream.onnx if it was exported
    dir: PathBuf,
    /// The source of the voice, another voice with the same weights, or reference values
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
    /// Phoneme ids to speak [default: a single id, a few symbols, and every symbol of the voice's JSON]
    #[arg(long, allow_negative_numbers = true, value_name = "ID,ID,...")]
    ids: Option<Ids>,
    /// Runtime that computes the graphs: rten or onnxruntime
    #[arg(long, default_value_t = Runtime::default(), value_name = "NAME")]
    runtime: Runtime,
    /// Threads for each graph
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: usize,
    /// ONNX Runtime's shared library, if it is not where it is usually found
    #[arg(long, value_name = "FILE")]
    onnxruntime_library: Option<PathBuf>,
    /// Write a self-contained page: the table, damaged weights, waveforms and spectrograms
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Print the result as JSON on standard output
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(mut args: Args, quiet: bool) -> Result<ExitCode> {
    let read = args.read.options();
    ensure!(args.threads > 0, "--threads: expected at least 1, found 0");
    if args.onnxruntime_library.is_some() && args.runtime != Runtime::OnnxRuntime {
        bail!("--onnxruntime-library is for --runtime onnxruntime");
    }
    ensure!(
        args.against.is_some() || read.config.is_none() && read.hparams.is_empty(),
        "--config and --hparam are for reading the source given by --against: add --against, or leave them out"
    );
    args.dir = voices::resolve(&args.dir, quiet)?;
    args.against = args.against.map(|source| voices::resolve(&source, quiet)).transpose()?;
    if let Some(path) = &args.report {
        let inputs =
            [Some(&args.dir), args.against.as_ref(), read.config.as_ref(), args.onnxruntime_library.as_ref()];
        Outputs::new(inputs).claim("--report", path)?;
    }
    vitstream::source::check_finished(&args.dir).map_err(vitstream::Error::from)?;
    let mut options =
        VerifyOptions::new().read(read).runtime(args.runtime).threads(args.threads).wall(super::wall());
    options.against = args.against;
    options.library = args.onnxruntime_library;
    options.ids = args.ids.map(|Ids(ids)| ids);
    let report = vitstream::verify(&args.dir, &options)?;
    if let Some(path) = &args.report {
        staging::write(path, report.page().as_bytes())?;
    }
    let text = match (args.json, quiet) {
        (true, _) => serde_json::to_string_pretty(&report)? + "\n",
        (false, true) => String::new(),
        (false, false) => report.table(),
    };
    terminal::print(&text)?;
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
