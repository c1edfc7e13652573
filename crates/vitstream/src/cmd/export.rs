//! `vitstream export`

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use indicatif::ProgressBar;
use vitstream::export::{ExportOptions, ExportSummary, Layout, MAX_SEED, export};
use vitstream_vits::NoiseSource;

use super::ReadArgs;

/// Turn a trained voice into a streaming pair
///
/// Reads a trained voice and writes `encoder.onnx`, which runs once per utterance, and `decoder.onnx`, which runs on
/// chunks of its result, to OUTPUT_DIR. `decoder.stream.onnx` does the decoder's work chunk by chunk with carried state,
/// so that no frame is computed twice. A voice JSON beside the input is passed on as `config.json`.
///
/// The input is a Piper checkpoint (`.ckpt`), one of the original VITS or of Coqui (`.pth`), a Hugging Face VitsModel (its
/// weights or its folder), bare weights (`.pt`, `.safetensors`), a finished voice (`voice.onnx`), or a directory with a
/// pair that PyTorch traced; which, is told by its content.
///
/// Nothing in the input is executed. Either all files are written or none.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vitstream export voice.ckpt voice-streaming\n  \
                        vitstream export voice.ckpt out --config en_US-joe-medium.onnx.json --json\n  \
                        vitstream export mms-tts-eng/model.safetensors out\n  \
                        vitstream export generator.pt out --hparam upsample_rates=8,8,4 --hparam sample_rate=22050 \
                        --hparam \"resblock_dilation_sizes=(1,2),(2,6),(3,12)\"")]
pub(crate) struct Args {
    /// The trained voice
    input: PathBuf,
    /// Directory to write to; made if it is not there
    output_dir: PathBuf,
    /// Which files to write
    #[arg(long, value_enum, default_value_t = LayoutArg::Pair)]
    layout: LayoutArg,
    /// Version of ONNX's operator set, 15 to 21
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(i64).range(15..=21))]
    opset: i64,
    /// Seed the encoder's noise, so that a session's first run always gives the same speech
    #[arg(long, value_parser = clap::value_parser!(u32).range(..i64::from(MAX_SEED)), conflicts_with = "noise")]
    seed: Option<u32>,
    /// Where the encoder's noise comes from
    #[arg(long, value_enum, default_value_t = Noise::Internal)]
    noise: Noise,
    #[command(flatten)]
    read: ReadArgs,
    /// Do not write decoder.stream.onnx
    #[arg(long)]
    no_stream_decoder: bool,
    /// Print a summary as JSON on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Noise {
    /// Drawn by the graph itself, as the original does
    Internal,
    /// Further inputs `noise_dp` and `noise_p`: reproducible, and no random node is left
    Input,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayoutArg {
    /// encoder.onnx and decoder.onnx, for clients that stream
    Pair,
    /// voice.onnx alone, with the inputs and the output of Piper's own exporter, and tokens.txt for sherpa-onnx
    Single,
}

pub(crate) fn run(args: &Args, quiet: bool) -> anyhow::Result<()> {
    let cancel = Arc::new(AtomicBool::new(false));
    let handler = cancel.clone();
    ctrlc::set_handler(move || handler.store(true, Ordering::Relaxed)).context("cannot watch for Ctrl-C")?;
    let options = ExportOptions {
        layout: match args.layout {
            LayoutArg::Pair => Layout::Pair,
            LayoutArg::Single => Layout::Single,
        },
        opset: args.opset,
        noise: match args.noise {
            Noise::Internal => NoiseSource::Internal { seed: args.seed },
            Noise::Input => NoiseSource::Input,
        },
        read: args.read.options(),
        stream_decoder: !args.no_stream_decoder,
        cancel,
    };
    // Most exports are done before anybody could read a progress bar; slow disks get one that moves.
    let spinner = if quiet || args.json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    spinner.set_message(format!("exporting {}", args.input.display()));
    spinner.enable_steady_tick(Duration::from_millis(120));
    let summary = export(&args.input, &args.output_dir, &options);
    spinner.finish_and_clear();
    let summary = summary?;
    for warning in &summary.warnings {
        tracing::warn!("{warning}");
    }
    let text = match (args.json, quiet) {
        (true, _) => serde_json::to_string_pretty(&summary)? + "\n",
        (false, true) => String::new(),
        (false, false) => describe(&summary),
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn describe(summary: &ExportSummary) -> String {
    let hp = &summary.hparams;
    let rate = summary.sample_rate.map_or("unknown".to_owned(), |rate| format!("{rate} Hz"));
    let mut text = format!(
        "{} -> {}\n  read as          {}\n  network          {:?}, {} / {} / {} channels, {} symbols, {} durations\n  speakers         {}\n  \
         sample rate      {rate}\n  hop              {} samples\n  receptive field  {} frames to each side\n",
        summary.input.display(),
        summary.output.display(),
        summary.format,
        hp.resblock,
        hp.inter_channels,
        hp.hidden_channels,
        hp.filter_channels,
        hp.num_symbols,
        if hp.use_sdp() { "stochastic" } else { "plain" },
        summary.speakers,
        summary.hop_length,
        summary.receptive_field,
    );
    for file in &summary.files {
        let nodes = file.nodes.map_or(String::new(), |nodes| format!("{nodes:>6} nodes"));
        text += &format!("  {:<20} {:>10}{nodes}\n", file.name, megabytes(file.bytes));
    }
    text + &format!("done in {:.2} s\n", summary.seconds)
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
