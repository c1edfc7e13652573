//! Addresses, connections, and shutdown.

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

/// Limit on the bytes of a request's header. OpenAI's client sends less than one thousand.
const MOST_HEAD: usize = 16 << 10;

/// Limit on the fields of a request's header.
const MOST_FIELDS: usize = 64;

/// Pause after accepting has failed: file descriptors have run out, and will become available again.
const REST: Duration = Duration::from_millis(50);

/// Serves connections until it is told to shut down.
#[derive(Debug)]
pub struct Server {
    service: Service,
    places: Arc<Semaphore>,
    /// Tells connections to end after their current work.
    ending: watch::Sender<bool>,
    /// Every task has a clone of the sender; when all are dropped, the receiver is notified.
    running: (mpsc::Sender<Infallible>, mpsc::Receiver<Infallible>),
}

/// A connection's share of the server.
#[derive(Debug)]
struct Connection {
    ending: watch::Receiver<bool>,
    _place: tokio::sync::OwnedSemaphorePermit,
    _running: mpsc::Sender<Infallible>,
}

impl Server {
    /// Creates a server without addresses.
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
                // All of it must be moved in; otherwise the block would capture only the field that it uses,
                // and release the place.
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

    /// Serves Wyoming on a Unix socket.
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

    /// Serves HTTP and Wyoming until `told` is done. Then no connection is accepted any more, current speech
    /// continues within its time limit, and this returns when all of it has been sent.
    pub async fn run(self, told: impl Future<Output = ()>) {
        told.await;
        tracing::info!("ending: current speech is finished, new requests are refused");
        let Self { service, ending, running: (sender, mut receiver), .. } = self;
        service.scheduler().drain();
        drop(sender);
        let finished = async {
            service.scheduler().idle().await;
            // The computed audio must still be sent.
            ending.send_replace(true);
            while receiver.recv().await.is_some() {}
        };
        if tokio::time::timeout(service.limits().drain, finished).await.is_err() {
            tracing::warn!("speech that had not finished is interrupted");
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
                    // A first chunk must not wait for a second one to fill the packet.
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
                    tracing::warn!("a connection was closed: the maximum number is reached");
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

/// Waits until the server announces its shutdown.
pub(crate) async fn told(ending: &mut watch::Receiver<bool>) {
    // A server that has been dropped has ended.
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Returns true if only this machine can reach the address.
pub fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}
