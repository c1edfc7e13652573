//! The work: jobs that process lines until none are left.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Error, Result, anyhow, ensure};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use vitstream::{Chunking, Scales, SpeakOptions, Voice};

use super::journal::{Done, Journal};
use super::line::{Line, Said, Utterance, hex, seed_of};
use super::place::Place;
use super::reading::Reading;
use super::{Format, Shard};
use crate::cmd::lines::read_line;
use crate::cmd::piece::Piece;
use crate::cmd::terminal::describe;

/// Frames of a chunk: latency is irrelevant here, and if the last bits depend on chunks, they depend on this
/// number.
const CHUNK: usize = 256;

/// Limit on the samples of a file, which every job holds in memory: half a gigabyte.
const LONGEST: usize = 1 << 27;

/// Limit on the failed lines listed in a summary; all are counted, and reported when they occur.
const MOST_LISTED: usize = 100;

/// The description of the work.
pub(crate) struct Batch<'a> {
    pub(crate) voice: &'a Voice,
    /// Identifies everything that determines the voice's sound, besides the line.
    pub(crate) identity: String,
    pub(crate) reading: Reading,
    /// Seconds between the sentences of a text.
    pub(crate) silence: f64,
    pub(crate) manifest: &'a Path,
    pub(crate) output: &'a Path,
    pub(crate) shard: Shard,
    pub(crate) jobs: usize,
    pub(crate) format: Format,
    /// Set by the caller to stop the work after the current utterances.
    pub(crate) stop: &'a AtomicBool,
}

/// Events during the work.
pub(crate) enum Progress<'a> {
    /// This shard has this number of lines.
    Lines(u64),
    /// A line is finished.
    Line,
    /// A line could not be spoken.
    Bad(u64, &'a Error),
}

/// A summary of the work.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    /// Number of this shard's lines that are not blank.
    pub(crate) lines: u64,
    pub(crate) spoken: u64,
    /// Number of lines that were finished before.
    pub(crate) skipped: u64,
    /// Number of lines that repeat an earlier line of the manifest.
    pub(crate) repeated: u64,
    pub(crate) failed: u64,
    /// The first of the lines that failed.
    pub(crate) errors: Vec<BadLine>,
    pub(crate) interrupted: bool,
    /// Total of all files of these lines, including those finished before.
    pub(crate) audio_seconds: f64,
    /// Duration in seconds.
    pub(crate) seconds: f64,
    /// Number of files of these lines.
    pub(crate) files: usize,
    /// The SHA-256 of the output of `sha256sum` for these files in the order of their names.
    pub(crate) tree: String,
}

#[derive(Debug, Serialize)]
pub(crate) struct BadLine {
    line: u64,
    error: String,
}

/// The reason why a line has no file.
enum Failure {
    /// An error of this line.
    Line(Error),
    /// An error that the following lines would have too.
    All(Error),
}

/// Speaks the lines of the manifest.
pub(crate) fn run(batch: &Batch<'_>, progress: &(dyn Fn(Progress<'_>) + Sync)) -> Result<Summary> {
    let started = Instant::now();
    fs::create_dir_all(batch.output).with_context(|| batch.output.display().to_string())?;
    let journal = Journal::open(batch.output, batch.shard)?;
    let lines = Lines::open(batch)?;
    progress(Progress::Lines(count(batch.manifest, batch.shard)?));
    let work = Work {
        batch,
        journal,
        lines: Mutex::new(lines),
        results: Mutex::new(Results::default()),
        failed: AtomicBool::new(false),
        progress,
    };
    let outcome = thread::scope(|scope| {
        let jobs: Vec<_> = (0..batch.jobs).map(|_| scope.spawn(|| work.job())).collect();
        jobs.into_iter()
            .map(|job| job.join().unwrap_or_else(|_| Err(anyhow!("a job has panicked"))))
            .fold(Ok(()), Result::and)
    });
    outcome?;
    let Results { mut summary, files, samples } =
        work.results.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Jobs find failed lines in any order.
    summary.errors.sort_by_key(|bad| bad.line);
    summary.interrupted = batch.stop.load(Ordering::Relaxed);
    summary.audio_seconds = samples as f64 / f64::from(batch.voice.info().sample_rate);
    summary.files = files.len();
    summary.tree = tree(&files);
    summary.seconds = started.elapsed().as_secs_f64();
    Ok(summary)
}

fn tree(files: &BTreeMap<Place, String>) -> String {
    let mut hash = Sha256::new();
    for (place, sha256) in files {
        hash.update(format!("{sha256}  {place}\n"));
    }
    hex(&hash.finalize())
}

/// Number of this shard's lines, including blank ones.
fn count(manifest: &Path, shard: Shard) -> Result<u64> {
    let count = || -> io::Result<u64> {
        let mut input = BufReader::new(File::open(manifest)?);
        let (mut total, mut own) = (0, 0);
        while input.skip_until(b'\n')? > 0 {
            total += 1;
            own += u64::from(shard.has(total));
        }
        Ok(own)
    };
    count().with_context(|| manifest.display().to_string())
}

/// The manifest while it is read: every shard reads all of it, to recognise repeated lines.
struct Lines<'a> {
    batch: &'a Batch<'a>,
    input: BufReader<File>,
    number: u64,
    /// Identifies the voice and how it reads text, from the first text on.
    of_text: Option<String>,
    /// The content of each file, and the line that names it first.
    seen: HashMap<Place, (u64, String)>,
}

enum Next {
    Utterance(u64, Box<Utterance>),
    Repeated,
    Bad(u64, Error),
    Blank,
}

impl<'a> Lines<'a> {
    fn open(batch: &'a Batch<'a>) -> Result<Self> {
        let named = || batch.manifest.display().to_string();
        let file = File::open(batch.manifest).with_context(named)?;
        ensure!(
            file.metadata().with_context(named)?.is_file(),
            "{}: expected a file, since it is read twice",
            batch.manifest.display()
        );
        Ok(Self { batch, input: BufReader::new(file), number: 0, of_text: None, seen: HashMap::new() })
    }

    /// The next line of this shard. An error concerns all lines.
    fn next(&mut self) -> Result<Option<Next>> {
        let named = || self.batch.manifest.display().to_string();
        while let Some(line) = read_line(&mut self.input).with_context(named)? {
            self.number += 1;
            let next = self.look_at(line)?;
            if self.batch.shard.has(self.number) {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    fn look_at(&mut self, line: Result<Vec<u8>>) -> Result<Next> {
        let number = self.number;
        let bad = |error| Ok(Next::Bad(number, error));
        let Batch { voice, identity, reading, format, .. } = self.batch;
        let line = match line.and_then(|line| Line::parse(&line)) {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(Next::Blank),
            Err(error) => return bad(error),
        };
        let utterance = match line.said(reading) {
            Ok(said @ Said::Ids(_)) => line.resolve(said, voice.info(), identity, *format),
            Ok(said @ Said::Text(_)) => line.resolve(said, voice.info(), self.of_text()?, *format),
            Err(error) => Err(error),
        };
        let utterance = match utterance {
            Ok(utterance) => utterance,
            Err(error) => return bad(error),
        };
        match self.seen.get(&utterance.place) {
            Some((_, content)) if *content == utterance.content => Ok(Next::Repeated),
            Some((first, _)) => {
                bad(anyhow!("output_file {:?} is also that of line {first}", utterance.place.as_str()))
            }
            None => {
                self.seen.insert(utterance.place.clone(), (number, utterance.content.clone()));
                Ok(Next::Utterance(number, Box::new(utterance)))
            }
        }
    }

    /// Without a phonemizer every text fails like the first.
    fn of_text(&mut self) -> Result<&str> {
        if self.of_text.is_none() {
            let Batch { identity, reading, silence, .. } = self.batch;
            let reading = reading.lock()?.identity()?;
            self.of_text = Some(format!("{identity} {reading} {silence}"));
        }
        Ok(self.of_text.as_deref().unwrap_or_default())
    }
}

#[derive(Default)]
struct Results {
    summary: Summary,
    /// Each file with its hash.
    files: BTreeMap<Place, String>,
    samples: u64,
}

/// State shared by the jobs.
struct Work<'a> {
    batch: &'a Batch<'a>,
    journal: Journal,
    lines: Mutex<Lines<'a>>,
    results: Mutex<Results>,
    /// Set if another job has met an error that ends all work.
    failed: AtomicBool,
    progress: &'a (dyn Fn(Progress<'_>) + Sync),
}

impl Work<'_> {
    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn job(&self) -> Result<()> {
        let result = self.take_lines();
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        result
    }

    fn take_lines(&self) -> Result<()> {
        while !self.batch.stop.load(Ordering::Relaxed) && !self.failed.load(Ordering::Relaxed) {
            let next = self.lines.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(next) = next? else { break };
            match next {
                Next::Blank => {}
                Next::Repeated => {
                    let summary = &mut self.results().summary;
                    summary.lines += 1;
                    summary.repeated += 1;
                }
                Next::Bad(line, error) => self.report(line, &error),
                Next::Utterance(line, utterance) => {
                    match self.finish(&utterance) {
                        Ok((done, spoken)) => {
                            let mut results = self.results();
                            results.summary.lines += 1;
                            *(if spoken {
                                &mut results.summary.spoken
                            } else {
                                &mut results.summary.skipped
                            }) += 1;
                            results.samples += done.samples;
                            results.files.insert(utterance.place, done.sha256);
                        }
                        Err(Failure::Line(error)) => self.report(line, &error),
                        Err(Failure::All(error)) => return Err(error),
                    };
                }
            }
            (self.progress)(Progress::Line);
        }
        Ok(())
    }

    fn report(&self, line: u64, error: &Error) {
        (self.progress)(Progress::Bad(line, error));
        let summary = &mut self.results().summary;
        summary.lines += 1;
        summary.failed += 1;
        if summary.errors.len() < MOST_LISTED {
            summary.errors.push(BadLine { line, error: describe(error) });
        }
    }

    /// Creates the utterance's file unless it exists; the flag is true if it was spoken.
    fn finish(&self, utterance: &Utterance) -> Result<(Done, bool), Failure> {
        let place = &utterance.place;
        let path = place.prepare(self.batch.output).map_err(Failure::Line)?;
        let there = match fs::symlink_metadata(&path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Failure::Line(anyhow!("{place}: {error}"))),
        };
        if let (Some(metadata), Some(done)) = (&there, self.journal.find(place)) {
            if done.content != utterance.content {
                return Err(Failure::Line(anyhow!(
                    "{place}: exists already, spoken from another line, by another voice or with other options; delete it or \
                     take another folder"
                )));
            }
            if !metadata.is_file() || metadata.len() != done.bytes {
                return Err(Failure::Line(anyhow!(
                    "{place}: expected the {} bytes that were written, found {}; delete it",
                    done.bytes,
                    metadata.len()
                )));
            }
            return Ok((done.clone(), false));
        }
        let (bytes, samples) = self.speak(utterance).map_err(Failure::Line)?;
        if there.is_none() {
            self.write(&path, &bytes).map_err(Failure::All)?;
        } else if fs::read(&path).ok().as_ref() != Some(&bytes) {
            // With the same bytes, an earlier run was interrupted between the file and its line in the
            // journal.
            return Err(Failure::Line(anyhow!(
                "{place}: exists already, and differs from this line's audio; delete it or use another folder"
            )));
        }
        let sha256 = hex(&Sha256::digest(&bytes));
        let mut done = Done::new(utterance.content.clone(), sha256, bytes.len() as u64, samples);
        let added = self.journal.add(place, &mut done);
        added.map_err(|error| Failure::All(anyhow!("{}: {error}", self.batch.output.display())))?;
        Ok((done, true))
    }

    /// The file's bytes, and its number of samples.
    fn speak(&self, utterance: &Utterance) -> Result<(Vec<u8>, u64)> {
        let Batch { voice, reading, silence, format, .. } = self.batch;
        let pieces = match &utterance.said {
            Said::Ids(ids) => vec![Piece::of_ids(ids.clone())],
            Said::Text(text) => reading.pieces(text)?,
        };
        let rate = voice.info().sample_rate;
        let seconds = |seconds: f64| (seconds * f64::from(rate)).round() as usize;
        let mut samples = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            if index > 0 {
                samples.resize(samples.len() + seconds(*silence), 0.0);
            }
            if !piece.is_pause() {
                let length = utterance.scales.length / piece.rate;
                let options = SpeakOptions::new()
                    .speaker(utterance.speaker.clone())
                    .scales(Scales { length, ..utterance.scales })
                    .seed(utterance.seed.unwrap_or_else(|| seed_of(&piece.ids)))
                    .chunking(Chunking::Fixed(CHUNK));
                samples.append(&mut voice.synthesize(&piece.ids, &options)?);
            }
            samples.resize(samples.len() + seconds(piece.pause.as_secs_f64()), 0.0);
            ensure!(
                samples.len() <= LONGEST,
                "is longer than {} minutes; divide its text into several lines",
                LONGEST / rate as usize / 60
            );
        }
        Ok((format.encode(&samples, rate)?, samples.len() as u64))
    }

    fn write(&self, path: &PathBuf, bytes: &[u8]) -> Result<()> {
        let write = || -> io::Result<()> {
            let mut file = self.journal.temporary()?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist_noclobber(path).map_err(|error| error.error)?;
            Ok(())
        };
        write().with_context(|| path.display().to_string())
    }
}
