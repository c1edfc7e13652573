//! Any bytes are refused, or read as a graph; one that is whole is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitstream_onnx::{decode, encode, validate};

fuzz_target!(|bytes: &[u8]| {
    let Ok(graph) = decode(bytes.to_vec().into()) else { return };
    let Ok(graph) = validate(graph) else { return };
    let written = encode::to_bytes(&graph);
    let again = validate(decode(written.clone().into()).expect("what was written is read"));
    assert_eq!(encode::to_bytes(&again.expect("what was whole stays so")), written);
});
