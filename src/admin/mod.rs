//! The admin address and the control socket: metrics, health and the API, for whoever watches and runs wharf. What
//! changes something is taken on the control socket alone.
//!
//! One request per connection, each with a deadline for all of it, so that nobody can hold one of the few
//! connections for long. On the control socket, questions may take as long as registries do, and the events of a
//! pull go on for as long as they come.

mod api;
mod body;
mod client;
mod control;
mod events;
mod hearing;
mod images;
mod ready;
mod respond;

#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    future, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time,
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

#[cfg(fuzzing)]
pub use self::api::fuzzing;
use self::{api::Api, respond::Caller};
pub use self::{
    client::{CallError, Client, Events, Pieces},
    control::Control,
    events::Event,
    images::Images,
    ready::{NotReady, ask_ready},
};
use crate::metrics::Metrics;
/// The rows of the API's answers.
pub use crate::pull::{
    AccountStatus, CacheStatus, Collected, DockerImage, Explanation, ExportEvent, ImportTerms,
    Imported, ImportedImage, ImportedVolume, InspectedManifest, Inspection, KeptImage,
    KeptPlatform, PinnedImage, PullEvent, RemovedImage, ScrubStatus, Status, UpstreamStatus,
    Verify, VerifyEvent, VolumeSet,
};

/// Connections served at one time; more wait in the socket's queue.
const MAX_CONNECTIONS: usize = 64;
/// From an open connection to the end of a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// From an open connection to its end, however slowly the other side reads; and at the longest between two pieces
/// of an answer that may take longer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Most header lines of a request.
const HEADERS_MAX: usize = 100;
/// Most bytes of a request's head.
const HEAD_MAX_BYTES: usize = 32 * 1024;
/// Memory for each connection, in each direction.
const CONNECTION_BUFFER: usize = 64 * 1024;
/// How long open connections may go on after the shutdown has begun.
const DRAIN: Duration = Duration::from_secs(2);
/// How long to leave a socket alone that cannot accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The answers of the admin address and the control socket. Clones are the same one.
#[derive(Clone)]
pub struct Admin {
    metrics: Metrics,
    readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
    api: Api,
}

/// Whether pulls can be expected to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Everything works.
    Ready,
    /// Pulls work, but not as they should: one sentence says why.
    Degraded(String),
    /// Pulls do not work: one sentence says why.
    Unready(String),
}

/// What a connection may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// Ask.
    Look,
    /// Ask, and change something.
    Change,
}

/// What a connection is made of: TCP, a socket of the file system, or a pipe within the process.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Where connections come from.
trait Listener {
    /// A connection.
    type Stream: Stream + 'static;
    /// What its connections may do.
    const ACCESS: Access;

    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Admin {
    /// Answers from `metrics` and `images`, and from what `readiness` says at the time of each request: it must not
    /// block.
    pub fn new(
        metrics: Metrics,
        readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
        images: Arc<dyn Images>,
    ) -> Self {
        Self { metrics, readiness, api: Api::new(images) }
    }

    /// Serves `listener` until `shutdown`; then ends open connections, within two seconds.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        self.accept(listener, shutdown).await;
    }

    /// Serves the control socket until `shutdown`; then removes it and ends open connections, within two seconds,
    /// and with them what was asked for there.
    pub async fn run_control(self, control: Control, shutdown: CancellationToken) {
        let admin = self.clone();
        admin.accept(control, shutdown).await;
        self.finish().await;
    }

    /// Waits until everything that was asked for has ended. Of connections whose `shutdown` has come, what takes long
    /// ends at once.
    pub async fn finish(&self) {
        self.api.finish().await;
    }

    async fn accept<L: Listener>(self, listener: L, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await.expect("never closed");
                (slot, listener.next().await)
            };
            let (slot, accepted) = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accepted => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok(stream) => {
                    let serving = self.clone().serve(Box::new(stream), L::ACCESS, shutdown.clone());
                    connections.spawn(async move {
                        let _slot = slot;
                        serving.await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin address cannot take a connection");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if time::timeout(DRAIN, drained).await.is_err() {
            connections.shutdown().await;
        }
    }

    /// Serves one connection, for as long as it may take.
    async fn serve(self, stream: Box<dyn Stream>, access: Access, shutdown: CancellationToken) {
        let may_take_longer = AtomicBool::new(false);
        let late = async {
            time::sleep(CONNECTION_TIMEOUT).await;
            if may_take_longer.load(Ordering::Relaxed) {
                future::pending::<()>().await;
            }
        };
        // Either way the connection is over: an elapsed deadline drops it.
        tokio::select! {
            () = self.converse(stream, access, &may_take_longer, shutdown) => {}
            () = late => {}
        }
    }

    async fn converse(
        &self,
        stream: Box<dyn Stream>,
        access: Access,
        may_take_longer: &AtomicBool,
        shutdown: CancellationToken,
    ) {
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(CONNECTION_TIMEOUT));
        let service = service_fn(|request| {
            let caller = Caller { access, may_take_longer, shutdown: shutdown.clone() };
            async move { Ok::<_, Infallible>(respond::answer(self, request, &caller).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_MAX_BYTES)
            .max_buf_size(CONNECTION_BUFFER)
            .keep_alive(false)
            .serve_connection(TokioIo::new(Box::pin(stream)), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the admin address broke off");
        }
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    const ACCESS: Access = Access::Look;

    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Listener for Control {
    type Stream = UnixStream;
    const ACCESS: Access = Access::Change;

    async fn next(&self) -> io::Result<UnixStream> {
        UnixListener::accept(&self.listener).await.map(|(stream, _)| stream)
    }
}
