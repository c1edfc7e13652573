//! `vitstream serve`: serves voices to many listeners at once.

mod address;
#[cfg(feature = "announce")]
mod announce;
mod settings;

use std::net::{SocketAddr, TcpListener as StdListener};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::net::TcpListener;
use vitstream::{Backend, read_file};
use vitstream_serve::http::{Access, Keys, router};
use vitstream_serve::scheduler::{Options, Scheduler};
use vitstream_serve::service::Service;
use vitstream_serve::voices::{Voices, find};
use vitstream_serve::{Limits, Server, wyoming};
use vitstream_text::phonemizer::{Pool, TIME_LIMIT};

use super::phonemizer::PhonemizerArgs;
use super::terminal::say;
use super::{DecoderArg, VoiceArgs, signals, voices};
use address::Address;

/// Environment variable for a key, if no key file is used.
const KEY: &str = "VITSTREAM_API_KEY";

/// Limit on the bytes of a key file.
const MAX_KEYS: u64 = 1 << 20;

/// Number of threads for input and output. Computation runs on the scheduler's threads.
const IO_THREADS: usize = 2;

/// Interval at which signals are checked.
const LOOK: Duration = Duration::from_millis(50);

/// Speak for many listeners at once
///
/// The protocols are Wyoming for Home Assistant, OpenAI's and Piper's HTTP, and ElevenLabs' WebSocket, as
/// their clients use them. Audio is computed chunk by chunk, first for the listener who would run out of
/// audio first; requests beyond the capacity are refused at once.
///
/// By default, only this machine can connect. Other addresses require a key, from the file of --key-file or
/// from the environment variable VITSTREAM_API_KEY. Wyoming has no keys: --wyoming-lan opens it to the local
/// network.
///
/// Sockets passed by systemd replace these addresses: the first one is for HTTP, the second one for Wyoming.
///
/// On SIGTERM and Ctrl-C, current speech is finished before the server ends.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Voices: files, folders, names of installed voices, or folders of voices. The first one is the default
    #[arg(value_name = "VOICE", required_unless_present_any = ["voice", "settings"])]
    voices: Vec<PathBuf>,

    /// A voice under a name of your choice; may be repeated
    #[arg(long, value_name = "NAME=VOICE")]
    voice: Vec<String>,

    /// A TOML file with these options under their names, without the dashes: `voices = ["a.onnx"]`, `http =
    /// "127.0.0.1:5000"`, `max-load = 0.8`. The command line takes precedence
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,

    /// Address for HTTP, or `off`
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    http: Address,

    /// Address for Wyoming: a network address, unix:PATH, stdio, or `off`
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:10200")]
    wyoming: Address,

    /// Serve Wyoming to everyone who can reach this machine, on port 10200
    #[arg(long, conflicts_with = "wyoming")]
    wyoming_lan: bool,

    /// Announce Wyoming on the network under this name, so that Home Assistant finds it [default: vitstream]
    #[cfg(feature = "announce")]
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "vitstream")]
    announce: Option<String>,

    /// A file of keys, one per line; HTTP clients must send one of them
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// Another origin whose web pages may use the server, such as https://example.org; may be repeated
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,

    /// Format of the log: lines of text, or one JSON object per line
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// Give the same audio for the same request, unless the request has its own seed
    #[arg(long)]
    seed: Option<u64>,

    /// Memory for voices: if their weights take more, the least recently used ones are closed
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    memory: u64,

    #[command(flatten)]
    capacity: CapacityArgs,

    #[command(flatten)]
    reading: PhonemizerArgs,

    #[command(flatten)]
    options: VoiceArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Limits on the number of requests, and on their times.
#[derive(clap::Args)]
#[command(next_help_heading = "Limits", allow_negative_numbers = true)]
struct CapacityArgs {
    /// Number of computing threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,

    /// Share of these threads that may be used for listeners who play in real time
    #[arg(long, value_name = "SHARE", default_value_t = 0.9)]
    max_load: f64,

    /// Maximum number of streams at the same time
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_streams: usize,

    /// Maximum time that a request waits for capacity before it is refused
    #[arg(long, value_name = "SECONDS", default_value_t = 0.15)]
    max_wait: f64,

    /// Maximum number of characters of a text
    #[arg(long, value_name = "N", default_value_t = 4096)]
    max_text: usize,

    /// Maximum number of bytes of a request's body
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    max_body: usize,

    /// Maximum number of connections
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_connections: usize,

    /// Maximum time for a request to arrive
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    arrival_timeout: f64,

    /// Maximum time that a connection may be idle
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    idle_timeout: f64,

    /// Maximum time for finishing current speech after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0)]
    drain_timeout: f64,
}

impl CapacityArgs {
    fn limits(&self) -> Result<Limits> {
        let mut limits = Limits::default();
        limits.text = self.max_text;
        limits.body = self.max_body;
        limits.connections = self.max_connections;
        limits.arrival = seconds("--arrival-timeout", self.arrival_timeout)?;
        limits.idle = seconds("--idle-timeout", self.idle_timeout)?;
        limits.drain = seconds("--drain-timeout", self.drain_timeout)?;
        Ok(limits)
    }

    fn options(&self) -> Result<Options> {
        ensure!(
            (0.01..=1_000.0).contains(&self.max_load),
            "--max-load: expected 0.01 to 1000, found {}",
            self.max_load
        );
        let mut options = Options::default();
        options.workers = self.workers.map_or(options.workers, usize::from);
        options.load = self.max_load;
        options.streams = self.max_streams;
        options.hold = seconds("--max-wait", self.max_wait)?;
        Ok(options)
    }
}

/// No useful value exceeds a day.
fn seconds(option: &str, seconds: f64) -> Result<Duration> {
    ensure!((0.0..=86_400.0).contains(&seconds), "{option}: expected 0 to 86400 seconds, found {seconds}");
    Ok(Duration::from_secs_f64(seconds))
}

pub(crate) fn run(args: &Args, quiet: bool) -> Result<()> {
    let access = args.access()?;
    let wyoming = if args.wyoming_lan { Address::everywhere(address::WYOMING) } else { args.wyoming.clone() };
    let mut passed = Passed::take()?;
    if let Some(http) = passed.http.as_ref().map(StdListener::local_addr).transpose()?.or(args.http.tcp()) {
        ensure!(
            access.keys.is_some() || vitstream_serve::is_loopback(&http),
            "--http {http}: other machines could connect there without a key; give keys with --key-file \
             or {KEY}, or use a local address such as 127.0.0.1:{}",
            http.port()
        );
    }
    if let Some(address) = passed.wyoming.as_ref().map(StdListener::local_addr).transpose()?.or(wyoming.tcp())
    {
        ensure!(
            args.wyoming_lan || vitstream_serve::is_loopback(&address),
            "--wyoming {address}: other machines could connect there, and Wyoming has no keys; --wyoming-lan confirms \
             that they may"
        );
    }
    let limits = args.capacity.limits()?;
    let voices = args.voices(quiet)?;
    let scheduler =
        Scheduler::new(args.capacity.options()?).context("cannot start the threads that compute")?;
    let service = Service::new(Arc::new(voices), scheduler, limits, args.seed);
    let told = Arc::new(AtomicBool::new(false));
    signals::finish_first(told.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(IO_THREADS).enable_all().build();
    let runtime = runtime.context("cannot start the threads that serve")?;
    let result = runtime.block_on(serve(args, &wyoming, &mut passed, service, access, told));
    // Voices that are still being opened are no reason to wait.
    runtime.shutdown_background();
    result
}

/// Sockets opened by the parent process, such as systemd: the first one is for HTTP, the second one for
/// Wyoming.
struct Passed {
    http: Option<StdListener>,
    wyoming: Option<StdListener>,
}

impl Passed {
    fn take() -> Result<Self> {
        let mut passed = listenfd::ListenFd::from_env();
        let mut next = |index| {
            let listener = if index < passed.len() { passed.take_tcp_listener(index) } else { Ok(None) };
            listener.with_context(|| format!("LISTEN_FDS: socket {index}: expected one that listens for TCP"))
        };
        Ok(Self { http: next(0)?, wyoming: next(1)? })
    }
}

/// The passed socket, or else one at `address`.
async fn listener(passed: Option<StdListener>, address: &SocketAddr) -> std::io::Result<TcpListener> {
    match passed {
        Some(listener) => {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        }
        None => TcpListener::bind(address).await,
    }
}

/// Serves until a signal arrives.
async fn serve(
    args: &Args,
    wyoming: &Address,
    passed: &mut Passed,
    service: Service,
    access: Access,
    told: Arc<AtomicBool>,
) -> Result<()> {
    let server = Server::new(service.clone());
    let mut places = Vec::new();
    match &args.http {
        Address::Tcp(address) => {
            let listener = listener(passed.http.take(), address).await;
            let listener = listener.with_context(|| format!("--http {address}"))?;
            places.push(format!("HTTP on http://{}", listener.local_addr()?));
            server.http(listener, router(service.clone(), access));
        }
        Address::Off => {}
        Address::Unix(_) | Address::Stdio => bail!("--http: expected an address such as 127.0.0.1:5000"),
    }
    let mut stdio = false;
    #[cfg(feature = "announce")]
    let mut announcement = None;
    match wyoming {
        Address::Tcp(address) => {
            let listener = listener(passed.wyoming.take(), address).await;
            let listener = listener.with_context(|| format!("--wyoming {address}"))?;
            let address = listener.local_addr()?;
            places.push(format!("Wyoming on tcp://{address}"));
            #[cfg(feature = "announce")]
            if let Some(name) = &args.announce {
                announcement = Some(announce::Announcement::new(name, &address)?);
            }
            server.wyoming(listener);
        }
        Address::Unix(path) => {
            server.wyoming_unix(address::bind_unix(path)?);
            places.push(format!("Wyoming on unix://{}", path.display()));
        }
        Address::Stdio => stdio = true,
        Address::Off => {}
    }
    #[cfg(feature = "announce")]
    ensure!(
        args.announce.is_none() || announcement.is_some(),
        "--announce: Wyoming is not served at a network address"
    );
    ensure!(stdio || !places.is_empty(), "--http and --wyoming are both off: there is nothing to serve");
    for place in places {
        say(&place);
    }
    let opening = tokio::spawn({
        let service = service.clone();
        async move { service.open_voices().await }
    });
    let signal = async {
        while !told.load(Ordering::Relaxed) {
            tokio::time::sleep(LOOK).await;
        }
    };
    if stdio {
        // The parent process has the only conversation; when it ends, the program ends.
        let never = tokio::sync::watch::Sender::new(false);
        let (input, output) = (tokio::io::stdin(), tokio::io::stdout());
        tokio::select! {
            result = wyoming::converse(&service, input, output, never.subscribe()) => result.context("standard input")?,
            () = signal => {}
        }
    } else {
        server.run(signal).await;
    }
    // Clients that look for it from now on no longer find it.
    #[cfg(feature = "announce")]
    drop(announcement);
    opening.abort();
    Ok(())
}

impl Args {
    /// Puts the settings of the file before those of the command line.
    pub(crate) fn read_settings(&mut self) -> Result<()> {
        if let Some(path) = &self.settings {
            let words = std::env::args_os().skip_while(|word| word != "serve").skip(1);
            *self = settings::with(path, words)?;
        }
        Ok(())
    }

    pub(crate) fn logs_json(&self) -> bool {
        self.log_format == LogFormat::Json
    }

    fn access(&self) -> Result<Access> {
        let text = match (&self.key_file, std::env::var(KEY)) {
            (Some(path), _) => {
                let bytes = read_file(path, MAX_KEYS)?;
                Some(vitstream_text::utf8(&bytes).with_context(|| path.display().to_string())?.to_owned())
            }
            (None, Ok(key)) => Some(key),
            (None, Err(std::env::VarError::NotPresent)) => None,
            (None, Err(std::env::VarError::NotUnicode(_))) => bail!("{KEY}: not UTF-8"),
        };
        // A missing key that was meant to be required would open the server to everyone.
        let keys = text.map(|text| {
            let name =
                || self.key_file.as_ref().map_or_else(|| KEY.to_owned(), |path| path.display().to_string());
            Keys::from_lines(&text).with_context(|| format!("{}: expected a key, found none", name()))
        });
        let mut access = Access { keys: keys.transpose()?, ..Access::default() };
        for origin in &self.allow_origin {
            let value = origin.parse().ok().filter(|_| origin.contains("://") && !origin.ends_with('/'));
            access.origins.push(
                value.with_context(|| {
                    format!("--allow-origin {origin}: expected such as https://example.org")
                })?,
            );
        }
        Ok(access)
    }

    fn voices(&self, quiet: bool) -> Result<Voices> {
        let mut places = Vec::new();
        for named in &self.voice {
            let (name, path) = named
                .split_once('=')
                .filter(|(name, path)| !name.is_empty() && !path.is_empty())
                .with_context(|| format!("--voice {named}: expected NAME=VOICE"))?;
            places.push((name.to_owned(), voices::resolve(Path::new(path), quiet)?));
        }
        for path in &self.voices {
            let resolved = voices::resolve(path, quiet)?;
            let found = find(&resolved).with_context(|| path.display().to_string())?;
            places.extend(found);
        }
        let open = self.options.open_options(Backend::Auto, DecoderArg::Auto, super::wall())?;
        // As many as can compute at once; each is started on first use.
        let workers = NonZeroUsize::new(self.capacity.options()?.workers).unwrap_or(NonZeroUsize::MIN);
        let reading = self.reading.clone();
        let phonemizers = Pool::new(workers, TIME_LIMIT, move || reading.open_apart());
        Ok(Voices::new(places, open, phonemizers, self.memory.saturating_mul(1 << 20))?)
    }
}
