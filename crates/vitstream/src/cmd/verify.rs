//! `vitstream verify`

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use vitstream::verify::{VerifyOptions, verify};
use vitstream_synth::Runtime;

use super::ReadArgs;

/// Prove that an exported voice is right
///
/// Every graph of DIR is loaded and run on made-up utterances of several lengths, without noise: outputs must be finite,
/// audio within full scale and not silent, and chunks of it, by windows and by carried state, must be the whole.
///
/// With --against, the pair is also held against what it was made of, or should be equal to: anything that `export`
/// reads, or a safetensors file of reference values (input, scales, z_p, audio, ... as in the project's golden
/// files). The source is exported anew in memory and compared weight by weight, which tells which one is damaged; and
/// every stage is compared in value: durations, latent before and after the flow, audio. A finished voice
/// (`voice.onnx`) and another pair are run for that in the same runtime; a checkpoint's own values are those of its
/// new export.
///
/// The exit status is 0 when nothing failed, 1 when something did, and 2 when the voice could not be verified: there is
/// none, what it is held against is broken, or the runtime is missing. What could not be looked at is listed as not
/// checked, with the reason, and does not fail.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vitstream verify my-voice\n  \
                        vitstream verify my-voice --against my-voice.ckpt --report report.html\n  \
                        vitstream verify joe --against en_US-joe-medium.onnx --runtime onnxruntime --json\n  \
                        vitstream verify my-voice --against reference.safetensors --ids 1,0,20,0,121,0,2")]
pub(crate) struct Args {
    /// The voice's folder: encoder.onnx, decoder.onnx, and decoder.stream.onnx if it was exported
    dir: PathBuf,
    /// What the voice was made of, another voice of the same weights, or reference values
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
    /// Phoneme ids to speak [default: a single id, a few symbols, and every symbol of the voice's JSON]
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, value_name = "ID,ID,...")]
    ids: Option<Vec<i64>>,
    /// Who computes: rten or onnxruntime
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

pub(crate) fn run(args: Args, quiet: bool) -> Result<ExitCode> {
    let options = VerifyOptions {
        against: args.against,
        read: args.read.options(),
        runtime: args.runtime,
        threads: args.threads,
        library: args.onnxruntime_library,
        wall: super::wall(),
        ids: args.ids,
    };
    let report = verify(&args.dir, &options)?;
    if let Some(path) = &args.report {
        write(path, report.page().as_bytes()).with_context(|| path.display().to_string())?;
    }
    let text = match (args.json, quiet) {
        (true, _) => serde_json::to_string_pretty(&report)? + "\n",
        (false, true) => String::new(),
        (false, false) => report.table(),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes a file beside its place and moves it there, but into what is no file, such as a pipe, directly.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return File::options().write(true).open(path)?.write_all(bytes);
    }
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.prefix(".vitstream-").suffix(".html").tempfile_in(dir)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
