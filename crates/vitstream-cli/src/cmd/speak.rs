//! `vitstream speak`: phoneme ids in, audio out, each chunk as soon as it is ready.

use std::fs::{self, File};
use std::io::{self, BufRead, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::NamedTempFile;
use vitstream::{Chunking, Scales, SpeakOptions, Speaker, SpeechStream, Voice, wav};

use crate::play::Player;

use super::timings::Timings;
use super::{DecoderArg, RuntimeArg, VoiceArgs, voices};

/// A line of more bytes is no utterance.
const LONGEST_LINE: u64 = 1 << 20;

/// Speak phoneme ids with an exported voice, or straight from a trained one
///
/// With neither --output nor --raw the loudspeaker plays them.
///
/// Without --ids, lines of JSON are read from standard input, one utterance each: {"phoneme_ids": [1, 0, 20, 2],
/// "speaker_id": 0}. A line that cannot be spoken is reported with its number and the others are spoken; the exit status
/// is then 1.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("destination").args(["output", "raw"]))]
pub(crate) struct Args {
    /// The voice's folder (encoder.onnx, decoder.onnx, and config.json), any file that `export` reads, or a name that
    /// `vitstream voices` lists
    voice: PathBuf,

    /// The utterance's phoneme ids
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true, value_name = "ID,ID,...")]
    ids: Option<Vec<i64>>,

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

    /// Faster convolutions of the native runtime, whose last bits depend on the chunks
    #[arg(long)]
    fast: bool,

    /// Which of the folder's decoders, for other runtimes than the native one
    #[arg(long, value_enum, default_value_t = DecoderArg::Auto)]
    decoder: DecoderArg,

    #[command(flatten)]
    options: VoiceArgs,
}

/// One line of standard input. Further keys are other programs'.
#[derive(Deserialize)]
struct Line {
    phoneme_ids: Vec<i64>,
    speaker_id: Option<i64>,
}

/// Opens the voice natively, unless what was asked for is another runtime's.
fn open(args: &Args) -> Result<Voice> {
    let graphs = args.decoder != DecoderArg::Auto;
    match args.runtime {
        None if !graphs => args.options.open_any(&args.voice, args.fast),
        Some(RuntimeArg::Native) if graphs => {
            bail!("--decoder is for runtimes that run a folder's graphs, the native one does not")
        }
        Some(runtime) if runtime != RuntimeArg::Native && args.fast => {
            bail!("--fast is for the native runtime, not for {runtime}")
        }
        runtime => {
            args.options.open(&args.voice, runtime.unwrap_or(RuntimeArg::Rten), args.decoder, args.fast)
        }
    }
}

pub(crate) fn run(mut args: Args, quiet: bool) -> Result<()> {
    args.voice = voices::resolve(&args.voice, quiet)?;
    let voice = open(&args)?;
    let defaults = voice.info().scales;
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
    let mut output = if args.output.is_some() || args.raw {
        // Only a single utterance's length is known before its first sample is written.
        Output::Written(Sink::new(args.output.as_deref(), voice.info().sample_rate, args.ids.is_some()))
    } else {
        Output::Played { player: Player::open(voice.info().sample_rate)?, samples: 0 }
    };
    let mut log = Log { stats: args.stats, timings: None };
    if let Some(path) = &args.timings {
        log.timings = Some(Timings::create(path, &voice)?);
    }
    if let Some(ids) = args.ids {
        speak(&voice, &ids, &options, &mut output, "utterance", &mut log)??;
        output.finish(log.stats)?;
        return log.finish();
    }

    let mut input = io::stdin().lock();
    let mut bad = 0u64;
    let mut number = 0u64;
    while let Some(line) = read_line(&mut input).context("standard input")? {
        number += 1;
        let spoken = match line.and_then(|line| parse(&line)) {
            Ok(None) => continue,
            Err(error) => Err(error),
            Ok(Some(line)) => {
                let speaker = line.speaker_id.map(Speaker::Id).or(options.speaker.clone());
                let options = SpeakOptions { speaker, ..options.clone() };
                let name = format!("line {number}");
                speak(&voice, &line.phoneme_ids, &options, &mut output, &name, &mut log)?
            }
        };
        if let Err(error) = spoken {
            eprintln!("line {number}: {error:#}");
            bad += 1;
        }
        output.end_utterance()?;
    }
    output.finish(log.stats)?;
    log.finish()?;
    if bad > 0 {
        bail!("{bad} of {number} lines could not be spoken");
    }
    Ok(())
}

/// The next line without its end, `None` behind the last; the inner error is for a line that is too long, whose rest is
/// skipped.
pub(crate) fn read_line(input: &mut impl BufRead) -> io::Result<Option<Result<Vec<u8>>>> {
    let mut line = Vec::new();
    if input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') || (line.len() as u64) < LONGEST_LINE {
        return Ok(Some(Ok(line)));
    }
    input.skip_until(b'\n')?;
    Ok(Some(Err(anyhow::anyhow!("more than {LONGEST_LINE} bytes are no utterance"))))
}

fn parse(line: &[u8]) -> Result<Option<Line>> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(line).map(Some).context("expected JSON such as {\"phoneme_ids\": [1, 0, 20, 2]}")
}

/// What is told of the utterances beside their samples.
struct Log {
    stats: bool,
    timings: Option<Timings>,
}

impl Log {
    fn finish(self) -> Result<()> {
        self.timings.map_or(Ok(()), Timings::finish)
    }
}

/// Speaks one utterance. The outer error is the sink's or the log's and ends everything, the inner one is this
/// utterance's.
fn speak(
    voice: &Voice,
    ids: &[i64],
    options: &SpeakOptions,
    output: &mut Output,
    name: &str,
    log: &mut Log,
) -> Result<Result<()>> {
    let mut stream = match voice.stream(ids, options) {
        Ok(stream) => stream,
        Err(error) => return Ok(Err(error.into())),
    };
    let start = output.samples();
    let mut report = Report::default();
    while let Some(chunk) = stream.next() {
        let chunk = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return Ok(Err(error.into())),
        };
        report.first.get_or_insert(chunk.ready);
        report.last = chunk.ready;
        report.samples += chunk.samples.len();
        report.chunks += 1;
        output.write(&chunk.samples, stream.total_samples())?;
    }
    if log.stats {
        report.print(name, voice, &stream);
    }
    if let (Some(timings), Some(durations)) = (&mut log.timings, stream.durations()) {
        timings.add(name, ids, durations, start, report.samples)?;
    }
    Ok(Ok(()))
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
        eprintln!(
            "{name}: first audio after {:.1} ms (encoder {:.1} ms), {audio:.2} s of audio in {:.3} s, real-time factor {:.3}, {} chunks",
            ms(self.first),
            ms(stream.encoded()),
            self.last.as_secs_f64(),
            self.last.as_secs_f64() / audio,
            self.chunks
        );
    }
}

/// Where the samples go.
enum Output {
    Written(Sink),
    Played { player: Player, samples: u64 },
}

impl Output {
    /// How many there were so far.
    fn samples(&self) -> u64 {
        match self {
            Self::Written(sink) => sink.written,
            Self::Played { samples, .. } => *samples,
        }
    }

    /// `total`: samples of this utterance.
    fn write(&mut self, chunk: &[f32], total: Option<usize>) -> Result<()> {
        match self {
            Self::Written(sink) => sink.write(chunk, total),
            Self::Played { player, samples } => {
                *samples += chunk.len() as u64;
                player.write(chunk)
            }
        }
    }

    fn end_utterance(&mut self) -> Result<()> {
        match self {
            Self::Written(_) => Ok(()),
            Self::Played { player, .. } => player.end_utterance(),
        }
    }

    /// All is written, or heard.
    fn finish(self, stats: bool) -> Result<()> {
        match self {
            Self::Written(sink) => sink.finish(),
            Self::Played { player, .. } => {
                let underruns = player.finish()?;
                if stats {
                    eprintln!("played with {underruns} underruns");
                }
                Ok(())
            }
        }
    }
}

/// Writes samples. Nothing is created before there are samples.
struct Sink {
    /// `None` is standard output.
    path: Option<PathBuf>,
    /// `None` writes no header.
    sample_rate: Option<u32>,
    /// Whether the first utterance is the only one.
    single: bool,
    written: u64,
    target: Option<Target>,
}

enum Target {
    /// Something that cannot be gone back in.
    Stream(Box<dyn Write>),
    /// Written beside its place, and moved there when it is whole.
    File(BufWriter<NamedTempFile>),
}

impl Sink {
    /// `output`: a file, `-`, or `None` for bare samples on standard output.
    fn new(output: Option<&Path>, sample_rate: u32, single: bool) -> Self {
        let path = output.filter(|path| *path != Path::new("-")).map(Path::to_owned);
        Self { path, sample_rate: output.map(|_| sample_rate), single, written: 0, target: None }
    }

    fn named<T>(&self, result: io::Result<T>) -> Result<T> {
        match &self.path {
            Some(path) => result.with_context(|| path.display().to_string()),
            // Bare, so that a closed pipe is recognised.
            None => Ok(result?),
        }
    }

    /// `total`: samples of this utterance.
    fn write(&mut self, samples: &[f32], total: Option<usize>) -> Result<()> {
        let mut bytes = Vec::new();
        let mut target = match self.target.take() {
            Some(target) => target,
            None => {
                let known = total.filter(|_| self.single).map(|total| total as u64);
                bytes.extend(self.sample_rate.iter().flat_map(|&rate| wav::header(rate, known)));
                self.named(Target::create(self.path.as_deref()))?
            }
        };
        bytes.extend(wav::s16le(samples));
        self.named(target.write(&bytes))?;
        self.written += samples.len() as u64;
        self.target = Some(target);
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        if let (Some(target), Some(path), Some(rate)) = (self.target.take(), &self.path, self.sample_rate) {
            self.named(target.finish(path, &wav::header(rate, Some(self.written))))?;
        }
        Ok(())
    }
}

impl Target {
    fn create(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stream(Box::new(io::stdout()))) };
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Ok(Self::Stream(Box::new(File::options().write(true).open(path)?)));
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        Ok(Self::File(BufWriter::new(builder.prefix(".vitstream-").suffix(".wav").tempfile_in(dir)?)))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stream(stream) => {
                stream.write_all(bytes)?;
                stream.flush()
            }
            Self::File(file) => file.write_all(bytes),
        }
    }

    fn finish(self, path: &Path, header: &[u8]) -> io::Result<()> {
        let Self::File(file) = self else { return Ok(()) };
        let mut file = file.into_inner().map_err(|error| error.into_error())?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(header)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}
