//! `vitstream speak`: phoneme ids in, audio out, each chunk as soon as it is ready.

mod line;
mod loudness;
mod sink;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use vitstream::{Backend, Chunking, Scales, SpeakOptions, Speaker, SpeechStream, Voice, VoiceInfo};

use super::ids::Ids;
use super::outputs::Outputs;
use super::terminal::{describe, say};
use super::timings::Timings;
use super::{DecoderArg, RuntimeArg, VoiceArgs, voices};
pub(super) use line::Line;
pub(crate) use line::read_line;
use loudness::Loudness;
use sink::Sink;

/// Speak phoneme ids with an exported voice, or straight from a trained one
///
/// With neither --output nor --raw the loudspeaker plays them.
///
/// Without --ids, lines of JSON are read from standard input, one utterance each: {"phoneme_ids": [1, 0, 20, 2]}. A line
/// may also have `speaker` (a number or a name) or `speaker_id`, `length_scale`, `noise_scale`, `noise_w` and `seed`, which
/// win over the options of the same names, and `output_file`, a WAV file of its own. A line that cannot be spoken is
/// reported with its number and the others are spoken; the exit status is then 1.
///
/// Samples are rounded to the nearest of 16 bits. The audio is as loud as the network makes it; Piper's own player scales
/// each utterance to full scale, as --normalize does.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("destination").args(["output", "raw"]))]
pub(crate) struct Args {
    /// The voice's folder (encoder.onnx, decoder.onnx, and config.json), or any file that `export` reads
    voice: PathBuf,

    /// The utterance's phoneme ids
    #[arg(long, allow_negative_numbers = true, value_name = "ID,ID,...")]
    ids: Option<Ids>,

    /// Write a WAV file; `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write signed 16-bit little-endian mono samples to standard output, each chunk as soon as it is ready
    #[arg(long)]
    raw: bool,

    /// Who speaks: a number, or a name of the voice's JSON
    #[arg(long, allow_negative_numbers = true)]
    speaker: Option<String>,

    /// How much the voice varies [default: what the voice's JSON says]
    #[arg(long, allow_negative_numbers = true, value_name = "SCALE")]
    noise_scale: Option<f32>,

    /// How slowly it speaks [default: what the voice's JSON says]
    #[arg(long, allow_negative_numbers = true, value_name = "SCALE")]
    length_scale: Option<f32>,

    /// How much the durations vary [default: what the voice's JSON says]
    #[arg(long, allow_negative_numbers = true, value_name = "SCALE")]
    noise_w: Option<f32>,

    /// Makes the noise the same every time; other runtimes than the native one need a voice exported with `--noise input`
    #[arg(long)]
    seed: Option<u64>,

    /// Multiply all samples by this; for whole files
    #[arg(long, allow_negative_numbers = true, value_name = "FACTOR")]
    volume: Option<f32>,

    /// Scale each utterance so that its loudest sample is at full scale, as Piper does; for whole files
    #[arg(long)]
    normalize: bool,

    /// Frames of each chunk [default: small first, then growing]
    #[arg(long, value_name = "FRAMES")]
    chunk: Option<usize>,

    /// Report time to first audio and real-time factor on standard error
    #[arg(long)]
    stats: bool,

    /// Write when each phoneme is spoken: a line of JSON for each utterance, with seconds from the first sample; for
    /// voices exported with `--durations`, and those spoken by the native runtime
    #[arg(long, value_name = "FILE")]
    timings: Option<PathBuf>,

    /// Who computes [default: native; rten with --decoder, and for folders that are not read back]
    #[arg(long, value_enum)]
    runtime: Option<RuntimeArg>,

    /// Which of the folder's decoders, for other runtimes than the native one
    #[arg(long, value_enum, default_value_t = DecoderArg::Auto)]
    decoder: DecoderArg,

    #[command(flatten)]
    options: VoiceArgs,
}

/// Opens the voice natively, unless what was asked for is another runtime's.
fn open(args: &Args) -> Result<Voice> {
    let graphs = args.decoder != DecoderArg::Auto;
    if args.options.onnxruntime_library.is_some() && args.runtime != Some(RuntimeArg::Onnxruntime) {
        bail!("--onnxruntime-library is for --runtime onnxruntime");
    }
    match args.runtime {
        None if !graphs => args.options.open(&args.voice, Backend::Auto, args.decoder, super::wall()),
        Some(RuntimeArg::Native) if graphs => {
            bail!("--decoder is for runtimes that run a folder's graphs, the native one does not")
        }
        runtime => {
            let runtime = runtime.unwrap_or(RuntimeArg::Rten);
            args.options.open(&args.voice, runtime.into(), args.decoder, super::wall())
        }
    }
}

/// Refuses what would have no effect, or could not be kept to, before anything is opened.
fn check(args: &Args) -> Result<()> {
    let live = args.output.as_deref().is_none_or(is_live);
    Loudness::check(args.volume, args.normalize, live)?;
    ensure!(
        args.chunk.is_none() || args.options.profile.is_none(),
        "--profile says how chunks are chosen, which --chunk does already: leave one of them out"
    );
    if let Some(path) = &args.options.profile {
        ensure!(path.exists(), "--profile {}: there is no such file", path.display());
    }
    Ok(())
}

/// Whether samples are heard while they are computed: standard output, pipes, devices.
fn is_live(path: &Path) -> bool {
    path == Path::new("-") || path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// Says of a voice of one speaker that it has no others.
fn check_speaker(info: &VoiceInfo, speaker: Option<&Speaker>, option: &str) -> Result<()> {
    let known = |speaker: &Speaker| match speaker {
        Speaker::Id(id) => *id == 0,
        Speaker::Name(name) => info.speaker_ids.contains_key(name) || name.parse() == Ok(0),
    };
    if let Some(speaker) = speaker.filter(|speaker| info.speakers <= 1 && !known(speaker)) {
        let name = match speaker {
            Speaker::Id(id) => id.to_string(),
            Speaker::Name(name) => name.clone(),
        };
        bail!("speaker {name}: this voice has one speaker; leave out {option}");
    }
    Ok(())
}

pub(crate) fn run(mut args: Args, quiet: bool) -> Result<()> {
    check(&args)?;
    args.voice = voices::resolve(&args.voice, quiet)?;
    let mut outputs = Outputs::new([
        Some(&args.voice),
        args.options.profile.as_ref(),
        args.options.onnxruntime_library.as_ref(),
    ]);
    let output = args.output.as_deref().filter(|path| *path != Path::new("-"));
    for (option, path) in [("--output", output), ("--timings", args.timings.as_deref())] {
        path.map_or(Ok(()), |path| outputs.claim(option, path))?;
    }
    let voice = open(&args)?;
    let info = voice.info();
    let defaults = info.scales;
    let options = SpeakOptions {
        speaker: args.speaker.map(Speaker::Name),
        scales: Some(Scales {
            noise: args.noise_scale.unwrap_or(defaults.noise),
            length: args.length_scale.unwrap_or(defaults.length),
            noise_w: args.noise_w.unwrap_or(defaults.noise_w),
        }),
        seed: args.seed,
        chunking: args.chunk.map_or(Chunking::Scheduled, Chunking::Fixed),
    };
    check_speaker(info, options.speaker.as_ref(), "--speaker")?;
    let loudness = Loudness::new(args.volume, args.normalize);
    // Only a single utterance's length is known before its first sample is written.
    let main = match (args.raw, args.output.as_deref()) {
        (true, _) => Some(Sink::raw()),
        (false, Some(path)) => Some(Sink::wav(path, info.sample_rate, args.ids.is_some())),
        (false, None) => Some(Sink::played(info.sample_rate)),
    };
    let mut log = Log { stats: args.stats, timings: None };
    if let Some(path) = &args.timings {
        log.timings = Some(Timings::create(path, &voice)?);
    }
    let mut session = Session { voice, options, loudness, main, log, outputs };
    if let Some(Ids(ids)) = args.ids {
        let line = Line::of(ids);
        session.speak(&line, "utterance")??;
        return session.finish();
    }
    session.speak_lines()
}

/// Everything that utterances share.
struct Session {
    voice: Voice,
    options: SpeakOptions,
    loudness: Loudness,
    /// Where the utterances without a file of their own go.
    main: Option<Sink>,
    log: Log,
    outputs: Outputs,
}

impl Session {
    fn speak_lines(mut self) -> Result<()> {
        if io::stdin().is_terminal() {
            say("one utterance a line, such as {\"phoneme_ids\": [1, 0, 20, 0, 2]}; Ctrl-D ends");
        }
        let mut input = io::stdin().lock();
        let (mut number, mut empty, mut bad) = (0u64, 0u64, 0u64);
        while let Some(line) = read_line(&mut input).context("standard input")? {
            number += 1;
            let spoken = match line.and_then(|line| Line::parse(&line)) {
                Ok(None) => {
                    empty += 1;
                    continue;
                }
                Err(error) => Err(error),
                Ok(Some(line)) => self.speak(&line, &format!("line {number}"))?,
            };
            if let Err(error) = spoken {
                say(&format!("line {number}: {}", describe(&error)));
                bad += 1;
            }
        }
        ensure!(
            number > empty,
            "standard input: no utterance; expected lines such as {{\"phoneme_ids\": [1, 0, 20, 0, 2]}}, or give one with --ids"
        );
        self.finish()?;
        if bad > 0 {
            bail!("{bad} of {number} lines could not be spoken");
        }
        Ok(())
    }

    /// Speaks one utterance. The outer error is the main sink's or the log's and ends everything, the inner one is this
    /// utterance's.
    fn speak(&mut self, line: &Line, name: &str) -> Result<Result<()>> {
        match &line.output_file {
            None => {
                let mut sink = self.main.take().expect("it is away only while an utterance is spoken");
                let spoken = self.speak_to(line, name, &mut sink).and_then(|spoken| {
                    sink.end_utterance()?;
                    Ok(spoken)
                });
                self.main = Some(sink);
                spoken
            }
            Some(path) => {
                if let Err(error) = self.check_file(path) {
                    return Ok(Err(error));
                }
                let mut sink = Sink::wav(path, self.voice.info().sample_rate, true);
                // What goes wrong with a line's own file is the line's trouble alone.
                Ok(match self.speak_to(line, name, &mut sink) {
                    Ok(Ok(())) => sink.finish(false),
                    Ok(Err(error)) | Err(error) => Err(error),
                })
            }
        }
    }

    /// Takes a line's `output_file`.
    fn check_file(&mut self, path: &Path) -> Result<()> {
        Loudness::check(self.loudness.volume(), self.loudness.normalizes(), is_live(path))?;
        self.outputs.claim("output_file", path)
    }

    fn speak_to(&mut self, line: &Line, name: &str, sink: &mut Sink) -> Result<Result<()>> {
        let Self { voice, loudness, log, .. } = self;
        let options = match line.options(&self.options) {
            Ok(options) => options,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = check_speaker(voice.info(), options.speaker.as_ref(), "the line's speaker") {
            return Ok(Err(error));
        }
        let mut stream = match voice.stream(&line.phoneme_ids, &options) {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error.into())),
        };
        let start = sink.written();
        let mut report = Report::default();
        // Its loudest sample is known only at its end.
        let mut whole = Vec::new();
        while let Some(chunk) = stream.next() {
            let mut chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Ok(Err(error.into())),
            };
            report.first.get_or_insert(chunk.ready);
            report.last = chunk.ready;
            report.samples += chunk.samples.len();
            report.chunks += 1;
            if loudness.normalizes() {
                whole.append(&mut chunk.samples);
            } else {
                loudness.apply(&mut chunk.samples);
                sink.write(&chunk.samples, stream.total_samples())?;
            }
        }
        if loudness.normalizes() {
            loudness.apply(&mut whole);
            sink.write(&whole, Some(whole.len()))?;
        }
        if log.stats {
            report.print(name, voice, &stream);
        }
        if let (Some(timings), Some(durations)) = (&mut log.timings, stream.durations()) {
            timings.add(name, line, durations, start, report.samples)?;
        }
        Ok(Ok(()))
    }

    fn finish(self) -> Result<()> {
        let stats = self.log.stats;
        self.main.map_or(Ok(()), |sink| sink.finish(stats))?;
        self.log.timings.map_or(Ok(()), Timings::finish)?;
        self.loudness.finish();
        Ok(())
    }
}

/// What is told of the utterances beside their samples.
struct Log {
    stats: bool,
    timings: Option<Timings>,
}

#[derive(Default)]
struct Report {
    first: Option<Duration>,
    last: Duration,
    samples: usize,
    chunks: usize,
}

impl Report {
    fn print(&self, name: &str, voice: &Voice, stream: &SpeechStream) {
        let audio = self.samples as f64 / f64::from(voice.info().sample_rate);
        let ms = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1e3;
        say(&format!(
            "{name}: first audio after {:.1} ms (encoder {:.1} ms), {audio:.2} s of audio in {:.3} s, real-time factor {:.3}, {} chunks",
            ms(self.first),
            ms(stream.encoded()),
            self.last.as_secs_f64(),
            self.last.as_secs_f64() / audio,
            self.chunks
        ));
    }
}
