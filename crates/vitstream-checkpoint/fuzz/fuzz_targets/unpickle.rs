//! The input is a pickle, which is put into an intact archive with one storage.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitstream_testing::zip;

mod walk;

fuzz_target!(|pickle: &[u8]| {
    let storage = [7u8; 64];
    walk::walk(zip::write(&[("a/data.pkl", pickle), ("a/data/0", &storage)]));
});
