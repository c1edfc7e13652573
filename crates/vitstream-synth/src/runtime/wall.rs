//! The wall: a separate process that runs a graph for this one.
//!
//! A runtime is a large program written for trusted graphs. A stranger's graph can make it panic, abort,
//! overflow its stack or request all memory, and only a panic can be caught inside a process. A program that
//! runs foreign graphs therefore names a [`Wall`]: a command, usually the program itself with a subcommand
//! for this purpose, that calls [`serve`]. Each graph gets its own process with a memory limit; any failure
//! in it is an [`Error::Crashed`] here.
//!
//! Both sides exchange messages: the length of a header, u32; the header, as JSON; then the tensors that it
//! lists, one after the other, as they are in memory.

use std::ffi::OsString;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Data, GraphSource, Output, Runner, Runtime, RuntimeOptions, Tensor};
use crate::error::{Error, Result};

/// Memory of a graph's process besides the memory derived from its file. The encoder takes about a gigabyte
/// of it for 5,000 ids, the longest utterance; an encoder of another exporter takes a few times that.
const MEMORY: u64 = 4 << 30;

/// Memory per byte of the file: weights are held as read, as stored, and as laid out for kernels.
const MEMORY_PER_BYTE: u64 = 16;

/// No call of a real voice takes this long, even if a slow core encodes the longest utterance.
const PATIENCE: Duration = Duration::from_secs(600);

/// Limit on the values of an output: the longest utterance at 1,024 channels.
const MOST_VALUES: usize = 1 << 27;

/// Limit on the bytes of a header, which holds names and shapes.
const LONGEST_HEADER: u32 = 16 << 20;

/// Number of bytes of the process's standard error that are kept: its last words.
const LAST_WORDS: usize = 4096;

/// Limit on the characters of the last words in a message.
const MOST_WORDS: usize = 200;

/// A command whose process calls [`serve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wall {
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Wall {
    /// The command `program` with `arguments`.
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        Self { program: program.into(), arguments: arguments.into_iter().map(Into::into).collect() }
    }
}

#[derive(Serialize, Deserialize)]
enum Order {
    Load { graph: Graph, runtime: String, threads: usize, library: Option<PathBuf>, memory: u64 },
    Run { inputs: Vec<Input>, outputs: Vec<String> },
}

#[derive(Serialize, Deserialize)]
enum Graph {
    File(String),
    /// The graph's file in this many bytes, which follow.
    Sent(usize),
}

#[derive(Serialize, Deserialize)]
struct Input {
    name: String,
    shape: Vec<usize>,
    /// True for int64, false for float32.
    integers: bool,
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Loaded,
    /// The graph ran; these are the outputs' shapes.
    Ran(Vec<Vec<usize>>),
    Failed(Failure, String),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Failure {
    Model,
    Run,
    Runtime,
    Crashed,
}

/// Runs the graph that the parent process sends on `input`, and answers on `output`, until `input` ends.
///
/// The graph can end the process, and the process sets itself a memory limit, so it must serve no other
/// purpose.
///
/// # Errors
/// When the messages do not come from a parent process, or it has ended.
pub fn serve(input: impl Read, output: impl Write) -> io::Result<()> {
    let (mut input, mut output) = (BufReader::new(input), BufWriter::new(output));
    let Some(Order::Load { graph, runtime, threads, library, memory }) = read_header(&mut input)? else {
        return Err(io::Error::other("expected a graph from the parent process"));
    };
    limit_memory(memory);
    let source = match &graph {
        Graph::File(path) => GraphSource::File(path.as_ref()),
        Graph::Sent(count) => {
            let mut bytes = vec![0; *count];
            input.read_exact(&mut bytes)?;
            // The parent adds the file's name to every message.
            GraphSource::Memory { name: Path::new(""), bytes: bytes.into() }
        }
    };
    let loaded = runtime
        .parse::<Runtime>()
        .and_then(|runtime| super::load(source, &RuntimeOptions { runtime, threads, library, wall: None }));
    let runner = match loaded {
        Ok(runner) => runner,
        Err(error) => return write_header(&mut output, &failure(&error)),
    };
    write_header(&mut output, &Answer::Loaded)?;
    while let Some(order) = read_header(&mut input)? {
        let Order::Run { inputs, outputs } = order else {
            return Err(io::Error::other("expected inputs of the graph from the parent process"));
        };
        let mut tensors = Vec::with_capacity(inputs.len());
        for Input { shape, integers, .. } in &inputs {
            let length = shape.iter().product();
            tensors.push(if *integers {
                Tensor::i64(shape, read_values::<i64>(&mut input, length)?)
            } else {
                Tensor::f32(shape, read_values::<f32>(&mut input, length)?)
            });
        }
        let named: Vec<_> = inputs.iter().map(|input| input.name.as_str()).zip(tensors).collect();
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        match runner.run(&named, &outputs) {
            Ok(values) => {
                let shapes = values.iter().map(|value| value.shape.clone()).collect();
                write_header(&mut output, &Answer::Ran(shapes))?;
                for value in values {
                    output.write_all(bytemuck::cast_slice(&value.data))?;
                }
                output.flush()?;
            }
            Err(error) => write_header(&mut output, &failure(&error))?,
        }
    }
    Ok(())
}

/// Limits the memory of this process. A system without such a limit runs the graph anyway; the checks made
/// when reading it still apply.
fn limit_memory(bytes: u64) {
    #[cfg(all(unix, any(feature = "rten", feature = "onnxruntime")))]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let set = |resource, value: u64| {
            let most = getrlimit(resource).maximum;
            let value = Some(most.map_or(value, |most| value.min(most)));
            // A limit that cannot be lowered stays as it is.
            let _ = setrlimit(resource, Rlimit { current: value, maximum: value });
        };
        // On Linux, `Data` counts all writable memory; elsewhere only `As` covers mapped memory.
        set(if cfg!(target_os = "linux") { Resource::Data } else { Resource::As }, bytes);
        // A crash is expected here, and its core dump would be of no use.
        set(Resource::Core, 0);
    }
    #[cfg(not(all(unix, any(feature = "rten", feature = "onnxruntime"))))]
    let _ = bytes;
}

fn failure(error: &Error) -> Answer {
    let (kind, message) = match error {
        Error::Model { message, .. } => (Failure::Model, message.clone()),
        Error::Run { message, .. } => (Failure::Run, message.clone()),
        Error::Crashed { message, .. } => (Failure::Crashed, message.clone()),
        other => (Failure::Runtime, other.to_string()),
    };
    Answer::Failed(kind, message)
}

fn write_header(output: &mut impl Write, header: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(header)?;
    let length = u32::try_from(text.len()).ok().filter(|&length| length <= LONGEST_HEADER);
    let length = length.ok_or_else(|| io::Error::other("a header is too long"))?;
    output.write_all(&length.to_le_bytes())?;
    output.write_all(&text)?;
    output.flush()
}

/// `None` if the other end has closed its side.
fn read_header<T: for<'a> Deserialize<'a>>(input: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u32::from_le_bytes(length);
    if length > LONGEST_HEADER {
        return Err(io::Error::other("a header is too long"));
    }
    let mut text = vec![0; length as usize];
    input.read_exact(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}

fn read_values<T: bytemuck::Pod>(input: &mut impl Read, length: usize) -> io::Result<Vec<T>> {
    if length > MOST_VALUES {
        return Err(io::Error::other(format!("{length} values are more than any tensor of a voice has")));
    }
    let mut values = vec![T::zeroed(); length];
    input.read_exact(bytemuck::cast_slice_mut(&mut values))?;
    Ok(values)
}

/// A graph in another process. A call that ends the process fails, and the next call starts a new one: no
/// call leaves state for another.
pub(super) struct Walled {
    path: PathBuf,
    runtime: Runtime,
    wall: Wall,
    load: Order,
    /// The bytes that accompany the order to load the graph.
    sent: Vec<u8>,
    process: Mutex<Process>,
}

type Answered = io::Result<(Answer, Vec<Output>)>;

struct Process {
    child: Child,
    /// `None` after the process was given up.
    orders: Option<BufWriter<ChildStdin>>,
    answers: Receiver<Answered>,
    last_words: Option<JoinHandle<String>>,
}

impl Walled {
    /// Starts the process and loads the graph there. `Ok(None)` if the process cannot be started.
    pub(super) fn load(
        graph: &GraphSource<'_>,
        options: &RuntimeOptions,
        wall: &Wall,
    ) -> Result<Option<Self>> {
        let mapped;
        let path = graph.path();
        let bytes: &[u8] = match graph {
            GraphSource::Memory { bytes, .. } => bytes,
            GraphSource::File(path) => {
                mapped = vitstream_checkpoint::map_file(path)?;
                &mapped
            }
        };
        // The process reads a file itself, unless its name is not valid text.
        let named = match graph {
            GraphSource::File(path) => path.to_str(),
            GraphSource::Memory { .. } => None,
        };
        let (graph, sent) = match named {
            Some(name) => (Graph::File(name.to_owned()), &[][..]),
            None => (Graph::Sent(bytes.len()), bytes),
        };
        let process = match Process::start(wall) {
            Ok(process) => process,
            Err(error) => {
                let program = wall.program.display();
                log::warn!("{program} cannot be started ({error}): graphs run inside this process");
                return Ok(None);
            }
        };
        let sent = sent.to_vec();
        let memory = MEMORY.saturating_add(MEMORY_PER_BYTE.saturating_mul(bytes.len() as u64));
        let load = Order::Load {
            runtime: options.runtime.to_string(),
            threads: options.threads,
            library: options.library.clone(),
            graph,
            memory,
        };
        let (path, runtime, wall) = (path.to_owned(), options.runtime, wall.clone());
        let walled = Self { path, runtime, wall, load, sent, process: Mutex::new(process) };
        walled.load_in(&mut walled.process())?;
        Ok(Some(walled))
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load_in(&self, process: &mut Process) -> Result<()> {
        self.ask(process, "loading", &self.load, |orders| orders.write_all(&self.sent)).map(drop)
    }

    /// Sends an order with its tensors, and waits for the answer.
    fn ask(
        &self,
        process: &mut Process,
        doing: &str,
        order: &Order,
        send: impl FnOnce(&mut BufWriter<ChildStdin>) -> io::Result<()>,
    ) -> Result<Vec<Output>> {
        let crashed = |how: String| Error::Crashed {
            path: self.path.clone(),
            message: format!("{} crashed while {doing} it: {how}; the graph is damaged", self.runtime),
        };
        let Some(orders) = &mut process.orders else {
            return Err(crashed("its process has ended".to_owned()));
        };
        // A process that has ended takes no orders; the reason is found below.
        let sent = write_header(orders, order).and_then(|()| send(orders)).and_then(|()| orders.flush());
        let answer = match sent {
            Ok(()) => process.answers.recv_timeout(PATIENCE),
            Err(_) => process.answers.recv_timeout(Duration::from_secs(1)),
        };
        match answer {
            Ok(Ok((Answer::Failed(kind, message), _))) => Err(match kind {
                Failure::Model => Error::model(&self.path, message),
                Failure::Run => Error::run(&self.path, message),
                Failure::Crashed => Error::Crashed { path: self.path.clone(), message },
                Failure::Runtime => Error::Runtime(message),
            }),
            Ok(Ok((_, outputs))) => Ok(outputs),
            Err(RecvTimeoutError::Timeout) => {
                process.end();
                Err(crashed(format!("no answer in {} seconds", PATIENCE.as_secs())))
            }
            Ok(Err(_)) | Err(RecvTimeoutError::Disconnected) => Err(crashed(process.end())),
        }
    }
}

impl Runner for Walled {
    fn run(&self, inputs: &[(&str, Tensor<'_>)], outputs: &[&str]) -> Result<Vec<Output>> {
        let input = |(name, tensor): &(&str, Tensor<'_>)| Input {
            name: (*name).to_owned(),
            shape: tensor.shape.clone(),
            integers: matches!(tensor.data, Data::I64(_)),
        };
        let order = Order::Run {
            inputs: inputs.iter().map(input).collect(),
            outputs: outputs.iter().map(|&name| name.to_owned()).collect(),
        };
        let mut process = self.process();
        if process.orders.is_none() {
            *process = Process::start(&self.wall).map_err(|error| {
                Error::run(
                    &self.path,
                    format!("{} cannot be started again: {error}", self.wall.program.display()),
                )
            })?;
            self.load_in(&mut process)?;
        }
        self.ask(&mut process, "running", &order, |orders| {
            inputs.iter().try_for_each(|(_, tensor)| match &tensor.data {
                Data::F32(values) => orders.write_all(bytemuck::cast_slice(values)),
                Data::I64(values) => orders.write_all(bytemuck::cast_slice(values)),
            })
        })
    }
}

impl Process {
    fn start(wall: &Wall) -> io::Result<Self> {
        let mut child = Command::new(&wall.program)
            .args(&wall.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its last line is quoted, and a backtrace would not end in a useful one.
            .env("RUST_BACKTRACE", "0")
            .spawn()?;
        let missing = || io::Error::other("no pipe to it");
        let orders = child.stdin.take().ok_or_else(missing)?;
        let answers = child.stdout.take().ok_or_else(missing)?;
        let words = child.stderr.take().ok_or_else(missing)?;
        let (sender, receiver) = sync_channel(1);
        thread::spawn(move || {
            let mut answers = BufReader::new(answers);
            loop {
                let answer = read_answer(&mut answers);
                let ends = !matches!(answer, Some(Ok(_)));
                if let Some(answer) = answer
                    && sender.send(answer).is_err()
                {
                    return;
                }
                if ends {
                    return;
                }
            }
        });
        let last_words = Some(thread::spawn(move || last_words(words)));
        Ok(Self { child, orders: Some(BufWriter::new(orders)), answers: receiver, last_words })
    }

    /// Ends the process, and describes how it ended by itself.
    fn end(&mut self) -> String {
        self.orders = None;
        // Its answers have ended: give it time to exit as well.
        let mut status = None;
        for _ in 0..50 {
            status = self.child.try_wait().ok().flatten();
            if status.is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let status = status.or_else(|| self.child.wait().ok()).map(|status| status.to_string());
        let words = self.last_words.take().and_then(|words| words.join().ok()).unwrap_or_default();
        let status = status.unwrap_or_else(|| "its process is gone".to_owned());
        if words.is_empty() { status } else { format!("{status}, {words}") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None` if there are no more.
fn read_answer(input: &mut BufReader<ChildStdout>) -> Option<Answered> {
    let answer = match read_header::<Answer>(input) {
        Ok(answer) => answer?,
        Err(error) => return Some(Err(error)),
    };
    let Answer::Ran(shapes) = &answer else { return Some(Ok((answer, Vec::new()))) };
    let outputs = shapes.iter().map(|shape| {
        let length = shape.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
        Ok(Output { shape: shape.clone(), data: read_values(input, length.unwrap_or(usize::MAX))? })
    });
    let outputs = outputs.collect::<io::Result<Vec<_>>>();
    Some(outputs.map(|outputs| (answer, outputs)))
}

/// The last line that a process printed, shortened for a message; hints about backtraces are skipped.
fn last_words(mut words: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; LAST_WORDS];
    while let Ok(count @ 1..) = words.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..count]);
        kept.drain(..kept.len().saturating_sub(LAST_WORDS));
    }
    let text = String::from_utf8_lossy(&kept);
    let mut lines = text.lines().rev().map(str::trim);
    let line = lines.find(|line| !line.is_empty() && !line.starts_with("note: ")).unwrap_or_default();
    let end = line.char_indices().nth(MOST_WORDS).map_or(line.len(), |(at, _)| at);
    line[..end].escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_one_short_line_without_control_characters() {
        let words = |text: &str| last_words(text.as_bytes());
        assert_eq!(words(""), "");
        assert_eq!(words("first\nmemory allocation failed\n\n"), "memory allocation failed");
        assert_eq!(
            words("memory allocation failed\nnote: run with a backtrace\n"),
            "memory allocation failed"
        );
        assert_eq!(words("a\x1b]0;title\x07b"), "a\\u{1b}]0;title\\u{7}b");
        assert_eq!(words(&"x".repeat(100_000)).len(), MOST_WORDS);
        assert!(words(&"ä\n".repeat(10_000)).starts_with('ä'));
    }

    #[test]
    fn headers_that_are_none_are_refused() {
        let read = |bytes: &[u8]| read_header::<Order>(&mut &*bytes);
        assert!(read(&[]).unwrap().is_none());
        for bytes in [&[0xff; 8][..], &[4, 0, 0, 0, b'n'], &[2, 0, 0, 0, b'{', b'}']] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        assert!(serve(&[][..], io::sink()).is_err());
    }

    #[test]
    fn a_program_that_does_not_answer_is_a_crash() {
        let Some(program) =
            ["/bin/true", "/usr/bin/true"].map(Path::new).into_iter().find(|path| path.exists())
        else {
            eprintln!("skipped: this system has no `true`");
            return;
        };
        let options = RuntimeOptions { runtime: Runtime::default(), threads: 1, library: None, wall: None };
        let wall = Wall::new(program, [""; 0]);
        let graph = GraphSource::Memory { name: "g.onnx".as_ref(), bytes: vec![0; 1 << 20].into() };
        let error = Walled::load(&graph, &options, &wall).err().unwrap();
        assert!(matches!(error, Error::Crashed { .. }), "{error}");
        assert!(error.to_string().starts_with("g.onnx: "), "{error}");
        let none = Wall::new("/nowhere/vitstream", [""; 0]);
        assert!(Walled::load(&graph, &options, &none).unwrap().is_none());
    }
}
