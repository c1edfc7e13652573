//! Reads text that is spoken while it arrives.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// After a pause of this length, text that ends in a mark counts as a sentence.
pub(super) const IDLE: Duration = Duration::from_millis(300);

/// Number of bytes read at a time.
const PORTION: usize = 16 << 10;

/// An event of the input.
pub(super) enum Event {
    Bytes(Vec<u8>),
    /// Nothing arrived for [`IDLE`].
    Idle,
    End,
}

/// An input that is read by a separate thread, so that waiting for it can be interrupted.
pub(super) struct Arriving(Receiver<io::Result<Vec<u8>>>);

impl Arriving {
    pub(super) fn new(mut input: impl Read + Send + 'static) -> Self {
        // Nothing is buffered: the writer waits while we speak.
        let (sender, receiver) = sync_channel(1);
        thread::spawn(move || {
            let mut portion = vec![0; PORTION];
            loop {
                let read = match input.read(&mut portion) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    read => read,
                };
                let is_last = !matches!(read, Ok(1..));
                if sender.send(read.map(|length| portion[..length].to_vec())).is_err() || is_last {
                    break;
                }
            }
        });
        Self(receiver)
    }

    /// Waits for the next event, which is an idle event only if `may_idle` is set.
    pub(super) fn next(&self, may_idle: bool) -> io::Result<Event> {
        let bytes = if may_idle {
            match self.0.recv_timeout(IDLE) {
                Ok(bytes) => bytes?,
                Err(RecvTimeoutError::Timeout) => return Ok(Event::Idle),
                Err(RecvTimeoutError::Disconnected) => Vec::new(),
            }
        } else {
            self.0.recv().unwrap_or_else(|_| Ok(Vec::new()))?
        };
        Ok(if bytes.is_empty() { Event::End } else { Event::Bytes(bytes) })
    }
}

/// The first byte of lines of JSON, with which no text to be spoken begins.
const BRACE: u8 = b'{';

/// The kind of standard input, by its beginning.
pub(super) enum Beginning {
    Json,
    Text,
    Nothing,
}

/// Skips blank lines, whose number is returned too, and examines what follows them.
pub(super) fn beginning(input: &mut impl BufRead) -> io::Result<(Beginning, u64)> {
    let mut lines = 0;
    loop {
        let bytes = input.fill_buf()?;
        let Some(&first) = bytes.first() else { return Ok((Beginning::Nothing, lines)) };
        if first == BRACE {
            return Ok((Beginning::Json, lines));
        }
        // A byte order mark, which some editors write.
        let length = if bytes.starts_with("\u{feff}".as_bytes()) { 3 } else { 1 };
        if length == 1 && !first.is_ascii_whitespace() {
            return Ok((Beginning::Text, lines));
        }
        lines += u64::from(first == b'\n');
        input.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brace_begins_lines_of_json() {
        for (input, json, lines) in
            [("\n\n {\"a\"", true, 2), ("\u{feff}{", true, 0), ("7 {", false, 0), ("[[a]]", false, 0)]
        {
            let mut bytes = input.as_bytes();
            let (beginning, found) = beginning(&mut bytes).unwrap();
            assert_eq!((matches!(beginning, Beginning::Json), found), (json, lines), "{input:?}");
        }
        assert!(matches!(beginning(&mut &b" \n"[..]).unwrap(), (Beginning::Nothing, 1)));
    }

    #[test]
    fn what_arrives_is_passed_on_and_pauses_are_told() {
        let (reader, mut writer) = io::pipe().unwrap();
        let arriving = Arriving::new(reader);
        assert!(matches!(arriving.next(true).unwrap(), Event::Idle));
        io::Write::write_all(&mut writer, b"ab").unwrap();
        assert!(matches!(arriving.next(false).unwrap(), Event::Bytes(bytes) if bytes == b"ab"));
        drop(writer);
        assert!(matches!(arriving.next(false).unwrap(), Event::End));
    }
}
