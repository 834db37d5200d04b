//! The client of cold pulls: one thread, one fixed buffer, no hashing; bodies that nobody keeps are not even copied.

use std::{cell::RefCell, future::Future, io, net::SocketAddr, time::Instant};

use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    runtime::{self, Runtime},
    time::{Duration, timeout},
};

use super::{Result, now, wire::truncate};

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
pub(crate) struct Buffer(pub(super) RefCell<Box<[u8]>>);

/// A kept-alive connection, and one more to the host that it was last redirected to.
pub(crate) struct Connection<'a> {
    wire: Wire<'a>,
    redirected: Option<Wire<'a>>,
    agent: Option<&'a str>,
}

struct Wire<'a> {
    stream: TcpStream,
    addr: SocketAddr,
    buffer: &'a Buffer,
}

/// What a request leads to.
enum Answer {
    Fetched(Fetched),
    /// The address and path that it is to be asked for at.
    Elsewhere(SocketAddr, String),
}

/// The head of an answer.
pub(super) struct Head {
    /// The body's length.
    pub(super) length: u64,
    /// Where it begins.
    pub(super) body: usize,
    elsewhere: Option<(SocketAddr, String)>,
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

    /// What everything is read into.
    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self, addr: SocketAddr) -> Result<Connection<'_>> {
        let wire = Wire::open(addr, &self.buffer).await?;
        Ok(Connection { wire, redirected: None, agent: None })
    }

    /// Opens a connection on which the client says who it is.
    pub(crate) async fn connect_as<'a>(
        &'a self,
        agent: &'a str,
        addr: SocketAddr,
    ) -> Result<Connection<'a>> {
        Ok(Connection { agent: Some(agent), ..self.connect(addr).await? })
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

    /// Asks for `path` from byte `from` on, and reads what comes; from another host, if one is told.
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
        let (agent, buffer) = (self.agent, self.wire.buffer);
        let request = |host: SocketAddr, path: &str| {
            let range = if from > 0 { format!("range: bytes={from}-\r\n") } else { String::new() };
            let agent = agent.map_or_else(String::new, |agent| format!("user-agent: {agent}\r\n"));
            format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n{agent}{range}\r\n")
        };
        let asked = request(self.wire.addr, path);
        let (addr, path) = match self.wire.ask(&asked, keep.as_deref_mut()).await? {
            Answer::Fetched(fetched) => return Ok(fetched),
            Answer::Elsewhere(addr, path) => (addr, path),
        };
        let wire = match self.redirected.take().filter(|wire| wire.addr == addr) {
            Some(wire) => wire,
            None => Wire::open(addr, buffer).await?,
        };
        let answer = self.redirected.insert(wire).ask(&request(addr, &path), keep).await?;
        match answer {
            Answer::Fetched(fetched) => Ok(fetched),
            Answer::Elsewhere(..) => Err("redirected twice".into()),
        }
    }
}

impl<'a> Wire<'a> {
    async fn open(addr: SocketAddr, buffer: &'a Buffer) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, addr, buffer })
    }

    async fn ask(&mut self, request: &str, mut keep: Option<&mut Vec<u8>>) -> Result<Answer> {
        let asked = request.lines().next().unwrap_or_default();
        self.stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        let (Head { length, elsewhere, .. }, mut bytes) = loop {
            let read = self.read().await?;
            if read == 0 {
                return Err(format!("no answer to {asked}").into());
            }
            head.extend_from_slice(&self.buffer.0.borrow()[..read]);
            if let Some(parsed) = parse(&head, asked)? {
                let bytes = (head.len() - parsed.body) as u64;
                break (parsed, bytes);
            }
        };
        if let Some((addr, path)) = elsewhere {
            return Ok(Answer::Elsewhere(addr, path));
        }
        if let Some(keep) = &mut keep {
            let body = head.len() - usize::try_from(bytes)?;
            keep.extend_from_slice(&head[body..]);
        }
        let length = if request.starts_with("HEAD ") { 0 } else { length };
        let mut first_byte = now();
        let mut broken = false;
        while bytes < length && !broken {
            // A body that is reset in the middle is one that broke off.
            let read = match keep {
                Some(_) => self.read().await.unwrap_or(0),
                None => truncate(&self.stream, self.buffer).await.unwrap_or(0),
            };
            if bytes == 0 {
                first_byte = now();
            }
            if let Some(keep) = &mut keep {
                keep.extend_from_slice(&self.buffer.0.borrow()[..read]);
            }
            bytes += read as u64;
            broken = read == 0;
        }
        let is_whole = bytes == length;
        Ok(Answer::Fetched(Fetched { first_byte, ended: now(), bytes, is_whole }))
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

/// The answer's head; `None` while it is not all there. Only a redirect without a body is one to follow.
pub(super) fn parse(head: &[u8], asked: &str) -> Result<Option<Head>> {
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut lines);
    let httparse::Status::Complete(body) = response.parse(head)? else { return Ok(None) };
    let value = |name: &str| -> Result<&str> {
        let line = response.headers.iter().find(|line| line.name.eq_ignore_ascii_case(name));
        let line = line.ok_or_else(|| format!("an answer without {name}"))?;
        Ok(std::str::from_utf8(line.value)?)
    };
    let length = value("content-length")?.parse()?;
    let elsewhere = match response.code.unwrap_or_default() {
        307 if length == 0 => {
            let (host, path) = value("location")?
                .strip_prefix("http://")
                .and_then(|url| url.split_at_checked(url.find('/')?))
                .ok_or("a redirect to no address")?;
            Some((host.parse()?, path.to_owned()))
        }
        200..300 => None,
        status => return Err(format!("{asked} was answered {status}").into()),
    };
    Ok(Some(Head { length, body, elsewhere }))
}
