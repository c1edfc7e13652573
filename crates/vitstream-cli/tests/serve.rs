//! `vitstream serve` from its user's point of view: addresses, keys, voices, standard input. The audio for
//! its clients is tested in vitstream-serve and by scripts/serve_conformance.py.
#![cfg(all(unix, feature = "serve"))]
#![allow(missing_docs, reason = "a test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};

use vitstream_testing::golden;

fn vitstream(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
    command.arg("serve").args(arguments).env_remove("VITSTREAM_API_KEY");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn letters() -> String {
    golden("families/hf").to_str().unwrap().to_owned()
}

struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    http: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server whose default voice is open.
fn start(command: &mut Command) -> Server {
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let (mut http, mut line) = (String::new(), String::new());
    while !line.contains("opened") {
        line.clear();
        assert!(stderr.read_line(&mut line).unwrap() > 0, "the server ended");
        if let Some((_, address)) = line.split_once("HTTP on http://") {
            address.trim_end_matches(['\n', '"', '}']).clone_into(&mut http);
        }
    }
    Server { child, stderr, http }
}

impl Server {
    fn get(&self, path: &str, fields: &str) -> String {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asks it to shut down, and returns its exit status and the rest of its output.
    fn end(mut self) -> (Option<i32>, String) {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().unwrap();
        assert!(killed.success());
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

#[test]
fn others_are_not_let_in_without_a_key_or_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::write(&empty, " \n").unwrap();
    let (letters, empty) = (letters(), empty.to_str().unwrap().to_owned());
    for (arguments, part) in [
        (vec!["--http", "0.0.0.0:0"], "--key-file"),
        (vec!["--http", "[::]:0"], "--key-file"),
        (vec!["--wyoming", "0.0.0.0:0"], "--wyoming-lan"),
        (vec!["--key-file", &empty], "expected a key, found none"),
        (vec!["--http", "off", "--wyoming", "off"], "there is nothing to serve"),
        (vec!["--http", "stdio"], "127.0.0.1:5000"),
        (vec!["--allow-origin", "example.org"], "https://example.org"),
        (vec!["--max-load", "0"], "--max-load"),
        (vec!["--idle-timeout", "-1"], "--idle-timeout"),
        (vec!["--voice", "x"], "NAME=VOICE"),
        (vec!["--voice", "hf=absent"], "absent"),
    ] {
        let output = vitstream(&arguments).arg(&letters).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(part), "{arguments:?}: {said}");
        assert!(!said.contains(" on http://"), "{arguments:?} listened");
    }
}

#[test]
fn a_folder_of_voices_is_served_until_a_signal_comes() {
    let folder = tempfile::tempdir().unwrap();
    let voice = folder.path().join("letters");
    fs::create_dir(&voice).unwrap();
    for file in ["model.safetensors", "config.json", "vocab.json", "tokenizer_config.json"] {
        fs::copy(golden("families/hf").join(file), voice.join(file)).unwrap();
    }
    fs::write(folder.path().join("broken.onnx"), b"no voice").unwrap();
    let place = folder.path().to_str().unwrap();
    let arguments =
        ["--voice", &format!("mine={}", letters()), place, "--http", "127.0.0.1:0", "--wyoming", "off"];
    let server = start(vitstream(&arguments).env("VITSTREAM_API_KEY", "secret"));
    // One of the voices cannot be opened, which does not affect the others.
    while !server.get("/readyz", "").starts_with("HTTP/1.1 200") {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(server.get("/v1/models", "").starts_with("HTTP/1.1 401"));
    let key = "Authorization: Bearer secret\r\n";
    let info = server.get("/info", key);
    assert!(info.contains("\"default_voice\":\"mine\""), "{info}");
    let spoken = server.get("/?text=the%20secret%20word", key);
    assert!(spoken.starts_with("HTTP/1.1 200"), "{spoken}");
    let (code, said) = server.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("the secret word"), "{said}");
}

#[test]
fn the_log_can_be_json() {
    let letters = letters();
    let settings = tempfile::NamedTempFile::new().unwrap();
    fs::write(settings.path(), format!("voices = {letters:?}\nlog-format = \"json\"")).unwrap();
    let settings = settings.path().to_str().unwrap();
    let arguments = ["--settings", settings, "--http", "127.0.0.1:0", "--wyoming", "off"];
    let server = start(&mut vitstream(&arguments));
    assert!(server.get("/?text=the%20secret%20word", "").starts_with("HTTP/1.1 200"));
    assert!(server.get("/?text=", "").starts_with("HTTP/1.1 400"));
    let (code, said) = server.end();
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let request = lines.iter().find(|line| line["request"] == 1).unwrap();
    assert_eq!((&request["level"], &request["message"]), (&"INFO".into(), &"ended".into()), "{said}");
    assert!(request["samples"].as_u64().unwrap() > 0 && request["timestamp"].is_string(), "{said}");
    assert!(!said.contains("secret"), "{said}");
    // The error that ends the program is also a line of the log.
    let output = vitstream(&["--log-format", "json", "absent"]).output().unwrap();
    let line: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((output.status.code(), &line["level"]), (Some(1), &"ERROR".into()));
    assert!(line["message"].as_str().unwrap().contains("absent"), "{line}");
}

#[test]
fn a_conversation_over_standard_input_ends_with_it() {
    let letters = letters();
    let arguments = [&letters, "--http", "off", "--wyoming", "stdio", "--seed", "3"];
    let mut child = vitstream(&arguments).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"{\"type\": \"synthesize\", \"data\": {\"text\": \"hello\"}}\n").unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut samples = Vec::new();
    loop {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        let length = |key: &str| event[key].as_u64().unwrap() as usize;
        let mut body = vec![0; length("data_length") + length("payload_length")];
        output.read_exact(&mut body).unwrap();
        samples.extend(body.split_off(length("data_length")));
        if event["type"] == "audio-stop" {
            break;
        }
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    let alone = Command::new(env!("CARGO_BIN_EXE_vitstream"))
        .args(["speak", &letters, "hello", "--raw", "--seed", "3"])
        .output()
        .unwrap();
    assert!(!samples.is_empty() && samples == alone.stdout);
}
