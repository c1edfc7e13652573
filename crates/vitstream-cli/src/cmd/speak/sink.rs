//! Destinations of the samples.

use std::io::{self, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use vitstream::staging::Output;
use vitstream::wav;

use crate::cmd::terminal::{Stdout, of_output, say};
use crate::play::Player;

/// Takes samples. Nothing is created, and no sound device opened, before the first samples.
pub(super) enum Sink {
    /// A file, a pipe, or standard output.
    Written(Written),
    /// The loudspeaker.
    Played { sample_rate: u32, player: Option<Player>, samples: u64 },
}

impl Sink {
    /// Bare samples on standard output.
    pub(super) fn raw() -> Self {
        Self::Written(Written::raw())
    }

    /// A WAV file; `-` for standard output.
    pub(super) fn wav(path: &Path, sample_rate: u32, single: bool) -> Self {
        Self::Written(Written::wav(path, sample_rate, single))
    }

    /// A WAV file under a name that the user did not choose: an existing file is kept.
    pub(super) fn wav_anew(path: &Path, sample_rate: u32, single: bool) -> Self {
        Self::Written(Written { replaces: false, ..Written::wav(path, sample_rate, single) })
    }

    /// The loudspeaker.
    pub(super) fn played(sample_rate: u32) -> Self {
        Self::Played { sample_rate, player: None, samples: 0 }
    }

    /// Number of samples so far.
    pub(super) fn written(&self) -> u64 {
        match self {
            Self::Written(file) => file.written,
            Self::Played { samples, .. } => *samples,
        }
    }

    /// Writes samples; `total` is the number of samples of this utterance.
    pub(super) fn write(&mut self, samples: &[f32], total: Option<usize>) -> Result<()> {
        match self {
            Self::Written(file) => file.write(samples, total),
            Self::Played { sample_rate, player, samples: played } => {
                let player = match player {
                    Some(player) => player,
                    None => player.insert(Player::open(*sample_rate)?),
                };
                *played += samples.len() as u64;
                player.write(samples)
            }
        }
    }

    /// No samples follow immediately: those so far are played, and silence after them is not a gap.
    pub(super) fn end_utterance(&mut self) -> Result<()> {
        match self {
            Self::Played { player: Some(player), .. } => player.end_utterance(),
            _ => Ok(()),
        }
    }

    /// Puts a file into its place, or waits until everything has been played. With `stats`, reports the
    /// number of underruns.
    pub(super) fn finish(self, stats: bool) -> Result<()> {
        match self {
            Self::Written(file) => file.finish(),
            Self::Played { player: None, .. } => Ok(()),
            Self::Played { player: Some(player), .. } => {
                let underruns = player.finish()?;
                if stats {
                    say(&format!("played with {underruns} underruns"));
                }
                Ok(())
            }
        }
    }
}

/// Writes samples to a file or a stream.
pub(super) struct Written {
    /// `None` is standard output.
    path: Option<PathBuf>,
    /// `None` writes no header.
    sample_rate: Option<u32>,
    /// Set if the first utterance is the only one.
    single: bool,
    /// Set if an existing file is replaced.
    replaces: bool,
    written: u64,
    target: Option<Target>,
}

enum Target {
    Stdout(Stdout),
    Output(Output),
}

impl Written {
    /// Bare samples on standard output.
    fn raw() -> Self {
        Self { path: None, sample_rate: None, single: false, replaces: true, written: 0, target: None }
    }

    /// A WAV file; `-` for standard output.
    fn wav(path: &Path, sample_rate: u32, single: bool) -> Self {
        let path = (path != Path::new("-")).then(|| path.to_owned());
        Self { path, sample_rate: Some(sample_rate), single, replaces: true, written: 0, target: None }
    }

    /// Writes samples; `total` is the number of samples of this utterance.
    fn write(&mut self, samples: &[f32], total: Option<usize>) -> Result<()> {
        let mut bytes = Vec::new();
        let mut target = match self.target.take() {
            Some(target) => target,
            None => {
                let known = total.filter(|_| self.single).map(|total| total as u64);
                bytes.extend(self.sample_rate.iter().flat_map(|&rate| wav::header(rate, known)));
                match &self.path {
                    None => Target::Stdout(Stdout),
                    Some(path) => Target::Output(Output::create(path)?),
                }
            }
        };
        bytes.extend(wav::s16le(samples));
        self.named(target.write(&bytes))?;
        self.written += samples.len() as u64;
        self.target = Some(target);
        Ok(())
    }

    /// Puts a file into its place.
    fn finish(mut self) -> Result<()> {
        let Some(Target::Output(mut output)) = self.target.take() else { return Ok(()) };
        if let Some(rate) = self.sample_rate.filter(|_| !output.is_stream()) {
            let header = wav::header(rate, Some(self.written));
            self.named(output.seek(SeekFrom::Start(0)).and_then(|_| output.write_all(&header)))?;
        }
        if self.replaces {
            output.finish()?;
        } else {
            output.finish_anew()?;
        }
        Ok(())
    }

    fn named<T>(&self, result: io::Result<T>) -> Result<T> {
        let result = result.map_err(of_output);
        match &self.path {
            Some(path) => result.with_context(|| path.display().to_string()),
            None => Ok(result?),
        }
    }
}

impl Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => {
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::Output(output) => {
                output.write_all(bytes)?;
                // The stream may have a listener.
                if output.is_stream() { output.flush() } else { Ok(()) }
            }
        }
    }
}
