//! Voices exported by vitstream with some bytes changed. Each is either refused, or read as a network all of
//! whose graphs can be written.
//!
//! The input is a list of changes of four bytes each: three bytes for the position in the exported file, and
//! one for its new value.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vitstream::export::{ExportOptions, Layout, export, files};
use vitstream::source::{self, Input, ReadOptions};
use vitstream_vits::NoiseSource;

static VOICE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let trained = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vitstream-vits/tests/golden/multi.ckpt");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = ExportOptions::new().layout(Layout::Single);
    export(trained, folder.path(), &options).expect("a golden checkpoint is exported");
    fs::read(folder.path().join(files::VOICE)).expect("it was written")
});

fuzz_target!(|bytes: &[u8]| {
    let mut file = VOICE.clone();
    for &[a, b, c, value] in bytes.as_chunks().0 {
        let place = u32::from_le_bytes([a, b, c, 0]) as usize;
        let len = file.len();
        file[place % len] = value;
    }
    let Ok(source) = source::load(Input::bytes("fuzz.onnx", file), &ReadOptions::default()) else { return };
    let noise = NoiseSource::Internal { seed: None };
    source.model.emit_single(15, noise).expect("a network that was loaded has graphs");
    source.model.emit_stream_decoder(15).expect("a network that was loaded has graphs");
});
