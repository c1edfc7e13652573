//! Where phonemes come from.
//!
//! espeak-ng is licensed under the GPL, so it is no part of this crate: [`EspeakLibrary`] loads a copy that the user
//! has, [`EspeakProgram`] and [`Command`] speak to a program, and [`Recorded`] knows its answers beforehand. A server's
//! threads share a [`Pool`] of them.

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

/// Says how text sounds.
pub trait Phonemizer {
    /// The IPA of one clause, as espeak-ng's `voice` says it. The mark at the clause's end is part of it and has no
    /// sound.
    ///
    /// # Errors
    /// When there is no such voice or no answer. The next clause may fare better.
    fn ipa(&mut self, voice: &str, clause: &str) -> Result<String, PhonemizerError>;

    /// Who answers.
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

/// The phonemizer that a command is: `espeak-ng` itself, or a program that speaks JSON lines ([`Command`]).
///
/// # Errors
/// When it is no command.
pub fn from_command(command: &str) -> Result<Box<dyn Phonemizer + Send>, PhonemizerError> {
    let command = Command::parse(command)?;
    Ok(if command.is_espeak() { Box::new(EspeakProgram::new(command.program())) } else { Box::new(command) })
}

/// Who answers.
#[derive(Clone, Debug, Default, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct About {
    /// The file of the library, or the command.
    pub library: String,
    /// Its version, if it says.
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

/// No phonemes, and why.
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
        /// Where it was looked for.
        tried: String,
    },
    /// A file that is no espeak-ng library, or one whose data is not there.
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
        /// Names of voices that are like it.
        near: Vec<String>,
    },
    /// A program that does not answer as it should.
    #[error("the phonemizer `{command}` {problem}")]
    Command {
        /// The command.
        command: String,
        /// The problem.
        problem: String,
    },
    /// Others had all phonemizers of a [`Pool`].
    #[error("all {count} phonemizers were busy for {waited:?}")]
    Busy {
        /// Phonemizers there are.
        count: usize,
        /// How long one was waited for.
        waited: Duration,
    },
    /// Text that C cannot take.
    #[error("a phonemizer takes no NUL character")]
    Nul,
    /// No answer was recorded.
    #[error("no recorded answer for {clause:?} in the voice {voice:?}")]
    NotRecorded {
        /// The voice.
        voice: String,
        /// The clause, its beginning if it is long.
        clause: String,
    },
    /// The phonemizer's own message.
    #[error("{0}")]
    Other(String),
}

fn near_names(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("; near names: {}", names.join(", ")) }
}
