//! `vitstream speak`: turns text or phoneme ids into audio, each chunk as soon as it is ready.

mod arriving;
mod line;
mod loudness;
mod sink;

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use vitstream::{Backend, Chunking, Scales, SpeakOptions, Speaker, SpeechStream, Voice, VoiceInfo};

use super::ids::Ids;
use super::lines::{Phonemes, read_line};
use super::outputs::Outputs;
use super::piece::Piece;
use super::subtitles::{Format, Subtitles};
use super::terminal::{describe, say};
use super::text::{Reader, TextArgs, TextDecoder, read_text};
use super::timings::Timings;
use super::{DecoderArg, RuntimeArg, VoiceArgs, voices};
use arriving::{Arriving, Beginning, Event, beginning};
use line::Line;
use loudness::Loudness;
use sink::Sink;

/// Speak text with an exported voice, or straight from a trained one
///
/// Without --output and --raw, the audio is played.
///
/// The text is an argument, a file, or standard input, which is spoken while it arrives: each sentence as
/// soon as it is complete, and text that ends in a punctuation mark if nothing follows for 0.3 s. Each
/// sentence is spoken as it would be alone, also with --seed, which applies to every sentence. A sentence
/// that cannot be spoken is reported and the others are spoken; the exit status is then 1.
///
/// If standard input begins with a brace, it is read as lines of JSON, one utterance each: {"text": "Hello."}
/// or {"phoneme_ids": [1, 0, 20, 2]}, or with `phonemes`. A line may also have `speaker` (a number or a name)
/// or `speaker_id`, `length_scale`, `noise_scale`, `noise_w` and `seed`, which override the options of the
/// same names, and `output_file`, a WAV file for this line. A line that cannot be spoken is reported with its
/// number and the others are spoken; the exit status is then 1.
///
/// With --output-dir, each line of JSON or text is an utterance with its own file.
///
/// Phonemes come from a copy of espeak-ng on this machine; voices that read letters do not need it.
///
/// Samples are rounded to the nearest 16-bit value. The audio is as loud as the network makes it; Piper's own
/// player scales each utterance to full scale, as --normalize does.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("destination").args(["output", "output_dir", "raw"]))]
#[command(group = clap::ArgGroup::new("said").args(["text", "file", "phonemes", "ids", "json_input"]))]
pub(crate) struct Args {
    /// The voice's folder (encoder.onnx, decoder.onnx, and config.json), any file that `export` reads, or the name of a
    /// voice that `vitstream voices` lists
    voice: PathBuf,

    /// The text; `-` for standard input, even if it begins with a brace [default: standard input]
    text: Option<String>,

    /// Read the text from a file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Read standard input as lines of JSON, whatever it begins with
    #[arg(long)]
    json_input: bool,

    /// The utterance as phonemes: usually IPA, or characters for a voice that reads characters
    #[arg(long, value_name = "IPA")]
    phonemes: Option<String>,

    /// The utterance's phoneme ids
    #[arg(long, allow_negative_numbers = true, value_name = "ID,ID,...")]
    ids: Option<Ids>,

    /// Write a WAV file; `-` for standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Write a WAV file for each line of text or JSON into this folder: 0001.wav for the first one. An
    /// existing file is kept; unless its contents are equal, the line is an error
    #[arg(short = 'd', long, value_name = "DIR", conflicts_with_all = ["srt", "vtt", "markdown", "whole_sentences"])]
    output_dir: Option<PathBuf>,

    /// Write signed 16-bit little-endian mono samples to standard output, each chunk as soon as it is ready
    #[arg(long)]
    raw: bool,

    /// The speaker: a number, or a name from the voice's JSON
    #[arg(long, allow_negative_numbers = true)]
    speaker: Option<String>,

    /// Variation of the voice [default: from the voice's JSON]
    #[arg(long, allow_negative_numbers = true, value_name = "SCALE")]
    noise_scale: Option<f32>,

    /// Slowness of speech [default: from the voice's JSON]
    #[arg(long, allow_negative_numbers = true, value_name = "SCALE")]
    length_scale: Option<f32>,

    /// Variation of the durations [default: from the voice's JSON]
    #[arg(long, allow_negative_numbers = true, value_name = "SCALE")]
    noise_w: Option<f32>,

    /// Make the noise reproducible; with runtimes other than native, the voice must be exported with `--noise
    /// input`
    #[arg(long)]
    seed: Option<u64>,

    /// Silence between the sentences of a text
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true, value_name = "SECONDS")]
    sentence_silence: f64,

    /// Do not divide a long first sentence of standard input at a comma, which is done so that it is heard
    /// sooner
    #[arg(long)]
    whole_sentences: bool,

    /// Multiply all samples by this factor; only for whole files
    #[arg(long, allow_negative_numbers = true, value_name = "FACTOR")]
    volume: Option<f32>,

    /// Scale each utterance so that its loudest sample is at full scale, as Piper does; only for whole files
    #[arg(long)]
    normalize: bool,

    /// Frames of each chunk [default: small first, then growing]
    #[arg(long, value_name = "FRAMES")]
    chunk: Option<usize>,

    /// Report time to first audio and real-time factor on standard error
    #[arg(long)]
    stats: bool,

    /// Write the times of each phoneme and each word: one line of JSON per sentence, in seconds from the
    /// first sample; for voices exported with `--durations`, and for the native runtime
    #[arg(long, value_name = "FILE")]
    timings: Option<PathBuf>,

    /// Write subtitles for the output: its sentences, divided if they are long and the voice provides
    /// durations
    #[arg(long, value_name = "FILE")]
    srt: Option<PathBuf>,

    /// Write subtitles as WebVTT, which also contains the time of each word
    #[arg(long, value_name = "FILE")]
    vtt: Option<PathBuf>,

    /// Runtime that computes the voice [default: native; rten with --decoder, and for folders that cannot be
    /// read back]
    #[arg(long, value_enum)]
    runtime: Option<RuntimeArg>,

    /// Decoder of the folder to use, for runtimes other than native
    #[arg(long, value_enum, default_value_t = DecoderArg::Auto)]
    decoder: DecoderArg,

    #[command(flatten)]
    reading: TextArgs,

    #[command(flatten)]
    options: VoiceArgs,
}

/// Limit on a pause: a longer one is a mistake.
const LONGEST_SILENCE: f64 = 60.0;

/// Limit on the bytes of an SSML text, which is read as a whole.
const MAX_SSML: u64 = 16 << 20;

/// Limit on failed sentences that are reported one by one. Further ones fail for the same reason.
const MAX_TOLD: u64 = 20;

/// Opens the voice natively, unless the options require another runtime.
fn open(args: &Args) -> Result<Voice> {
    let graphs = args.decoder != DecoderArg::Auto;
    if args.options.onnxruntime_library.is_some() && args.runtime != Some(RuntimeArg::Onnxruntime) {
        bail!("--onnxruntime-library is for --runtime onnxruntime");
    }
    match args.runtime {
        None if !graphs => args.options.open(&args.voice, Backend::Auto, args.decoder, super::wall()),
        Some(RuntimeArg::Native) if graphs => {
            bail!("--decoder is for runtimes that run a folder's graphs, which the native one does not")
        }
        runtime => {
            let runtime = runtime.unwrap_or(RuntimeArg::Rten);
            args.options.open(&args.voice, runtime.into(), args.decoder, super::wall())
        }
    }
}

/// Refuses options that would have no effect, or cannot be honoured, before anything is opened.
fn check(args: &Args) -> Result<()> {
    let live = args.output_dir.is_none() && args.output.as_deref().is_none_or(is_live);
    Loudness::check(args.volume, args.normalize, live)?;
    check_silence(args.sentence_silence)?;
    ensure!(
        args.ids.is_none() || args.srt.is_none() && args.vtt.is_none(),
        "--srt and --vtt are for text, not for ids"
    );
    if let Some(option) = args.reading.given()
        && (args.ids.is_some() || args.phonemes.is_some())
    {
        bail!("{option} is for text, but no text is given");
    }
    ensure!(
        args.chunk.is_none() || args.options.profile.is_none(),
        "--profile and --chunk both determine the chunks: leave one of them out"
    );
    if let Some(path) = &args.options.profile {
        ensure!(path.exists(), "--profile {}: there is no such file", path.display());
    }
    Ok(())
}

pub(super) fn check_silence(seconds: f64) -> Result<()> {
    ensure!(
        (0.0..=LONGEST_SILENCE).contains(&seconds),
        "--sentence-silence: expected 0 to {LONGEST_SILENCE} seconds, found {seconds}"
    );
    Ok(())
}

/// Returns true if samples are heard while they are computed: standard output, pipes, devices.
fn is_live(path: &Path) -> bool {
    path == Path::new("-") || path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// Reports that a voice with one speaker has no others.
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
    let words = args.reading.words()?;
    let inputs = [
        Some(&args.voice),
        args.file.as_ref(),
        args.options.profile.as_ref(),
        args.options.onnxruntime_library.as_ref(),
    ];
    let mut outputs = Outputs::new(inputs.into_iter().chain(args.reading.inputs()));
    let output = args.output.as_deref().filter(|path| *path != Path::new("-"));
    for (option, path) in [
        ("--output", output),
        ("--timings", args.timings.as_deref()),
        ("--srt", args.srt.as_deref()),
        ("--vtt", args.vtt.as_deref()),
    ] {
        path.map_or(Ok(()), |path| outputs.claim(option, path))?;
    }
    let voice = open(&args)?;
    let info = voice.info();
    let defaults = info.scales;
    let options = SpeakOptions::new()
        .speaker(args.speaker.map(Speaker::Name))
        .scales(Scales {
            noise: args.noise_scale.unwrap_or(defaults.noise),
            length: args.length_scale.unwrap_or(defaults.length),
            noise_w: args.noise_w.unwrap_or(defaults.noise_w),
        })
        .seed(args.seed)
        .chunking(args.chunk.map_or(Chunking::Scheduled, Chunking::Fixed));
    check_speaker(info, options.speaker.as_ref(), "--speaker")?;
    let loudness = Loudness::new(args.volume, args.normalize);
    // Only the length of a single utterance is known before its first sample is written.
    let is_single = args.ids.is_some() || args.phonemes.is_some();
    let main = match (&args.output_dir, args.output.as_deref()) {
        (Some(_), _) => None,
        (None, Some(path)) => Some(Sink::wav(path, info.sample_rate, is_single)),
        (None, None) if args.raw => Some(Sink::raw()),
        (None, None) => Some(Sink::played(info.sample_rate)),
    };
    let mut log = Log { stats: args.stats, timings: None, subtitles: Vec::new() };
    if let Some(path) = &args.timings {
        log.timings = Some(Timings::create(path, &voice)?);
    }
    for (path, format) in [(&args.srt, Format::Srt), (&args.vtt, Format::Vtt)] {
        if let Some(path) = path {
            log.subtitles.push(Subtitles::create(path, format, voice.info().sample_rate)?);
        }
    }
    let folder = args.output_dir;
    if let Some(folder) = &folder {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let reader = Reader::new(&args.reading, words, voice.config());
    let reader = reader.with_context(|| format!("{} cannot read text", args.voice.display()));
    let silence = args.sentence_silence;
    let mut session = Session { voice, options, loudness, main, folder, log, outputs, reader, silence };
    if let Some(Ids(ids)) = args.ids {
        return session.speak_one(&[Piece::of_ids(ids)], "utterance");
    }
    if let Some(phonemes) = args.phonemes {
        let sentence = session.reader()?.phonemes(&Phonemes::Text(phonemes)).context("--phonemes")?;
        return session.speak_one(&[sentence.into()], "utterance");
    }
    let ssml = args.reading.is_ssml();
    match (args.text, args.file) {
        (Some(text), _) if text != "-" && ssml => session.speak_whole(&text),
        (Some(text), _) if text != "-" => {
            let text =
                Source { name: "the text".to_owned(), input: Cursor::new(text.into_bytes()), blank: 0 };
            session.speak_text(text, Delivery::Whole)
        }
        (_, Some(path)) if ssml => session.speak_whole(&read_text(Some(&path), MAX_SSML)?),
        (_, Some(path)) => {
            let name = path.display().to_string();
            let input = File::open(&path).with_context(|| name.clone())?;
            session.speak_text(Source { name, input, blank: 0 }, Delivery::Whole)
        }
        (text, None) => {
            let is_json = args.json_input.then_some(true).or(text.map(|_| false));
            let delivery = if args.whole_sentences { Delivery::Sentences } else { Delivery::Soon };
            session.speak_input(is_json, ssml, delivery)
        }
    }
}

/// The delivery of a text to its listener.
#[derive(Clone, Copy, PartialEq)]
enum Delivery {
    /// The whole text is available.
    Whole,
    /// The text arrives; its sentences are spoken when they are complete.
    Sentences,
    /// As above, but the beginning of a long first sentence is spoken earlier.
    Soon,
}

/// The input being read.
struct Source<I> {
    /// Name for messages.
    name: String,
    input: I,
    /// Number of blank lines that were skipped.
    blank: u64,
}

/// State shared by all utterances.
struct Session {
    voice: Voice,
    options: SpeakOptions,
    loudness: Loudness,
    /// Destination of utterances without a file of their own.
    main: Option<Sink>,
    /// Folder with a file for each utterance that does not name one itself.
    folder: Option<PathBuf>,
    log: Log,
    outputs: Outputs,
    /// An error for a voice whose text cannot be read.
    reader: Result<Reader>,
    /// Seconds between sentences.
    silence: f64,
}

/// Counts the sentences of a text.
#[derive(Default)]
struct Tally {
    number: u64,
    bad: u64,
    /// Number of pieces that were spoken.
    spoken: u64,
}

impl Session {
    fn reader(&mut self) -> Result<&mut Reader> {
        match &mut self.reader {
            Ok(reader) => Ok(reader),
            Err(error) => Err(anyhow!(describe(error))),
        }
    }

    /// Speaks standard input; `is_json` is the user's statement about its format.
    fn speak_input(self, is_json: Option<bool>, ssml: bool, delivery: Delivery) -> Result<()> {
        let mut stdin = io::stdin().lock();
        // A voice that cannot read text accepts only ids.
        let is_json = is_json.or(self.reader.is_err().then_some(true));
        if stdin.is_terminal() {
            say(match is_json {
                Some(true) => {
                    "one utterance per line, such as {\"phoneme_ids\": [1, 0, 20, 0, 2]}; Ctrl-D ends"
                }
                _ => "text to speak; Ctrl-D ends",
            });
        }
        let (found, blank) = match is_json {
            Some(true) => (Beginning::Json, 0),
            Some(false) => (Beginning::Text, 0),
            None => beginning(&mut stdin).context(STDIN)?,
        };
        // The bytes already examined stay in its buffer.
        drop(stdin);
        match found {
            Beginning::Json => {
                let lines = Source { name: STDIN.to_owned(), input: io::stdin().lock(), blank };
                self.speak_lines(lines, Line::parse)
            }
            Beginning::Text if ssml => self.speak_whole(&read_text(None, MAX_SSML)?),
            Beginning::Text => {
                let text = Source { name: STDIN.to_owned(), input: io::stdin(), blank };
                self.speak_text(text, delivery)
            }
            Beginning::Nothing => bail!("{STDIN}: {NO_UTTERANCE}"),
        }
    }

    /// Speaks a text that is read as a whole.
    fn speak_whole(mut self, text: &str) -> Result<()> {
        let sentences = self.reader()?.whole(text)?;
        ensure!(!sentences.is_empty(), NOTHING_TO_SAY);
        let pieces: Vec<Piece> = sentences.into_iter().map(Piece::from).collect();
        self.speak_one(&pieces, "text")
    }

    /// Speaks the only utterance.
    fn speak_one(mut self, pieces: &[Piece], name: &str) -> Result<()> {
        self.speak(&Line::default().numbered(self.numbered(1)), pieces, name)??;
        self.finish()
    }

    /// The file for an utterance that names none, if each has one.
    fn numbered(&self, number: u64) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(format!("{number:04}.wav")))
    }

    /// Speaks a text sentence by sentence.
    fn speak_text(mut self, text: Source<impl Read + Send + 'static>, delivery: Delivery) -> Result<()> {
        let Source { name, input, blank } = text;
        let has_folder = self.folder.is_some();
        let reader = self.reader()?;
        // Without a phonemizer every sentence fails like the first.
        reader.prepare()?;
        if has_folder {
            let lines = Source { name, input: BufReader::new(input), blank };
            return self.speak_lines(lines, Line::of_text);
        }
        let mut stream = reader.begin();
        if delivery != Delivery::Soon {
            stream = stream.whole_sentences();
        }
        let arriving = Arriving::new(input);
        let (mut decoder, mut problems) = (TextDecoder::default(), Vec::new());
        let mut tally = Tally::default();
        let mut may_idle = false;
        loop {
            let event = arriving.next(may_idle).with_context(|| name.clone())?;
            // One pause is enough: text that it did not release is not complete.
            may_idle = delivery != Delivery::Whole && matches!(event, Event::Bytes(_));
            let is_last = matches!(event, Event::End);
            let sentences = match event {
                Event::Bytes(bytes) => stream.push(&decoder.push(&bytes, &mut problems)),
                Event::Idle => stream.flush().into_iter().collect(),
                Event::End => {
                    let mut sentences = stream.push(&decoder.finish(&mut problems));
                    sentences.extend(stream.finish());
                    sentences
                }
            };
            for sentence in sentences {
                self.speak_sentence(&sentence, &mut problems, &mut tally)?;
            }
            if is_last {
                break;
            }
        }
        let Tally { number, bad, spoken } = tally;
        if bad == 0 {
            ensure!(spoken > 0, NOTHING_TO_SAY);
        }
        self.finish()?;
        if bad > 0 {
            bail!("{bad} of {number} sentences could not be spoken");
        }
        Ok(())
    }

    /// Speaks one of a text's sentences. `problems` are those of the bytes that it came from.
    fn speak_sentence(&mut self, text: &str, problems: &mut Vec<String>, tally: &mut Tally) -> Result<()> {
        if text.trim().is_empty() {
            return Ok(());
        }
        tally.number += 1;
        let name = format!("sentence {}", tally.number);
        // Invalid bytes became NULs.
        let damaged = text.matches('\0').count().min(problems.len());
        let spoken = match problems.drain(..damaged).next() {
            Some(problem) => Err(Error::msg(problem)),
            None => self.speak_pieces(text, &name, tally)?,
        };
        if let Err(error) = spoken {
            tally.bad += 1;
            if tally.bad <= MAX_TOLD {
                say(&format!("{name}: {}", describe(&error)));
            }
        }
        Ok(())
    }

    fn speak_pieces(&mut self, text: &str, name: &str, tally: &mut Tally) -> Result<Result<()>> {
        let pieces: Vec<Piece> = match self.reader()?.sentence(text) {
            Ok(sentences) => sentences.into_iter().map(Piece::from).collect(),
            Err(error) => return Ok(Err(error)),
        };
        if pieces.is_empty() {
            return Ok(Ok(()));
        }
        if tally.spoken > 0
            && let Some(sink) = &mut self.main
        {
            silence(sink, self.voice.info().sample_rate, self.silence)?;
        }
        tally.spoken += pieces.len() as u64;
        self.speak(&Line::default(), &pieces, name)
    }

    /// Speaks lines that `parse` reads.
    fn speak_lines(
        mut self,
        lines: Source<impl BufRead>,
        parse: fn(&[u8]) -> Result<Option<Line>>,
    ) -> Result<()> {
        let Source { name, mut input, blank } = lines;
        let (mut number, mut empty, mut bad) = (blank, blank, 0u64);
        while let Some(line) = read_line(&mut input).with_context(|| name.clone())? {
            number += 1;
            let spoken = match line.and_then(|line| parse(&line)) {
                Ok(None) => {
                    empty += 1;
                    continue;
                }
                Err(error) => Err(error),
                Ok(Some(line)) => {
                    let line = line.numbered(self.numbered(number));
                    match self.pieces(&line) {
                        Ok(pieces) => self.speak(&line, &pieces, &format!("line {number}"))?,
                        Err(error) => Err(error),
                    }
                }
            };
            if let Err(error) = spoken {
                say(&format!("line {number}: {}", describe(&error)));
                bad += 1;
            }
        }
        ensure!(number > empty, "{name}: {NO_UTTERANCE}");
        self.finish()?;
        if bad > 0 {
            bail!("{bad} of {number} lines could not be spoken");
        }
        Ok(())
    }

    /// The pieces of a line. All of its sentences are read before the first is spoken, so a line is spoken
    /// completely or not at all.
    fn pieces(&mut self, line: &Line) -> Result<Vec<Piece>> {
        if let Some(ids) = &line.phoneme_ids {
            return Ok(vec![Piece::of_ids(ids.clone())]);
        }
        if let Some(phonemes) = &line.phonemes {
            return Ok(vec![self.reader()?.phonemes(phonemes)?.into()]);
        }
        let sentences = self.reader()?.whole(line.text.as_deref().unwrap_or_default())?;
        ensure!(!sentences.is_empty(), NOTHING_TO_SAY);
        Ok(sentences.into_iter().map(Piece::from).collect())
    }

    /// Speaks one utterance. The outer error concerns the main sink or the log and ends everything, the inner
    /// one concerns this utterance.
    fn speak(&mut self, line: &Line, pieces: &[Piece], name: &str) -> Result<Result<()>> {
        match &line.output_file {
            None => {
                let mut sink = self.main.take().expect("it is away only while an utterance is spoken");
                let spoken = self.speak_to(line, pieces, name, &mut sink).and_then(|spoken| {
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
                let is_single = matches!(pieces, [piece] if piece.pause.is_zero());
                let rate = self.voice.info().sample_rate;
                let mut sink = match line.is_numbered {
                    true => Sink::wav_anew(path, rate, is_single),
                    false => Sink::wav(path, rate, is_single),
                };
                // Problems with a line's own file concern only that line.
                Ok(match self.speak_to(line, pieces, name, &mut sink) {
                    Ok(Ok(())) => sink.finish(false),
                    Ok(Err(error)) | Err(error) => Err(error),
                })
            }
        }
    }

    /// Claims a line's `output_file`.
    fn check_file(&mut self, path: &Path) -> Result<()> {
        Loudness::check(self.loudness.volume(), self.loudness.normalizes(), is_live(path))?;
        self.outputs.claim("output_file", path)
    }

    fn speak_to(&mut self, line: &Line, pieces: &[Piece], name: &str, sink: &mut Sink) -> Result<Result<()>> {
        let options = match line.options(&self.options) {
            Ok(options) => options,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = check_speaker(self.voice.info(), options.speaker.as_ref(), "the line's speaker") {
            return Ok(Err(error));
        }
        let rate = self.voice.info().sample_rate;
        for (index, piece) in pieces.iter().enumerate() {
            if index > 0 {
                silence(sink, rate, self.silence)?;
            }
            if !piece.is_pause() {
                let numbered = || format!("{name}, sentence {}", index + 1);
                let name = if pieces.len() > 1 { numbered() } else { name.to_owned() };
                if let Err(error) = self.speak_piece(line, piece, &options, &name, sink)? {
                    return Ok(Err(error));
                }
            }
            silence(sink, rate, piece.pause.as_secs_f64())?;
        }
        Ok(Ok(()))
    }

    fn speak_piece(
        &mut self,
        line: &Line,
        piece: &Piece,
        options: &SpeakOptions,
        name: &str,
        sink: &mut Sink,
    ) -> Result<Result<()>> {
        let Self { voice, loudness, log, .. } = self;
        let mut options = options.clone();
        if let Some(scales) = &mut options.scales {
            scales.length /= piece.rate;
        }
        let mut stream = match voice.stream(&piece.ids, &options) {
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
        if line.output_file.is_none() {
            for subtitles in &mut log.subtitles {
                subtitles.add(piece, stream.durations(), start, report.samples)?;
            }
        }
        if let (Some(timings), Some(durations)) = (&mut log.timings, stream.durations()) {
            timings.add(name, line.output_file.as_deref(), piece, durations, start, report.samples)?;
        }
        Ok(Ok(()))
    }

    fn finish(self) -> Result<()> {
        let stats = self.log.stats;
        self.main.map_or(Ok(()), |sink| sink.finish(stats))?;
        self.log.timings.map_or(Ok(()), Timings::finish)?;
        self.log.subtitles.into_iter().try_for_each(Subtitles::finish)?;
        self.loudness.finish();
        Ok(())
    }
}

const STDIN: &str = "standard input";

const NO_UTTERANCE: &str = "no utterance; expected text, or lines such as {\"phoneme_ids\": [1, 0, 20, 0, 2]}, or give one with --ids";

pub(crate) const NOTHING_TO_SAY: &str = "there is nothing to say: expected a text with letters or digits";

/// Writes `seconds` of silence.
fn silence(sink: &mut Sink, sample_rate: u32, seconds: f64) -> Result<()> {
    let samples = (seconds * f64::from(sample_rate)).round() as usize;
    if samples == 0 { Ok(()) } else { sink.write(&vec![0.0; samples], None) }
}

/// Reports on the utterances besides their samples.
struct Log {
    stats: bool,
    timings: Option<Timings>,
    subtitles: Vec<Subtitles>,
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
