//! Where the parts meet: a configuration becomes bound sockets, these run, and drain.

mod commands;
mod folder;
mod leisure;

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Notify,
    task::{JoinSet, spawn_blocking},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

pub use self::{commands::Commands, folder::Folder};
use crate::{
    admin::{Admin, Control, Readiness},
    clock::Clock,
    config::Config,
    metrics::Metrics,
    pull::{self, Pull},
    server::{Door, Server},
    store::{self, Store},
    upstream::{self, Upstreams},
};

/// How often it is looked at what is due to be fetched ahead.
const ATTENTION: Duration = Duration::from_secs(5);

/// How often access times are written down, the budget is looked at and the metrics of the cache are set right.
const UPKEEP: Duration = Duration::from_secs(60);

/// After how many rounds of upkeep the blobs are counted by looking at every file.
const RECOUNT_ROUNDS: u32 = 30;

/// How long downloads that no client waits for may go on at a stop; their bytes on disk are kept.
const DOWNLOADS_DRAIN: Duration = Duration::from_secs(1);

/// A wharf whose sockets are bound and whose cache is open; nothing is served yet.
pub struct App {
    listeners: Vec<(TcpListener, SocketAddr, Arc<Door>)>,
    addrs: Vec<SocketAddr>,
    admin: Option<(TcpListener, SocketAddr)>,
    /// `None` where the directory takes no socket. Before the cache, so that it goes first: its file belongs to who
    /// holds the lock.
    control: Option<Control>,
    server: Server,
    cache: Cache,
}

/// The open cache and the way to its registries, without an address to serve them on. Clones are the same one.
#[derive(Clone)]
struct Cache {
    pull: Pull,
    store: Arc<Store>,
    metrics: Metrics,
    clock: Clock,
    /// The limits were changed.
    limits_changed: Arc<Notify>,
}

/// Changes what can be changed while wharf runs.
#[derive(Clone)]
pub struct Reload {
    pull: Pull,
    store: Arc<Store>,
    limits_changed: Arc<Notify>,
    clock: Clock,
}

/// Why wharf cannot start: one sentence for its operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket cannot be bound.
    #[error(
        "cannot listen on {address}: {source}; stop what uses it, or choose another with {with}"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The flag and key that choose it.
        with: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The cache directory cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The opening of the cache died.
    #[error("the cache could not be opened: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// A registry's TLS configuration cannot be used.
    #[error(transparent)]
    Upstream(#[from] upstream::ConfigError),
    /// The cache belongs to another user's wharf, which does not run.
    #[error(
        "{dir:?} belongs to the user with number {owner}, and no wharf that runs there can be reached; start it, or \
         run this as that user: sudo -u '#{owner}' …"
    )]
    Foreign {
        /// The cache directory.
        dir: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Another process has the cache open, and takes no commands.
    #[error(
        "{dir:?} is in use by another wharf that cannot be reached ({source}); if it has just been started, or is \
         a command itself, try again when it is ready; else restart it, or run this as its user"
    )]
    Unreachable {
        /// The cache directory.
        dir: PathBuf,
        /// What the system said about its control socket.
        #[source]
        source: std::io::Error,
    },
}

impl App {
    /// Binds every socket, then opens the cache.
    ///
    /// # Errors
    /// When a port is taken, the directory cannot be used, or a registry's configuration is no good.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let mut listeners = Vec::with_capacity(config.listen.len() + config.listeners.len());
        for (at, (addresses, door, _)) in config.doors().enumerate() {
            let with = if at == 0 { "--listen or [server] listen" } else { "[[listener]] address" };
            let door = Arc::new(door.clone());
            for address in addresses {
                let (listener, bound) = listen(*address, with)?;
                listeners.push((listener, bound, Arc::clone(&door)));
            }
        }
        let addrs = listeners.iter().map(|(_, address, _)| *address).collect();
        let admin = match config.admin {
            Some(address) => Some(listen(address, "[admin] listen")?),
            None => None,
        };
        let socket = config.store.control_socket();
        let (mode, documents) = (config.mode, config.documents);
        let cache =
            Cache::open(config.store, config.pull, config.upstreams, mode, documents).await?;
        cache.pull.resume().await;
        let control = bind_control(&socket);
        let server = Server::new(config.server, cache.pull.clone(), &cache.metrics);
        Ok(Self { listeners, addrs, admin, control, server, cache })
    }

    /// The registry addresses, with the ports that the system chose for port 0: those of `[server] listen`, then the others.
    pub fn registry_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The admin address.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|(_, address)| *address)
    }

    /// The pull-through behind the registry address.
    pub const fn pull(&self) -> &Pull {
        &self.cache.pull
    }

    /// The metrics.
    pub const fn metrics(&self) -> &Metrics {
        &self.cache.metrics
    }

    /// The time by which everything expires.
    pub const fn clock(&self) -> &Clock {
        &self.cache.clock
    }

    /// Changes what can be changed while this runs.
    pub fn reload(&self) -> Reload {
        let Cache { pull, store, limits_changed, clock, .. } = &self.cache;
        Reload {
            clock: clock.clone(),
            pull: pull.clone(),
            store: Arc::clone(store),
            limits_changed: Arc::clone(limits_changed),
        }
    }

    /// Serves until `shutdown` is cancelled, then drains and closes the cache.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listeners, addrs: _, admin, control, server, cache } = self;
        let mut parts = JoinSet::new();
        let answers = cache.admin();
        if let Some((listener, _)) = admin {
            parts.spawn(answers.clone().run(listener, shutdown.clone()));
        }
        if let Some(control) = control {
            parts.spawn(answers.run_control(control, shutdown.clone()));
        }
        parts.spawn(upkeep(cache.clone(), shutdown.clone()));
        parts.spawn(attend(cache.pull.clone(), shutdown.clone()));
        parts.spawn(scrub(cache.pull.clone(), shutdown.clone()));
        if let Some(folder) = cache.pull.drop_folder() {
            parts.spawn(folder::watch(cache.pull.clone(), folder, shutdown.clone()));
        }
        parts.spawn(leisure::give_back(cache.clone(), shutdown.clone()));
        parts.spawn(watch_registries(cache.pull.clone(), shutdown.clone()));
        server.run(listeners, shutdown).await;
        cache.pull.finish(DOWNLOADS_DRAIN).await;
        while let Some(ended) = parts.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part of the daemon died");
            }
        }
    }
}

impl Cache {
    async fn open(
        store: store::Config,
        pull: pull::Config,
        upstreams: Vec<upstream::Config>,
        mode: upstream::Mode,
        documents: upstream::Limits,
    ) -> Result<Self, StartError> {
        let (clock, metrics) = (Clock::system(), Metrics::new());
        let upstreams = Upstreams::new(upstreams, documents, &metrics, &clock)?;
        upstreams.set_mode(mode);
        let store = {
            let store = store::Config { has_closed: upstreams.have_terms(), ..store };
            let clock = clock.clone();
            Arc::new(spawn_blocking(move || Store::open(&store, &clock)).await??)
        };
        let pull = Pull::new(pull, Arc::clone(&store), upstreams, &metrics, &clock);
        pull.recall().await;
        Ok(Self { pull, store, metrics, clock, limits_changed: Arc::default() })
    }

    /// What is answered about it.
    fn admin(&self) -> Admin {
        let pull = self.pull.clone();
        let readiness = move || pull.failing().map_or(Readiness::Ready, Readiness::Degraded);
        Admin::new(self.metrics.clone(), Arc::new(readiness), Arc::new(self.pull.clone()))
    }
}

impl Reload {
    /// Takes over what `config` says of the mode, the budget, of what stays and of the scrub; the budget is met soon.
    pub fn apply(&self, config: &Config) {
        self.store.set_pinned(config.store.pinned.clone());
        self.store.set_limits(config.store.limits);
        self.pull.set_mode(config.mode);
        self.pull.set_scrub(config.pull.scrub);
        self.pull.reread_accounts();
        self.limits_changed.notify_one();
    }

    /// The time by which what was read runs out.
    pub fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.clock.unix_seconds())
    }
}

/// Connections that wait to be accepted, as far as the system lets them (`net.core.somaxconn`): those of a crowd that finds no
/// place. The system drops further ones, whose clients try again a second later.
const BACKLOG: u32 = 4096;

fn listen(
    address: SocketAddr,
    with: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // As `TcpListener::bind` has it: a restart need not wait for what the last one left in the system.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(BACKLOG)?;
        let bound = listener.local_addr()?;
        Ok((listener, bound))
    };
    bound().map_err(|source| StartError::Listen { address, with, source })
}

/// Binds the control socket. A file system without sockets is no reason not to serve.
fn bind_control(path: &Path) -> Option<Control> {
    Control::bind(path)
        .inspect_err(|error| {
            let path = path.display();
            tracing::warn!(%path, %error, "no control socket: commands will not reach this wharf");
        })
        .ok()
}

/// Begins what is due to be fetched ahead.
async fn attend(pull: Pull, shutdown: CancellationToken) {
    let mut ticks = interval(ATTENTION);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        pull.attend().await;
    }
}

/// Looks for registries that say nothing, until they do.
async fn watch_registries(pull: Pull, shutdown: CancellationToken) {
    let _: Option<Infallible> = shutdown.run_until_cancelled(pull.watch_registries()).await;
}

/// Reads again what is kept, as much as is due.
async fn scrub(pull: Pull, shutdown: CancellationToken) {
    let scrubbing = async {
        let mut ticks = interval(UPKEEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = pull.scrub_changed() => {}
                _ = ticks.tick() => {}
            }
            pull.scrub().await;
        }
    };
    // What is cut off by a stop is read again.
    let _: Option<Infallible> = shutdown.run_until_cancelled(scrubbing).await;
}

/// Writes access times down, and what was learned, keeps to the budget, and keeps the metrics of the cache right.
async fn upkeep(cache: Cache, shutdown: CancellationToken) {
    let Cache { pull, store, limits_changed, .. } = cache;
    let (mut rounds, mut is_short) = (0, false);
    let mut ticks = interval(UPKEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = limits_changed.notified() => {}
            _ = ticks.tick() => {
                if let Err(error) = store.flush_pulled().await {
                    tracing::warn!(%error, "the times of the last pulls were not written down");
                }
                store.try_again().await;
                pull.write_down().await;
                rounds += 1;
                if rounds % RECOUNT_ROUNDS == 0 {
                    pull.recount().await;
                }
            }
        }
        pull.expire_volumes().await;
        pull.keep_to_budget().await;
        is_short = warn_of_shortage(&pull, is_short).await;
    }
}

/// Says when the limits can no longer be met, and when they can again; whether they cannot.
async fn warn_of_shortage(pull: &Pull, was_short: bool) -> bool {
    let shortage = pull.status().await.cache.shortage();
    match &shortage {
        Some(why) if !was_short => tracing::warn!("the limits of the cache cannot be met: {why}"),
        None if was_short => tracing::info!("the limits of the cache are met again"),
        _ => {}
    }
    shortage.is_some()
}
