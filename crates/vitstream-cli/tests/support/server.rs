//! An HTTP server on this machine with configurable faults.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The fault that the next request for a path meets.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The connection ends after this number of bytes of the body.
    Cut(usize),
    /// After this number of bytes no more data is sent, and the connection stays open.
    Stall(usize),
    /// This number of bytes more than announced.
    More(usize),
    /// Another status, without a body.
    Status(u16),
    /// A redirect.
    Redirect(String),
    /// The whole file, whatever part was requested.
    Whole,
    /// Endless zeros, without a length.
    Endless,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: HashMap<String, String>,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Vec<u8>>,
    /// The faults of each path, used up one by one; the last one remains if the flag is `true`.
    faults: HashMap<String, (Vec<Fault>, bool)>,
    requests: Vec<Request>,
    /// Connections that are kept open.
    stalled: Vec<TcpStream>,
}

/// Runs until the test ends.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server =
            Self { url: format!("http://{}", listener.local_addr().unwrap()), state: Arc::default() };
        let accepting = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = accepting.clone();
                // Clients disconnect in the middle, which is what the tests check.
                thread::spawn(move || drop(server.serve(stream)));
            }
        });
        server
    }

    pub(crate) fn put(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.state.lock().unwrap().files.insert(path.to_owned(), content.into());
    }

    /// The next requests for `path` meet these faults, later ones none.
    pub(crate) fn once(&self, path: &str, faults: &[Fault]) {
        self.state.lock().unwrap().faults.insert(path.to_owned(), (faults.to_vec(), false));
    }

    /// All requests for `path` meet this fault.
    pub(crate) fn always(&self, path: &str, fault: Fault) {
        self.state.lock().unwrap().faults.insert(path.to_owned(), (vec![fault], true));
    }

    /// Takes the requests since the last call.
    pub(crate) fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut input = BufReader::new(stream.try_clone()?);
        let Some(request) = read_request(&mut input)? else { return Ok(()) };
        let mut output = stream;
        if request.method == "CONNECT" {
            // Like a proxy: it answers for every host.
            self.state.lock().unwrap().requests.push(request);
            output.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            let Some(request) = read_request(&mut input)? else { return Ok(()) };
            return self.answer(request, output);
        }
        self.answer(request, output)
    }

    fn answer(&self, request: Request, mut output: TcpStream) -> std::io::Result<()> {
        let (content, fault) = {
            let mut state = self.state.lock().unwrap();
            let content = state.files.get(&request.path).cloned();
            let fault = state.faults.get_mut(&request.path).and_then(|(faults, stays)| {
                match (faults.len(), *stays) {
                    (0, _) => None,
                    (_, true) => Some(faults[0].clone()),
                    (_, false) => Some(faults.remove(0)),
                }
            });
            state.requests.push(request.clone());
            (content, fault)
        };
        let simple = |status: u16, more: &str| {
            format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n{more}\r\n")
        };
        match &fault {
            Some(Fault::Status(status)) => return output.write_all(simple(*status, "").as_bytes()),
            Some(Fault::Redirect(to)) => {
                return output.write_all(simple(302, &format!("Location: {to}\r\n")).as_bytes());
            }
            Some(Fault::Endless) => {
                output.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                loop {
                    output.write_all(&[b' '; 1 << 16])?;
                }
            }
            _ => {}
        }
        let Some(mut content) = content else { return output.write_all(simple(404, "").as_bytes()) };
        if let Some(Fault::More(more)) = fault {
            content.extend(vec![0; more]);
        }
        let range = request.headers.get("range").filter(|_| !matches!(fault, Some(Fault::Whole)));
        let from = range.map(|range| range["bytes=".len()..].trim_end_matches('-').parse::<usize>().unwrap());
        let total = content.len();
        let head = match from {
            Some(from) if from >= total => return output.write_all(simple(416, "").as_bytes()),
            Some(from) => format!("206 X\r\nContent-Range: bytes {from}-{}/{total}", total - 1),
            None => "200 X".to_owned(),
        };
        let body = &content[from.unwrap_or(0)..];
        let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        output.write_all(head.as_bytes())?;
        match fault {
            Some(Fault::Cut(count)) => output.write_all(&body[..count.min(body.len())]),
            Some(Fault::Stall(count)) => {
                output.write_all(&body[..count.min(body.len())])?;
                self.state.lock().unwrap().stalled.push(output);
                Ok(())
            }
            _ => output.write_all(body),
        }
    }
}

fn read_request(input: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(Some(Request { method, path, headers }));
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.trim().to_lowercase(), value.trim().to_owned());
        }
    }
}
