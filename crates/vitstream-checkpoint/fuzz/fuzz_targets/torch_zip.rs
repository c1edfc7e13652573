//! The input is a whole file.
#![no_main]

use libfuzzer_sys::fuzz_target;

mod walk;

fuzz_target!(|file: &[u8]| walk::walk(file.to_vec()));
