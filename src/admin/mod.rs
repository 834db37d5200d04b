//! The admin address: metrics and health, for whoever watches wharf; nothing here changes anything.
//!
//! One request per connection, each with a deadline for all of it, so that nobody can hold one of the few
//! connections for long.

mod client;
mod respond;

#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;

pub use client::{NotReady, ask_ready};

use crate::metrics::Metrics;

/// Connections served at one time; more wait in the socket's queue.
const MAX_CONNECTIONS: usize = 64;
/// From an open connection to the end of a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// From an open connection to its end, however slowly the other side reads.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long open connections may go on after the shutdown has begun.
const DRAIN: Duration = Duration::from_secs(2);
/// How long to leave a socket alone that cannot accept (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The admin address' answers.
#[derive(Clone)]
pub struct Admin {
    metrics: Metrics,
    readiness: Arc<dyn Fn() -> Readiness + Send + Sync>,
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

impl Admin {
    /// Answers from `metrics`, and from what `readiness` says at the time of each request: it must not block.
    pub fn new(metrics: Metrics, readiness: Arc<dyn Fn() -> Readiness + Send + Sync>) -> Self {
        Self { metrics, readiness }
    }

    /// Serves `listener` until `shutdown`; then ends open connections, within two seconds.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = async {
                let slot = Arc::clone(&slots).acquire_owned().await.expect("never closed");
                (slot, listener.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = accepted => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    let admin = self.clone();
                    let shutdown = shutdown.clone();
                    connections.spawn(async move {
                        let _slot = slot;
                        let serving = admin.serve(stream, shutdown);
                        // Either way the connection is over: an elapsed deadline drops it.
                        let _ = time::timeout(CONNECTION_TIMEOUT, serving).await;
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

    async fn serve(self, stream: TcpStream, shutdown: CancellationToken) {
        let service = service_fn(|request| {
            let answer = respond::answer(&self, &request);
            async move { Ok::<_, Infallible>(answer) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
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
