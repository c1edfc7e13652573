//! `vitstream.h`: cbindgen writes the header from this file and `codes.rs`, documentation included.

use std::ffi::{c_char, c_int};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use vitstream::{Input, OpenOptions, Scales, SpeakOptions, Speaker};

#[allow(clippy::wildcard_imports, reason = "they are one list")]
pub use crate::codes::*;
use crate::failure::{self, Failure, borrowed, guarded, needed, null, text};
use crate::speech::{Said, Speech, Stop};
use crate::voice::Opened;

/// A voice. Any number of threads may use one at once.
#[allow(non_camel_case_types, reason = "C's names")]
pub struct vitstream_voice(Arc<Opened>);

/// Speech that is on its way. One thread at a time asks it for chunks; any may cancel it.
#[allow(non_camel_case_types, reason = "C's names")]
pub struct vitstream_stream {
    /// With the samples of the chunk that was given last.
    speech: Mutex<(Speech, Vec<f32>)>,
    stop: Arc<Stop>,
}

/// How a voice is opened. `vitstream_open_options_init` fills it; texts are UTF-8 and may be NULL.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "C's names")]
pub struct vitstream_open_options {
    /// Bytes of this structure as the caller knows it, so that it can grow.
    pub size: usize,
    /// Threads, 1 to 256. They change no bit of the samples.
    pub threads: u32,
    /// Hertz, for a voice whose files do not say it; 0 otherwise.
    pub sample_rate: u32,
    /// The path of the voice's JSON, where it is not beside the file under the usual name.
    pub config: *const c_char,
    /// The library of espeak-ng, `LIBRARY` or `LIBRARY:DATA`; NULL for what the environment variable VITSTREAM_ESPEAK names,
    /// else the system's, else the program espeak-ng.
    pub espeak: *const c_char,
    /// A command that says how words sound instead.
    pub phonemizer: *const c_char,
}

/// How a text is spoken. `vitstream_speak_options_init` fills it with what the voice's JSON says.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "C's names")]
pub struct vitstream_speak_options {
    /// Bytes of this structure as the caller knows it, so that it can grow.
    pub size: usize,
    /// The speaker's number.
    pub speaker: i64,
    /// How slowly, 0.05 to 20.
    pub length_scale: f32,
    /// How much the voice varies, 0 to 5.
    pub noise_scale: f32,
    /// How much the durations vary, 0 to 2.
    pub noise_w: f32,
    /// Whether `seed` makes the noise the same every time.
    pub has_seed: bool,
    /// The seed of each sentence.
    pub seed: u64,
}

/// A piece of a stream.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "C's names")]
pub struct vitstream_chunk {
    /// Samples, mono, about -1 to 1. They are the stream's until it is asked for the next chunk or freed.
    pub samples: *const f32,
    /// How many.
    pub num_samples: usize,
    /// The sentence that they belong to, from 0.
    pub sentence: usize,
    /// Samples of the sentence before this chunk.
    pub start: usize,
    /// Seconds from the beginning of the sentence's work to this chunk.
    pub ready: f64,
    /// Whether the sentence ends with it.
    pub last: bool,
}

/// The version of the interface of this library: programs compare it with VITSTREAM_ABI_VERSION.
#[unsafe(no_mangle)]
pub extern "C" fn vitstream_abi_version() -> u32 {
    VITSTREAM_ABI_VERSION
}

/// The version of this library.
#[unsafe(no_mangle)]
pub extern "C" fn vitstream_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The kind of the last error of the calling thread, VITSTREAM_OK if there was none.
#[unsafe(no_mangle)]
pub extern "C" fn vitstream_last_error_kind() -> c_int {
    failure::last_kind()
}

/// What the last error of the calling thread says, in UTF-8; empty if there was none. It is there until the thread's next error.
#[unsafe(no_mangle)]
pub extern "C" fn vitstream_last_error_message() -> *const c_char {
    failure::last_message()
}

/// Fills the options with defaults.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_open_options_init(options: *mut vitstream_open_options) {
    let defaults = vitstream_open_options {
        size: size_of::<vitstream_open_options>(),
        threads: 1,
        sample_rate: 0,
        config: std::ptr::null(),
        espeak: std::ptr::null(),
        phonemizer: std::ptr::null(),
    };
    if !options.is_null() {
        // SAFETY: it points to options, by the caller's promise.
        unsafe { options.write(defaults) };
    }
}

/// Refuses structures that are not filled.
fn check_size(size: usize, expected: usize, what: &str) -> Result<(), Failure> {
    if size == expected {
        return Ok(());
    }
    Err(Failure::request(format!(
        "{what}: expected a size of {expected}, found {size}: call {what}_init first"
    )))
}

/// Opens what `input` is.
///
/// # Safety
/// The options are null or filled.
unsafe fn open(
    input: Input,
    options: *const vitstream_open_options,
) -> Result<*mut vitstream_voice, Failure> {
    let mut given = OpenOptions::new();
    let (mut espeak, mut phonemizer) = (None, None);
    if !options.is_null() {
        // SAFETY: the caller's promise.
        let options = unsafe { borrowed(options, "options") }?;
        check_size(options.size, size_of_val(options), "vitstream_open_options")?;
        given.threads = options.threads as usize;
        given.sample_rate = (options.sample_rate > 0).then_some(options.sample_rate);
        // SAFETY: as above.
        given.read.config = unsafe { text(options.config, "config") }?.map(PathBuf::from);
        // SAFETY: as above.
        espeak = unsafe { text(options.espeak, "espeak") }?.map(str::to_owned);
        // SAFETY: as above.
        phonemizer = unsafe { text(options.phonemizer, "phonemizer") }?.map(str::to_owned);
    }
    let opened = Opened::new(input, &given, espeak, phonemizer)?;
    Ok(Box::into_raw(Box::new(vitstream_voice(Arc::new(opened)))))
}

/// Opens the voice at `path`: an exported folder, a checkpoint or a finished voice. NULL, and an error, when it cannot be read.
/// `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_voice_open(
    path: *const c_char,
    options: *const vitstream_open_options,
) -> *mut vitstream_voice {
    guarded(null, || {
        // SAFETY: the caller's promise.
        let path = unsafe { needed(path, "path") }?;
        // SAFETY: the caller's promise.
        unsafe { open(path.into(), options) }
    })
}

/// Opens the voice that a file holds, given its `contents`, which are copied, and the text of its JSON, which may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_voice_open_bytes(
    contents: *const u8,
    length: usize,
    json: *const c_char,
    options: *const vitstream_open_options,
) -> *mut vitstream_voice {
    guarded(null, || {
        // SAFETY: the caller's promise.
        unsafe { borrowed(contents, "contents") }?;
        // SAFETY: it points to so many bytes, by the caller's promise.
        let contents = unsafe { std::slice::from_raw_parts(contents, length) }.to_vec();
        let mut input = Input::bytes("contents in memory", contents);
        // SAFETY: the caller's promise.
        if let Some(json) = unsafe { text(json, "json") }? {
            input = input.beside("config.json", json.as_bytes().to_vec());
        }
        // SAFETY: the caller's promise.
        unsafe { open(input, options) }
    })
}

/// Frees a voice; NULL is nothing. Its streams go on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_voice_free(voice: *mut vitstream_voice) {
    if !voice.is_null() {
        guarded(drop, || {
            // SAFETY: this library made it, and it was not freed, by the caller's promise.
            drop(unsafe { Box::from_raw(voice) });
            Ok(())
        });
    }
}

/// Hertz; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_voice_sample_rate(voice: *const vitstream_voice) -> u32 {
    // SAFETY: the caller's promise.
    guarded(|_| 0, || Ok(unsafe { borrowed(voice, "voice") }?.0.voice.info().sample_rate))
}

/// How many speakers there are; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_voice_speakers(voice: *const vitstream_voice) -> usize {
    // SAFETY: the caller's promise.
    guarded(|_| 0, || Ok(unsafe { borrowed(voice, "voice") }?.0.voice.info().speakers))
}

/// Fills the options with what the voice's JSON says; VITSTREAM_OK, or the kind of an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_speak_options_init(
    options: *mut vitstream_speak_options,
    voice: *const vitstream_voice,
) -> c_int {
    guarded(std::convert::identity, || {
        // SAFETY: the caller's promise.
        let voice = unsafe { borrowed(voice, "voice") }?;
        if options.is_null() {
            return Err(Failure::request("options: expected a pointer, found NULL"));
        }
        let Scales { noise, length, noise_w } = voice.0.voice.info().scales;
        let filled = vitstream_speak_options {
            size: size_of::<vitstream_speak_options>(),
            speaker: 0,
            length_scale: length,
            noise_scale: noise,
            noise_w,
            has_seed: false,
            seed: 0,
        };
        // SAFETY: it points to options, by the caller's promise.
        unsafe { options.write(filled) };
        Ok(VITSTREAM_OK)
    })
}

/// How it is spoken; NULL is the voice's own way.
///
/// # Safety
/// The options are null or filled.
unsafe fn how(options: *const vitstream_speak_options) -> Result<SpeakOptions, Failure> {
    if options.is_null() {
        return Ok(SpeakOptions::new());
    }
    // SAFETY: the caller's promise.
    let options = unsafe { borrowed(options, "options") }?;
    check_size(options.size, size_of_val(options), "vitstream_speak_options")?;
    Ok(SpeakOptions::new()
        .speaker(Speaker::Id(options.speaker))
        .scales(Scales { noise: options.noise_scale, length: options.length_scale, noise_w: options.noise_w })
        .seed(options.has_seed.then_some(options.seed)))
}

fn stream(speech: Speech) -> *mut vitstream_stream {
    let stop = speech.stopper();
    Box::into_raw(Box::new(vitstream_stream { speech: Mutex::new((speech, Vec::new())), stop }))
}

/// Speaks a text of UTF-8. NULL, and an error, when it cannot be spoken; `options` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_speak_text(
    voice: *const vitstream_voice,
    text: *const c_char,
    options: *const vitstream_speak_options,
) -> *mut vitstream_stream {
    guarded(null, || {
        // SAFETY: the caller's promise, for all three.
        let (voice, text, how) = unsafe { (borrowed(voice, "voice")?, needed(text, "text")?, how(options)?) };
        Ok(stream(Speech::of_text(voice.0.clone(), text, how)?))
    })
}

/// Speaks phonemes: IPA, or the characters of a voice that reads characters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_speak_phonemes(
    voice: *const vitstream_voice,
    phonemes: *const c_char,
    options: *const vitstream_speak_options,
) -> *mut vitstream_stream {
    guarded(null, || {
        // SAFETY: the caller's promise, for all three.
        let (voice, phonemes, how) =
            unsafe { (borrowed(voice, "voice")?, needed(phonemes, "phonemes")?, how(options)?) };
        let said = Said::from(voice.0.read(|reader| reader.phonemes(phonemes))?);
        Ok(stream(Speech::of(voice.0.clone(), [said].into(), how)?))
    })
}

/// Speaks phoneme ids, at most 5000.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_speak_ids(
    voice: *const vitstream_voice,
    ids: *const i64,
    count: usize,
    options: *const vitstream_speak_options,
) -> *mut vitstream_stream {
    guarded(null, || {
        // SAFETY: the caller's promise, for all three.
        let (voice, _, how) = unsafe { (borrowed(voice, "voice")?, borrowed(ids, "ids")?, how(options)?) };
        // SAFETY: it points to so many ids, by the caller's promise.
        let ids = unsafe { std::slice::from_raw_parts(ids, count) }.to_vec();
        voice.0.voice.stream(&ids, &how)?;
        Ok(stream(Speech::of(voice.0.clone(), [Said { ids, phonemes: Vec::new() }].into(), how)?))
    })
}

/// The next chunk: VITSTREAM_OK, VITSTREAM_DONE behind the last, or the kind of an error, after which there are no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_stream_next(
    stream: *mut vitstream_stream,
    chunk: *mut vitstream_chunk,
) -> c_int {
    guarded(std::convert::identity, || {
        // SAFETY: the caller's promise.
        let stream = unsafe { borrowed(stream, "stream") }?;
        if chunk.is_null() {
            return Err(Failure::request("chunk: expected a pointer, found NULL"));
        }
        let mut state = stream.speech.lock().unwrap_or_else(PoisonError::into_inner);
        let (speech, samples) = &mut *state;
        let Some(next) = speech.next()? else { return Ok(VITSTREAM_DONE) };
        *samples = next.samples;
        let filled = vitstream_chunk {
            samples: samples.as_ptr(),
            num_samples: samples.len(),
            sentence: speech.sentence(),
            start: next.start,
            ready: next.ready.as_secs_f64(),
            last: next.last,
        };
        // SAFETY: it points to a chunk, by the caller's promise.
        unsafe { chunk.write(filled) };
        Ok(VITSTREAM_OK)
    })
}

/// Cancels a stream, from any thread; NULL is nothing. Whoever waits for a chunk gets VITSTREAM_ERR_INTERRUPTED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_stream_cancel(stream: *const vitstream_stream) {
    if !stream.is_null() {
        guarded(drop, || {
            // SAFETY: the caller's promise.
            unsafe { borrowed(stream, "stream") }?.stop.stop();
            Ok(())
        });
    }
}

/// Frees a stream; NULL is nothing. No thread may be within another of its functions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_stream_free(stream: *mut vitstream_stream) {
    if !stream.is_null() {
        guarded(drop, || {
            // SAFETY: this library made it, and it was not freed, by the caller's promise.
            drop(unsafe { Box::from_raw(stream) });
            Ok(())
        });
    }
}
