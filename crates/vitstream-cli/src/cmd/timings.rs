//! The output of `speak --timings`: the times of each phoneme.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use vitstream::Voice;
use vitstream::staging::Output;

use super::piece::Piece;

/// Lines of JSON in a temporary file, which takes its place when everything has been spoken.
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
    /// The sentence, if it was given as text.
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    words: Vec<Word<'a>>,
    phonemes: Vec<Phoneme>,
}

#[derive(Serialize)]
struct Word<'a> {
    text: &'a str,
    /// Seconds from the first sample of the output.
    start: f64,
    end: f64,
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
            "--timings: this voice's encoder.onnx does not provide the phonemes' durations; export the voice with --durations, or \
             speak straight from its source file"
        );
        let sample_rate = f64::from(voice.info().sample_rate);
        Ok(Self { path: path.to_owned(), file: Output::create(path)?, sample_rate })
    }

    /// Adds an utterance of `samples` samples that begins at sample `start` of the output; `durations` are in
    /// samples too.
    pub(super) fn add(
        &mut self,
        utterance: &str,
        output_file: Option<&Path>,
        piece: &Piece,
        durations: &[usize],
        start: u64,
        samples: usize,
    ) -> Result<()> {
        // A microsecond is far less than a sample.
        let seconds = |sample: u64| (sample as f64 / self.sample_rate * 1e6).round() / 1e6;
        let starts = starts(start, durations);
        let at = |index: usize| seconds(starts[index.min(durations.len())]);
        let phonemes = piece.ids.iter().zip(durations).enumerate();
        let phonemes =
            phonemes.map(|(index, (&id, _))| Phoneme { index, id, start: at(index), end: at(index + 1) });
        let words = piece.words.iter();
        let words =
            words.map(|word| Word { text: &word.text, start: at(word.ids.start), end: at(word.ids.end) });
        let line = Utterance {
            utterance,
            output_file,
            start: seconds(start),
            end: seconds(start + samples as u64),
            text: &piece.text,
            words: words.collect(),
            phonemes: phonemes.collect(),
        };
        let mut line = serde_json::to_vec(&line)?;
        line.push(b'\n');
        self.file.write_all(&line).with_context(|| self.path.display().to_string())
    }

    pub(super) fn finish(self) -> Result<()> {
        Ok(self.file.finish()?)
    }
}

/// The sample of the output at which each phoneme begins, and the end of the last one.
pub(super) fn starts(start: u64, durations: &[usize]) -> Vec<u64> {
    let mut at = start;
    let ends = durations.iter().map(|&duration| {
        at += duration as u64;
        at
    });
    [start].into_iter().chain(ends).collect()
}
