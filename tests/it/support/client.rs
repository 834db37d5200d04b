//! A client that follows nothing, retries nothing and sees where an answer breaks off.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};
use wharf::oci::ErrorBody;

use super::deadline;

/// Header lines of a request; a name may come more than once.
pub(crate) type Headers<'a> = &'a [(&'a str, &'a str)];

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Result<Bytes, Cut>,
}

/// A body that ended before its end.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) received: Bytes,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// No connection.
    Refused,
    /// A connection, but no head that is HTTP.
    NoHead,
}

/// An answer whose body is read piece by piece. Dropping it closes the connection.
pub(crate) struct Stream {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    /// Moves bytes between the body and the socket.
    _connection: JoinSet<()>,
}

pub(crate) async fn get(addr: SocketAddr, path: &str, headers: Headers<'_>) -> Answer {
    request("GET", addr, path, headers).await
}

pub(crate) async fn head(addr: SocketAddr, path: &str, headers: Headers<'_>) -> Answer {
    request("HEAD", addr, path, headers).await
}

/// A request without a body, and its whole answer.
///
/// # Panics
/// If no answer begins, or it does not end within 10 seconds.
pub(crate) async fn request(
    method: &str,
    addr: SocketAddr,
    path: &str,
    headers: Headers<'_>,
) -> Answer {
    match open(method, addr, path, headers).await {
        Ok(stream) => stream.rest().await,
        Err(why) => panic!("{method} {path} got no answer: {why:?}"),
    }
}

/// A `GET` that comes from the address `from` of this machine, all of 127.0.0.0/8 among them, and its whole answer.
pub(crate) async fn get_from(
    from: Ipv4Addr,
    addr: SocketAddr,
    path: &str,
    headers: Headers<'_>,
) -> Answer {
    let answer = open_from(from, addr, path, headers).await;
    answer.expect("an answer begins").rest().await
}

/// The same; the answer's head, and its body to be read.
///
/// # Errors
/// If no answer begins.
pub(crate) async fn open_from(
    from: Ipv4Addr,
    addr: SocketAddr,
    path: &str,
    headers: Headers<'_>,
) -> Result<Stream, NoAnswer> {
    let answer = async {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((from, 0).into()).expect("an address of this machine");
        let socket = socket.connect(addr).await.map_err(|_| NoAnswer::Refused)?;
        over(socket, "GET", addr, path, headers).await
    };
    deadline(&format!("an answer to GET {path}"), answer).await
}

/// Sends a request on a connection of its own; the answer's head, and its body to be read.
///
/// # Errors
/// If no answer begins.
///
/// # Panics
/// If the head does not come within 10 seconds.
pub(crate) async fn open(
    method: &str,
    addr: SocketAddr,
    path: &str,
    headers: Headers<'_>,
) -> Result<Stream, NoAnswer> {
    let answer = async {
        let socket = TcpStream::connect(addr).await.map_err(|_| NoAnswer::Refused)?;
        over(socket, method, addr, path, headers).await
    };
    deadline(&format!("an answer to {method} {path}"), answer).await
}

/// Sends a request on a connection that is open; the answer's head, and its body to be read.
///
/// # Errors
/// If no answer begins.
pub(crate) async fn over(
    connection: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &str,
    addr: SocketAddr,
    path: &str,
    headers: Headers<'_>,
) -> Result<Stream, NoAnswer> {
    let mut request = Request::builder().method(method).uri(path).header("host", addr.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<Bytes>::new()).expect("a request; send_raw for others");
    let io = TokioIo::new(connection);
    let (mut sender, driver) = http1::handshake(io).await.map_err(|_| NoAnswer::NoHead)?;
    let mut connection = JoinSet::new();
    connection.spawn(async move {
        // What breaks the connection is seen by whoever reads the body.
        let _ = driver.await;
    });
    let answer = sender.send_request(request).await.map_err(|_| NoAnswer::NoHead)?;
    Ok(Stream::new(answer, connection))
}

/// Sends `bytes` as they are and returns all that comes back until the other side closes.
pub(crate) async fn send_raw(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let exchange = async {
        let mut socket = TcpStream::connect(addr).await.expect("someone listens");
        // A server that has heard enough may close before it has read all, so neither error is one here.
        let _ = socket.write_all(bytes).await;
        let _ = socket.read_to_end(&mut answer).await;
    };
    deadline("the other side to close", exchange).await;
    answer
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// The body, which is whole.
    pub(crate) fn bytes(&self) -> &Bytes {
        match &self.body {
            Ok(body) => body,
            Err(cut) => panic!("the body was cut after {} bytes", cut.received.len()),
        }
    }

    /// The body, which is JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(self.bytes()).expect("JSON")
    }

    /// Status and the code of the error body of the distribution specification, which must be there.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let body: ErrorBody = serde_json::from_slice(self.bytes()).expect("an OCI error body");
        (self.status.as_u16(), body.errors[0].code.as_str().to_owned())
    }

    /// How wharf came by the answer.
    pub(crate) fn cache(&self) -> &str {
        self.header("wharf-cache").unwrap_or("unsaid")
    }
}

impl Stream {
    /// Over a connection that lives as long as the tasks in `connection`, or as whoever else holds it.
    pub(super) fn new(answer: Response<Incoming>, connection: JoinSet<()>) -> Self {
        let (head, body) = answer.into_parts();
        Self { status: head.status, headers: head.headers, body, _connection: connection }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// The next piece of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            let frame = match deadline("more of the body", self.body.frame()).await? {
                Ok(frame) => frame,
                Err(error) => return Some(Err(error)),
            };
            if let Ok(data) = frame.into_data() {
                return Some(Ok(data));
            }
        }
    }

    /// Reads until at least `count` more bytes of the body are there.
    ///
    /// # Panics
    /// If the body ends before.
    pub(crate) async fn read(&mut self, count: usize) -> Bytes {
        let mut bytes = BytesMut::new();
        while bytes.len() < count {
            match self.chunk().await {
                Some(Ok(data)) => bytes.extend_from_slice(&data),
                end => panic!("the body ended after {} of {count} bytes: {end:?}", bytes.len()),
            }
        }
        bytes.freeze()
    }

    /// Reads what is left of the body.
    pub(crate) async fn rest(mut self) -> Answer {
        let mut bytes = BytesMut::new();
        let mut cut = false;
        while let Some(chunk) = self.chunk().await {
            match chunk {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(_) => {
                    cut = true;
                    break;
                }
            }
        }
        let bytes = bytes.freeze();
        let body = if cut { Err(Cut { received: bytes }) } else { Ok(bytes) };
        Answer { status: self.status, headers: self.headers, body }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
