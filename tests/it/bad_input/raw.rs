//! Requests that no HTTP library would send, and answers read by hand.

use std::{io, net::SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    client::{Answer, Cut},
    deadline,
};

/// A request's head as it is meant to be, and the end of its connection.
pub(super) fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: wharf\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// Sends `bytes`, and reads until wharf ends the connection, which must not be by a reset.
pub(super) async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut heard = Vec::new();
    let talk = async {
        let mut socket = TcpStream::connect(addr).await?;
        let (mut reader, mut writer) = socket.split();
        // What is sent after wharf has heard enough is lost; what counts is that the answer is not.
        let (_, ended) = tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut heard));
        ended?;
        // A reset that came behind the answer would have come before it to a client further away.
        socket.take_error()?.map_or(Ok(()), Err)
    };
    let ended: io::Result<()> = deadline("wharf to end the connection", talk).await;
    ended.map_err(|error| format!("after {} bytes: {error}", heard.len()))?;
    Ok(heard)
}

/// Sends `bytes` and nothing more, ever; what comes back.
pub(super) async fn hang_up_after(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    let talk = async {
        let mut socket = TcpStream::connect(addr).await?;
        socket.write_all(bytes).await?;
        socket.shutdown().await?;
        socket.read_to_end(&mut heard).await
    };
    deadline("wharf to end the connection", talk).await.expect("it is not reset");
    heard
}

/// The answers to requests by these methods, one after the other, and nothing behind them.
pub(super) fn answers(heard: &[u8], methods: &[&str]) -> Result<Vec<Answer>, String> {
    let mut rest = heard;
    let mut answers = Vec::new();
    for method in methods {
        let (answer, length) = answer(rest, *method == "HEAD")
            .ok_or_else(|| format!("no answer: {}", rest.escape_ascii()))?;
        answers.push(answer);
        rest = &rest[length..];
    }
    if rest.is_empty() { Ok(answers) } else { Err(format!("too much: {}", rest.escape_ascii())) }
}

fn answer(heard: &[u8], to_head: bool) -> Option<(Answer, usize)> {
    let mut lines = [httparse::EMPTY_HEADER; 40];
    let mut head = httparse::Response::new(&mut lines);
    let httparse::Status::Complete(length) = head.parse(heard).ok()? else { return None };
    let mut headers = HeaderMap::new();
    for line in head.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(line.value).ok()?);
    }
    let told = headers.get("content-length").and_then(|told| told.to_str().ok()?.parse().ok());
    let told = if to_head { 0 } else { told.unwrap_or(0) };
    let left = &heard[length..];
    let body = match left.get(..told) {
        Some(body) => Ok(body.to_vec().into()),
        None => Err(Cut { received: left.to_vec().into() }),
    };
    let taken = length + told.min(left.len());
    let status = StatusCode::from_u16(head.code?).ok()?;
    Some((Answer { status, headers, body }, taken))
}
