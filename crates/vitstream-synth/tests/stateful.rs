//! Decoders that carry their state, and encoders with noise inputs.

mod common;

use std::fs;
use std::sync::Arc;

use common::{QUIET, difference, fixture, options, runtimes, toy};
use proptest::prelude::*;
use vitstream_synth::backend::DecodeBackend;
use vitstream_synth::{Chunking, DecoderChoice, Runtime, Scales, SpeakOptions, Voice};

fn open(runtime: Runtime, decoder: DecoderChoice) -> Voice {
    Voice::open(&toy(), &options(runtime).decoder(decoder)).unwrap()
}

fn stream(decoder: &Arc<dyn DecodeBackend>, z: &[f32], pushes: &[usize]) -> Vec<f32> {
    let frames = z.len() / 3;
    let mut session = decoder.clone().start(None).unwrap();
    let (mut at, mut samples) = (0, Vec::new());
    for &count in pushes {
        let end = (at + count).min(frames);
        let part: Vec<f32> = z.chunks_exact(frames).flat_map(|channel| &channel[at..end]).copied().collect();
        samples.extend(session.push(&part, end == frames).unwrap());
        at = end;
        if at == frames {
            return samples;
        }
    }
    panic!("the pushes do not cover the utterance");
}

#[test]
fn states_carry_over_every_split() {
    for runtime in runtimes() {
        let whole = open(runtime, DecoderChoice::Windowed).decoder();
        let stateful = open(runtime, DecoderChoice::Auto).decoder();
        assert_eq!((stateful.hop_length(), stateful.look_ahead()), (4, 2));
        let splits = (1..40usize, 1..6usize, prop::collection::vec(1..9usize, 1..6));
        let config = ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |((frames, first, rest) in splits)| {
            let z: Vec<f32> = (0..3 * frames).map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0).collect();
            let expected = stream(&whole, &z, &[frames]);
            prop_assert_eq!(expected.len(), frames * 4);
            let pushes: Vec<usize> = [2 + first].into_iter().chain(rest.iter().copied().cycle().take(frames)).collect();
            prop_assert!(difference(&expected, &stream(&stateful, &z, &pushes)) <= 1e-5);
            prop_assert!(difference(&expected, &stream(&whole, &z, &pushes)) <= 1e-5);
        });
    }
}

#[test]
fn too_short_a_first_push_is_refused() {
    let mut session = open(Runtime::default(), DecoderChoice::Stateful).decoder().start(None).unwrap();
    let message = session.push(&[0.0; 6], false).unwrap_err().to_string();
    assert!(message.contains("at least 3 frames"), "{message}");
    assert!(session.push(&[0.0; 4], false).unwrap_err().to_string().contains("3 channels"));
    assert!(session.push(&[], true).is_err());
}

#[test]
fn a_seed_is_the_same_audio_whatever_the_chunks() {
    for runtime in runtimes() {
        let voice = open(runtime, DecoderChoice::Auto);
        assert_eq!(voice.info().scales, Scales { noise: 0.5, length: 1.0, noise_w: 0.8 });
        let speak = |seed, chunking| {
            voice.synthesize(&[1, 5, 7, 2], &SpeakOptions::new().seed(seed).chunking(chunking)).unwrap()
        };
        // Ten frames per id: more than noise is drawn for initially.
        let audio = speak(Some(3), Chunking::Whole);
        assert_eq!(audio.len(), 4 * 10 * 4);
        assert!(difference(&audio, &speak(Some(3), Chunking::Fixed(1))) <= 1e-5);
        assert!(
            difference(
                &audio,
                &open(runtime, DecoderChoice::Windowed)
                    .synthesize(&[1, 5, 7, 2], &SpeakOptions::new().seed(3))
                    .unwrap()
            ) <= 1e-5
        );
        assert_ne!(audio, speak(Some(4), Chunking::Whole));
        assert_ne!(speak(None, Chunking::Whole), speak(None, Chunking::Whole));
        let quiet = SpeakOptions::new().scales(QUIET);
        assert_eq!(voice.synthesize(&[3], &quiet).unwrap(), voice.synthesize(&[3], &quiet).unwrap());
    }
}

/// Copies the toy voice with `from` replaced by `to`, of the same length, in `file`.
fn changed(file: &str, from: &str, to: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    for name in ["encoder.onnx", "decoder.onnx", "decoder.stream.onnx", "config.json"] {
        fs::copy(toy().join(name), dir.path().join(name)).unwrap();
    }
    let mut bytes = fs::read(dir.path().join(file)).unwrap();
    let at = bytes
        .windows(from.len())
        .rposition(|window| window == from.as_bytes())
        .expect("what is to be replaced");
    bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
    fs::write(dir.path().join(file), bytes).unwrap();
    Voice::open(dir.path(), &options(Runtime::default())).expect_err("refused").to_string()
}

#[test]
fn files_of_two_voices_are_refused() {
    let message = changed("decoder.stream.onnx", "toy", "yot");
    for part in ["pair_id", "\"toy\"", "\"yot\"", "decoder.stream.onnx", "encoder.onnx"] {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn damaged_metadata_is_refused_by_its_key() {
    for (from, to) in [
        ("\"shape\": [1, 3, 1, 1]", "\"shape\": [1, 3, 1, x]"),
        ("look_ahead", "look_behin"),
        ("one.state", "ono.state"),
    ] {
        let message = changed("decoder.stream.onnx", from, to);
        assert!(message.contains("decoder.stream.onnx"), "{message}");
    }
}

/// A real encoder with a tiny decoder.
#[test]
fn a_pair_of_strangers_is_refused() {
    let Some(joe) = fixture("traced/joe") else { return };
    let dir = tempfile::tempdir().unwrap();
    fs::copy(joe.join("encoder.onnx"), dir.path().join("encoder.onnx")).unwrap();
    fs::copy(toy().join("decoder.onnx"), dir.path().join("decoder.onnx")).unwrap();
    let message = Voice::open(dir.path(), &options(Runtime::default())).unwrap_err().to_string();
    assert!(message.contains("192 channels") && message.contains('3'), "{message}");
}
