//! The output of every command: never over an input or a voice's file, complete or not written at all, and
//! without remains when the command is interrupted.

#[cfg(unix)]
#[path = "support/signals.rs"]
mod signals;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use assert_cmd::Command;
use tempfile::TempDir;
use vitstream_testing::golden;

fn vitstream() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
    command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Every file below `root` with its content; folders have no content.
fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        }
        found.insert(path.clone(), fs::read(&path).unwrap_or_default());
    }
    found
}

/// A checkpoint with its JSON, and its export in `voice`.
fn place() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::copy(golden("multi.ckpt"), root.path().join("w.ckpt")).unwrap();
    let json = r#"{"audio": {"sample_rate": 22050}, "speaker_id_map": {"Ada": 2}}"#;
    fs::write(root.path().join("w.ckpt.json"), json).unwrap();
    fs::write(root.path().join("ids.json"), r#"{"short": [1, 5, 7, 2]}"#).unwrap();
    let mut export = vitstream();
    export.current_dir(root.path()).args(["export", "-q", "w.ckpt", "voice", "--noise", "input"]);
    export.assert().success();
    root
}

/// Every option that names an output, each with its command.
const OUTPUTS: [&[&str]; 9] = [
    &["speak", "INPUT", "--ids", "1,2", "-o", "OUT"],
    &["speak", "INPUT", "--ids", "1,2", "--raw", "--timings", "OUT"],
    &["speak", "INPUT", "hello", "-o", "new.wav", "--srt", "OUT"],
    &["speak", "INPUT", "hello", "--raw", "--vtt", "OUT"],
    &["bench", "INPUT", "--runtime", "native", "--lengths", "3", "--rounds", "1", "--plot", "OUT"],
    &[
        "bench",
        "voice",
        "--runtime",
        "native",
        "--ids-file",
        "ids.json",
        "--rounds",
        "1",
        "--against",
        "INPUT",
        "--plot",
        "OUT",
    ],
    &["bench", "INPUT", "--runtime", "native", "--calibrate", "--profile", "OUT"],
    &["verify", "voice", "--ids", "1,2", "--report", "OUT"],
    &["verify", "voice", "--ids", "1,2", "--against", "INPUT", "--report", "OUT"],
];

#[test]
fn no_output_of_any_command_is_an_input_or_a_voices_file() {
    let root = place();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("w.ckpt", root.path().join("link.wav")).unwrap();
        std::os::unix::fs::symlink("voice/decoder.onnx", root.path().join("link.html")).unwrap();
    }
    fs::hard_link(root.path().join("w.ckpt"), root.path().join("hard.wav")).unwrap();
    fs::hard_link(root.path().join("voice/decoder.onnx"), root.path().join("hard.svg")).unwrap();
    let before = contents(root.path());
    let mut tried = 0;
    for (input, outputs) in [
        (
            "w.ckpt",
            &["w.ckpt", "./voice/../w.ckpt", "link.wav", "hard.wav", "w.ckpt.json", "voice/encoder.onnx"][..],
        ),
        (
            "voice",
            &[
                "voice/encoder.onnx",
                "voice/decoder.onnx",
                "voice/decoder.stream.onnx",
                "voice/config.json",
                "voice/new.json",
                "voice/DECODER.ONNX",
                "link.html",
                "hard.svg",
                "w.ckpt",
            ],
        ),
    ] {
        for (command, output) in
            OUTPUTS.iter().flat_map(|command| outputs.iter().map(move |out| (command, out)))
        {
            if !root.path().join(output).exists() && cfg!(not(unix)) {
                continue;
            }
            // With `voice` alone, links to a checkpoint that is not read are unknown.
            let reads = |what: &str| command.contains(&what) || command.contains(&"INPUT") && input == what;
            if output.ends_with(".wav") && !reads("w.ckpt") {
                continue;
            }
            let args = command.iter().map(|&arg| match arg {
                "INPUT" => input,
                "OUT" => output,
                arg => arg,
            });
            let done =
                vitstream().current_dir(root.path()).args(args).assert().failure().get_output().clone();
            let said = text(&done.stderr);
            assert!(said.contains(output) && said.contains("name another"), "{command:?} {output}: {said}");
            assert!(done.stdout.is_empty(), "{command:?} {output}");
            assert!(contents(root.path()) == before, "{command:?} {output} has changed a file");
            tried += 1;
        }
    }
    println!("{tried} combinations");
    assert!(tried > 80, "{tried}");
}

#[test]
fn a_list_of_lines_is_not_overwritten_with_its_own_speech() {
    let root = place();
    let lines = root.path().join("lines.jsonl");
    fs::write(&lines, "{\"phoneme_ids\": [1, 2]}\n").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vitstream"));
    command.current_dir(root.path()).args(["speak", "w.ckpt", "-o", "lines.jsonl"]);
    let done = command.stdin(fs::File::open(&lines).unwrap()).output().unwrap();
    assert!(
        !done.status.success() && text(&done.stderr).contains("standard input"),
        "{}",
        text(&done.stderr)
    );
    assert_eq!(fs::read_to_string(&lines).unwrap(), "{\"phoneme_ids\": [1, 2]}\n");
}

/// Files next to a voice that are not part of it can be overwritten any number of times.
#[test]
fn audio_beside_a_voice_is_replaced() {
    let root = place();
    for output in ["voice/hello.wav", "hello.wav"] {
        for ids in ["1,2", "1,2,3"] {
            let mut speak = vitstream();
            speak.current_dir(root.path()).args(["speak", "voice", "--ids", ids, "-o", output]);
            speak.assert().success();
        }
    }
}

/// The files of a folder were not named one by one, so those of an earlier run remain.
#[test]
fn numbered_files_of_an_earlier_run_stay() {
    let root = place();
    let speak = |lines: &str, folder: &str| {
        let mut speak = vitstream();
        speak.current_dir(root.path()).args(["speak", "voice", "--json-input", "-d", folder, "--seed", "1"]);
        speak.write_stdin(lines).output().unwrap()
    };
    let [first, second] = ["{\"phoneme_ids\": [1, 2]}\n", "{\"phoneme_ids\": [1, 2, 3]}\n"];
    assert!(speak(&[first, first].concat(), "d").status.success());
    let before = contents(&root.path().join("d"));
    assert_eq!(before.len(), 2);
    // Writing the same content again is no loss; a different line is reported, and the others are spoken.
    assert!(speak(first, "d").status.success());
    let done = speak(&[first, second, second].concat(), "d");
    let said = text(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("line 2: d/0002.wav: exists already"), "{said}");
    assert!(said.contains("1 of 3"), "{said}");
    let after = contents(&root.path().join("d"));
    assert_eq!(after.len(), 3);
    assert!(before.iter().all(|(path, bytes)| after[path] == *bytes));
    // An output that a line names itself is replaced, as with `--output`.
    let named = |line: &str| line.replace('}', ", \"output_file\": \"d/0001.wav\"}");
    assert!(speak(&named(second), "d").status.success());
    assert!(contents(&root.path().join("d")) != after);
}

#[test]
fn lines_say_how_they_are_spoken() {
    let root = place();
    let speak = |args: &[&str], lines: &str| {
        let mut speak = vitstream();
        speak.current_dir(root.path()).args(["speak", "w.ckpt"]).args(args).write_stdin(lines);
        speak.output().unwrap()
    };
    let base = ["--raw", "--seed", "7"];
    let one = |line: &str| speak(&base, line).stdout;
    let with =
        |args: &[&str]| speak(&[&base[..2], &["7"], args].concat(), "{\"phoneme_ids\": [1, 5, 7, 2]}").stdout;
    for (fields, args) in [
        (r#""speaker": "Ada""#, &["--speaker", "Ada"][..]),
        (r#""speaker": 2"#, &["--speaker", "2"]),
        (r#""speaker_id": 2"#, &["--speaker", "2"]),
        (r#""length_scale": 2"#, &["--length-scale", "2"]),
        (r#""noise_scale": 0"#, &["--noise-scale", "0"]),
        (r#""noise_w": 0"#, &["--noise-w", "0"]),
    ] {
        let spoken = one(&format!("{{\"phoneme_ids\": [1, 5, 7, 2], {fields}}}"));
        assert!(!spoken.is_empty() && spoken == with(args), "{fields}");
        assert!(spoken != with(&[]), "{fields} makes no difference");
    }
    let seeded = one(r#"{"phoneme_ids": [1, 5, 7, 2], "seed": 8}"#);
    assert!(seeded != with(&[]));

    // Each line has its own file, none twice, and none that belongs to a voice.
    let lines = concat!(
        "{\"phoneme_ids\": [1, 5, 7, 2], \"output_file\": \"a.wav\"}\n",
        "{\"phoneme_ids\": [1, 5, 7, 2], \"output_file\": \"a.wav\"}\n",
        "{\"phoneme_ids\": [1, 5, 7, 2], \"output_file\": \"w.ckpt\"}\n",
        "{\"phoneme_ids\": [1, 5, 7, 2], \"output_file\": \"b.wav\", \"text\": \"b\"}\n",
    );
    let done = speak(&["--seed", "7"], lines);
    let said = text(&done.stderr);
    for part in [
        "line 2: output_file a.wav",
        "line 3: output_file w.ckpt",
        "`text` in a line has no effect",
        "2 of 4 lines",
    ] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(fs::read(root.path().join("w.ckpt")).unwrap(), fs::read(golden("multi.ckpt")).unwrap());
    for file in ["a.wav", "b.wav"] {
        let wav = fs::read(root.path().join(file)).unwrap();
        assert!(wav[44..] == with(&[]), "{file}");
        assert_eq!(wav[40..44], (wav.len() as u32 - 44).to_le_bytes());
    }
}

#[test]
fn loudness_is_for_whole_files() {
    let root = place();
    let samples = |args: &[&str]| -> Vec<i16> {
        let mut speak = vitstream();
        speak
            .current_dir(root.path())
            .args(["speak", "w.ckpt", "--ids", "1,5,7,2", "--seed", "7", "-o", "a.wav"]);
        speak.args(args).assert().success();
        hound::WavReader::open(root.path().join("a.wav")).unwrap().samples().map(Result::unwrap).collect()
    };
    let peak = |samples: &[i16]| samples.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
    let usual = samples(&[]);
    let half = samples(&["--volume", "0.5"]);
    assert!(usual.len() == half.len() && peak(&usual).abs_diff(2 * peak(&half)) <= 2);
    assert!(peak(&samples(&["--normalize"])) >= 32_766);
    assert!(peak(&samples(&["--normalize", "--volume", "0.5"])).abs_diff(16_384) <= 1);
    for (args, part) in [
        (&["--raw", "--normalize"][..], "--normalize is for whole files"),
        (&["--raw", "--volume", "2"], "--volume is for whole files"),
        (&["-o", "-", "--volume", "2"], "--volume is for whole files"),
        (&["-o", "b.wav", "--volume", "-1"], "--volume: expected 0 to 100"),
    ] {
        let mut speak = vitstream();
        speak.current_dir(root.path()).args(["speak", "w.ckpt", "--ids", "1"]).args(args);
        let done = speak.assert().failure().get_output().clone();
        assert!(text(&done.stderr).contains(part) && done.stdout.is_empty(), "{}", text(&done.stderr));
    }
}

#[test]
fn options_without_effect_are_refused_by_name() {
    let root = place();
    for (args, part) in [
        (&["speak", "voice", "--ids", "1", "--raw", "--threads", "0"][..], "--threads"),
        (&["bench", "voice", "--rounds", "1", "--runtime", "native", "--threads", "0"], "--threads"),
        (&["verify", "voice", "--threads", "0"], "--threads"),
        (
            &["speak", "voice", "--ids", "1", "--raw", "--onnxruntime-library", "x.so"],
            "--onnxruntime-library",
        ),
        (&["bench", "voice", "--runtime", "rten", "--onnxruntime-library", "x.so"], "--onnxruntime-library"),
        (&["verify", "voice", "--onnxruntime-library", "x.so"], "--onnxruntime-library"),
        (&["speak", "voice", "--ids", "1", "--raw", "--chunk", "3", "--profile", "ids.json"], "--profile"),
        (&["speak", "voice", "--ids", "1", "--raw", "--profile", "absent.json"], "absent.json"),
        (&["bench", "voice", "--calibrate", "--rounds", "3"], "--rounds"),
        (&["bench", "voice", "--runtime", "native", "--decoder", "windowed"], "--decoder"),
        (&["verify", "voice", "--config", "w.ckpt.json"], "--config"),
        (&["export", "w.ckpt", "out", "--layout", "single", "--no-stream-decoder"], "--no-stream-decoder"),
        (&["export", "w.ckpt", "out", "--package", "sonata", "--no-stream-decoder"], "--no-stream-decoder"),
        (&["speak", "w.ckpt", "--ids", "hello", "--raw"], "phoneme_id_map"),
    ] {
        let done = vitstream().current_dir(root.path()).args(args).assert().failure().get_output().clone();
        let said = text(&done.stderr);
        assert!(said.contains(part) && done.stdout.is_empty(), "{args:?}: {said}");
    }
    assert!(!root.path().join("out").exists());
    // Playback needs a player.
    let mut mute = vitstream();
    mute.current_dir(root.path()).env("PATH", "/nonexistent").env("PULSE_SERVER", "/nonexistent");
    let said = text(&mute.args(["speak", "voice", "--ids", "1"]).assert().code(2).get_output().stderr);
    assert!(said.contains("-o FILE"), "{said}");
    let empty = vitstream().current_dir(root.path()).args(["speak", "voice", "--raw"]).assert().failure();
    assert!(text(&empty.get_output().stderr).contains("no utterance"));
    fs::copy(golden("legacy-single.ckpt"), root.path().join("one.ckpt")).unwrap();
    let mut one = vitstream();
    one.current_dir(root.path()).args(["speak", "one.ckpt", "--sample-rate", "22050", "--ids", "1", "--raw"]);
    let said = text(&one.args(["--speaker", "anna"]).assert().failure().get_output().stderr);
    assert!(said.contains("anna") && said.contains("has one speaker"), "{said}");
}

#[test]
fn a_used_folder_keeps_nothing_of_the_voice_before() {
    let root = place();
    assert!(root.path().join("voice/config.json").exists());
    fs::copy(golden("legacy-single.ckpt"), root.path().join("voice/../other.ckpt")).unwrap();
    let export = |args: &[&str]| {
        let mut export = vitstream();
        export.current_dir(root.path()).args(["export", "-q", "other.ckpt", "voice"]).args(args);
        export.assert()
    };
    // The only JSON next to w.ckpt is that of its own voice.
    export(&[]).success();
    assert!(!root.path().join("voice/config.json").exists());
    // A JSON that was not written by an export stays, and so does everything else.
    fs::write(root.path().join("voice/config.json"), "{\"mine\": 1}").unwrap();
    let before = contents(root.path());
    let said = text(&export(&[]).failure().get_output().stderr);
    assert!(said.contains("config.json") && said.contains("move it away"), "{said}");
    assert!(contents(root.path()) == before);
}

#[cfg(unix)]
#[test]
fn signals_leave_nothing() {
    let root = place();
    fs::create_dir(root.path().join("out")).unwrap();
    let begin = |args: &[&str]| {
        let mut command = signals::interruptible();
        command.current_dir(root.path()).args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for signal in ["INT", "TERM", "HUP"] {
        let args = ["speak", "w.ckpt", "-o", "out/a.wav", "--timings", "out/a.json"];
        let mut child = begin(&args);
        // Both files have been started when it waits for the second line.
        use std::io::Write as _;
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"{\"phoneme_ids\": [1, 2]}\n").unwrap();
        while fs::read_dir(root.path().join("out")).unwrap().count() < 2 {
            assert!(child.try_wait().unwrap().is_none(), "ended too early");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let mut kill = std::process::Command::new("kill");
        assert!(kill.args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap().success());
        let status = child.wait().unwrap();
        use std::os::unix::process::ExitStatusExt as _;
        assert!(status.signal().is_some(), "{signal}: {status}");
        assert_eq!(fs::read_dir(root.path().join("out")).unwrap().count(), 0, "{signal}");
    }
}

/// Every reader reports the remains of a killed export by name, and the next export repairs them.
#[test]
fn a_torn_folder_is_named_by_every_reader() {
    let root = place();
    let voice = root.path().join("voice");
    for name in ["encoder.onnx", "decoder.onnx", "decoder.stream.onnx", "config.json"] {
        fs::copy(voice.join(name), voice.join(format!(".vitstream-old.{name}"))).unwrap();
    }
    let before = fs::read(voice.join("encoder.onnx")).unwrap();
    fs::write(voice.join(".vitstream-unfinished"), "").unwrap();
    fs::write(voice.join("encoder.onnx"), "another").unwrap();
    for args in [
        &["speak", "voice", "--ids", "1", "--raw"][..],
        &["speak", "voice", "--ids", "1", "--raw", "--runtime", "rten"],
        &["bench", "voice", "--runtime", "rten", "--rounds", "1"],
        &["verify", "voice"],
        &["export", "voice", "out"],
    ] {
        let said =
            text(&vitstream().current_dir(root.path()).args(args).assert().failure().get_output().stderr);
        assert!(said.contains("was killed while it replaced files"), "{args:?}: {said}");
    }
    let mut export = vitstream();
    export.current_dir(root.path()).args(["export", "-q", "w.ckpt", "voice", "--noise", "input"]);
    export.assert().success();
    assert!(fs::read(voice.join("encoder.onnx")).unwrap() == before);
    assert_eq!(fs::read_dir(&voice).unwrap().count(), 4);
}

#[cfg(unix)]
#[test]
fn a_broken_profile_of_the_users_is_a_warning() {
    let root = place();
    let home = root.path().join("home/vitstream");
    fs::create_dir_all(&home).unwrap();
    let profile = home.join("profile.json");
    let speak = |args: &[&str]| {
        let mut speak = vitstream();
        speak.env("XDG_CONFIG_HOME", root.path().join("home")).current_dir(root.path());
        speak.args(["speak", "voice", "--ids", "1,2", "--raw"]).args(args);
        speak.timeout(std::time::Duration::from_secs(60)).output().unwrap()
    };
    for kind in ["broken", "directory", "pipe"] {
        match kind {
            "broken" => fs::write(&profile, "{").unwrap(),
            "directory" => fs::create_dir(&profile).unwrap(),
            _ => assert!(std::process::Command::new("mkfifo").arg(&profile).status().unwrap().success()),
        }
        let done = speak(&[]);
        let said = text(&done.stderr);
        assert!(done.status.success() && said.contains("profile.json"), "{kind}: {said}");
        assert_eq!(said.matches("profile.json").count(), 1, "{said}");
        // A profile that was requested explicitly is an error.
        let asked = speak(&["--profile", profile.to_str().unwrap()]);
        assert!(!asked.status.success() && text(&asked.stderr).contains("profile.json"), "{kind}");
        if kind == "directory" {
            fs::remove_dir(&profile).unwrap();
        } else {
            fs::remove_file(&profile).unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn a_card_that_is_a_link_is_not_packed() {
    let root = tempfile::tempdir().unwrap();
    fs::copy(golden("multi.ckpt"), root.path().join("w.ckpt")).unwrap();
    let json = r#"{"audio": {"sample_rate": 22050}, "espeak": {"voice": "en-us"},
        "phoneme_id_map": {"_": [0], "^": [1], "$": [2]}}"#;
    fs::write(root.path().join("config.json"), json).unwrap();
    fs::write(root.path().join("secret"), "secret").unwrap();
    let members = |out: &str| {
        let mut export = vitstream();
        export.current_dir(root.path()).args(["export", "-q", "w.ckpt", out, "--package", "nvda"]);
        export.args(["--language", "en_US", "--name", "joe", "--quality", "medium"]).assert().success();
        let archive = fs::read_dir(root.path().join(out)).unwrap().next().unwrap().unwrap().path();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(archive).unwrap()));
        let names = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned());
        names.collect::<Vec<_>>()
    };
    std::os::unix::fs::symlink("secret", root.path().join("MODEL_CARD")).unwrap();
    assert!(!members("linked").contains(&"MODEL_CARD".into()));
    fs::remove_file(root.path().join("MODEL_CARD")).unwrap();
    fs::write(root.path().join("MODEL_CARD"), "mine").unwrap();
    assert!(members("plain").contains(&"MODEL_CARD".into()));
}

/// Names of tensors are printed as plain text, and colours are used only on a terminal.
#[test]
fn no_control_character_is_written() {
    let root = tempfile::tempdir().unwrap();
    let name = "esc\x1b]0;title\x07\u{9b}2J.ckpt";
    if fs::write(root.path().join(name), "no checkpoint").is_err() {
        println!("skipped: no such names here");
        return;
    }
    fs::copy(golden("multi.ckpt"), root.path().join("w.ckpt")).unwrap();
    for args in [
        &["inspect", name][..],
        &["export", name, "out"],
        &["speak", name, "--ids", "1", "--raw"],
        &["bench", name],
        &["verify", name],
        &["export", "w.ckpt", name],
        &["export", "w.ckpt", "esc\x1b[31mout"],
        &["export", "w.ckpt", "esc\x1b[31mout", "--json"],
        &["speak", "w.ckpt", "--ids", "1", "--raw", "--speaker", "\x1b[31m"],
    ] {
        let mut command = vitstream();
        let done = command.current_dir(root.path()).args(args).env("CLICOLOR_FORCE", "0").output().unwrap();
        for bytes in [&done.stderr, &done.stdout] {
            if args.contains(&"--raw") && done.status.success() {
                continue;
            }
            let text = text(bytes);
            assert!(!text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{args:?}: {text:?}");
        }
    }
}

#[test]
fn colours_are_for_terminals() {
    let root = tempfile::tempdir().unwrap();
    fs::copy(golden("multi.ckpt"), root.path().join("w.ckpt")).unwrap();
    let verbose = |variables: &[(&str, &str)]| {
        let mut export = vitstream();
        export.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").env_remove("CLICOLOR");
        export
            .current_dir(root.path())
            .args(["export", "-v", "w.ckpt", "out"])
            .envs(variables.iter().copied());
        text(&export.assert().success().get_output().stderr)
    };
    assert!(verbose(&[]).contains(" INFO reading"));
    assert!(!verbose(&[]).contains('\x1b'));
    assert!(verbose(&[("CLICOLOR_FORCE", "1")]).contains("\x1b[32m INFO\x1b[0m reading"));
    assert!(!verbose(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\x1b'));
}

#[cfg(unix)]
#[test]
fn a_reader_that_has_enough_is_no_error() {
    let root = place();
    for args in [
        &["inspect", "w.ckpt", "--tensors"][..],
        &["inspect", "voice/encoder.onnx", "--tensors", "--json"],
        &["bench", "voice", "--runtime", "native", "--lengths", "3", "--rounds", "1", "--json"],
        &["bench", "voice", "--runtime", "native", "--lengths", "3", "--rounds", "1"],
        &["export", "w.ckpt", "out", "--json"],
        &["verify", "voice", "--json"],
        &["speak", "voice", "--ids", "1,2,3", "-o", "-"],
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vitstream"));
        let mut child = command
            .current_dir(root.path())
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let done = child.wait_with_output().unwrap();
        let said = text(&done.stderr);
        assert!(
            done.status.success() && !said.contains("rror") && !said.contains("panicked"),
            "{args:?}: {said}"
        );
    }
}

/// Messages of libraries often include the message of their cause: a message must not appear twice.
#[test]
fn no_message_is_printed_twice() {
    let root = place();
    let at = |name: &str| root.path().join(name);
    fs::write(at("garbage.ckpt"), "no checkpoint at all").unwrap();
    fs::write(at("cut.onnx"), &fs::read(at("voice/encoder.onnx")).unwrap()[..5000]).unwrap();
    fs::write(at("broken.json"), "{\"audio\": ").unwrap();
    for args in [
        &["export", "absent.ckpt", "out"][..],
        &["inspect", "absent.onnx"],
        &["speak", "absent", "--ids", "1", "--raw"],
        &["verify", "absent"],
        &["bench", "absent", "--runtime", "native"],
        &["export", "garbage.ckpt", "out"],
        &["inspect", "cut.onnx"],
        &["export", "cut.onnx", "out"],
        &["export", "w.ckpt", "out", "--config", "broken.json"],
        &["export", "w.ckpt", "out", "--config", "absent.json"],
        &["bench", "voice", "--ids-file", "absent.json", "--runtime", "native", "--rounds", "1"],
        &["speak", "voice", "--ids", "1", "-o", "absent/x.wav"],
        &["speak", "voice", "--ids", "1", "--raw", "--timings", "absent/x.json"],
    ] {
        let done = vitstream().current_dir(root.path()).args(args).assert().failure().get_output().clone();
        let said = text(&done.stderr);
        let message = said.lines().find_map(|line| line.strip_prefix("error: ")).expect(&said);
        for part in message.split(": ").filter(|part| part.len() > 12) {
            assert_eq!(message.matches(part).count(), 1, "{args:?}: {said}");
        }
        assert!(said.matches("os error").count() <= 1, "{args:?}: {said}");
        assert!(!said.contains(".part"), "{args:?} names a temporary file: {said}");
    }
    assert!(!at("out").exists());
}
