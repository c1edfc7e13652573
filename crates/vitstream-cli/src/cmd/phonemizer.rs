//! Which copy of espeak-ng is asked, and the process that asks it for a server.

use std::io;

use anyhow::Result;
use vitstream_text::phonemizer::{
    About, Location, Phonemizer, PhonemizerError, find, from_command, serve_phonemizer,
};

/// Who says how words sound.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Reading text")]
pub(crate) struct PhonemizerArgs {
    /// The espeak-ng library that says how words sound, and its data's folder [default: what the environment variable
    /// VITSTREAM_ESPEAK names, else the library beside this program or the system's, else the program espeak-ng]
    #[arg(long, value_name = "LIB[:DATA]", conflicts_with = "phonemizer")]
    pub(super) espeak: Option<String>,

    /// A program that says how words sound: espeak-ng, or one that answers lines {"voice": "en-us", "clause": "Hello, "}
    /// with {"ipa": "həlˈoʊ"}
    #[arg(long, value_name = "COMMAND")]
    pub(super) phonemizer: Option<String>,
}

impl PhonemizerArgs {
    pub(super) fn open(&self) -> Result<Box<dyn Phonemizer + Send>, PhonemizerError> {
        match &self.phonemizer {
            Some(command) => from_command(command),
            None => find(self.espeak.as_deref().map(Location::parse).as_ref()),
        }
    }
}

/// What a process of this program is called with to ask espeak-ng for another one.
#[cfg(feature = "serve")]
const WORKER: &str = "phonemizer-worker";

#[cfg(feature = "serve")]
impl PhonemizerArgs {
    /// The same in a process of its own, so that what crashes or hangs there costs a server a clause and not its life.
    pub(super) fn open_apart(&self) -> Result<Box<dyn Phonemizer + Send>, PhonemizerError> {
        if self.phonemizer.is_some() {
            return self.open();
        }
        let program = std::env::current_exe().map_err(|error| PhonemizerError::Other(error.to_string()))?;
        let program = program.to_string_lossy().into_owned();
        let named = self.espeak.iter().flat_map(|espeak| ["--espeak".to_owned(), espeak.clone()]);
        Ok(Box::new(vitstream_text::phonemizer::Command::new(
            program,
            std::iter::once(WORKER.to_owned()).chain(named),
        )))
    }
}

/// Nobody, and why: each clause is answered with it.
struct Nobody(String);

impl Phonemizer for Nobody {
    fn ipa(&mut self, _: &str, _: &str) -> Result<String, PhonemizerError> {
        Err(PhonemizerError::Other(self.0.clone()))
    }

    fn about(&self) -> About {
        About::default()
    }
}

/// `vitstream phonemizer-worker`: answers another process, which starts this one anew if the library ends it.
pub(crate) fn serve(args: &PhonemizerArgs) -> Result<()> {
    let mut phonemizer = args.open().unwrap_or_else(|error| Box::new(Nobody(error.to_string())));
    Ok(serve_phonemizer(io::stdin().lock(), io::stdout(), &mut *phonemizer)?)
}
