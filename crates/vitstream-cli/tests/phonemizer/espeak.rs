//! A library with the functions of libespeak-ng that vitstream calls, and none of its code. It returns a text
//! unchanged, except that `crash` is a segmentation fault, and `hang FILE` writes the process's number into
//! the file and never ends.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Mutex;

static ANSWER: Mutex<Option<CString>> = Mutex::new(None);

#[unsafe(no_mangle)]
pub extern "C" fn espeak_Initialize(_: c_int, _: c_int, _: *const c_char, _: c_int) -> c_int {
    22050
}

#[unsafe(no_mangle)]
pub extern "C" fn espeak_SetVoiceByName(_: *const c_char) -> c_int {
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn espeak_TextToPhonemes(
    text: *mut *const c_void,
    _: c_int,
    _: c_int,
) -> *const c_char {
    let said = unsafe { CStr::from_ptr((*text).cast()) }.to_owned();
    unsafe { *text = ptr::null() };
    let words = said.to_str().unwrap();
    if words == "crash" {
        unsafe { ptr::null_mut::<u8>().write_volatile(1) };
    }
    if let Some(file) = words.strip_prefix("hang ") {
        std::fs::write(format!("{file}.part"), std::process::id().to_string()).unwrap();
        std::fs::rename(format!("{file}.part"), file).unwrap();
        loop {
            std::thread::park();
        }
    }
    let mut answer = ANSWER.lock().unwrap();
    answer.insert(said).as_ptr()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn espeak_Info(_: *mut *const c_char) -> *const c_char {
    c"9.9 of a test".as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn espeak_ListVoices(_: *mut c_void) -> *const *const c_void {
    ptr::null()
}
