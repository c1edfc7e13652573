//! The required functions of libespeak-ng, with the signatures from its documentation.
//!
//! # Contracts
//! - *Loading* runs the file's code, and a function found by name is assumed to have the signature below.
//!   Both are safe for libespeak-ng since 1.49; the caller who names a file promises that it is this library.
//! - *Threads*: the library has one global state. Every call except [`Espeak::load`] takes `&mut self`, and
//!   the only values of the type are behind one lock ([`super::LOADED`]).
//! - *Strings* are passed as `CStr`, which outlives the call; the library keeps none of them. Results are
//!   pointers to C strings owned by the library, valid until the next call, and are copied at once.

use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

use libloading::Library;

/// `AUDIO_OUTPUT_SYNCHRONOUS`: no device is opened until something is spoken, which never happens.
const SYNCHRONOUS: c_int = 2;
/// `espeakINITIALIZE_DONT_EXIT`: without it the library ends the process if it does not find its data.
const DONT_EXIT: c_int = 0x8000;
/// `espeakCHARS_AUTO`: UTF-8 is detected.
const TEXT_AUTO: c_int = 0;
/// IPA.
const IPA: c_int = 2;

type Initialize = unsafe extern "C" fn(c_int, c_int, *const c_char, c_int) -> c_int;
type SetVoiceByName = unsafe extern "C" fn(*const c_char) -> c_int;
type TextToPhonemes = unsafe extern "C" fn(*mut *const c_void, c_int, c_int) -> *const c_char;
type Info = unsafe extern "C" fn(*mut *const c_char) -> *const c_char;
type ListVoices = unsafe extern "C" fn(*mut Voice) -> *const *const Voice;

/// The start of the library's description of a voice; the rest is not read.
#[repr(C)]
struct Voice {
    name: *const c_char,
    /// For each language, a priority byte and a C string; a zero byte ends the list.
    languages: *const c_char,
    identifier: *const c_char,
}

/// A loaded library.
#[derive(Debug)]
pub(super) struct Espeak {
    initialize: Initialize,
    set_voice_by_name: SetVoiceByName,
    text_to_phonemes: TextToPhonemes,
    info: Info,
    list_voices: ListVoices,
    /// Owns the code of the functions.
    _library: Library,
}

impl Espeak {
    /// Loads the file, or the library that the linker knows under this name.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        // SAFETY: see "Loading" above.
        let library = unsafe { Library::new(path) }.map_err(|error| {
            // The error itself names the call that failed, its source gives the reason.
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            format!("it cannot be loaded: {why}")
        })?;
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: see "Loading" above. The pointer is used only while `_library` lives.
                *unsafe { library.get(concat!($name, "\0")) }
                    .map_err(|_| format!("it is not espeak-ng: it has no function `{}`", $name))?
            };
        }
        Ok(Self {
            initialize: function!("espeak_Initialize"),
            set_voice_by_name: function!("espeak_SetVoiceByName"),
            text_to_phonemes: function!("espeak_TextToPhonemes"),
            info: function!("espeak_Info"),
            list_voices: function!("espeak_ListVoices"),
            _library: library,
        })
    }

    /// Reads the data in `folder`. A negative result means failure.
    pub(super) fn initialize(&mut self, folder: Option<&CStr>) -> c_int {
        let folder = folder.map_or(ptr::null(), CStr::as_ptr);
        // SAFETY: null is allowed, and selects the library's default location.
        unsafe { (self.initialize)(SYNCHRONOUS, 0, folder, DONT_EXIT) }
    }

    /// Sets the voice; 0 if a voice with this name exists.
    pub(super) fn set_voice(&mut self, name: &CStr) -> c_int {
        // SAFETY: a C string that lives during the call.
        unsafe { (self.set_voice_by_name)(name.as_ptr()) }
    }

    /// The phonemes of a text, clause by clause.
    pub(super) fn phonemes(&mut self, text: &CStr) -> Vec<String> {
        let mut rest: *const c_void = text.as_ptr().cast();
        let mut clauses = Vec::new();
        // Each call consumes at least one byte; a call that consumed none would loop for ever.
        for _ in 0..=text.count_bytes() {
            // SAFETY: `rest` points into `text` or one past its terminator's clause, as set by the previous
            // call.
            let phonemes = unsafe { (self.text_to_phonemes)(&raw mut rest, TEXT_AUTO, IPA) };
            clauses.extend(copied(phonemes));
            if rest.is_null() {
                break;
            }
        }
        clauses
    }

    /// The library's version string.
    pub(super) fn version(&mut self) -> String {
        let mut folder = ptr::null();
        // SAFETY: the location of the data is written to `folder`.
        copied(unsafe { (self.info)(&raw mut folder) }).unwrap_or_default()
    }

    /// All voices: the names of their files, and the codes of their languages.
    pub(super) fn voices(&mut self) -> Vec<(String, Vec<String>)> {
        let mut all = Vec::new();
        // SAFETY: null requests all voices; the result is a null-terminated list of descriptions that stay
        // valid until the next call.
        let mut voices = unsafe { (self.list_voices)(ptr::null_mut()) };
        if voices.is_null() {
            return all;
        }
        // SAFETY: `voices` does not go past the null at the list's end.
        while let Some(voice) = unsafe { (*voices).as_ref() } {
            let mut languages = Vec::new();
            let mut language = voice.languages;
            // SAFETY: the list ends with a zero byte in place of a priority.
            while !language.is_null() && unsafe { *language } != 0 {
                // SAFETY: the priority is followed by a C string, and then by the next entry.
                let name = unsafe { CStr::from_ptr(language.add(1)) };
                languages.push(name.to_string_lossy().into_owned());
                // SAFETY: as above.
                language = unsafe { language.add(1 + name.count_bytes() + 1) };
            }
            if let Some(identifier) = copied(voice.identifier) {
                let file = identifier.rsplit(['/', '\\']).next().unwrap_or_default();
                all.push((file.to_owned(), languages));
            }
            // SAFETY: this entry was not null, so there is another one.
            voices = unsafe { voices.add(1) };
        }
        all
    }
}

/// Copies a C string owned by the library.
fn copied(text: *const c_char) -> Option<String> {
    // SAFETY: null or a C string, by the contract above.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}
