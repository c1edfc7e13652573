//! The program `espeak-ng`.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use super::{About, MAX_ANSWER, Phonemizer, PhonemizerError, TIME_LIMIT};

/// The program `espeak-ng`, started for each clause: some 12 ms. It stresses sentences as it would speak them, so it
/// says a tenth of all sentences differently from the library of the same version.
#[derive(Debug)]
pub struct EspeakProgram {
    program: String,
    time_limit: Duration,
    version: Option<String>,
}

impl EspeakProgram {
    /// The program at a path, or of this name where programs are.
    pub fn new(program: impl Into<String>) -> Self {
        Self { program: program.into(), time_limit: TIME_LIMIT, version: None }
    }

    /// How long an answer may take.
    #[must_use]
    pub fn with_time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    fn error(&self, problem: impl Into<String>) -> PhonemizerError {
        PhonemizerError::Command { command: self.program.clone(), problem: problem.into() }
    }

    /// Its output for `input`.
    fn run(&self, arguments: &[&str], input: &str) -> Result<String, PhonemizerError> {
        let mut child = Command::new(&self.program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.error(format!("cannot be started: {error}")))?;
        let output = self.output(&mut child, input.to_owned());
        // After its output there is nothing to wait for.
        let _ = child.kill();
        let status = child.wait().map_err(|error| self.error(format!("cannot be waited for: {error}")))?;
        let (output, errors) = output?;
        let complaint = errors.trim();
        if output.is_empty() && !complaint.is_empty() || status.code().is_some_and(|code| code != 0) {
            let shown = crate::shown::Shown(complaint);
            return Err(self.error(format!("failed ({status}): {shown}")));
        }
        Ok(output)
    }

    /// What it writes, and what it complains of.
    fn output(&self, child: &mut Child, input: String) -> Result<(String, String), PhonemizerError> {
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(self.error("has no pipes"));
        };
        thread::spawn(move || {
            // That it does not listen shows in its answer.
            let _ = stdin.write_all(input.as_bytes());
        });
        let read = |pipe: Box<dyn Read + Send>| {
            let (sender, receiver) = channel();
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = sender.send(pipe.take(MAX_ANSWER).read_to_end(&mut bytes).map(|_| bytes));
            });
            receiver
        };
        let (output, errors) = (read(Box::new(stdout)), read(Box::new(stderr)));
        let late = |_| self.error(format!("did not answer within {:?}", self.time_limit));
        let output = output.recv_timeout(self.time_limit).map_err(late)?;
        let output = output.map_err(|error| self.error(format!("cannot be read: {error}")))?;
        let output =
            String::from_utf8(output).map_err(|_| self.error("answers with bytes that are not UTF-8"))?;
        // It has ended; a child of its own may keep the pipe, so this is not worth waiting for.
        let errors = errors.recv_timeout(Duration::from_millis(200)).ok().and_then(Result::ok);
        Ok((output, String::from_utf8_lossy(&errors.unwrap_or_default()).into_owned()))
    }

    /// Asks for its version.
    ///
    /// # Errors
    /// When it does not run.
    pub fn version(&mut self) -> Result<&str, PhonemizerError> {
        if self.version.is_none() {
            let line = self.run(&["--version"], "")?;
            self.version = Some(line.lines().next().unwrap_or_default().chars().take(200).collect());
        }
        Ok(self.version.as_deref().unwrap_or_default())
    }
}

impl Phonemizer for EspeakProgram {
    fn ipa(&mut self, voice: &str, clause: &str) -> Result<String, PhonemizerError> {
        if clause.contains('\0') {
            return Err(PhonemizerError::Nul);
        }
        // The program takes `[[` for its own notation of phonemes; as text it has no sound either way.
        let clause = clause.replace("[[", "[ [");
        let output = self.run(&["-q", "--ipa", "-b", "1", "-v", voice, "--stdin"], &clause)?;
        let lines = output.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(lines.collect::<Vec<_>>().join(" "))
    }

    fn about(&self) -> About {
        About { library: self.program.clone(), version: self.version.clone().unwrap_or_default() }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program in place of espeak-ng.
    fn program(folder: &tempfile::TempDir, script: &str) -> EspeakProgram {
        let path = folder.path().join("espeak-ng");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        EspeakProgram::new(path.to_str().unwrap()).with_time_limit(Duration::from_secs(30))
    }

    #[test]
    fn lines_are_joined_and_failures_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut espeak = program(&folder, "echo \" $6\"; cat; echo");
        assert_eq!(espeak.ipa("en-us", "a [[b\n").unwrap(), "en-us a [ [b");
        assert!(matches!(espeak.ipa("en", "\0"), Err(PhonemizerError::Nul)));

        let error = program(&folder, "echo 'no voice' >&2; exit 1").ipa("xx", "a").unwrap_err().to_string();
        assert!(error.contains("failed (exit status: 1): \"no voice\""), "{error}");
        let mut hangs = program(&folder, "exec sleep 1000").with_time_limit(Duration::from_millis(50));
        let error = hangs.ipa("en", "a").unwrap_err().to_string();
        assert!(error.contains("did not answer within 50ms"), "{error}");
    }
}
