//! A connection whose other side may answer and hang up while it is still being spoken to.
//!
//! A daemon that refuses an archive reads no more of it. hyper gives up a connection on which it cannot write, and whatever it
//! has not read by then, the sentence that tells why among it. So a stream that takes no more does not fail: it just takes
//! nothing, until what was said is read to its end.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream under hyper's client.
pub(super) struct Hearing<S> {
    stream: S,
    /// The other side reads no more.
    is_hung_up: bool,
}

impl<S> Hearing<S> {
    pub(super) const fn new(stream: S) -> Self {
        Self { stream, is_hung_up: false }
    }

    fn told(
        &mut self,
        write: impl FnOnce(&mut S) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.is_hung_up {
            // Whoever waits is woken by the end of what is read, which such a connection has.
            return Poll::Pending;
        }
        match write(&mut self.stream) {
            Poll::Ready(Err(error)) if hangs_up(&error) => {
                self.is_hung_up = true;
                Poll::Pending
            }
            written => written,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Hearing<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Hearing<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.told(|stream| Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.told(|stream| Pin::new(stream).poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_hung_up {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_hung_up {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn hangs_up(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::StreamExt as _;
    use http_body_util::{BodyExt as _, StreamBody};
    use hyper::{Request, body::Frame, client::conn::http1};
    use hyper_util::rt::TokioIo;
    use tokio::time::timeout;

    use super::*;

    const ANSWER: &[u8] =
        b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";

    /// The other side takes one write, then says no and hangs up, such that the next write fails before that is read.
    #[derive(Default)]
    struct Refusing {
        takes_no_more: bool,
        said: &'static [u8],
        has_failed: bool,
    }

    impl AsyncRead for Refusing {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if !self.has_failed {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            buffer.put_slice(self.said);
            self.said = &[];
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Refusing {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.takes_no_more {
                (self.has_failed, self.said) = (true, ANSWER);
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            self.takes_no_more = true;
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_was_said_before_the_other_side_hung_up_is_heard() {
        let stream = TokioIo::new(Hearing::new(Refusing::default()));
        let (mut sender, connection) = http1::handshake(stream).await.expect("begun");
        let piece = || Ok::<_, io::Error>(Frame::data(Bytes::from_static(&[0; 65536])));
        let pieces = futures_util::stream::repeat_with(piece).take(1000);
        let request = Request::post("/").body(StreamBody::new(pieces)).expect("a request");
        let told = async { tokio::join!(sender.send_request(request), connection) };
        let (answer, _) = timeout(Duration::from_secs(10), told).await.expect("an end");
        let answer = answer.expect("an answer");
        assert_eq!(answer.status(), 400);
        assert_eq!(answer.into_body().collect().await.expect("whole").to_bytes(), "no");
    }
}
