//! Any program that speaks JSON lines.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use super::serve::{Answer, Request};
use super::{About, Phonemizer, PhonemizerError};

/// A clause takes milliseconds; a program that also has to start and load a model takes seconds.
pub const TIME_LIMIT: Duration = Duration::from_secs(20);
/// The IPA of a clause has some thousand bytes; a longer line is no answer.
pub const MAX_ANSWER: u64 = 1 << 20;

/// A program that answers JSON lines `{"voice": "en-us", "clause": "Hello, "}` with `{"ipa": "həlˈoʊ"}` or
/// `{"error": "..."}`, one line each. It is started when it is first needed. If it dies, does not answer in time or
/// answers with anything else, that clause fails, and the next one starts it anew. What dies between two clauses costs
/// none.
///
/// With this script as the command, voices say what PyPI's piper-tts says, on every system that it runs on:
///
/// ```python
/// import json, pathlib, sys
/// import piper
/// from piper import espeakbridge
///
/// espeakbridge.initialize(str(pathlib.Path(piper.__file__).parent / "espeak-ng-data"))
/// for line in sys.stdin:
///     request = json.loads(line)
///     espeakbridge.set_voice(request["voice"])
///     clauses = espeakbridge.get_phonemes(request["clause"])
///     print(json.dumps({"ipa": " ".join(clause[0] for clause in clauses)}), flush=True)
/// ```
#[derive(Debug)]
pub struct Command {
    program: VecDeque<String>,
    time_limit: Duration,
    running: Option<Running>,
    about: Option<About>,
}

/// The program and the threads at its pipes: neither a program that does not read nor one that does not write can
/// hold us up.
#[derive(Debug)]
struct Running {
    child: Child,
    requests: SyncSender<Vec<u8>>,
    answers: Receiver<io::Result<Vec<u8>>>,
}

impl Command {
    /// A program and its arguments.
    pub fn new(program: impl Into<String>, arguments: impl IntoIterator<Item = String>) -> Self {
        let program = [program.into()].into_iter().chain(arguments).collect();
        Self { program, time_limit: TIME_LIMIT, running: None, about: None }
    }

    /// A command as one types it into a shell, or the path of a program.
    ///
    /// # Errors
    /// When there is none, or a quote is not closed.
    pub fn parse(command: &str) -> Result<Self, PhonemizerError> {
        if Path::new(command).is_file() {
            return Ok(Self::new(command, []));
        }
        let problem = |problem: &str| PhonemizerError::Command {
            command: command.chars().take(60).collect(),
            problem: problem.to_owned(),
        };
        let words = shlex::split(command).ok_or_else(|| problem("has a quote that is not closed"))?;
        let mut words = words.into_iter();
        let program = words.next().ok_or_else(|| problem("is empty"))?;
        Ok(Self::new(program, words))
    }

    /// How long an answer may take.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// The program.
    pub fn program(&self) -> &str {
        self.program.front().map(String::as_str).unwrap_or_default()
    }

    /// Whether it is espeak-ng itself, which does not speak JSON: [`EspeakProgram`](super::EspeakProgram) does.
    pub fn is_espeak(&self) -> bool {
        let stem = Path::new(self.program()).file_stem().and_then(|stem| stem.to_str());
        matches!(stem, Some("espeak-ng" | "espeak")) && self.program.len() == 1
    }

    fn error(&self, problem: impl Into<String>) -> PhonemizerError {
        PhonemizerError::Command { command: self.program().to_owned(), problem: problem.into() }
    }

    fn start(&self) -> Result<Running, PhonemizerError> {
        let mut child = std::process::Command::new(self.program())
            .args(self.program.iter().skip(1))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| self.error(format!("cannot be started: {error}")))?;
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(self.error("has no pipes"));
        };
        let (requests, queue) = sync_channel::<Vec<u8>>(1);
        thread::spawn(move || {
            for request in queue {
                if stdin.write_all(&request).and_then(|()| stdin.flush()).is_err() {
                    // That it died shows when it does not answer.
                    break;
                }
            }
        });
        let (sender, answers) = sync_channel(1);
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            loop {
                let mut line = Vec::new();
                let read = stdout.by_ref().take(MAX_ANSWER).read_until(b'\n', &mut line).map(|_| line);
                let is_last = read.as_ref().map_or(true, |line| line.last() != Some(&b'\n'));
                if sender.send(read).is_err() || is_last {
                    break;
                }
            }
        });
        Ok(Running { child, requests, answers })
    }

    fn ask(&self, running: &mut Running, request: Vec<u8>) -> Result<Answer, PhonemizerError> {
        match running.answers.try_recv() {
            Err(TryRecvError::Empty) => {}
            Ok(Ok(line)) if line.is_empty() => return Err(self.ended(running)),
            Ok(_) => return Err(self.error("writes more than one line for a clause")),
            Err(TryRecvError::Disconnected) => return Err(self.ended(running)),
        }
        // It has room for one request, and the one before was answered.
        let _ = running.requests.try_send(request);
        let line = match running.answers.recv_timeout(self.time_limit) {
            Ok(Ok(line)) if line.is_empty() => return Err(self.ended(running)),
            Ok(Ok(line)) => line,
            Ok(Err(error)) => return Err(self.error(format!("cannot be read: {error}"))),
            Err(RecvTimeoutError::Timeout) => {
                return Err(self.error(format!("did not answer within {:?}", self.time_limit)));
            }
            Err(RecvTimeoutError::Disconnected) => return Err(self.ended(running)),
        };
        if line.last() != Some(&b'\n') && line.len() as u64 == MAX_ANSWER {
            return Err(self.error(format!("answers with a line of more than {MAX_ANSWER} bytes")));
        }
        serde_json::from_slice(&line).map_err(|error| {
            let line = String::from_utf8_lossy(&line);
            let shown = crate::shown::Shown(line.trim_end());
            self.error(format!("answers {shown}, which is not {{\"ipa\": ...}}: {error}"))
        })
    }

    /// Why there is no answer of a program that has closed its output.
    fn ended(&self, running: &mut Running) -> PhonemizerError {
        /// A pipe closes a moment before its program is gone.
        const MOMENT: Duration = Duration::from_millis(10);
        for _ in 0..20 {
            if let Ok(Some(status)) = running.child.try_wait() {
                return self.error(format!("died ({status})"));
            }
            thread::sleep(MOMENT);
        }
        self.error("has closed its output")
    }

    fn answer(&mut self, voice: &str, clause: &str) -> Result<Answer, PhonemizerError> {
        let request = Request { voice: voice.to_owned(), clause: clause.to_owned() };
        let mut request = serde_json::to_vec(&request).map_err(|error| self.error(error.to_string()))?;
        request.push(b'\n');
        if self.running.as_mut().is_some_and(|running| !running.is_alive()) {
            self.running = None;
        }
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        match self.ask(&mut running, request) {
            Ok(answer) => {
                self.running = Some(running);
                Ok(answer)
            }
            Err(error) => Err(error),
        }
    }
}

impl Running {
    fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Phonemizer for Command {
    fn ipa(&mut self, voice: &str, clause: &str) -> Result<String, PhonemizerError> {
        let answer = self.answer(voice, clause)?;
        self.about = answer.about.or(self.about.take());
        match (answer.ipa, answer.error) {
            (Some(ipa), _) => Ok(ipa),
            (None, Some(error)) => Err(PhonemizerError::Other(error.chars().take(1000).collect())),
            (None, None) => Err(self.error("answers with neither `ipa` nor `error`")),
        }
    }

    fn about(&self) -> About {
        let command = || About { library: self.program().to_owned(), version: String::new() };
        self.about.clone().unwrap_or_else(command)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        Command::new("sh", ["-c".to_owned(), script.to_owned()]).with_time_limit(Duration::from_secs(30))
    }

    #[test]
    fn a_program_is_asked_line_by_line() {
        let mut command =
            shell(r#"while read -r line; do echo '{"ipa": "x", "library": "mine", "version": "1"}'; done"#);
        assert_eq!(command.about().to_string(), "sh");
        for _ in 0..3 {
            assert_eq!(command.ipa("en", "a \"quoted\"\nclause").unwrap(), "x");
        }
        assert_eq!(command.about().to_string(), "mine (1)");
    }

    #[test]
    fn a_death_costs_one_clause() {
        // It dies at the second line of each life.
        let mut command = shell(r#"read -r line; echo '{"ipa": "x"}'; read -r line; exit 3"#);
        for _ in 0..3 {
            assert_eq!(command.ipa("en", "a").unwrap(), "x");
            let error = command.ipa("en", "b").unwrap_err().to_string();
            assert!(error.contains("died (exit status: 3)"), "{error}");
        }
    }

    #[test]
    fn a_death_between_two_clauses_costs_none() {
        let mut command = shell(r#"while read -r line; do echo '{"ipa": "x"}'; done"#);
        assert_eq!(command.ipa("en", "a").unwrap(), "x");
        let running = command.running.as_mut().unwrap();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
        assert_eq!(command.ipa("en", "b").unwrap(), "x");
    }

    #[test]
    fn what_closes_its_output_is_not_waited_for() {
        let mut command = shell("exec >&-; exec sleep 1000");
        let error = command.ipa("en", "a").unwrap_err().to_string();
        assert!(error.contains("has closed its output"), "{error}");
    }

    #[test]
    fn hangs_and_rubbish_are_errors_and_bounded() {
        let mut hangs = shell("exec sleep 1000").with_time_limit(Duration::from_millis(50));
        let error = hangs.ipa("en", &"a".repeat(1 << 18)).unwrap_err().to_string();
        assert!(error.contains("did not answer within 50ms"), "{error}");

        for (script, part) in [
            ("read -r line; echo rubbish; exec sleep 1000", r#"answers "rubbish", which is not"#),
            ("read -r line; echo '{}'; exec sleep 1000", "neither `ipa` nor `error`"),
            (r#"read -r line; echo '{"error": "no such voice"}'; exec sleep 1000"#, "no such voice"),
            ("read -r line; yes | tr -d '\\n'", "a line of more than 1048576 bytes"),
            ("read -r line; printf '\\377\\n'; exec sleep 1000", "which is not"),
            (r#"read -r line; echo '{"ipa": "\ud800"}'; exec sleep 1000"#, "hex escape"),
        ] {
            let error = shell(script).ipa("en", "a").unwrap_err().to_string();
            assert!(error.contains(part), "{script}: {error}");
        }
        let error = Command::new("/no/such/program", []).ipa("en", "a").unwrap_err().to_string();
        assert!(error.starts_with("the phonemizer `/no/such/program` cannot be started"), "{error}");
    }

    #[test]
    fn commands_are_read_as_a_shell_reads_them() {
        let command = Command::parse("python3 -c 'print(1)'").unwrap();
        assert_eq!(command.program, ["python3", "-c", "print(1)"]);
        assert!(Command::parse("").is_err());
        assert!(Command::parse("a 'b").unwrap_err().to_string().contains("a quote that is not closed"));
        assert!(Command::parse("/usr/bin/espeak-ng").unwrap().is_espeak());
        assert!(!Command::parse("espeak-ng --wrapper").unwrap().is_espeak());
    }
}
