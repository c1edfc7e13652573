//! Selects the copy of espeak-ng, and runs it in a separate process for a server.

use std::io;

use anyhow::Result;
use vitstream_text::phonemizer::{
    About, Location, Phonemizer, PhonemizerError, find, from_command, serve_phonemizer,
};

/// Options for the phonemizer.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Reading text")]
pub(crate) struct PhonemizerArgs {
    /// The espeak-ng library to use, and its data folder [default: the environment variable VITSTREAM_ESPEAK,
    /// else the library next to this program or the system's, else the program espeak-ng]
    #[arg(long, value_name = "LIB[:DATA]", conflicts_with = "phonemizer")]
    pub(super) espeak: Option<String>,

    /// A phonemizer program: espeak-ng, or one that answers lines {"voice": "en-us", "clause": "Hello, "}
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

/// The argument with which a process of this program runs espeak-ng for another one.
#[cfg(feature = "serve")]
const WORKER: &str = "phonemizer-worker";

#[cfg(feature = "serve")]
impl PhonemizerArgs {
    /// As above, in a separate process, so that a crash or hang costs a server one clause and not its life.
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

/// No phonemizer; every clause is answered with the reason.
struct Nobody(String);

impl Phonemizer for Nobody {
    fn ipa(&mut self, _: &str, _: &str) -> Result<String, PhonemizerError> {
        Err(PhonemizerError::Other(self.0.clone()))
    }

    fn about(&self) -> About {
        About::default()
    }
}

/// `vitstream phonemizer-worker`: answers another process, which restarts this one if the library ends it.
pub(crate) fn serve(args: &PhonemizerArgs) -> Result<()> {
    let mut phonemizer = args.open().unwrap_or_else(|error| Box::new(Nobody(error.to_string())));
    Ok(serve_phonemizer(io::stdin().lock(), io::stdout(), &mut *phonemizer)?)
}
