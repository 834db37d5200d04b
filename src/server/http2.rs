//! HTTP/2 ([RFC 9113](https://www.rfc-editor.org/rfc/rfc9113)), for clients that agree on it in TLS: the same answers,
//! several at once on a connection.
//!
//! What bounds a connection: so many streams at once, heads as long as over HTTP/1.1, no more of an answer under way than
//! is being sent, an end to those that are quiet, and to those that only take back what they ask for. What no answer is for
//! (pings, settings, half a head) is worked on one by one, and counts as being quiet.

use std::{convert::Infallible, sync::Arc, task::Poll, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use http::{HeaderValue, Request, Response, header::HOST};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Server,
    peer::Peer,
    record::Record,
    respond,
    seats::Seat,
    streams::{Open, StreamBody, Streams},
};
use crate::metrics::Limit;

/// By which clients ask for it in TLS ([RFC 9113 §3.2](https://www.rfc-editor.org/rfc/rfc9113#section-3.2)).
pub(super) const ALPN: &[u8] = b"h2";

/// Requests that are answered at once on one connection; a client has further ones wait. Clients of registries fetch three to
/// six blobs at a time.
const STREAMS_MAX: u32 = 32;

/// Bytes of a request's body that a client may send unasked, of which none is read.
const BODY_WINDOW: u32 = 16 * 1024;

/// The same of all requests of a connection: the least that there is.
const CONNECTION_WINDOW: u32 = 65_535;

/// Largest frame that is taken in: the least that there is.
const FRAME_MAX: u32 = 16 * 1024;

/// Header fields that a client may have kept here for later requests, in bytes.
const TABLE_MAX: u32 = 4096;

/// Requests that were taken back before they were looked at, and streams that were used wrongly: with more of them, a
/// connection ends.
const WRONGS_MAX: usize = 20;

/// A piece is handed on when the one before it is sent: with any byte unsent, there is no room.
const SEND_BUFFER: usize = 1;

/// How long a client may take to notice that a quiet connection ends.
const PARTING: Duration = Duration::from_secs(1);

impl Server {
    /// Answers the requests of `peer`, several at a time.
    pub(super) async fn converse_http2(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        peer: Peer,
        seat: Arc<Seat>,
        stop: CancellationToken,
    ) {
        let client = peer.address;
        let (idle, streams) = (
            self.config.header_timeout,
            Streams::new(Arc::clone(&seat), self.config.client_timeout),
        );
        let head_bytes = u32::try_from(self.config.header_bytes).unwrap_or(u32::MAX);
        let (opening, server) = (streams.clone(), Arc::clone(&self));
        let service = service_fn(move |request: Request<Incoming>| {
            let open = opening.open();
            Arc::clone(&server).answer_stream(request, peer.clone(), Arc::clone(&seat), open)
        });
        let connection = http2::Builder::new(streams.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(head_bytes)
            .header_table_size(TABLE_MAX)
            .max_frame_size(FRAME_MAX)
            .initial_stream_window_size(BODY_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(WRONGS_MAX)
            .max_local_error_reset_streams(WRONGS_MAX)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(idle)
            .keep_alive_timeout(idle)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut answers = FuturesUnordered::new();
        let mut stopped = std::pin::pin!(stop.cancelled());
        let mut timer = std::pin::pin!(sleep(idle));
        // Since when the client knows that this connection ends.
        let mut parting: Option<Instant> = None;
        let ended = std::future::poll_fn(|context| {
            if parting.is_none() && stopped.as_mut().poll(context).is_ready() {
                parting = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
            let ended = connection.as_mut().poll(context);
            answers.extend(streams.handed());
            while let Poll::Ready(Some(())) = answers.poll_next_unpin(context) {}
            if let Poll::Ready(ended) = ended {
                return Poll::Ready(ended.map_err(|error| (None, error.to_string())));
            }
            if streams.are_taken_back() {
                let reason = "it takes back what it asks for".to_owned();
                return Poll::Ready(Err((Some(Limit::TakenBack), reason)));
            }
            let Some(quiet_since) = streams.quiet_since() else { return Poll::Pending };
            let due = match parting {
                None => quiet_since + idle,
                Some(since) => quiet_since.max(since) + PARTING,
            };
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if parting.is_some() {
                let reason = "it was quiet for too long".to_owned();
                return Poll::Ready(Err((Some(Limit::HeadTime), reason)));
            }
            parting = Some(Instant::now());
            connection.as_mut().graceful_shutdown();
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        if let Err((limit, error)) = ended {
            if let Some(limit) = limit {
                self.metrics.limit_reached(limit);
            }
            tracing::debug!(%client, %error, "a connection ended early");
        }
    }

    async fn answer_stream(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        peer: Peer,
        seat: Arc<Seat>,
        open: Open,
    ) -> Result<Response<StreamBody>, Infallible> {
        let place = seat.try_open();
        let refused = match &place {
            Err(limit) => Some((*limit, respond::too_many_answers(peer.address.ip()))),
            Ok(_) if request.headers().len() > self.config.headers => {
                Some((Limit::Head, respond::too_large()))
            }
            Ok(_) => None,
        };
        let response = match refused {
            Some((limit, answer)) => {
                self.metrics.limit_reached(limit);
                let method = request.method().clone();
                answer.into_response(Record::new(&self.metrics, method, peer.address), None)
            }
            None => {
                name_host(&mut request);
                self.answer(request, peer, seat).await
            }
        };
        Ok(response.map(|body| StreamBody::new(body, open, place.ok())))
    }
}

/// Puts the name by which wharf was called where HTTP/1.1 has it.
fn name_host<B>(request: &mut Request<B>) {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    // Valid in a header: it was one.
    if let Some(Ok(host)) = authority.map(HeaderValue::from_str) {
        request.headers_mut().insert(HOST, host);
    }
}
