//! A connection whose answers are counted and not looked at.

use std::{
    future::poll_fn,
    io::{self, Write as _},
    net::SocketAddr,
    pin::Pin,
};

use rustix::net::{RecvFlags, recv};
use rustls::ClientConnection;
use tokio::{
    io::{AsyncRead as _, AsyncWriteExt as _, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::{Result, client::Buffer, records::Records};

/// Answers below this are read like any others; of longer ones the system throws the bytes away (`MSG_TRUNC`).
const SHORT_BYTES: u64 = 64 * 1024;

pub(crate) enum Wire {
    Plain(TcpStream),
    /// Encrypts what is asked, and counts what is answered.
    Tls(TcpStream, Box<ClientConnection>, Records),
}

pub(crate) async fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Wire {
    /// From now on nothing that comes is decrypted; what came before was.
    pub(crate) fn counting(stream: TlsStream<TcpStream>) -> Self {
        let (stream, session) = stream.into_inner();
        Self::Tls(stream, Box::new(session), Records::default())
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(request).await?,
            Self::Tls(stream, session, _) => {
                session.writer().write_all(request)?;
                let mut records = Vec::new();
                while session.wants_write() {
                    session.write_tls(&mut records)?;
                }
                stream.write_all(&records).await?;
            }
        }
        Ok(())
    }

    /// Throws away what comes next of an answer of `bytes`; how much that was, or `None` at the connection's end.
    pub(crate) async fn skip(&mut self, bytes: u64, buffer: &Buffer) -> Result<Option<u64>> {
        let read = match self {
            Self::Plain(stream) if bytes >= SHORT_BYTES => truncate(stream, buffer).await?,
            Self::Plain(stream) | Self::Tls(stream, ..) => read(stream, buffer).await?,
        };
        if read == 0 {
            return Ok(None);
        }
        Ok(Some(match self {
            Self::Plain(_) => read as u64,
            Self::Tls(.., records) => records.take(&buffer.0.borrow()[..read])?,
        }))
    }
}

async fn read(stream: &mut TcpStream, buffer: &Buffer) -> io::Result<usize> {
    poll_fn(|context| {
        let mut bytes = buffer.0.borrow_mut();
        let mut into = ReadBuf::new(&mut bytes);
        let polled = Pin::new(&mut *stream).poll_read(context, &mut into);
        polled.map_ok(|()| into.filled().len())
    })
    .await
}

/// Has the system throw bytes away: as many as the buffer would hold, which it does not write to.
pub(super) async fn truncate(stream: &TcpStream, buffer: &Buffer) -> io::Result<usize> {
    let throw_away = || {
        let mut bytes = buffer.0.borrow_mut();
        let (_, length) = recv(stream, &mut bytes[..], RecvFlags::TRUNC | RecvFlags::DONTWAIT)?;
        Ok(length)
    };
    loop {
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, throw_away) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}
