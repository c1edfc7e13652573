//! Sources of phonemes.
//!
//! espeak-ng is licensed under the GPL, so it is not part of this crate: [`EspeakLibrary`] loads the user's
//! copy, [`EspeakProgram`] and [`Command`] talk to a program, and [`Recorded`] has recorded answers. A
//! server's threads share a [`Pool`] of phonemizers.

mod command;
mod espeak_program;
#[cfg(any(unix, windows))]
mod find;
#[cfg(any(unix, windows))]
mod library;
mod pool;
mod recorded;
mod serve;

use std::fmt;
use std::time::Duration;

pub use command::{Command, MAX_ANSWER, TIME_LIMIT};
pub use espeak_program::EspeakProgram;
#[cfg(any(unix, windows))]
pub use find::find;
#[cfg(any(unix, windows))]
pub use library::{ENVIRONMENT, EspeakLibrary, Location};
pub use pool::Pool;
pub use recorded::Recorded;
pub use serve::serve_phonemizer;

/// Converts text to phonemes.
pub trait Phonemizer {
    /// The IPA of one clause as pronounced by espeak-ng's `voice`. The mark at the clause's end is part of it
    /// and is silent.
    ///
    /// # Errors
    /// When there is no such voice or no answer. The next clause may succeed.
    fn ipa(&mut self, voice: &str, clause: &str) -> Result<String, PhonemizerError>;

    /// A description of the phonemizer.
    fn about(&self) -> About;
}

impl<P: Phonemizer + ?Sized> Phonemizer for Box<P> {
    fn ipa(&mut self, voice: &str, clause: &str) -> Result<String, PhonemizerError> {
        (**self).ipa(voice, clause)
    }

    fn about(&self) -> About {
        (**self).about()
    }
}

/// The phonemizer for a command: `espeak-ng` itself, or a program that speaks JSON lines ([`Command`]).
///
/// # Errors
/// When it is not a valid command.
pub fn from_command(command: &str) -> Result<Box<dyn Phonemizer + Send>, PhonemizerError> {
    let command = Command::parse(command)?;
    Ok(if command.is_espeak() { Box::new(EspeakProgram::new(command.program())) } else { Box::new(command) })
}

/// A description of a phonemizer.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct About {
    /// The library's file, or the command.
    pub library: String,
    /// Its version, if known.
    #[serde(default)]
    pub version: String,
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.library)?;
        if !self.version.is_empty() {
            write!(f, " ({})", self.version)?;
        }
        Ok(())
    }
}

/// The reason why there are no phonemes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PhonemizerError {
    /// No copy of espeak-ng was found.
    #[error(
        "no espeak-ng library was found ({tried}); install it: \
         Debian and Ubuntu `apt install libespeak-ng1`, Fedora `dnf install espeak-ng`, Arch `pacman -S espeak-ng`, \
         macOS `brew install espeak-ng`, Windows `winget install eSpeak-NG.eSpeak-NG`; \
         or name the library in the environment variable VITSTREAM_ESPEAK"
    )]
    NotInstalled {
        /// The places searched.
        tried: String,
    },
    /// The file is not an espeak-ng library, or its data is missing.
    #[error("{path}: {problem}")]
    Library {
        /// The file.
        path: String,
        /// The problem.
        problem: String,
    },
    /// espeak-ng has no such voice.
    #[error("espeak-ng has no voice {voice:?}{}", near_names(.near))]
    UnknownVoice {
        /// Its name.
        voice: String,
        /// Names of similar voices.
        near: Vec<String>,
    },
    /// A program that does not answer as required.
    #[error("the phonemizer `{command}` {problem}")]
    Command {
        /// The command.
        command: String,
        /// The problem.
        problem: String,
    },
    /// All phonemizers of a [`Pool`] were in use.
    #[error("all {count} phonemizers were busy for {waited:?}")]
    Busy {
        /// Number of phonemizers.
        count: usize,
        /// Time spent waiting for one.
        waited: Duration,
    },
    /// The text contains a NUL, which C cannot represent.
    #[error("a phonemizer takes no NUL character")]
    Nul,
    /// No answer was recorded.
    #[error("no recorded answer for {clause:?} in the voice {voice:?}")]
    NotRecorded {
        /// The voice.
        voice: String,
        /// The clause, shortened if long.
        clause: String,
    },
    /// The phonemizer's own message.
    #[error("{0}")]
    Other(String),
}

fn near_names(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; near names: {}", names.join(", ")) }
}
