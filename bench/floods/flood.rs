//! The floods, each a process of its own, so that what it costs itself is seen apart.

use std::{
    fmt,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::ValueEnum;
use futures_util::{StreamExt as _, stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use wharf::oci::Digest;

use super::support::{Result, process::Process, report::print};

/// What comes in masses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flood {
    /// 1,000 requests whose heads never end.
    HalfHeads,
    /// 5,000 connections that ask nothing.
    Idle,
    /// 10,000 requests for as many names that nobody has.
    Names,
    /// 1,000 blobs that nobody has, all at once.
    Digests,
}

/// A flood that goes on until this is dropped.
pub(crate) struct Flooding(Child);

/// Connections that ask at the same time for names.
const ASKING: usize = 200;

/// How long one that was closed waits before it comes again, and how often a head gets one more byte.
const AGAIN: Duration = Duration::from_secs(1);

/// No answer takes longer; who waits for one is counted as gone.
const PATIENCE: Duration = Duration::from_secs(120);

impl Flood {
    pub(crate) const ALL: [Self; 4] = [Self::HalfHeads, Self::Idle, Self::Names, Self::Digests];

    const fn connections(self) -> usize {
        match self {
            Self::HalfHeads | Self::Digests => 1000,
            Self::Idle => 5000,
            Self::Names => ASKING,
        }
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HalfHeads => "1,000 half heads",
            Self::Idle => "5,000 idle",
            Self::Names => "unknown names",
            Self::Digests => "1,000 cold digests",
        })
    }
}

impl Flooding {
    /// Begins one against `target`, and waits until it has its connections.
    pub(crate) fn begin(flood: Flood, target: SocketAddr, same: bool) -> Result<Self> {
        let kind = flood.to_possible_value().ok_or("it has a name")?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--flood", kind.get_name(), "--target", &target.to_string()]);
        command.args(same.then_some("--same")).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut flooding = Self(command.spawn()?);
        let output = flooding.0.stdout.take().ok_or("no output")?;
        let line = BufReader::new(output).lines().next().ok_or("the flood ended")??;
        if line == "ready" { Ok(flooding) } else { Err(line.into()) }
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.0.id())
    }
}

impl Drop for Flooding {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Floods `target` until it is killed, from 20 addresses, or from the one that pulls come from.
pub(crate) fn run(flood: Flood, target: SocketAddr, same: bool) -> Result<()> {
    let from = move |n: usize| match same {
        true => Ipv4Addr::LOCALHOST,
        false => Ipv4Addr::new(127, 0, 1, 1 + (n % 20) as u8),
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let connections: Vec<_> = stream::iter(0..flood.connections())
            .map(|n| connect(from(n), target))
            .buffer_unordered(64)
            .collect()
            .await;
        print("ready");
        let all = connections.into_iter().enumerate().map(|(n, mut stream)| async move {
            let mut turn = 0;
            loop {
                // However it ended, it comes again.
                let wire = match stream.take() {
                    Some(wire) => Some(wire),
                    None => connect(from(n), target).await,
                };
                if let Some(wire) = wire {
                    let _ = timeout(PATIENCE, go_on(flood, wire, n, &mut turn)).await;
                }
                sleep(AGAIN).await;
            }
        });
        futures_util::future::join_all(all).await;
        Ok(())
    })
}

async fn connect(from: Ipv4Addr, target: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((from, 0).into()).ok()?;
    timeout(PATIENCE, socket.connect(target)).await.ok()?.ok()
}

/// Does what this flood does with one connection, until it ends.
async fn go_on(
    flood: Flood,
    mut wire: TcpStream,
    n: usize,
    turn: &mut usize,
) -> std::io::Result<()> {
    let mut waste = [0; 4096];
    match flood {
        Flood::HalfHeads => {
            wire.write_all(b"GET /v2/ HTTP/1.1\r\nhost: wharf\r\nx: ").await?;
            while timeout(AGAIN, wire.read(&mut waste)).await.is_err() {
                wire.write_all(b"x").await?;
            }
            Ok(())
        }
        Flood::Idle => wire.read(&mut waste).await.map(|_| ()),
        // 200 connections with 50 each; and then the same number again, of other names.
        Flood::Names | Flood::Digests => loop {
            *turn += 1;
            let path = match flood {
                Flood::Names => format!("/v2/invented/name-{n}-{turn}/manifests/latest"),
                _ => {
                    let digest = Digest::sha256(format!("{n}-{turn}").as_bytes());
                    format!("/v2/bench/app/blobs/{digest}")
                }
            };
            let request = format!("GET {path} HTTP/1.1\r\nhost: wharf\r\n\r\n");
            wire.write_all(request.as_bytes()).await?;
            if wire.read(&mut waste).await? == 0 {
                return Ok(());
            }
            if flood == Flood::Digests {
                sleep(AGAIN).await;
            }
        },
    }
}
