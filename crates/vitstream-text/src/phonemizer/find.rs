//! Finds the phonemizer on this machine.

use super::{EspeakLibrary, EspeakProgram, Location, Phonemizer, PhonemizerError};

/// The espeak-ng library that is `named`, or else the one that [`EspeakLibrary::find`] finds; if none is
/// found, the program `espeak-ng`.
///
/// # Errors
/// When the named library cannot be used, or neither exists; the error then says what to install.
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
