//! `vitstream bench`, on a voice that takes no time.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

fn bench() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
    command.arg("bench").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-synth/tests/data/toy"));
    command
}

#[test]
fn both_decoders_and_another_voice_are_measured_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let plot = dir.path().join("plot.svg");
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-synth/tests/data/tiny-multi");
    let output = bench()
        .args([
            "--lengths",
            "1,40",
            "--rounds",
            "2",
            "--runtime",
            "rten",
            "--sample-rate",
            "8000",
            "--json",
            "--against",
        ])
        .arg(other)
        .arg("--plot")
        .arg(&plot)
        .assert()
        .success()
        .get_output()
        .clone();
    let reports: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let decoders: Vec<_> = reports.iter().map(|report| report["decoder"].as_str().unwrap()).collect();
    assert_eq!(decoders, ["stateful", "windowed", "windowed"]);
    for report in &reports {
        let utterances = report["utterances"].as_array().unwrap();
        assert_eq!(utterances.len(), 2);
        for utterance in utterances {
            assert!(utterance["first_audio"]["median"].as_f64().unwrap() > 0.0);
            assert!(utterance["first_audio"]["min"].as_f64() <= utterance["total"]["max"].as_f64());
        }
        assert!(!cfg!(target_os = "linux") || report["peak_memory"]["median"].as_f64().unwrap() > 1e6);
    }
    assert_eq!(reports[0]["utterances"][1]["frames"], 400);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(dir.path().join("usual"), "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&plot), mode(&dir.path().join("usual")), "as of any new file");
    }
    let svg = fs::read_to_string(plot).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("windowed"), "{}", &svg[..200]);
}

#[test]
fn what_cannot_be_opened_is_told_before_anything_is_measured() {
    let other = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-synth/tests/data/tiny-multi");
    let output =
        bench().args(["--lengths", "1", "--runtime", "rten", "--against"]).arg(other).assert().failure();
    let said = String::from_utf8(output.get_output().stderr.clone()).unwrap();
    assert!(said.contains("tiny-multi: the sample rate is in no") && !said.contains("round 1"), "{said}");
}

/// One table for all runtimes, for a voice that each of them can open; a single file is for the native
/// runtime alone.
#[test]
fn the_native_runtime_stands_beside_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vitstream-vits/tests/golden/multi.ckpt");
    let program = || Command::new(env!("CARGO_BIN_EXE_vitstream"));
    program().arg("export").arg(&golden).arg(dir.path()).arg("-q").assert().success();
    let rows = |voice: &Path, runtimes: &[&str]| {
        let mut command = program();
        command.arg("bench").arg(voice);
        command.args(["--lengths", "9", "--rounds", "1", "--sample-rate", "22050", "--json"]);
        command.args(runtimes.iter().flat_map(|runtime| ["--runtime", runtime]));
        let output = command.assert().success().get_output().clone();
        let reports: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let row = |report: &Value| {
            assert!(report["load"]["median"].as_f64().unwrap() > 0.0);
            (report["runtime"].clone(), report["decoder"].clone())
        };
        reports.iter().map(row).collect::<Vec<_>>()
    };
    let native = ("native".into(), Value::Null);
    let [stateful, windowed] = ["stateful", "windowed"].map(|decoder| ("rten".into(), decoder.into()));
    assert_eq!(rows(dir.path(), &["rten", "native"]), [native.clone(), stateful, windowed]);
    assert_eq!(rows(&golden, &[]), [native]);
}

#[test]
fn calibration_writes_a_profile_that_speaking_reads() {
    let dir = tempfile::tempdir().unwrap();
    let profile = dir.path().join("new/profile.json");
    bench().args(["--calibrate", "--runtime", "rten", "--profile"]).arg(&profile).assert().success();
    let written: Value = serde_json::from_slice(&fs::read(&profile).unwrap()).unwrap();
    let costs = written["costs"].as_object().unwrap();
    assert_eq!(costs.keys().collect::<Vec<_>>(), ["rten/1/stateful/toy", "rten/1/windowed/toy"]);
    assert!(costs.values().all(|cost| cost["per_frame"].as_f64().unwrap() > 0.0));

    fs::write(&profile, "{").unwrap();
    let output = bench()
        .args(["--rounds", "1", "--runtime", "rten", "--profile"])
        .arg(&profile)
        .assert()
        .code(1)
        .get_output()
        .clone();
    assert!(String::from_utf8_lossy(&output.stderr).contains("profile.json: not a profile"));
}
