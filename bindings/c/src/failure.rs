//! Errors at the boundary: the last one of each thread, in terms of the C interface.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use vitstream::{ErrorKind, Remedy, message_with_causes};
use vitstream_text::phonemizer::PhonemizerError;

use crate::codes;

/// The reason why a call failed.
pub(crate) struct Failure {
    pub(crate) kind: c_int,
    message: String,
}

impl Failure {
    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self { kind: codes::VITSTREAM_ERR_REQUEST, message: message.into() }
    }
}

impl From<vitstream::Error> for Failure {
    fn from(error: vitstream::Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Io => codes::VITSTREAM_ERR_IO,
            ErrorKind::Input => codes::VITSTREAM_ERR_INPUT,
            ErrorKind::Unsupported => codes::VITSTREAM_ERR_UNSUPPORTED,
            ErrorKind::Request => codes::VITSTREAM_ERR_REQUEST,
            ErrorKind::Output => codes::VITSTREAM_ERR_OUTPUT,
            ErrorKind::Runtime => codes::VITSTREAM_ERR_RUNTIME,
            ErrorKind::Interrupted => codes::VITSTREAM_ERR_INTERRUPTED,
            _ => codes::VITSTREAM_ERR_INTERNAL,
        };
        let remedy = match error.remedy() {
            Some(Remedy::SampleRate) => "; set `sample_rate` of the options",
            Some(Remedy::Config | Remedy::HParams(_) | Remedy::OtherConfig) => {
                "; name its JSON with `config` of the options"
            }
            _ => "",
        };
        Self { kind, message: message_with_causes(&error) + remedy }
    }
}

impl From<vitstream_text::Error> for Failure {
    fn from(error: vitstream_text::Error) -> Self {
        use vitstream_text::Error as E;
        let (kind, remedy) = match &error {
            E::Phonemizer(PhonemizerError::NotInstalled { .. }) => {
                (codes::VITSTREAM_ERR_PHONEMIZER, "; or in `espeak` of the options")
            }
            E::Phonemizer(_) => (codes::VITSTREAM_ERR_PHONEMIZER, ""),
            E::Config(_) => (codes::VITSTREAM_ERR_INPUT, ""),
            E::Unsupported { .. } => (codes::VITSTREAM_ERR_UNSUPPORTED, ""),
            _ => (codes::VITSTREAM_ERR_REQUEST, ""),
        };
        Self { kind, message: message_with_causes(&error) + remedy }
    }
}

thread_local! {
    /// The last error of this thread.
    static LAST: RefCell<(c_int, CString)> = RefCell::new((codes::VITSTREAM_OK, CString::default()));
}

/// Runs `work` for C: an error or panic is stored as the thread's last error, and `failed` converts its kind
/// to the function's result.
pub(crate) fn guarded<T>(failed: impl FnOnce(c_int) -> T, work: impl FnOnce() -> Result<T, Failure>) -> T {
    // A panic can only leave a handle's own state inconsistent, which is not used any more: streams end with
    // an error.
    let result = catch_unwind(AssertUnwindSafe(work));
    let failure = match result {
        Ok(Ok(value)) => return value,
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            let message = format!("internal error, please report it: {text}");
            Failure { kind: codes::VITSTREAM_ERR_INTERNAL, message }
        }
    };
    let message = CString::new(failure.message.replace('\0', "\\0")).unwrap_or_default();
    LAST.with_borrow_mut(|last| *last = (failure.kind, message));
    failed(failure.kind)
}

/// A null pointer as result.
pub(crate) fn null<T>(_: c_int) -> *mut T {
    ptr::null_mut()
}

pub(crate) fn last_kind() -> c_int {
    LAST.with_borrow(|last| last.0)
}

pub(crate) fn last_message() -> *const c_char {
    LAST.with_borrow(|last| last.1.as_ptr())
}

/// A string from C; `what` names it in messages.
///
/// # Safety
/// It is null or ends with a NUL.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<Option<&'a str>, Failure> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    match vitstream_text::utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(Failure::request(format!("{what}: {error}"))),
    }
}

/// A required string from C.
///
/// # Safety
/// As [`text`].
pub(crate) unsafe fn needed<'a>(given: *const c_char, what: &str) -> Result<&'a str, Failure> {
    // SAFETY: the caller's promise.
    unsafe { text(given, what) }?
        .ok_or_else(|| Failure::request(format!("{what}: expected a text, found NULL")))
}

/// The value behind a handle or structure.
///
/// # Safety
/// It is null or points to what it says.
pub(crate) unsafe fn borrowed<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller's promise.
    unsafe { pointer.as_ref() }
        .ok_or_else(|| Failure::request(format!("{what}: expected a pointer, found NULL")))
}
