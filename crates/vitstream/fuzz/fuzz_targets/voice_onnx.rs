//! Finished voices: a file of arbitrary bytes, or a real one with some bytes changed. Each is either refused,
//! or read as a network all of whose graphs can be written.
//!
//! Input that does not begin like an ONNX file is a list of changes of four bytes each: three bytes for the
//! position in `multi.onnx`, and one for its new value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitstream::source::{self, Input, ReadOptions};
use vitstream_vits::NoiseSource;

const VOICE: &[u8] = include_bytes!("../../../vitstream-vits/tests/golden/families/voices/multi.onnx");

fuzz_target!(|bytes: &[u8]| {
    let file = if bytes.first() == Some(&VOICE[0]) { bytes.to_vec() } else { changed(bytes) };
    let Ok(source) = source::load(Input::bytes("fuzz.onnx", file), &ReadOptions::default()) else { return };
    let noise = NoiseSource::Internal { seed: None };
    source.model.emit_single(15, noise).expect("a network that was loaded has graphs");
    source.model.emit_stream_decoder(15).expect("a network that was loaded has graphs");
});

fn changed(bytes: &[u8]) -> Vec<u8> {
    let mut file = VOICE.to_vec();
    for &[a, b, c, value] in bytes.as_chunks().0 {
        let place = u32::from_le_bytes([a, b, c, 0]) as usize;
        file[place % VOICE.len()] = value;
    }
    file
}
