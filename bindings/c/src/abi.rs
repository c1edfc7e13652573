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

/// A voice. Any number of threads may use it at the same time.
#[allow(non_camel_case_types, reason = "C's names")]
pub struct vitstream_voice(Arc<Opened>);

/// Speech in progress. One thread at a time requests chunks; any thread may cancel it.
#[allow(non_camel_case_types, reason = "C's names")]
pub struct vitstream_stream {
    /// Includes the samples of the last chunk returned.
    speech: Mutex<(Speech, Vec<f32>)>,
    stop: Arc<Stop>,
}

/// Options for opening a voice. Initialise with `vitstream_open_options_init`; strings are UTF-8 and may be
/// NULL.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "C's names")]
pub struct vitstream_open_options {
    /// Size of this structure in bytes as known to the caller, so that it can be extended.
    pub size: usize,
    /// Number of threads, 1 to 256. It does not change a single bit of the samples.
    pub threads: u32,
    /// Sample rate in hertz, for a voice whose files do not state it; otherwise 0.
    pub sample_rate: u32,
    /// The path of the voice's JSON, if it is not next to the file under the usual name.
    pub config: *const c_char,
    /// The library of espeak-ng, `LIBRARY` or `LIBRARY:DATA`. NULL selects the one in the environment
    /// variable VITSTREAM_ESPEAK, else the system's, else the program espeak-ng.
    pub espeak: *const c_char,
    /// A command to use as phonemizer instead.
    pub phonemizer: *const c_char,
}

/// Options for speaking. `vitstream_speak_options_init` fills them with the defaults of the voice's JSON.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "C's names")]
pub struct vitstream_speak_options {
    /// Size of this structure in bytes as known to the caller, so that it can be extended.
    pub size: usize,
    /// The speaker's number.
    pub speaker: i64,
    /// Slowness of speech, 0.05 to 20.
    pub length_scale: f32,
    /// Variation of the voice, 0 to 5.
    pub noise_scale: f32,
    /// Variation of the durations, 0 to 2.
    pub noise_w: f32,
    /// True if `seed` makes the noise reproducible.
    pub has_seed: bool,
    /// The seed of each sentence.
    pub seed: u64,
}

/// A chunk of a stream.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "C's names")]
pub struct vitstream_chunk {
    /// Mono samples, about -1 to 1. They are owned by the stream and valid until the next chunk is requested
    /// or the stream is freed.
    pub samples: *const f32,
    /// Number of samples.
    pub num_samples: usize,
    /// Index of the sentence that they belong to, from 0.
    pub sentence: usize,
    /// Number of the sentence's samples before this chunk.
    pub start: usize,
    /// Seconds from the start of the sentence's computation to this chunk.
    pub ready: f64,
    /// True if the sentence ends with this chunk.
    pub last: bool,
}

/// The version of this library's interface, to be compared with VITSTREAM_ABI_VERSION.
#[unsafe(no_mangle)]
pub extern "C" fn vitstream_abi_version() -> u32 {
    VITSTREAM_ABI_VERSION
}

/// The version of this library.
#[unsafe(no_mangle)]
pub extern "C" fn vitstream_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// The kind of the calling thread's last error, or VITSTREAM_OK if there was none.
#[unsafe(no_mangle)]
pub extern "C" fn vitstream_last_error_kind() -> c_int {
    failure::last_kind()
}

/// The message of the calling thread's last error in UTF-8; empty if there was none. It is valid until the
/// thread's next error.
#[unsafe(no_mangle)]
pub extern "C" fn vitstream_last_error_message() -> *const c_char {
    failure::last_message()
}

/// Initialises the options with defaults.
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

/// Refuses structures that were not initialised.
fn check_size(size: usize, expected: usize, what: &str) -> Result<(), Failure> {
    if size == expected {
        return Ok(());
    }
    Err(Failure::request(format!(
        "{what}: expected a size of {expected}, found {size}: call {what}_init first"
    )))
}

/// Opens the voice in `input`.
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

/// Opens the voice at `path`: an exported folder, a checkpoint or a finished voice. Returns NULL and sets an
/// error if it cannot be read. `options` may be NULL.
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

/// Opens a voice from the `contents` of its file, which are copied, and the text of its JSON, which may be
/// NULL.
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

/// Frees a voice; NULL is ignored. Its streams remain valid.
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

/// The sample rate in hertz; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_voice_sample_rate(voice: *const vitstream_voice) -> u32 {
    // SAFETY: the caller's promise.
    guarded(|_| 0, || Ok(unsafe { borrowed(voice, "voice") }?.0.voice.info().sample_rate))
}

/// The number of speakers; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vitstream_voice_speakers(voice: *const vitstream_voice) -> usize {
    // SAFETY: the caller's promise.
    guarded(|_| 0, || Ok(unsafe { borrowed(voice, "voice") }?.0.voice.info().speakers))
}

/// Fills the options with the defaults of the voice's JSON. Returns VITSTREAM_OK, or the kind of an error.
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

/// The options for speaking; NULL selects the voice's defaults.
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

/// Speaks a text in UTF-8. Returns NULL and sets an error if it cannot be spoken; `options` may be NULL.
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

/// Computes the next chunk. Returns VITSTREAM_OK, VITSTREAM_DONE after the last one, or the kind of an error,
/// after which no chunks follow.
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

/// Cancels a stream from any thread; NULL is ignored. A thread that waits for a chunk receives
/// VITSTREAM_ERR_INTERRUPTED.
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

/// Frees a stream; NULL is ignored. No thread may be inside another function of the stream.
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
