//! The durations of phonemes.

mod common;

use std::fs;

use common::{options, runtimes, toy};
use vitstream_synth::{SpeakOptions, Voice};

#[test]
fn durations_are_told_when_they_can_be_true() {
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in [("encoder.durations.onnx", "encoder.onnx"), ("decoder.onnx", "decoder.onnx")] {
        fs::copy(toy().join(from), dir.path().join(to)).unwrap();
    }
    for runtime in runtimes() {
        let voice = Voice::open(dir.path(), &options(runtime)).unwrap();
        assert!(voice.gives_durations());
        let mut stream = voice.stream(&[4, 7, 0, 7, 7], &SpeakOptions::default()).unwrap();
        assert_eq!(stream.durations(), None, "nothing is computed yet");
        stream.by_ref().for_each(|chunk| assert!(chunk.is_ok()));
        // The hop length is 4.
        assert_eq!(stream.durations(), Some(&[32, 56, 0, 56, 56][..]));
        assert_eq!(stream.total_samples(), Some(200));

        let error = voice.synthesize(&[4, 7], &SpeakOptions::default()).unwrap_err().to_string();
        for part in ["encoder.onnx", "`durations`", "2 ids", "20 frames", "add up to 22"] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        let without = Voice::open(&toy(), &options(runtime)).unwrap();
        assert!(!without.gives_durations());
    }
}
