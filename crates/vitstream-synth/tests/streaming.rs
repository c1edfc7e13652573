//! Streamed audio is the whole's audio, whatever the chunks.

mod common;

use std::sync::Arc;
use std::thread;

use common::{QUIET, difference, fixture, options, runtimes, tiny};
use proptest::prelude::*;
use vitstream_synth::backend::DecodeBackend;
use vitstream_synth::{Chunking, SpeakOptions, Speaker, Voice};
use vitstream_testing::array::Reference;

const TOLERANCE: f32 = 1e-5;

/// A latent of `frames` frames that is not a voice's but exercises every channel.
fn latent(channels: usize, frames: usize) -> Vec<f32> {
    (0..channels * frames).map(|i| ((i * 7919 % 1009) as f32 / 504.5 - 1.0) * 1.5).collect()
}

fn decode(decoder: &Arc<dyn DecodeBackend>, z: &[f32], channels: usize, pushes: &[usize]) -> Vec<f32> {
    let frames = z.len() / channels;
    let g = (0..8).map(|i| i as f32 / 8.0 - 0.5).collect();
    let mut session = decoder.clone().start(Some(g)).unwrap();
    let mut samples = Vec::new();
    let mut at = 0;
    for &count in pushes {
        let end = (at + count).min(frames);
        let part: Vec<f32> = z.chunks_exact(frames).flat_map(|channel| &channel[at..end]).copied().collect();
        samples.extend(session.push(&part, end == frames).unwrap());
        at = end;
        if at == frames {
            break;
        }
    }
    assert_eq!(at, frames, "the pushes do not cover the utterance");
    samples
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn windows_of_any_size_equal_the_whole(frames in 1..150usize, first in 1..20usize, rest in prop::collection::vec(1..40usize, 1..6)) {
        for runtime in runtimes() {
            let decoder = shared(runtime);
            let z = latent(16, frames);
            let whole = decode(&decoder, &z, 16, &[frames]);
            prop_assert_eq!(whole.len(), frames * decoder.hop_length());
            let mut pushes = vec![decoder.look_ahead() + first];
            pushes.extend(rest.iter().cycle().take(frames));
            let streamed = decode(&decoder, &z, 16, &pushes);
            prop_assert!(difference(&whole, &streamed) <= TOLERANCE);
        }
    }
}

/// Opened once: a property test asks for it very often.
fn shared(runtime: vitstream_synth::Runtime) -> Arc<dyn DecodeBackend> {
    static VOICES: std::sync::Mutex<Vec<(vitstream_synth::Runtime, Voice)>> =
        std::sync::Mutex::new(Vec::new());
    let mut voices = VOICES.lock().unwrap();
    if let Some((_, voice)) = voices.iter().find(|(known, _)| *known == runtime) {
        return voice.decoder();
    }
    let voice = Voice::open(&tiny(), &options(runtime)).unwrap();
    voices.push((runtime, voice.clone()));
    voice.decoder()
}

#[test]
fn a_voice_streams_every_utterance_as_the_whole() {
    for runtime in runtimes() {
        let voice = Voice::open(&tiny(), &options(runtime)).unwrap();
        let info = voice.info();
        assert_eq!((info.speakers, info.symbols, info.sample_rate), (3, Some(48), 22_050));
        for count in [1, 2, 7, 60] {
            let ids: Vec<i64> = (0..count).map(|i| i * 5 % 48).collect();
            let speak =
                |chunking| SpeakOptions::new().speaker(Speaker::Id(2)).scales(QUIET).chunking(chunking);
            let whole = voice.synthesize(&ids, &speak(Chunking::Whole)).unwrap();
            assert!(
                !whole.is_empty() && whole.len().is_multiple_of(256) && whole.iter().all(|s| s.is_finite())
            );
            for chunking in
                [Chunking::Scheduled, Chunking::Fixed(1), Chunking::Fixed(9), Chunking::List(vec![3, 30])]
            {
                let stream = voice.stream(&ids, &speak(chunking)).unwrap();
                let chunks: Vec<_> = stream.map(Result::unwrap).collect();
                let mut samples = Vec::new();
                for (i, chunk) in chunks.iter().enumerate() {
                    assert_eq!((chunk.index, chunk.start), (i, samples.len()));
                    assert_eq!(chunk.last, i + 1 == chunks.len());
                    samples.extend_from_slice(&chunk.samples);
                }
                assert!(chunks.is_sorted_by_key(|chunk| chunk.ready));
                assert!(difference(&whole, &samples) <= TOLERANCE);
            }
        }
    }
}

#[test]
fn threads_share_a_voice_and_do_not_mix() {
    for runtime in runtimes() {
        let voice = Voice::open(&tiny(), &options(runtime)).unwrap();
        let speak = |i: i64| {
            let options = SpeakOptions::new().speaker(Speaker::Id(i % 3)).scales(QUIET);
            voice.synthesize(&[i, i + 1, i + 2], &options).unwrap()
        };
        let alone: Vec<_> = (0..4).map(speak).collect();
        let together: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|i| scope.spawn(move || speak(i))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (alone, together) in alone.iter().zip(&together) {
            assert!(difference(alone, together) <= TOLERANCE);
        }
    }
}

/// PyTorch's audio of a real voice, streamed from the pair that PyTorch traced.
#[test]
fn a_real_voice_sounds_as_in_pytorch() {
    let (Some(pair), Some(joe)) = (fixture("traced/joe"), fixture("joe")) else { return };
    let reference = Reference::read(&joe.join("joe.medium.safetensors"));
    let (ids, audio) = (reference.get("input").ints(), reference.get("audio").floats());
    for runtime in runtimes() {
        let voice = Voice::open(&pair, &options(runtime)).unwrap();
        let quiet = |chunking| SpeakOptions::new().scales(QUIET).chunking(chunking);
        let whole = voice.synthesize(ids, &quiet(Chunking::Whole)).unwrap();
        let chunks: Vec<_> =
            voice.stream(ids, &quiet(Chunking::Fixed(100))).unwrap().map(Result::unwrap).collect();
        assert_eq!(chunks.len(), (whole.len() / 256 - 43).div_ceil(100));
        let streamed: Vec<f32> = chunks.into_iter().flat_map(|chunk| chunk.samples).collect();
        let (to_pytorch, to_whole) = (difference(audio, &whole), difference(&whole, &streamed));
        println!("{runtime}: {to_pytorch:e} from PyTorch, streamed {to_whole:e} from the whole");
        assert!(to_pytorch <= 1e-3 && to_whole <= TOLERANCE);
    }
}
