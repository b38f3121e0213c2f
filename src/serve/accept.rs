//! The accept loop: limits of connections, and an end that lets answers be finished.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};

use crate::serve::{Server, plain};

/// Limits of connections. None is on a whole request: a layer takes as long as its line is slow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Until the head of a request is there, also of the next one on a connection.
    pub head: Duration,
    /// Without a byte sent or received while there is something to be.
    pub idle: Duration,
    /// Connections at one time; others wait to be accepted.
    pub connections: usize,
    /// What answers that have begun are given when the server is to end.
    pub grace: Duration,
}

impl Limits {
    /// The usual ones, which options of `serve` change.
    pub const IDLE: Duration = Duration::from_secs(60);
    /// See [`Limits::connections`].
    pub const CONNECTIONS: u16 = 1024;
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head: Duration::from_secs(30),
            idle: Limits::IDLE,
            connections: Limits::CONNECTIONS.into(),
            grace: Duration::from_secs(30),
        }
    }
}

/// A place where connections arrive.
pub struct Listener(TcpListener);

impl Listener {
    /// Listens at an address; port 0 is any free one.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Listener)
    }

    /// Takes a socket that listens already, as systemd hands it over.
    pub fn taken(socket: std::net::TcpListener) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket).map(Listener)
    }

    /// Where that is.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

pub(super) async fn run(server: Arc<Server>, listener: Listener, stop: impl Future<Output = ()>) {
    let limits = server.limits;
    let places = Arc::new(Semaphore::new(limits.connections));
    let (ending, ended) = watch::channel(());
    let mut stop = pin!(stop);
    let mut told: Option<Instant> = None;
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await.expect("it is never closed");
            (listener.0.accept().await, place)
        };
        let (accepted, place) = tokio::select! { accepted = accepted => accepted, () = &mut stop => break };
        match accepted {
            Ok((stream, client)) => {
                let (server, ended) = (server.clone(), ended.clone());
                tokio::spawn(async move {
                    server.metrics.connections.fetch_add(1, Ordering::Relaxed);
                    welcome(&server, stream, client, ended).await;
                    server.metrics.connections.fetch_sub(1, Ordering::Relaxed);
                    drop(place);
                });
            }
            // Of the one connection, or of this process: no more files. Others end, and then there are some.
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() > TELL) {
                    tracing::warn!("a connection could not be accepted: {error}");
                    told = Some(Instant::now());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop((listener, ended));
    let _ = ending.send(());
    // Each connection holds a receiver until it ends.
    let _ = tokio::time::timeout(limits.grace, ending.closed()).await;
}

/// Speaks TLS first, where the server does.
async fn welcome(server: &Arc<Server>, stream: TcpStream, client: SocketAddr, ended: watch::Receiver<()>) {
    // What is sent is whole answers, and nobody should wait for an acknowledgement before the next.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &server.tls else { return plain::run(server, stream, client, ended).await };
    let handshake = tokio_rustls::TlsAcceptor::from(tls.config.clone()).accept(stream);
    match tokio::time::timeout(server.limits.head, handshake).await {
        Ok(Ok(stream)) => connection(server, stream, client, ended).await,
        Ok(Err(error)) => tracing::info!("{client}: no TLS: {error}"),
        Err(_) => tracing::info!("{client}: TLS was not begun in time"),
    }
}

/// Lets hyper answer on a connection.
pub(super) async fn connection<S: AsyncRead + AsyncWrite + Unpin>(
    server: &Arc<Server>,
    stream: S,
    client: SocketAddr,
    mut ended: watch::Receiver<()>,
) {
    let limits = server.limits;
    let service = service_fn(|request| {
        let server = server.clone();
        async move {
            let (head, body) = hyper::Request::into_parts(request);
            Ok::<_, Infallible>(server.answer(client, head, Some(body)).await)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).max_headers(HEADERS).max_header_size(HEAD);
    let mut connection = pin!(http.serve_connection(TokioIo::new(Patient::new(stream, limits.idle)), service));
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = ended.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!("{client}: {error}");
    }
}

/// A stream whose reader may be slow but must read.
struct Patient<S> {
    stream: S,
    limit: Duration,
    /// Set while something waits to be sent.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S, limit: Duration) -> Self {
        Patient { stream, limit, until: None }
    }

    fn check<T>(&mut self, sent: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if sent.is_ready() {
            self.until = None;
            return sent;
        }
        let until = self.until.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + self.limit)));
        std::task::ready!(until.as_mut().poll(context));
        let words = format!("the client has not read anything for {} seconds", self.limit.as_secs());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, words)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check(sent, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.check(sent, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.check(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Takes as many open files as this process may have, and says how many connections these are enough for.
pub fn connections(wanted: usize) -> usize {
    let mut limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_ok() {
        limit = raised;
    }
    let files = limit.current.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    wanted.min((files.saturating_sub(OTHER_FILES) / FILES).max(1))
}

/// Files of a connection at most: its socket, the blob that it sends or the upload that it writes, and one that is looked at.
const FILES: usize = 3;
/// Files that are open besides: databases, logs, those of the runtime, what reads blobs in the background.
const OTHER_FILES: usize = 48;
/// From one word on connections that could not be accepted to the next.
const TELL: Duration = Duration::from_secs(10);
/// Bytes of a request's head.
pub(super) const HEAD: usize = 64 << 10;
/// Lines of it.
pub(super) const HEADERS: usize = 100;
