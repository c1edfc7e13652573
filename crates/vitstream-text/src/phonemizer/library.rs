//! libespeak-ng, loaded at run time.

#[allow(unsafe_code, reason = "the one place that calls C; its contracts are written there")]
mod ffi;

use std::env;
use std::ffi::{CString, OsStr};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{About, Phonemizer, PhonemizerError};
use ffi::Espeak;

/// Environment variable that names the library as `LIB[:DATA]`.
pub const ENVIRONMENT: &str = "VITSTREAM_ESPEAK";

const DATA: &str = "espeak-ng-data";

/// Names of the library for the system's linker.
const NAMES: &[&str] = if cfg!(windows) {
    &["libespeak-ng.dll", "espeak-ng.dll"]
} else if cfg!(target_os = "macos") {
    &["libespeak-ng.1.dylib", "libespeak-ng.dylib"]
} else {
    &["libespeak-ng.so.1", "libespeak-ng.so"]
};

/// Paths where installers put the library without registering it with the linker.
const PLACES: &[&str] = if cfg!(windows) {
    &[r"C:\Program Files\eSpeak NG\libespeak-ng.dll"]
} else if cfg!(target_os = "macos") {
    &["/opt/homebrew/lib/libespeak-ng.1.dylib", "/usr/local/lib/libespeak-ng.1.dylib"]
} else {
    &[]
};

/// A library and its data.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Location {
    /// The library: a path, or a name for the system's linker.
    pub library: PathBuf,
    /// The folder `espeak-ng-data`, or its parent. Without it: next to the library, else the library's
    /// default location.
    pub data: Option<PathBuf>,
}

impl Location {
    /// Parses `LIB[:DATA]`.
    pub fn parse(text: &str) -> Self {
        let whole = Self { library: text.into(), data: None };
        if Path::new(text).is_file() {
            return whole;
        }
        // The colon of `C:\` is not a separator.
        let is_drive = |at: usize| {
            let letter = text[..at].chars().next_back().is_some_and(|c| c.is_ascii_alphabetic());
            let first = at == 1 || text[..at - 1].ends_with(':');
            letter && first && text[at + 1..].starts_with(['\\', '/'])
        };
        let colon = text.match_indices(':').map(|(at, _)| at).find(|&at| at > 0 && !is_drive(at));
        match colon {
            Some(at) => Self { library: text[..at].into(), data: Some(text[at + 1..].into()) },
            None => whole,
        }
    }

    fn key(&self) -> PathBuf {
        fs::canonicalize(&self.library).unwrap_or_else(|_| self.library.clone())
    }

    fn error(&self, problem: impl Into<String>) -> PhonemizerError {
        PhonemizerError::Library { path: self.library.display().to_string(), problem: problem.into() }
    }

    /// The parent of the data folder, as the library expects it.
    fn data_folder(&self) -> Result<Option<PathBuf>, PhonemizerError> {
        let is_data = |folder: &Path| folder.join("phontab").is_file();
        let Some(named) = &self.data else {
            let beside = self.key().parent().map(Path::to_owned);
            return Ok(beside.filter(|folder| is_data(&folder.join(DATA))));
        };
        if is_data(&named.join(DATA)) {
            return Ok(Some(named.clone()));
        }
        if !is_data(named) {
            return Err(self.error(format!(
                "expected its data in {0} or in {0}/{DATA}, found no file `phontab` there",
                named.display()
            )));
        }
        let named = fs::canonicalize(named).unwrap_or_else(|_| named.clone());
        let holder = named.parent().filter(|_| named.file_name() == Some(OsStr::new(DATA)));
        Ok(Some(holder.map_or_else(|| named.clone(), Path::to_owned)))
    }
}

/// A copy of libespeak-ng. It has one state for the whole process, so all users take turns; for parallel use,
/// run it in several processes ([`serve_phonemizer`](super::serve_phonemizer)).
#[derive(Debug)]
pub struct EspeakLibrary {
    /// Its index among the loaded libraries.
    index: usize,
    about: About,
}

/// A library stays loaded until the process ends, because it cannot be told to release its data.
#[derive(Debug)]
struct Loaded {
    key: PathBuf,
    data: Option<PathBuf>,
    espeak: Espeak,
    voice: Option<String>,
}

/// All loaded libraries; a caller of any of them holds this lock.
static LOADED: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

fn loaded() -> MutexGuard<'static, Vec<Loaded>> {
    // No entry is ever left half changed.
    LOADED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EspeakLibrary {
    /// The library that is `named`, or the one in the environment variable [`ENVIRONMENT`]; else the one next
    /// to the program, else the system's.
    ///
    /// # Errors
    /// When the named library cannot be used, or none is found; the error then says what to install.
    pub fn find(named: Option<&Location>) -> Result<Self, PhonemizerError> {
        if let Some(named) = named {
            return Self::open(named);
        }
        if let Some(named) = env::var_os(ENVIRONMENT).filter(|value| !value.is_empty()) {
            let named = named.into_string().map_err(|value| {
                PhonemizerError::Other(format!("{ENVIRONMENT}: expected UTF-8, found {}", value.display()))
            })?;
            return Self::open(&Location::parse(&named));
        }
        let folder = env::current_exe().ok().and_then(|program| program.parent().map(Path::to_owned));
        let beside = folder.iter().flat_map(|folder| NAMES.iter().map(|name| folder.join(name)));
        let places = PLACES.iter().map(PathBuf::from);
        let files = beside.chain(places).filter(|path| path.is_file());
        let mut tried = Vec::new();
        for library in files.chain(NAMES.iter().map(PathBuf::from)) {
            match Self::open(&Location { library, data: None }) {
                Ok(found) => return Ok(found),
                Err(error) => tried.push(error.to_string()),
            }
        }
        Err(PhonemizerError::NotInstalled { tried: tried.join("; ") })
    }

    /// Opens the library at a location. It is code, so only a trusted one may be named.
    ///
    /// # Errors
    /// When it cannot be loaded, is not espeak-ng, or does not find its data.
    pub fn open(location: &Location) -> Result<Self, PhonemizerError> {
        let data = location.data_folder()?;
        let key = location.key();
        let mut all = loaded();
        let index = match all.iter().position(|loaded| loaded.key == key) {
            Some(index) if all[index].data == data => index,
            Some(_) => {
                return Err(location.error("it is already loaded with other data, which cannot be changed"));
            }
            None => {
                let mut espeak =
                    Espeak::load(&location.library).map_err(|problem| location.error(problem))?;
                let path = data.as_ref().map(|path| c_path(path)).transpose();
                let path = path.map_err(|()| location.error("its path contains a NUL character"))?;
                if espeak.initialize(path.as_deref()) < 0 {
                    let place = data.as_ref().map_or("in its default location", |_| "there");
                    return Err(location.error(format!("it cannot read its data ({DATA}) {place}")));
                }
                all.push(Loaded { key, data, espeak, voice: None });
                all.len() - 1
            }
        };
        let library = location.library.display().to_string();
        Ok(Self { index, about: About { library, version: all[index].espeak.version() } })
    }
}

fn c_path(path: &Path) -> Result<CString, ()> {
    CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| ())
}

impl Loaded {
    fn set_voice(&mut self, voice: &str) -> Result<(), PhonemizerError> {
        if self.voice.as_deref() == Some(voice) {
            return Ok(());
        }
        let name = CString::new(voice).map_err(|_| PhonemizerError::Nul)?;
        // The library accepts an empty name, which has no meaning.
        if voice.is_empty() || self.espeak.set_voice(&name) != 0 {
            // The current voice is unknown now.
            self.voice = None;
            let near = near(voice, &self.espeak.voices());
            return Err(PhonemizerError::UnknownVoice { voice: voice.chars().take(60).collect(), near });
        }
        self.voice = Some(voice.to_owned());
        Ok(())
    }
}

/// Names of the voices closest to `voice`, the best first: those of its language, preceded by one that lists
/// this exact code among its languages, because many voices are not named after their languages.
fn near(voice: &str, voices: &[(String, Vec<String>)]) -> Vec<String> {
    const SHOWN: usize = 5;
    let wanted = voice.to_lowercase();
    let language = |name: &str| name.split(['-', '_']).next().unwrap_or_default().to_lowercase();
    let likeness = |name: &str| {
        let same = language(name) == language(&wanted);
        strsim::jaro_winkler(&wanted, &name.to_lowercase()) + if same { 1.0 } else { 0.0 }
    };
    let mut named: Vec<(f64, &str)> = voices
        .iter()
        .map(|(file, languages)| {
            let names = languages.iter().map(|name| likeness(name) + 0.01).chain([likeness(file)]);
            (names.fold(0.0, f64::max), &**file)
        })
        .filter(|&(likeness, _)| likeness > 0.75)
        .collect();
    named.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    named.into_iter().take(SHOWN).map(|(_, name)| name.to_owned()).collect()
}

impl Phonemizer for EspeakLibrary {
    fn ipa(&mut self, voice: &str, clause: &str) -> Result<String, PhonemizerError> {
        let text = CString::new(clause).map_err(|_| PhonemizerError::Nul)?;
        let mut all = loaded();
        let loaded = &mut all[self.index];
        loaded.set_voice(voice)?;
        let parts = loaded.espeak.phonemes(&text);
        if clause.ends_with("..") {
            // The library keeps a dot for the next text, which would begin with the word "dot"; an empty text
            // resets it.
            loaded.espeak.phonemes(c"");
        }
        let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
        Ok(parts.collect::<Vec<_>>().join(" "))
    }

    fn about(&self) -> About {
        self.about.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_library_and_maybe_its_data() {
        let parse = |text: &str| {
            let location = Location::parse(text);
            let show = |path: PathBuf| path.display().to_string();
            (show(location.library), location.data.map(show))
        };
        let both = |library: &str, data: &str| (library.to_owned(), Some(data.to_owned()));
        assert_eq!(parse("/a/lib.so"), ("/a/lib.so".to_owned(), None));
        assert_eq!(parse("/a/lib.so:/b"), both("/a/lib.so", "/b"));
        assert_eq!(parse(r"C:\a\x.dll:D:\b"), both(r"C:\a\x.dll", r"D:\b"));
        assert_eq!(parse(r"C:\a\x.dll"), (r"C:\a\x.dll".to_owned(), None));
    }

    #[test]
    fn a_file_that_is_no_library_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libespeak-ng.so.1");
        fs::write(&path, "text").unwrap();
        let mut location = Location { library: path, data: None };
        let error = EspeakLibrary::open(&location).unwrap_err().to_string();
        assert!(error.contains("libespeak-ng.so.1"), "{error}");
        assert!(!error.ends_with("dlopen failed"), "it does not say why: {error}");
        location.data = Some(folder.path().to_owned());
        let error = EspeakLibrary::open(&location).unwrap_err().to_string();
        assert!(error.contains("found no file `phontab`"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_library_of_another_kind_is_refused() {
        let location = Location { library: "libc.so.6".into(), data: None };
        let error = EspeakLibrary::open(&location).unwrap_err().to_string();
        assert!(error.contains("espeak_Initialize"), "{error}");
    }

    #[test]
    fn near_names_are_of_the_language_first() {
        let voice = |file: &str, languages: &[&str]| {
            (file.to_owned(), languages.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())
        };
        let names = [
            voice("af", &["af"]),
            voice("en-us", &["en-us"]),
            voice("en", &["en-gb", "en"]),
            voice("fr-BE", &["fr-be"]),
            voice("fr", &["fr-fr", "fr"]),
        ];
        assert_eq!(near("fr-fr", &names), ["fr", "fr-BE"]);
        assert_eq!(near("EN-GB", &names), ["en", "en-us"]);
        assert!(near("xyzzy", &names).is_empty());
    }
}
