//! Models of the other VITS families, exported and run in rten with the random numbers that each family's own
//! implementation drew: the results have to match its values.
#![allow(missing_docs, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use rten::{Model, Value, ValueOrView};
use rten_tensor::prelude::*;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value as Json, json};
use vitstream::Remedy;
use vitstream::export::{ExportOptions, ExportSummary, export};
use vitstream::inspect::{Inspection, inspect};
use vitstream::source::{ReadOptions, load};
use vitstream_testing::array::{Array, Data, Reference, assert_close};
use vitstream_testing::{golden, goldens};
use vitstream_vits::NoiseSource;

const TOLERANCE: f32 = 1e-4;

/// The fixtures of all families, with their files.
const FAMILIES: [(&str, &str); 8] = [
    ("hf", "model.safetensors"),
    ("hf-multi", "model.safetensors"),
    ("hf-nosdp", "pytorch_model.bin"),
    ("coqui", "model.pth"),
    ("coqui-multi", "model.pth"),
    ("coqui-nosdp", "model.pth"),
    ("original", "G_0.pth"),
    ("original-multi", "G_0.pth"),
];

fn family(name: &str) -> PathBuf {
    golden("families").join(name)
}

/// A temporary copy of a family's folder, for changes.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(family(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

/// Changes a JSON file.
fn edit(path: &Path, change: impl FnOnce(&mut Json)) {
    let text = fs::read_to_string(path).unwrap().replace("Infinity", "null");
    let mut json = serde_json::from_str(&text).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

fn run(model: &Path, feeds: &[(&str, &Array)], outputs: &[&str]) -> Vec<Array> {
    let model = Model::load_file(model).unwrap();
    let id = |name: &str| model.node_id(name).unwrap();
    let inputs = feeds.iter().map(|(name, array)| {
        let value: Value = match &array.data {
            Data::F32(values) => Value::from_shape(&array.dims, values.clone()).unwrap(),
            // The only wide integer type of rten is int32, which it uses for int64 graphs.
            Data::I64(values) => {
                Value::from_shape(&array.dims, values.iter().map(|&v| v as i32).collect::<Vec<_>>()).unwrap()
            }
        };
        (id(name), ValueOrView::from(value))
    });
    let outputs: Vec<_> = outputs.iter().map(|name| id(name)).collect();
    let results = model.run(inputs.collect(), &outputs, None).unwrap();
    let array = |value: Value| match value {
        Value::FloatTensor(tensor) => {
            let dims = tensor.shape().to_vec();
            Array::f32(&dims, tensor.into_data())
        }
        other => panic!("{:?} does not occur", other.dtype()),
    };
    results.into_iter().map(array).collect()
}

fn export_with_noise_inputs(input: &Path, output: &Path, read: ReadOptions) -> ExportSummary {
    let options = ExportOptions::new().noise(NoiseSource::Input).read(read);
    export(input, output, &options).unwrap_or_else(|error| panic!("{error}"))
}

/// Every reference case next to `cases`: the encoder's result, its lengths, and the audio.
fn assert_speaks(pair: &Path, cases: &[PathBuf]) {
    assert!(!cases.is_empty());
    for path in cases {
        let case = Reference::read(path);
        let what = |part: &str| format!("{}: {part}", path.display());
        let mut feeds: Vec<(&str, &Array)> =
            ["input", "input_lengths", "scales"].map(|name| (name, case.get(name))).into();
        let multi = case.find("sid").is_some();
        if multi {
            feeds.push(("sid", case.get("sid")));
        }
        if let Some(noise) = case.find("noise.dp") {
            feeds.push(("noise_dp", noise));
        }
        feeds.push(("noise_p", case.get("noise.p")));
        let names = ["z", "y_mask", "g"];
        let encoded = run(&pair.join("encoder.onnx"), &feeds, &names[..2 + usize::from(multi)]);
        // The lengths of all items, and with z the phoneme of each frame, which gives the durations.
        assert_eq!(encoded[1].floats(), case.get("y_mask").floats(), "{}", what("y_mask"));
        assert_close(&encoded[0], case.get("z_p"), TOLERANCE, &what("z"));
        let feeds: Vec<(&str, &Array)> = names.into_iter().zip(&encoded).collect();
        let audio = run(&pair.join("decoder.onnx"), &feeds, &["output"]);
        assert_close(&audio[0], case.get("audio"), TOLERANCE, &what("audio"));
    }
}

fn cases(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let names = ["one", "batch", "shortest"].map(|case| folder.join(format!("{prefix}{case}.safetensors")));
    names.into_iter().filter(|path| path.is_file()).collect()
}

#[test]
fn every_family_speaks_as_its_own_implementation() {
    for (name, file) in FAMILIES {
        let (folder, output) = (family(name), tempfile::tempdir().unwrap());
        export_with_noise_inputs(&folder.join(file), output.path(), ReadOptions::default());
        assert_speaks(output.path(), &cases(&folder, ""));
    }
}

#[test]
fn every_family_can_be_inspected() {
    let formats = ["Hugging Face VitsModel"; 3]
        .into_iter()
        .chain(["Coqui VITS checkpoint"; 3])
        .chain(["original VITS checkpoint"; 2]);
    for ((name, file), format) in FAMILIES.into_iter().zip(formats) {
        let found = inspect(family(name).join(file), &ReadOptions::default()).unwrap();
        let Inspection::Checkpoint(found) = found else { panic!("{name} is no graph") };
        assert_eq!(found.format, format);
        assert_eq!((found.problem, found.hop_length), (None, 32), "{name}");
        assert_eq!(found.hparams.num_speakers, if name.ends_with("multi") { 3 } else { 1 }, "{name}");
        assert_eq!(found.hparams.use_sdp(), !name.ends_with("nosdp"), "{name}");
        assert_eq!(found.hparams.sample_rate, Some(if name.starts_with("hf") { 16000 } else { 22050 }));
    }
}

/// The config.json that belongs to the pair.
fn written_config(name: &str, file: &str) -> Json {
    let output = tempfile::tempdir().unwrap();
    export(family(name).join(file), output.path(), &ExportOptions::default()).unwrap();
    serde_json::from_slice(&fs::read(output.path().join("config.json")).unwrap()).unwrap()
}

#[test]
fn the_voices_json_is_put_together_from_the_familys() {
    let json = written_config("hf", "model.safetensors");
    assert_eq!(json["streaming"], json!(true));
    assert_eq!(json["audio"]["sample_rate"], json!(16000));
    // length_scale is the reciprocal of the speaking rate, which is 0.9.
    assert_eq!(json["inference"], json!({"noise_scale": 0.667, "length_scale": 1.0 / 0.9, "noise_w": 0.8}));
    assert_eq!((&json["num_symbols"], &json["num_speakers"]), (&json!(40), &json!(1)));
    let ids = &json["phoneme_id_map"];
    assert_eq!((&ids["k"], &ids["a"], &ids[" "]), (&json!([0]), &json!([5]), &json!([1])));
    // The symbols that a client inserts before, between and after others: only the blank is present.
    assert_eq!((&ids["^"], &ids["_"], &ids["$"]), (&json!([]), &json!([0]), &json!([])));
    assert_eq!((&json["phoneme_type"], &json["language"]["code"]), (&json!("text"), &json!("eng")));

    let json = written_config("coqui-multi", "model.pth");
    assert_eq!(json["speaker_id_map"], json!({"p225": 0, "p226": 1, "p227": 2}));
    assert_eq!(json["inference"], json!({"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 1.0}));

    let json = written_config("original-multi", "G_0.pth");
    assert_eq!(json["speaker_id_map"], json!({"0": 0, "1": 1, "2": 2}));
    assert_eq!(json["inference"], json!({"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8}));
    assert_eq!(json["phoneme_id_map"], Json::Null);
}

/// Piper's generator alone, as safetensors.
fn save_alone(checkpoint: &str, path: &Path, prefix: &str) {
    let checkpoint = vitstream_checkpoint::Checkpoint::open(golden(checkpoint)).unwrap();
    let tensors: Vec<(String, Vec<usize>, bytes::Bytes)> = checkpoint
        .tensors()
        .iter()
        .filter_map(|tensor| {
            let key = tensor.name().strip_prefix("model_g.")?;
            Some((format!("{prefix}{key}"), tensor.shape().to_vec(), tensor.bytes().unwrap()))
        })
        .collect();
    let view = |shape: &[usize], data| {
        safetensors::tensor::TensorView::new(Dtype::F32, shape.to_vec(), data).unwrap()
    };
    let views = tensors.iter().map(|(key, shape, data)| (key, view(shape, data)));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn flags(texts: &[&str]) -> ReadOptions {
    ReadOptions::new().hparams(texts.iter().copied())
}

#[test]
fn a_generator_saved_alone_speaks_once_the_rest_is_stated() {
    let folder = tempfile::tempdir().unwrap();
    for (prefix, sample_rate) in [("", "sample_rate=16000"), ("model_g.", "sample_rate=22050")] {
        let path = folder.path().join("generator.safetensors");
        save_alone("multi.ckpt", &path, prefix);
        let error = export(&path, &folder.path().join("x"), &ExportOptions::default()).unwrap_err();
        let Some(Remedy::HParams(missing)) = error.remedy() else { panic!("{:?}", error.remedy()) };
        for name in ["upsample_rates", "resblock_dilation_sizes", "sample_rate"] {
            assert!(error.to_string().contains(name), "{error}");
            assert!(missing.iter().any(|(missing, _)| missing == name), "{missing:?}");
        }
        let read =
            flags(&["upsample_rates=8,8,4", "resblock_dilation_sizes=(1,2),(2,6),(3,12)", sample_rate]);
        let output = folder.path().join("pair");
        let summary = export_with_noise_inputs(&path, &output, read);
        assert_eq!((summary.format, summary.speakers), ("VITS state dict", 3));
        assert_speaks(&output, &cases(&goldens(), "multi."));
    }
}

#[test]
fn the_original_without_its_settings_takes_them_from_flags_or_a_named_file() {
    let folder = copy("original");
    let path = folder.path().join("G_0.pth");
    fs::rename(folder.path().join("config.json"), folder.path().join("elsewhere.txt")).unwrap();
    let output = folder.path().join("pair");
    let error = export(&path, &output, &ExportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("upsample_rates") && error.contains("G_0.pth"), "{error}");
    let read = ReadOptions::new().config(folder.path().join("elsewhere.txt"));
    export_with_noise_inputs(&path, &output, read);
    assert_speaks(&output, &cases(folder.path(), ""));
}

/// Returns the error of exporting `folder/file`; nothing may be written.
#[track_caller]
fn refused(path: &Path, read: ReadOptions) -> String {
    let output = path.with_file_name("refused");
    let error = export(path, &output, &ExportOptions::new().read(read));
    let error = error.expect_err("refused").to_string();
    assert!(!output.exists(), "{error}");
    error
}

/// Asserts that the reader refuses a file with one changed setting, and that its message contains `words`.
#[track_caller]
fn assert_setting_refused(name: &str, file: &str, change: impl FnOnce(&mut Json), words: &[&str]) {
    let folder = copy(name);
    edit(&folder.path().join("config.json"), change);
    let error = refused(&folder.path().join(file), ReadOptions::default());
    for word in words {
        assert!(error.contains(word), "{error} should say {word}");
    }
}

#[test]
fn settings_that_contradict_the_weights_or_make_another_network_are_named() {
    let hf = |key: &'static str, value: Json, words: &[&str]| {
        let words = &[&["config.json", key], words].concat()[..];
        assert_setting_refused("hf", "model.safetensors", |json| json[key] = value, words);
    };
    hf("hidden_size", json!(16), &["16", "8"]);
    hf("upsample_kernel_sizes", json!([8, 8, 8]), &["contradicts"]);
    hf("use_stochastic_duration_prediction", json!(false), &["contradicts"]);
    hf("hidden_act", json!("gelu"), &["not supported"]);
    hf("leaky_relu_slope", json!(0.2), &["not supported", "0.1"]);
    hf("use_bias", json!(false), &["not supported"]);
    hf("upsample_rates", Json::Null, &["missing"]);
    hf("upsample_rates", json!("8,8"), &["expected a list"]);
    hf("sampling_rate", json!(-1), &["expected a number"]);
    hf("speaking_rate", json!(0), &["positive"]);
    hf("model_type", json!("vits2"), &["not supported"]);
    assert_setting_refused(
        "hf",
        "model.safetensors",
        |json| json["wavenet_dilation_rate"] = json!(99999),
        &["dilat"],
    );
    assert_setting_refused(
        "hf",
        "model.safetensors",
        |json| json["upsample_rates"] = json!([4, 4, 3]),
        &["upsample"],
    );

    let coqui = |key: &'static str, value: Json, words: &[&str]| {
        assert_setting_refused("coqui", "model.pth", |json| json["model_args"][key] = value, words);
    };
    coqui("use_language_embedding", json!(true), &["use_language_embedding", "not supported"]);
    coqui("use_d_vector_file", json!(true), &["d-vectors", "not supported"]);
    coqui("encoder_sample_rate", json!(16000), &["encoder_sample_rate", "not supported"]);
    coqui("num_heads_text_encoder", json!(4), &["num_heads_text_encoder", "4", "2"]);

    let original = |section: &'static str, key: &'static str, value: Json| {
        assert_setting_refused(
            "original",
            "G_0.pth",
            |json| json[section][key] = value,
            &[key, "contradicts"],
        );
    };
    original("model", "resblock", json!("2"));
    original("model", "use_sdp", json!(false));
    original("model", "n_heads", json!(1));
    original("data", "n_speakers", json!(2));
    original("data", "hop_length", json!(256));
}

#[test]
fn a_spline_of_a_single_bin_is_named() {
    let folder = copy("hf");
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().map(|(name, view)| {
        let mut shape = view.shape().to_vec();
        let mut data = view.data();
        // A width and a height, but no derivative.
        if name.starts_with("duration_predictor.flows.") && name.contains(".conv_proj.") {
            data = &data[..data.len() / shape[0] * 2];
            shape[0] = 2;
        }
        (name, safetensors::tensor::TensorView::new(view.dtype(), shape, data).unwrap())
    });
    fs::write(&path, safetensors::serialize(tensors, None).unwrap()).unwrap();
    edit(&folder.path().join("config.json"), |json| json["duration_predictor_flow_bins"] = json!(1));
    let error = refused(&path, ReadOptions::default());
    assert!(error.contains("`duration.num_bins`: expected 2 to 1000, found 1"), "{error}");
}

#[test]
fn a_duration_predictor_that_is_not_told_the_speaker_gives_all_speakers_the_same_durations() {
    let folder = copy("coqui-multi");
    edit(&folder.path().join("config.json"), |json| {
        json["model_args"]["condition_dp_on_speaker"] = json!(false);
    });
    let output = folder.path().join("pair");
    export_with_noise_inputs(&folder.path().join("model.pth"), &output, ReadOptions::default());
    let case = Reference::read(&folder.path().join("one.safetensors"));
    let frames = |sid: i64| {
        let sid = Array::i64(&[1], &[sid]);
        let noise_p = Array::full(&[1, 8, 4096], 0.0);
        let mut feeds: Vec<(&str, &Array)> =
            ["input", "input_lengths", "scales"].map(|name| (name, case.get(name))).into();
        feeds.extend([("sid", &sid), ("noise_dp", case.get("noise.dp")), ("noise_p", &noise_p)]);
        let outputs = run(&output.join("encoder.onnx"), &feeds, &["z", "g"]);
        (outputs[0].floats().to_vec(), outputs[1].floats().to_vec())
    };
    let (first, second) = (frames(0), frames(2));
    assert_eq!(first.0, second.0);
    assert_ne!(first.1, second.1);
}

#[test]
fn a_folder_of_a_hugging_face_model_is_read_and_not_written_to() {
    let folder = copy("hf-nosdp");
    let pair = folder.path().join("pair");
    export_with_noise_inputs(folder.path(), &pair, ReadOptions::default());
    assert_speaks(&pair, &cases(folder.path(), ""));
    let before = fs::read(folder.path().join("config.json")).unwrap();
    let error = export(folder.path(), folder.path(), &ExportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("name another directory"), "{error}");
    let weights = folder.path().join("pytorch_model.bin");
    let error = export(&weights, folder.path(), &ExportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("config.json: would be overwritten"), "{error}");
    assert_eq!(fs::read(folder.path().join("config.json")).unwrap(), before);
    assert!(!folder.path().join("encoder.onnx").exists());
}

#[test]
fn tensors_that_do_not_fit_are_called_by_their_names_in_the_file() {
    let folder = copy("hf");
    let path = folder.path().join("model.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    // Another name of the same length, in the header.
    let (from, to) = (
        &b"text_encoder.encoder.layers.1.attention.q_proj.bias"[..],
        &b"text_encoder.encoder.layers.1.attention.r_proj.bias"[..],
    );
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(&path, bytes).unwrap();
    let error = refused(&path, ReadOptions::default());
    assert!(error.contains("enc_p.encoder.attn_layers.1.conv_q.bias: missing"), "{error}");
    assert!(error.contains("attention.r_proj.bias: unexpected"), "{error}");
}

#[test]
fn flags_are_checked() {
    let path = family("original").join("G_0.pth");
    let folder = tempfile::tempdir().unwrap();
    let say = |path: &Path, flag: &str| {
        let options = ExportOptions::new().read(flags(&[flag]));
        export(path, &folder.path().join("x"), &options).unwrap_err().to_string()
    };
    assert!(say(&path, "n_heads=4").contains("contradicts"));
    assert!(say(&path, "n_head=2").contains("n_heads"));
    assert!(say(&path, "n_heads").contains("NAME=VALUE"));
    assert!(say(&path, "upsample_rates=8").contains("upsample"));
    assert!(say(&golden("multi.ckpt"), "n_heads=4").contains("n_heads: the file says 4"));
    assert!(
        say(&golden("families/voices/multi.onnx"), "n_heads=2").contains("hyper-parameters can be given for")
    );
    assert!(
        say(&family("hf").join("model.safetensors"), "n_heads=2")
            .contains("hyper-parameters can be given for")
    );
}

#[test]
fn files_beside_the_weights_that_are_missing_or_broken_are_named() {
    let folder = copy("hf");
    let weights = folder.path().join("model.safetensors");
    fs::write(folder.path().join("vocab.json"), r#"{"a": 40}"#).unwrap();
    assert!(refused(&weights, ReadOptions::default()).contains("vocab.json"));
    fs::write(folder.path().join("vocab.json"), r#"{"a": "#).unwrap();
    assert!(refused(&weights, ReadOptions::default()).contains("not valid JSON"));
    fs::write(folder.path().join("config.json"), "[]").unwrap();
    assert!(refused(&weights, ReadOptions::default()).contains("expected a JSON object"));
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let error = load(&weights, &ReadOptions::default()).err().expect("refused");
    assert_eq!(error.remedy(), Some(Remedy::Config), "{error}");

    let folder = copy("coqui");
    // The copy inside the checkpoint is sufficient.
    fs::remove_file(folder.path().join("config.json")).unwrap();
    let output = folder.path().join("pair");
    export_with_noise_inputs(&folder.path().join("model.pth"), &output, ReadOptions::default());
    assert_speaks(&output, &cases(folder.path(), ""));
}

#[test]
fn a_safetensors_file_cut_anywhere_is_refused() {
    let folder = copy("hf");
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    for length in [0, 4, 8, 9, 1000, 62_672, bytes.len() - 1] {
        fs::write(&path, &bytes[..length]).unwrap();
        assert!(refused(&path, ReadOptions::default()).contains("model.safetensors"));
    }
}
