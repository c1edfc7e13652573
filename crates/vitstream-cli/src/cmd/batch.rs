//! `vitstream batch`: speaks a manifest of utterances into one file each.

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vitstream::{Backend, Voice};

use super::speak::check_silence;
use super::terminal::{describe as describe_error, print, say};
use super::text::{Reader, TextArgs};
use super::{DecoderArg, RuntimeArg, VoiceArgs, signals, voices};
use crate::batch::{self, Batch, Format, Progress, Reading, Shard, Summary};

/// Speak the lines of a manifest into one file each, on all cores
///
/// Each line of the manifest is JSON: {"text": "Hello.", "output_file": "a.wav"}, or with "phonemes" or
/// "phoneme_ids" instead of the text, and optionally with "speaker" or "speaker_id", "seed", "noise_scale",
/// "length_scale" and "noise_w" to override the voice's defaults. Without an output_file, the file is named
/// by a hash of its content. Without a seed, the seed of each sentence is the first eight bytes, most
/// significant first, of the SHA-256 of its ids in decimal, joined by commas. Files therefore depend only on
/// their lines, the voice and how its text is read.
///
/// If the command is run again, it continues where it stopped. A line that cannot be spoken is reported with
/// its number and the others are spoken; the exit status is then 1.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The voice, as for `speak`
    voice: PathBuf,

    /// The manifest, with one line of JSON for each utterance
    manifest: PathBuf,

    /// The folder for the files; created if it does not exist
    #[arg(value_name = "OUT")]
    output: PathBuf,

    /// Only every Nth line, starting with line I, to share the work among several machines
    #[arg(long, value_name = "I/N", default_value_t)]
    shard: Shard,

    /// Number of utterances that are spoken at the same time [default: number of cores]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,

    /// Format of the files
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Silence between the sentences of a text
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true, value_name = "SECONDS")]
    sentence_silence: f64,

    /// Print the summary as JSON
    #[arg(long)]
    json: bool,

    /// Runtime that computes the voice [default: native; rten for folders that cannot be read back]
    #[arg(long, value_enum)]
    runtime: Option<RuntimeArg>,

    #[command(flatten)]
    reading: TextArgs,

    #[command(flatten)]
    options: VoiceArgs,
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<ExitCode> {
    check_silence(args.sentence_silence)?;
    let path = voices::resolve(&args.voice, quiet)?;
    let words = args.reading.words()?;
    let backend = args.runtime.map_or(Backend::Auto, Backend::from);
    let voice = args.options.open(&path, backend, DecoderArg::Auto, super::wall())?;
    let stop = Arc::new(AtomicBool::new(false));
    signals::finish_first(stop.clone());
    let cores = || thread::available_parallelism().map_or(1, NonZero::get);
    let reader = Reader::new(&args.reading, words, voice.config());
    let reader = reader.with_context(|| format!("{} cannot read text", path.display()));
    let work = Batch {
        identity: identity(&voice),
        reading: Reading::new(reader),
        silence: args.sentence_silence,
        voice: &voice,
        manifest: &args.manifest,
        output: &args.output,
        shard: args.shard,
        jobs: args.jobs.map_or_else(cores, NonZero::get),
        format: args.format,
        stop: &stop,
    };
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let style = ProgressStyle::with_template("{bar:30} {pos} of {len} lines, {per_sec}, {eta} left")?;
    let bar = ProgressBar::with_draw_target(None, target).with_style(style);
    let summary = batch::run(&work, &|progress| match progress {
        Progress::Lines(lines) => bar.set_length(lines),
        Progress::Line => bar.inc(1),
        Progress::Bad(line, error) => {
            bar.suspend(|| say(&format!("line {line}: {}", describe_error(error))));
        }
    });
    bar.finish_and_clear();
    let summary = summary?;
    let text = match (args.json, quiet) {
        (true, _) => serde_json::to_string_pretty(&summary)? + "\n",
        (false, true) => String::new(),
        (false, false) => describe(&summary),
    };
    print(&text)?;
    Ok(match summary {
        // The exit status that a shell reports after Ctrl-C.
        Summary { interrupted: true, .. } => ExitCode::from(128 + 2),
        Summary { failed: 1.., .. } => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// Identifies the voice's weights and the runtime. The number of threads does not change the result.
fn identity(voice: &Voice) -> String {
    let key = voice.profile_key().split('/').enumerate();
    let key: Vec<&str> = key.filter(|(i, _)| *i != 1).map(|(_, part)| part).collect();
    key.join("/")
}

fn describe(summary: &Summary) -> String {
    let Summary { lines, spoken, skipped, repeated, failed, audio_seconds, seconds, files, tree, .. } =
        summary;
    let mut text = format!("{lines} lines: {spoken} spoken");
    for (count, what) in
        [(skipped, "were finished before"), (repeated, "repeat an earlier line"), (failed, "failed")]
    {
        if *count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    if summary.interrupted {
        text += "; interrupted, run it again to continue";
    }
    format!("{text}\n{files} files, {audio_seconds:.1} s of audio, in {seconds:.1} s\ntree {tree}\n")
}
