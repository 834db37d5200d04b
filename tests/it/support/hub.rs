//! [`FakeHub`]: three listeners that behave as Docker Hub does until told otherwise.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinSet, yield_now},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use wharf::oci::Digest;

use super::{
    certs::TestCa,
    fault::{Fault, On, Script},
    log::{Log, Seen},
    store::Store,
    wire,
};

/// One of a hub's three hosts: same address, its own port, so another origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// Everything under `/v2/`.
    Registry,
    /// The token service, `/token`.
    Auth,
    /// Where blobs really are.
    Cdn,
}

/// What the registry asks for before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Nothing.
    None,
    /// A user and password with each request; see [`FakeHub::require_basic`].
    Basic,
    /// A token for the repository, as Hub does.
    Bearer,
}

/// A running fake of Docker Hub on 127.0.0.1. Dropping it ends its listeners and connections.
pub(crate) struct FakeHub {
    pub(super) shared: Arc<Shared>,
    /// The three accept loops, each of which owns its connections.
    tasks: JoinSet<()>,
    stopping: CancellationToken,
    /// While stopped: sockets that are bound but do not listen, so that no one else gets the ports.
    held: Vec<(Host, TcpSocket)>,
}

/// What the listeners and the test both touch.
pub(super) struct Shared {
    store: Mutex<Store>,
    pub(super) script: Script,
    pub(super) log: Log,
    pub(super) challenge: Challenge,
    pub(super) redirect: bool,
    tls: Option<TlsAcceptor>,
    addresses: [SocketAddr; 3],
}

pub(crate) struct Builder {
    challenge: Challenge,
    redirect: bool,
    tls: Option<TlsAcceptor>,
}

impl FakeHub {
    /// Hub as it is: Bearer tokens, blobs on another host, plain HTTP.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    pub(crate) fn builder() -> Builder {
        Builder { challenge: Challenge::Bearer, redirect: true, tls: None }
    }

    /// `http://127.0.0.1:port`, or `https:`.
    pub(crate) fn url(&self, host: Host) -> String {
        self.shared.url(host)
    }

    pub(crate) fn addr(&self, host: Host) -> SocketAddr {
        self.shared.addr(host)
    }

    /// Closes the listeners and every connection; from now on connections are refused.
    pub(crate) async fn stop(&mut self) {
        self.stopping.cancel();
        while self.tasks.join_next().await.is_some() {}
        for host in HOSTS {
            // A child process that another test starts has every socket until it is another program.
            let free = async {
                loop {
                    match bind(self.addr(host)) {
                        Err(error) if error.kind() == ErrorKind::AddrInUse => yield_now().await,
                        bound => return bound.expect("the port was this hub's"),
                    }
                }
            };
            let socket = super::deadline("the port to be free again", free).await;
            self.held.push((host, socket));
        }
    }

    /// Listens again, on the same ports.
    pub(crate) fn resume(&mut self) {
        self.stopping = CancellationToken::new();
        for (host, socket) in std::mem::take(&mut self.held) {
            let listener = socket.listen(1024).expect("the held port is free to listen on");
            let (shared, stopping) = (Arc::clone(&self.shared), self.stopping.clone());
            self.tasks.spawn(accept(host, listener, shared, stopping));
        }
    }

    /// Misbehaves on every request that `on` matches, until [`FakeHub::clear_faults`].
    ///
    /// The first fault that matches a request is the only one; [`Fault::All`] combines several.
    pub(crate) fn fault(&self, on: On, fault: Fault) {
        self.shared.script.add(None, on, fault);
    }

    /// Misbehaves on the next `count` requests that `on` matches and no earlier fault does.
    pub(crate) fn fault_next(&self, count: u32, on: On, fault: Fault) {
        self.shared.script.add(Some(count), on, fault);
    }

    pub(crate) fn clear_faults(&self) {
        self.shared.script.clear();
    }

    /// Every request since the start or [`FakeHub::clear_log`], in the order of arrival.
    pub(crate) fn log(&self) -> Vec<Seen> {
        self.shared.log.snapshot()
    }

    pub(crate) fn clear_log(&self) {
        self.shared.log.clear();
    }

    /// How many requests of the log `matches` holds for.
    pub(crate) fn count(&self, matches: impl Fn(&Seen) -> bool) -> usize {
        self.log().iter().filter(|seen| matches(seen)).count()
    }

    /// Bytes of the blob that were written to sockets, over all requests.
    ///
    /// On a runtime of several threads a client may have a piece a moment before it is counted: there,
    /// wait with [`FakeHub::until`].
    pub(crate) fn blob_bytes_sent(&self, digest: &Digest) -> u64 {
        let log = self.log();
        log.iter().filter(|seen| seen.is_blob_body(digest)).map(|seen| seen.body_bytes_sent).sum()
    }

    /// `GET`s of manifests past the challenge: what Hub counts as pulls.
    pub(crate) fn manifest_gets(&self) -> usize {
        self.count(|seen| seen.is_manifest() && seen.method == "GET")
    }

    /// `HEAD`s of manifests past the challenge: free at Hub.
    pub(crate) fn manifest_heads(&self) -> usize {
        self.count(|seen| seen.is_manifest() && seen.method == "HEAD")
    }

    /// Waits until `holds` is true of the log; it is looked at after each request and each piece sent.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&[Seen]) -> bool) {
        super::deadline(what, self.shared.log.until(holds)).await;
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.shared.store()
    }
}

impl Builder {
    pub(crate) fn challenge(self, challenge: Challenge) -> Self {
        Self { challenge, ..self }
    }

    /// The registry serves blobs itself.
    pub(crate) fn without_redirect(self) -> Self {
        Self { redirect: false, ..self }
    }

    /// All three hosts speak https only, with certificates of `ca`.
    pub(crate) fn tls(self, ca: &TestCa) -> Self {
        Self { tls: Some(TlsAcceptor::from(Arc::new(ca.server()))), ..self }
    }

    pub(crate) async fn start(self) -> FakeHub {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        let held = HOSTS.map(|host| (host, bind(any).expect("127.0.0.1 has a free port")));
        let addresses = [0, 1, 2].map(|host: usize| held[host].1.local_addr().expect("is bound"));
        let shared = Shared {
            store: Mutex::default(),
            script: Script::default(),
            log: Log::default(),
            challenge: self.challenge,
            redirect: self.redirect,
            tls: self.tls,
            addresses,
        };
        let mut hub = FakeHub {
            shared: Arc::new(shared),
            tasks: JoinSet::new(),
            stopping: CancellationToken::new(),
            held: held.into(),
        };
        hub.resume();
        hub
    }
}

impl Shared {
    pub(super) fn url(&self, host: Host) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.addr(host))
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().expect("no panic while the store is locked")
    }

    fn addr(&self, host: Host) -> SocketAddr {
        self.addresses[host as usize]
    }
}

/// In the order of `Shared::addresses`, which `host as usize` indexes.
const HOSTS: [Host; 3] = [Host::Registry, Host::Auth, Host::Cdn];

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Ends, with all its connections, when `stopping` is cancelled or the task is aborted.
async fn accept(
    host: Host,
    listener: TcpListener,
    shared: Arc<Shared>,
    stopping: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping.cancelled() => break,
            Some(_) = connections.join_next() => {}
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(connection(host, stream, Arc::clone(&shared)));
            }
        }
    }
    drop(listener);
    connections.shutdown().await;
}

async fn connection(host: Host, stream: TcpStream, shared: Arc<Shared>) {
    // Small pieces (a cut, a gate) are to reach the client at once.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let Some(tls) = &shared.tls else {
        return wire::serve(host, stream, &shared).await;
    };
    if let Ok(stream) = tls.accept(stream).await {
        wire::serve(host, stream, &shared).await;
    }
}
