//! The answers that one HTTP/2 connection is giving at once: each a stream, all polled by the connection's own task.
//!
//! HTTP/2 lets a client ask for much and take nothing of it, on a connection on which something always moves. So every
//! stream is watched by itself, and holds a place for as long as its answer is open ([`super::seats`]).

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, sleep};

use super::{
    body::Body,
    seats::{OpenAnswer, Seat},
};
use crate::pull::Cut;

/// Requests that a client may take back before their answer's end, beyond those that it let be answered. Who goes on
/// makes work for nothing (CVE-2023-44487); whoever breaks off a few layers does not come near.
const TAKEN_BACK_MAX: usize = 100;

/// The streams of one connection. Clones are of the same connection.
#[derive(Clone)]
pub(super) struct Streams(Arc<State>);

struct State {
    seat: Arc<Seat>,
    /// How long a client may take nothing of an answer.
    patience: Duration,
    counts: Mutex<Counts>,
    handed: Mutex<Handed>,
}

struct Counts {
    open: usize,
    /// Since when there is no open stream.
    quiet_since: Instant,
    taken_back: usize,
}

/// What hyper hands out while it is polled.
#[derive(Default)]
struct Handed {
    /// Of the request that the service was called with last: hyper hands out the stream it belongs to next.
    newest: Option<Arc<Progress>>,
    streams: Vec<BoxFuture<'static, ()>>,
}

/// How far a stream's answer is.
#[derive(Debug, Default)]
struct Progress {
    /// A piece of the answer lies ready, and has been waiting for the client since then.
    waits_since: Mutex<Option<Instant>>,
    /// It came to its end, or the end is not the client's doing.
    is_over: AtomicBool,
}

/// An answer being made and sent, until this is dropped.
pub(super) struct Open {
    streams: Streams,
    progress: Arc<Progress>,
}

/// The body of an answer on a stream.
///
/// Its last byte is a piece of its own: HTTP/2 is handed a piece only when the one before is sent
/// ([`super::http2`]), so that everything that is waiting for a client, but for that byte, is still this body's,
/// its place taken and its wait watched.
pub(super) struct StreamBody {
    body: Body,
    last_byte: Option<Bytes>,
    open: Open,
    _place: Option<OpenAnswer>,
}

impl Streams {
    pub(super) fn new(seat: Arc<Seat>, patience: Duration) -> Self {
        let counts = Counts { open: 0, quiet_since: Instant::now(), taken_back: 0 };
        let (counts, handed) = (Mutex::new(counts), Mutex::default());
        Self(Arc::new(State { seat, patience, counts, handed }))
    }

    /// A request has come; hyper hands out its stream next.
    pub(super) fn open(&self) -> Open {
        let progress = Arc::<Progress>::default();
        lock(&self.0.handed).newest = Some(Arc::clone(&progress));
        let mut counts = lock(&self.0.counts);
        counts.open += 1;
        if counts.open == 1 {
            self.0.seat.is_busy();
        }
        drop(counts);
        Open { streams: self.clone(), progress }
    }

    /// The streams that hyper has handed out since the last call.
    pub(super) fn handed(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut lock(&self.0.handed).streams)
    }

    /// Since when there is no open stream; `None` while there are any.
    pub(super) fn quiet_since(&self) -> Option<Instant> {
        let counts = lock(&self.0.counts);
        (counts.open == 0).then_some(counts.quiet_since)
    }

    /// Whether the client takes back more than it asks for.
    pub(super) fn are_taken_back(&self) -> bool {
        lock(&self.0.counts).taken_back > TAKEN_BACK_MAX
    }
}

/// Spawns nothing: what a connection has begun ends with it.
impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut handed = lock(&self.0.handed);
        let progress = handed.newest.take().unwrap_or_default();
        handed.streams.push(Box::pin(watched(stream, progress, self.0.patience)));
    }
}

/// `stream` to its end, or until its client has taken nothing for too long: what is dropped is reset.
async fn watched(stream: impl Future<Output = ()>, progress: Arc<Progress>, patience: Duration) {
    let mut stream = std::pin::pin!(stream);
    let mut deadline = std::pin::pin!(sleep(patience));
    std::future::poll_fn(|context| {
        if stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = *lock(&progress.waits_since) else { return Poll::Pending };
        if deadline.deadline() != since + patience {
            deadline.as_mut().reset(since + patience);
        }
        deadline.as_mut().poll(context)
    })
    .await;
}

impl Open {
    /// From now on the client is waited for.
    fn waits(&self) {
        *lock(&self.progress.waits_since) = Some(Instant::now());
    }

    /// From now on the answer is.
    fn goes_on(&self) {
        *lock(&self.progress.waits_since) = None;
    }

    fn is_over(&self) {
        self.progress.is_over.store(true, Ordering::Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let State { seat, counts, .. } = &*self.streams.0;
        let mut counts = lock(counts);
        if self.progress.is_over.load(Ordering::Relaxed) {
            counts.taken_back = counts.taken_back.saturating_sub(1);
        } else {
            counts.taken_back += 1;
        }
        counts.open -= 1;
        if counts.open == 0 {
            counts.quiet_since = Instant::now();
            seat.is_idle();
        }
    }
}

impl StreamBody {
    pub(super) fn new(body: Body, open: Open, place: Option<OpenAnswer>) -> Self {
        if body.is_end_stream() {
            open.is_over();
        }
        Self { body, last_byte: None, open, _place: place }
    }

    fn take_last_byte(&mut self, piece: Bytes) -> Bytes {
        let may_be_last = self.body.is_end_stream() || self.body.size_hint().exact().is_none();
        if !may_be_last || piece.len() < 2 {
            return piece;
        }
        let end = piece.len() - 1;
        // Copied: a part of the piece would keep all of it in memory.
        self.last_byte = Some(Bytes::copy_from_slice(&piece[end..]));
        piece.slice(..end)
    }
}

impl http_body::Body for StreamBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        this.open.goes_on();
        if let Some(byte) = this.last_byte.take() {
            if this.body.is_end_stream() {
                this.open.is_over();
            }
            this.open.waits();
            return Poll::Ready(Some(Ok(Frame::data(byte))));
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        let Some(Ok(frame)) = frame else {
            this.open.is_over();
            return Poll::Ready(frame);
        };
        this.open.waits();
        let frame = frame.map_data(|piece| this.take_last_byte(piece));
        if this.is_end_stream() {
            this.open.is_over();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.last_byte.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(byte) = &self.last_byte else { return self.body.size_hint() };
        let rest = self.body.size_hint();
        rest.exact().map_or(rest, |rest| SizeHint::with_exact(rest + byte.len() as u64))
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
