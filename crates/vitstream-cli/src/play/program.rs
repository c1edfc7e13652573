//! Other programs that play their standard input, for machines without a sound server's socket.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, io};

use anyhow::{Context, Error, Result, anyhow, bail};
use vitstream::wav;

use super::queue::Queue;
use super::{Device, late};
use crate::cmd::signals;

/// The call of a program that plays mono s16le samples from its standard input.
pub(super) struct Player {
    pub(super) name: &'static str,
    /// `RATE` is replaced by the sample rate.
    args: &'static [&'static str],
    /// True if the program expects a WAV header first.
    header: bool,
    /// A word that the output of `--help` must contain, if only newer versions read samples from a pipe.
    needs: Option<&'static str>,
}

/// In order of preference: players of sound servers first, because they mix with other sounds.
pub(super) const PLAYERS: [Player; 5] = [
    Player {
        name: "pw-play",
        args: &["--raw", "--format", "s16", "--rate", "RATE", "--channels", "1", "-"],
        header: false,
        needs: Some("--raw"),
    },
    Player {
        name: "pacat",
        args: &["--playback", "--raw", "--format=s16le", "--rate", "RATE", "--channels=1"],
        header: false,
        needs: None,
    },
    Player {
        name: "aplay",
        args: &["-q", "-t", "raw", "-f", "S16_LE", "-r", "RATE", "-c", "1", "-"],
        header: false,
        needs: None,
    },
    // Its options for raw samples differ between versions; every version reads WAV.
    Player {
        name: "ffplay",
        args: &["-nodisp", "-autoexit", "-loglevel", "error", "-probesize", "32", "-f", "wav", "-i", "-"],
        header: true,
        needs: None,
    },
    Player {
        name: "play",
        args: &["-q", "-t", "raw", "-e", "signed", "-b", "16", "-L", "-r", "RATE", "-c", "1", "-"],
        header: false,
        needs: None,
    },
];

/// Bytes written at once: much less than a pipe holds, so that the end of the program is noticed soon.
const BLOCK: usize = 1 << 13;

/// Interval of the checks whether the program has ended.
const LOOK: Duration = Duration::from_millis(5);

/// The maximum number of bytes read of the program's error messages.
const LONGEST_COMPLAINT: u64 = 2_000;

/// A program that plays the queue.
pub(super) struct Program {
    name: &'static str,
    queue: Arc<Queue>,
    running: Watched,
    feed: JoinHandle<()>,
    complaint: JoinHandle<String>,
}

impl Program {
    /// Returns `None` if the program is not installed, or cannot read a pipe.
    pub(super) fn start(player: &Player, queue: &Arc<Queue>, sample_rate: u32) -> Result<Option<Self>> {
        let Some(path) = find(player.name, env::var_os("PATH")) else { return Ok(None) };
        if player.needs.is_some_and(|option| !helps_with(&path, option)) {
            return Ok(None);
        }
        let rate = sample_rate.to_string();
        let args = player.args.iter().map(|&arg| if arg == "RATE" { rate.as_str() } else { arg });
        let mut child = Command::new(&path)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| path.display().to_string())?;
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        let running = Arc::new(Running(Mutex::new(child)));
        let watched = Watched(running.clone());
        stop_with_signals(running);
        let (Some(mut stdin), Some(stderr)) = (stdin, stderr) else {
            bail!("{} has no pipes", path.display());
        };
        tracing::info!("played by {}", path.display());
        let complaint = thread::spawn(move || {
            let mut text = Vec::new();
            let mut stderr = stderr;
            let _ = stderr.by_ref().take(LONGEST_COMPLAINT).read_to_end(&mut text);
            // Further messages are discarded, so that the program does not block on its pipe.
            let _ = io::copy(&mut stderr, &mut io::sink());
            String::from_utf8_lossy(&text).into_owned()
        });
        let header = player.header.then(|| wav::header(sample_rate, None));
        let feed = {
            let queue = queue.clone();
            thread::spawn(move || {
                let header = header.as_ref().map_or(&[][..], |header| &header[..]);
                if let Err(error) = feed(&queue, &mut stdin, header) {
                    queue.fail(anyhow!("it stopped reading: {error}"));
                }
            })
        };
        Ok(Some(Self { name: player.name, queue: queue.clone(), running: watched, feed, complaint }))
    }
}

fn feed(queue: &Queue, stdin: &mut ChildStdin, header: &[u8]) -> io::Result<()> {
    stdin.write_all(header)?;
    while let Some(samples) = queue.take(BLOCK) {
        stdin.write_all(&samples)?;
    }
    Ok(())
}

impl Device for Program {
    fn finish(self: Box<Self>, deadline: Instant) -> Result<Option<u64>> {
        let Self { name, queue, running, feed, complaint } = *self;
        let panicked = |_| anyhow!("a playback thread has panicked");
        // The queue ends and then closes the pipe: the program plays the rest, then ends.
        let Some(status) = running.0.wait(deadline)? else {
            queue.fail(late());
            drop(running);
            feed.join().map_err(panicked)?;
            return Err(queue.failure().unwrap_or_else(late).context(name));
        };
        feed.join().map_err(panicked)?;
        let complaint = complaint.join().map_err(panicked)?;
        match (status.success(), queue.failure()) {
            (true, None) => Ok(None),
            (_, failure) => Err(ended(name, status, &complaint, failure)),
        }
    }
}

/// Builds the error for a program that did not play everything.
fn ended(name: &str, status: ExitStatus, complaint: &str, failure: Option<Error>) -> Error {
    let said = complaint.lines().rfind(|line| !line.trim().is_empty()).map(|line| line.trim().escape_debug());
    match (said, failure) {
        (Some(said), _) => anyhow!("{name} did not play everything ({status}): {said}"),
        (None, Some(failure)) => failure.context(format!("{name} did not play everything ({status})")),
        (None, None) => anyhow!("{name} did not play everything ({status})"),
    }
}

/// Kills the child if it is no longer waited for.
struct Watched(Arc<Running>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// The child process, which two threads may kill.
struct Running(Mutex<Child>);

impl Running {
    fn child(&self) -> MutexGuard<'_, Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the deadline, without keeping other threads from killing it.
    fn wait(&self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            let status = self.child().try_wait()?;
            if status.is_some() || Instant::now() >= deadline {
                return Ok(status);
            }
            thread::sleep(LOOK);
        }
    }

    fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Without this, a program that still has samples in its buffer would go on playing after this process has
/// ended.
fn stop_with_signals(running: Arc<Running>) {
    signals::before_the_end(move || running.kill());
}

/// Finds the file that a shell would run.
fn find(name: &str, path: Option<OsString>) -> Option<PathBuf> {
    let name = format!("{name}{}", env::consts::EXE_SUFFIX);
    // An empty entry means the current folder, which is not searched.
    env::split_paths(&path?)
        .filter(|dir| !dir.as_os_str().is_empty())
        .map(|dir| dir.join(&name))
        .find(|file| is_executable(file))
}

#[cfg(unix)]
fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(file: &Path) -> bool {
    file.is_file()
}

fn helps_with(program: &Path, option: &str) -> bool {
    let output = Command::new(program).arg("--help").stdin(Stdio::null()).output();
    output.is_ok_and(|output| {
        [output.stdout, output.stderr].iter().any(|text| String::from_utf8_lossy(text).contains(option))
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_player_that_stops_is_not_waited_for() {
        let queue = Arc::new(Queue::new(22_050));
        let sleep = Player { name: "sleep", args: &["1000"], header: false, needs: None };
        let device = Program::start(&sleep, &queue, 22_050).unwrap().unwrap();
        let running = device.running.0.clone();
        // More than a pipe holds.
        queue.push(&vec![0; 1 << 20]).unwrap();
        queue.close();
        let error = Box::new(device).finish(Instant::now() + Duration::from_millis(20)).unwrap_err();
        assert!(format!("{error:#}").contains("sleep: the sound device has stopped"), "{error:#}");
        assert!(running.child().try_wait().unwrap().is_some(), "it was killed");
    }
}
