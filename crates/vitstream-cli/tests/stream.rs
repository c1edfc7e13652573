//! Networks of every shape, exported and streamed: the stateful decoder produces the same audio as the whole
//! decoder.

use std::fs;
use std::path::{Path, PathBuf};

use vitstream::export::{ExportOptions, export};
use vitstream_synth::{Chunking, DecoderChoice, Runtime, Scales, SpeakOptions, Speaker, Voice, VoiceOptions};
use vitstream_vits::NoiseSource;

const TOLERANCE: f32 = 1e-5;

fn checkpoints() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-vits/tests/golden");
    let mut found: Vec<PathBuf> = fs::read_dir(golden).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "ckpt"));
    found.sort();
    assert!(found.len() >= 5);
    found
}

fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |max, d| if d.is_nan() || max.is_nan() { f32::NAN } else { max.max(d) })
}

#[test]
fn every_network_streams_as_the_whole() {
    let runtimes: Vec<Runtime> =
        Runtime::ALL.into_iter().filter(|runtime| runtime.available(None).is_ok()).collect();
    for checkpoint in checkpoints() {
        let name = checkpoint.file_stem().unwrap().to_string_lossy().into_owned();
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join(&name);
        let options = ExportOptions::new().noise(NoiseSource::Input);
        export(&checkpoint, &dir, &options).unwrap();
        for &runtime in &runtimes {
            let open = |decoder| {
                let options = VoiceOptions::new().runtime(runtime).decoder(decoder).sample_rate(22_050);
                Voice::open(&dir, &options).unwrap()
            };
            let (stateful, windowed) = (open(DecoderChoice::Stateful), open(DecoderChoice::Windowed));
            let symbols = stateful.info().symbols.unwrap() as i64;
            let speaker = Speaker::Id(stateful.info().speakers as i64 - 1);
            for (count, length) in [(1, 1.0), (3, 1.0), (17, 1.0), (40, 2.0)] {
                let ids: Vec<i64> = (0..count).map(|i| (i * 5 + 1) % symbols).collect();
                let speak = |voice: &Voice, chunking| {
                    let options = SpeakOptions::new()
                        .speaker(speaker.clone())
                        .scales(Scales { length, ..Scales::default() })
                        .seed(11)
                        .chunking(chunking);
                    voice.synthesize(&ids, &options).unwrap()
                };
                let whole = speak(&windowed, Chunking::Whole);
                assert!(!whole.is_empty());
                for chunking in [
                    Chunking::Whole,
                    Chunking::Scheduled,
                    Chunking::ScheduledFrom(4),
                    Chunking::Fixed(1),
                    Chunking::Fixed(7),
                    Chunking::List(vec![1, 13, 2, 30]),
                ] {
                    let streamed = speak(&stateful, chunking.clone());
                    let error = difference(&whole, &streamed);
                    assert!(error <= TOLERANCE, "{name}, {runtime}, {count} ids, {chunking:?}: {error:e}");
                }
                assert!(difference(&whole, &speak(&windowed, Chunking::Fixed(9))) <= TOLERANCE);
            }
        }
    }
}
