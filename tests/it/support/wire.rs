//! HTTP/1.1 by hand, because a server library would not let an answer be wrong.
//!
//! What is counted as sent is what the socket took.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

use super::{
    hub::{Host, Shared},
    log::{Entry, Seen, accepted, text},
    reply::{Length, Limit, Opening, Reply},
    serve::{Request, Target},
};

/// Longest request head that is read, in bytes.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// A body is sent in pieces of at most this many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Answers the requests of one connection until either side ends it.
pub(super) async fn serve(
    host: Host,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shared: &Shared,
) {
    let mut connection = Connection { host, stream, input: BytesMut::new() };
    while let Ok(Some(request)) = connection.request().await {
        match connection.answer(&request, shared).await {
            Ok(Next::Request) => {}
            Ok(Next::Close) => {
                let _ = connection.stream.shutdown().await;
                return;
            }
            Ok(Next::Cut) | Err(_) => return,
        }
    }
}

struct Connection<S> {
    host: Host,
    stream: S,
    /// Read, but not yet parsed.
    input: BytesMut,
}

/// What follows an answer.
enum Next {
    /// Another request.
    Request,
    /// The end, said properly (over TLS with a `close_notify`).
    Close,
    /// The end, all of a sudden.
    Cut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// The next request; `None` if the client has no more.
    async fn request(&mut self) -> io::Result<Option<Request>> {
        loop {
            if let Some((request, length)) = parse(self.host, &self.input)? {
                self.input = self.input.split_off(length);
                return Ok(Some(request));
            }
            if self.input.len() > HEAD_MAX_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn answer(&mut self, request: &Request, shared: &Shared) -> io::Result<Next> {
        let target = Target::of(request, shared);
        let fault = shared.script.take(request, &target);
        let range = text(&request.headers, header::RANGE);
        let honoured =
            range.as_deref().filter(|_| !fault.as_ref().is_some_and(|f| f.ignores_range()));
        let mut reply = target.answer(request, honoured, shared);
        if let Some(fault) = fault {
            let query = if request.query.is_empty() { "" } else { "?" };
            let url = format!("{}{}{query}{}", shared.url(self.host), request.path, request.query);
            fault.apply(&mut reply, &url);
        }
        let entry = shared.log.begin(Seen {
            host: self.host,
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            authorization: request.headers.contains_key(header::AUTHORIZATION),
            accept: accepted(&request.headers),
            accept_encoding: text(&request.headers, header::ACCEPT_ENCODING),
            headers: request.headers.clone(),
            status: (reply.opening == Opening::Head).then(|| reply.status.as_u16()),
            body_bytes_sent: 0,
            range,
        });
        if let Some(gate) = &reply.hold {
            self.unless_gone(gate.beyond(u64::MAX - 1)).await?;
        }
        match reply.opening {
            Opening::Head => {}
            Opening::Stall => return self.unless_gone(std::future::pending()).await,
            Opening::Close => return Ok(Next::Cut),
            Opening::Garbage => {
                self.stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n").await?;
                return Ok(Next::Close);
            }
        }
        let closes = text(&request.headers, header::CONNECTION)
            .is_some_and(|value| value == "close")
            || matches!(reply.length, Length::Off(_));
        self.stream.write_all(&head(&reply)).await?;
        self.stream.flush().await?;
        if !request.is_head() {
            if let Some(Limit::Cut) = self.body(&reply, &entry, shared).await? {
                return Ok(Next::Cut);
            }
        }
        Ok(if closes { Next::Close } else { Next::Request })
    }

    /// Sends the body as far as it is to go; the limit that was hit, if one was.
    async fn body(
        &mut self,
        reply: &Reply,
        entry: &Entry,
        shared: &Shared,
    ) -> io::Result<Option<Limit>> {
        let total = reply.body.len();
        let limit = reply.limit.filter(|(bytes, _)| *bytes < total as u64);
        let end = limit.map_or(total, |(bytes, _)| usize::try_from(bytes).unwrap_or(total));
        let began = Instant::now();
        let mut sent = 0;
        while sent < end {
            let mut until = end.min(sent + PIECE_BYTES);
            if let Some(gate) = &reply.gate {
                let allowed = self.unless_gone(gate.beyond(sent as u64)).await?;
                until = until.min(usize::try_from(allowed).unwrap_or(until));
            }
            if let Some(pace) = reply.pace {
                let due = Duration::from_secs_f64(until as f64 / pace as f64);
                tokio::time::sleep_until(began + due).await;
            }
            let piece = reply.body.slice(sent..until);
            sent = until;
            self.piece(reply.length, piece, entry, shared).await?;
        }
        match limit {
            Some((_, Limit::Stall)) => self.unless_gone(std::future::pending()).await,
            Some((_, Limit::Cut)) => Ok(Some(Limit::Cut)),
            None => {
                if reply.length == Length::Chunked {
                    self.stream.write_all(b"0\r\n\r\n").await?;
                    self.stream.flush().await?;
                }
                Ok(None)
            }
        }
    }

    async fn piece(
        &mut self,
        length: Length,
        mut piece: Bytes,
        entry: &Entry,
        shared: &Shared,
    ) -> io::Result<()> {
        let chunked = length == Length::Chunked;
        if chunked {
            self.stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
        }
        while !piece.is_empty() {
            let written = self.stream.write_buf(&mut piece).await?;
            shared.log.sent(entry, written);
        }
        if chunked {
            self.stream.write_all(b"\r\n").await?;
        }
        self.stream.flush().await
    }

    /// Waits for `event`; an error as soon as the client has gone, so that nothing waits for no one.
    async fn unless_gone<T>(&mut self, event: impl Future<Output = T>) -> io::Result<T> {
        let gone = async {
            while self.input.len() <= HEAD_MAX_BYTES {
                if matches!(self.stream.read_buf(&mut self.input).await, Ok(0) | Err(_)) {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            value = event => Ok(value),
            () = gone => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

/// The request at the beginning of `input` and its length; `None` if it is not all there yet.
fn parse(host: Host, input: &[u8]) -> io::Result<Option<(Request, usize)>> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidData);
    let mut lines = [httparse::EMPTY_HEADER; 100];
    let mut head = httparse::Request::new(&mut lines);
    let length = match head.parse(input).map_err(|_| invalid(()))? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let mut headers = HeaderMap::new();
    for line in head.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| invalid(()))?;
        let value = HeaderValue::from_bytes(line.value).map_err(|_| invalid(()))?;
        headers.append(name, value);
    }
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let body: usize = declared.map_or(Ok(0), str::parse).map_err(|_| invalid(()))?;
    if body > HEAD_MAX_BYTES {
        return Err(invalid(()));
    }
    let Some(body) = input.get(length..length + body) else { return Ok(None) };
    let target = head.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let request = Request {
        host,
        method: head.method.unwrap_or_default().to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: body.to_vec(),
    };
    Ok(Some((request, length + body.len())))
}

fn head(reply: &Reply) -> Vec<u8> {
    let reason = reply.status.canonical_reason().unwrap_or("Unknown");
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", reply.status.as_u16()).into_bytes();
    let mut line = |name: &str, value: &[u8]| {
        head.extend_from_slice(name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value);
        head.extend_from_slice(b"\r\n");
    };
    for (name, value) in &reply.headers {
        line(name.as_str(), value.as_bytes());
    }
    match reply.length {
        Length::Chunked => line("transfer-encoding", b"chunked"),
        Length::Exact => line("content-length", reply.body.len().to_string().as_bytes()),
        Length::Off(off) => {
            let told = (reply.body.len() as u64).saturating_add_signed(off);
            line("content-length", told.to_string().as_bytes());
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}
