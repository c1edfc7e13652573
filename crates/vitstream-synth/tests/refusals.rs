//! What cannot be spoken or opened is refused with its reason, before anything runs.

mod common;

use std::fs;
use std::path::Path;

use common::{QUIET, options, tiny};
use vitstream_synth::{
    Chunking, DecoderChoice, MAX_IDS, Runtime, Scales, SpeakOptions, Speaker, Voice, VoiceOptions,
};

fn voice() -> Voice {
    Voice::open(&tiny(), &options(Runtime::default())).unwrap()
}

#[track_caller]
fn refused(ids: &[i64], options: &SpeakOptions, expected: &[&str]) {
    let message = voice().stream(ids, options).expect_err("refused").to_string();
    for part in expected {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn ids() {
    let options = SpeakOptions::default();
    refused(&[], &options, &["no phoneme ids"]);
    refused(&[1, 2, 48], &options, &["48", "position 2", "0 to 47"]);
    refused(&[-1], &options, &["-1", "position 0"]);
    refused(&vec![1; MAX_IDS + 1], &options, &["5001", "split"]);
}

#[test]
fn speakers() {
    let of = |speaker| SpeakOptions::new().speaker(speaker);
    refused(&[1], &of(Speaker::Id(3)), &["speaker 3", "0 to 2"]);
    refused(&[1], &of(Speaker::Id(-1)), &["speaker -1"]);
    refused(&[1], &of(Speaker::Name("Ada".to_owned())), &["Ada", "0 to 2"]);
}

#[test]
fn scales() {
    let of = |scales| SpeakOptions::new().scales(scales);
    refused(&[1], &of(Scales { noise: f32::NAN, ..QUIET }), &["noise scale", "NaN"]);
    refused(&[1], &of(Scales { length: -1.0, ..QUIET }), &["length scale", "-1"]);
    refused(&[1], &of(Scales { length: f32::INFINITY, ..QUIET }), &["length scale", "inf"]);
    refused(&[1], &of(Scales { noise_w: 1e9, ..QUIET }), &["noise_w"]);
    refused(&vec![1; 4000], &of(Scales { length: 19.0, ..QUIET }), &["too long", "4000"]);
}

#[test]
fn chunks_and_seeds() {
    refused(&[1], &SpeakOptions::new().chunking(Chunking::Fixed(0)), &["0 frames"]);
    refused(&[1], &SpeakOptions::new().chunking(Chunking::ScheduledFrom(0)), &["0 frames"]);
    refused(&[1], &SpeakOptions::new().chunking(Chunking::List(vec![])), &["at least one"]);
    refused(&[1], &SpeakOptions::new().seed(1), &["seed", "inside the graph"]);
    let seeded = SpeakOptions::new().seed(1);
    let error = voice().stream(&[1], &seeded).expect_err("refused");
    assert_eq!(error.remedy(), Some(vitstream_contract::Remedy::NoiseInput));
}

/// Copies the tiny pair, lets `change` spoil it, and gives what opening says.
fn spoiled(change: impl FnOnce(&Path)) -> String {
    let dir = tempfile::tempdir().unwrap();
    for file in ["encoder.onnx", "decoder.onnx"] {
        fs::copy(tiny().join(file), dir.path().join(file)).unwrap();
    }
    change(dir.path());
    Voice::open(dir.path(), &options(Runtime::default())).expect_err("refused").to_string()
}

#[test]
fn files() {
    let message = spoiled(|dir| fs::remove_file(dir.join("decoder.onnx")).unwrap());
    assert!(message.contains("decoder.onnx"), "{message}");
    let message = spoiled(|dir| fs::remove_file(dir.join("encoder.onnx")).unwrap());
    assert!(message.contains("encoder.onnx"), "{message}");
    let message = spoiled(|dir| fs::write(dir.join("encoder.onnx"), "").unwrap());
    assert!(message.contains("encoder.onnx"), "{message}");
    let message = spoiled(|dir| {
        let bytes = fs::read(dir.join("decoder.onnx")).unwrap();
        fs::write(dir.join("decoder.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(message.contains("decoder.onnx"), "{message}");
    let message = spoiled(|dir| {
        fs::copy(dir.join("decoder.onnx"), dir.join("encoder.onnx")).unwrap();
    });
    assert!(message.contains("encoder.onnx") && message.contains("`input`"), "{message}");
    let message = spoiled(|dir| fs::write(dir.join("config.json"), "{\"num_symbols\": \"many\"}").unwrap());
    assert!(message.contains("config.json"), "{message}");
}

#[test]
fn what_is_missing_is_said() {
    let message = Voice::open(&tiny(), &VoiceOptions::default()).unwrap_err().to_string();
    assert!(message.contains("sample rate"), "{message}");
    let stateful = options(Runtime::default()).decoder(DecoderChoice::Stateful);
    let message = Voice::open(&tiny(), &stateful).unwrap_err().to_string();
    assert!(message.contains("decoder.stream.onnx"), "{message}");
    let many = options(Runtime::default()).threads(0);
    assert!(Voice::open(&tiny(), &many).unwrap_err().to_string().contains("threads"));
}
