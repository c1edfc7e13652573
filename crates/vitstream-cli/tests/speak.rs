//! `vitstream speak` from its user's point of view.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use assert_cmd::Command;

fn data(voice: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-synth/tests/data").join(voice)
}

/// `vitstream speak` with the toy voice, whose graphs cannot be read as a network: rten is used, with a
/// warning.
fn speak() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
    command.arg("speak").arg(data("toy")).env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn samples(reader: impl Read) -> Vec<i16> {
    let mut wav = hound::WavReader::new(reader).unwrap();
    assert_eq!((wav.spec().sample_rate, wav.spec().channels, wav.spec().bits_per_sample), (8000, 1, 16));
    wav.samples::<i16>().map(Result::unwrap).collect()
}

fn raw(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect()
}

#[test]
fn a_file_a_pipe_and_raw_samples_are_the_same_audio() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.wav");
    let with = |args: &[&str]| {
        let output = speak()
            .args(["--ids", "1,5,7,2", "--seed", "9"])
            .args(args)
            .assert()
            .success()
            .get_output()
            .clone();
        (output.stdout, text(&output.stderr))
    };
    let bare = raw(&with(&["--raw"]).0);
    assert_eq!(bare.len(), 4 * 10 * 4);
    let (piped, _) = with(&["-o", "-"]);
    assert_eq!(piped[40..44], (320u32).to_le_bytes());
    assert_eq!(samples(&piped[..]), bare);
    let (_, stats) = with(&["-o", file.to_str().unwrap(), "--chunk", "3", "--stats"]);
    assert!(stats.contains("first audio after") && stats.contains("real-time factor"), "{stats}");
    assert_eq!(samples(&fs::read(&file).unwrap()[..]), bare);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside the file");
}

#[test]
fn a_bad_line_is_reported_and_the_others_are_spoken() {
    let lines = "{\"phoneme_ids\": [1, 2]}\nnot json\n\n{\"phoneme_ids\": [1, 99]}\n{\"phoneme_ids\": [3], \"speaker_id\": 0, \"text\": \"a\"}\n{\"phoneme_ids\": [3], \"speaker_id\": 4}";
    let output = speak().arg("--raw").write_stdin(lines).assert().code(1).get_output().clone();
    assert_eq!(output.stdout.len(), (2 + 1) * 10 * 4 * 2);
    let stderr = text(&output.stderr);
    for part in ["line 2: ", "line 4: phoneme id 99", "line 6: speaker 4", "3 of 6 lines"] {
        assert!(stderr.contains(part), "{stderr:?} lacks {part:?}");
    }
}

#[test]
fn an_endless_line_is_skipped() {
    let lines = format!("{}\n{{\"phoneme_ids\": [1]}}\n", "7".repeat(3 << 20));
    let output = speak().arg("--raw").write_stdin(lines).assert().code(1).get_output().clone();
    assert_eq!(output.stdout.len(), 10 * 4 * 2);
    assert!(text(&output.stderr).contains("\nline 1: expected an utterance of at most"));
}

#[test]
fn nothing_is_left_of_an_utterance_that_cannot_be_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.wav");
    let refused = |args: &[&str], part: &str| {
        let output = speak().args(args).arg("-o").arg(&file).assert().code(1).get_output().clone();
        let stderr = text(&output.stderr);
        assert!(stderr.contains(part), "{stderr:?} lacks {part:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    };
    refused(&["--ids", "1,8"], "phoneme id 8 at position 1: expected 0 to 7");
    refused(&["--ids", "-1"], "phoneme id -1");
    refused(&["--ids", "1", "--length-scale", "NaN"], "length scale");
    refused(&["--ids", "1", "--length-scale", "1e9"], "length scale");
    refused(&["--ids", "1", "--noise-w", "-1"], "noise_w");
    refused(&["--ids", "1", "--speaker", "Ada"], "Ada");
    refused(&["--ids", "1", "--chunk", "0"], "0 frames");
    refused(&["--ids", "1", "--threads", "0"], "threads");
    refused(
        &["--ids", "1", "--runtime", "onnxruntime", "--onnxruntime-library", "/nowhere.so"],
        "/nowhere.so",
    );
    refused(&["--ids", "1", "--profile", file.with_file_name("..").to_str().unwrap()], "..");
    fs::remove_dir_all(dir.path()).unwrap();
    let output = speak().args(["--ids", "1", "-o"]).arg(&file).assert().code(1).get_output().clone();
    assert!(text(&output.stderr).contains("out.wav"));
}

#[test]
fn a_voice_that_is_none_is_an_error_that_names_it() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
    let output =
        command.args(["speak", "/nowhere", "--ids", "1", "--raw"]).assert().code(1).get_output().clone();
    assert!(text(&output.stderr).contains("/nowhere"));
    assert!(output.stdout.is_empty());
}

/// A folder exported by vitstream speaks natively and in rten: the noise of a seed is the same as well.
#[test]
fn an_exported_folder_speaks_natively() {
    let dir = tempfile::tempdir().unwrap();
    let voice = dir.path().join("voice");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-vits/tests/golden/multi.ckpt");
    let export = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
        command.arg("export").arg(&golden).arg(&voice).args(["-q", "--noise", "input"]).args(more);
        command.assert().success();
    };
    export(&[]);
    let with = |voice: &Path, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
        command.arg("speak").arg(voice).args([
            "--ids",
            "1,5,7,9,2",
            "--raw",
            "--seed",
            "3",
            "--speaker",
            "2",
        ]);
        let output = command.args(["--sample-rate", "22050"]).args(args).output().unwrap();
        (raw(&output.stdout), text(&output.stderr), output.status.code())
    };
    let (native, stderr, _) = with(&voice, &[]);
    assert!(!native.is_empty() && stderr.is_empty(), "{stderr}");
    assert_eq!(with(&voice, &["--runtime", "native", "--chunk", "3"]).0, native);
    for args in [&["--runtime", "rten"][..], &["--decoder", "windowed"]] {
        let (other, stderr, _) = with(&voice, args);
        assert!(stderr.is_empty(), "{args:?}: {stderr}");
        assert_eq!(other.len(), native.len(), "{args:?}");
        let worst = native.iter().zip(&other).map(|(a, b)| (i32::from(*a) - i32::from(*b)).abs()).max();
        assert!(worst <= Some(2), "{args:?}: {worst:?}");
    }
    let (_, stderr, code) = with(&voice, &["--runtime", "native", "--decoder", "windowed"]);
    assert!(code == Some(1) && stderr.contains("--decoder is for runtimes"), "{stderr}");
    export(&["--layout", "single"]);
    assert_eq!(with(&voice.join("voice.onnx"), &[]).0, native);
}

#[test]
fn a_folder_that_is_not_understood_speaks_in_rten_and_says_so() {
    let args = ["--ids", "1,2", "--raw", "--noise-scale", "0"];
    let default = speak().args(args).assert().success().get_output().clone();
    let rten = speak().args(args).args(["--runtime", "rten"]).assert().success().get_output().clone();
    assert_eq!(default.stdout, rten.stdout);
    assert!(rten.stderr.is_empty());
    let warning = text(&default.stderr);
    assert!(warning.contains("toy: ") && warning.contains("rten is used"), "{warning}");
    let output = speak().args(args).args(["--runtime", "native"]).assert().code(1).get_output().clone();
    assert!(output.stdout.is_empty() && text(&output.stderr).contains("toy: "));
}

#[test]
fn speakers_go_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["encoder.onnx", "decoder.onnx"] {
        fs::copy(data("tiny-multi").join(file), dir.path().join(file)).unwrap();
    }
    let json = r#"{"audio": {"sample_rate": 8000}, "num_speakers": 3, "speaker_id_map": {"Ada": 2}}"#;
    fs::write(dir.path().join("config.json"), json).unwrap();
    let with = |speaker: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
        command.arg("speak").arg(dir.path()).args([
            "--ids",
            "1,2,3",
            "--noise-scale",
            "0",
            "--noise-w",
            "0",
            "--raw",
        ]);
        command.args(["--speaker", speaker]).assert().success().get_output().stdout.clone()
    };
    assert_eq!(with("Ada"), with("2"));
    assert_ne!(with("Ada"), with("1"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said() {
    let output = speak().args(["--ids", "1,2", "-o", "/dev/full"]).assert().code(1).get_output().clone();
    assert!(text(&output.stderr).contains("/dev/full: No space left"), "{}", text(&output.stderr));
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_quietly() {
    let mut process = Process::new(env!("CARGO_BIN_EXE_vitstream"))
        .arg("speak")
        .arg(data("toy"))
        .args(["--ids", "1,2,3", "--raw", "--chunk", "1", "--runtime", "rten"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(process.stdout.take());
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "");
}

/// Weights that are finite, but whose sums are not: the result is an error with the voice's name, and not the
/// loudest sound.
#[test]
fn a_voice_whose_sums_overflow_is_silent_and_named() {
    let hf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-vits/tests/golden/families/hf");
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "vocab.json", "tokenizer_config.json", "added_tokens.json"] {
        fs::copy(hf.join(name), dir.path().join(name)).unwrap();
    }
    let voice = dir.path().join("model.safetensors");
    let mut bytes = fs::read(hf.join("model.safetensors")).unwrap();
    let header = 8 + usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let tensors: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let offsets = &tensors["decoder.conv_pre.weight"]["data_offsets"];
    let [start, end] = [0, 1].map(|i| header + usize::try_from(offsets[i].as_u64().unwrap()).unwrap());
    for (i, value) in bytes[start..end].chunks_exact_mut(4).enumerate() {
        let huge = if i % 2 == 0 { 3e38f32 } else { -3e38 };
        value.copy_from_slice(&huge.to_le_bytes());
    }
    fs::write(&voice, bytes).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_vitstream"))
        .arg("speak")
        .arg(&voice)
        .args(["--ids", "1,2,3,4,5,6,7,8", "--raw", "--seed", "1", "--runtime", "native"])
        .assert()
        .code(1)
        .get_output()
        .clone();
    let said = text(&output.stderr);
    assert!(said.contains("model.safetensors: ") && said.contains("not a number"), "{said}");
    assert!(output.stdout.is_empty(), "{} bytes of sound", output.stdout.len());
}
