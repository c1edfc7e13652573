//! `vitstream batch`: files depend on nothing but their lines and the voice.

#[cfg(unix)]
#[path = "support/signals.rs"]
mod signals;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::{Value as Json, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use vitstream_testing::golden;

/// A manifest in a temporary folder, with room for outputs next to it.
struct Work {
    dir: TempDir,
    voice: &'static str,
}

impl Work {
    fn new(lines: &[String]) -> Self {
        let work = Self { dir: tempfile::tempdir().unwrap(), voice: "multi.ckpt" };
        work.write(lines);
        work
    }

    fn write(&self, lines: &[String]) {
        fs::write(self.path("manifest.jsonl"), lines.join("\n")).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, output: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
        command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        // A voice made for this test, else one of the golden voices.
        let made = self.path(self.voice);
        let voice = if made.exists() { made } else { golden(self.voice) };
        command.current_dir(self.dir.path()).env("VITSTREAM_ESPEAK", "absent.so");
        command.arg("batch").arg(voice).args([self.path("manifest.jsonl"), self.path(output)]);
        command.args(["--sample-rate", "22050", "--json"]).args(args);
        command
    }

    /// Runs the command; returns the summary and the other output.
    fn run(&self, output: &str, args: &[&str], code: i32) -> (Json, String) {
        let output = self.command(output, args).assert().code(code).get_output().clone();
        let stderr = String::from_utf8(output.stderr).unwrap();
        (serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{stderr}")), stderr)
    }

    fn refused(&self, output: &str, args: &[&str], part: &str) {
        let output = self.command(output, args).assert().failure().get_output().clone();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(part), "{stderr:?} lacks {part:?}");
    }

    fn tree(&self, output: &str) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        walk(&self.path(output), "", &mut files);
        files
    }
}

fn walk(dir: &Path, below: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{below}{}", entry.file_name().to_str().unwrap());
        if name == ".vitstream-batch" {
            continue;
        }
        if entry.path().is_dir() {
            walk(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
}

/// Returns the hash of the output of `sha256sum` for these files.
fn hash(tree: &BTreeMap<String, Vec<u8>>) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lines: String =
        tree.iter().map(|(name, bytes)| format!("{}  {name}\n", hex(&Sha256::digest(bytes)))).collect();
    hex(&Sha256::digest(lines))
}

/// Lines of every kind that can be spoken.
fn lines() -> Vec<String> {
    let mut lines: Vec<String> = (0..14)
        .map(|i| {
            let ids: Vec<i64> = (0..4 + i % 5).map(|k| 1 + (i * 7 + k * 3) % 30).collect();
            let mut line = json!({"phoneme_ids": ids});
            match i % 4 {
                0 => line["output_file"] = json!(format!("some/folder {}/{i}.wav", i % 2)),
                1 => line["seed"] = json!(i),
                2 => line["speaker_id"] = json!(i % 3),
                _ => line["length_scale"] = json!(1.5),
            }
            line.to_string()
        })
        .collect();
    lines.insert(3, String::new());
    lines
}

#[test]
fn neither_jobs_nor_shards_nor_order_change_a_bit() {
    let work = Work::new(&lines());
    let (first, _) = work.run("one", &["--jobs", "1"], 0);
    let expected = work.tree("one");
    assert_eq!(expected.len(), 14);
    assert_eq!((&first["lines"], &first["spoken"], &first["files"]), (&json!(14), &json!(14), &json!(14)));
    assert_eq!(first["tree"], json!(hash(&expected)));
    let samples: usize = expected.values().map(|bytes| (bytes.len() - 44) / 2).sum();
    assert!((first["audio_seconds"].as_f64().unwrap() - samples as f64 / 22_050.0).abs() < 1e-6);

    for jobs in ["2", "3", "4"] {
        let (summary, _) = work.run(jobs, &["--jobs", jobs], 0);
        assert!(work.tree(jobs) == expected, "{jobs} jobs");
        assert_eq!(summary["tree"], first["tree"]);
    }
    let mut spoken = 0;
    for shard in ["2/3", "3/3", "1/3"] {
        let (summary, _) = work.run("shards", &["--shard", shard], 0);
        spoken += summary["spoken"].as_u64().unwrap();
    }
    assert_eq!(spoken, 14);
    assert!(work.tree("shards") == expected);
    let (all, _) = work.run("shards", &[], 0);
    assert_eq!((&all["skipped"], &all["spoken"], &all["tree"]), (&json!(14), &json!(0), &first["tree"]));

    let mut reversed = lines();
    reversed.reverse();
    work.write(&reversed);
    let (summary, _) = work.run("reversed", &["--threads", "2"], 0);
    assert!(work.tree("reversed") == expected);
    assert_eq!(summary["tree"], first["tree"]);
}

/// A manifest for a voice that reads letters, or one that runs a script as phonemizer.
fn reading(kind: &str, lines: &[String]) -> Work {
    let mut work = Work::new(lines);
    work.voice = "reads.ckpt";
    fs::copy(golden("multi.ckpt"), work.path(work.voice)).unwrap();
    let mut ids = json!({"_": [0], "^": [1], "$": [2]});
    for (id, symbol) in " abcdefghijklmnopqrstuvw,.!".chars().enumerate() {
        ids[symbol.to_string()] = json!([id + 3]);
    }
    let json = json!({"audio": {"sample_rate": 22050}, "phoneme_type": kind, "espeak": {"voice": "en-us"},
        "speaker_id_map": {"ada": 2}, "phoneme_id_map": ids});
    fs::write(work.path("reads.ckpt.json"), json.to_string()).unwrap();
    work
}

/// Texts of every kind that can be spoken.
fn texts() -> Vec<String> {
    let line = |i: usize| {
        let text = ["one.", "one. Two, and three! four", "a b c", "no mark", "end."][i % 5];
        let mut line = json!({"text": format!("{text} {}", ["ab", "cd", "ef", "gh"][i / 5])});
        match i % 4 {
            0 => line["output_file"] = json!(format!("folder {}/{i}.wav", i % 2)),
            1 => line["seed"] = json!(i),
            2 => line["speaker"] = if i.is_multiple_of(3) { json!(2) } else { json!("ada") },
            _ => line["length_scale"] = json!(1.5),
        }
        line.to_string()
    };
    let mut lines: Vec<String> = (0..17).map(line).collect();
    lines.push(json!({"phonemes": "abc", "speaker_id": 1}).to_string());
    lines.push(json!({"phonemes": ["a", "b", "c"], "speaker_id": 1, "text": "abc"}).to_string());
    lines.push(
        json!({"phoneme_ids": [1, 0, 4, 0, 5, 0, 2], "text": "other", "phonemes": "other"}).to_string(),
    );
    lines
}

#[test]
fn texts_are_spoken_alike_by_any_jobs_and_shards() {
    let work = reading("text", &texts());
    let (first, _) = work.run("one", &["--jobs", "1"], 0);
    // The list of phonemes is the same as the string of phonemes.
    assert_eq!((&first["lines"], &first["spoken"], &first["repeated"]), (&json!(20), &json!(19), &json!(1)));
    let expected = work.tree("one");
    for jobs in ["2", "4"] {
        let (summary, _) = work.run(jobs, &["--jobs", jobs], 0);
        assert!(work.tree(jobs) == expected && summary["tree"] == first["tree"], "{jobs} jobs");
    }
    for shard in ["3/3", "1/3", "2/3"] {
        work.run("shards", &["--shard", shard], 0);
    }
    assert!(work.tree("shards") == expected);
    let (again, _) = work.run("shards", &[], 0);
    assert_eq!((&again["skipped"], &again["spoken"]), (&json!(19), &json!(0)));
    let mut reversed = texts();
    reversed.reverse();
    work.write(&reversed);
    work.run("reversed", &[], 0);
    assert!(work.tree("reversed") == expected);
}

#[test]
fn a_texts_file_is_what_speak_writes() {
    let text = "one. Two, and three! Four";
    let line = |file: &str| json!({"text": text, "seed": 9, "speaker": "ada", "output_file": file});
    let derived = json!({"text": "one.", "output_file": "derived.wav"});
    let work = reading("text", &[line("a.wav").to_string(), derived.to_string()]);
    work.run("out", &["--sentence-silence", "0.1"], 0);
    // "one." has the ids ^ _ o _ n _ e _ . _ $.
    let seed = u64::from_be_bytes(Sha256::digest("1,0,18,0,17,0,8,0,28,0,2")[..8].try_into().unwrap());
    for (file, text, more) in [
        ("a.wav", text, ["--seed", "9", "--speaker", "ada"]),
        ("derived.wav", "one.", ["--seed", &seed.to_string(), "--speaker", "0"]),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
        command.arg("speak").args([work.path("reads.ckpt"), text.into()]).args(["--sentence-silence", "0.1"]);
        command.args(more).arg("-o").arg(work.path(file)).assert().success();
        assert!(fs::read(work.path(file)).unwrap() == work.tree("out")[file], "{file}");
    }
}

#[test]
fn a_text_that_cannot_be_read_is_reported_and_passed_over() {
    let line = |text: &str| {
        json!({"text": text, "output_file": format!("{:x}.wav", Sha256::digest(text))}).to_string()
    };
    let lines = vec![
        line("one."),
        line(""),
        line(" \n\t"),
        line("....."),
        line("a\0b"),
        r#"{"text": "\ud800"}"#.to_owned(),
        json!({"phonemes": "xyz"}).to_string(),
        json!({"speaker": "ada"}).to_string(),
        json!({"text": "a", "speaker": "nobody"}).to_string(),
        line("three."),
    ];
    let work = reading("text", &lines);
    let (summary, _) = work.run("out", &["--jobs", "2"], 1);
    // Dots are symbols of this voice.
    assert_eq!((&summary["spoken"], &summary["failed"]), (&json!(3), &json!(7)), "{summary}");
    for (line, part) in [
        (2, "nothing to say"),
        (3, "nothing to say"),
        (5, "NUL"),
        (6, "JSON"),
        (7, "none of these phonemes"),
        (8, "`phonemes`"),
        (9, "nobody"),
    ] {
        let errors = summary["errors"].as_array().unwrap();
        let error = errors.iter().find(|error| error["line"] == line).unwrap();
        assert!(error["error"].as_str().unwrap().contains(part), "{error}");
    }
    // Text that is read differently is another matter.
    fs::write(work.path("words.txt"), "one = two").unwrap();
    let (summary, _) = work.run("out", &["--lexicon", "words.txt"], 1);
    let errors = summary["errors"].to_string();
    assert!(errors.contains(".wav: exists already") && errors.contains("with other options"), "{errors}");
}

/// A missing phonemizer ends the run at the first text.
#[test]
fn texts_need_a_phonemizer_and_ids_do_not() {
    let ids = json!({"phoneme_ids": [1, 2]}).to_string();
    let work = reading("espeak", &[ids.clone(), json!({"text": "Hi."}).to_string(), ids]);
    work.refused("out", &["--jobs", "1"], "absent.so");
    assert_eq!(work.tree("out").len(), 1);
    work.refused("out", &["--sentence-silence", "-1"], "--sentence-silence");
}

#[cfg(unix)]
#[test]
fn jobs_share_a_phonemizer() {
    let clause = |i: usize| json!({"text": format!("{}.", "ab".repeat(i + 1))}).to_string();
    let mut lines: Vec<String> = (0..12).map(clause).collect();
    lines.insert(5, json!({"text": "die."}).to_string());
    let work = reading("espeak", &lines);
    let script = r#"while IFS= read -r line; do case "$line" in *die*) exit 3;; esac;
        echo "$line" | sed 's/.*"clause":"\([a-z]*\).*/{"ipa": "\1"}/'; done"#;
    fs::write(work.path("script"), script).unwrap();
    let asked = ["--phonemizer", "sh script"];
    let (first, _) = work.run("one", &[&asked[..], &["--jobs", "1"]].concat(), 1);
    assert_eq!((&first["spoken"], &first["failed"]), (&json!(12), &json!(1)), "{first}");
    assert!(first["errors"][0]["error"].as_str().unwrap().contains("died (exit status: 3)"), "{first}");
    work.run("four", &[&asked[..], &["--jobs", "4"]].concat(), 1);
    assert!(work.tree("one") == work.tree("four"));
}

/// A file of the manifest is the same as the output of `speak` for the same ids and seed.
#[test]
fn a_file_is_what_speak_writes() {
    let work = Work::new(&[
        json!({"phoneme_ids": [1, 5, 7, 2], "seed": 9, "speaker_id": 1, "output_file": "a.wav"}).to_string(),
        json!({"phoneme_ids": [1, 5, 7, 2], "speaker_id": 1, "output_file": "b.wav"}).to_string(),
    ]);
    work.run("out", &[], 0);
    let derived = u64::from_be_bytes(Sha256::digest("1,5,7,2")[..8].try_into().unwrap());
    for (file, seed) in [("a.wav", 9), ("b.wav", derived)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
        command.arg("speak").arg(golden("multi.ckpt"));
        command.args(["--sample-rate", "22050", "--ids", "1,5,7,2", "--speaker", "1", "-o"]);
        command.arg(work.path(file)).args(["--seed", &seed.to_string()]).assert().success();
        assert!(fs::read(work.path(file)).unwrap() == work.tree("out")[file], "{file}");
    }
}

#[test]
fn flac_has_the_same_samples() {
    let work = Work::new(&lines()[1..3]);
    work.run("wav", &[], 0);
    work.run("flac", &["--format", "flac"], 0);
    let (wavs, flacs) = (work.tree("wav"), work.tree("flac"));
    assert_eq!(wavs.len(), 2);
    for (name, wav) in wavs {
        let flac = &flacs[&name.replace(".wav", ".flac")];
        assert!(flac.len() < wav.len());
        let mut reader = claxon::FlacReader::new(&flac[..]).unwrap();
        assert_eq!(reader.streaminfo().sample_rate, 22_050);
        let samples: Vec<i32> = reader.samples().map(Result::unwrap).collect();
        let expected =
            hound::WavReader::new(&wav[..]).unwrap().samples().map(Result::unwrap).collect::<Vec<i32>>();
        assert!(samples == expected, "{name}");
    }
    work.write(&[json!({"phoneme_ids": [1], "output_file": "a.wav"}).to_string()]);
    let (summary, _) = work.run("flac", &["--format", "flac"], 1);
    assert!(summary["errors"][0]["error"].as_str().unwrap().contains("ends in .flac"), "{summary}");
}

#[test]
fn bad_lines_are_reported_and_passed_over() {
    let long = format!("{{\"phoneme_ids\": [{}1]}}", "1,".repeat(600_000));
    let mut lines = vec![
        json!({"phoneme_ids": [1, 2], "output_file": "good.wav"}).to_string(),
        "not json".to_owned(),
        json!({"phoneme_ids": [1, 9_999]}).to_string(),
        json!({"phoneme_ids": []}).to_string(),
        json!({"phoneme_ids": [1], "speaker_id": 9}).to_string(),
        json!({"phoneme_ids": [1], "speaker": "nobody"}).to_string(),
        json!({"phoneme_ids": [1], "length_scale": 1e9}).to_string(),
        json!({"text": "Hello."}).to_string(),
        long,
        json!({"phoneme_ids": [1, 3], "output_file": "good.wav"}).to_string(),
    ];
    for bad in
        ["../out.wav", "/tmp/out.wav", "a/../../out.wav", "", "x", ".vitstream-batch/x.wav", "a\u{0}.wav"]
    {
        lines.push(json!({"phoneme_ids": [1], "output_file": bad}).to_string());
    }
    lines.push("\u{1}".to_owned());
    let bad = lines.len() - 1;
    lines.push(json!({"phoneme_ids": [1, 2], "output_file": "good.wav"}).to_string());
    lines.push(json!({"phoneme_ids": [4, 2]}).to_string());
    let work = Work::new(&lines);
    let (summary, stderr) = work.run("out", &["--jobs", "3"], 1);
    assert_eq!(
        (&summary["spoken"], &summary["repeated"], &summary["failed"]),
        (&json!(2), &json!(1), &json!(bad))
    );
    assert_eq!(summary["lines"], json!(lines.len()));
    let errors = summary["errors"].as_array().unwrap();
    let numbers: Vec<u64> = errors.iter().map(|error| error["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (2..=bad as u64 + 1).collect::<Vec<_>>());
    for (line, part) in
        [(2, "JSON"), (3, "9999"), (6, "nobody"), (8, "text"), (9, "at most 1048576 bytes"), (10, "line 1")]
    {
        let error = errors[line - 2]["error"].as_str().unwrap();
        assert!(error.contains(part), "line {line}: {error}");
        assert!(stderr.contains(&format!("line {line}: {error}")), "{stderr}");
    }
    assert_eq!(work.tree("out").len(), 2);
    assert!(!work.path("out.wav").exists());
    let beside = fs::read_dir(work.dir.path()).unwrap().count();
    assert_eq!(beside, 2, "the manifest and the output");
}

#[test]
fn work_goes_on_where_it_ended() {
    let work = Work::new(&lines());
    let (first, _) = work.run("out", &[], 0);
    let expected = work.tree("out");
    let state = work.path("out/.vitstream-batch");
    // As after a power failure: one file is missing, another is not in the journal, and a third is
    // incomplete.
    let journal = fs::read_to_string(state.join("1-of-1.jsonl")).unwrap();
    assert_eq!(journal.lines().count(), 14);
    let missing: Json = serde_json::from_str(journal.lines().next().unwrap()).unwrap();
    fs::remove_file(work.path("out").join(missing["file"].as_str().unwrap())).unwrap();
    fs::write(state.join("1-of-1.jsonl"), &journal[..journal.len() - 20]).unwrap();
    fs::write(state.join("1-of-1+left"), "RIFF").unwrap();
    let (again, _) = work.run("out", &[], 0);
    assert_eq!(
        (&again["spoken"], &again["skipped"], &again["tree"]),
        (&json!(2), &json!(12), &first["tree"])
    );
    assert!(work.tree("out") == expected);
    assert!(!state.join("1-of-1+left").exists());
    let (third, _) = work.run("out", &["--shard", "1/2"], 0);
    assert_eq!(third["spoken"], json!(0));
}

/// The utterance in progress is finished, and every written file is complete.
#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_work_between_two_files() {
    use std::process::{Command as Process, Stdio};
    use std::{thread, time};

    let line = |i| json!({"phoneme_ids": [1, i % 30, 5], "seed": i}).to_string();
    let lines: Vec<String> = (0..20_000).map(line).collect();
    let work = Work::new(&lines);
    let mut command = signals::interruptible();
    command.env("HOME", "/nonexistent").arg("batch").arg(golden("multi.ckpt"));
    command.args([work.path("manifest.jsonl"), work.path("out")]).args(["--sample-rate", "22050", "--json"]);
    let process = command.stdout(Stdio::piped()).spawn().unwrap();
    while fs::read_dir(work.path("out")).map_or(0, Iterator::count) < 2 {
        thread::sleep(time::Duration::from_millis(2));
    }
    assert!(Process::new("kill").args(["-INT", &process.id().to_string()]).status().unwrap().success());
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let summary: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["interrupted"], json!(true));
    assert_eq!(summary["failed"], json!(0));
    assert_eq!(summary["tree"], json!(hash(&work.tree("out"))));
    assert!(summary["files"].as_u64().unwrap() < 20_000);
    let part = ["--shard", "1/4000"];
    let (resumed, _) = work.run("out", &part, 0);
    assert_eq!(
        (&resumed["interrupted"], &resumed["tree"]),
        (&json!(false), &work.run("fresh", &part, 0).0["tree"])
    );
}

/// A file is never mistaken for another, and never overwritten.
#[test]
fn files_of_others_are_left_alone() {
    let line = |ids: &[i64], file: &str| json!({"phoneme_ids": ids, "output_file": file}).to_string();
    let mut work = Work::new(&[line(&[1, 2], "a.wav"), line(&[3], "b.wav")]);
    work.run("out", &[], 0);
    let before = work.tree("out");
    let fails = |work: &Work, parts: &[&str]| {
        let (summary, _) = work.run("out", &[], 1);
        let errors = summary["errors"].to_string();
        for part in parts {
            assert!(errors.contains(part), "{errors} lacks {part}");
        }
    };
    work.voice = "legacy-single.ckpt";
    fails(&work, &["a.wav: exists already", "b.wav: exists already", "with other options"]);
    work.voice = "multi.ckpt";
    work.write(&[line(&[1, 4], "a.wav"), line(&[3], "b.wav")]);
    fails(&work, &["a.wav: exists already"]);
    assert!(work.tree("out") == before);

    fs::write(work.path("out/c.wav"), "my own").unwrap();
    fs::create_dir(work.path("out/d.wav")).unwrap();
    fs::write(work.path("out/b.wav"), "cut").unwrap();
    work.write(&[line(&[5], "c.wav"), line(&[6], "d.wav"), line(&[7], "c.wav/e.wav"), line(&[3], "b.wav")]);
    fails(
        &work,
        &["c.wav: exists already", "d.wav: exists already", "expected a folder", "b.wav: expected the"],
    );
    assert_eq!(fs::read(work.path("out/c.wav")).unwrap(), b"my own");
}

#[test]
fn what_cannot_begin_says_why() {
    let work = Work::new(&lines());
    for shard in ["0/3", "4/3", "x", "1"] {
        work.refused("out", &["--shard", shard], "expected I/N");
    }
    work.refused("out", &["--jobs", "0"], "--jobs");
    work.refused("manifest.jsonl", &[], "manifest.jsonl");
    fs::remove_file(work.path("manifest.jsonl")).unwrap();
    work.refused("out", &[], "manifest.jsonl");
    fs::create_dir(work.path("manifest.jsonl")).unwrap();
    work.refused("out", &[], "expected a file");
    fs::remove_dir(work.path("manifest.jsonl")).unwrap();
    fs::write(work.path("manifest.jsonl"), "").unwrap();
    let (summary, _) = work.run("out", &[], 0);
    assert_eq!((&summary["lines"], &summary["tree"]), (&json!(0), &json!(hash(&BTreeMap::new()))));
}

/// The output of a folder that draws its own noise cannot be reproduced.
#[test]
fn a_voice_that_takes_no_seed_is_refused_line_by_line() {
    let work = Work::new(&[json!({"phoneme_ids": [1, 2]}).to_string()]);
    let pair = work.path("pair");
    let mut export = Command::new(env!("CARGO_BIN_EXE_vitstream"));
    export.arg("export").arg(golden("multi.ckpt")).arg(&pair).assert().success();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
    command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME");
    command.arg("batch").arg(&pair).args([work.path("manifest.jsonl"), work.path("out")]);
    let output =
        command.args(["--runtime", "rten", "--sample-rate", "22050"]).assert().code(1).get_output().clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("line 1: a seed has no effect on this voice"), "{stderr}");
}
