//! HTTP/1.1: the requests of a connection, one after the other.
//!
//! hyper has some 20 KiB for each connection that it speaks on: buffers in both directions, and room for an answer. A client
//! holds a connection open for much longer than it says anything on it, and a crowd that does nothing else would take all
//! the memory there is. So hyper has a connection from the first byte of a request until it has been quiet for a moment;
//! before, between and behind, there is the stream alone.

use std::{
    convert::Infallible, future::poll_fn, pin::Pin, pin::pin, sync::Arc, task::Poll, time::Duration,
};

use bytes::Bytes;
use http::Request;
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Server,
    head_timer::HeadTimer,
    muted::{Muted, Turns},
    parts::Parts,
    peer::Peer,
    refusal, respond,
    seats::Seat,
    seldom::Seldom,
};
use crate::metrics::Limit;

/// Memory that hyper may use for each connection, in each direction: beyond it, a body is not asked for its
/// next piece. By default a client that does not read would hold seven pieces of a blob.
const CONNECTION_BUFFER: usize = 64 * 1024;

/// Header lines that hyper takes of a request when it is not told how many.
const HYPER_HEADERS: usize = 100;

/// How long hyper keeps a connection on which nothing is said: a client that pulls says something again sooner, and need
/// not wait for new buffers. The timer is not set anew for requests that are answered as they come: a connection that is
/// asked all the time is let go, and taken up at the next byte, ten times a second.
const QUIET: Duration = Duration::from_millis(100);

impl Server {
    /// Answers the requests of `peer`; with the `parts` of files that `stream` knows, if it does.
    pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send>(
        self: Arc<Self>,
        mut stream: S,
        parts: Option<Parts>,
        peer: Peer,
        seat: Arc<Seat>,
        stop: CancellationToken,
    ) {
        let (mut ahead, mut has_asked) = (Bytes::new(), false);
        loop {
            if ahead.is_empty() {
                let Some(first) = self.first_byte(&mut stream, has_asked, &stop).await else {
                    // As far as the client is there to hear it, and for no longer than it may take nothing.
                    let _ = stream.shutdown().await;
                    return;
                };
                ahead = first;
            }
            let speaking =
                self.speak(stream, ahead, parts.clone(), peer.clone(), Arc::clone(&seat), &stop);
            let Some(left) = Box::pin(speaking).await else { return };
            (stream, ahead) = left;
            has_asked = true;
        }
    }

    /// The first byte of a request; `None` when none comes in time, or the client or the server ends the connection.
    async fn first_byte(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        has_asked: bool,
        stop: &CancellationToken,
    ) -> Option<Bytes> {
        let mut first = [0];
        let reading = timeout(self.config.header_timeout, stream.read(&mut first));
        match stop.run_until_cancelled(reading).await? {
            Ok(Ok(1..)) => Some(Bytes::copy_from_slice(&first)),
            Ok(_) => None,
            Err(_) => {
                // Clients leave connections open that they have no more use for.
                if !has_asked {
                    self.metrics.limit_reached(Limit::HeadTime);
                }
                None
            }
        }
    }

    /// Has hyper read `ahead` and what comes behind it from `stream`, and answers it, until the connection is quiet: then this
    /// is the stream, and what was read of it that no answer is for. `None` when the connection has ended.
    async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send>(
        self: &Arc<Self>,
        stream: S,
        ahead: Bytes,
        parts: Option<Parts>,
        peer: Peer,
        seat: Arc<Seat>,
        stop: &CancellationToken,
    ) -> Option<(S, Bytes)> {
        let client = peer.address;
        let turns = Turns::of(Arc::clone(&seat));
        let io = TokioIo::new(Muted::behind(ahead, stream, turns.clone()));
        let (server, taking) = (Arc::clone(self), turns.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let turn = taking.begin(!request.body().is_end_stream());
            let answer = Arc::clone(&server).answer(request, peer.clone(), Arc::clone(&seat));
            let parts = parts.clone();
            async move { Ok::<_, Infallible>(answer.await.map(|body| body.on(parts, turn))) }
        });
        let mut hyper = http1::Builder::new();
        hyper
            .timer(HeadTimer::default())
            .header_read_timeout(self.config.header_timeout)
            .max_header_size(self.config.header_bytes)
            .max_buf_size(CONNECTION_BUFFER);
        if self.config.headers != HYPER_HEADERS {
            // Told of a number, hyper makes room for so many on the heap for each request, and writes all of it.
            hyper.max_headers(self.config.headers);
        }
        let mut connection = hyper.serve_connection(io, service);
        let (mut stopped, mut timer) = (Seldom::new(stop.cancelled()), pin!(sleep(QUIET)));
        let (mut is_stopping, mut was_quiet) = (false, false);
        let ended = poll_fn(|context| {
            let mut running = Pin::new(&mut connection);
            if !is_stopping && Pin::new(&mut stopped).poll(context).is_ready() {
                is_stopping = true;
                running.as_mut().graceful_shutdown();
            }
            if let Poll::Ready(ended) = running.poll(context) {
                return Poll::Ready(Some(ended));
            }
            let is_quiet = turns.are_quiet();
            if is_quiet && !was_quiet {
                timer.as_mut().reset(tokio::time::Instant::now() + QUIET);
            }
            was_quiet = is_quiet;
            if is_quiet { timer.as_mut().poll(context).map(|()| None) } else { Poll::Pending }
        })
        .await;
        let left = connection.into_parts();
        let mut stream = left.io.into_inner().into_inner();
        let Some(ended) = ended else {
            // Copied: what is left of it, if anything, would keep hyper's buffer.
            return Some((stream, Bytes::copy_from_slice(&left.read_buf)));
        };
        let refused = ended.as_ref().err().and_then(respond::unreadable);
        if let Err(error) = ended {
            if let Some(limit) = respond::limit_of(&error) {
                self.metrics.limit_reached(limit);
            }
            tracing::debug!(%client, %error, "a connection ended early");
        }
        if let Some(answer) = refused.filter(|_| turns.are_over()) {
            self.refuse(&mut stream, answer, client).await;
        } else if turns.left_bodies() {
            refusal::linger(&mut stream).await;
        }
        None
    }
}
