//! Arbitrary bytes are refused, or read as a graph that can be dumped and rewritten. A valid graph is written
//! and read again, before and after the passes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vitstream_onnx::{Dump, Graph, decode, encode, passes, validate};

fuzz_target!(|bytes: &[u8]| {
    let Ok(graph) = decode(bytes.to_vec().into()) else { return };
    let _ = Dump(&graph).to_string();
    let rewritten = passes::run_default(graph.clone());
    if survives(graph) {
        assert!(survives(rewritten), "the passes broke the graph");
    }
});

/// Returns true if the graph is valid; it must then be the same after being written and read.
fn survives(graph: Graph) -> bool {
    let Ok(graph) = validate(graph) else { return false };
    let written = encode::to_bytes(&graph);
    let again = validate(decode(written.clone().into()).expect("what was written is read"));
    assert_eq!(encode::to_bytes(&again.expect("what was whole stays so")), written);
    true
}
