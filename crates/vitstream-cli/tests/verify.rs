//! `vitstream verify`: correct pairs pass, and damage is found and named.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value as Json;
use tempfile::TempDir;
use vitstream::export::{ExportOptions, Layout, Precision, export};
use vitstream::verify::{Check, Part, Report, Verdict, VerifyOptions, verify};
use vitstream_onnx::{Attr, DType, Graph, Node, Tensor, ValueInfo, decode, encode, validate};
use vitstream_testing::golden;
use vitstream_vits::NoiseSource;

const CHECKPOINTS: [&str; 5] = ["legacy-single", "multi", "multi-nosdp", "high", "textual"];
const FILES: [&str; 3] = ["encoder.onnx", "decoder.onnx", "decoder.stream.onnx"];

fn exported_with(source: &Path, options: &ExportOptions) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    export(source, dir.path(), options).unwrap();
    dir
}

fn exported(name: &str) -> TempDir {
    exported_with(&golden(&format!("{name}.ckpt")), &ExportOptions::default())
}

/// With the utterances that users get.
fn fully_against(pair: &Path, source: &Path) -> Report {
    verify(pair, &VerifyOptions::new().against(source)).unwrap_or_else(|error| panic!("{error}"))
}

/// With a short utterance, which takes less time.
fn against(pair: &Path, source: &Path) -> Report {
    speaking(pair, source, 0..30)
}

fn speaking(pair: &Path, source: &Path, ids: std::ops::Range<i64>) -> Report {
    let options = VerifyOptions::new().against(source).ids(ids);
    verify(pair, &options).unwrap_or_else(|error| panic!("{error}"))
}

fn alone(pair: &Path) -> Report {
    let options = VerifyOptions::new().ids(0..30);
    verify(pair, &options).unwrap_or_else(|error| panic!("{error}"))
}

fn checks(report: &Report, verdict: Verdict) -> Vec<&Check> {
    report.checks.iter().filter(|check| check.verdict == verdict).collect()
}

#[track_caller]
fn passes(report: &Report, not_checked: &[&str]) {
    assert!(report.passed, "{}", report.table());
    let names: Vec<&str> =
        checks(report, Verdict::NotChecked).iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, not_checked, "{}", report.table());
}

/// Returns the failed check called `name`.
#[track_caller]
fn failed<'a>(report: &'a Report, name: &str) -> &'a Check {
    assert!(!report.passed);
    let failed = checks(report, Verdict::Failed);
    failed.into_iter().find(|check| check.name == name).unwrap_or_else(|| panic!("{}", report.table()))
}

/// Changes a graph of a pair.
fn edit(pair: &Path, file: &str, change: impl FnOnce(&mut Graph)) {
    let path = pair.join(file);
    let mut graph = decode(fs::read(&path).unwrap().into()).unwrap();
    change(&mut graph);
    fs::write(&path, encode::to_bytes(&validate(graph).unwrap())).unwrap();
}

/// Changes one element of the constant called `name`.
fn damage(pair: &Path, file: &str, name: &str, at: usize, value: impl FnOnce(f32) -> f32) {
    edit(pair, file, |graph| {
        let id = graph.find(name).unwrap();
        let tensor = &graph.initializers[&id];
        let mut values = tensor.to_f32().unwrap();
        values[at] = value(values[at]);
        let tensor = Tensor::f32(&tensor.dims.clone(), &values);
        graph.initializers.insert(id, tensor);
    });
}

#[test]
fn every_golden_checkpoint_passes() {
    for name in CHECKPOINTS {
        let pair = exported(name);
        passes(&fully_against(pair.path(), &golden(&format!("{name}.ckpt"))), &[]);
    }
}

#[test]
fn every_way_to_export_passes() {
    let noises = [NoiseSource::Input, NoiseSource::Internal { seed: Some(9) }];
    for noise in noises {
        for (name, opset) in [("multi", 15), ("multi-nosdp", 18), ("legacy-single", 21)] {
            let source = golden(&format!("{name}.ckpt"));
            let options = ExportOptions::new().noise(noise).opset(opset).stream_decoder(opset != 18);
            let pair = exported_with(&source, &options);
            let open: &[&str] = if opset == 18 { &["stateful"] } else { &[] };
            passes(&against(pair.path(), &source), open);
        }
    }
}

#[test]
fn reference_values_come_out_with_their_noise() {
    for name in CHECKPOINTS {
        let pair = exported(name);
        let with_inputs =
            exported_with(&golden(&format!("{name}.ckpt")), &ExportOptions::new().noise(NoiseSource::Input));
        for case in ["one", "quiet", "batch", "shortest"] {
            let file = golden(&format!("{name}.{case}.safetensors"));
            if !file.is_file() {
                continue;
            }
            passes(&speaking(pair.path(), &file, 0..1), &[]);
            if case == "one" {
                passes(&speaking(with_inputs.path(), &file, 0..1), &[]);
            }
        }
    }
}

#[test]
fn a_finished_voice_is_run_and_its_stages_are_found() {
    for name in ["multi", "legacy-single"] {
        let voice = golden(&format!("families/voices/{name}.onnx"));
        let of_voice = exported_with(&voice, &ExportOptions::default());
        for pair in [&of_voice, &exported(name)] {
            let report = fully_against(pair.path(), &voice);
            passes(&report, &[]);
            let stages: Vec<&str> = report
                .checks
                .iter()
                .filter(|check| check.part == Part::Source && check.max.is_some())
                .map(|check| check.name.as_str())
                .collect();
            for stage in ["durations w_ceil", "latent z_p", "latent z, decoder alone", "audio, both"] {
                assert!(stages.contains(&stage), "{name}: {stages:?}");
            }
        }
    }
}

/// PyTorch's pair has no metadata and no stream decoder, and is compared by the weights recovered from it.
#[test]
fn a_traced_pair_is_verified_and_serves_as_a_source() {
    let traced = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-synth/tests/data/tiny-multi");
    passes(&alone(&traced), &["stateful"]);
    let pair = exported_with(&traced, &ExportOptions::default());
    passes(&fully_against(pair.path(), &traced), &[]);
    let report = against(&traced, &traced);
    passes(&report, &["stateful"]);
    assert!(report.checks.iter().any(|check| check.part == Part::Weights), "{}", report.table());
    assert!(!against(&traced, &golden("multi.ckpt")).passed);
}

/// The pair runs; whether its weights can be read is a separate question.
#[test]
fn what_vitstream_wrote_is_a_source_too() {
    let pair = exported("multi");
    let single = exported_with(&golden("multi.ckpt"), &ExportOptions::new().layout(Layout::Single));
    for source in [pair.path(), &single.path().join("voice.onnx")] {
        let report = against(pair.path(), source);
        assert!(report.passed, "{}", report.table());
        for stage in
            ["durations w, unrounded", "latent z_p", "speaker g", "latent z, decoder alone", "audio, both"]
        {
            let check = report.checks.iter().find(|check| check.name == stage).unwrap();
            assert_eq!(check.verdict, Verdict::Ok, "{}", report.table());
        }
    }
    damage(pair.path(), "encoder.onnx", "enc_p.emb.weight", 5, |w| w + 1.0);
    failed(&against(pair.path(), &single.path().join("voice.onnx")), "latent z_p");
}

#[test]
fn other_families_are_sources_too() {
    for (folder, file) in
        [("hf-multi", "model.safetensors"), ("coqui-nosdp", "model.pth"), ("original", "G_0.pth")]
    {
        let source = golden(&format!("families/{folder}/{file}"));
        let pair = exported_with(&source, &ExportOptions::default());
        passes(&against(pair.path(), &source), &[]);
    }
}

/// Damages one weight of every file in turn, at several places.
#[test]
fn a_damaged_weight_is_caught_and_named() {
    let source = golden("multi.ckpt");
    let cases = [
        ("encoder.onnx", "enc_p.encoder.attn_layers.0.conv_qkv.weight", "latent z_p"),
        ("encoder.onnx", "enc_p.emb.weight", ""),
        ("encoder.onnx", "emb_g.weight", "speaker g"),
        ("decoder.onnx", "flow.flows.6.pre.weight", "latent z, decoder alone"),
        ("decoder.onnx", "flow.flows.0.enc.in_layers.1.sigmoid.bias", "latent z, decoder alone"),
        ("decoder.onnx", "dec.conv_pre.weight", "audio, decoder alone"),
        ("decoder.stream.onnx", "dec.conv_pre.weight", ""),
        ("decoder.stream.onnx", "flow.flows.2.enc.mean.3.weight", ""),
    ];
    for (file, weight, stage) in cases {
        let pair = exported("multi");
        damage(pair.path(), file, weight, 5, |w| w + 0.5);
        let report = against(pair.path(), &source);
        let check = failed(&report, &format!("{file}: weights"));
        assert!(check.detail.contains(weight) && check.detail.contains("1 of "), "{}", check.detail);
        assert_eq!(report.weights.len(), 1);
        let found = &report.weights[0];
        assert_eq!((&*found.file, &*found.name, found.differing), (file, weight, 1));
        assert!(!found.nodes.is_empty());
        if !stage.is_empty() {
            failed(&report, stage);
        }
        // Unchanged files are not blamed.
        for other in FILES.iter().filter(|other| **other != file) {
            let check = report.checks.iter().find(|check| check.name == format!("{other}: weights")).unwrap();
            assert_eq!(check.verdict, Verdict::Ok);
        }
        let text = report.table();
        assert!(text.contains("damaged weights") && text.contains("FAILED"), "{text}");
        let page = report.page();
        assert!(page.contains(weight) && page.contains(&found.nodes[0]), "{file} {weight}");
    }
}

/// Damage to the encoder is not attributed to the decoder, nor the other way round.
#[test]
fn the_stage_tells_which_half_is_damaged() {
    let source = golden("families/voices/multi.onnx");
    let verdict = |report: &Report, name: &str| {
        let mut compared = report.checks.iter().filter(|check| check.part != Part::Speaking);
        compared.find(|check| check.name == name).unwrap_or_else(|| panic!("{name}")).verdict
    };
    let encoder = ("encoder.onnx", "enc_p.encoder.attn_layers.0.conv_qkv.weight", 50.0);
    let decoder = ("decoder.onnx", "dec.conv_pre.weight", 0.5);
    let cases: [(_, &[(&str, Verdict)]); 2] = [
        (
            encoder,
            &[
                ("latent z_p", Verdict::Failed),
                ("audio, decoder alone", Verdict::Ok),
                ("audio, both", Verdict::Failed),
            ],
        ),
        (
            decoder,
            &[
                ("latent z_p", Verdict::Ok),
                ("latent z, decoder alone", Verdict::Ok),
                ("audio, decoder alone", Verdict::Failed),
                ("stateful, chunks of 16 frames", Verdict::Failed),
            ],
        ),
    ];
    for ((file, weight, by), verdicts) in cases {
        let pair = exported("multi");
        damage(pair.path(), file, weight, 5, |w| w + by);
        let report = against(pair.path(), &source);
        for &(name, expected) in verdicts {
            assert_eq!(verdict(&report, name), expected, "{file}: {name}");
        }
    }
}

/// Without a source, two different decoders are found by comparing them with each other.
#[test]
fn decoders_that_differ_are_caught_without_a_source() {
    for file in ["decoder.onnx", "decoder.stream.onnx"] {
        let pair = exported("multi");
        damage(pair.path(), file, "dec.conv_pre.weight", 5, |w| w + 0.5);
        let report = alone(pair.path());
        assert!(!report.passed, "{}", report.table());
        failed(&report, "stateful, chunks of 1 frame");
    }
}

#[test]
fn too_little_overlap_is_caught() {
    let pair = exported("multi");
    edit(pair.path(), "decoder.onnx", |graph| {
        graph.metadata.insert("receptive_field".to_owned(), "9".to_owned());
    });
    // Metadata is taken from the encoder first.
    edit(pair.path(), "encoder.onnx", |graph| {
        graph.metadata.insert("receptive_field".to_owned(), "9".to_owned());
    });
    let report = fully_against(pair.path(), &golden("multi.ckpt"));
    failed(&report, "windowed, chunks of 16 frames");
    assert!(failed(&report, "decoder.onnx: graph").detail.contains("receptive_field"));
}

#[test]
fn metadata_that_make_no_sense_fail_and_are_no_harm() {
    let huge = u64::MAX.to_string();
    let entries = [
        ("receptive_field", huge.as_str()),
        ("hop_length", &huge),
        ("hop_length", "0"),
        ("hop_length", "x"),
        ("hop_length", "7"),
        ("n_speakers", &huge),
        ("n_speakers", "0"),
        ("n_speakers", "-1"),
        ("n_speakers", "4"),
        ("num_symbols", "0"),
        ("num_symbols", "7"),
        ("num_symbols", &huge),
        ("inter_channels", "many"),
        ("inter_channels", "17"),
        ("gin_channels", "-1"),
        ("sample_rate", "0"),
        ("sample_rate", "-1"),
        ("sample_rate", "4000000000"),
        ("look_ahead", &huge),
        ("look_ahead", "0"),
        ("look_ahead", "many"),
        ("states", "[]"),
        ("states", "[{\"input\": \"z\", \"output\": \"output\", \"shape\": [18446744073709551615, 2]}]"),
    ];
    for (key, value) in entries {
        let pair = exported("textual");
        for file in FILES {
            edit(pair.path(), file, |graph| {
                if graph.metadata.contains_key(key) {
                    graph.metadata.insert(key.to_owned(), value.to_owned());
                }
            });
        }
        let report = verify(pair.path(), &VerifyOptions::default()).unwrap();
        assert!(!report.page().is_empty());
        assert!(!report.passed, "{key} {value}\n{}", report.table());
        let named = checks(&report, Verdict::Failed).iter().any(|check| check.detail.contains(key));
        // A plausible number is found by its effect on the output.
        assert!(named || value == "7" || key == "states", "{key} {value}\n{}", report.table());
    }
}

/// The properties that clients read from the JSON are those of the graphs.
#[test]
fn a_json_that_clients_cannot_use_fails_by_its_field() {
    let cases = [
        (r#"{"audio": {"sample_rate": -1}}"#, "audio.sample_rate"),
        (r#"{"audio": {"sample_rate": "22050"}}"#, "audio.sample_rate"),
        (r#"{"audio": {"sample_rate": 44100}}"#, "audio.sample_rate"),
        (r#"{"audio": 22050}"#, "audio"),
        (r#"{"num_speakers": 0}"#, "num_speakers"),
        (r#"{"num_speakers": 2}"#, "num_speakers"),
        (r#"{"num_symbols": -4}"#, "num_symbols"),
        (r#"{"inference": {"noise_scale": "much"}}"#, "inference.noise_scale"),
        (r#"{"inference": {"length_scale": 0}}"#, "length scale"),
        (r#"{"speaker_id_map": {"ada": 3}}"#, "ada"),
        (r#"{"speaker_id_map": {"ada": -1}}"#, "ada"),
        (r#"{"speaker_id_map": ["ada"]}"#, "speaker_id_map"),
        (r#"{"phoneme_id_map": {"a": 5}}"#, "phoneme_id_map"),
        (r#"{"phoneme_id_map": {"a": [-5]}}"#, "phoneme_id_map"),
        (r#"{"streaming": "yes"}"#, "streaming"),
        (r#"{"espeak": {"voice": 7}}"#, "espeak.voice"),
        ("[]", "config.json"),
        ("", "config.json"),
    ];
    let pair = exported("multi");
    for (json, field) in cases {
        fs::write(pair.path().join("config.json"), json).unwrap();
        let report = speaking_alone(pair.path());
        assert!(failed(&report, "config.json").detail.contains(field), "{json}\n{}", report.table());
    }
    // The JSON of another voice next to it has no effect.
    fs::write(pair.path().join("other.onnx.json"), r#"{"num_speakers": 7}"#).unwrap();
    let right = r#"{"audio": {"sample_rate": 22050}, "num_speakers": 3, "speaker_id_map": {"ada": 2}, "other": null}"#;
    fs::write(pair.path().join("config.json"), right).unwrap();
    passes(&speaking_alone(pair.path()), &[]);
    fs::remove_file(pair.path().join("config.json")).unwrap();
    passes(&speaking_alone(pair.path()), &[]);
}

/// A warning, not a failure: no client is affected until such a symbol is spoken.
#[test]
fn symbols_beyond_the_table_are_warned_of() {
    let pair = exported("multi");
    fs::write(pair.path().join("config.json"), r#"{"num_symbols": 200, "phoneme_id_map": {"x": [144]}}"#)
        .unwrap();
    let report = speaking_alone(pair.path());
    assert!(report.passed, "{}", report.table());
    let warnings = checks(&report, Verdict::Warning);
    assert!(warnings[0].detail.contains("num_symbols is 200"), "{}", report.table());
    assert!(report.summary().contains("1 warning") && report.table().contains(" warning "));
    assert!(report.page().contains("class=\"warning\""));
}

/// The purpose of verification: every pair that passes is playable, with both runtimes.
#[test]
fn whatever_passes_plays() {
    let metadata =
        ["sample_rate", "n_speakers", "num_symbols", "hop_length", "receptive_field", "look_ahead"];
    let fields = [
        "/audio/sample_rate",
        "/num_speakers",
        "/num_symbols",
        "/inference/noise_scale",
        "/inference/noise_w",
    ];
    let values = ["-1", "0", "1", "3", "8000", "22050", "1e3", "x", "4294967297"];
    let (mut passed, mut tried) = (0, 0);
    let mut check = |dir: &Path, what: String| {
        tried += 1;
        if !speaking_alone(dir).passed {
            return;
        }
        passed += 1;
        let speak = vitstream_synth::SpeakOptions::default();
        let native =
            vitstream_synth::native::open(dir, &Default::default()).unwrap_or_else(|e| panic!("{what}: {e}"));
        native.synthesize(&[1, 2, 3], &speak).unwrap_or_else(|e| panic!("{what}: {e}"));
        let graphs = vitstream_synth::Voice::open(dir, &Default::default());
        let graphs = graphs.unwrap_or_else(|e| panic!("{what}: {e}"));
        graphs.synthesize(&[1, 2, 3], &speak).unwrap_or_else(|e| panic!("{what}: {e}"));
    };
    for (at, key) in metadata.into_iter().enumerate() {
        for value in values.iter().skip(at % 2).step_by(2) {
            let pair = exported("textual");
            for file in FILES {
                edit(pair.path(), file, |graph| {
                    if graph.metadata.contains_key(key) {
                        graph.metadata.insert(key.to_owned(), (*value).to_owned());
                    }
                });
            }
            check(pair.path(), format!("{key} {value}"));
        }
    }
    let pair = exported("textual");
    for field in fields {
        for value in values {
            let mut json = serde_json::json!({"audio": {}, "inference": {}});
            let (parent, key) = field.rsplit_once('/').unwrap();
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            json.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
            fs::write(pair.path().join("config.json"), json.to_string()).unwrap();
            check(pair.path(), json.to_string());
        }
    }
    assert!(passed >= 10 && passed < tried, "{passed} of {tried}");
}

#[test]
fn a_voice_that_is_all_full_scale_or_all_the_same_fails() {
    for (value, word) in [(1e6, "full scale"), (20.0, "silent")] {
        let pair = exported("multi");
        for file in ["decoder.onnx", "decoder.stream.onnx"] {
            edit(pair.path(), file, |graph| {
                let convs: Vec<_> = graph
                    .initializers
                    .iter()
                    .filter(|(id, _)| graph.value(**id).name.starts_with("dec.conv_post"))
                    .map(|(&id, tensor)| (id, tensor.clone()))
                    .collect();
                assert!(!convs.is_empty());
                for (id, tensor) in convs {
                    let values = tensor.to_f32();
                    let Some(values) = values.filter(|_| tensor.dtype == DType::F32) else { continue };
                    // Enormous weights make everything clip; a bias alone makes a constant signal.
                    let bias = word == "silent" && tensor.dims.len() == 1;
                    let change =
                        |v: f32| if word == "silent" { if bias { value } else { 0.0 } } else { v * value };
                    let changed: Vec<f32> = values.into_iter().map(change).collect();
                    graph.initializers.insert(id, Tensor::f32(&tensor.dims, &changed));
                }
            });
        }
        let report = alone(pair.path());
        let detail = &failed(&report, "audio, loudest sample").detail;
        assert!(detail.contains(word), "{detail}");
    }
}

/// As `alone`, with fewer ids.
fn speaking_alone(pair: &Path) -> Report {
    let options = VerifyOptions::new().ids(0..6);
    verify(pair, &options).unwrap_or_else(|error| panic!("{error}"))
}

/// A reference with one of its tensors changed.
fn reference_with(name: &str, change: impl FnOnce(&mut Vec<usize>, &mut Vec<u8>)) -> tempfile::NamedTempFile {
    use safetensors::SafeTensors;
    use safetensors::tensor::{Dtype, TensorView};
    let bytes = fs::read(golden("multi.one.safetensors")).unwrap();
    let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .iter()
        .map(|(name, view)| (name.to_owned(), view.dtype(), view.shape().to_vec(), view.data().to_vec()))
        .collect();
    let changed = tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap_or_else(|| panic!("{name}"));
    change(&mut changed.2, &mut changed.3);
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), safetensors::serialize(views, None).unwrap()).unwrap();
    file
}

/// Errors in a reference are reported for the reference, not for the voice.
#[test]
fn a_broken_reference_is_blamed_on_the_reference() {
    fn first<const N: usize>(bytes: [u8; N]) -> impl FnOnce(&mut Vec<usize>, &mut Vec<u8>) {
        move |_, data| data[..N].copy_from_slice(&bytes)
    }
    let cases = [
        (reference_with("input", first(999i64.to_le_bytes())), ["tensor input", "999 at position 0"]),
        (reference_with("input", first((-1i64).to_le_bytes())), ["tensor input", "0 to 47"]),
        (reference_with("input_lengths", first(0i64.to_le_bytes())), ["input_lengths", "found 0"]),
        (reference_with("sid", first(3i64.to_le_bytes())), ["tensor sid", "0 to 2"]),
        (reference_with("scales", first(f32::NAN.to_le_bytes())), ["tensor scales", "noise scale"]),
        (reference_with("z_p", first(f32::NAN.to_le_bytes())), ["tensor z_p", "value number 0"]),
        (reference_with("audio", first(f32::INFINITY.to_le_bytes())), ["tensor audio", "finite"]),
        (
            reference_with("input", |shape, data| {
                *shape = vec![1, 60_000];
                *data = vec![0; 8 * 60_000];
            }),
            ["tensor input", "at most 5000 phoneme ids"],
        ),
    ];
    let pair = exported("multi");
    for (file, parts) in cases {
        let done = command()
            .arg(pair.path())
            .arg("--against")
            .arg(file.path())
            .assert()
            .code(2)
            .get_output()
            .clone();
        let message = String::from_utf8_lossy(&done.stderr).into_owned();
        let name = file.path().to_string_lossy().into_owned();
        for part in parts.into_iter().chain([name.as_str()]) {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
        assert!(done.stdout.is_empty());
    }
}

/// A pipe would block forever.
#[cfg(unix)]
#[test]
fn pipes_in_place_of_files_are_refused_by_name() {
    let made = |path: &Path| {
        let _ = fs::remove_file(path);
        let made = std::process::Command::new("mkfifo").arg(path).status();
        made.is_ok_and(|status| status.success())
    };
    let run = |pair: &Path, against: Option<&Path>, code: i32, name: &str| {
        let mut verify = command();
        verify.arg(pair).args(["--ids", "1,2,3"]).timeout(std::time::Duration::from_secs(60));
        if let Some(path) = against {
            verify.arg("--against").arg(path);
        }
        let done = verify.assert().code(code).get_output().clone();
        let said = [done.stdout, done.stderr].concat();
        assert!(String::from_utf8_lossy(&said).contains(name), "{}", String::from_utf8_lossy(&said));
    };
    for name in FILES.into_iter().chain(["config.json"]) {
        let pair = exported("multi");
        if !made(&pair.path().join(name)) {
            eprintln!("skipped: this system has no `mkfifo`");
            return;
        }
        run(pair.path(), None, 1, name);
    }
    let (pair, pipe) = (exported("multi"), tempfile::tempdir().unwrap());
    let pipe = pipe.path().join("reference.safetensors");
    assert!(made(&pipe));
    run(pair.path(), Some(&pipe), 2, "reference.safetensors");
    run(pair.path(), Some("/dev/zero".as_ref()), 2, "/dev/zero");
}

#[test]
fn a_node_that_was_changed_is_named() {
    let pair = exported("multi");
    let mut name = String::new();
    edit(pair.path(), "decoder.onnx", |graph| {
        let node = graph.nodes.iter_mut().rfind(|node| node.op == "Tanh").unwrap();
        "Sigmoid".clone_into(&mut node.op);
        name.clone_from(&node.name);
    });
    let report = against(pair.path(), &golden("multi.ckpt"));
    assert!(failed(&report, "decoder.onnx: graph").detail.contains(&name), "{}", report.table());
}

/// Another version of vitstream may write other graphs, but weights of the same name are comparable.
#[test]
fn a_pair_of_another_version_is_compared_as_far_as_it_goes() {
    let pair = exported("multi");
    for file in FILES {
        edit(pair.path(), file, |graph| {
            graph.metadata.insert("vitstream_version".to_owned(), "0.0.1".to_owned());
            let node = graph.nodes.iter_mut().find(|node| node.op == "Add").unwrap();
            node.name += ".old";
        });
    }
    let report = against(pair.path(), &golden("multi.ckpt"));
    passes(&report, &["encoder.onnx: graph", "decoder.onnx: graph", "decoder.stream.onnx: graph"]);
    damage(pair.path(), "decoder.onnx", "dec.conv_pre.weight", 5, |w| w + 0.5);
    let report = against(pair.path(), &golden("multi.ckpt"));
    assert_eq!(report.weights.len(), 1, "{}", report.table());
}

/// Weights in half precision, each widened before use, are the same network with other tolerances.
#[test]
fn weights_in_half_precision_are_compared_as_such() {
    let pair = exported("multi");
    for file in FILES {
        edit(pair.path(), file, halve);
    }
    let report = against(pair.path(), &golden("multi.ckpt"));
    assert!(report.passed, "{}", report.table());
    let weights = report.checks.iter().find(|check| check.name == "decoder.onnx: weights").unwrap();
    assert!(weights.detail.contains("rounded to float16"), "{}", weights.detail);
    edit(pair.path(), "decoder.onnx", |graph| {
        let id = graph.find("dec.conv_pre.weight").unwrap();
        let tensor = graph.initializers.get_mut(&id).unwrap();
        let mut data = tensor.data.to_vec();
        data[10..12].copy_from_slice(&half::f16::from_f32(0.7).to_le_bytes());
        tensor.data = data.into();
    });
    let report = against(pair.path(), &golden("multi.ckpt"));
    assert_eq!(report.weights.len(), 1, "{}", report.table());
    assert_eq!((&*report.weights[0].name, report.weights[0].elements), ("dec.conv_pre.weight", 3584));
    assert!(report.weights[0].nodes[0].ends_with("conv_pre/Conv"), "{:?}", report.weights[0].nodes);
}

#[test]
fn durations_and_half_precision_of_an_export_pass() {
    let source = golden("multi.ckpt");
    let options = ExportOptions::new().durations(true).precision(Precision::F16Weights);
    let pair = exported_with(&source, &options);
    passes(&against(pair.path(), &source), &[]);
}

/// Stores every large constant as float16 under its name, and casts it back.
fn halve(graph: &mut Graph) {
    let mut halved = Graph::new(graph.name.clone(), graph.opset);
    let is_large = |tensor: &Tensor| tensor.dtype == DType::F32 && tensor.data.len() > 1000;
    // Values are numbered in the order in which they are added.
    for (id, info) in graph.values() {
        let dtype = if graph.constant(id).is_some_and(is_large) { Some(DType::F16) } else { info.dtype };
        halved.add_value(ValueInfo { dtype, ..info.clone() });
    }
    halved.nodes = std::mem::take(&mut graph.nodes);
    for (&id, tensor) in &graph.initializers {
        if !is_large(tensor) {
            halved.initializers.insert(id, tensor.clone());
            continue;
        }
        let values = tensor.to_f32().unwrap();
        let data: Vec<u8> = values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
        let small = Tensor { dtype: DType::F16, dims: tensor.dims.clone(), data: data.into() };
        halved.initializers.insert(id, small);
        let info = graph.value(id);
        let wide = halved.add_value(ValueInfo { name: format!("{}.wide", info.name), ..info.clone() });
        let inputs = halved.nodes.iter_mut().flat_map(|node| &mut node.inputs);
        inputs.filter(|input| **input == Some(id)).for_each(|input| *input = Some(wide));
        let cast = Node {
            name: format!("{}/Cast", info.name),
            op: "Cast".to_owned(),
            inputs: vec![Some(id)],
            outputs: vec![Some(wide)],
            attrs: [("to".to_owned(), Attr::Int(1))].into(),
        };
        halved.nodes.insert(0, cast);
    }
    halved.inputs = std::mem::take(&mut graph.inputs);
    halved.outputs = std::mem::take(&mut graph.outputs);
    halved.metadata = std::mem::take(&mut graph.metadata);
    halved.metadata.insert("precision".to_owned(), "f16-weights".to_owned());
    *graph = halved;
}

#[test]
fn numbers_that_are_none_fail_and_name_the_weight() {
    let weights = [
        ("encoder.onnx", "enc_p.emb.weight"),
        ("decoder.onnx", "dec.conv_pre.bias"),
        ("decoder.stream.onnx", "dec.conv_pre.bias"),
    ];
    for (file, weight) in weights {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let pair = exported("multi");
            damage(pair.path(), file, weight, 3, |_| value);
            let report = alone(pair.path());
            let detail = &failed(&report, file).detail;
            assert!(detail.contains(weight), "{detail}");
            let json = serde_json::to_string(&report).unwrap();
            serde_json::from_str::<Json>(&json).unwrap();
        }
    }
}

/// Excessive durations are detected before anything of that length is computed.
#[test]
fn endless_durations_are_stopped() {
    for value in [50.0, 1e30, f32::NAN] {
        let pair = exported("multi-nosdp");
        edit(pair.path(), "encoder.onnx", |graph| {
            let id = graph.find("dp.proj.bias").unwrap();
            let dims = graph.initializers[&id].dims.clone();
            graph.initializers.insert(id, Tensor::f32(&dims, &[value]));
        });
        let report = alone(pair.path());
        let detail = &failed(&report, "durations w_ceil").detail;
        assert!(detail.contains("encoder.onnx") && detail.contains("damaged"), "{detail}");
        report.page();
    }
}

#[test]
fn silence_is_no_speech() {
    let pair = exported("multi");
    for file in ["decoder.onnx", "decoder.stream.onnx"] {
        edit(pair.path(), file, |graph| {
            let silent: Vec<_> = graph
                .initializers
                .iter()
                .filter(|(id, tensor)| {
                    tensor.dtype == DType::F32 && graph.value(**id).name.starts_with("dec.conv_post")
                })
                .map(|(&id, tensor)| (id, tensor.dims.clone()))
                .collect();
            assert!(!silent.is_empty());
            for (id, dims) in silent {
                graph.initializers.insert(id, Tensor::f32(&dims, &vec![0.0; dims.iter().product()]));
            }
        });
    }
    let report = alone(pair.path());
    assert!(failed(&report, "audio, loudest sample").detail.contains("silent"), "{}", report.table());
}

#[test]
fn files_that_are_cut_short_or_others_fail_by_name() {
    for file in FILES {
        let pair = exported("multi");
        let path = pair.path().join(file);
        let whole = fs::read(&path).unwrap();
        for bytes in [&whole[..whole.len() / 2], &whole[..20], b"", b"not an onnx file at all"] {
            fs::write(&path, bytes).unwrap();
            let report = against(pair.path(), &golden("multi.ckpt"));
            assert!(failed(&report, file).detail.contains(file), "{}", report.table());
            report.page();
        }
        // A graph of another kind.
        let other = if file == "encoder.onnx" { "decoder.onnx" } else { "encoder.onnx" };
        let foreign = exported("multi");
        fs::copy(foreign.path().join(other), &path).unwrap();
        let report = against(pair.path(), &golden("multi.ckpt"));
        failed(&report, file);
        fs::remove_file(&path).unwrap();
        if file != "decoder.stream.onnx" {
            failed(&alone(pair.path()), file);
        }
    }
}

#[test]
fn halves_of_two_voices_do_not_belong_together() {
    for (own, other) in [("multi", "multi-nosdp"), ("multi", "legacy-single"), ("legacy-single", "high")] {
        let (pair, foreign) = (exported(own), exported(other));
        fs::copy(foreign.path().join("decoder.onnx"), pair.path().join("decoder.onnx")).unwrap();
        let report = against(pair.path(), &golden(&format!("{own}.ckpt")));
        failed(&report, "belong together");
        failed(&report, "decoder.onnx: weights");
    }
    let report = against(exported("legacy-single").path(), &golden("high.ckpt"));
    assert!(!report.passed && !report.weights.is_empty());
}

#[test]
fn what_cannot_be_verified_is_an_error_that_says_why() {
    let pair = exported("multi");
    let refused = |dir: &Path, options: VerifyOptions, parts: &[&str]| {
        let error = verify(dir, &options).expect_err("verified").to_string();
        for part in parts {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    };
    let empty = tempfile::tempdir().unwrap();
    let plain = VerifyOptions::default;
    refused(empty.path(), plain(), &["encoder.onnx", "export"]);
    refused(&golden("multi.ckpt"), plain(), &["multi.ckpt", "encoder.onnx"]);
    refused(pair.path(), plain().threads(0), &["threads"]);
    refused(pair.path(), plain().ids([]), &["phoneme id"]);
    refused(pair.path(), plain().ids([1, 48]), &["48 at position 1", "0 to 47"]);
    refused(pair.path(), plain().ids([-1]), &["-1 at position 0"]);
    let source = |path: &Path| VerifyOptions::new().against(path);
    refused(pair.path(), source("/nowhere.ckpt".as_ref()), &["/nowhere.ckpt"]);
    let garbage = empty.path().join("garbage.onnx");
    for bytes in [&b"\x08\x07garbage"[..], b"", b"garbage", &[0; 64]] {
        fs::write(&garbage, bytes).unwrap();
        refused(pair.path(), source(&garbage), &["garbage.onnx"]);
    }
    let reference = fs::read(golden("multi.one.safetensors")).unwrap();
    for end in [9, 200, reference.len() - 1] {
        fs::write(&garbage, &reference[..end]).unwrap();
        refused(pair.path(), source(&garbage), &["garbage.onnx"]);
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
    command.arg("verify");
    command
}

#[test]
fn the_exit_status_tells_and_a_page_is_written() {
    let pair = exported("multi");
    let place = tempfile::tempdir().unwrap();
    let page = place.path().join("report.html");
    let run = |code: i32| {
        let done = command()
            .arg(pair.path())
            .arg("--against")
            .arg(golden("multi.ckpt"))
            .args(["--json", "--ids", "1,2,3,4,5", "--report"])
            .arg(&page)
            .assert()
            .code(code);
        let output = done.get_output().clone();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Json>(&output.stdout).unwrap()
    };
    let json = run(0);
    assert_eq!(json["passed"], true);
    assert_eq!(json["utterances"][1]["ids"], serde_json::json!([1, 2, 3, 4, 5]));
    assert_eq!(json["utterances"][1]["speaker"], 2);
    damage(pair.path(), "decoder.onnx", "dec.conv_pre.weight", 5, |w| w + 0.5);
    let json = run(1);
    assert_eq!(
        (&json["passed"], &json["weights"][0]["name"]),
        (&Json::Bool(false), &"dec.conv_pre.weight".into())
    );
    let text = fs::read_to_string(&page).unwrap();
    assert!(
        text.starts_with("<!DOCTYPE html>")
            && text.contains("data:image/png;base64,")
            && text.contains("<svg")
    );
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing is left beside the page");

    let quiet = command().arg("-q").arg(pair.path()).assert().code(1).get_output().clone();
    assert!(quiet.stdout.is_empty() && quiet.stderr.is_empty());
    let lost = command().arg(pair.path()).args(["--report", "/nowhere/report.html"]).assert().code(2);
    assert!(String::from_utf8_lossy(&lost.get_output().stderr).contains("/nowhere/report.html"));
    let missing = command()
        .arg(pair.path())
        .args(["--runtime", "onnxruntime", "--onnxruntime-library", "/nowhere.so"])
        .assert()
        .code(2);
    let nothing = command().arg(place.path().join("nothing")).assert().code(2);
    assert!(String::from_utf8_lossy(&nothing.get_output().stderr).contains("nothing"));
    assert!(String::from_utf8_lossy(&missing.get_output().stderr).contains("/nowhere.so"));
}

/// The same results in ONNX Runtime, if it is installed.
#[test]
fn onnx_runtime_agrees() {
    let source = golden("families/voices/multi.onnx");
    let pair = exported("multi");
    let run = || {
        let mut verify = command();
        verify.arg(pair.path()).arg("--against").arg(&source).args(["--runtime", "onnxruntime", "--json"]);
        verify.output().unwrap()
    };
    let right = run();
    let stderr = String::from_utf8_lossy(&right.stderr);
    if stderr.contains("ONNX Runtime 1.") && stderr.contains("was not found") {
        eprintln!("skipped: ONNX Runtime is not installed; `pip install onnxruntime`");
        return;
    }
    assert!(right.status.success(), "{stderr}{}", String::from_utf8_lossy(&right.stdout));
    let json: Json = serde_json::from_slice(&right.stdout).unwrap();
    assert_eq!(json["runtime"], "onnxruntime");
    assert!(json["checks"].as_array().unwrap().iter().all(|check| check["verdict"] == "ok"), "{json}");

    damage(pair.path(), "encoder.onnx", "enc_p.emb.weight", 5, |w| w + 1.0);
    let wrong = run();
    assert_eq!(wrong.status.code(), Some(1));
    let json: Json = serde_json::from_slice(&wrong.stdout).unwrap();
    assert_eq!(json["weights"][0]["name"], "enc_p.emb.weight");

    // A NaN in ONNX Runtime does not become a length that takes all memory.
    damage(pair.path(), "encoder.onnx", "enc_p.encoder.norm_layers_1.0.gamma", 0, |_| f32::NAN);
    assert_eq!(run().status.code(), Some(1));
}
