//! PulseAudio, or PipeWire in its place, over the socket that both listen on: no C library is needed.
//!
//! The messages of the protocol come from the crate `pulseaudio`. Its client is not used, because it drops
//! the events that report underruns, and waits forever for a server that does not answer.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{BufReader, Cursor, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{env, process};

use anyhow::{Context, Result, anyhow, bail, ensure};
use pulseaudio::protocol::stream::BufferAttr;
use pulseaudio::protocol::{
    self, AuthParams, AuthReply, ChannelMap, Command, CommandReply, CreatePlaybackStreamReply, MAX_VERSION,
    PlaybackStreamParams, Prop, Props, SampleFormat, SampleSpec, SetClientNameReply,
};

use super::queue::Queue;
use super::{Device, late};

/// Timeout for the server's answers. A running server answers at once; a socket that nobody reads must not
/// delay the speech.
const PATIENCE: Duration = Duration::from_secs(3);

/// Interval of the checks whether the server has played everything.
const LOOK: Duration = Duration::from_millis(5);

/// The maximum size of a message; a server describes a stream in a few hundred bytes.
const LONGEST_MESSAGE: u32 = 1 << 20;

/// Length of the server's cookie. Its bytes do not matter if the server identifies the user by the socket.
const COOKIE: usize = 256;

/// The number of buffered bytes at which a server starts to play, and starts again after an underrun. The
/// first chunk is enough, whatever its length, because the schedule of the chunks makes the next ones arrive
/// in time.
const PREBUFFER: u32 = SAMPLE as u32;

/// Bytes of a sample.
const SAMPLE: usize = 2;

/// The maximum number of bytes sent at once.
const BLOCK: usize = 1 << 16;

/// A stream of the server's default device.
pub(super) struct Pulse {
    queue: Arc<Queue>,
    connected: Connected,
    underruns: Arc<AtomicU64>,
    /// The thread that sends samples to the server, and the thread that follows its events until everything
    /// was played.
    threads: [JoinHandle<()>; 2],
}

impl Pulse {
    pub(super) fn open(queue: &Arc<Queue>, sample_rate: u32) -> Result<Self> {
        let path = socket_path()?;
        let socket = UnixStream::connect(&path).with_context(|| path.display().to_string())?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Connection::open(socket.try_clone()?)?;
        let stream = connection.create_stream(sample_rate)?;
        // From here on the server sends messages at any time, and stops reading while it has enough data.
        socket.set_read_timeout(None)?;
        socket.set_write_timeout(None)?;
        tracing::info!("played by the sound server at {}", path.display());

        let underruns = Arc::new(AtomicU64::new(0));
        let (requests, requested) = channel();
        let _ = requests.send(stream.requested_bytes as usize);
        let drain = connection.next_seq();
        let version = connection.version;
        let events =
            Events { queue: queue.clone(), underruns: underruns.clone(), channel: stream.channel, drain };
        let reader = thread::spawn(move || {
            if let Err(error) = events.follow(connection, &requests) {
                events.queue.fail(error);
            }
        });
        let writer = {
            let (queue, socket) = (queue.clone(), socket.try_clone()?);
            let feed = Feed { channel: stream.channel, drain, version };
            thread::spawn(move || {
                if let Err(error) = feed.run(&queue, &requested, &socket) {
                    queue.fail(error);
                }
            })
        };
        Ok(Self { queue: queue.clone(), connected: Connected(socket), underruns, threads: [writer, reader] })
    }
}

impl Device for Pulse {
    fn finish(self: Box<Self>, deadline: Instant) -> Result<Option<u64>> {
        let Self { queue, connected, underruns, threads } = *self;
        while threads.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() >= deadline {
                queue.fail(late());
                connected.end();
                break;
            }
            thread::sleep(LOOK);
        }
        for thread in threads {
            thread.join().map_err(|_| anyhow!("a playback thread has panicked"))?;
        }
        drop(connected);
        queue.failure().map_or_else(|| Ok(Some(underruns.load(Ordering::Relaxed))), Err)
    }
}

/// A server ends the streams of a closed connection, and with them the sound.
struct Connected(UnixStream);

impl Connected {
    fn end(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.end();
    }
}

/// The connection during the set-up, when each request has one reply.
struct Connection {
    socket: BufReader<UnixStream>,
    version: u16,
    seq: u32,
}

impl Connection {
    fn open(socket: UnixStream) -> Result<Self> {
        let mut connection = Self { socket: BufReader::new(socket), version: MAX_VERSION, seq: 0 };
        let auth =
            AuthParams { version: MAX_VERSION, supports_shm: false, supports_memfd: false, cookie: cookie() };
        let reply: AuthReply = connection.ask(&Command::Auth(auth))?;
        connection.version = reply.version.min(MAX_VERSION);
        let mut props = Props::new();
        props.set(Prop::ApplicationName, c"vitstream");
        props.set(Prop::ApplicationProcessId, CString::new(process::id().to_string())?);
        let _: SetClientNameReply = connection.ask(&Command::SetClientName(props))?;
        Ok(connection)
    }

    fn next_seq(&mut self) -> u32 {
        self.seq += 1;
        self.seq
    }

    fn ask<R: CommandReply>(&mut self, command: &Command) -> Result<R> {
        let seq = self.next_seq();
        protocol::write_command_message(self.socket.get_mut(), seq, command, self.version)?;
        let (replied, reply) = protocol::read_reply_message(&mut self.socket, self.version)?;
        ensure!(replied == seq, "the sound server answered message {replied} instead of {seq}");
        Ok(reply)
    }

    fn create_stream(&mut self, sample_rate: u32) -> Result<CreatePlaybackStreamReply> {
        let mut props = Props::new();
        props.set(Prop::MediaName, c"speech");
        self.ask(&Command::CreatePlaybackStream(PlaybackStreamParams {
            sample_spec: SampleSpec { format: SampleFormat::S16Le, channels: 1, sample_rate },
            channel_map: ChannelMap::mono(),
            sink_name: Some(protocol::DEFAULT_SINK.to_owned()),
            buffer_attr: BufferAttr { pre_buffering: PREBUFFER, ..BufferAttr::default() },
            props,
            ..PlaybackStreamParams::default()
        }))
        .context("the stream could not be created")
    }

    /// Returns the next message and its number; `None` for a message that this version of the protocol does
    /// not know.
    fn next(&mut self) -> Result<Option<(u32, Command)>> {
        let descriptor = protocol::read_descriptor(&mut self.socket)?;
        ensure!(
            descriptor.length <= LONGEST_MESSAGE,
            "the sound server sent a message of {} bytes",
            descriptor.length
        );
        let mut payload = vec![0; descriptor.length as usize];
        self.socket.read_exact(&mut payload)?;
        Ok(Command::read_tag_prefixed(&mut Cursor::new(payload), self.version).ok())
    }
}

/// The messages that the server sends while it plays.
struct Events {
    queue: Arc<Queue>,
    underruns: Arc<AtomicU64>,
    channel: u32,
    /// The number of the message that requests to play everything.
    drain: u32,
}

impl Events {
    /// Follows the server until everything was played. When this ends, `requests` is closed, which also ends
    /// the threads that wait for it.
    fn follow(&self, mut connection: Connection, requests: &Sender<usize>) -> Result<()> {
        loop {
            match connection.next()? {
                Some((seq, Command::Reply)) if seq == self.drain => return Ok(()),
                Some((_, command)) => self.handle(&command, requests)?,
                None => {}
            }
        }
    }

    fn handle(&self, command: &Command, requests: &Sender<usize>) -> Result<()> {
        match command {
            Command::Request(request) if request.channel == self.channel => {
                // The feed has ended once it has sent everything.
                let _ = requests.send(request.length as usize);
            }
            Command::Underflow(underflow)
                if underflow.channel == self.channel && self.queue.is_within_utterance() =>
            {
                self.underruns.fetch_add(1, Ordering::Relaxed);
            }
            Command::PlaybackStreamKilled(channel) if *channel == self.channel => {
                bail!("the sound server ended the stream")
            }
            Command::Error(error) => bail!("the sound server reports: {error}"),
            _ => {}
        }
        Ok(())
    }
}

/// Sends samples when the server requests them.
struct Feed {
    channel: u32,
    drain: u32,
    version: u16,
}

impl Feed {
    fn run(&self, queue: &Queue, requested: &Receiver<usize>, mut socket: &UnixStream) -> Result<()> {
        let mut wanted = 0;
        let mut message = Vec::new();
        loop {
            while wanted < SAMPLE {
                match requested.recv() {
                    Ok(more) => wanted += more,
                    // The other thread has ended, and has reported the reason.
                    Err(_) => return Ok(()),
                }
            }
            wanted += requested.try_iter().sum::<usize>();
            let most = wanted.min(BLOCK);
            let Some(samples) = queue.take(most - most % SAMPLE) else { break };
            message.clear();
            protocol::write_memblock(&mut message, self.channel, &samples, 0)?;
            socket.write_all(&message)?;
            wanted -= samples.len();
        }
        let drain = Command::DrainPlaybackStream(self.channel);
        Ok(protocol::write_command_message(&mut socket, self.drain, &drain, self.version)?)
    }
}

/// Finds the server's socket: the one in the environment, else this user's, else that of the whole machine.
fn socket_path() -> Result<PathBuf> {
    let var = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(server) = env::var("PULSE_SERVER").ok().filter(|server| !server.is_empty()) {
        // For example `unix:/run/user/1000/pulse/native`, with `{machine}` before it if it is for one machine
        // only.
        let path = server.rsplit_once('}').map_or(server.as_str(), |(_, server)| server);
        let path = Path::new(path.strip_prefix("unix:").unwrap_or(path));
        ensure!(path.is_absolute(), "PULSE_SERVER: expected a socket of this machine, found {server:?}");
        return Ok(path.to_owned());
    }
    let user = fs::metadata("/proc/self").ok().map(|this| PathBuf::from(format!("/run/user/{}", this.uid())));
    let folders = [
        var("PULSE_RUNTIME_PATH"),
        var("XDG_RUNTIME_DIR").map(|dir| dir.join("pulse")),
        user.map(|dir| dir.join("pulse")),
        Some(PathBuf::from("/run/pulse")),
    ];
    let mut sockets = folders.into_iter().flatten().map(|dir| dir.join("native"));
    sockets.find(|socket| socket.exists()).context("no socket of a sound server was found")
}

/// Reads the cookie with which the server identifies this user, in the expected length.
fn cookie() -> Vec<u8> {
    let read = |path| {
        File::open(path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(COOKIE as u64).read_to_end(&mut bytes)?;
            Ok(bytes)
        })
    };
    let mut cookie = pulseaudio::cookie_path_from_env().and_then(|path| read(path).ok()).unwrap_or_default();
    cookie.resize(COOKIE, 0);
    cookie
}
