//! A running server, and clients that send it bytes.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vitstream::{OpenOptions, SpeakOptions, Voice, wav};
use vitstream_serve::http::{Access, router};
use vitstream_serve::scheduler::{Options, Scheduler};
use vitstream_serve::service::Service;
use vitstream_serve::voices::Voices;
use vitstream_serve::{Limits, Server};
use vitstream_testing::golden;
use vitstream_text::Frontend;
use vitstream_text::phonemizer::{Pool, Recorded, TIME_LIMIT};

/// The seed with which the servers of these tests repeat the same speech.
pub(crate) const SEED: u64 = 7;

pub(crate) const TEXT: &str = "hello there. How are you? Fine, and the day is long.";

pub(crate) struct Running {
    pub(crate) service: Service,
    pub(crate) http: SocketAddr,
    pub(crate) wyoming: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    pub(crate) ended: JoinHandle<()>,
}

/// Starts a server with the voices `letters` and `many` (three speakers), neither of which needs a
/// phonemizer.
pub(crate) async fn start(access: Access, change: impl FnOnce(&mut Limits, &mut Options)) -> Running {
    let places =
        vec![("letters".to_owned(), golden("families/hf")), ("many".to_owned(), golden("families/hf-multi"))];
    let phonemizers = Pool::new(NonZeroUsize::MIN, TIME_LIMIT, || panic!("letters need no phonemizer"));
    let voices = Voices::new(places, OpenOptions::default(), phonemizers, u64::MAX).unwrap();
    let (mut limits, mut options) = (Limits::default(), Options::default());
    (options.workers, options.starting, options.load) = (2, 100, f64::INFINITY);
    // However slow this machine is, no request is refused.
    options.hold = Duration::from_secs(60);
    change(&mut limits, &mut options);
    let service = Service::new(Arc::new(voices), Scheduler::new(options).unwrap(), limits, Some(SEED));
    service.open_voices().await;
    let server = Server::new(service.clone());
    let [http, wyoming] = [bind().await, bind().await];
    let addresses = [&http, &wyoming].map(|listener| listener.local_addr().unwrap());
    server.http(http, router(service.clone(), access));
    server.wyoming(wyoming);
    let (end, told) = oneshot::channel();
    let ended = tokio::spawn(server.run(async {
        let _ = told.await;
    }));
    Running { service, http: addresses[0], wyoming: addresses[1], end: Some(end), ended }
}

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

impl Running {
    /// Shuts the server down as a signal does.
    pub(crate) fn tell_to_end(&mut self) {
        self.end.take().unwrap().send(()).unwrap();
    }
}

/// Returns the samples of `voice` for a text alone, in 16 bits; a voice with several speakers uses its first.
pub(crate) fn alone(voice: &str, text: &str) -> Vec<u8> {
    let place = if voice == "many" { "families/hf-multi" } else { "families/hf" };
    let voice = Voice::open(golden(place), &OpenOptions::default()).unwrap();
    let frontend = Frontend::from_json(voice.config()).unwrap();
    let mut options = SpeakOptions::default();
    options.seed = Some(SEED);
    let mut cutter = frontend.stream().whole_sentences();
    let mut samples = Vec::new();
    for text in cutter.push(text).into_iter().chain(cutter.finish()) {
        for sentence in frontend.speak(&text.trim().into(), &mut Recorded::default()).unwrap() {
            samples.extend(voice.synthesize(&sentence.ids, &options).unwrap());
        }
    }
    wav::s16le(&samples)
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// True if the body is complete.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// Sends `request` unchanged and reads until the other side closes.
pub(crate) async fn exchange(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that refuses the rest closes while the client still writes.
    let _ = stream.write_all(request).await;
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut bytes));
    let _ = read.await.expect("an answer within a minute");
    bytes
}

pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, fields: &str, body: &[u8]) -> Answer {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {length}\r\n{fields}\r\n"
    );
    answer(&exchange(address, &[head.as_bytes(), body].concat()).await)
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    ask(address, "GET", path, "", b"").await
}

pub(crate) async fn post(address: SocketAddr, path: &str, body: &serde_json::Value) -> Answer {
    let body = body.to_string();
    ask(address, "POST", path, "Content-Type: application/json\r\n", body.as_bytes()).await
}

pub(crate) fn answer(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: bytes[end + 4..].to_vec(), whole: true };
    if answer.header("transfer-encoding") == Some("chunked") {
        (answer.body, answer.whole) = unchunked(&answer.body);
    }
    answer
}

fn unchunked(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        let Some(chunk) = bytes.get(end + 2..end + 2 + length) else { break };
        if length == 0 {
            return (body, true);
        }
        body.extend_from_slice(chunk);
        bytes = &bytes[(end + 4 + length).min(bytes.len())..];
    }
    (body, false)
}

/// Waits for a condition that is certain to occur.
pub(crate) async fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..4_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what}: not after twenty seconds");
}
