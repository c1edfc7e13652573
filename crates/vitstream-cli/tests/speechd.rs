//! `vitstream speechd` as speech-dispatcher uses it: its commands, answers and events over pipes. A voice
//! that reads letters speaks, and its samples are those of `vitstream speak`. `scripts/test_speechd.py` tests
//! it with the real server.
#![allow(missing_docs, reason = "a test")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use vitstream_testing::golden;

const SEED: &str = "3";

fn vitstream() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vitstream"));
    // No profile and no voices of the user who runs this test.
    command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
    command
}

fn letters() -> PathBuf {
    golden("families/hf")
}

/// The samples of `speak`.
fn spoken(args: &[&str]) -> Vec<u8> {
    let output =
        vitstream().arg("speak").arg(letters()).args(args).args(["--raw", "--seed", SEED]).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A module that says nothing for so long has failed; the test then says so instead of waiting.
const SILENCE: Duration = Duration::from_secs(60);

/// The running module.
struct Module {
    child: Child,
    input: Option<ChildStdin>,
    /// The lines of its output; the next one is read when this one is taken, so that the pipe can be full.
    output: Receiver<Vec<u8>>,
}

/// One item of the module's output.
#[derive(Debug, PartialEq)]
enum Said {
    Line(String),
    Mark(String),
    Audio(Vec<u8>),
}

fn line(text: &str) -> Said {
    Said::Line(text.to_owned())
}

impl Module {
    fn start(args: &[&str]) -> Self {
        let mut command = vitstream();
        command.arg("speechd").args(args).args(["--seed", SEED]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (lines, output) = sync_channel(0);
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).unwrap() > 0 && lines.send(line).is_ok() {
                line = Vec::new();
            }
        });
        Self { input: child.stdin.take(), child, output }
    }

    /// Starts a module that has a voice.
    fn ready() -> Self {
        let mut module = Self::start(&[letters().to_str().unwrap()]);
        module.send("INIT\n");
        assert!(matches!(module.next(), Said::Line(line) if line.starts_with("299-vitstream ")));
        assert_eq!(module.next(), line("299 OK LOADED SUCCESSFULLY"));
        module
    }

    fn send(&mut self, text: &str) {
        self.input.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn read(&mut self) -> Vec<u8> {
        let mut bytes = self.output.recv_timeout(SILENCE).expect("a line of the module's output");
        assert_eq!(bytes.pop(), Some(b'\n'), "the module says no more");
        bytes
    }

    fn next(&mut self) -> Said {
        let text = String::from_utf8(self.read()).unwrap();
        if let Some(name) = text.strip_prefix("700-") {
            assert_eq!(self.read(), b"700 INDEX MARK");
            return Said::Mark(name.to_owned());
        }
        if text != "705-bits=16" {
            return Said::Line(text);
        }
        assert_eq!(self.read(), b"705-num_channels=1");
        assert_eq!(self.read(), b"705-sample_rate=16000");
        let count = String::from_utf8(self.read()).unwrap();
        let count: usize = count.strip_prefix("705-num_samples=").unwrap().parse().unwrap();
        assert_eq!(self.read(), b"705-big_endian=0");
        let data = self.read();
        let mut escaped = data.strip_prefix(b"705-AUDIO\0").unwrap().iter();
        let mut samples = Vec::new();
        while let Some(&byte) = escaped.next() {
            samples.push(if byte == 0x7d { escaped.next().unwrap() ^ 0x20 } else { byte });
        }
        assert_eq!(samples.len(), 2 * count);
        assert_eq!(self.read(), b"705 AUDIO");
        Said::Audio(samples)
    }

    fn set(&mut self, settings: &str) {
        self.send(&format!("SET\n{settings}\n.\n"));
        assert_eq!(self.next(), line("203 OK RECEIVING SETTINGS"));
        assert_eq!(self.next(), line("203 OK SETTINGS RECEIVED"));
    }

    fn begin(&mut self, command: &str, text: &str) {
        self.send(&format!("{command}\n{text}\n.\n"));
        assert_eq!(self.next(), line("202 OK RECEIVING MESSAGE"));
        assert_eq!(self.next(), line("200 OK SPEAKING"));
        assert_eq!(self.next(), line("701 BEGIN"));
    }

    /// Returns everything up to the event that ends a message, and that event: the samples, and each mark
    /// with the number of bytes before it.
    fn rest(&mut self) -> (Vec<u8>, Vec<(String, usize)>, String) {
        let (mut audio, mut marks) = (Vec::new(), Vec::new());
        loop {
            match self.next() {
                Said::Audio(mut samples) => audio.append(&mut samples),
                Said::Mark(name) => marks.push((name, audio.len())),
                Said::Line(event) => return (audio, marks, event),
            }
        }
    }

    /// Sends a request that ends the message with an event. Returns what was still said before the request was
    /// certainly read, and after that.
    fn interrupt(&mut self, request: &str, event: &str) -> [Vec<Said>; 2] {
        // The answer to the next command shows that the request was read. The event comes from another thread
        // and may be earlier.
        self.send(&format!("{request}\nLOGLEVEL\n"));
        let (mut said, mut is_read, mut has_ended) = ([Vec::new(), Vec::new()], false, false);
        while !(is_read && has_ended) {
            match self.next() {
                Said::Line(line) if line == "207 OK RECEIVING LOGLEVEL SETTINGS" => is_read = true,
                Said::Line(line) => {
                    assert_eq!(line, event);
                    has_ended = true;
                }
                more => {
                    assert!(!has_ended, "{more:?} after {event}");
                    said[usize::from(is_read)].push(more);
                }
            }
        }
        self.send("log_level=3\n.\n");
        assert_eq!(self.next(), line("203 OK LOGLEVEL SET"));
        said
    }

    fn say(&mut self, command: &str, text: &str) -> Vec<u8> {
        self.begin(command, text);
        let (audio, _, event) = self.rest();
        assert_eq!(event, "702 END");
        audio
    }

    /// Ends the module; returns its output on standard error.
    fn quit(mut self) -> String {
        self.send("QUIT\n");
        assert_eq!(self.next(), line("210 OK QUIT"));
        self.finish(true)
    }

    fn finish(&mut self, succeeds: bool) -> String {
        drop(self.input.take());
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(self.child.wait().unwrap().success(), succeeds, "{text}");
        text
    }
}

const TEXT: &str = "Hello there. How are you, and what is new? Fine.";

/// More audio than any pipe holds, so that the module cannot finish before the test reads.
fn long() -> String {
    let sentences: Vec<String> =
        (0..200).map(|number| format!("{TEXT}<mark name=\"__spd_{number}\"/> ")).collect();
    format!("<speak>{}</speak>", sentences.concat())
}

#[test]
fn the_samples_are_those_of_speak() {
    let mut module = Module::ready();
    let whole = spoken(&["--ssml", &format!("<speak>{TEXT}</speak>")]);
    assert!(whole.len() > 4_000);
    for text in [
        format!("<speak>{TEXT}</speak>"),
        // As the server sends it.
        format!("<speak>{}</speak>", TEXT.replace(". ", ".<mark name=\"__spd_0\"/> ")),
        format!("<?xml version=\"1.0\"?>\n<speak>\n{}\n</speak>", TEXT.replace("you, ", "you,\n")),
    ] {
        assert!(module.say("SPEAK", &text) == whole, "{text}");
    }
    assert!(module.say("SPEAK", "hello") == spoken(&["hello"]));
    assert!(module.say("CHAR", "a") == spoken(&["a"]));
    assert!(module.say("KEY", "shift_a") == spoken(&["shift a"]));
    assert!(module.say("SOUND_ICON", "new-line") == spoken(&["new line"]));
    // A break is silence.
    let pause = module.say("SPEAK", "<speak>hello<break time='1s'/></speak>");
    assert!(pause == [spoken(&["hello"]), vec![0; 32_000]].concat());
    assert_eq!(module.quit(), "");
}

#[test]
fn settings_hold_until_they_change() {
    let mut module = Module::ready();
    let plain = spoken(&["hello there"]);
    module.set("rate=100\npitch=20\npunctuation_mode=all\nspelling_mode=off\ncap_let_recogn=none\nvoice=male1\nlanguage=c\nsynthesis_voice=NULL\nvolume=100");
    let length = 1.0f32 / 0.9 / 3.0;
    let fast = spoken(&["hello there", "--length-scale", &length.to_string()]);
    assert!(fast.len() < plain.len());
    for _ in 0..2 {
        assert!(module.say("SPEAK", "<speak>hello there</speak>") == fast);
    }
    module.set("rate=0\nvolume=-100");
    let silent = module.say("SPEAK", "<speak>hello there</speak>");
    assert!(silent.len() == plain.len() && silent.iter().all(|byte| *byte == 0));
    module.set("volume=100\nspelling_mode=on");
    assert!(module.say("SPEAK", "<speak>abc</speak>") == spoken(&["a, b, c"]));
    module.send("SET\nrate=1000\n.\nSET\nrate\n.\n");
    for reply in ["203 OK RECEIVING SETTINGS", "303 ERROR INVALID PARAMETER OR VALUE"] {
        assert_eq!(module.next(), line(reply));
    }
    for reply in ["203 OK RECEIVING SETTINGS", "302 ERROR BAD SYNTAX"] {
        assert_eq!(module.next(), line(reply));
    }
    module.set("spelling_mode=off");
    assert!(module.say("SPEAK", "<speak>hello there</speak>") == plain);
    assert_eq!(module.quit(), "");
}

#[test]
fn marks_are_told_where_their_words_begin() {
    let folder = tempfile::tempdir().unwrap();
    let timings = folder.path().join("timings");
    let whole = spoken(&["One two three. Four", "--timings", timings.to_str().unwrap()]);
    let times = fs::read_to_string(&timings).unwrap();
    let starts: Vec<usize> = times
        .lines()
        .flat_map(|line| serde_json::from_str::<Value>(line).unwrap()["words"].as_array().unwrap().clone())
        .map(|word| (word["start"].as_f64().unwrap() * 16_000.0).round() as usize * 2)
        .collect();
    assert_eq!(starts.len(), 4, "{times}");
    let mut module = Module::ready();
    module.begin(
        "SPEAK",
        "<speak><mark name='a'/>One <mark name='b'/>two <mark name='c'/>three.<mark name='d'/> Four<mark name='e'/></speak>",
    );
    let (audio, marks, event) = module.rest();
    assert_eq!(event, "702 END");
    assert!(audio == whole);
    let names: Vec<&str> = marks.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let places: Vec<usize> = marks.iter().map(|(_, place)| *place).collect();
    assert_eq!(places[1..3], starts[1..3]);
    // A sentence begins with its silence, before the first word.
    assert!(places[0] == 0 && starts[2] < places[3] && places[3] <= starts[3] && places[4] == whole.len());
    assert_eq!(module.quit(), "");
}

#[test]
fn a_stop_is_obeyed_within_a_block() {
    let mut module = Module::ready();
    for _ in 0..2 {
        module.begin("SPEAK", &long());
        assert!(matches!(module.next(), Said::Audio(_)));
        let [_, after] = module.interrupt("STOP", "703 STOP");
        assert!(after.len() <= 1, "{} blocks and marks after the stop", after.len());
    }
    // A stop without a message is no error, and the next message is complete.
    module.send("STOP\nPAUSE\n");
    assert!(module.say("SPEAK", "<speak>hello there</speak>") == spoken(&["hello there"]));
    assert_eq!(module.quit(), "");
}

#[test]
fn a_pause_waits_for_the_servers_mark() {
    let mut module = Module::ready();
    module.begin("SPEAK", &long());
    let [before, after] = module.interrupt("PAUSE", "704 PAUSE");
    // The mark itself may have been sent before the answer.
    let marks = after.iter().filter(|said| matches!(said, Said::Mark(_))).count();
    assert!(marks <= 1, "{marks} marks after the pause");
    let audio = before.into_iter().chain(after).filter_map(|said| match said {
        Said::Audio(samples) => Some(samples),
        _ => None,
    });
    let audio: Vec<u8> = audio.flatten().collect();
    let repeated = spoken(&["--ssml", &format!("{TEXT} {TEXT}")]);
    let once = spoken(&["--ssml", TEXT]);
    assert_eq!(repeated.len(), 2 * once.len());
    assert_eq!(audio.len() % once.len(), 0, "it ends between sentences");
    assert!(audio[..once.len()] == once);
    assert_eq!(module.quit(), "");
}

#[test]
fn one_message_at_a_time() {
    let mut module = Module::ready();
    module.begin("SPEAK", &long());
    module.send("SPEAK\nhello\n.\n");
    let mut replies = Vec::new();
    while replies.len() < 2 {
        if let Said::Line(reply) = module.next() {
            replies.push(reply);
        }
    }
    assert_eq!(replies, ["202 OK RECEIVING MESSAGE", "301 ERROR CANT SPEAK"]);
    // QUIT does not wait for the end of the message.
    module.send("QUIT\n");
    let (_, _, event) = module.rest();
    assert_eq!(event, "703 STOP");
    assert_eq!(module.next(), line("210 OK QUIT"));
    assert_eq!(module.finish(true), "");
}

#[test]
fn a_server_that_is_gone_ends_it() {
    let mut module = Module::ready();
    module.begin("SPEAK", &long());
    drop(module.input.take());
    assert_eq!(module.finish(true), "");
}

#[test]
fn what_cannot_be_read_is_read_without_its_markup() {
    let mut module = Module::ready();
    let expected = spoken(&["--ssml", "one  two"]);
    assert!(module.say("SPEAK", "<speak>one <audio src='x'/>two</speak>") == expected);
    assert!(module.say("SPEAK", "one & two <") == spoken(&["--ssml", "one &amp; two &lt;"]));
    // Nothing to speak.
    assert!(module.say("SPEAK", "<speak>...</speak>").is_empty());
    assert!(module.say("SPEAK", "").is_empty());
    let said = module.quit();
    assert!(said.contains("the element \"audio\"") && said.contains("without its markup"), "{said}");
}

#[test]
fn the_server_is_told_who_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("vitstream.conf");
    let many = golden("families/hf-multi");
    fs::write(&config, format!("AddVoice \"de\" \"female1\" {:?}\n", many.to_str().unwrap())).unwrap();
    let letters = letters();
    let mut module = Module::start(&[letters.to_str().unwrap(), "--module-config", config.to_str().unwrap()]);
    module.send("LIST VOICES\nSPEAK\na\n.\nINIT\nAUDIO\naudio_output_method=server\n.\nLIST VOICES\n");
    for reply in ["304 CANT LIST VOICES", "202 OK RECEIVING MESSAGE", "301 ERROR CANT SPEAK"] {
        assert_eq!(module.next(), line(reply));
    }
    module.next();
    for reply in [
        "299 OK LOADED SUCCESSFULLY",
        "207 OK RECEIVING AUDIO SETTINGS",
        "203 OK AUDIO INITIALIZED",
        "200-hf\teng\tnone",
        "200-hf-multi\tde\tnone",
        "200-hf-multi+0\tde\t0",
        "200-hf-multi+1\tde\t1",
        "200-hf-multi+2\tde\t2",
        "200 OK VOICE LIST SENT",
    ] {
        assert_eq!(module.next(), line(reply));
    }
    let of = |speaker: &str| {
        let mut command = vitstream();
        command.arg("speak").arg(&many).args(["hello", "--raw", "--seed", SEED, "--speaker", speaker]);
        command.output().unwrap().stdout
    };
    let (first, last) = (of("0"), of("2"));
    assert!(first != last && !first.is_empty());
    module.set("language=de\nvoice=male1");
    assert!(module.say("CHAR", "hello") == first);
    module.set("synthesis_voice=hf-multi+2");
    assert!(module.say("CHAR", "hello") == last);
    module.set("synthesis_voice=NULL\nlanguage=en");
    assert!(module.say("CHAR", "hello") == spoken(&["hello"]));
    module.send("AUDIO\naudio_output_method=pulse\n.\nHELLO\n");
    assert_eq!(module.next(), line("207 OK RECEIVING AUDIO SETTINGS"));
    assert!(
        matches!(module.next(), Said::Line(line) if line.starts_with("300-expected audio_output_method=server"))
    );
    assert_eq!(module.next(), line("300 MODULE ERROR"));
    assert_eq!(module.next(), line("300 ERR UNKNOWN COMMAND"));
    module.quit();
}

#[test]
fn without_a_voice_it_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.conf");
    fs::write(&empty, "# nothing\n").unwrap();
    let bad = folder.path().join("bad.conf");
    fs::write(&bad, "Debug 1\n").unwrap();
    let absent = folder.path().join("absent");
    for (args, reason) in [
        (vec![absent.to_str().unwrap()], "absent"),
        (vec!["--module-config", empty.to_str().unwrap()], "found none"),
        (vec!["--module-config", bad.to_str().unwrap()], "line 1: expected AddVoice"),
    ] {
        let mut module = Module::start(&args);
        module.send("INIT\n");
        assert!(
            matches!(module.next(), Said::Line(line) if line.starts_with("399-") && line.contains(reason))
        );
        assert_eq!(module.next(), line("399 ERR CANT INIT MODULE"));
        assert!(module.finish(false).contains(reason));
    }
}
