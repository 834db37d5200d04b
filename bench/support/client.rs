//! The load client: one thread, one fixed buffer for everything, no hashing.

use std::{cell::RefCell, future::Future, io, net::SocketAddr, time::Instant};

use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    runtime::{self, Runtime},
    time::{Duration, timeout},
};

use super::{Result, now};

/// Bytes read at once, at most.
const BUFFER_BYTES: usize = 256 * 1024;

/// No single answer takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// Reads answers and throws them away.
pub(crate) struct Client {
    runtime: Runtime,
    buffer: Buffer,
}

/// What is read last; every connection writes over it.
pub(crate) struct Buffer(RefCell<Box<[u8]>>);

/// A kept-alive connection.
pub(crate) struct Connection<'a> {
    stream: TcpStream,
    addr: SocketAddr,
    buffer: &'a Buffer,
}

/// An answer that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetched {
    /// When the first byte of the body was there; of the head, if there is no body.
    pub(crate) first_byte: Instant,
    /// When the last one was.
    pub(crate) ended: Instant,
    /// Bytes of the body.
    pub(crate) bytes: u64,
    /// Whether these are as many as announced.
    pub(crate) is_whole: bool,
}

impl Client {
    pub(crate) fn new() -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let buffer = Buffer(RefCell::new(vec![0; BUFFER_BYTES].into()));
        Ok(Self { runtime, buffer })
    }

    /// Runs `work` to its end; fails when that takes longer than anything here may.
    pub(crate) fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let work = async { timeout(PATIENCE, work).await };
        self.runtime.block_on(work).map_err(|_| format!("no end within {PATIENCE:?}"))?
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self, addr: SocketAddr) -> Result<Connection<'_>> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, addr, buffer: &self.buffer })
    }

    /// The whole of `path`, on a connection of its own.
    pub(crate) fn get(&self, addr: SocketAddr, path: &str) -> Result<Fetched> {
        self.run(async { self.connect(addr).await?.get(path).await?.whole() })
    }

    /// A small document's bytes.
    pub(crate) fn document(&self, addr: SocketAddr, path: &str) -> Result<Vec<u8>> {
        self.run(async {
            let mut bytes = Vec::new();
            self.connect(addr).await?.ask("GET", path, 0, Some(&mut bytes)).await?.whole()?;
            Ok(bytes)
        })
    }
}

impl Connection<'_> {
    pub(crate) async fn get(&mut self, path: &str) -> Result<Fetched> {
        self.ask("GET", path, 0, None).await
    }

    pub(crate) async fn get_from(&mut self, path: &str, from: u64) -> Result<Fetched> {
        self.ask("GET", path, from, None).await
    }

    pub(crate) async fn head(&mut self, path: &str) -> Result<Fetched> {
        self.ask("HEAD", path, 0, None).await
    }

    /// Asks for `path` from byte `from` on, and reads what comes.
    ///
    /// # Errors
    /// When there is no answer, or it is no success; not when its body breaks off.
    async fn ask(
        &mut self,
        method: &str,
        path: &str,
        from: u64,
        mut keep: Option<&mut Vec<u8>>,
    ) -> Result<Fetched> {
        let range = if from > 0 { format!("range: bytes={from}-\r\n") } else { String::new() };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\naccept: */*\r\n{range}\r\n",
            self.addr
        );
        self.stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        let (length, mut bytes) = loop {
            let read = self.read().await?;
            if read == 0 {
                return Err(format!("no answer to {method} {path}").into());
            }
            head.extend_from_slice(&self.buffer.0.borrow()[..read]);
            if let Some((length, body)) = parse(&head, path)? {
                break (length, (head.len() - body) as u64);
            }
        };
        if let Some(keep) = &mut keep {
            let body = head.len() - usize::try_from(bytes)?;
            keep.extend_from_slice(&head[body..]);
        }
        let length = if method == "HEAD" { 0 } else { length };
        let mut first_byte = now();
        let mut broken = false;
        while bytes < length && !broken {
            // A body that is reset in the middle is one that broke off.
            let read = self.read().await.unwrap_or(0);
            if bytes == 0 {
                first_byte = now();
            }
            if let Some(keep) = &mut keep {
                keep.extend_from_slice(&self.buffer.0.borrow()[..read]);
            }
            bytes += read as u64;
            broken = read == 0;
        }
        Ok(Fetched { first_byte, ended: now(), bytes, is_whole: bytes == length })
    }

    async fn read(&self) -> io::Result<usize> {
        loop {
            self.stream.readable().await?;
            match self.stream.try_read(&mut self.buffer.0.borrow_mut()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

impl Fetched {
    /// # Errors
    /// When it is not whole.
    pub(crate) fn whole(self) -> Result<Self> {
        if self.is_whole {
            return Ok(self);
        }
        Err(format!("a body broke off after {} bytes", self.bytes).into())
    }
}

/// The body's length, and where it begins; `None` while the head is not all there.
fn parse(head: &[u8], path: &str) -> Result<Option<(u64, usize)>> {
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut lines);
    let httparse::Status::Complete(body) = response.parse(head)? else { return Ok(None) };
    let status = response.code.unwrap_or_default();
    if !(200..300).contains(&status) {
        return Err(format!("{path} was answered {status}").into());
    }
    let is_length = |line: &&httparse::Header<'_>| line.name.eq_ignore_ascii_case("content-length");
    let length = response.headers.iter().find(is_length).ok_or("an answer without a length")?;
    Ok(Some((std::str::from_utf8(length.value)?.parse()?, body)))
}
