//! Optional outputs of an export: durations, and weights in half precision.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value as Json;
use vitstream::export::{ExportOptions, ExportSummary, Layout, Precision, export};
use vitstream_onnx::passes::{Pass, WidenedWeights};
use vitstream_onnx::{DType, Graph, decode};
use vitstream_synth::{Chunking, Runtime, Scales, SpeakOptions, Voice, VoiceOptions};
use vitstream_testing::golden;
use vitstream_vits::NoiseSource;

fn open(dir: &Path, runtime: Runtime) -> Voice {
    Voice::open(dir, &VoiceOptions::new().runtime(runtime).sample_rate(22_050)).unwrap()
}

fn runtimes() -> impl Iterator<Item = Runtime> {
    Runtime::ALL.into_iter().filter(|runtime| runtime.available(None).is_ok())
}

fn graph(path: &Path) -> Graph {
    decode(fs::read(path).unwrap().into()).unwrap()
}

fn silent() -> SpeakOptions {
    SpeakOptions::new().scales(Scales { noise: 0.0, length: 1.5, noise_w: 0.0 }).chunking(Chunking::Fixed(20))
}

#[test]
fn durations_add_up_to_the_audio() {
    for (name, noise) in [
        ("multi.ckpt", NoiseSource::Input),
        ("legacy-single.ckpt", NoiseSource::Internal { seed: None }),
        ("multi-nosdp.ckpt", NoiseSource::Internal { seed: Some(3) }),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = ExportOptions::new().durations(true).noise(noise);
        export(golden(name), dir.path(), &options).unwrap();
        let mut found = Vec::new();
        for runtime in runtimes() {
            let voice = open(dir.path(), runtime);
            assert!(voice.gives_durations());
            let ids: Vec<i64> = (0..40).map(|i| i * 3 % 40).collect();
            let mut stream = voice.stream(&ids, &silent()).unwrap();
            assert_eq!(stream.durations(), None);
            let samples: usize = stream.by_ref().map(|chunk| chunk.unwrap().samples.len()).sum();
            let durations = stream.durations().unwrap().to_vec();
            assert_eq!(durations.len(), ids.len(), "{name}");
            assert_eq!(durations.iter().sum::<usize>(), samples, "{name}");
            assert!(durations.iter().all(|n| n % 256 == 0), "{name}: {durations:?}");
            found.push(durations);
        }
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{name}");
    }
}

/// The native engine, which always knows durations, and a pair exported with them report the same times, also
/// across utterances.
#[test]
fn timings_tell_when_each_phoneme_is_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let pair = dir.path().join("pair");
    export(golden("legacy-single.ckpt"), &pair, &ExportOptions::new().durations(true)).unwrap();
    let speak = |voice: &Path, to: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
        command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME");
        command.arg("speak").arg(voice).args(["--raw", "--noise-scale", "0", "--noise-w", "0"]);
        command.args(["--sample-rate", "22050"]).arg("--timings").arg(to);
        if voice.is_dir() {
            command.args(["--runtime", "rten"]);
        }
        command
    };
    let timings = |voice: &Path| -> (Vec<Json>, usize) {
        let file = dir.path().join("timings.json");
        let lines = "{\"phoneme_ids\": [1, 0, 20, 0, 7, 2]}\nnonsense\n{\"phoneme_ids\": [5]}\n";
        let done = speak(voice, &file).write_stdin(lines).assert().code(1).get_output().clone();
        let text = fs::read_to_string(&file).unwrap();
        (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), done.stdout.len() / 2)
    };
    let (lines, samples) = timings(&pair);
    assert_eq!((lines.clone(), samples), timings(&golden("legacy-single.ckpt")));
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["utterance"], &lines[1]["utterance"]), (&"line 1".into(), &"line 3".into()));
    let mut at = 0.0;
    for line in &lines {
        assert_eq!(line["start"], at);
        for (index, phoneme) in line["phonemes"].as_array().unwrap().iter().enumerate() {
            assert_eq!((&phoneme["index"], &phoneme["start"]), (&index.into(), &at.into()));
            at = phoneme["end"].as_f64().unwrap();
        }
        assert_eq!(line["end"], at);
    }
    assert_eq!(lines[0]["phonemes"][2]["id"], 20);
    assert!((at - samples as f64 / 22_050.0).abs() < 1e-6, "{at} {samples}");

    // A pair exported without durations cannot report times, and nothing is written.
    export(golden("legacy-single.ckpt"), &pair, &ExportOptions::default()).unwrap();
    let file = dir.path().join("none.json");
    let done = speak(&pair, &file).args(["--ids", "1,2"]).assert().failure().get_output().clone();
    assert!(String::from_utf8_lossy(&done.stderr).contains("export the voice with --durations"));
    assert!(done.stdout.is_empty() && !file.exists());
}

fn export_to(dir: &Path, checkpoint: &str, options: ExportOptions) -> (PathBuf, ExportSummary) {
    let summary = export(golden(checkpoint), dir, &options).unwrap();
    (dir.to_owned(), summary)
}

fn initializers(graph: &Graph) -> BTreeMap<String, (DType, Vec<f32>)> {
    let entries = graph.initializers.iter();
    entries
        .map(|(&id, tensor)| {
            (graph.value(id).name.clone(), (tensor.dtype, tensor.to_f32().unwrap_or_default()))
        })
        .collect()
}

/// Every file, including whole graphs, holds the same weights up to rounding; small constants are equal.
#[test]
fn half_precision_rounds_the_weights() {
    let root = tempfile::tempdir().unwrap();
    for (layout, checkpoint) in [(Layout::Pair, "multi.ckpt"), (Layout::Single, "high.ckpt")] {
        let options = ExportOptions::new().layout(layout);
        let half = options.clone().precision(Precision::F16Weights);
        let (exact, plain) = export_to(&root.path().join("exact"), checkpoint, options);
        let (rounded, summary) = export_to(&root.path().join("rounded"), checkpoint, half);
        assert_eq!(plain.audio_deviation, None);
        let error = summary.audio_deviation.unwrap();
        assert_eq!(error.frames, error.half_precision_frames);
        assert!(error.relative > 1e-6 && error.relative < 0.05, "{error:?}");
        assert!(error.largest > 0.0 && error.largest < 0.1, "{error:?}");
        assert_eq!(summary.warnings, plain.warnings);
        for (file, usual) in summary.files.iter().zip(&plain.files).filter(|(file, _)| file.nodes.is_some()) {
            let report = file.half_precision.as_ref().unwrap();
            assert!(report.kept.is_empty(), "{}: {report:?}", file.name);
            assert_eq!(usual.half_precision, None);

            let [before, mut after] = [&exact, &rounded].map(|dir| graph(&dir.join(&file.name)));
            assert_eq!(before.metadata.get("precision"), None);
            assert_eq!(after.metadata["precision"], "f16-weights");
            assert_eq!(WidenedWeights.run(&mut after), report.tensors);
            let (before, after) = (initializers(&before), initializers(&after));
            assert!(before.keys().eq(after.keys()));
            let large = |(dtype, values): &&(DType, Vec<f32>)| *dtype == DType::F32 && values.len() >= 1024;
            assert_eq!(report.tensors, before.values().filter(large).count(), "{}", file.name);
            // The encoder of such a small pair has none.
            let rounding = if report.tensors == 0 { 0.0..=0.0 } else { 1e-6..=5e-4 };
            assert!(rounding.contains(&report.largest_relative_error), "{}: {report:?}", file.name);
            for (name, (dtype, values)) in &before {
                let (found, rounded) = &after[name];
                assert_eq!(found, dtype, "{name}");
                for (a, b) in values.iter().zip(rounded) {
                    let bound = if values.len() < 1024 { 0.0 } else { (a.abs() / 2048.0).max(3e-8) };
                    assert!((a - b).abs() <= bound, "{name}: {a} {b}");
                }
            }
        }
    }
}

#[test]
fn half_precision_speaks_in_every_runtime() {
    let root = tempfile::tempdir().unwrap();
    let options = ExportOptions::new().noise(NoiseSource::Input);
    let half = options.clone().precision(Precision::F16Weights);
    let (exact, plain) = export_to(&root.path().join("exact"), "multi.ckpt", options);
    let (rounded, summary) = export_to(&root.path().join("rounded"), "multi.ckpt", half);
    assert_eq!(plain.pair_id, summary.pair_id);
    let ids: Vec<i64> = (0..30).map(|i| i * 7 % 40).collect();
    for runtime in runtimes() {
        let speak = |dir: &Path| {
            let voice = open(dir, runtime);
            assert_eq!(voice.info().symbols, Some(plain.hparams.num_symbols));
            assert_eq!(voice.info().speakers, 3);
            voice.synthesize(&ids, &silent()).unwrap()
        };
        let (before, after) = (speak(&exact), speak(&rounded));
        assert_eq!(before.len(), after.len());
        let power = |samples: &[f32]| samples.iter().map(|v| f64::from(v * v)).sum::<f64>();
        let difference: Vec<f32> = before.iter().zip(&after).map(|(a, b)| a - b).collect();
        let relative = (power(&difference) / power(&before)).sqrt();
        assert!(relative > 0.0 && relative < 0.05, "{runtime}: {relative}");
    }
}

/// Weights exported as float16 can be kept as float16, which gives the same audio. Other weights are refused
/// with a remedy, and so are runtimes that choose the format of the weights themselves.
#[test]
fn a_voice_in_half_precision_can_be_kept_so() {
    let dir = tempfile::tempdir().unwrap();
    let [half, single] = [Precision::F16Weights, Precision::F32].map(|precision| {
        let folder = dir.path().join(format!("{precision:?}"));
        // The graphs draw no noise, so every runtime accepts a seed.
        let options = ExportOptions::new().precision(precision).noise(NoiseSource::Input);
        export(golden("high.ckpt"), &folder, &options).unwrap();
        folder
    });
    let speak = |voice: &Path, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
        command.arg("speak").arg(voice).args(["--ids", "1,5,7,9,2", "--seed", "3", "--raw"]);
        command.args(["--sample-rate", "22050"]).args(arguments).output().unwrap()
    };
    let exact = speak(&half, &[]);
    assert!(exact.status.success() && !exact.stdout.is_empty());
    for arguments in [&["--half-weights"][..], &["--half-weights", "--chunk", "3", "--threads", "2"]] {
        let kept = speak(&half, arguments);
        assert!(kept.status.success(), "{}", String::from_utf8_lossy(&kept.stderr));
        assert!(kept.stdout == exact.stdout, "{arguments:?}");
    }
    for (voice, arguments, parts) in [
        (&single, &[][..], &["weights are float16 numbers", "export it with `--precision f16-weights`"][..]),
        (&golden("high.ckpt"), &[], &["high.ckpt: ", "--precision f16-weights"]),
        (&half, &["--runtime", "rten"], &["--half-weights is for the native runtime"]),
    ] {
        let refused = speak(voice, &[&["--half-weights"], arguments].concat());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{said}");
        for part in parts {
            assert!(said.contains(part), "`{part}` is not in: {said}");
        }
    }
}

#[test]
fn the_summary_tells_people_too() {
    let dir = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_vitstream"))
        .args(["export", "--precision", "f16-weights", "--durations"])
        .arg(golden("multi.ckpt"))
        .arg(dir.path())
        .assert()
        .success();
    let text = String::from_utf8_lossy(&done.get_output().stdout).into_owned();
    for part in [
        "tensors as float16, off by at most 0.0",
        "a test utterance",
        "dB",
        "other utterances can differ more",
    ] {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}
