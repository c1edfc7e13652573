//! Voices as found in practice: wrapped, averaged, zipped, damaged, with JSON from any editor. The inputs are
//! made from the golden voices; those in `tests/found` were made with PyTorch (see the README there).
#![allow(missing_docs, reason = "a test")]

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use vitstream::config::VoiceConfig;
use vitstream::export::{ExportOptions, ExportSummary, export};
use vitstream::inspect::{Inspection, inspect};
use vitstream::source::Error;
use vitstream::source::{ReadOptions, Source, WeightSet, load};
use vitstream_checkpoint::Value;
use vitstream_testing::golden;
use vitstream_testing::state_dict::StateDict;

fn found(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/found").join(name)
}

/// A folder with `files`.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    folder
}

fn read(path: &Path, options: &ReadOptions) -> Result<Source, Error> {
    load(path, options)
}

#[track_caller]
fn reads(path: &Path) -> Source {
    read(path, &ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the message of reading `path`.
#[track_caller]
fn refused(path: &Path) -> String {
    refused_with(path, &ReadOptions::default())
}

#[track_caller]
fn refused_with(path: &Path, options: &ReadOptions) -> String {
    let error = read(path, options).err().expect("refused").to_string();
    assert!(error.len() < 4000, "a message of {} bytes", error.len());
    error
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text:?} should say {part:?}");
    }
}

fn exported(path: &Path) -> ExportSummary {
    let out = tempfile::tempdir().unwrap();
    export(path, &out.path().join("out"), &ExportOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn small() -> StateDict {
    StateDict::open(&golden("multi.ckpt"))
}

/// A safetensors file with every tensor that `change` keeps, under the name that it returns.
fn renamed(path: &Path, change: impl Fn(&str) -> Option<String>, more: &[&str]) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let zeros = [0; 16];
    let mut tensors: HashMap<String, TensorView<'_>> =
        file.iter().filter_map(|(name, tensor)| Some((change(name)?, tensor))).collect();
    for name in more {
        let tensor = TensorView::new(safetensors::Dtype::F32, vec![4], &zeros).unwrap();
        tensors.insert((*name).to_owned(), tensor);
    }
    safetensors::serialize(tensors, None).unwrap()
}

#[test]
fn a_fine_tuned_hugging_face_voice_leaves_its_discriminator_out() {
    let original = exported(&golden("families/hf"));
    let model = golden("families/hf/model.safetensors");
    let tuned =
        renamed(&model, |name| Some(name.to_owned()), &["discriminator.discriminators.0.convs.0.bias"]);
    let voice = folder(&[("model.safetensors", &tuned)]);
    for name in ["config.json", "vocab.json", "tokenizer_config.json"] {
        fs::copy(golden("families/hf").join(name), voice.path().join(name)).unwrap();
    }
    assert_eq!(exported(voice.path()).pair_id, original.pair_id);
    let audit = reads(voice.path()).audit;
    assert_eq!(audit.unneeded["discriminator (training only)"], (1, 16));

    fs::remove_file(voice.path().join("config.json")).unwrap();
    says(&refused(voice.path()), &["model.safetensors", "without the config.json"]);
}

/// Each family's voice is read as the same voice in all wrappers that training code uses.
#[test]
fn wrapped_voices_of_every_family_are_the_same() {
    let prefixes =
        ["module.", "_forward_module.", "model.", "generator.", "module.model.", "my_own.net_g.module."];
    let hf = golden("families/hf");
    let expected = reads(&hf).audit.fingerprint;
    for prefix in prefixes {
        let wrapped = renamed(&hf.join("model.safetensors"), |name| Some(format!("{prefix}{name}")), &[]);
        let voice = folder(&[
            ("model.safetensors", &wrapped),
            ("config.json", &fs::read(hf.join("config.json")).unwrap()),
        ]);
        let source = reads(voice.path());
        assert_eq!(source.audit.fingerprint, expected, "{prefix}");
        says(&source.notes.join("\n"), &["prefixes removed from keys"]);
    }
    let expected = reads(&golden("multi.ckpt")).audit.fingerprint;
    for prefix in prefixes {
        let mut state = small();
        state.rename(|key| match key.strip_prefix("model_g.dec.") {
            Some(rest) => format!("{prefix}model_g.dec.module.{rest}"),
            None => format!("{prefix}{key}"),
        });
        let voice = folder(&[("voice.ckpt", &state.write())]);
        let source = reads(&voice.path().join("voice.ckpt"));
        assert_eq!(source.audit.fingerprint, expected, "{prefix}");
        says(&source.notes.join("\n"), &["prefixes removed from keys", "module. within dec"]);
    }
}

/// A text as editors save it.
fn encoded(text: &str, encoding: u8) -> Vec<u8> {
    let lines = text.replace('\n', "\r\n");
    let wide = |mark: &str, unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        mark.encode_utf16().chain(lines.encode_utf16()).flat_map(unit).collect()
    };
    match encoding {
        0 => lines.into_bytes(),
        1 => [b"\xef\xbb\xbf", lines.as_bytes()].concat(),
        2 => wide("\u{feff}", u16::to_le_bytes),
        3 => wide("\u{feff}", u16::to_be_bytes),
        _ => wide("", u16::to_le_bytes),
    }
}

/// Every JSON that belongs to a voice, in every encoding.
#[test]
fn json_is_read_however_it_was_saved() {
    let json = json!({"audio": {"sample_rate": 22_050}, "phoneme_id_map": {"ʃ": [3]}});
    let piper = folder(&[
        ("voice.ckpt", &fs::read(golden("multi.ckpt")).unwrap()),
        ("config.json", serde_json::to_string_pretty(&json).unwrap().as_bytes()),
    ]);
    let voices = [
        (piper.path().to_owned(), "voice.ckpt"),
        (golden("families/hf"), "model.safetensors"),
        (golden("families/coqui"), "model.pth"),
        (golden("families/original"), "G_0.pth"),
    ];
    for (original, weights) in voices {
        let expected = exported(&original.join(weights));
        for encoding in 0..5 {
            let voice = tempfile::tempdir().unwrap();
            let mut texts = 0;
            for entry in fs::read_dir(&original).unwrap() {
                let path = entry.unwrap().path();
                let copy = voice.path().join(path.file_name().unwrap());
                if path.extension().is_some_and(|extension| extension == "json") {
                    texts += 1;
                    fs::write(copy, encoded(&fs::read_to_string(path).unwrap(), encoding)).unwrap();
                } else if path.file_name().unwrap() == weights {
                    fs::copy(path, copy).unwrap();
                }
            }
            assert!(texts > 0);
            let found = exported(&voice.path().join(weights));
            assert_eq!(found.pair_id, expected.pair_id, "{} {encoding}", original.display());
            let sizes =
                |summary: &ExportSummary| -> Vec<u64> { summary.files.iter().map(|f| f.bytes).collect() };
            assert_eq!(sizes(&found), sizes(&expected), "{} {encoding}", original.display());
        }
    }
}

#[test]
fn only_a_json_of_the_voices_own_name_is_taken() {
    let weights = fs::read(golden("families/voices/multi.onnx")).unwrap();
    let json = |rate: u32| json!({"audio": {"sample_rate": rate}}).to_string().into_bytes();
    let names = ["joe.onnx.json", "joe.json", "config.json"];
    for (i, name) in names.iter().enumerate() {
        let voice =
            folder(&[("joe.onnx", &weights), ("other.onnx.json", &json(1)), ("another.json", &json(2))]);
        let path = voice.path().join("joe.onnx");
        let summary = exported(&path);
        assert_eq!(summary.config, None);
        says(&summary.notes.join("\n"), &["no voice JSON", "joe.onnx.json, joe.json, config.json"]);
        says(&summary.warnings.join("\n"), &["other.onnx.json may belong to another voice"]);
        // The first of those that exist.
        for name in &names[i..] {
            fs::write(voice.path().join(name), json(16_000)).unwrap();
        }
        let summary = exported(&path);
        assert_eq!(summary.config, Some(voice.path().join(name)));
        assert_eq!(summary.warnings, [""; 0]);
    }
}

#[test]
fn a_json_that_the_network_cannot_keep_is_a_warning() {
    let check = |json: Json| {
        let voice = folder(&[
            ("voice.ckpt", &fs::read(golden("multi.ckpt")).unwrap()),
            ("config.json", json.to_string().as_bytes()),
        ]);
        exported(&voice.path().join("voice.ckpt")).warnings.join("\n")
    };
    let symbols = reads(&golden("multi.ckpt")).model.hparams.num_symbols;
    assert_eq!(
        check(json!({"phoneme_id_map": {"a": [0], "b": [symbols - 1]}, "speaker_id_map": {"x": 2}})),
        ""
    );
    says(
        &check(json!({"phoneme_id_map": {"a": [0, symbols], "b": 99_999}})),
        &["beyond", "\"a\"", "99999 for \"b\""],
    );
    says(&check(json!({"phoneme_id_map": {"a": [-1]}})), &["negative ids", "-1 for \"a\""]);
    says(
        &check(json!({"phoneme_id_map": {"a\u{303}": [1], "": [2]}})),
        &["not a single character", "\"a\u{303}\""],
    );
    says(
        &check(json!({"speaker_id_map": {"x": 2, "y": 3, "z": -1}})),
        &["3 speakers", "3 for \"y\"", "-1 for \"z\""],
    );
    for rate in [json!(0), json!(-1), json!("x"), json!(1_000_000_000), json!(1.5)] {
        says(&check(json!({"audio": {"sample_rate": rate}})), &["audio.sample_rate is", "hertz"]);
    }
    let many: serde_json::Map<String, Json> =
        (0..5000).map(|i| (char::from_u32(0x4e00 + i).unwrap().to_string(), json!([100_000]))).collect();
    let text = check(json!({"phoneme_id_map": many}));
    assert!(text.len() < 1000 && text.contains("and 4995 more"), "{text}");
}

#[test]
fn other_networks_are_named_and_of_unknown_ones_some_keys() {
    let only = |keys: &[&str]| {
        let mut state = small();
        state.entries.clear();
        for key in keys {
            state.insert(key, &[1], 0.0);
        }
        let voice = folder(&[("voice.ckpt", &state.write())]);
        refused(&voice.path().join("voice.ckpt"))
    };
    says(
        &only(&["generator.text_encoder.emb.weight", "generator.decoder.input_conv.weight_g"]),
        &["icefall"],
    );
    says(&only(&["weight.enc_p.emb_phone.weight", "weight.dec.m_source.l_linear.weight"]), &["RVC"]);
    says(&only(&["module.bert_encoder.weight", "module.predictor.x"]), &["Kokoro"]);
    let error = only(&["conv1.weight", "conv1.bias", "c\u{1b}[2J", "d", "e", "f"]);
    says(&error, &["none of its keys are known", "conv1.weight, conv1.bias, c\\u{1b}[2J, d, e"]);
    assert!(!error.contains(", f"), "{error}");
}

#[test]
fn hyper_parameters_that_the_tensors_contradict_are_named_and_can_be_stated() {
    let mut state = small();
    let symbols = state.get("model_g.enc_p.emb.weight").dims[0];
    state.set("num_symbols", Some(Value::Int(256)));
    let voice = folder(&[("voice.ckpt", &state.write())]);
    let path = voice.path().join("voice.ckpt");
    let both = format!("num_symbols: the file says 256, its tensors (enc_p.emb.weight) have {symbols}");
    says(&refused(&path), &[&both]);
    let Ok(Inspection::Checkpoint(inspection)) = inspect(&path, &ReadOptions::default()) else {
        panic!("inspected")
    };
    says(&inspection.problem.unwrap(), &[&both]);
    let stated = |hparams: &[&str]| ReadOptions::new().hparams(hparams.iter().copied());
    let source = read(&path, &stated(&[&format!("num_symbols={symbols}")])).unwrap();
    assert_eq!(source.audit.fingerprint, reads(&golden("multi.ckpt")).audit.fingerprint);
    says(&source.notes.join("\n"), &[&format!("num_symbols = {symbols}")]);
    says(&refused_with(&path, &stated(&["symbols=1"])), &["expected one of", "num_symbols"]);
    says(&refused_with(&path, &stated(&["upsample_rates=8,8"])), &["upsample_kernel_sizes"]);

    let mut state = small();
    state.entries.retain(|entry| !entry.key.contains("emb_g."));
    let voice = folder(&[("voice.ckpt", &state.write())]);
    says(
        &refused(&voice.path().join("voice.ckpt")),
        &["num_speakers", "says 3", "no speaker embedding (emb_g.weight)"],
    );
    // Options that state settings are refused for a file that is not a checkpoint.
    let options = stated(&["num_symbols=3"]);
    says(&refused_with(&golden("families/voices/multi.onnx"), &options), &["a finished voice"]);
    says(&refused_with(&golden("families/hf"), &options), &["a Hugging Face VitsModel"]);
}

#[test]
fn of_averaged_and_trained_weights_one_set_is_taken_and_said() {
    let fingerprint = |state: &StateDict, weights| {
        let voice = folder(&[("voice.ckpt", &state.write())]);
        let options = ReadOptions::new().weights(weights);
        let source =
            read(&voice.path().join("voice.ckpt"), &options).unwrap_or_else(|error| panic!("{error}"));
        (source.audit.fingerprint, source.notes.join("\n"), source.warnings.join("\n"))
    };
    let mut trained = small();
    trained.entries.retain(|entry| entry.key.starts_with("model_g."));
    let mut averaged = trained.clone();
    for entry in &mut averaged.entries {
        entry.values.iter_mut().for_each(|value| *value *= 0.5);
    }
    let (raw, ema) = (fingerprint(&trained, None).0, fingerprint(&averaged, None).0);
    for prefix in ["model_g_ema.", "ema.module."] {
        let mut both = trained.clone();
        both.entries.extend(averaged.entries.iter().cloned().map(|mut entry| {
            entry.key = entry.key.replace("model_g.", prefix);
            entry
        }));
        let (found, notes, warnings) = fingerprint(&both, None);
        assert_eq!(found, raw);
        says(&notes, &["weights as trained"]);
        says(&warnings, &[prefix, "as well"]);
        let (found, notes, warnings) = fingerprint(&both, Some(WeightSet::Raw));
        assert_eq!((found, warnings.as_str()), (raw, ""));
        says(&notes, &["weights as trained"]);
        let (found, notes, warnings) = fingerprint(&both, Some(WeightSet::Ema));
        assert_eq!((found, warnings.as_str()), (ema, ""));
        says(&notes, &["averaged weights", prefix]);
    }
    let voice = folder(&[("voice.ckpt", &trained.write())]);
    let options = ReadOptions::new().weights(WeightSet::Ema);
    says(&refused_with(&voice.path().join("voice.ckpt"), &options), &["averaged weights were asked for"]);
    says(&refused_with(&golden("families/voices/multi.onnx"), &options), &["checkpoints only"]);
}

/// Averages next to the state dict and, as in Lightning's `WeightAveraging`, in its place.
#[test]
fn averages_outside_of_the_state_dict_are_found() {
    let mut state = small();
    state.entries.retain(|entry| entry.key.starts_with("model_g."));
    let trained = reads(&golden("multi.ckpt")).audit.fingerprint;
    // Each of these names refers to a second dict with the same tensors, which the pickle shares through its
    // memo.
    for (names, averaged) in [
        (&["ema_state_dict"][..], "ema_state_dict"),
        (&["callbacks", "EMA{'decay': 0.999}", "shadow_weights"], "callbacks.EMA"),
        (&["current_model_state"], "current_model_state"),
    ] {
        let bytes = state.write_with(|pickle| {
            let at = state_dict_end(pickle).unwrap();
            // The dict is put into the memo, then into the root; its other name follows.
            let mut more = b"q\xffs".to_vec();
            for name in names {
                more.extend(b"X");
                more.extend((name.len() as u32).to_le_bytes());
                more.extend(name.as_bytes());
                more.extend(b"}");
            }
            // The innermost empty dict is replaced by that of the memo.
            more.pop();
            more.extend(b"h\xff");
            more.extend(vec![b's'; names.len()]);
            pickle.splice(at..=at, more);
        });
        let voice = folder(&[("voice.ckpt", &bytes)]);
        let path = voice.path().join("voice.ckpt");
        let source = reads(&path);
        assert_eq!(source.audit.fingerprint, trained);
        says(&source.warnings.join("\n"), &[averaged, "as well"]);
        for (set, said) in [(WeightSet::Raw, "weights as trained"), (WeightSet::Ema, "averaged weights")] {
            let options = ReadOptions::new().weights(set);
            let source = read(&path, &options).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(source.audit.fingerprint, trained);
            assert_eq!(source.warnings, [""; 0]);
            says(&source.notes.join("\n"), &[said]);
        }
    }
}

/// The position of the `s` that puts the state dict into the root of a pickle of [`StateDict`].
fn state_dict_end(pickle: &[u8]) -> Option<usize> {
    let behind = b"X\x10\0\0\0hyper_parameters";
    let at = pickle.windows(behind.len()).position(|window| window == behind)?;
    (pickle[at - 2..at] == *b"us").then_some(at - 1)
}

#[test]
fn a_flipped_bit_is_noticed_where_it_matters() {
    let bytes = fs::read(golden("multi.ckpt")).unwrap();
    let checkpoint = vitstream_checkpoint::Checkpoint::open(golden("multi.ckpt")).unwrap();
    let flipped = |key: &str| {
        let mut bytes = bytes.clone();
        let data = checkpoint.tensors().require(key).unwrap().bytes().unwrap();
        let at = bytes.windows(data.len()).position(|window| window == data).unwrap();
        bytes[at + data.len() / 2] ^= 1;
        folder(&[("voice.ckpt", &bytes)])
    };
    let voice = flipped("model_g.dec.conv_pre.weight");
    says(
        &refused(&voice.path().join("voice.ckpt")),
        &["dec.conv_pre.weight", "checksum", "damaged download"],
    );
    let voice = flipped("model_g.enc_q.pre.weight");
    reads(&voice.path().join("voice.ckpt"));
}

#[test]
fn every_command_refuses_weights_that_are_no_numbers() {
    let mut state = small();
    state.get("model_g.dec.conv_pre.weight").values[0] = f32::NAN;
    let voice = folder(&[("voice.ckpt", &state.write())]);
    let path = voice.path().join("voice.ckpt");
    says(&refused(&path), &["not finite", "dec.conv_pre.weight"]);
    let Ok(Inspection::Checkpoint(inspection)) = inspect(&path, &ReadOptions::default()) else {
        panic!("inspected")
    };
    says(&inspection.problem.unwrap(), &["not finite"]);
    let speaks = vitstream_synth::native::open(&path, &vitstream_synth::native::NativeOptions::default());
    says(&speaks.expect_err("refused").to_string(), &["not finite", "dec.conv_pre.weight"]);
    let options = ReadOptions::new().allow_nan(true);
    assert_eq!(read(&path, &options).unwrap().audit.non_finite, ["dec.conv_pre.weight"]);
}

#[test]
fn a_voice_inside_an_archive_is_read_there() {
    let source = reads(&found("zipped.zip"));
    says(&source.notes.join("\n"), &["inside the archive: voice/epoch=1.ckpt"]);
    assert_eq!(source.config.unwrap().path, found("zipped.zip").join("voice/config.json"));

    let tar = |files: &[(&str, PathBuf)]| {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, path) in files {
            builder.append_path_with_name(path, name).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let family = |name: &str| golden("families").join(name);
    let files: Vec<(String, PathBuf)> =
        ["config.json", "vocab.json", "tokenizer_config.json", "model.safetensors"]
            .map(|name| (format!("hf/{name}"), family("hf").join(name)))
            .into();
    let named: Vec<(&str, PathBuf)> =
        files.iter().map(|(name, path)| (name.as_str(), path.clone())).collect();
    let voice = folder(&[("hf.tar", &tar(&named))]);
    let (inside, outside) = (reads(&voice.path().join("hf.tar")), reads(&family("hf")));
    assert_eq!(inside.audit.fingerprint, outside.audit.fingerprint);
    assert_eq!(inside.config.unwrap().to_streaming(), outside.config.unwrap().to_streaming());

    // The form that this project's export writes for a client.
    let out = tempfile::tempdir().unwrap();
    export(golden("multi.ckpt"), out.path(), &ExportOptions::default()).unwrap();
    let names = ["encoder.onnx", "decoder.onnx", "decoder.stream.onnx"];
    let pair: Vec<(&str, PathBuf)> = names.iter().map(|&name| (name, out.path().join(name))).collect();
    let voice = folder(&[("pair.tar", &tar(&pair))]);
    let (inside, outside) = (reads(&voice.path().join("pair.tar")), reads(out.path()));
    assert_eq!(inside.audit.fingerprint, outside.audit.fingerprint);

    let two = [("a.ckpt", golden("multi.ckpt")), ("b/c.onnx", family("voices/multi.onnx"))];
    let voice = folder(&[("two.tar", &tar(&two))]);
    says(&refused(&voice.path().join("two.tar")), &["several voices: a.ckpt, b/c.onnx"]);
    says(&refused(&found("unzipped.tar.gz")), &["which was unpacked (v/data.pkl)", "zip -0 -r"]);
}

#[test]
fn an_unpacked_checkpoint_is_named() {
    for name in ["data.pkl", "archive/data.pkl"] {
        let voice = folder(&[(name, b"\x80\x02}."), ("version", b"3")]);
        says(&refused(voice.path()), &["unpacked", name, "zip -0 -r"]);
    }
}

/// Files that claim to hold much more than they do are refused before memory is allocated: within a limit
/// that is less than a tenth of the claim.
#[test]
#[cfg(unix)]
fn small_files_cannot_ask_for_much_memory() {
    let objects = format!("{{\"a\": [{}]}}", vec!["{}"; 5_000_000].join(","));
    let bomb = folder(&[
        ("voice.ckpt", &fs::read(golden("multi.ckpt")).unwrap()),
        ("config.json", objects.as_bytes()),
    ]);
    for (path, part) in [
        (found("stride0-10GB.ckpt"), "would take"),
        (found("coqui-abort.pth"), "coqui-abort.pth: "),
        (bomb.path().join("voice.ckpt"), "more than 262144 values"),
    ] {
        for command in ["inspect", "export", "speak --ids 1 -o x.wav"] {
            let out = tempfile::tempdir().unwrap();
            let target = if command == "export" { out.path().join("out") } else { PathBuf::new() };
            // The limit is on address space, of which a program uses much more than of memory.
            let script = format!("ulimit -v 700000; exec \"$0\" {command} \"$1\" $2");
            let program = env!("CARGO_BIN_EXE_vitstream");
            let done = Command::new("sh")
                .current_dir(out.path())
                .args(["-c", &script, program])
                .args([&path, &target])
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&done.stderr).into_owned();
            assert_eq!(done.status.code(), Some(1), "{command} {}: {error}", path.display());
            says(&error, &[part]);
            assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "{command} left something");
        }
    }
    // The memory budget is the caller's choice.
    let options = ReadOptions::new().memory_budget(1 << 20);
    says(&refused_with(&golden("high.ckpt"), &options), &["would take", "1048576"]);
    let options = ReadOptions::new().memory_budget(16 << 20);
    assert!(read(&golden("high.ckpt"), &options).is_ok());
}

#[test]
fn names_of_any_number_and_length_cost_little() {
    let mut state = small();
    state.remove("model_g.dec.conv_post.weight");
    for i in 0..3000 {
        state.insert(&format!("model_g.{}{i}", "y".repeat(700)), &[1], 0.0);
    }
    state.insert(&format!("model_g.{}", "z\u{7}".repeat(1 << 20)), &[1], 0.0);
    state.insert("model_g.dec.conv_pots.weight", &[1], 0.0);
    let voice = folder(&[("voice.ckpt", &state.write())]);
    let error = refused(&voice.path().join("voice.ckpt"));
    says(&error, &["dec.conv_post.weight: missing (did you mean dec.conv_pots.weight?)", "more unexpected"]);
    assert!(!error.contains('\u{7}'));
}

/// In place of every file that is read: a pipe, which would block until its writer comes, an endless device,
/// and a folder.
#[test]
#[cfg(unix)]
fn what_is_no_file_is_refused_at_once() {
    let pipe = tempfile::tempdir().unwrap();
    let pipe = pipe.path().join("pipe");
    fs::create_dir_all(pipe.parent().unwrap()).unwrap();
    if !Command::new("mkfifo").arg(&pipe).status().is_ok_and(|made| made.success()) {
        println!("skipped: there is no mkfifo to make a pipe with");
        return;
    }
    let strange = [
        (pipe.as_path(), "a named pipe"),
        (Path::new("/dev/zero"), "a device"),
        (Path::new("/"), "a directory"),
    ];
    let hf = golden("families/hf");
    for (target, what) in strange {
        let places: [(&Path, &str, &str); 6] = [
            (&golden("multi.ckpt"), "voice.ckpt", "config.json"),
            (&golden("multi.ckpt"), "voice.ckpt", "voice.onnx.json"),
            (&hf.join("model.safetensors"), "model.safetensors", "config.json"),
            (&hf.join("model.safetensors"), "model.safetensors", "vocab.json"),
            (&hf.join("model.safetensors"), "model.safetensors", "tokenizer_config.json"),
            (&golden("families/coqui/model.pth"), "model.pth", "config.json"),
        ];
        for (weights, name, json) in places {
            let voice = folder(&[(name, &fs::read(weights).unwrap())]);
            if json != "config.json" && name == "model.safetensors" {
                fs::copy(hf.join("config.json"), voice.path().join("config.json")).unwrap();
            }
            std::os::unix::fs::symlink(target, voice.path().join(json)).unwrap();
            says(&refused(&voice.path().join(name)), &[json, "expected a file", what]);
        }
        let options = ReadOptions::new().config(target);
        says(&refused_with(&golden("multi.ckpt"), &options), &["expected a file", what]);
        says(&VoiceConfig::read(target).unwrap_err().to_string(), &["expected a file", what]);
        if what != "a directory" {
            says(&refused(target), &["expected a file", what]);
            let pair = folder(&[("decoder.onnx", b"")]);
            std::os::unix::fs::symlink(target, pair.path().join("encoder.onnx")).unwrap();
            says(&refused(pair.path()), &["encoder.onnx", "expected a file", what]);
            assert!(inspect(target, &ReadOptions::default()).is_err());
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_no_voice() {
    let voice = folder(&[("voice.ckpt", &fs::read(golden("multi.ckpt")).unwrap())]);
    let path = voice.path().join("voice.ckpt");
    let file = vitstream_checkpoint::MappedFile::open(&path).unwrap();
    file.check_unchanged().unwrap();
    fs::File::options().append(true).open(&path).unwrap().set_len(1_300_000).unwrap();
    says(&file.check_unchanged().unwrap_err().to_string(), &["voice.ckpt", "changed while it was read"]);
}

/// Every command that reads a voice has the same options for reading.
#[test]
fn every_command_has_the_options_of_reading() {
    for command in ["export", "inspect", "speak", "bench", "verify"] {
        let help = Command::new(env!("CARGO_BIN_EXE_vitstream")).args([command, "--help"]).output().unwrap();
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        says(&help, &["--config", "--hparam", "--weights", "--allow-nan", "--memory-budget"]);
    }
}

#[test]
fn a_broken_profile_is_a_warning_unless_it_was_named() {
    let home = folder(&[("vitstream/profile.json", b"{\"costs\": ")]);
    let speak = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
        command.env("XDG_CONFIG_HOME", home.path()).current_dir(home.path());
        command.arg("speak").arg(golden("multi.ckpt")).args(["--ids", "1,2", "-o", "x.wav"]).args(arguments);
        let done = command.output().unwrap();
        (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
    };
    if cfg!(target_os = "linux") {
        let (spoken, said) = speak(&[]);
        assert!(spoken && said.contains("not a profile"), "{said}");
    }
    let (spoken, said) = speak(&["--profile", "vitstream/profile.json"]);
    assert!(!spoken && said.contains("not a profile"), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// A prefix before all keys does not change the voice.
    #[test]
    fn voices_under_random_prefixes_are_the_same(
        prefix in prop::collection::vec("(module|_forward_module|model|generator|_orig_mod|[a-z_]{1,9})", 0..4),
        keep_generator in any::<bool>(),
    ) {
        static STATE: std::sync::LazyLock<StateDict> = std::sync::LazyLock::new(small);
        let prefix: String = prefix.iter().map(|part| format!("{part}.")).collect();
        prop_assume!(["enc", "dec.", "flow.", "dp.", "bert", "conv_pre.", "text_"].iter().all(|known| !prefix.contains(known)));
        let mut state = STATE.clone();
        state.entries.retain(|entry| entry.key.starts_with("model_g."));
        state.rename(|key| {
            let own = if keep_generator { key } else { key.strip_prefix("model_g.").unwrap_or(key) };
            format!("{prefix}{own}")
        });
        let voice = folder(&[("voice.ckpt", &state.write())]);
        let found = reads(&voice.path().join("voice.ckpt")).audit.fingerprint;
        prop_assert_eq!(found, reads(&golden("multi.ckpt")).audit.fingerprint);
    }

    /// JSON in any encoding, with any content.
    #[test]
    fn any_json_is_read_in_every_encoding(name in "\\PC{0,20}", value in any::<i64>(), encoding in 0u8..5) {
        let json = json!({name: value});
        let text: Cow<'_, str> = serde_json::to_string_pretty(&json).unwrap().into();
        let voice = folder(&[("voice.json", &encoded(&text, encoding))]);
        let config = VoiceConfig::read(&voice.path().join("voice.json")).unwrap();
        let read: Json = serde_json::from_slice(&config.to_whole()).unwrap();
        let expected = if json.get("streaming").is_some() { json!({}) } else { json };
        prop_assert_eq!(read, expected);
    }
}
