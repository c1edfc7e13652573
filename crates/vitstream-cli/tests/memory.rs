//! The memory of a process that speaks stays bounded, however much it speaks.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread;

use vitstream_testing::golden;

/// Utterances of 3 seconds each at 22,050 Hz: first enough of them for every buffer to reach its final size,
/// then four minutes.
const LINES: [usize; 2] = [20, 100];
/// Growth that allocators cause by chance.
const SLACK_KIB: usize = 1024;

/// The peak memory of a running process, in KiB.
fn peak(process: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn memory_does_not_grow_with_what_is_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_vitstream");
    let mut export = Command::new(program);
    export.args(["export", "--noise", "input"]).arg(golden("multi.ckpt")).arg(folder.path());
    let exported = export.output().unwrap();
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));

    let ids: Vec<String> = (0..122).map(|i| (i % 31 + 1).to_string()).collect();
    let line = format!("{{\"phoneme_ids\": [{}]}}\n", ids.join(","));
    for runtime in ["native", "rten"] {
        let speak = || {
            let mut command = Command::new(program);
            command.arg("speak").arg(folder.path()).args(["--runtime", runtime, "--raw", "--seed", "1"]);
            command.args(["--sample-rate", "22050"]).stdin(Stdio::piped()).stdout(Stdio::piped());
            command.spawn().unwrap()
        };
        // The same seed and text, so every utterance has the same number of bytes.
        let mut alone = speak();
        alone.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        let utterance = alone.wait_with_output().unwrap().stdout.len();
        assert!(utterance > 2 * 22_050, "{utterance} bytes");

        let mut process = speak();
        let (mut input, mut output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let peaks = LINES.map(|lines| {
            let text = line.repeat(lines);
            thread::scope(|scope| {
                scope.spawn(|| input.write_all(text.as_bytes()).unwrap());
                output.read_exact(&mut vec![0; lines * utterance]).unwrap();
            });
            peak(process.id())
        });
        drop(input);
        assert!(process.wait().unwrap().success());
        assert!(peaks[1] <= peaks[0] + SLACK_KIB, "{runtime}: {peaks:?} KiB after {LINES:?} more utterances");
    }
}
