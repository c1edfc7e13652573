//! `vitstream export`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::ValueEnum;
use indicatif::ProgressBar;
use vitstream::NoiseSource;
use vitstream::export::{ExportOptions, ExportSummary, Layout, MAX_SEED, Precision};
use vitstream::package::{Package, PackageOptions};

use super::{ReadArgs, terminal, voices};

/// Turn a trained voice into a streaming pair
///
/// Reads a trained voice and writes `encoder.onnx`, which runs once per utterance, and `decoder.onnx`, which
/// runs on chunks of its result, to OUTPUT_DIR. `decoder.stream.onnx` decodes chunk by chunk with carried
/// state, so that no frame is computed twice. A voice JSON next to the input is passed on as `config.json`.
///
/// The input is a Piper checkpoint (`.ckpt`), one of the original VITS or of Coqui (`.pth`), a Hugging Face
/// VitsModel (its weights or its folder), bare weights (`.pt`, `.safetensors`), a finished voice
/// (`voice.onnx`), or a directory with a pair traced by PyTorch. It is recognised by its content.
///
/// Nothing in the input is executed. Either all files are written or none.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  vitstream export voice.ckpt voice-streaming\n  \
                        vitstream export voice.ckpt out --config en_US-joe-medium.onnx.json --json\n  \
                        vitstream export mms-tts-eng/model.safetensors out\n  \
                        vitstream export voice.ckpt out --durations --precision f16-weights\n  \
                        vitstream export voice.onnx out --package nvda --language en_US --name joe --quality medium\n  \
                        vitstream export generator.pt out --hparam upsample_rates=8,8,4 --hparam sample_rate=22050 \
                        --hparam \"resblock_dilation_sizes=(1,2),(2,6),(3,12)\"")]
pub(crate) struct Args {
    /// The trained voice: its file or folder, or the name of a voice installed by `vitstream voices`
    input: PathBuf,
    /// Directory to write to; created if it does not exist
    output_dir: PathBuf,
    /// Files to write
    #[arg(long, value_enum, default_value_t = LayoutArg::Pair)]
    layout: LayoutArg,
    /// Version of ONNX's operator set, 15 to 21
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(i64).range(15..=21))]
    opset: i64,
    /// Seed the encoder's noise, so that the first run of a session always gives the same speech
    #[arg(long, value_parser = clap::value_parser!(u32).range(..i64::from(MAX_SEED)), conflicts_with = "noise")]
    seed: Option<u32>,
    /// Source of the encoder's noise
    #[arg(long, value_enum, default_value_t = NoiseArg::Internal)]
    noise: NoiseArg,
    /// Add an output `durations` with the frames of each phoneme, for lip-sync and word timing
    ///
    /// float32 [batch_size, phonemes]; a frame lasts hop_length / sample_rate seconds, both in the file's
    /// metadata.
    #[arg(long)]
    durations: bool,
    /// Storage format of the weights; all computation is in float32
    #[arg(long, value_enum, default_value_t = PrecisionArg::F32)]
    precision: PrecisionArg,
    /// Write the files that a client requires, and its fields of the voice's JSON
    #[arg(long, value_enum, value_name = "CLIENT")]
    package: Option<PackageArg>,
    /// The voice's language, such as en_US, if its JSON does not state it (`language.code`)
    #[arg(long, requires = "package", value_name = "CODE")]
    language: Option<String>,
    /// The voice's name, such as joe, if its JSON does not state it (`dataset`)
    #[arg(long, requires = "package")]
    name: Option<String>,
    /// The voice's quality, such as medium, if its JSON does not state it (`audio.quality`)
    #[arg(long, requires = "package")]
    quality: Option<String>,
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
enum NoiseArg {
    /// Drawn by the graph itself, as in the original
    Internal,
    /// Additional inputs `noise_dp` and `noise_p`: reproducible, without random nodes
    Input,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayoutArg {
    /// encoder.onnx and decoder.onnx, for clients that stream
    Pair,
    /// Only voice.onnx, with the inputs and the output of Piper's own exporter, and tokens.txt for
    /// sherpa-onnx
    Single,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PrecisionArg {
    /// As float32
    F32,
    /// As float16 where this saves space: half the size, with an error stated in the summary
    F16Weights,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PackageArg {
    /// encoder.onnx, decoder.onnx and config.json
    Sonata,
    /// LANGUAGE-NAME+RT-QUALITY.tar.gz, for installation in NVDA's Sonata voice manager
    Nvda,
    /// encoder.onnx, decoder.onnx and encoder.onnx.json; voices with one speaker
    Phoonnx,
    /// encoder.onnx, decoder.onnx and config.json; 256 samples per frame
    Paroli,
}

impl Args {
    fn package(&self) -> Option<PackageOptions> {
        let client = match self.package? {
            PackageArg::Sonata => Package::Sonata,
            PackageArg::Nvda => Package::Nvda,
            PackageArg::Phoonnx => Package::Phoonnx,
            PackageArg::Paroli => Package::Paroli,
        };
        let (language, name, quality) = (self.language.clone(), self.name.clone(), self.quality.clone());
        Some(PackageOptions::new(client).language(language).name(name).quality(quality))
    }
}

pub(crate) fn run(args: &Args, quiet: bool) -> anyhow::Result<()> {
    if args.no_stream_decoder && args.layout == LayoutArg::Single {
        bail!("--no-stream-decoder is for pairs: --layout single writes no decoder.stream.onnx");
    }
    if args.no_stream_decoder && args.package.is_some() {
        bail!("--no-stream-decoder has no effect: --package never writes decoder.stream.onnx");
    }
    let input = voices::resolve(&args.input, quiet)?;
    let options = ExportOptions::new()
        .layout(match args.layout {
            LayoutArg::Pair => Layout::Pair,
            LayoutArg::Single => Layout::Single,
        })
        .opset(args.opset)
        .noise(match args.noise {
            NoiseArg::Internal => NoiseSource::Internal { seed: args.seed },
            NoiseArg::Input => NoiseSource::Input,
        })
        .durations(args.durations)
        .precision(match args.precision {
            PrecisionArg::F32 => Precision::F32,
            PrecisionArg::F16Weights => Precision::F16Weights,
        })
        .package(args.package())
        .read(args.read.options())
        .stream_decoder(!args.no_stream_decoder);
    // Most exports finish before a progress bar could be read; slow disks get a spinner.
    let spinner = if quiet || args.json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let shown = input.display().to_string();
    spinner.set_message(format!("exporting {}", terminal::printable(&shown)));
    spinner.enable_steady_tick(Duration::from_millis(120));
    let summary = vitstream::export(&input, &args.output_dir, &options);
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
    Ok(terminal::print(&text)?)
}

fn describe(summary: &ExportSummary) -> String {
    let hp = &summary.hparams;
    let rate = summary.sample_rate.map_or("unknown".to_owned(), |rate| format!("{rate} Hz"));
    let mut text = format!(
        "{} -> {}\n  read as          {}\n  network          {:?}, {} / {} / {} channels, {} symbols, {} durations\n  speakers         {}\n  \
         sample rate      {rate}\n  hop              {} samples\n  receptive field  {} frames on each side\n",
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
    match &summary.config {
        Some(path) => text += &format!("  voice JSON       {}\n", path.display()),
        None => text += "  voice JSON       none, so no config.json is written\n",
    }
    for note in &summary.notes {
        text += &format!("  note             {note}\n");
    }
    for file in &summary.files {
        let nodes = file.nodes.map_or(String::new(), |nodes| format!("{nodes:>6} nodes"));
        text += &format!("  {:<20} {:>10}{nodes}\n", file.name, megabytes(file.bytes));
        if let Some(half) = &file.half_precision {
            let percent = 100.0 * half.largest_relative_error;
            text +=
                &format!("  {:<20} {} tensors as float16, off by at most {percent:.3} %\n", "", half.tensors);
            for (name, why) in &half.kept {
                text += &format!("  {:<20} {name} stays float32: it {why}\n", "");
            }
        }
    }
    if let Some(error) = &summary.audio_deviation {
        let decibels = 20.0 * error.relative.log10();
        text += &format!(
            "  a test utterance     of {} frames: off by {:.2} % ({decibels:.0} dB), its largest difference {:.4} of full scale; other \
             utterances can differ more",
            error.frames,
            100.0 * error.relative,
            error.largest
        );
        if error.frames != error.half_precision_frames {
            text += &format!(
                " at equal durations; {} frames instead of {}",
                error.half_precision_frames, error.frames
            );
        }
        text.push('\n');
    }
    if let Some(usage) = &summary.usage {
        text += &format!("  to use it            {usage}\n");
    }
    text + &format!("done in {:.2} s\n", summary.seconds)
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
