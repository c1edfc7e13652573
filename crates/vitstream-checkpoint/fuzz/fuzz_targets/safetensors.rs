//! The input is the header of a safetensors file; its length is put before it and some data after it.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod walk;

fuzz_target!(|header: &[u8]| {
    let length = (header.len() as u64).to_le_bytes();
    walk::walk([&length, header, &[0x3f; 64]].concat());
});
