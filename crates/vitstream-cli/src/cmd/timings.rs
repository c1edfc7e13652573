//! What `speak --timings` writes: when each phoneme is spoken.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use vitstream::Voice;
use vitstream::staging::Output;

use super::speak::Line;

/// Lines of JSON beside the file that they will be, which takes its place when all is spoken.
pub(super) struct Timings {
    path: PathBuf,
    file: Output,
    sample_rate: f64,
}

/// One line.
#[derive(Serialize)]
struct Utterance<'a> {
    utterance: &'a str,
    /// The utterance's own file, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_file: Option<&'a Path>,
    /// Seconds from the first sample of the output.
    start: f64,
    end: f64,
    phonemes: Vec<Phoneme>,
}

#[derive(Serialize)]
struct Phoneme {
    index: usize,
    id: i64,
    /// Seconds from the first sample of the output.
    start: f64,
    end: f64,
}

impl Timings {
    pub(super) fn create(path: &Path, voice: &Voice) -> Result<Self> {
        ensure!(
            voice.gives_durations(),
            "--timings: this voice's encoder.onnx does not tell the phonemes' durations; export the voice with --durations, or \
             speak straight from the file that it was made of"
        );
        let sample_rate = f64::from(voice.info().sample_rate);
        Ok(Self { path: path.to_owned(), file: Output::create(path)?, sample_rate })
    }

    /// Adds an utterance of `samples` samples that begins at sample `start` of the output; `durations` are samples too.
    pub(super) fn add(
        &mut self,
        utterance: &str,
        line: &Line,
        durations: &[usize],
        start: u64,
        samples: usize,
    ) -> Result<()> {
        // A microsecond is far less than a sample.
        let seconds = |sample: u64| (sample as f64 / self.sample_rate * 1e6).round() / 1e6;
        let mut at = start;
        let phonemes = line.phoneme_ids.iter().zip(durations).enumerate().map(|(index, (&id, &duration))| {
            let start = seconds(at);
            at += duration as u64;
            Phoneme { index, id, start, end: seconds(at) }
        });
        let phonemes = phonemes.collect();
        let end = seconds(start + samples as u64);
        let output_file = line.output_file.as_deref();
        let line = Utterance { utterance, output_file, start: seconds(start), end, phonemes };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| self.path.display().to_string())
    }

    pub(super) fn finish(self) -> Result<()> {
        Ok(self.file.finish()?)
    }
}
