//! `vitstream bench`: measures what users experience.
//!
//! Every configuration (voice, decoder, runtime) is measured in its own process, so that its peak memory is
//! its own and no threads or caches of other sessions interfere. The processes take turns, round after round,
//! so that a drifting clock or a temporary load affects all configurations equally; medians over the rounds
//! are reported.

mod machine;
mod plot;
mod worker;

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use vitstream::staging;
use vitstream::{Cost, Profile, Runtime, Voice, Wall};

use super::outputs::Outputs;
use super::terminal::{self, describe, say};
use super::{DecoderArg, RuntimeArg, VoiceArgs, voices};
use machine::Machine;
use worker::{Measured, Spoken};

/// Measure a voice: time to first audio, real-time factor, the cost of chunks, peak memory
///
/// Every available runtime is measured: the native one, and the others with both of the folder's decoders;
/// each in its own process, one at a time and in turns. With --json, each report describes the machine.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The voice's folder, or for the native runtime any file that `export` reads
    voice: PathBuf,

    /// Another voice to compare
    #[arg(long, value_name = "VOICE")]
    against: Option<PathBuf>,

    /// Write the cost of chunks on this device to the profile that `speak` reads, and measure nothing else
    #[arg(
        long,
        conflicts_with_all = ["against", "plot", "json", "rounds", "lengths", "ids_file", "chunk", "first_chunk"]
    )]
    calibrate: bool,

    /// Number of times that each configuration is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// Only these runtimes [default: all available ones]
    #[arg(long, value_enum, value_name = "NAME")]
    runtime: Vec<RuntimeArg>,

    /// Only this decoder of the folder, and no native runtime [default: both]
    #[arg(long, value_enum)]
    decoder: Option<DecoderArg>,

    /// Write the results as JSON to standard output
    #[arg(long)]
    json: bool,

    /// Draw the time when audio was ready against its position, for the longest utterance, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,

    #[command(flatten)]
    workload: Workload,

    #[command(flatten)]
    options: VoiceArgs,
}

/// The utterances and their chunks.
#[derive(clap::Args, Clone, Serialize, Deserialize)]
pub(crate) struct Workload {
    /// Lengths of the utterances in phoneme ids, generated from letters and pauses
    #[arg(long, value_delimiter = ',', default_value = "69,309,1383", value_name = "N,N,...")]
    lengths: Vec<usize>,

    /// Utterances to measure instead: JSON, {"name": [id, id, ...], ...}
    #[arg(long, value_name = "FILE", conflicts_with = "lengths")]
    ids_file: Option<PathBuf>,

    /// Frames of each chunk [default: small first, then growing]
    #[arg(long, value_name = "FRAMES")]
    chunk: Option<usize>,

    /// Frames of the first chunk, if --chunk gives those of the others
    #[arg(long, value_name = "FRAMES", requires = "chunk")]
    first_chunk: Option<usize>,
}

/// The input of a measuring process.
#[derive(Serialize, Deserialize)]
struct Job {
    configuration: Configuration,
    workload: Workload,
    voice: VoiceArgs,
}

/// A configuration to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Configuration {
    voice: PathBuf,
    runtime: RuntimeArg,
    /// The folder's decoder; the native runtime has its own.
    decoder: Option<DecoderArg>,
}

impl Configuration {
    fn open(&self, args: &VoiceArgs, wall: Option<Wall>) -> Result<Voice> {
        args.open(&self.voice, self.runtime.into(), self.decoder.unwrap_or(DecoderArg::Auto), wall)
    }
}

impl fmt::Display for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decoder = match self.decoder {
            None => "",
            Some(DecoderArg::Auto) => "either decoder, ",
            Some(DecoderArg::Stateful) => "stateful, ",
            Some(DecoderArg::Windowed) => "windowed, ",
        };
        write!(f, "{}, {decoder}{}", self.voice.display(), self.runtime)
    }
}

/// Median and range over the rounds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = match values.as_slice() {
            [] => f64::NAN,
            sorted if sorted.len().is_multiple_of(2) => (sorted[middle - 1] + sorted[middle]) / 2.0,
            sorted => sorted[middle],
        };
        Self {
            median,
            min: values.first().copied().unwrap_or(f64::NAN),
            max: values.last().copied().unwrap_or(f64::NAN),
        }
    }
}

/// The results for one configuration, in seconds.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    configuration: Configuration,
    threads: usize,
    machine: Machine,
    load: Spread,
    /// Peak memory of the process in bytes; absent if the system does not report it.
    peak_memory: Option<Spread>,
    /// The cost of a push, from every chunk of every round.
    chunk_cost: Option<Cost>,
    utterances: Vec<UtteranceReport>,
}

#[derive(Serialize)]
struct UtteranceReport {
    name: String,
    ids: usize,
    frames: usize,
    audio: f64,
    encoder: Spread,
    first_audio: Spread,
    total: Spread,
    real_time_factor: Spread,
    /// Number of chunks that were ready later than they should have been played, in the worst round.
    starving_chunks: usize,
}

pub(crate) fn run(mut args: Args, quiet: bool) -> Result<()> {
    args.voice = voices::resolve(&args.voice, quiet)?;
    args.against = args.against.map(|other| voices::resolve(&other, quiet)).transpose()?;
    check(&args)?;
    let configurations = configurations(&args)?;
    if args.calibrate {
        return calibrate(&args, &configurations);
    }

    let mut rounds: Vec<Vec<Measured>> = configurations.iter().map(|_| Vec::new()).collect();
    for round in 1..=args.rounds {
        for (configuration, measured) in configurations.iter().zip(&mut rounds) {
            say(&format!("round {round}/{}: {configuration}", args.rounds));
            let (workload, voice) = (args.workload.clone(), args.options.clone());
            measured.push(in_own_process(&Job { configuration: configuration.clone(), workload, voice })?);
        }
    }
    let machine = Machine::this();
    let reports: Vec<Report> = configurations
        .iter()
        .zip(&rounds)
        .map(|(configuration, measured)| report(configuration, args.options.threads, &machine, measured))
        .collect();
    if let Some(path) = &args.plot {
        let lines: Vec<(String, &Spoken)> = configurations
            .iter()
            .zip(&rounds)
            .filter_map(|(configuration, measured)| Some((configuration.to_string(), typical(measured)?)))
            .collect();
        plot::draw(path, &lines)?;
    }
    if args.json {
        terminal::print(&(serde_json::to_string_pretty(&reports)? + "\n"))?;
    } else {
        let mut out = terminal::stdout();
        print(&mut out, &reports)?;
        out.flush()?;
    }
    Ok(())
}

/// Refuses options without an effect, and outputs that would destroy a file, before anything is opened.
fn check(args: &Args) -> Result<()> {
    let runs = |runtime| args.runtime.is_empty() || args.runtime.contains(&runtime);
    let decoder = args.decoder.is_some_and(|decoder| decoder != DecoderArg::Auto);
    ensure!(
        !(decoder && args.runtime == [RuntimeArg::Native]),
        "--decoder is for runtimes that run a folder's graphs, which the native one does not"
    );
    ensure!(
        args.options.onnxruntime_library.is_none() || runs(RuntimeArg::Onnxruntime),
        "--onnxruntime-library is for --runtime onnxruntime"
    );
    let mut inputs = vec![
        Some(&args.voice),
        args.against.as_ref(),
        args.workload.ids_file.as_ref(),
        args.options.onnxruntime_library.as_ref(),
    ];
    if args.calibrate {
        return Outputs::new(inputs).claim("--profile", &args.options.profile_path()?);
    }
    inputs.push(args.options.profile.as_ref());
    args.plot.as_ref().map_or(Ok(()), |plot| Outputs::new(inputs).claim("--plot", plot))
}

/// All configurations of the named voices.
fn configurations(args: &Args) -> Result<Vec<Configuration>> {
    let mut configurations = Vec::new();
    for voice in [Some(&args.voice), args.against.as_ref()].into_iter().flatten() {
        let before = configurations.len();
        for &runtime in RuntimeArg::value_variants() {
            if !args.runtime.is_empty() && !args.runtime.contains(&runtime) {
                continue;
            }
            match variants(args, voice, runtime) {
                Ok(variants) => configurations.extend(variants),
                Err(error) if args.runtime.is_empty() => {
                    say(&format!("without {runtime}: {}", describe(&error)));
                }
                Err(error) => return Err(error),
            }
        }
        ensure!(configurations.len() > before, "{}: nothing to measure", voice.display());
    }
    Ok(configurations)
}

/// The configurations of `voice` with `runtime`.
fn variants(args: &Args, voice: &Path, runtime: RuntimeArg) -> Result<Vec<Configuration>> {
    let configuration = |decoder| Configuration { voice: voice.to_owned(), runtime, decoder };
    let one_decoder = args.decoder.filter(|&decoder| decoder != DecoderArg::Auto);
    let graphs = match runtime {
        RuntimeArg::Native if one_decoder.is_some() => return Ok(Vec::new()),
        RuntimeArg::Native => {
            let native = configuration(None);
            native.open(&args.options, None)?;
            return Ok(vec![native]);
        }
        RuntimeArg::Rten => Runtime::Rten,
        RuntimeArg::Onnxruntime => Runtime::OnnxRuntime,
    };
    graphs.available(args.options.onnxruntime_library.as_deref())?;
    let decoders = [(DecoderArg::Stateful, "decoder.stream.onnx"), (DecoderArg::Windowed, "decoder.onnx")];
    let decoders: Vec<Configuration> = decoders
        .into_iter()
        .filter(|&(decoder, file)| one_decoder.is_none_or(|one| one == decoder) && voice.join(file).exists())
        .map(|(decoder, _)| configuration(Some(decoder)))
        .collect();
    ensure!(!decoders.is_empty(), "{}: no decoder to measure", voice.display());
    // A failure to open is better found now than after minutes of measuring.
    for decoder in &decoders {
        decoder.open(&args.options, super::wall())?;
    }
    Ok(decoders)
}

/// Runs this program again, only for `job`.
fn in_own_process(job: &Job) -> Result<Measured> {
    let program = std::env::current_exe().context("this program's own file")?;
    let mut process = Command::new(program)
        .arg("bench-worker")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting a process to measure in")?;
    // Closed after writing, so that the process sees the end of its input.
    if let Some(stdin) = process.stdin.take() {
        serde_json::to_writer(stdin, job).context("telling a process what to measure")?;
    }
    let output = process.wait_with_output().context("waiting for a process that measures")?;
    if !output.status.success() {
        bail!("measuring {} failed", job.configuration);
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the result of measuring {}", job.configuration))
}

/// The other end of [`in_own_process`].
pub(crate) fn run_worker() -> Result<()> {
    let job = serde_json::from_reader(io::stdin())
        .context("standard input: expected a job of `vitstream bench`")?;
    Ok(terminal::Stdout.write_all(&serde_json::to_vec(&worker::measure(&job)?)?)?)
}

fn report(configuration: &Configuration, threads: usize, machine: &Machine, rounds: &[Measured]) -> Report {
    let mut costs = Vec::new();
    let utterances = rounds.first().map_or(&[][..], |measured| &measured.utterances);
    let utterances = utterances.iter().enumerate().map(|(i, one)| {
        let each = || rounds.iter().filter_map(move |measured| measured.utterances.get(i));
        costs.extend(each().flat_map(Spoken::steady_pushes));
        UtteranceReport {
            name: one.name.clone(),
            ids: one.ids,
            frames: one.chunks.iter().map(|chunk| chunk.frames).sum(),
            audio: one.audio(),
            encoder: Spread::of(each().map(|spoken| spoken.encoder)),
            first_audio: Spread::of(each().map(Spoken::first_audio)),
            total: Spread::of(each().map(Spoken::total)),
            real_time_factor: Spread::of(each().map(|spoken| spoken.total() / spoken.audio())),
            starving_chunks: each().map(Spoken::starving).max().unwrap_or(0),
        }
    });
    let utterances = utterances.collect();
    let peaks: Option<Vec<f64>> =
        rounds.iter().map(|measured| measured.peak_memory.map(|bytes| bytes as f64)).collect();
    Report {
        configuration: configuration.clone(),
        threads,
        machine: machine.clone(),
        load: Spread::of(rounds.iter().map(|measured| measured.load)),
        peak_memory: peaks.map(Spread::of),
        chunk_cost: Cost::fit(&costs),
        utterances,
    }
}

/// The longest utterance of the round with the median total.
fn typical(rounds: &[Measured]) -> Option<&Spoken> {
    let mut spoken: Vec<&Spoken> = rounds
        .iter()
        .filter_map(|measured| measured.utterances.iter().max_by(|a, b| a.audio().total_cmp(&b.audio())))
        .collect();
    spoken.sort_by(|a, b| a.total().total_cmp(&b.total()));
    spoken.get(spoken.len().saturating_sub(1) / 2).copied()
}

fn print(out: &mut impl Write, reports: &[Report]) -> io::Result<()> {
    let ms = |spread: Spread| {
        format!("{:.1} ({:.1}-{:.1})", spread.median * 1e3, spread.min * 1e3, spread.max * 1e3)
    };
    for report in reports {
        writeln!(out, "{}", report.configuration)?;
        write!(out, "  loaded in {} ms", ms(report.load))?;
        if let Some(peak) = report.peak_memory {
            write!(out, ", peak memory {:.0} MiB", peak.median / f64::from(1 << 20))?;
        }
        if let Some(cost) = report.chunk_cost {
            write!(
                out,
                ", a chunk takes {:.2} ms and {:.3} ms a frame",
                cost.overhead * 1e3,
                cost.per_frame * 1e3
            )?;
        }
        writeln!(out)?;
        for utterance in &report.utterances {
            writeln!(
                out,
                "  {} ({} ids, {:.2} s): first audio {} ms, encoder {} ms, total {} ms, real-time factor {:.3}{}",
                utterance.name,
                utterance.ids,
                utterance.audio,
                ms(utterance.first_audio),
                ms(utterance.encoder),
                ms(utterance.total),
                utterance.real_time_factor.median,
                match utterance.starving_chunks {
                    0 => String::new(),
                    n => format!(", {n} chunks came too late"),
                }
            )?;
        }
    }
    // Comparison: everything as a multiple of the first.
    if let [first, others @ ..] = reports
        && !others.is_empty()
    {
        writeln!(out, "\n{}: first audio / total, as multiples of", first.configuration)?;
        for other in others {
            let ratios: Vec<String> = first
                .utterances
                .iter()
                .zip(&other.utterances)
                .map(|(a, b)| {
                    let ratio = |f: fn(&UtteranceReport) -> Spread| f(a).median / f(b).median;
                    format!("{} {:.2} / {:.2}", a.name, ratio(|u| u.first_audio), ratio(|u| u.total))
                })
                .collect();
            writeln!(out, "  {}: {}", other.configuration, ratios.join(", "))?;
        }
    }
    Ok(())
}

/// Fits the costs of every configuration and adds them to the profile.
fn calibrate(args: &Args, configurations: &[Configuration]) -> Result<()> {
    let path = args.options.profile_path()?;
    let mut profile: Profile = args.options.read_profile()?;
    for configuration in configurations {
        let voice = configuration.open(&args.options, super::wall())?;
        let cost = worker::cost(&voice)?;
        terminal::print(&format!(
            "{configuration}: a chunk takes {:.2} ms and {:.3} ms a frame\n",
            cost.overhead * 1e3,
            cost.per_frame * 1e3
        ))?;
        profile.costs.insert(voice.profile_key().to_owned(), cost);
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    staging::write(&path, &serde_json::to_vec_pretty(&profile)?)?;
    Ok(terminal::print(&format!("written to {}\n", path.display()))?)
}
