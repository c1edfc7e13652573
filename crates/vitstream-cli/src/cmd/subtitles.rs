//! The output of `speak --srt` and `--vtt`: sentences and their times.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use vitstream::staging::Output;

use super::piece::Piece;
use super::timings::starts;

/// Limit on the characters of a cue: two lines of the usual 42.
const LONGEST_CUE: usize = 84;

/// The two subtitle formats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Format {
    Srt,
    /// WebVTT, which can contain the time of each word.
    Vtt,
}

/// Subtitles in a temporary file, which takes its place when everything has been spoken.
pub(super) struct Subtitles {
    path: PathBuf,
    file: Output,
    format: Format,
    sample_rate: u32,
    cues: u64,
}

/// Words that are shown together, each with the sample at which it begins.
#[derive(Debug, PartialEq)]
struct Cue {
    start: u64,
    end: u64,
    words: Vec<(u64, String)>,
}

impl Subtitles {
    pub(super) fn create(path: &Path, format: Format, sample_rate: u32) -> Result<Self> {
        let mut subtitles =
            Self { path: path.to_owned(), file: Output::create(path)?, format, sample_rate, cues: 0 };
        if format == Format::Vtt {
            subtitles.write("WEBVTT\n\n")?;
        }
        Ok(subtitles)
    }

    /// Adds a sentence of `samples` samples that begins at sample `start` of the output. Without `durations`,
    /// also in samples, the times of its words are unknown.
    pub(super) fn add(
        &mut self,
        piece: &Piece,
        durations: Option<&[usize]>,
        start: u64,
        samples: usize,
    ) -> Result<()> {
        for cue in cues(piece, durations, start, start + samples as u64) {
            self.cues += 1;
            let text = self.entry(&cue);
            self.write(&text)?;
        }
        Ok(())
    }

    fn entry(&self, cue: &Cue) -> String {
        let time =
            |sample| time(sample, self.sample_rate, if self.format == Format::Srt { ',' } else { '.' });
        let mut text = match self.format {
            Format::Srt => format!("{}\n", self.cues),
            Format::Vtt => String::new(),
        };
        text += &format!("{} --> {}\n", time(cue.start), time(cue.end));
        for (index, (start, word)) in cue.words.iter().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            match self.format {
                Format::Srt => text += &word.replace("-->", "->"),
                Format::Vtt => {
                    if index > 0 {
                        text += &format!("<{}>", time(*start));
                    }
                    text += &word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                }
            }
        }
        text + "\n\n"
    }

    fn write(&mut self, text: &str) -> Result<()> {
        self.file.write_all(text.as_bytes()).with_context(|| self.path.display().to_string())
    }

    pub(super) fn finish(self) -> Result<()> {
        Ok(self.file.finish()?)
    }
}

/// The cues of a sentence between two samples of the output.
fn cues(piece: &Piece, durations: Option<&[usize]>, start: u64, end: u64) -> Vec<Cue> {
    // White space may contain line ends, which would end a cue.
    let text = piece.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let durations = durations.unwrap_or_default();
    if text.is_empty() {
        return Vec::new();
    }
    if durations.is_empty() || piece.words.is_empty() {
        return vec![Cue { start, end, words: vec![(start, text)] }];
    }
    let starts = starts(start, durations);
    let at = |index: usize| starts[index.min(durations.len())];
    let mut cues: Vec<Cue> = Vec::new();
    let mut length = 0;
    for word in &piece.words {
        let begin = at(word.ids.start);
        length += word.text.chars().count() + 1;
        match cues.last_mut() {
            Some(cue) if length <= LONGEST_CUE => cue.words.push((begin, word.text.clone())),
            last => {
                // Each is shown until the next one.
                if let Some(last) = last {
                    last.end = begin;
                }
                length = word.text.chars().count() + 1;
                let start = if cues.is_empty() { start } else { begin };
                cues.push(Cue { start, end, words: vec![(begin, word.text.clone())] });
            }
        }
    }
    cues
}

/// Hours, minutes, seconds and, after `mark`, milliseconds.
fn time(sample: u64, sample_rate: u32, mark: char) -> String {
    let ms = sample * 1000 / u64::from(sample_rate);
    let (seconds, minutes, hours) = (ms / 1000 % 60, ms / 60_000 % 60, ms / 3_600_000);
    format!("{hours:02}:{minutes:02}:{seconds:02}{mark}{:03}", ms % 1000)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn piece(text: &str) -> Piece {
        let frontend = serde_json::json!({"phoneme_type": "text", "espeak": {"voice": "en"},
            "phoneme_id_map": {"^": [], "_": [], "$": [], " ": [1], "a": [2], "&": [3], "<": [4], "\n": [5]}});
        let frontend = vitstream_text::Frontend::from_json(frontend.as_object().unwrap()).unwrap();
        frontend.phonemes(text).into()
    }

    #[test]
    fn both_formats_are_written() {
        let folder = tempfile::tempdir().unwrap();
        let write = |format| {
            let path = folder.path().join("subtitles");
            let mut subtitles = Subtitles::create(&path, format, 1000).unwrap();
            subtitles.add(&piece("a a\n<a"), Some(&[500, 500, 500, 500, 500, 500]), 1000, 3000).unwrap();
            subtitles.add(&piece("aaa"), None, 3_661_000, 1).unwrap();
            subtitles.finish().unwrap();
            fs::read_to_string(path).unwrap()
        };
        assert_eq!(
            write(Format::Srt),
            "1\n00:00:01,000 --> 00:00:04,000\na a <a\n\n2\n01:01:01,000 --> 01:01:01,001\naaa\n\n"
        );
        assert_eq!(
            write(Format::Vtt),
            "WEBVTT\n\n00:00:01.000 --> 00:00:04.000\na <00:00:02.000>a <00:00:03.000>&lt;a\n\n\
             01:01:01.000 --> 01:01:01.001\naaa\n\n"
        );
    }

    #[test]
    fn long_sentences_become_several_cues_without_a_gap() {
        let text = vec!["aaaaaaaaa"; 20].join(" ");
        let piece = piece(&text);
        let durations = vec![1; piece.ids.len()];
        let found = cues(&piece, Some(&durations), 10, 10 + durations.len() as u64);
        assert_eq!(found.len(), 3);
        assert_eq!((found[0].start, found[2].end), (10, 10 + durations.len() as u64));
        assert!(found.windows(2).all(|pair| pair[0].end == pair[1].start));
        assert_eq!(found.iter().map(|cue| cue.words.len()).sum::<usize>(), 20);
    }
}
