//! The functions of libpiper under their names, for `include/piper.h`: one sentence at a time, as returned by
//! the network.

use std::ffi::{c_char, c_int};
use std::mem;
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;

use vitstream::{OpenOptions, Scales, SpeakOptions, Speaker};

use crate::abi::vitstream_version;
use crate::failure::{Failure, borrowed, guarded, needed, null, text};
use crate::speech::Speech;
use crate::voice::Opened;

/// Success.
pub const PIPER_OK: c_int = 0;
/// There is no more audio.
pub const PIPER_DONE: c_int = 1;
/// An error; `vitstream_last_error_message` gives the reason.
pub const PIPER_ERR_GENERIC: c_int = -1;

/// A voice and its current speech.
#[allow(non_camel_case_types, reason = "C's names")]
pub struct piper_synthesizer {
    opened: Arc<Opened>,
    speech: Option<Speech>,
    given: Sentence,
}

/// The data that a chunk's pointers refer to.
#[derive(Default)]
struct Sentence {
    samples: Vec<f32>,
    phonemes: Vec<u32>,
    ids: Vec<c_int>,
    alignments: Vec<c_int>,
}

/// A sentence's audio.
#[repr(C)]
#[allow(non_camel_case_types, missing_docs, reason = "C's names, which piper.h explains")]
pub struct piper_audio_chunk {
    pub samples: *const f32,
    pub num_samples: usize,
    pub sample_rate: c_int,
    pub is_last: bool,
    pub phonemes: *const u32,
    pub num_phonemes: usize,
    pub phoneme_ids: *const c_int,
    pub num_phoneme_ids: usize,
    pub alignments: *const c_int,
    pub num_alignments: usize,
}

/// Options for speaking.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, missing_docs, reason = "C's names, which piper.h explains")]
pub struct piper_synthesize_options {
    pub speaker_id: c_int,
    pub length_scale: f32,
    pub noise_scale: f32,
    pub noise_w_scale: f32,
}

/// Options for opening a voice.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, missing_docs, reason = "C's names, which piper.h explains")]
pub struct piper_create_options {
    pub struct_size: usize,
    pub model_path: *const c_char,
    pub config_path: *const c_char,
    pub espeak_data_path: *const c_char,
    pub g2pw_model_dir: *const c_char,
    pub data_dir: *const c_char,
}

/// Opens a voice. The data of espeak-ng are those of the library in VITSTREAM_ESPEAK, or of the system's:
/// `espeak_data_path` has no effect.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn piper_create(
    model_path: *const c_char,
    config_path: *const c_char,
    _espeak_data_path: *const c_char,
) -> *mut piper_synthesizer {
    guarded(null, || {
        // SAFETY: the caller's promise, for both.
        let (model, config) =
            unsafe { (needed(model_path, "model_path")?, text(config_path, "config_path")?) };
        let mut options = OpenOptions::new();
        options.read.config = config.map(PathBuf::from);
        let opened = Opened::new(model.into(), &options, None, None)?;
        let synthesizer =
            piper_synthesizer { opened: Arc::new(opened), speech: None, given: Sentence::default() };
        Ok(Box::into_raw(Box::new(synthesizer)))
    })
}

/// Opens a voice.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn piper_create_with_options(
    options: *const piper_create_options,
) -> *mut piper_synthesizer {
    let paths = guarded(
        |_| None,
        || {
            // SAFETY: the caller's promise.
            let options = unsafe { borrowed(options, "options") }?;
            // Fields that were added later follow those that are used.
            let least = mem::offset_of!(piper_create_options, g2pw_model_dir);
            if options.struct_size < least {
                let found = options.struct_size;
                return Err(Failure::request(format!(
                    "struct_size: expected at least {least}, found {found}"
                )));
            }
            Ok(Some((options.model_path, options.config_path)))
        },
    );
    let Some((model, config)) = paths else { return ptr::null_mut() };
    // SAFETY: the caller's promise.
    unsafe { piper_create(model, config, ptr::null()) }
}

/// Frees a voice; NULL is ignored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn piper_free(synth: *mut piper_synthesizer) {
    if !synth.is_null() {
        guarded(drop, || {
            // SAFETY: this library made it, and it was not freed, by the caller's promise.
            drop(unsafe { Box::from_raw(synth) });
            Ok(())
        });
    }
}

/// The defaults of the voice's JSON.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn piper_default_synthesize_options(
    synth: *mut piper_synthesizer,
) -> piper_synthesize_options {
    let of = |Scales { noise, length, noise_w }| piper_synthesize_options {
        speaker_id: 0,
        length_scale: length,
        noise_scale: noise,
        noise_w_scale: noise_w,
    };
    // SAFETY: the caller's promise.
    guarded(
        |_| of(Scales::default()),
        || Ok(of(unsafe { borrowed(synth, "synth") }?.opened.voice.info().scales)),
    )
}

/// Begins a text; the rest of the previous one is dropped.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn piper_synthesize_start(
    synth: *mut piper_synthesizer,
    text: *const c_char,
    options: *const piper_synthesize_options,
) -> c_int {
    guarded(
        |_| PIPER_ERR_GENERIC,
        || {
            // SAFETY: the caller's promise.
            let text = unsafe { needed(text, "text") }?;
            // SAFETY: a voice is used by one thread at a time, by the caller's promise.
            let Some(synth) = (unsafe { synth.as_mut() }) else {
                return Err(Failure::request("synth: expected a pointer, found NULL"));
            };
            // SAFETY: the caller's promise.
            let how = match unsafe { options.as_ref() } {
                None => SpeakOptions::new(),
                Some(options) => SpeakOptions::new()
                    // The speaker is ignored for a voice with one speaker.
                    .speaker(
                        (synth.opened.voice.info().speakers > 1)
                            .then_some(Speaker::Id(options.speaker_id.into())),
                    )
                    .scales(Scales {
                        noise: options.noise_scale,
                        length: options.length_scale,
                        noise_w: options.noise_w_scale,
                    }),
            };
            synth.speech = None;
            let mut speech = Speech::of_text(synth.opened.clone(), text, how)?;
            // libpiper accepts a text without anything to speak.
            speech.may_be_silent();
            synth.speech = Some(speech);
            Ok(PIPER_OK)
        },
    )
}

/// Computes the next sentence. Its chunk's pointers are valid until the next call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn piper_synthesize_next(
    synth: *mut piper_synthesizer,
    chunk: *mut piper_audio_chunk,
) -> c_int {
    guarded(
        |_| PIPER_ERR_GENERIC,
        || {
            // SAFETY: a voice is used by one thread at a time, by the caller's promise.
            let Some(synth) = (unsafe { synth.as_mut() }) else {
                return Err(Failure::request("synth: expected a pointer, found NULL"));
            };
            if chunk.is_null() {
                return Err(Failure::request("chunk: expected a pointer, found NULL"));
            }
            // An error ends the text.
            let mut speech = synth.speech.take();
            let next = match &mut speech {
                Some(speech) => sentence(&synth.opened, speech)?,
                None => None,
            };
            let is_last = match &mut speech {
                Some(speech) => !speech.has_more()?,
                None => true,
            };
            synth.speech = speech;
            let is_done = next.is_none();
            synth.given = next.unwrap_or_default();
            let given = &synth.given;
            let filled = piper_audio_chunk {
                samples: given.samples.as_ptr(),
                num_samples: given.samples.len(),
                sample_rate: c_int::try_from(synth.opened.voice.info().sample_rate).unwrap_or(c_int::MAX),
                is_last,
                phonemes: given.phonemes.as_ptr(),
                num_phonemes: given.phonemes.len(),
                phoneme_ids: given.ids.as_ptr(),
                num_phoneme_ids: given.ids.len(),
                alignments: given.alignments.as_ptr(),
                num_alignments: given.alignments.len(),
            };
            // SAFETY: it points to a chunk, by the caller's promise.
            unsafe { chunk.write(filled) };
            Ok(if is_done { PIPER_DONE } else { PIPER_OK })
        },
    )
}

/// The version of this library.
#[unsafe(no_mangle)]
pub extern "C" fn piper_version() -> *const c_char {
    vitstream_version()
}

/// All of the next sentence.
fn sentence(opened: &Opened, speech: &mut Speech) -> Result<Option<Sentence>, Failure> {
    let Some((said, mut stream)) = speech.begin()? else { return Ok(None) };
    let mut samples = Vec::new();
    for chunk in stream.by_ref() {
        samples.append(&mut chunk?.samples);
    }
    let int = |value: &usize| c_int::try_from(*value).unwrap_or(c_int::MAX);
    let alignments = stream.durations().map(|all| all.iter().map(int).collect()).unwrap_or_default();
    let ids = said.ids.iter().map(|&id| c_int::try_from(id).unwrap_or(c_int::MAX)).collect();
    let phonemes = opened.read(|reader| {
        let ids = reader.frontend().ids();
        let ends = ids.encode(&[], true).ids.len();
        let starts = ids.encode(&said.phonemes, true).starts;
        let all = said.ids.len();
        // Samples before the first phoneme belong to its start, those after the last one to its end.
        let head = starts.first().copied().unwrap_or(all);
        let tail = all - ends.saturating_sub(head).min(all);
        let groups = said.phonemes.iter().enumerate().map(|(index, phoneme)| {
            let end = starts.get(index + 1).copied().unwrap_or(tail);
            (phoneme.chars().next().unwrap_or('\0'), end.saturating_sub(starts[index]))
        });
        let groups = [('^', head)].into_iter().chain(groups).chain([('$', all - tail)]);
        let groups: Vec<Vec<u32>> =
            groups.filter(|(_, ids)| *ids > 0).map(|(phoneme, ids)| vec![u32::from(phoneme); ids]).collect();
        Ok(groups.join(&0))
    })?;
    Ok(Some(Sentence { samples, phonemes, ids, alignments }))
}
