//! Where the samples go.

use std::io::{self, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use vitstream::staging::Output;
use vitstream::wav;

use crate::cmd::terminal::{Stdout, of_output};

/// Takes samples. Nothing is created before there are some.
pub(super) struct Sink {
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
    Stdout(Stdout),
    Output(Output),
}

impl Sink {
    /// Bare samples on standard output.
    pub(super) fn raw() -> Self {
        Self { path: None, sample_rate: None, single: false, written: 0, target: None }
    }

    /// A WAV file; `-` for standard output.
    pub(super) fn wav(path: &Path, sample_rate: u32, single: bool) -> Self {
        let path = (path != Path::new("-")).then(|| path.to_owned());
        Self { path, sample_rate: Some(sample_rate), single, written: 0, target: None }
    }

    /// Samples so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// `total`: samples of this utterance.
    pub(super) fn write(&mut self, samples: &[f32], total: Option<usize>) -> Result<()> {
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
    pub(super) fn finish(mut self) -> Result<()> {
        let Some(Target::Output(mut output)) = self.target.take() else { return Ok(()) };
        if let Some(rate) = self.sample_rate.filter(|_| !output.is_stream()) {
            let header = wav::header(rate, Some(self.written));
            self.named(output.seek(SeekFrom::Start(0)).and_then(|_| output.write_all(&header)))?;
        }
        Ok(output.finish()?)
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
                // Somebody may be listening.
                if output.is_stream() { output.flush() } else { Ok(()) }
            }
        }
    }
}
