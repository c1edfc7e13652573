//! The error type.

use std::error::Error as StdError;
use std::fmt;
use std::path::Path;

use vitstream_contract::Remedy;

/// An error: its message names the file concerned, what was expected and what was found.
///
/// The message does not give a remedy, because that depends on the program in use: see
/// [`remedy`](Self::remedy).
///
/// ```
/// use vitstream::{ErrorKind, OpenOptions, Voice};
///
/// let error = Voice::open("Cargo.toml", &OpenOptions::default()).expect_err("no voice");
/// assert_eq!(error.kind(), ErrorKind::Input);
/// assert_eq!(error.path(), Some("Cargo.toml".as_ref()));
/// ```
#[derive(Debug)]
pub struct Error(Box<Repr>);

/// A [`std::result::Result`] with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an error. Programs should decide by kind, because messages may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file or folder could not be read or written.
    Io,
    /// The input is damaged, or is not a voice.
    Input,
    /// The input is a voice, or another network, that vitstream does not support.
    Unsupported,
    /// An option or a request is not valid for this voice.
    Request,
    /// The output cannot be written to the requested place.
    Output,
    /// The runtime is not available, or failed while computing.
    Runtime,
    /// The caller asked to stop.
    Interrupted,
    /// A bug in vitstream.
    Internal,
}

#[derive(Debug)]
enum Repr {
    Source(vitstream_source::Error),
    Synth(vitstream_synth::Error),
    #[cfg(feature = "export")]
    Export(vitstream_export::Error),
    #[cfg(feature = "verify")]
    Verify(vitstream_verify::Error),
    Option(String),
}

impl Error {
    pub(crate) fn option(problem: impl Into<String>) -> Self {
        Repr::Option(problem.into()).into()
    }

    /// The kind of the error.
    pub fn kind(&self) -> ErrorKind {
        match &*self.0 {
            Repr::Source(error) => source_kind(error),
            Repr::Synth(error) => synth_kind(error),
            #[cfg(feature = "export")]
            Repr::Export(error) => export_kind(error),
            #[cfg(feature = "verify")]
            Repr::Verify(error) => verify_kind(error),
            Repr::Option(_) => ErrorKind::Request,
        }
    }

    /// Returns true if the voice was read but its content is not supported by the native engine.
    pub(crate) fn is_about_content(&self) -> bool {
        match &*self.0 {
            Repr::Source(error) => error.is_about_content(),
            Repr::Synth(error) => error.is_about_content(),
            _ => false,
        }
    }

    /// The file or folder concerned, if any.
    pub fn path(&self) -> Option<&Path> {
        match &*self.0 {
            Repr::Source(error) => error.path(),
            Repr::Synth(error) => error.path(),
            #[cfg(feature = "export")]
            Repr::Export(error) => error.path(),
            #[cfg(feature = "verify")]
            Repr::Verify(error) => error.path(),
            Repr::Option(_) => None,
        }
    }

    /// The remedy, if one is known.
    pub fn remedy(&self) -> Option<Remedy> {
        match &*self.0 {
            Repr::Source(error) => error.remedy(),
            Repr::Synth(error) => error.remedy(),
            #[cfg(feature = "export")]
            Repr::Export(error) => error.remedy(),
            #[cfg(feature = "verify")]
            Repr::Verify(error) => error.remedy(),
            Repr::Option(_) => None,
        }
    }

    fn inner(&self) -> Option<&(dyn StdError + 'static)> {
        Some(match &*self.0 {
            Repr::Source(error) => error,
            Repr::Synth(error) => error,
            #[cfg(feature = "export")]
            Repr::Export(error) => error,
            #[cfg(feature = "verify")]
            Repr::Verify(error) => error,
            Repr::Option(_) => return None,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Repr::Option(problem) => f.write_str(problem),
            _ => self.inner().map_or(Ok(()), |inner| write!(f, "{inner}")),
        }
    }
}

impl StdError for Error {
    /// The cause below the error whose message this one has already included.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner()?.source()
    }
}

impl From<Repr> for Error {
    fn from(repr: Repr) -> Self {
        Self(Box::new(repr))
    }
}

impl From<vitstream_source::Error> for Error {
    fn from(error: vitstream_source::Error) -> Self {
        Repr::Source(error).into()
    }
}

impl From<vitstream_synth::Error> for Error {
    fn from(error: vitstream_synth::Error) -> Self {
        match error {
            vitstream_synth::Error::Source(error) => error.into(),
            error => Repr::Synth(error).into(),
        }
    }
}

#[cfg(feature = "export")]
impl From<vitstream_export::Error> for Error {
    fn from(error: vitstream_export::Error) -> Self {
        match error {
            vitstream_export::Error::Source(error) => error.into(),
            error => Repr::Export(error).into(),
        }
    }
}

#[cfg(feature = "verify")]
impl From<vitstream_verify::Error> for Error {
    fn from(error: vitstream_verify::Error) -> Self {
        match error {
            vitstream_verify::Error::Source(error) => error.into(),
            vitstream_verify::Error::Export(error) => error.into(),
            error => Repr::Verify(error).into(),
        }
    }
}

fn source_kind(error: &vitstream_source::Error) -> ErrorKind {
    use vitstream_source::Error as E;
    match error {
        E::Io { .. } => ErrorKind::Io,
        E::Checkpoint(error) => file_kind(error),
        E::Option(_) | E::MissingHParams { .. } | E::NoConfig { .. } => ErrorKind::Request,
        E::OtherNetwork { .. }
        | E::UnknownNetwork { .. }
        | E::Unsupported { .. }
        | E::Unrecoverable { .. } => ErrorKind::Unsupported,
        _ => ErrorKind::Input,
    }
}

fn file_kind(error: &vitstream_checkpoint::Error) -> ErrorKind {
    match error.kind() {
        vitstream_checkpoint::ErrorKind::Io(_) => ErrorKind::Io,
        _ => ErrorKind::Input,
    }
}

fn synth_kind(error: &vitstream_synth::Error) -> ErrorKind {
    use vitstream_synth::Error as E;
    match error {
        E::Source(error) => source_kind(error),
        E::File(error) => file_kind(error),
        E::Model { .. } | E::Mismatch(_) => ErrorKind::Input,
        E::Request(_) | E::NoSampleRate { .. } | E::NoNoise => ErrorKind::Request,
        E::Cancelled => ErrorKind::Interrupted,
        _ => ErrorKind::Runtime,
    }
}

#[cfg(feature = "export")]
fn export_kind(error: &vitstream_export::Error) -> ErrorKind {
    use vitstream_export::Error as E;
    match error {
        E::Source(error) => source_kind(error),
        E::Io { .. } => ErrorKind::Io,
        E::Output { .. } => ErrorKind::Output,
        E::Interrupted => ErrorKind::Interrupted,
        E::Graph { .. } => ErrorKind::Internal,
        E::Config { .. } => ErrorKind::Input,
        _ => ErrorKind::Request,
    }
}

#[cfg(feature = "verify")]
fn verify_kind(error: &vitstream_verify::Error) -> ErrorKind {
    use vitstream_verify::Error as E;
    match error {
        E::Source(error) => source_kind(error),
        E::Export(error) => export_kind(error),
        E::Option(_) => ErrorKind::Request,
        E::Run { .. } => ErrorKind::Runtime,
        E::Interrupted => ErrorKind::Interrupted,
        _ => ErrorKind::Input,
    }
}

/// The message of an error and of all its causes, for programs that show a single line. Causes that a message
/// already quotes are not repeated, and control characters, which files and their names may contain, are
/// escaped.
///
/// ```
/// use vitstream::{OpenOptions, Voice, message_with_causes};
///
/// let error = Voice::open("no\nvoice.ckpt", &OpenOptions::default()).expect_err("no such file");
/// assert!(message_with_causes(&error).starts_with("no\\nvoice.ckpt: "));
/// ```
pub fn message_with_causes(error: &dyn StdError) -> String {
    let mut message = error.to_string();
    for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
    }
    let mut shown = String::with_capacity(message.len());
    for c in message.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}
