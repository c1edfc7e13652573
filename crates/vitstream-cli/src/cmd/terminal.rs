//! Output for people. Names and texts from files may contain anything: control characters in them are shown,
//! not obeyed. This happens here, where text is written, and nowhere else.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io::{self, BufWriter, Write};
use std::str;
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::{AutoStream, ColorChoice};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::remedy;

/// Limit on the bytes of a message: several screens of lines.
const LONGEST_MESSAGE: usize = 16 << 10;

/// `text` with control characters, and characters that change the writing direction, as escapes that JSON
/// reads too. Line ends and tabs are kept.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let is_harmless = |c: char| {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        matches!(c, '\n' | '\t') || !(c.is_control() || turns)
    };
    if text.chars().all(is_harmless) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_harmless(c) {
            true => shown.push(c),
            false => write!(shown, "\\u{:04x}", u32::from(c)).expect("a string takes everything"),
        }
    }
    shown.into()
}

/// Makes all output [`printable`]. Each write must end between two characters, as those of `write!` do; a
/// buffer must therefore come after this writer, not before.
pub(crate) struct Printable<W>(W);

impl<W: Write> Write for Printable<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.0.write_all(printable(&String::from_utf8_lossy(buffer)).as_bytes())?;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Buffered standard output for text, which must be flushed at the end.
pub(crate) fn stdout() -> Printable<BufWriter<Stdout>> {
    Printable(BufWriter::new(Stdout))
}

/// Writes `text` to standard output.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = stdout();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Set if messages are lines of the log.
static IN_LOG: AtomicBool = AtomicBool::new(false);

/// Makes all further messages lines of the log, for programs that read standard error.
#[cfg(feature = "serve")]
pub(crate) fn say_in_log() {
    IN_LOG.store(true, Ordering::Relaxed);
}

/// Writes a line to standard error. If nobody reads it, that is no reason to stop.
pub(crate) fn say(line: &str) {
    if IN_LOG.load(Ordering::Relaxed) {
        match line.strip_prefix("error: ") {
            Some(error) => tracing::error!("{error}"),
            None => tracing::info!("{line}"),
        }
        return;
    }
    let _ = writeln!(io::stderr(), "{}", printable(line));
}

/// An error with its causes, each once: messages of libraries often contain that of their cause already.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text += ": ";
            text += &cause;
        }
    }
    if let Some(remedy) = remedy::of(error) {
        text += "; ";
        text += &remedy;
    }
    shorten(text)
}

fn shorten(mut text: String) -> String {
    if text.len() > LONGEST_MESSAGE {
        let mut end = LONGEST_MESSAGE;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let more = text.len() - end;
        text.truncate(end);
        write!(text, "... ({more} bytes more)").expect("a string takes everything");
    }
    text
}

/// The reader of the output has closed it.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the output has closed it")]
struct ReaderGone;

/// Marks the error of an output whose reader has closed it. Other pipes can break too, such as one to a
/// process of this program, and that is a real error.
pub(crate) fn of_output(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(io::ErrorKind::BrokenPipe, ReaderGone),
        _ => error,
    }
}

/// Returns true if something failed only because the reader of the output has closed it.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<ReaderGone>())
    })
}

/// Standard output, unbuffered.
pub(crate) struct Stdout;

impl Write for Stdout {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        io::stdout().write(buffer).map_err(of_output)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(of_output)
    }
}

/// Prints the library's messages, one per line.
pub(crate) struct Lines {
    colours: bool,
}

impl Lines {
    /// For standard error: in colour on terminals, unless NO_COLOR or CLICOLOR_FORCE is set.
    pub(crate) fn new() -> Self {
        Self { colours: AutoStream::choice(&io::stderr()) != ColorChoice::Never }
    }
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        let level = event.metadata().level();
        let colour = match *level {
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            Level::DEBUG => 34,
            Level::TRACE => 35,
        };
        let text = shorten(text);
        match self.colours {
            true => writeln!(writer, "\x1b[{colour}m{level:>5}\x1b[0m {}", printable(&text)),
            false => writeln!(writer, "{level:>5} {}", printable(&text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(printable("Zoë\tˈa\n"), "Zoë\tˈa\n");
        let shown = printable("\x1b]0;title\x07\r\u{9b}2J\x7f\u{202e}");
        assert_eq!(shown, "\\u001b]0;title\\u0007\\u000d\\u009b2J\\u007f\\u202e");
        let json = format!("\"{shown}\"");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), "\x1b]0;title\x07\r\u{9b}2J\x7f\u{202e}");
    }

    #[test]
    fn a_writer_shows_them_too() {
        let mut out = Printable(Vec::new());
        let name = "\u{9b}";
        write!(out, "ë\x1b{name}").unwrap();
        out.write_all(b"\xff").unwrap();
        assert_eq!(String::from_utf8(out.0).unwrap(), "ë\\u001b\\u009b\u{fffd}");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("voice.json: {source}")]
    struct Wrapped {
        source: io::Error,
    }

    #[test]
    fn each_cause_is_told_once() {
        let inner = || Wrapped { source: io::Error::other("first line\n  second line") };
        let error = anyhow::Error::from(inner()).context("line 3");
        assert_eq!(describe(&error), "line 3: voice.json: first line\n  second line");
        let error = Err::<(), _>(inner()).context("voice.json").unwrap_err();
        assert_eq!(describe(&error), "voice.json: voice.json: first line\n  second line");
    }

    #[test]
    fn no_message_is_endless() {
        let text = describe(&anyhow::anyhow!("ë".repeat(LONGEST_MESSAGE)));
        assert!(text.len() < LONGEST_MESSAGE + 40 && text.ends_with("bytes more)"));
    }

    #[test]
    fn a_reader_that_is_gone_is_found_behind_other_errors() {
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        let error = Wrapped { source: of_output(closed()) };
        assert!(is_closed_pipe(&anyhow::Error::from(error).context("writing")));
        assert!(is_closed_pipe(&anyhow::Error::from(of_output(closed()))));
        // The end of another pipe is a different matter.
        assert!(!is_closed_pipe(&anyhow::Error::from(closed()).context("a process")));
        assert!(!is_closed_pipe(&anyhow::Error::from(of_output(io::Error::other("full")))));
    }
}
