//! A registry for the tests of this layer: a function from requests to answers, on a port of its own.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{body::Frame, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

/// What answers; `None` never does.
type Script = dyn Fn(&Seen) -> Option<Reply> + Send + Sync;
pub(super) type Reply = Response<BoxBody<Bytes, io::Error>>;

/// A request that arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    /// Path and query.
    pub(super) target: String,
    pub(super) headers: HeaderMap,
}

/// A server that lives as long as this value.
pub(super) struct Fake {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _server: JoinSet<()>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn authorization(&self) -> Option<&str> {
        self.header("authorization")
    }
}

impl Fake {
    /// A server whose every request `script` answers.
    pub(super) async fn start(
        script: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        Self::start_over(script, |stream| async { Ok(stream) }).await
    }

    /// The same, with something between TCP and HTTP.
    pub(super) async fn start_over<S, F>(
        script: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
        accept: impl Fn(TcpStream) -> F + Send + Sync + 'static,
    ) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (script, seen): (Arc<Script>, Arc<Mutex<Vec<Seen>>>) =
            (Arc::new(script), Arc::default());
        let mut server = JoinSet::new();
        let log = Arc::clone(&seen);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                // A piece does not wait until the one before is acknowledged.
                stream.set_nodelay(true).expect("an open connection");
                let (stream, script, log) = (accept(stream), Arc::clone(&script), Arc::clone(&log));
                connections.spawn(async move {
                    let Ok(stream) = stream.await else { return };
                    let answer = service_fn(|request| answer(request, &*script, &log));
                    // How a client leaves is its own affair.
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        Self { address, seen, _server: server }
    }

    /// Its base address.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many requests so far had a target that contains `part`.
    pub(super) fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.target.contains(part)).count()
    }
}

async fn answer(
    request: Request<Incoming>,
    script: &Script,
    log: &Mutex<Vec<Seen>>,
) -> Result<Reply, Infallible> {
    let seen = Seen {
        method: request.method().clone(),
        target: request.uri().to_string(),
        headers: request.headers().clone(),
    };
    log.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
    match script(&seen) {
        Some(reply) => Ok(reply),
        None => std::future::pending().await,
    }
}

/// An answer with these headers and this body.
pub(super) fn reply(
    status: u16,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Option<Reply> {
    with_body(status, headers, Full::new(body.into()).map_err(|never| match never {}).boxed())
}

/// An answer whose body begins with `start` and then neither goes on nor ends.
pub(super) fn stalled(status: u16, headers: &[(&str, &str)], start: &'static str) -> Option<Reply> {
    let start = stream::iter([Ok(Frame::data(Bytes::from_static(start.as_bytes())))]);
    with_body(status, headers, BodyExt::boxed(StreamBody::new(start.chain(stream::pending()))))
}

/// An answer whose body is what comes from `pieces`, as it comes.
pub(super) fn fed(
    status: u16,
    headers: &[(&str, &str)],
    pieces: mpsc::Receiver<Bytes>,
) -> Option<Reply> {
    let frames = stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((Ok(Frame::data(piece)), pieces))
    });
    with_body(status, headers, BodyExt::boxed(StreamBody::new(Box::pin(frames))))
}

/// An answer whose body breaks off after `start`.
pub(super) fn broken(status: u16, headers: &[(&str, &str)], start: &'static str) -> Option<Reply> {
    let start = Ok(Frame::data(Bytes::from_static(start.as_bytes())));
    let body = stream::iter([start]).chain(stream::once(async {
        // Lets the first piece leave before the connection goes.
        tokio::task::yield_now().await;
        Err(io::Error::other("broken on purpose"))
    }));
    with_body(status, headers, BodyExt::boxed(StreamBody::new(body)))
}

fn with_body(
    status: u16,
    headers: &[(&str, &str)],
    body: BoxBody<Bytes, io::Error>,
) -> Option<Reply> {
    let mut reply = Response::builder().status(status);
    for (name, value) in headers {
        reply = reply.header(*name, *value);
    }
    Some(reply.body(body).expect("a well-formed answer"))
}
