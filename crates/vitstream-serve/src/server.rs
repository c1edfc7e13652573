//! Addresses, connections, and the end.

mod stalling;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::service::Service;
use crate::wyoming;
use stalling::Stalling;

/// Bytes of a request's head. OpenAI's client sends less than one thousand.
const MOST_HEAD: usize = 16 << 10;

/// Fields of a request's head.
const MOST_FIELDS: usize = 64;

/// How long accepting rests after it has failed: file descriptors have run out, and will come back.
const REST: Duration = Duration::from_millis(50);

/// Connections that are served until the server is told to end.
#[derive(Debug)]
pub struct Server {
    service: Service,
    places: Arc<Semaphore>,
    /// Says when connections are to end after what they are doing.
    ending: watch::Sender<bool>,
    /// Every task has a clone of the sender; when all are gone the receiver is told.
    running: (mpsc::Sender<Infallible>, mpsc::Receiver<Infallible>),
}

/// What a connection has of the server.
#[derive(Debug)]
struct Connection {
    ending: watch::Receiver<bool>,
    _place: tokio::sync::OwnedSemaphorePermit,
    _running: mpsc::Sender<Infallible>,
}

impl Server {
    /// A server that listens nowhere yet.
    pub fn new(service: Service) -> Self {
        let places = Arc::new(Semaphore::new(service.limits().connections));
        Self { service, places, ending: watch::Sender::new(false), running: mpsc::channel(1) }
    }

    /// Serves HTTP on `listener`.
    pub fn http(&self, listener: TcpListener, router: Router) {
        let limits = self.service.limits().clone();
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.arrival)
            .max_buf_size(MOST_HEAD)
            .max_headers(MOST_FIELDS);
        self.accept(listener, move |stream, connection| {
            let io = TokioIo::new(Stalling::new(stream, limits.idle));
            let served = http.serve_connection(io, TowerToHyperService::new(router.clone())).with_upgrades();
            async move {
                // All of it, or the block would take the one field that it uses and leave the place to others.
                let Connection { mut ending, _place, _running } = connection;
                let mut served = std::pin::pin!(served);
                let result = tokio::select! {
                    result = served.as_mut() => result,
                    () = told(&mut ending) => {
                        served.as_mut().graceful_shutdown();
                        served.await
                    }
                };
                if let Err(error) = result {
                    tracing::debug!("a connection ended: {error}");
                }
            }
        });
    }

    /// Serves Wyoming on `listener`.
    pub fn wyoming(&self, listener: TcpListener) {
        let service = self.service.clone();
        self.accept(listener, move |stream, connection| talk(service.clone(), stream, connection));
    }

    /// Serves Wyoming on a socket of this machine.
    #[cfg(unix)]
    pub fn wyoming_unix(&self, listener: tokio::net::UnixListener) {
        let (service, listener) = (self.service.clone(), Arc::new(listener));
        self.accept_from(
            move || {
                let listener = listener.clone();
                async move { Ok(listener.accept().await?.0) }
            },
            move |stream, connection| talk(service.clone(), stream, connection),
        );
    }

    /// Serves HTTP's and Wyoming's connections until `told` is done. Then nobody is let in any more, what is being spoken goes
    /// on for as long as it may, and this is done when all of it is sent.
    pub async fn run(self, told: impl Future<Output = ()>) {
        told.await;
        tracing::info!("ending: what is being spoken is finished, nothing new is begun");
        let Self { service, ending, running: (sender, mut receiver), .. } = self;
        service.scheduler().drain();
        drop(sender);
        let finished = async {
            service.scheduler().idle().await;
            // What is computed has still to be sent.
            ending.send_replace(true);
            while receiver.recv().await.is_some() {}
        };
        if tokio::time::timeout(service.limits().drain, finished).await.is_err() {
            tracing::warn!("what was still being spoken is broken off");
        }
    }

    fn accept<F>(
        &self,
        listener: TcpListener,
        serve: impl Fn(tokio::net::TcpStream, Connection) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = Arc::new(listener);
        self.accept_from(
            move || {
                let listener = listener.clone();
                async move {
                    let (stream, _) = listener.accept().await?;
                    // A first chunk does not wait for a second one to fill the packet.
                    stream.set_nodelay(true)?;
                    Ok(stream)
                }
            },
            serve,
        );
    }

    fn accept_from<S, A, F>(
        &self,
        accept: impl Fn() -> A + Send + 'static,
        serve: impl Fn(S, Connection) -> F + Send + 'static,
    ) where
        S: Send + 'static,
        A: Future<Output = io::Result<S>> + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (places, running) = (self.places.clone(), self.running.0.clone());
        let ending = self.ending.subscribe();
        let mut ending_told = ending.clone();
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = accept() => accepted,
                    () = told(&mut ending_told) => return,
                };
                let stream = match accepted {
                    Ok(stream) => stream,
                    Err(error) => {
                        tracing::debug!("a connection was not accepted: {error}");
                        tokio::time::sleep(REST).await;
                        continue;
                    }
                };
                let Ok(place) = places.clone().try_acquire_owned() else {
                    tracing::warn!("a connection was closed: there are as many as there may be");
                    continue;
                };
                let connection =
                    Connection { ending: ending.clone(), _place: place, _running: running.clone() };
                tokio::spawn(serve(stream, connection));
            }
        });
    }
}

/// A conversation in Wyoming.
async fn talk<S>(service: Service, stream: S, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (reader, writer) = tokio::io::split(Stalling::new(stream, service.limits().idle));
    let Connection { ending, _place, _running } = connection;
    if let Err(error) = wyoming::converse(&service, reader, writer, ending).await {
        tracing::debug!("a Wyoming connection ended: {error}");
    }
}

/// Waits until the server says that it is ending.
pub(crate) async fn told(ending: &mut watch::Receiver<bool>) {
    // A server that is gone has ended.
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Whether only this machine reaches the address.
pub fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
