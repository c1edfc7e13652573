//! Sends replies, events and audio to the server.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use vitstream::wav::s16le;

use crate::cmd::terminal::of_output;

/// Limit on the samples of a block. A stop is possible between blocks, and the server's unplayed audio is
/// limited by the capacity of a pipe.
pub(super) const BLOCK: usize = 4096;

/// Escape byte, written before a byte that would be read as a line end or as this byte; one bit of the
/// escaped byte is inverted.
const ESCAPE: u8 = 0x7d;
const TURNED: u8 = 0x20;

/// The connection to the server. The data of one call arrive in one piece.
#[derive(Clone)]
pub(super) struct Wire(Arc<Mutex<dyn Write + Send>>);

impl Wire {
    pub(super) fn new(output: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(output)))
    }

    /// Sends a reply of one or several lines.
    pub(super) fn send(&self, text: &str) -> io::Result<()> {
        self.write(text.as_bytes())
    }

    /// Sends an event with its code.
    pub(super) fn event(&self, event: Event) -> io::Result<()> {
        self.send(match event {
            Event::Begin => "701 BEGIN\n",
            Event::End => "702 END\n",
            Event::Stop => "703 STOP\n",
            Event::Pause => "704 PAUSE\n",
        })
    }

    /// Reports that the mark `name` was reached.
    pub(super) fn mark(&self, name: &str) -> io::Result<()> {
        self.send(&format!("700-{name}\n700 INDEX MARK\n"))
    }

    /// Sends samples for the server to play.
    pub(super) fn audio(&self, samples: &[f32], sample_rate: u32) -> io::Result<()> {
        self.write(&block(samples, sample_rate))
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut output = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        output.write_all(bytes).and_then(|()| output.flush()).map_err(of_output)
    }
}

/// Events of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Event {
    Begin,
    End,
    Stop,
    Pause,
}

fn block(samples: &[f32], sample_rate: u32) -> Vec<u8> {
    let mut text = String::new();
    write!(
        text,
        "705-bits=16\n705-num_channels=1\n705-sample_rate={sample_rate}\n705-num_samples={}\n705-big_endian=0\n705-AUDIO\0",
        samples.len()
    )
    .expect("a string takes everything");
    let mut bytes = text.into_bytes();
    for byte in s16le(samples) {
        if matches!(byte, ESCAPE | b'\n') {
            bytes.extend([ESCAPE, byte ^ TURNED]);
        } else {
            bytes.push(byte);
        }
    }
    bytes.extend(b"\n705 AUDIO\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        // All values of both bytes of a sample.
        let samples: Vec<f32> = (-32_767..=32_767).map(|n| n as f32 / 32_767.0).collect();
        let bytes = block(&samples, 16_000);
        let header = b"705-bits=16\n705-num_channels=1\n705-sample_rate=16000\n705-num_samples=65535\n705-big_endian=0\n705-AUDIO\0";
        let data = bytes.strip_prefix(header).unwrap().strip_suffix(b"\n705 AUDIO\n").unwrap();
        assert!(!data.contains(&b'\n'));
        let mut plain = Vec::new();
        let mut data = data.iter();
        while let Some(&byte) = data.next() {
            plain.push(if byte == 0x7d { data.next().unwrap() ^ 0x20 } else { byte });
        }
        assert!(plain == s16le(&samples));
        assert!(plain.contains(&b'\n') && plain.contains(&0x7d));
    }
}
