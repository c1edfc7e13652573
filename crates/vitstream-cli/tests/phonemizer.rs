//! `vitstream phonemizer-worker` in its use by a server: a crash or hang of the worker fails only the clause
//! in question.
#![cfg(target_os = "linux")]
#![allow(missing_docs, reason = "a test")]

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{self, Command as Process};
use std::time::Duration;
use std::{env, fs, thread};

use tempfile::TempDir;
use vitstream_text::phonemizer::{Command, EspeakLibrary, Phonemizer, PhonemizerError, Pool};

/// Longer than a busy machine needs.
const LONG: Duration = Duration::from_secs(120);

/// Runs `size` processes that call the library.
fn pool(size: usize, library: &Path) -> Pool {
    let library = library.to_str().unwrap().to_owned();
    Pool::new(NonZeroUsize::new(size).unwrap(), LONG, move || {
        let arguments = ["phonemizer-worker", "--espeak", &library].map(str::to_owned);
        Ok(Box::new(Command::new(env!("CARGO_BIN_EXE_vitstream"), arguments).with_time_limit(LONG)))
    })
}

/// A library that accepts any voice, returns text unchanged, and crashes or hangs on command. `None` if there
/// is no compiler.
fn library(folder: &TempDir) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/phonemizer/espeak.rs");
    let path = folder.path().join("libespeak-ng.so.1");
    let mut compiler = Process::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    compiler.args(["--edition", "2024", "--crate-type", "cdylib", "-o"]).arg(&path).arg(source);
    match compiler.status() {
        Ok(status) => {
            assert!(status.success(), "rustc: {status}");
            Some(path)
        }
        Err(error) => {
            println!("skipped: no rustc to build a library with ({error})");
            None
        }
    }
}

/// The processes of this program that this test has started.
fn workers(library: &Path) -> Vec<u32> {
    let all =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(|pid: &u32| {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        read("cmdline").contains(library.to_str().unwrap())
            && read("status").contains(&format!("PPid:\t{}\n", process::id()))
    })
    .collect()
}

/// Sends a signal to a process.
fn kill(pid: u32, signal: &str) {
    let kill = Process::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(kill.success());
}

/// Makes a request that never ends, runs `meanwhile`, and kills the process with a signal. Returns the
/// resulting message.
fn hang(pool: &Pool, folder: &TempDir, signal: &str, meanwhile: impl FnOnce()) -> String {
    let file = folder.path().join(signal);
    thread::scope(|scope| {
        let (mut pool, clause) = (pool.clone(), format!("hang {}", file.display()));
        let asked = scope.spawn(move || pool.ipa("any", &clause).unwrap_err().to_string());
        while !file.exists() {
            assert!(!asked.is_finished());
            thread::sleep(Duration::from_millis(5));
        }
        meanwhile();
        kill(fs::read_to_string(&file).unwrap().parse().unwrap(), signal);
        asked.join().unwrap()
    })
}

#[test]
fn a_crash_costs_one_clause() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = library(&folder) else { return };
    let mut pool = pool(1, &library);
    assert_eq!(pool.ipa("any", "one").unwrap(), "one");
    assert_eq!(pool.about().version, "9.9 of a test");
    for _ in 0..3 {
        let error = pool.ipa("any", "crash").unwrap_err().to_string();
        assert!(error.contains("died (signal: 11 (SIGSEGV)"), "{error}");
        assert_eq!(pool.ipa("any", "two").unwrap(), "two");
    }
    // A process that is killed in the middle of a clause...
    for (name, number) in [("-KILL", 9), ("-ABRT", 6)] {
        let error = hang(&pool, &folder, name, || {});
        assert!(error.contains(&format!("died (signal: {number}")), "{error}");
        assert_eq!(pool.ipa("any", "three").unwrap(), "three");
    }
    // ... and one that is killed between two clauses.
    let [pid] = workers(&library)[..] else { panic!("expected one process") };
    kill(pid, "-KILL");
    pool.ipa("any", "four").ok();
    assert_eq!(pool.ipa("any", "five").unwrap(), "five");
    drop(pool);
    assert!(workers(&library).is_empty(), "no process is left");
}

#[test]
fn who_hangs_keeps_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = library(&folder) else { return };
    let mut pool = pool(2, &library);
    let ask = |text: String| {
        let mut pool = pool.clone();
        for _ in 0..20 {
            assert_eq!(pool.ipa("any", &text).unwrap(), text);
        }
    };
    let error = hang(&pool, &folder, "-KILL", || {
        thread::scope(|scope| {
            for number in 0..4 {
                let ask = &ask;
                scope.spawn(move || ask(number.to_string()));
            }
        });
    });
    assert!(error.contains("died (signal: 9"), "{error}");
    assert_eq!(pool.ipa("any", "after").unwrap(), "after");
}

#[test]
fn a_library_that_is_not_there_is_named_in_every_answer() {
    let mut pool = pool(1, Path::new("/no/such/library.so"));
    for _ in 0..2 {
        let error = pool.ipa("en-us", "Hello").unwrap_err().to_string();
        assert!(error.contains("/no/such/library.so: it cannot be loaded"), "{error}");
    }
}

#[test]
fn the_process_says_what_the_library_says() {
    let mut library = match EspeakLibrary::find(None) {
        Ok(library) => library,
        Err(error @ PhonemizerError::NotInstalled { .. }) => return println!("skipped: {error}"),
        Err(error) => panic!("{error}"),
    };
    let command = Command::new(env!("CARGO_BIN_EXE_vitstream"), ["phonemizer-worker".to_owned()]);
    let mut worker = command.with_time_limit(LONG);
    for (voice, text) in
        [("en-us", "Hello, "), ("de", "Straße.."), ("en-us", "next"), ("de", "\n"), ("en-us", "")]
    {
        assert_eq!(worker.ipa(voice, text).unwrap(), library.ipa(voice, text).unwrap());
    }
    assert_eq!(worker.about(), library.about());
    let (theirs, ours) = (worker.ipa("fr-fr", "a").unwrap_err(), library.ipa("fr-fr", "a").unwrap_err());
    assert_eq!(theirs.to_string(), ours.to_string());
    let error = worker.ipa("en-us", "a\0b").unwrap_err().to_string();
    assert!(error.contains("NUL"), "{error}");
}
