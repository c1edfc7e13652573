//! The phonemizer of this machine.

use super::{EspeakLibrary, EspeakProgram, Location, Phonemizer, PhonemizerError};

/// The espeak-ng library that is `named`, or that [`EspeakLibrary::find`] finds by itself; where none is found, the program
/// `espeak-ng`.
///
/// # Errors
/// When the named one cannot be used, or neither is there: that error says what to install.
pub fn find(named: Option<&Location>) -> Result<Box<dyn Phonemizer + Send>, PhonemizerError> {
    match EspeakLibrary::find(named) {
        Ok(library) => Ok(Box::new(library)),
        Err(absent @ PhonemizerError::NotInstalled { .. }) => {
            let mut program = EspeakProgram::new("espeak-ng");
            match program.version() {
                Ok(_) => Ok(Box::new(program)),
                Err(_) => Err(absent),
            }
        }
        Err(error) => Err(error),
    }
}
