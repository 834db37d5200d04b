//! A whole wharf in this process, on ports and in a directory of its own.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wharf::{
    app::App,
    clock::Clock,
    config::Config,
    metrics::Metrics,
    oci::RegistryName,
    pull::Pull,
    store,
    upstream::{self, Patience, RepositoryRules},
};

use super::{
    FakeHub, Host, client, deadline,
    program::{names, partials},
};

/// A running wharf; [`Wharf::stop`] ends it as SIGTERM does.
pub(crate) struct Wharf {
    pub(crate) addr: SocketAddr,
    /// Every registry address, `addr` first.
    pub(crate) addrs: Vec<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) pull: Pull,
    config: Config,
    dir: Arc<TempDir>,
    shutdown: CancellationToken,
    running: Option<JoinHandle<()>>,
}

/// Waits short enough for tests of waits, and long enough for a busy machine.
pub(crate) const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(5),
    first_byte: Duration::from_secs(5),
    idle: Duration::from_secs(5),
    least_rate: None,
    attempts: 2,
};

/// Docker Hub, played by `hub`.
pub(crate) fn docker_hub(hub: &FakeHub) -> upstream::Config {
    upstream(RegistryName::docker_hub(), &[&hub.url(Host::Registry)])
}

/// A registry at these endpoints.
pub(crate) fn upstream(registry: RegistryName, endpoints: &[&str]) -> upstream::Config {
    upstream::Config {
        registry,
        rules: RepositoryRules::default(),
        public: false,
        endpoints: endpoints.iter().map(|url| url.parse().expect("an address")).collect(),
        accounts: Vec::new(),
        clients: None,
        account_for: Vec::new(),
        ca_pem: Vec::new(),
        realms: Vec::new(),
        internal: None,
        patience: PATIENCE,
    }
}

impl Wharf {
    /// A wharf with an empty cache in front of `hub` as Docker Hub.
    pub(crate) async fn start(hub: &FakeHub) -> Self {
        Self::start_with(hub, |_| ()).await
    }

    /// The same, with the configuration changed.
    pub(crate) async fn start_with(hub: &FakeHub, change: impl FnOnce(&mut Config)) -> Self {
        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
        let mut config = Config { listen: vec![any], admin: Some(any), ..Config::default() };
        config.store.dir = dir.path().join("cache");
        // However full the disk is that the tests run on.
        config.store.limits = store::Limits {
            max_size: store::Share::Percent(100),
            min_free: store::Share::Bytes(0),
        };
        config.server.drain = Duration::from_secs(5);
        // However busy the machine is that they run on: tests of what is stale shorten it.
        config.pull.revalidate_timeout = Duration::from_secs(10);
        config.upstreams = vec![docker_hub(hub)];
        // Tests count requests: theirs alone, unless they are about what is fetched ahead.
        config.pull.prefetch.on_pull = false;
        change(&mut config);
        Self::run(config, dir).await
    }

    /// Stops, and starts again on the same directory with new ports.
    pub(crate) async fn restart(self) -> Self {
        let (config, dir) = (self.config.clone(), Arc::clone(&self.dir));
        self.stop().await;
        Self::run(config, dir).await
    }

    /// Stops, lets `meanwhile` work on the cache directory, and starts again.
    pub(crate) async fn restart_after(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let (config, dir) = (self.config.clone(), Arc::clone(&self.dir));
        self.stop().await;
        meanwhile(&config.store.dir);
        Self::run(config, dir).await
    }

    /// Stops, and starts again on the same directory with the configuration changed.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Self {
        let (mut config, dir) = (self.config.clone(), Arc::clone(&self.dir));
        self.stop().await;
        change(&mut config);
        Self::run(config, dir).await
    }

    /// A second wharf on a copy of the cache directory as it lies on the disk now: what a power cut leaves
    /// when every write has reached the disk. `damage` works on the copy before it is opened.
    pub(crate) async fn after_power_cut(&self, damage: impl FnOnce(&Path)) -> Self {
        let dir = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        let mut config = self.config.clone();
        config.store.dir = dir.path().join("cache");
        copy(&self.config.store.dir, &config.store.dir);
        damage(&config.store.dir);
        Self::run(config, dir).await
    }

    /// Stops, and waits until all is closed.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        let running = self.running.take().expect("stopped once");
        deadline("wharf to stop", running).await.expect("wharf does not panic");
    }

    /// Ends a test: all is quiet, wharf stops, and nothing half is left behind.
    pub(crate) async fn end(self) {
        self.quiet().await;
        let (dir, partial) = (Arc::clone(&self.dir), self.cache().join("wharf/partial"));
        self.stop().await;
        assert_eq!(names(&partial), [""; 0], "left behind");
        drop(dir);
    }

    /// The configuration that it runs with.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The cache directory.
    pub(crate) fn cache(&self) -> &Path {
        &self.config.store.dir
    }

    /// `GET` of a path at the registry address.
    pub(crate) async fn get(&self, path: &str) -> client::Answer {
        client::get(self.addr, path, &[]).await
    }

    /// `HEAD` of a path at the registry address.
    pub(crate) async fn head(&self, path: &str) -> client::Answer {
        client::head(self.addr, path, &[]).await
    }

    /// The value of one metric, written as it stands in the text format, labels included; 0 if it is not there.
    pub(crate) fn metric(&self, line_start: &str) -> f64 {
        let (text, _) = self.metrics.render();
        value(&String::from_utf8(text).expect("the text format is UTF-8"), line_start)
    }

    /// Waits until the registry is known to answer: one that was away is looked for by the clock.
    pub(crate) async fn until_up(&self, registry: &str) {
        let metric = format!("wharf_upstream_up{{registry=\"{registry}\"}}");
        deadline("the registry to be found", async {
            while self.metric(&metric) < 1.0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until no download and no question is open.
    pub(crate) async fn quiet(&self) {
        deadline("wharf to be quiet", async {
            while self.pull.open() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// The names of the files of downloads in `wharf/partial`, sorted.
    pub(crate) fn partials(&self) -> Vec<String> {
        partials(self.cache())
    }

    async fn run(config: Config, dir: Arc<TempDir>) -> Self {
        let app = App::bind(config.clone()).await.expect("wharf starts");
        let shutdown = CancellationToken::new();
        let addrs = app.registry_addrs().to_vec();
        let (addr, admin) = (addrs[0], app.admin_addr().expect("an admin address"));
        let (clock, metrics, pull) =
            (app.clock().clone(), app.metrics().clone(), app.pull().clone());
        let running = Some(tokio::spawn(app.run(shutdown.clone())));
        Self { addr, addrs, admin, clock, metrics, pull, config, dir, shutdown, running }
    }
}

impl Drop for Wharf {
    /// A test that fails half-way ends its wharf too.
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Copies files and directories; a socket means nothing without the process that listens on it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the copy can be written");
    for entry in std::fs::read_dir(from).expect("the directory is there") {
        let entry = entry.expect("readable");
        let to = to.join(entry.file_name());
        let kind = entry.file_type().expect("readable");
        if kind.is_dir() {
            copy(&entry.path(), &to);
        } else if kind.is_file() {
            std::fs::copy(entry.path(), to).expect("the copy can be written");
        }
    }
}

/// The value of one metric in `text`, as [`Wharf::metric`] reads it.
pub(super) fn value(text: &str, line_start: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(line_start)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}
