//! Parts of files on their way to a socket, which the system sends without their coming by this process (`sendfile`).
//!
//! hyper's writer keeps large buffers as they are when the stream takes several at once. So a part of a file goes through
//! hyper as [`Bytes`] that stand for it: [`PartStream`], under hyper, knows them by their address, which nothing else has,
//! and has the system send the part instead. hyper's framing, order and time-outs stay in charge.
//!
//! What stands for parts are zeros, which must never be sent. They are not: nothing at their address is written as it is,
//! what does not come in the order in which it was handed out ends the connection, and so does what has not come when hyper
//! has written all that it had: then it would have been copied.
//!
//! Long by its tests.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    ops::Range,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use crate::pull::{BlobFile, PART_BYTES, SendsParts};

/// Bytes that the system sends by one call.
const STEP_BYTES: usize = 1024 * 1024;

/// Bytes that one connection sends before others have their turn.
const TURN_BYTES: usize = 2 * 1024 * 1024;

/// Bytes that are read at once where the system sends no files.
const READ_BYTES: usize = 64 * 1024;

/// What stands for every part of every connection. Nobody reads it, and so it takes addresses, but no memory.
static STAND_IN: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; PART_BYTES]);

/// The parts of one connection that are not sent yet. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts(Arc<Mutex<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    /// In the order in which they come.
    parts: VecDeque<Part>,
    /// The system sends no such files.
    refused: bool,
}

/// What is left to send of a part of a file.
#[derive(Clone, Debug)]
struct Part {
    file: BlobFile,
    /// In the file.
    range: Range<u64>,
    /// Where in what stands for it.
    at: usize,
}

/// A plain connection that knows its parts.
#[derive(Debug)]
pub(super) struct PartStream {
    stream: TcpStream,
    parts: Parts,
    /// Bytes sent since others had their turn.
    sent: usize,
}

impl SendsParts for Parts {
    fn stand_in(&self, file: &BlobFile, range: Range<u64>) -> Bytes {
        let most = range.start + PART_BYTES as u64;
        let range = range.start..range.end.min(most);
        let bytes = Bytes::from_static(&STAND_IN[..(range.end - range.start) as usize]);
        self.lock().parts.push_back(Part { file: file.clone(), range, at: 0 });
        bytes
    }
}

impl Parts {
    /// Whether the system sends files as such, as far as is known.
    pub(super) fn are_sent(&self) -> bool {
        !self.lock().refused
    }

    /// The part that `bytes` stand for; `None` where they are bytes like any others.
    ///
    /// # Errors
    /// When it is not that part's turn.
    fn find(&self, bytes: &[u8]) -> io::Result<Option<Part>> {
        let Some(at) = place(bytes) else { return Ok(None) };
        match self.lock().parts.front() {
            Some(part) if part.at == at && bytes.len() as u64 <= part.len() => {
                let mut part = part.clone();
                part.range.end = part.range.start + bytes.len() as u64;
                Ok(Some(part))
            }
            _ => Err(io::Error::other("a part of a file is not where it was handed out")),
        }
    }

    /// So many bytes of the first are on their way.
    fn sent(&self, bytes: usize) {
        let mut waiting = self.lock();
        let Some(part) = waiting.parts.front_mut() else { return };
        part.at += bytes;
        part.range.start += bytes as u64;
        if part.range.is_empty() {
            waiting.parts.pop_front();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    const fn len(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Reads the beginning of it. It is in memory: it does not wait for the disk.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.len()).map_or(buffer.len(), |len| len.min(buffer.len()));
        self.file.read_at(&mut buffer[..most], self.range.start)
    }
}

/// Where in what stands for parts these bytes lie.
fn place(bytes: &[u8]) -> Option<usize> {
    let at = bytes.as_ptr().addr().checked_sub(STAND_IN.as_ptr().addr())?;
    (at < PART_BYTES && !bytes.is_empty()).then_some(at)
}

impl PartStream {
    pub(super) const fn new(stream: TcpStream, parts: Parts) -> Self {
        Self { stream, parts, sent: 0 }
    }

    fn poll_send(&mut self, context: &mut Context<'_>, part: &Part) -> Poll<io::Result<usize>> {
        if self.sent >= TURN_BYTES {
            self.sent = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = usize::try_from(part.len()).map_or(STEP_BYTES, |len| len.min(STEP_BYTES));
        loop {
            if self.stream.poll_write_ready(context)?.is_pending() {
                self.sent = 0;
                return Poll::Pending;
            }
            if !self.parts.are_sent() {
                return self.poll_read_and_send(context, part);
            }
            let send = || part.file.send(&self.stream, part.range.start, most);
            match self.stream.try_io(Interest::WRITABLE, send) {
                Ok(sent) => return Poll::Ready(self.done(sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Not of this file system, or not allowed.
                Err(error) if is_refusal(&error) => self.parts.lock().refused = true,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_read_and_send(
        &mut self,
        context: &mut Context<'_>,
        part: &Part,
    ) -> Poll<io::Result<usize>> {
        let mut buffer = vec![0; READ_BYTES];
        let read = part.read(&mut buffer)?;
        let sent = match read {
            0 => 0,
            _ => ready!(Pin::new(&mut self.stream).poll_write(context, &buffer[..read])?),
        };
        Poll::Ready(self.done(sent))
    }

    fn done(&mut self, sent: usize) -> io::Result<usize> {
        if sent == 0 {
            // The file was longer when it was handed out: never a short body that looks whole.
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.sent += sent;
        self.parts.sent(sent);
        Ok(sent)
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
        match self.parts.find(bytes)? {
            Some(part) => self.poll_send(context, &part),
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
            if let Some(part) = self.parts.find(first)? {
                return self.poll_send(context, &part);
            }
            break;
        }
        // Up to the next part: the head of an answer, most often.
        let next = slices.iter().position(|slice| place(slice).is_some());
        let slices = &slices[..next.unwrap_or(slices.len())];
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper has written all that it had.
        if !self.parts.lock().parts.is_empty() {
            return Poll::Ready(Err(io::Error::other("a part of a file was not sent as such")));
        }
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
        task::JoinHandle,
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

        fn stand_in(&self, range: Range<usize>) -> Bytes {
            self.parts.stand_in(&self.file, range.start as u64..range.end as u64)
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

    /// All that comes to the client until the stream is dropped.
    async fn read_to_end(site: &mut Site) -> JoinHandle<Vec<u8>> {
        let mut client = std::mem::replace(&mut site.client, unconnected().await);
        tokio::spawn(async move {
            let mut read = Vec::new();
            client.read_to_end(&mut read).await.expect("read");
            read
        })
    }

    #[tokio::test]
    async fn parts_come_from_their_files_between_what_is_in_memory() {
        let mut site = Site::new().await;
        let slices = vec![
            "head".into(),
            site.stand_in(0..PART_BYTES),
            site.stand_in(PART_BYTES..2 * PART_BYTES),
            "between".into(),
            site.stand_in(77..1077),
            "tail".into(),
        ];
        let expected = [
            b"head",
            &site.content[..2 * PART_BYTES],
            b"between",
            &site.content[77..1077],
            b"tail",
        ]
        .concat();
        let reading = read_to_end(&mut site).await;
        site.write(slices).await.expect("written");
        site.stream.flush().await.expect("flushed");
        assert!(site.parts.are_sent(), "as parts");
        drop(site);
        assert!(reading.await.expect("no panic") == expected);
    }

    #[tokio::test]
    async fn what_stands_for_nothing_is_sent_as_it_is() {
        let mut site = Site::new().await;
        let part = site.stand_in(0..100);
        let other = Bytes::from(vec![b'!'; 50]);
        site.write(vec![other]).await.expect("written");
        // By the plain way, too.
        site.stream.write_all(&part).await.expect("written");
        let mut read = vec![0; 150];
        site.client.read_exact(&mut read).await.expect("read");
        assert_eq!((&read[..50], &read[50..]), (&[b'!'; 50][..], &site.content[..100]));
    }

    #[tokio::test]
    async fn what_stands_for_a_part_is_never_sent_itself() {
        let mut site = Site::new().await;
        let (first, second) = (site.stand_in(0..100), site.stand_in(100..200));
        let error = site.write(vec![first.slice(1..)]).await.expect_err("its beginning is missing");
        assert!(error.to_string().contains("not where it was handed out"), "{error}");
        site.write(vec![first.clone()]).await.expect("written");
        let error = site.stream.flush().await.expect_err("the second part is missing");
        assert!(error.to_string().contains("not sent as such"), "{error}");
        site.write(vec![second]).await.expect("written");
        site.stream.flush().await.expect("flushed");
        site.write(vec![first]).await.expect_err("it stands for nothing any more");
        let mut read = vec![0; 200];
        site.client.read_exact(&mut read).await.expect("read");
        assert!(read == site.content[..200]);
    }

    #[tokio::test]
    async fn where_the_system_sends_no_files_they_are_read() {
        let mut site = Site::new().await;
        site.parts.lock().refused = true;
        let part = site.stand_in(1000..1000 + PART_BYTES);
        let expected = site.content[1000..1000 + PART_BYTES].to_vec();
        let reading = read_to_end(&mut site).await;
        site.write(vec!["head".into(), part]).await.expect("written");
        site.stream.flush().await.expect("flushed");
        drop(site);
        assert!(reading.await.expect("no panic") == [b"head", &expected[..]].concat());
    }

    #[tokio::test]
    async fn that_the_system_sends_no_files_is_noticed() {
        let mut site = Site::new().await;
        // Nothing can be sent from a directory, nor read.
        site.file = BlobFile::at(std::path::Path::new("/")).expect("there");
        let part = site.stand_in(0..100);
        site.write(vec![part]).await.expect_err("it cannot be read");
        assert!(!site.parts.are_sent());
    }

    #[tokio::test]
    async fn a_file_that_ends_early_ends_the_connection() {
        for refused in [false, true] {
            let mut site = Site::new().await;
            site.parts.lock().refused = refused;
            let part = site.stand_in(LEN - 10..LEN + 10);
            let error = site.write(vec![part]).await.expect_err("ten are missing");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    async fn unconnected() -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected")
    }
}
