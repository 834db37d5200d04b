//! The load on a server that has everything: one thread asks for one thing again and again, and counts what comes.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::try_join_all;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use wharf::oci::{Algorithm, Digest, Hasher};

use super::{
    Result,
    client::{Buffer, Client, parse},
    now,
    process::Process,
    tls::Tls,
    wire::{Wire, connect},
};

/// What a server sends on a TLS connection besides answers, at most: session tickets, and that it is over.
const BESIDES_BYTES: u64 = 4096;

/// What is asked for, and of whom.
pub(crate) struct Target<'a> {
    pub(crate) addr: SocketAddr,
    pub(crate) process: Process,
    pub(crate) path: &'a str,
    /// Of the body, which is checked once on each connection that is opened beforehand.
    pub(crate) digest: &'a Digest,
    pub(crate) tls: Option<&'a Tls>,
}

/// How much is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) connections: usize,
    /// By each connection.
    pub(crate) gets: u64,
    /// A new connection for each, handshake included, which the server is asked to close.
    pub(crate) fresh: bool,
}

/// What one server did.
pub(crate) struct Done {
    pub(crate) took: Duration,
    /// Of the server's CPU time.
    pub(crate) cpu: Duration,
    /// Of the client's own.
    pub(crate) client_cpu: Duration,
    /// From each question to the answer's last byte.
    pub(crate) waits: Vec<Duration>,
}

impl Work {
    pub(crate) fn total(&self) -> u64 {
        self.connections as u64 * self.gets
    }
}

impl Target<'_> {
    /// Asks once, which makes a cache keep it.
    ///
    /// # Errors
    /// When the answer's bytes are not those of the digest.
    pub(crate) fn check(&self, client: &Client) -> Result<()> {
        let request = self.request("");
        client.run(async { self.open_and_check(request.as_bytes()).await.map(|_| ()) })
    }

    /// Loads the server with `work`.
    ///
    /// # Errors
    /// When an answer is not as long as the first, whose bytes were right.
    pub(crate) fn load(&self, client: &Client, work: Work) -> Result<Done> {
        let close = if work.fresh { "connection: close\r\n" } else { "" };
        let request = self.request(close);
        let (request, buffer) = (request.as_bytes(), client.buffer());
        client.run(async {
            let (_, bytes) = self.open_and_check(request).await?;
            let mut wires = Vec::new();
            if !work.fresh {
                for _ in 0..work.connections {
                    wires.push(match self.tls {
                        Some(_) => self.open_and_check(request).await?.0,
                        None => Wire::Plain(connect(self.addr).await?),
                    });
                }
            }
            let (cpu, own, begun) = (self.process.cpu()?, Process::own().cpu()?, now());
            let askers = (0..work.connections).map(|n| {
                let wire = wires.pop();
                async move {
                    let asked = match wire {
                        Some(wire) => ask_on(wire, request, bytes, work.gets, buffer).await,
                        None => self.ask_anew(request, bytes, work.gets, buffer).await,
                    };
                    asked.map_err(|error| format!("{}, connection {n}: {error}", self.path))
                }
            });
            let waits = try_join_all(askers).await?.concat();
            let took = begun.elapsed();
            let cpu = self.process.cpu()?.saturating_sub(cpu);
            let client_cpu = Process::own().cpu()?.saturating_sub(own);
            Ok(Done { took, cpu, client_cpu, waits })
        })
    }

    fn request(&self, more: &str) -> String {
        let Self { path, addr, .. } = self;
        let accept = "application/vnd.oci.image.manifest.v1+json, */*";
        format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\naccept: {accept}\r\n{more}\r\n")
    }

    /// A connection on which one answer was right, and that answer's length, its head included.
    async fn open_and_check(&self, request: &[u8]) -> Result<(Wire, u64)> {
        let mut stream = connect(self.addr).await?;
        Ok(match self.tls {
            Some(tls) => {
                let mut stream = tls.connect(stream).await?;
                let bytes = check(&mut stream, request, self.digest).await?;
                (Wire::counting(stream), bytes)
            }
            None => {
                let bytes = check(&mut stream, request, self.digest).await?;
                (Wire::Plain(stream), bytes)
            }
        })
    }

    async fn ask_anew(
        &self,
        request: &[u8],
        bytes: u64,
        gets: u64,
        buffer: &Buffer,
    ) -> Result<Vec<Duration>> {
        let mut waits = Vec::new();
        let besides = if self.tls.is_some() { BESIDES_BYTES } else { 0 };
        for _ in 0..gets {
            let begun = now();
            let stream = connect(self.addr).await?;
            let mut wire = match self.tls {
                Some(tls) => Wire::counting(tls.connect(stream).await?),
                None => Wire::Plain(stream),
            };
            wire.send(request).await?;
            let mut came = 0;
            loop {
                match wire.skip(bytes, buffer).await? {
                    None => break,
                    Some(more) => came += more,
                }
            }
            if !(bytes..=bytes + besides).contains(&came) {
                return Err(format!("{came} bytes instead of {bytes}").into());
            }
            waits.push(begun.elapsed());
        }
        Ok(waits)
    }
}

async fn ask_on(
    mut wire: Wire,
    request: &[u8],
    bytes: u64,
    gets: u64,
    buffer: &Buffer,
) -> Result<Vec<Duration>> {
    let mut waits = Vec::new();
    for _ in 0..gets {
        let begun = now();
        wire.send(request).await?;
        let mut came = 0;
        while came < bytes {
            came += wire.skip(bytes, buffer).await?.ok_or("the connection ended")?;
        }
        if came > bytes {
            return Err(format!("{came} bytes instead of {bytes}").into());
        }
        waits.push(begun.elapsed());
    }
    Ok(waits)
}

/// Asks once, and compares the body's digest; the length of the answer, its head included.
async fn check(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    request: &[u8],
    digest: &Digest,
) -> Result<u64> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let (mut start, mut buffer) = (Vec::new(), vec![0; 256 * 1024]);
    let head = loop {
        match stream.read(&mut buffer).await? {
            0 => return Err("no answer".into()),
            read => start.extend_from_slice(&buffer[..read]),
        }
        if let Some(head) = parse(&start, "a check")? {
            break head;
        }
    };
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(&start[head.body..]);
    let mut left = head.length.checked_sub((start.len() - head.body) as u64);
    while let Some(more) = left.filter(|left| *left > 0) {
        match stream.read(&mut buffer).await? {
            0 => return Err("a body broke off".into()),
            read => {
                hasher.update(&buffer[..read]);
                left = more.checked_sub(read as u64);
            }
        }
    }
    if left.is_none() || hasher.finish() != *digest {
        return Err("a body of other bytes".into());
    }
    Ok(head.body as u64 + head.length)
}
