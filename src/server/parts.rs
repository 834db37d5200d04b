//! Parts of files on their way to a socket, which the system sends without their coming by this process (`sendfile`).
//!
//! hyper's writer keeps large buffers as they are when the stream takes several at once. So a part of a file goes through
//! hyper as a [`Bytes`] that is a mapping of that part, which nobody looks at: [`PartStream`], under hyper, knows it by its
//! address and has the system send the part instead. hyper's framing, order and time-outs stay in charge. What is not
//! recognised is sent by its bytes, which are the same.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use crate::pull::BlobFile;

/// Bytes that the system sends by one call.
const STEP_BYTES: usize = 1024 * 1024;

/// Bytes that one connection sends before others have their turn.
const TURN_BYTES: usize = 2 * 1024 * 1024;

/// The parts of one connection that are not sent yet, in their order. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts(Arc<Mutex<VecDeque<Part>>>);

#[derive(Debug)]
struct Part {
    /// What stands for it. While it is held here, nothing else can be at its address.
    bytes: Bytes,
    file: BlobFile,
    /// Where in the file it begins.
    at: u64,
}

/// A plain connection that knows its parts.
#[derive(Debug)]
pub(super) struct PartStream {
    stream: TcpStream,
    parts: Parts,
    /// Bytes sent since others had their turn.
    sent: usize,
}

impl Parts {
    /// From now on, `bytes` stand for those of `file` from `at` on.
    pub(super) fn stand_in(&self, bytes: Bytes, file: BlobFile, at: u64) {
        self.lock().push_back(Part { bytes, file, at });
    }

    /// The file, and the place in it, of bytes that stand for a part.
    fn find(&self, bytes: &[u8]) -> Option<(BlobFile, u64)> {
        let addresses = bytes.as_ptr_range();
        let mut parts = self.lock();
        let is_it = |part: &Part| {
            let of_part = part.bytes.as_ptr_range();
            of_part.start <= addresses.start && addresses.end <= of_part.end
        };
        let n = parts.iter().position(is_it)?;
        // What is written comes in order: those before it are sent.
        parts.drain(..n);
        let part = parts.front()?;
        let before = addresses.start.addr() - part.bytes.as_ptr().addr();
        Some((part.file.clone(), part.at + before as u64))
    }

    /// Forgets them, when none of them can be on its way.
    fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Part>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartStream {
    pub(super) const fn new(stream: TcpStream, parts: Parts) -> Self {
        Self { stream, parts, sent: 0 }
    }

    fn poll_send(
        &mut self,
        context: &mut Context<'_>,
        (file, at): &(BlobFile, u64),
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.sent >= TURN_BYTES {
            self.sent = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if self.stream.poll_write_ready(context)?.is_pending() {
                self.sent = 0;
                return Poll::Pending;
            }
            let send = || file.send(&self.stream, *at, bytes.len().min(STEP_BYTES));
            match self.stream.try_io(Interest::WRITABLE, send) {
                // It was longer when it was handed out: never a short body that looks whole.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(sent) => {
                    self.sent += sent;
                    return Poll::Ready(Ok(sent));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Not of this file system, or not allowed: what stands for the part is the same bytes.
                Err(error) if is_refusal(&error) => {
                    return Pin::new(&mut self.stream).poll_write(context, bytes);
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Whether the system does not send such files at all, rather than failing at it.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported)
}

impl AsyncRead for PartStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PartStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.parts.find(bytes) {
            Some(place) => self.poll_send(context, &place, bytes),
            None => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut slices = slices;
        while let [first, rest @ ..] = slices {
            if first.is_empty() {
                slices = rest;
                continue;
            }
            if let Some(place) = self.parts.find(first) {
                return self.poll_send(context, &place, first);
            }
            break;
        }
        // Up to the next part: the head of an answer, most often.
        let next = slices.iter().position(|slice| self.parts.find(slice).is_some());
        let slices = &slices[..next.unwrap_or(slices.len())];
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper has written all that it had.
        self.parts.clear();
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const LEN: usize = 5_000_000;

    struct Site {
        _dir: tempfile::TempDir,
        file: BlobFile,
        content: Vec<u8>,
        parts: Parts,
        stream: PartStream,
        client: TcpStream,
    }

    impl Site {
        async fn new() -> Self {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let content: Vec<u8> = (0..LEN as u32).flat_map(|n| (n % 251).to_le_bytes()).collect();
            let content = content[..LEN].to_vec();
            fs::write(dir.path().join("blob"), &content).expect("written");
            let file = BlobFile::at(&dir.path().join("blob")).expect("there");
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("bound");
            let client = TcpStream::connect(address).await.expect("connected");
            let (stream, _) = listener.accept().await.expect("accepted");
            let parts = Parts::default();
            let stream = PartStream::new(stream, parts.clone());
            Self { _dir: dir, file, content, parts, stream, client }
        }

        /// Bytes that stand for a part, and are not those of the file: what comes out tells by which way it came.
        fn stand_in(&self, at: usize, len: usize) -> Bytes {
            let bytes = Bytes::from(vec![b'?'; len]);
            self.parts.stand_in(bytes.clone(), self.file.clone(), at as u64);
            bytes
        }

        async fn write(&mut self, mut slices: Vec<Bytes>) -> io::Result<()> {
            while !slices.is_empty() {
                let all: Vec<IoSlice<'_>> =
                    slices.iter().map(|slice| IoSlice::new(slice)).collect();
                let mut written = self.stream.write_vectored(&all).await?;
                while let Some(first) = slices.first_mut() {
                    let gone = written.min(first.len());
                    written -= gone;
                    bytes::Buf::advance(first, gone);
                    if !first.is_empty() {
                        break;
                    }
                    slices.remove(0);
                }
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn parts_come_from_their_files_between_what_is_in_memory() {
        let mut site = Site::new().await;
        let (first, second) = (site.stand_in(0, LEN), site.stand_in(77, 1000));
        let mut expected = b"head".to_vec();
        expected.extend(&site.content);
        expected.extend(b"between");
        // A part of what stands for a part is a part of that part.
        expected.extend(&site.content[177..1077]);
        expected.extend(b"tail");
        let slices =
            vec!["head".into(), first, "between".into(), second.slice(100..), "tail".into()];
        let mut client = std::mem::replace(&mut site.client, unconnected().await);
        let reading = tokio::spawn(async move {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.map(|_| read)
        });
        site.write(slices).await.expect("written");
        site.stream.flush().await.expect("flushed");
        assert!(site.parts.lock().is_empty(), "nothing is held when all is sent");
        drop(site);
        assert!(reading.await.expect("no panic").expect("read") == expected);
    }

    #[tokio::test]
    async fn what_stands_for_nothing_is_sent_as_it_is() {
        let mut site = Site::new().await;
        let part = site.stand_in(0, 100);
        let other = Bytes::from(vec![b'!'; 50]);
        site.write(vec![other]).await.expect("written");
        // By the plain way, too.
        site.stream.write_all(&part).await.expect("written");
        let mut read = vec![0; 150];
        site.client.read_exact(&mut read).await.expect("read");
        assert_eq!((&read[..50], &read[50..]), (&[b'!'; 50][..], &site.content[..100]));
    }

    #[tokio::test]
    async fn where_the_system_sends_no_files_their_bytes_are_sent() {
        let mut site = Site::new().await;
        // Nothing can be sent from a directory.
        site.file = BlobFile::at(std::path::Path::new("/")).expect("there");
        let part = site.stand_in(0, 100);
        site.write(vec![part]).await.expect("written");
        let mut read = [0; 100];
        site.client.read_exact(&mut read).await.expect("read");
        assert_eq!(read, [b'?'; 100]);
    }

    #[tokio::test]
    async fn a_file_that_ends_early_ends_the_connection() {
        let mut site = Site::new().await;
        let part = site.stand_in(LEN - 10, 20);
        let error = site.write(vec![part]).await.expect_err("ten are missing");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    async fn unconnected() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected")
    }
}
