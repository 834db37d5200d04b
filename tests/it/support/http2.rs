//! Clients that speak HTTP/2: one that is well-behaved, and one that writes frame by frame what it likes.

use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::client::TlsStream;

use super::{
    TlsClient,
    client::{Answer, Headers, Stream},
    deadline,
};

/// One connection, on which several requests may be open.
#[derive(Debug)]
pub(crate) struct Http2 {
    addr: SocketAddr,
    sender: SendRequest<Empty<Bytes>>,
    connection: JoinSet<()>,
}

impl Http2 {
    /// One that takes so many bytes of each answer before it reads it.
    pub(crate) async fn connect(client: &TlsClient, addr: SocketAddr, window: u32) -> Self {
        let stream = client.connect(addr).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let opened = Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, driver) = opened.expect("HTTP/2");
        let mut connection = JoinSet::new();
        connection.spawn(async move {
            // What breaks the connection is seen by whoever reads a body.
            let _ = driver.await;
        });
        Self { addr, sender, connection }
    }

    /// The answer's head, and its body to be read.
    ///
    /// # Errors
    /// If no answer begins.
    pub(crate) async fn open(
        &self,
        method: &str,
        path: &str,
        headers: Headers<'_>,
    ) -> Result<Stream, hyper::Error> {
        let uri = format!("https://{}{path}", self.addr);
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let asked = self.sender.clone().send_request(request);
        Ok(Stream::new(deadline(&format!("an answer to {path}"), asked).await?, JoinSet::new()))
    }

    /// The whole answer.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: Headers<'_>) -> Answer {
        self.open(method, path, headers).await.expect("an answer").rest().await
    }

    /// Waits until the other side has ended the connection.
    pub(crate) async fn until_ended(mut self) {
        deadline("the connection to end", self.connection.join_next()).await;
    }
}

/// Kinds of frames ([RFC 9113 §6](https://www.rfc-editor.org/rfc/rfc9113#section-6)).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags of frames.
pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// One frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        Self { kind, flags, stream, payload: payload.to_vec() }
    }

    /// `GET` of a path below 127 bytes.
    pub(crate) fn get(stream: u32, path: &str) -> Self {
        // The static table of RFC 7541, Appendix A: 2 is GET, 7 https; 1 and 4 name authority and path.
        let mut block = vec![0x82, 0x87, 0x01, 5];
        block.extend_from_slice(b"wharf");
        block.extend_from_slice(&[0x04, u8::try_from(path.len()).expect("a short path")]);
        block.extend_from_slice(path.as_bytes());
        Self::new(HEADERS, END_STREAM | END_HEADERS, stream, &block)
    }

    /// The client takes the request back.
    pub(crate) fn reset(stream: u32) -> Self {
        Self::new(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
    }

    /// The number with which `RST_STREAM` and, last, `GOAWAY` say why.
    pub(crate) fn reason(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }

    /// As it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("short").to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend_from_slice(&[self.kind, self.flags]);
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// A connection on which frames are written and read one by one.
pub(crate) struct Frames(TlsStream<TcpStream>);

impl Frames {
    /// One that takes so many bytes of each answer, and never more.
    pub(crate) async fn connect(client: &TlsClient, addr: SocketAddr, window: u32) -> Self {
        let mut stream = client.connect(addr).await.expect("a handshake");
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
        let mut settings = vec![0, 4];
        settings.extend_from_slice(&window.to_be_bytes());
        let mut frames = Self(stream);
        assert!(frames.send(&[Frame::new(SETTINGS, 0, 0, &settings)]).await);
        frames
    }

    /// Sends frames; whether the other side still takes them.
    pub(crate) async fn send(&mut self, frames: &[Frame]) -> bool {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        let sent = async { self.0.write_all(&bytes).await.is_ok() && self.0.flush().await.is_ok() };
        deadline("frames to be taken", sent).await
    }

    /// The next frame; `None` when the connection is over.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        deadline("a frame", self.0.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        deadline("a frame", self.0.read_exact(&mut payload)).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().expect("four bytes"));
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this kind that is no acknowledgement; `None` when the connection is over before.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind && (!matches!(kind, SETTINGS | PING) || frame.flags & ACK == 0) {
                return Some(frame);
            }
        }
    }

    /// All frames until the connection is over.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut rest = Vec::new();
        while let Some(frame) = self.next().await {
            rest.push(frame);
        }
        rest
    }
}
