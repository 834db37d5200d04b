//! Answers to what is no request: written without hyper, on the connection that hyper gave up.

use std::{
    io,
    time::{Duration, SystemTime},
};

use bytes::BytesMut;
use http::{
    Response,
    header::{CONNECTION, DATE},
};
use http_body_util::BodyExt as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};

use super::body::Body;

/// How long a client that was refused may go on sending.
const LINGER: Duration = Duration::from_secs(1);

/// How much of it is taken in.
const LINGER_BYTES: usize = 1024 * 1024;

/// Writes `answer` as the last one on `stream`.
///
/// # Errors
/// When the client does not take it.
pub(super) async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    answer: Response<Body>,
) -> io::Result<()> {
    let (mut head, body) = answer.into_parts();
    head.headers.insert(CONNECTION, http::HeaderValue::from_static("close"));
    if let Ok(date) = httpdate::fmt_http_date(SystemTime::now()).try_into() {
        head.headers.insert(DATE, date);
    }
    let mut bytes = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&body.collect().await.map_err(io::Error::from)?.to_bytes());
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}

/// Takes in what a refused client still sends, for a moment: a socket that is closed on unread bytes resets its
/// connection, and an answer on its way may be lost with it ([RFC 9112 §9.6](https://www.rfc-editor.org/rfc/rfc9112#section-9.6)).
pub(super) async fn linger(stream: &mut (impl AsyncRead + Unpin)) {
    // Not in the future itself: every connection's would have room for it, and few ever come here.
    let mut waste = BytesMut::zeroed(4096);
    let to_the_end = async {
        let mut taken = 0;
        while taken < LINGER_BYTES {
            match stream.read(&mut waste).await {
                Ok(0) | Err(_) => return,
                Ok(count) => taken += count,
            }
        }
    };
    // Whoever sends for longer has had its answer for as long.
    let _ = timeout(LINGER, to_the_end).await;
}
