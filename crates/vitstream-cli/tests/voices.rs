//! Voices by name, from a server on this machine with one voice in the form in which Piper publishes voices.

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use assert_cmd::Command;
use md5::{Digest as _, Md5};
use serde_json::{Value as Json, json};
use sha2::Sha256;
use tempfile::TempDir;

use server::{Fault, Server};

const KEY: &str = "de_DE-tugão-low";
/// The path under which the graph is published, escaped because an address consists of ASCII letters.
const GRAPH: &str = "/piper/de/de_DE/tug%C3%A3o/low/de_DE-tug%C3%A3o-low.onnx";
const INDEX: &str = "/piper/voices.json";

fn family(file: &str) -> Vec<u8> {
    fs::read(vitstream_testing::golden("families").join(file)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A user with an empty home, and a server with one voice.
struct World {
    home: TempDir,
    server: Server,
    graph: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let (server, graph) = (Server::start(), family("voices/legacy-single.onnx"));
        let json = family("voices/legacy-single.onnx.json");
        server.put(GRAPH, graph.clone());
        server.put(&format!("{GRAPH}.json"), json.clone());
        server.put("/piper/de/de_DE/tug%C3%A3o/low/MODEL_CARD", "A voice of nobody.");
        let world = Self { home: tempfile::tempdir().unwrap(), server, graph };
        let file =
            |content: &[u8]| json!({"size_bytes": content.len(), "md5_digest": hex(&Md5::digest(content))});
        let folder = "de/de_DE/tugão/low";
        let files = json!({
            format!("{folder}/{KEY}.onnx"): file(&world.graph),
            format!("{folder}/{KEY}.onnx.json"): file(&json),
            format!("{folder}/MODEL_CARD"): file(b"A voice of nobody."),
        });
        world.publish(&json!({KEY: entry(KEY, &files)}));
        world
    }

    fn publish(&self, index: &Json) {
        self.server.put(INDEX, serde_json::to_vec(index).unwrap());
    }

    fn index(&self) -> Json {
        let output = self.vitstream(&["voices", "--json"]).assert().success().get_output().stdout.clone();
        serde_json::from_slice(&output).unwrap()
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let home = self.home.path();
        vec![
            ("HOME", home.display().to_string()),
            ("XDG_DATA_HOME", home.join("data").display().to_string()),
            ("VITSTREAM_VOICES_URL", format!("{}/piper/", self.server.url)),
            ("HF_ENDPOINT", self.server.url.clone()),
            ("PATH", String::new()),
        ]
    }

    fn vitstream(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
        command.env_clear().envs(self.environment()).args(args);
        command
    }

    fn get(&self, name: &str) -> Command {
        self.vitstream(&["voices", "get", name])
    }

    /// Downloads the voice, and returns its path.
    fn got(&self, name: &str) -> PathBuf {
        let output = self.get(name).assert().success().get_output().stdout.clone();
        PathBuf::from(String::from_utf8(output).unwrap().trim_end())
    }

    fn refused(&self, mut command: Command, parts: &[&str]) {
        let output = command.assert().code(1).get_output().clone();
        let stderr = String::from_utf8(output.stderr).unwrap();
        for part in parts {
            assert!(stderr.contains(part), "{stderr:?} lacks {part:?}");
        }
        assert_eq!(stderr.matches("error: ").count(), 1, "{stderr}");
        assert_eq!(self.installed(), Vec::<String>::new(), "half a voice is none");
    }

    /// The installed voices.
    fn installed(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.home.path().join("data/vitstream/voices")) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.starts_with('.')).collect()
    }

    /// The requested paths, with the first byte requested of each.
    fn asked(&self, path: &str) -> Vec<String> {
        let requests = self.server.requests().into_iter().filter(|request| request.path == path);
        requests.map(|mut request| request.headers.remove("range").unwrap_or_default()).collect()
    }
}

fn entry(key: &str, files: &Json) -> Json {
    json!({
        "key": key, "name": "tugão", "quality": "low", "num_speakers": 1, "speaker_id_map": {}, "files": files,
        "aliases": ["de-tugao-low"],
        "language": {"code": "de_DE", "family": "de", "region": "DE", "name_native": "Deutsch",
                     "name_english": "German", "country_english": "Germany"},
    })
}

#[test]
fn a_voice_is_listed_got_and_spoken() {
    let world = World::new();
    let list = world.index();
    assert_eq!((&list[0]["key"], &list[0]["path"]), (&json!(KEY), &Json::Null));
    assert!(list[0]["size_bytes"].as_u64().unwrap() > world.graph.len() as u64);
    let path = world.got("de-tugao-low");
    assert_eq!(fs::read(&path).unwrap(), world.graph);
    assert_eq!(fs::read(path.with_file_name("MODEL_CARD")).unwrap(), b"A voice of nobody.");
    assert_eq!(world.index()[0]["path"], json!(path));

    world.server.requests();
    assert_eq!(world.got(KEY), path);
    assert_eq!(world.server.requests().len(), 0, "what is here is not asked for");
    let spoken = |voice: &str, to: &str| {
        let to = world.home.path().join(to);
        let mut command = world.vitstream(&["speak", voice, "--ids", "1,2,3", "--seed", "3", "-o"]);
        command.arg(&to).assert().success();
        fs::read(to).unwrap()
    };
    assert_eq!(spoken(KEY, "a.wav"), spoken(path.to_str().unwrap(), "b.wav"));
    assert_eq!(spoken(KEY, "a.wav"), spoken("de-tugao-low", "b.wav"));
    assert_eq!(world.server.requests().len(), 0);

    let text = |args: &[&str]| {
        let output = world.vitstream(args).assert().success().get_output().stdout.clone();
        String::from_utf8(output).unwrap()
    };
    for language in ["de", "de-DE", "german", "Deutsch"] {
        let line = text(&["voices", "--language", language]);
        assert!(line.starts_with(KEY) && line.ends_with("here\n") && line.contains("German"), "{line}");
    }
    world.vitstream(&["voices", "--language", "en"]).assert().code(1);
    assert_eq!(text(&["voices", "--language", "en", "--json"]), "[]\n");
}

/// Every command that takes a voice accepts its name.
#[test]
fn a_name_stands_for_the_voices_file_in_every_command() {
    let world = World::new();
    let path = world.got(KEY);
    world.server.requests();
    let path = path.to_str().unwrap();
    let output = |args: &[&str]| {
        let output = world.vitstream(args).current_dir(&world.home).assert().success().get_output().clone();
        output.stdout
    };
    for args in
        [&["inspect", "VOICE", "--json"][..], &["inspect", "VOICE"], &["phonemize", "VOICE", "a", "--json"]]
    {
        let with =
            |voice| args.iter().map(|&arg| if arg == "VOICE" { voice } else { arg }).collect::<Vec<&str>>();
        let [by_name, by_path] = [KEY, path].map(|voice| world.vitstream(&with(voice)).output().unwrap());
        assert_eq!(by_name, by_path, "{args:?}");
    }
    output(&["export", KEY, "out"]);
    output(&["verify", "out", "--against", KEY]);
    output(&["bench", KEY, "--against", KEY, "--runtime", "native", "--lengths", "5", "--rounds", "1"]);
    fs::write(world.home.path().join("lines"), "{\"phoneme_ids\": [1, 2]}").unwrap();
    output(&["batch", KEY, "lines", "files"]);
    assert_eq!(world.server.requests().len(), 0);
    // A path that can only be a file is not treated as a name.
    world.vitstream(&["export", "missing.ckpt", "x"]).assert().code(1);
    let missing = world.vitstream(&["inspect", "missing.ckpt"]).assert().code(1).get_output().stderr.clone();
    assert!(!String::from_utf8(missing).unwrap().contains("voices get"));
}

/// The voice is not installed, and nobody can answer a question.
#[test]
fn a_name_that_is_not_here_is_an_error_that_says_how_to_get_it() {
    let world = World::new();
    let speak = |voice| world.vitstream(&["speak", voice, "--ids", "1", "--raw"]);
    world.refused(speak(KEY), &[KEY, "no such file or folder", &format!("vitstream voices get {KEY}")]);
    world.refused(speak("hf:owner/voice"), &["vitstream voices get hf:owner/voice"]);
    world.refused(speak("hf:owner"), &["OWNER/REPO"]);
    world.refused(speak("./voice"), &["./voice"]);
    assert_eq!(world.server.requests().len(), 0);
    world.refused(world.get("de_DE-tugao-low"), &["did you mean de_DE-tugão-low?"]);
    world.refused(world.get("../x"), &["\"../x\" is not a voice's name"]);
    world.refused(world.get("/etc/passwd"), &["is not a voice's name"]);
}

#[test]
fn what_breaks_off_is_resumed() {
    let world = World::new();
    world.server.once(GRAPH, &[Fault::Cut(1_000), Fault::Cut(0), Fault::Status(503), Fault::Cut(500)]);
    assert_eq!(fs::read(world.got(KEY)).unwrap(), world.graph);
    let ranges = ["", "bytes=1000-", "bytes=1000-", "bytes=1000-", "bytes=1500-"];
    assert_eq!(world.asked(GRAPH), ranges);
}

#[test]
fn what_one_process_left_another_resumes() {
    let world = World::new();
    world
        .server
        .once(GRAPH, &[Fault::Cut(1_000), Fault::Cut(0), Fault::Cut(0), Fault::Cut(0), Fault::Cut(0)]);
    world.refused(world.get(KEY), &["1000 of", "the next attempt continues"]);
    world.server.requests();
    world.server.once(GRAPH, &[]);
    assert_eq!(fs::read(world.got(KEY)).unwrap(), world.graph);
    assert_eq!(world.asked(GRAPH), ["bytes=1000-"]);
    assert_eq!(world.installed(), [KEY]);
    let entries = fs::read_dir(world.home.path().join("data/vitstream/voices").join(KEY)).unwrap();
    assert_eq!(entries.count(), 4, "three files, and the one that says which is opened");
}

#[test]
fn a_server_that_gives_whole_files_only_will_do() {
    let world = World::new();
    world.server.once(GRAPH, &[Fault::Cut(1_000), Fault::Whole]);
    assert_eq!(fs::read(world.got(KEY)).unwrap(), world.graph);
}

/// The interrupted download was of another version of the file, so the rest does not fit it.
#[test]
fn a_file_that_changed_meanwhile_is_got_anew() {
    let world = World::new();
    let mut old = world.graph.clone();
    old[..2_000].reverse();
    world.server.put(GRAPH, old);
    world.server.once(GRAPH, &[Fault::Cut(2_000), Fault::Status(404)]);
    world.refused(world.get(KEY), &["no such file"]);
    world.server.put(GRAPH, world.graph.clone());
    assert_eq!(fs::read(world.got(KEY)).unwrap(), world.graph);
}

#[test]
fn wrong_contents_are_refused_and_nothing_is_left() {
    let world = World::new();
    let mut wrong = world.graph.clone();
    wrong[5_000] ^= 1;
    world.server.put(GRAPH, wrong);
    world.refused(world.get(KEY), &["expected MD5", "the file was deleted"]);
    let short = world.graph[..3_000].to_vec();
    world.server.put(GRAPH, short);
    world.refused(world.get(KEY), &[GRAPH]);
    world.server.put(GRAPH, world.graph.clone());
    world.server.always(GRAPH, Fault::More(7));
    world.refused(world.get(KEY), &["more than the", "bytes that were announced"]);
    world.server.once(GRAPH, &[]);
    assert_eq!(fs::read(world.got(KEY)).unwrap(), world.graph);
}

#[test]
fn servers_that_refuse_are_quoted() {
    let world = World::new();
    for (status, part, attempts) in [
        (404, "there is no such file (status 404)", 1),
        (401, "HF_TOKEN", 1),
        (403, "HF_TOKEN", 1),
        (418, "unexpected status 418", 1),
        (500, "cannot answer now (status 500)", 4),
        (429, "cannot answer now (status 429)", 4),
    ] {
        world.server.requests();
        world.server.always(GRAPH, Fault::Status(status));
        world.refused(world.get(KEY), &[GRAPH, part]);
        assert_eq!(world.asked(GRAPH).len(), attempts, "{status}");
    }
    world.server.always(INDEX, Fault::Status(404));
    world.refused(world.vitstream(&["voices"]), &[INDEX, "there is no such file"]);
}

#[test]
fn nobody_is_waited_for_forever() {
    let world = World::new();
    let silent = || vec![Fault::Stall(0); 4];
    for faults in [silent(), [vec![Fault::Stall(4_000)], silent()].concat()] {
        world.server.once(GRAPH, &faults);
        let mut command = world.get(KEY);
        command.env("HF_HUB_DOWNLOAD_TIMEOUT", "1");
        world.refused(command, &["no data for 1 seconds"]);
    }
    for bad in ["0", "-1", "x", "1e9", "99999999999999999999"] {
        let mut command = world.get(KEY);
        command.env("HF_HUB_DOWNLOAD_TIMEOUT", bad);
        world.refused(command, &["HF_HUB_DOWNLOAD_TIMEOUT", bad]);
    }
    // The port of a server that has ended: nobody listens.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = world.get(KEY);
    command.env("VITSTREAM_VOICES_URL", format!("http://{gone}"));
    world.refused(command, &[&gone.to_string()]);
}

#[test]
fn a_list_without_end_or_sense_is_refused() {
    let world = World::new();
    world.server.always(INDEX, Fault::Endless);
    world.refused(world.vitstream(&["voices"]), &[INDEX, "more than the 16777216 bytes"]);
    world.server.once(INDEX, &[]);
    for bad in ["", "[]", "<html>", "\u{0}", "{\"a\": "] {
        world.server.put(INDEX, bad);
        world.refused(world.vitstream(&["voices"]), &["not in the format that Piper publishes"]);
    }
}

#[test]
fn hostile_names_reach_nothing_outside() {
    let world = World::new();
    let file = json!({"size_bytes": 3, "md5_digest": hex(&Md5::digest(b"abc"))});
    let files = |name: &str| json!({format!("x/{name}.onnx"): file, format!("x/{name}.onnx.json"): file});
    let mut index = json!({});
    for (i, (key, name)) in [
        ("../../../evil", "v"),
        ("/tmp/evil", "v"),
        ("evil", "../../evil"),
        ("evil", "/evil"),
        ("evil", "..\\evil"),
        ("evil", "\u{0}"),
        (".partial", "v"),
        ("nul", "v"),
    ]
    .into_iter()
    .enumerate()
    {
        index[key] = entry(key, &files(name));
        world.publish(&index);
        let list = world.index();
        assert_eq!(list, json!([]), "case {i}");
        assert_ne!(world.get(key).output().unwrap().status.code(), Some(0));
    }
    let paths = walk(world.home.path());
    assert!(paths.iter().all(|path| path.ends_with(".voices.json")), "{paths:?}");
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(walk(&path)) } else { files.push(path) }
    }
    files
}

/// `hf:some/voice`, as the hub lists and sends it.
fn put_repository(world: &World, repository: &str) {
    let weights = family("hf/model.safetensors");
    let mut list = vec![
        json!({"type": "directory", "path": "onnx", "size": 0}),
        json!({"type": "file", "path": ".gitattributes", "size": 5}),
        json!({"type": "file", "path": "run.py", "size": 5}),
        json!({"type": "file", "path": "model.safetensors", "size": 134,
               "lfs": {"oid": hex(&Sha256::digest(&weights)), "size": weights.len(), "pointerSize": 134}}),
    ];
    let resolve = format!("/{repository}/resolve/main");
    for name in ["config.json", "vocab.json", "tokenizer_config.json", "added_tokens.json"] {
        let content = family(&format!("hf/{name}"));
        list.push(json!({"type": "file", "path": name, "size": content.len()}));
        world.server.put(&format!("{resolve}/{name}"), content);
    }
    world.server.put(&format!("{resolve}/model.safetensors"), weights);
    world.server.put(&format!("/api/models/{repository}/tree/main"), serde_json::to_vec(&list).unwrap());
}

#[test]
fn repositories_of_the_hub_are_got_and_spoken() {
    for name in ["facebook/mms-tts-deu", "hf:some/voice"] {
        let world = World::new();
        let repository = name.trim_start_matches("hf:");
        put_repository(&world, repository);
        let path = world.got(name);
        assert_eq!(path.file_name().unwrap(), "model.safetensors");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 6, "no other files are taken");
        let out = world.home.path().join("out.wav");
        let mut command = world.vitstream(&["speak", name, "--ids", "1,2,3", "-o"]);
        command.arg(&out).assert().success();
        assert_eq!(hound::WavReader::open(out).unwrap().spec().sample_rate, 16_000);
        assert_eq!(world.installed().len(), 1);
    }
    let world = World::new();
    put_repository(&world, "some/voice");
    world.refused(world.get("hf:some/voice:other.onnx"), &["no file other.onnx"]);
    world.refused(world.get("hf:some/other"), &["no such file"]);
    let mut wrong = family("hf/model.safetensors");
    wrong[3_000] ^= 4;
    world.server.put("/some/voice/resolve/main/model.safetensors", wrong);
    world.refused(world.get("hf:some/voice"), &["expected SHA-256"]);
}

#[test]
fn one_of_several_files_at_a_revision() {
    let world = World::new();
    let (graph, json) = (world.graph.clone(), family("voices/legacy-single.onnx.json"));
    let listed =
        |name: &str, size: usize| json!({"type": "file", "path": format!("de/{name}"), "size": size});
    let list = json!([
        listed("a.onnx", graph.len()),
        listed("a.onnx.json", json.len()),
        listed("b.onnx", 7),
        listed("b.onnx.json", 7),
        {"type": "file", "path": "elsewhere/c.json", "size": 1},
        {"type": "file", "path": "de/../../c.json", "size": 1},
    ]);
    world.server.put("/api/models/o/r/tree/refs%2Fpr%2F1/de", serde_json::to_vec(&list).unwrap());
    world.server.put("/o/r/resolve/refs%2Fpr%2F1/de/a.onnx", graph.clone());
    world.server.put("/o/r/resolve/refs%2Fpr%2F1/de/a.onnx.json", json);
    let path = world.got("hf:o/r@refs/pr/1:de/a.onnx");
    assert_eq!(fs::read(&path).unwrap(), graph);
    assert!(path.with_extension("onnx.json").is_file());
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 3);
    world.server.put(
        "/api/models/o/r/tree/main",
        serde_json::to_vec(&json!([
            {"type": "file", "path": "a.onnx", "size": 1}, {"type": "file", "path": "b.ckpt", "size": 1},
        ]))
        .unwrap(),
    );
    let output = world.get("hf:o/r").assert().code(1).get_output().clone();
    assert!(String::from_utf8(output.stderr).unwrap().contains("there are several voices"));
}

/// The token is sent to the hub, and to no other server.
#[test]
fn only_the_hub_is_told_the_token() {
    let (world, other) = (World::new(), Server::start());
    put_repository(&world, "some/voice");
    let weights = "/some/voice/resolve/main/model.safetensors";
    other.put("/storage", family("hf/model.safetensors"));
    other.put("/piper/voices.json", "{}");
    world.server.put("/cache", family("hf/config.json"));
    world.server.always(weights, Fault::Redirect(format!("{}/storage", other.url)));
    world.server.always("/some/voice/resolve/main/config.json", Fault::Redirect("/cache".to_owned()));
    let with_token = |mut command: Command| {
        command.env("HF_TOKEN", "hf_secret").assert().success();
    };
    with_token(world.get("hf:some/voice"));
    let told = |server: &Server| {
        let mut told: Vec<_> = server
            .requests()
            .into_iter()
            .map(|mut request| (request.path, request.headers.remove("authorization")))
            .collect();
        told.sort();
        told
    };
    let hub = told(&world.server);
    assert!(
        hub.len() > 4 && hub.iter().all(|(_, token)| token.as_deref() == Some("Bearer hf_secret")),
        "{hub:?}"
    );
    assert!(hub.iter().any(|(path, _)| path == "/cache"));
    assert_eq!(told(&other), [("/storage".to_owned(), None)]);
    let mut elsewhere = world.vitstream(&["voices", "--json"]);
    elsewhere.env("VITSTREAM_VOICES_URL", format!("{}/piper", other.url));
    with_token(elsewhere);
    assert_eq!(told(&other), [("/piper/voices.json".to_owned(), None)]);
}

#[test]
fn circles_are_left() {
    let world = World::new();
    world.server.always(GRAPH, Fault::Redirect(GRAPH.to_owned()));
    world.refused(world.get(KEY), &["redirected more than 6 times"]);
    for to in ["ftp://example.org/x", "file:///etc/passwd", ""] {
        world.server.always(GRAPH, Fault::Redirect(to.to_owned()));
        world.refused(world.get(KEY), &["not to an address that can be followed"]);
    }
}

#[test]
fn offline_nothing_is_asked() {
    let world = World::new();
    let offline = |args: &[&str]| {
        let mut command = world.vitstream(args);
        command.env("HF_HUB_OFFLINE", "1");
        command
    };
    world.refused(offline(&["voices"]), &["HF_HUB_OFFLINE", "never downloaded"]);
    world.refused(offline(&["voices", "get", KEY]), &["HF_HUB_OFFLINE"]);
    assert_eq!(world.server.requests().len(), 0);
    world.index();
    world.server.requests();
    let output = offline(&["voices", "--json"]).assert().success().get_output().stdout.clone();
    assert!(String::from_utf8(output).unwrap().contains(KEY), "as it was last seen");
    world.refused(offline(&["voices", "get", KEY]), &["HF_HUB_OFFLINE"]);
    assert_eq!(world.server.requests().len(), 0);
}

#[test]
fn proxies_are_asked() {
    let world = World::new();
    let through = |no_proxy: &str| {
        let mut command = world.vitstream(&["voices", "--json"]);
        command
            .env("VITSTREAM_VOICES_URL", "http://voices.invalid/piper")
            .env("HTTPS_PROXY", &world.server.url)
            .env("NO_PROXY", no_proxy);
        command
    };
    through("").assert().success();
    let requests = world.server.requests();
    assert_eq!(requests[0].method, "CONNECT");
    assert_eq!(requests[0].path, "voices.invalid:80");
    assert_eq!(requests[1].path, INDEX);
    through("voices.invalid").assert().code(1);
    assert_eq!(world.server.requests().len(), 0);
}

#[test]
fn addresses_that_are_none_are_named() {
    let world = World::new();
    for variable in ["HF_ENDPOINT", "VITSTREAM_VOICES_URL"] {
        for bad in ["example.org", "ftp://example.org", "/tmp", "https://"] {
            let mut command = world.vitstream(&["voices"]);
            command.env(variable, bad);
            world.refused(command, &[variable, bad]);
        }
    }
}

#[test]
fn two_that_get_the_same_voice_do_not_disturb_each_other() {
    let world = World::new();
    // The first connection is aborted, so that both downloads take a while.
    world.server.once(GRAPH, &[Fault::Cut(1_000)]);
    let start = || {
        let mut command = Process::new(env!("CARGO_BIN_EXE_vitstream"));
        command.env_clear().envs(world.environment()).args(["voices", "get", KEY]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [start(), start(), start()];
    for process in both {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end());
        assert_eq!(fs::read(path).unwrap(), world.graph);
    }
    assert_eq!(world.asked(GRAPH), ["", "bytes=1000-"], "one gets it, the others wait");
}
