//! Text as input, from the user's point of view: `vitstream speak` and `vitstream phonemize` without
//! espeak-ng. Voices read letters, or run a script that knows a few clauses.
#![allow(missing_docs, reason = "a test")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};

use assert_cmd::Command;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use vitstream_testing::golden;

/// A folder with the voices `letters.ckpt`, which reads letters, and `sounds.ckpt`, which reads espeak-ng's
/// phonemes.
fn place() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let letters = " abcdefghijklmnopqrstuvwxyz,.!?ħ";
    let sounds = " haɪloʊwɜːdiə,.!ˈ";
    for (name, kind, symbols) in [("letters", "text", letters), ("sounds", "espeak", sounds)] {
        fs::copy(golden("legacy-single.ckpt"), root.path().join(format!("{name}.ckpt"))).unwrap();
        let mut ids = json!({"_": [0], "^": [1], "$": [2]});
        for (id, symbol) in symbols.chars().enumerate() {
            ids[symbol.to_string()] = json!([id + 3]);
        }
        let voice = json!({"audio": {"sample_rate": 22050}, "phoneme_type": kind, "espeak": {"voice": "en-us"},
            "phoneme_id_map": ids});
        fs::write(root.path().join(format!("{name}.ckpt.json")), voice.to_string()).unwrap();
    }
    root
}

/// The command in `root`, where no copy of espeak-ng is found.
fn vitstream(root: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
    command.current_dir(root.path()).env("HOME", root.path()).env_remove("XDG_CONFIG_HOME");
    command.env("VITSTREAM_ESPEAK", "absent.so").env("PATH", "/usr/bin:/bin");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Raw samples of `speak`, always with the same seed.
fn speak(root: &TempDir, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = vitstream(root);
    command.arg("speak").args(args).args(["--raw", "--seed", "3"]).write_stdin(input);
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{args:?}: {}", text(&output.stderr));
    output.stdout
}

/// Returns the messages on standard error of a command that fails.
fn refused(root: &TempDir, args: &[&str], input: &[u8]) -> (String, Vec<u8>) {
    let output = vitstream(root).args(args).write_stdin(input).assert().code(1).get_output().clone();
    (text(&output.stderr), output.stdout)
}

fn phonemize(root: &TempDir, args: &[&str]) -> Json {
    let output = vitstream(root).arg("phonemize").args(args).arg("--json").assert().success();
    serde_json::from_slice(&output.get_output().stdout).unwrap()
}

/// The audio of each sentence, spoken from its ids alone.
fn alone(root: &TempDir, voice: &str, reading: &Json) -> Vec<Vec<u8>> {
    let sentences = reading["sentences"].as_array().unwrap().iter();
    let ids = sentences.map(|sentence| sentence["ids"].to_string());
    ids.map(|ids| speak(root, &[voice, "--ids", &ids], b"")).collect()
}

#[test]
fn every_way_in_gives_each_sentence_as_it_is_alone() {
    let root = place();
    let words = "hello there. how, are you? fine!";
    let reading = phonemize(&root, &["letters.ckpt", words]);
    let sentences = alone(&root, "letters.ckpt", &reading);
    // A lower-case letter after a dot begins no sentence.
    assert_eq!(sentences.len(), 2);
    let whole = sentences.concat();
    fs::write(root.path().join("words.txt"), format!("\u{feff}{words}")).unwrap();
    assert_eq!(speak(&root, &["letters.ckpt", words], b""), whole);
    assert_eq!(speak(&root, &["letters.ckpt", "--file", "words.txt"], b""), whole);
    assert_eq!(speak(&root, &["letters.ckpt", "--whole-sentences"], words.as_bytes()), whole);
    assert_eq!(speak(&root, &["letters.ckpt", "-", "--whole-sentences"], words.as_bytes()), whole);
    let line = json!({"text": words, "speaker_id": 0}).to_string();
    assert_eq!(speak(&root, &["letters.ckpt"], format!("\n {line}").as_bytes()), whole);
    assert_eq!(speak(&root, &["letters.ckpt", "--json-input"], line.as_bytes()), whole);
    let phonemes = reading["sentences"][0]["phonemes"].as_array().unwrap();
    let phonemes: String = phonemes.iter().map(|phoneme| phoneme.as_str().unwrap()).collect();
    assert_eq!(speak(&root, &["letters.ckpt", "--phonemes", &phonemes], b""), sentences[0]);

    // Silence is inserted between sentences, not after them.
    let silent = speak(&root, &["letters.ckpt", words, "--sentence-silence", "0.1"], b"");
    let silence = vec![0; 2205 * 2];
    assert!(silent == [&sentences[0][..], &silence, &sentences[1]].concat());

    // Symbols without an id are reported once.
    let mut command = vitstream(&root);
    let output = command.args(["speak", "letters.ckpt", "How? How?", "--raw"]).assert().success();
    let said = text(&output.get_output().stderr);
    assert_eq!(said.matches("no id for \"H\" (U+0048)").count(), 1, "{said}");
}

#[test]
fn a_line_has_text_a_speaker_and_a_file() {
    let root = place();
    let lines = concat!(
        "{\"text\": \"hello.\", \"output_file\": \"a.wav\"}\n",
        "{\"text\": \"\"}\n",
        "{\"text\": \"one. Two.\"}\n",
        "{\"text\": \"\\ud800\"}\n",
        "{\"phoneme_ids\": [1, 2], \"text\": \"not this\"}\n",
        "{\"speaker_id\": 0}\n",
        "{\"text\": \"a\\u0000b\"}\n",
    );
    let (said, samples) =
        refused(&root, &["speak", "letters.ckpt", "--raw", "--seed", "3"], lines.as_bytes());
    for part in [
        "line 2: there is nothing to say",
        "line 4: expected JSON",
        "`text` in a line has no effect",
        "line 6: missing field `phoneme_ids` or `text`",
        "line 7: the text has a NUL character at byte 1",
        "4 of 7 lines could not be spoken",
    ] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    let reading = phonemize(&root, &["letters.ckpt", "one. Two."]);
    let mut expected = alone(&root, "letters.ckpt", &reading);
    expected.push(speak(&root, &["letters.ckpt", "--ids", "1,2"], b""));
    assert!(samples == expected.concat());
    let wav = fs::read(root.path().join("a.wav")).unwrap();
    assert!(wav[44..] == speak(&root, &["letters.ckpt", "hello."], b""));
}

/// Each line is an utterance with its own file, and so is text given as a whole.
#[test]
fn a_folder_gets_a_file_for_each_line() {
    let root = place();
    let wav = |path: &str| fs::read(root.path().join(path)).unwrap()[44..].to_vec();
    let run = |args: &[&str], input: &[u8]| {
        let mut command = vitstream(&root);
        command.args(["speak", "letters.ckpt", "--seed", "3"]).args(args).write_stdin(input);
        let output = command.output().unwrap();
        assert!(output.stdout.is_empty());
        (output.status.code().unwrap(), text(&output.stderr))
    };
    let said = |text: &str| speak(&root, &["letters.ckpt", text], b"");
    let files = |folder: &str| {
        let entries = fs::read_dir(root.path().join(folder)).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let lines = "\u{feff}\r\none! two\r\n\nthree\n...\nfo\0ur\n\u{ff}\nfive";
    let lines = [lines.as_bytes(), b"\n\xff"].concat();
    let (code, stderr) = run(&["-d", "a/b"], &lines);
    assert_eq!(code, 1);
    for part in [
        "line 6: the text has a NUL",
        "line 9: expected UTF-8, found the byte 0xff at offset 0 of the line",
        "2 of 9",
    ] {
        assert!(stderr.contains(part), "{stderr} lacks {part}");
    }
    assert_eq!(files("a/b"), ["0002.wav", "0004.wav", "0005.wav", "0007.wav", "0008.wav"]);
    assert!(wav("a/b/0002.wav") == said("one! two") && wav("a/b/0004.wav") == said("three"));
    // As a file, as an argument, and again into the same folder.
    fs::write(root.path().join("lines.txt"), "five\nthree\n").unwrap();
    for args in [["--file", "lines.txt", "-d", "a/c"], ["five\nthree", "--output-dir", "a/c", "--stats"]] {
        assert_eq!(run(&args, b"").0, 0);
        assert_eq!(files("a/c"), ["0001.wav", "0002.wav"]);
        assert!(wav("a/c/0001.wav") == said("five") && wav("a/c/0002.wav") == said("three"));
    }
    let json = concat!(
        "{\"text\": \"three\"}\n{\"phonemes\": \"five\", \"output_file\": \"own.wav\"}\n",
        "{\"phonemes\": [\"o\", \"n\", \"e\"], \"text\": \"two\"}\n{\"text\": \"a\", \"output_file\": \"d/0001.wav\"}\n",
    );
    let (code, stderr) = run(&["-d", "d", "--timings", "t.jsonl"], json.as_bytes());
    assert!(code == 1 && stderr.contains("line 4: output_file d/0001.wav"), "{stderr}");
    assert!(stderr.contains("`text` in a line has no effect: `phonemes` is"), "{stderr}");
    assert_eq!(files("d"), ["0001.wav", "0003.wav"]);
    assert!(wav("d/0001.wav") == said("three") && wav("own.wav") == said("five"));
    assert!(wav("d/0003.wav") == said("one"));
    let timings = fs::read_to_string(root.path().join("t.jsonl")).unwrap();
    assert!(timings.lines().count() == 3 && timings.contains("\"output_file\":\"d/0003.wav\""), "{timings}");

    assert_eq!(run(&["--ids", "1,2", "-d", "e"], b"").0, 0);
    assert!(wav("e/0001.wav") == speak(&root, &["letters.ckpt", "--ids", "1,2"], b""));
    assert_eq!(run(&["<speak>one.<break time='10ms'/>\ntwo</speak>", "--ssml", "-d", "f"], b"").0, 0);
    assert_eq!(files("f"), ["0001.wav"]);
    for other in [["-o", "x.wav"], ["--srt", "x.srt"], ["--raw", "--quiet"], ["--markdown", "--quiet"]] {
        assert_eq!(run(&[&["one", "-d", "x"], &other[..]].concat(), b"").0, 2, "{other:?}");
    }
    assert!(!root.path().join("x").exists());
}

/// A running `speak` with access to its standard input and output.
fn live(root: &TempDir, args: &[&str]) -> Child {
    Process::new(env!("CARGO_BIN_EXE_vitstream"))
        .current_dir(root.path())
        .env("HOME", root.path())
        .env_remove("XDG_CONFIG_HOME")
        .args(["speak", "letters.ckpt", "--raw", "--seed", "3"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Each read below returns only because the sentence is spoken before more of the text arrives.
#[test]
fn a_sentence_is_spoken_as_soon_as_it_is_complete() {
    let root = place();
    let mut process = live(&root, &[]);
    let (mut stdin, mut stdout) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
    let mut expect = |text: &str| {
        let expected = speak(&root, &["letters.ckpt", text], b"");
        let mut heard = vec![0; expected.len()];
        stdout.read_exact(&mut heard).unwrap();
        assert!(heard == expected, "{text}");
    };
    stdin.write_all(b"one two. t").unwrap();
    // A lower-case letter, so the sentence continues. One character arrives in two halves.
    stdin.write_all(b"hree, four! f\xc4").unwrap();
    expect("one two. three, four!");
    stdin.write_all(b"\xa7 five.").unwrap();
    // No more text for a while.
    expect("fħ five.");
    stdin.write_all(b" six").unwrap();
    drop(stdin);
    expect("six");
    assert!(process.wait().unwrap().success());
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty());
}

#[test]
fn the_first_sound_does_not_wait_for_a_long_sentence() {
    let root = place();
    let sentence = "well then, when the day is over, all of us will go home and sleep.";
    let parts = ["well then, when the day is over, ", "all of us will go home and sleep."];
    let expected: Vec<u8> =
        parts.iter().flat_map(|part| speak(&root, &["letters.ckpt", part], b"")).collect();
    assert!(speak(&root, &["letters.ckpt"], sentence.as_bytes()) == expected);
    let whole = speak(&root, &["letters.ckpt", sentence], b"");
    assert!(whole != expected);
    assert!(speak(&root, &["letters.ckpt", "--whole-sentences"], sentence.as_bytes()) == whole);
}

#[test]
fn texts_that_are_none_are_errors_of_their_own() {
    let root = place();
    let raw = ["speak", "letters.ckpt", "--raw", "--seed", "3"];
    for input in ["", " \n\t\n"] {
        let (said, samples) = refused(&root, &raw, input.as_bytes());
        assert!(said.contains("no utterance") && samples.is_empty(), "{said}");
        let (said, _) = refused(&root, &[&raw[..], &[input]].concat(), b"");
        assert!(said.contains("nothing to say"), "{said}");
    }
    // One sentence is damaged, the others are spoken.
    let good = ["one.", "two."].map(|text| speak(&root, &["letters.ckpt", text], b"")).concat();
    for (bad, part) in [
        (&b"x\xffy."[..], "sentence 2: expected UTF-8, found the byte 0xff at offset 7 (line 3)"),
        (b"x\0y.", "sentence 2: the text has a NUL character at byte 1"),
    ] {
        let (said, samples) = refused(&root, &raw, &[b"one.\n\n", bad, b"\n\ntwo."].concat());
        assert!(said.contains(part) && said.contains("1 of 3 sentences"), "{said}");
        assert!(samples == good);
    }
    // Marks of direction have no id and no sound, and are not printed, as they could reverse the text on the
    // screen.
    let output = vitstream(&root).args(raw).write_stdin("a\u{202e}b").assert().success().get_output().clone();
    assert!(text(&output.stderr).contains("(U+202E)") && !text(&output.stderr).contains('\u{202e}'));
}

/// Ten megabytes without a space are divided into parts of a length that the network supports.
#[test]
fn text_without_an_end_is_spoken_in_parts() {
    let root = place();
    let reading = phonemize(&root, &["letters.ckpt", &"a".repeat(20_000)]);
    let sentences = reading["sentences"].as_array().unwrap();
    let ids: Vec<usize> =
        sentences.iter().map(|sentence| sentence["ids"].as_array().unwrap().len()).collect();
    assert!(ids.len() > 4 && ids.iter().all(|&ids| ids <= vitstream::MAX_IDS), "{ids:?}");
    assert_eq!(ids.iter().map(|ids| (ids - 3) / 2).sum::<usize>(), 20_000);
}

#[test]
fn a_voice_that_reads_no_text_says_why_and_takes_ids() {
    let root = place();
    fs::write(root.path().join("letters.ckpt.json"), r#"{"audio": {"sample_rate": 22050}}"#).unwrap();
    let (said, _) = refused(&root, &["speak", "letters.ckpt", "hello", "--raw"], b"");
    assert!(said.contains("letters.ckpt cannot read text") && said.contains("`phoneme_id_map`"), "{said}");
    let (said, samples) = refused(
        &root,
        &["speak", "letters.ckpt", "--raw"],
        b"hello\n{\"phoneme_ids\": [1, 2]}\n{\"text\": \"a\"}",
    );
    assert!(
        said.contains("line 1: expected JSON") && said.contains("line 3: letters.ckpt cannot read text"),
        "{said}"
    );
    assert!(!samples.is_empty());
    let json = r#"{"audio": {"sample_rate": 22050}, "phoneme_type": "hebrew", "phoneme_id_map": {"^": [1], "_": [0], "$": [2], "a": [3]}}"#;
    fs::write(root.path().join("letters.ckpt.json"), json).unwrap();
    let (said, _) = refused(&root, &["speak", "letters.ckpt", "hello", "--raw"], b"");
    assert!(said.contains("hebrew") && said.contains("--phonemes"), "{said}");
    assert!(!speak(&root, &["letters.ckpt", "--phonemes", "aa"], b"").is_empty());
    let (said, _) = refused(&root, &["speak", "letters.ckpt", "--phonemes", "xyz", "--raw"], b"");
    assert!(said.contains("none of these phonemes"), "{said}");
}

#[test]
fn a_library_that_is_not_there_is_one_error() {
    let root = place();
    fs::write(root.path().join("text.so"), "text").unwrap();
    for (args, part) in [
        (&["speak", "sounds.ckpt", "Hi. Hi.", "--raw"][..], "absent.so"),
        (&["speak", "sounds.ckpt", "Hi. Hi.", "--raw", "--espeak", "text.so"], "text.so"),
        (&["speak", "sounds.ckpt", "Hi.", "--raw", "--phonemizer", "'"], "not closed"),
        (&["phonemize", "sounds.ckpt", "Hi."], "absent.so"),
    ] {
        let (said, samples) = refused(&root, args, b"");
        assert!(said.contains(part) && said.lines().count() == 1 && samples.is_empty(), "{args:?}: {said}");
    }
    // Without text, no phonemizer is needed.
    assert!(!speak(&root, &["sounds.ckpt", "--ids", "1,4,2"], b"").is_empty());
    assert!(!speak(&root, &["sounds.ckpt", "--phonemes", "haɪ"], b"").is_empty());
}

#[cfg(unix)]
mod script {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A program that knows a few clauses, crashes at one, prints invalid output for another, and does not
    /// answer a third.
    const SCRIPT: &str = r#"#!/bin/sh
while IFS= read -r line; do
    case "$line" in
        *'"Hello, '*) echo '{"ipa": "həˈloʊ", "library": "script", "version": "7"}' ;;
        *'"world'*) echo '{"ipa": "wɜːld", "library": "script", "version": "7"}' ;;
        *'"Hi'* | *'" Hi'*) echo '{"ipa": "haɪ", "library": "script", "version": "7"}' ;;
        *'"Die'*) exit 3 ;;
        *'"Rubbish'*) echo rubbish ;;
        *'"Hang'*) exec sleep 1000 ;;
        *) echo '{"error": "no such word"}' ;;
    esac
done
"#;

    fn place() -> TempDir {
        let root = super::place();
        let path = root.path().join("script");
        fs::write(&path, SCRIPT).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        root
    }

    #[test]
    fn the_reading_is_shown() {
        let root = place();
        let expected = json!({
            "library": "script",
            "version": "7",
            "sentences": [
                {
                    "text": "Hello, world!",
                    "phonemes": ["h", "ə", "ˈ", "l", "o", "ʊ", ",", " ", "w", "ɜ", "ː", "l", "d", "!"],
                    "ids": [1, 0, 4, 0, 15, 0, 19, 0, 7, 0, 8, 0, 9, 0, 16, 0, 3, 0, 10, 0, 11, 0, 12, 0, 7, 0, 13, 0, 18, 0, 2],
                    "missing": [],
                    "clauses": [
                        {"text": "Hello, ", "ipa": "həˈloʊ", "mark": ","},
                        {"text": "world! ", "ipa": "wɜːld", "mark": "!"},
                    ],
                },
                {
                    "text": "Hi?",
                    "phonemes": ["h", "a", "ɪ", "?"],
                    "ids": [1, 0, 4, 0, 5, 0, 6, 0, 2],
                    "missing": ["?"],
                    "clauses": [{"text": "Hi?", "ipa": "haɪ", "mark": "?"}],
                },
            ],
        });
        let words = "Hello, world! Hi?";
        for voice in ["sounds.ckpt", "sounds.ckpt.json"] {
            assert_eq!(phonemize(&root, &[voice, words, "--phonemizer", "./script"]), expected);
        }
        let mut command = vitstream(&root);
        let output =
            command.args(["phonemize", "sounds.ckpt", words, "--phonemizer", "./script"]).assert().success();
        let shown = text(&output.get_output().stdout);
        for part in ["script (7)", "həˈloʊ, wɜːld!", "1,0,4,0,5", "missing   ?"] {
            assert!(shown.contains(part), "{shown} lacks {part}");
        }
    }

    #[test]
    fn a_phonemizer_that_dies_hangs_or_talks_rubbish_costs_one_sentence() {
        let root = place();
        let hi = speak(&root, &["sounds.ckpt", "--phonemes", "haɪ."], b"");
        let args = ["speak", "sounds.ckpt", "--raw", "--seed", "3", "--phonemizer", "./script"];
        let (said, samples) = refused(&root, &args, b"Hi. Die. Hi. Rubbish. Hi. Other. Hi. Hang. Hi.");
        for part in [
            "sentence 2: the phonemizer `./script` died (exit status: 3)",
            "sentence 4: the phonemizer `./script` answers \"rubbish\"",
            "sentence 6: no such word",
            "sentence 8: the phonemizer `./script` did not answer within 20s",
            "4 of 9",
        ] {
            assert!(said.contains(part), "{said} lacks {part}");
        }
        assert!(samples == hi.repeat(5));
        let lines = b"{\"text\": \"Hi. Die.\"}\n{\"text\": \"Hi.\"}";
        let (said, samples) = refused(&root, &args, lines);
        assert!(said.contains("line 1: ") && said.contains("1 of 2 lines"), "{said}");
        assert!(samples == hi, "a line is spoken whole or not at all");
    }

    #[test]
    fn what_a_text_says_of_itself_is_heeded() {
        let root = place();
        let with =
            |args: &[&str]| speak(&root, &[&["sounds.ckpt", "--phonemizer", "./script"], args].concat(), b"");
        let hi = with(&["Hi."]);
        fs::write(root.path().join("words.txt"), "servus = Hi\nmoin = /haɪ/").unwrap();
        assert!(with(&["Servus.", "--lexicon", "words.txt"]) == hi);
        assert!(with(&["Moin.", "--lexicon", "words.txt"]) == hi);
        assert!(with(&["**Hi.**", "--markdown"]) == hi);
        let silence = vec![0; 2205 * 2];
        let ssml = "<speak>Hi.<break time='100ms'/><phoneme alphabet='ipa' ph='haɪ'>Ho</phoneme>.</speak>";
        assert!(with(&[ssml, "--ssml"]) == [&hi[..], &silence, &hi].concat());
        let fast = with(&["<prosody rate='2'>Hi.</prosody>", "--ssml"]);
        assert!(fast == with(&["Hi.", "--length-scale", "0.5"]));
        assert!(with(&["[[haɪ]] Hi."]) == speak(&root, &["sounds.ckpt", "--phonemes", "haɪ haɪ."], b""));
        fs::write(root.path().join("bad.txt"), "a\nb = ").unwrap();
        for (args, part) in [
            (&["Hi.", "--lexicon", "bad.txt"][..], "bad.txt: line 1 of the lexicon"),
            (&["Hi.", "--lexicon", "absent.txt"], "absent.txt"),
            (&["<audio/>", "--ssml"], "audio"),
        ] {
            let args = [&["speak", "sounds.ckpt", "--raw", "--phonemizer", "./script"], args].concat();
            let (said, samples) = refused(&root, &args, b"");
            assert!(said.contains(part) && samples.is_empty(), "{said}");
        }
    }

    #[test]
    fn words_and_sentences_have_their_times() {
        let root = place();
        let mut command = vitstream(&root);
        command.args(["speak", "sounds.ckpt", "Hello, world! Hi.", "--phonemizer", "./script", "--raw"]);
        command.args(["--timings", "t.jsonl", "--srt", "t.srt", "--vtt", "t.vtt"]);
        let samples = command.assert().success().get_output().stdout.len() / 2;
        let lines = fs::read_to_string(root.path().join("t.jsonl")).unwrap();
        let lines: Vec<Json> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["text"], &lines[1]["text"]), (&json!("Hello, world!"), &json!("Hi.")));
        let words: Vec<&Json> = lines.iter().flat_map(|line| line["words"].as_array().unwrap()).collect();
        let written: Vec<&str> = words.iter().map(|word| word["text"].as_str().unwrap()).collect();
        assert_eq!(written, ["Hello,", "world!", "Hi."]);
        assert!(words.windows(2).all(|pair| pair[0]["end"].as_f64() <= pair[1]["start"].as_f64()));
        assert_eq!(lines[0]["end"], lines[1]["start"]);
        assert!((lines[1]["end"].as_f64().unwrap() - samples as f64 / 22_050.0).abs() < 1e-5);
        let subtitles = fs::read_to_string(root.path().join("t.srt")).unwrap();
        assert!(
            subtitles.starts_with("1\n00:00:00,000 --> ") && subtitles.contains("\nHello, world!\n\n2\n")
        );
        let subtitles = fs::read_to_string(root.path().join("t.vtt")).unwrap();
        assert!(subtitles.starts_with("WEBVTT\n\n00:00:00.000 --> ") && subtitles.contains(">world!\n"));
    }
}

/// Exported folders of other families speak text without the files from which they were made.
#[test]
fn an_exported_folder_of_another_family_speaks_without_its_source() {
    let root = tempfile::tempdir().unwrap();
    let families = golden("families");
    let copied = |family: &str| {
        let folder = root.path().join(family);
        fs::create_dir(&folder).unwrap();
        for entry in fs::read_dir(families.join(family)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
        }
        folder
    };
    // As many symbols as the fixtures' networks have, with those of the class: 67 and 40.
    let config = |folder: &Path, change: &dyn Fn(&mut Json)| {
        let path = folder.join("config.json");
        let text = fs::read_to_string(&path).unwrap().replace("Infinity", "null");
        let mut json = serde_json::from_str(&text).unwrap();
        change(&mut json);
        fs::write(path, json.to_string()).unwrap();
    };
    let letters: String = ('a'..='z').chain('A'..='J').collect();
    copied("hf");
    config(&copied("coqui"), &|json| {
        json["characters"] = json!({"characters_class": "TTS.tts.models.vits.VitsCharacters", "pad": "_",
            "punctuations": ". ", "characters": format!("{letters}KLMNOPQRSTUVWXYZ0123456789é")});
        json["text_cleaner"] = json!("basic_cleaners");
    });
    config(&copied("original"), &|json| {
        json["symbols"] = ["_", ".", " ", ","]
            .iter()
            .map(|&symbol| symbol.to_owned())
            .chain(letters.chars().map(String::from))
            .collect();
        json["data"]["text_cleaners"] = json!(["basic_cleaners"]);
    });
    for (family, file, ids) in [
        ("hf", "model.safetensors", json!([0, 9, 0, 5, 0])),
        ("coqui", "model.pth", json!([66, 7, 66, 3, 66, 1, 66])),
        ("original", "G_0.pth", json!([0, 8, 0, 4, 0, 1, 0])),
    ] {
        let source = root.path().join(family);
        let from_source = phonemize(&root, &[&format!("{family}/{file}"), "ea."]);
        let mut export = vitstream(&root);
        export.args(["export", "-q", &format!("{family}/{file}"), "out"]).assert().success();
        fs::rename(&source, root.path().join("elsewhere")).unwrap();
        let reading = phonemize(&root, &["out", "ea."]);
        assert_eq!(reading, from_source, "{family}");
        assert_eq!(reading["sentences"][0]["ids"], ids, "{family}");
        assert_eq!(reading["library"], Json::Null);
        assert!(speak(&root, &["out", "ea."], b"") == alone(&root, "out", &reading).concat());
        fs::remove_dir_all(root.path().join("elsewhere")).unwrap();
        fs::remove_dir_all(root.path().join("out")).unwrap();
    }
}
