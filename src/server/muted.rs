//! Who speaks on a connection: this server, or hyper on its own.
//!
//! hyper answers a head that it cannot read by itself: a status, and no body. [`Muted`] swallows these words, so
//! that the connection is still unspoken for when hyper has given it up, and an answer of the specification's form
//! can take their place ([`super::refusal`]).
//!
//! It goes by turns and not by what is written: a layer may hold any bytes, those of hyper's words included.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::seats::Seat;

/// A stream under hyper on which nothing is heard but answers.
pub(super) struct Muted<S> {
    /// Comes before what is read of the stream.
    ahead: Bytes,
    stream: S,
    turns: Turns,
    /// hyper spoke up, and was not heard.
    swallowed: bool,
}

/// Whose turn it is on one connection. Clones are of the same connection.
///
/// All of them live in the connection's one task; the atomics only let that task move between threads.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// Answers that hyper does not have to their end yet.
    open: AtomicUsize,
    /// There are bytes of answers that hyper may not have written yet.
    unsent: AtomicBool,
    /// An answer was written to its end, and nothing was read or done since.
    quiet: AtomicBool,
    /// A request brought a body, which nobody reads.
    bodies: AtomicBool,
    /// Is told whether the connection is idle.
    seat: Option<Arc<Seat>>,
}

/// An answer being made and handed to hyper; its turn lasts until its last byte was written.
#[derive(Debug)]
pub(super) struct Turn(Turns);

impl Turns {
    /// Those of the connection that has this seat.
    pub(super) fn of(seat: Arc<Seat>) -> Self {
        Self(Arc::new(State { seat: Some(seat), ..State::default() }))
    }

    /// A request has come, with a body or without, and what is written from now on is its answer.
    pub(super) fn begin(&self, has_body: bool) -> Turn {
        self.0.bodies.fetch_or(has_body, Ordering::Relaxed);
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.stir();
        if !self.0.unsent.swap(true, Ordering::Relaxed) {
            self.0.seat.iter().for_each(|seat| seat.is_busy());
        }
        Turn(self.clone())
    }

    /// Whether every answer that was begun is written.
    pub(super) fn are_over(&self) -> bool {
        !self.0.unsent.load(Ordering::Relaxed)
    }

    /// Whether a request brought a body, of which the client may still be sending.
    pub(super) fn left_bodies(&self) -> bool {
        self.0.bodies.load(Ordering::Relaxed)
    }

    /// Whether an answer was written to its end, and nothing has happened since: hyper holds nothing then but what it may have
    /// read of a next request.
    pub(super) fn are_quiet(&self) -> bool {
        self.0.quiet.load(Ordering::Relaxed) && !self.left_bodies()
    }

    fn stir(&self) {
        self.0.quiet.store(false, Ordering::Relaxed);
    }

    /// hyper has written all it had: it flushes what is below only then.
    fn flushed(&self) {
        let is_over = self.0.open.load(Ordering::Relaxed) == 0;
        if is_over && self.0.unsent.swap(false, Ordering::Relaxed) {
            self.0.quiet.store(true, Ordering::Relaxed);
            self.0.seat.iter().for_each(|seat| seat.is_idle());
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Muted<S> {
    /// Of a stream of which `ahead` was read already.
    pub(super) const fn behind(ahead: Bytes, stream: S, turns: Turns) -> Self {
        Self { ahead, stream, turns, swallowed: false }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Muted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let most = self.ahead.len().min(buffer.remaining());
        buffer.put_slice(&self.ahead.split_to(most));
        // Together with what is there already: what is no head is seen at once only when it comes in one piece. Should the
        // stream have failed or ended, it will say so again.
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if most == 0 {
            ready!(read)?;
        }
        if buffer.filled().len() > before {
            self.turns.stir();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Muted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.turns.are_over() {
            self.swallowed = true;
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.turns.are_over() {
            self.swallowed = true;
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        self.turns.flushed();
        Poll::Ready(Ok(()))
    }

    /// Leaves the stream open where it is still to be spoken on.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turns.stir();
        if self.swallowed {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, time::Duration};

    use http::Response;
    use http_body_util::Full;
    use hyper::{server::conn::http1, service::service_fn};
    use hyper_util::rt::TokioIo;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        time::timeout,
    };

    use super::*;

    /// What hyper would say, as a layer might hold it.
    const WORDS: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

    async fn within<T>(future: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(10), future).await.expect("nothing here waits for long")
    }

    /// All that can be read of `stream`, whose other end may stay open.
    async fn heard(mut stream: DuplexStream, muted: Muted<DuplexStream>) -> Vec<u8> {
        drop(muted);
        let mut heard = Vec::new();
        within(stream.read_to_end(&mut heard)).await.expect("a duplex does not fail");
        heard
    }

    #[tokio::test]
    async fn an_answer_passes_until_it_is_flushed_and_nothing_after_it() {
        let (near, far) = duplex(4096);
        let turns = Turns::default();
        let mut muted = Muted::behind(Bytes::new(), near, turns.clone());
        let write = async |muted: &mut Muted<DuplexStream>, bytes: &[u8]| {
            within(muted.write_all(bytes)).await.expect("taken");
        };
        write(&mut muted, b"too early").await;
        let turn = turns.begin(false);
        write(&mut muted, b"a").await;
        within(muted.flush()).await.expect("flushed");
        write(&mut muted, WORDS).await;
        drop(turn);
        // hyper may have the last bytes for a while.
        write(&mut muted, b"b").await;
        within(muted.flush()).await.expect("flushed");
        assert!(turns.are_over());
        write(&mut muted, WORDS).await;
        let slices = [IoSlice::new(b"c"), IoSlice::new(b"d")];
        assert_eq!(within(muted.write_vectored(&slices)).await.expect("taken"), 2);
        within(muted.shutdown()).await.expect("nothing to shut");

        let mut stream = muted.into_inner();
        within(stream.write_all(b"!")).await.expect("still open");
        let muted = Muted::behind(Bytes::new(), stream, turns);
        assert_eq!(heard(far, muted).await, [b"a", WORDS, b"b!"].concat());
    }

    #[tokio::test]
    async fn what_was_read_before_comes_in_one_piece_with_what_is_there() {
        let (near, mut far) = duplex(4096);
        let turns = Turns::default();
        let mut muted = Muted::behind(Bytes::from_static(b"ab"), near, turns);
        within(far.write_all(b"cd")).await.expect("taken");
        let mut read = [0; 16];
        assert_eq!(within(muted.read(&mut read)).await.expect("open"), 4);
        assert_eq!(&read[..4], b"abcd");
        drop(far);
        assert_eq!(within(muted.read(&mut read)).await.expect("at its end"), 0);
        let mut muted = Muted::behind(Bytes::from_static(b"abc"), duplex(1).0, Turns::default());
        assert_eq!(within(muted.read(&mut read[..2])).await.expect("open"), 2);
        assert_eq!(within(muted.read(&mut read)).await.expect("its other end is gone"), 1);
    }

    #[tokio::test]
    async fn a_connection_is_quiet_between_an_answer_and_what_comes_next() {
        let (near, mut far) = duplex(4096);
        let turns = Turns::default();
        let mut muted = Muted::behind(Bytes::new(), near, turns.clone());
        assert!(!turns.are_quiet(), "nothing was asked yet");
        drop(turns.begin(false));
        assert!(!turns.are_quiet(), "the answer is not written");
        within(muted.flush()).await.expect("flushed");
        assert!(turns.are_quiet());
        within(far.write_all(b"G")).await.expect("taken");
        within(muted.read(&mut [0; 16])).await.expect("open");
        within(muted.flush()).await.expect("nothing to flush");
        assert!(!turns.are_quiet(), "half a head");
        drop(turns.begin(true));
        within(muted.flush()).await.expect("flushed");
        assert!(!turns.are_quiet(), "a body that nobody reads may be on its way");
    }

    #[tokio::test]
    async fn a_pipelined_answer_keeps_the_turn_of_the_one_before() {
        let (near, far) = duplex(4096);
        let turns = Turns::default();
        let mut muted = Muted::behind(Bytes::new(), near, turns.clone());
        let (first, second) = (turns.begin(false), turns.begin(true));
        drop(first);
        within(muted.flush()).await.expect("flushed");
        within(muted.write_all(b"a")).await.expect("taken");
        assert!(!turns.are_over() && turns.left_bodies());
        drop(second);
        within(muted.flush()).await.expect("flushed");
        within(muted.write_all(b"b")).await.expect("taken");
        assert_eq!(heard(far, muted).await, b"a");
    }

    /// A stream that takes three bytes at a time, so that hyper's writes are cut up.
    #[tokio::test]
    async fn hyper_is_heard_with_answers_and_not_on_its_own() {
        let (near, far) = duplex(3);
        let turns = Turns::default();
        let io = TokioIo::new(Muted::behind(Bytes::new(), near, turns.clone()));
        let service = service_fn(async |_| {
            let turn = turns.begin(false);
            let answer = Response::new(Full::new(Bytes::from_static(WORDS)));
            drop(turn);
            Ok::<_, Infallible>(answer)
        });
        let connection = http1::Builder::new().serve_connection(io, service);
        let (mut reader, mut writer) = tokio::io::split(far);
        let ask = async {
            let requests = b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\nnonsense\r\n\r\n";
            writer.write_all(requests).await.expect("taken");
        };
        let mut heard = Vec::new();
        let listen = async {
            let mut answer = [0; 512];
            while heard.windows(WORDS.len()).filter(|window| *window == WORDS).count() < 2 {
                let count = reader.read(&mut answer).await.expect("open");
                assert!(count > 0, "only {}", heard.escape_ascii());
                heard.extend_from_slice(&answer[..count]);
            }
        };
        let mut connection = connection;
        let (ended, (), ()) = within(async { tokio::join!(&mut connection, ask, listen) }).await;
        assert!(ended.expect_err("nonsense").is_parse());
        assert!(turns.are_over());
        drop(connection);
        let mut rest = Vec::new();
        within(reader.read_to_end(&mut rest)).await.expect("open");
        assert_eq!(rest, b"", "after {}", heard.escape_ascii());
    }
}
