//! `wharf serve`: the daemon, from its arguments to its last connection.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
};

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sd_notify::NotifyState;
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
};
use tokio_util::sync::CancellationToken;

use super::{ConfigFile, Failure, healthcheck::reachable, load, log::Log, renewal::Renewal, say};
use crate::{
    app::{App, Reload},
    config::{Changes, Config, LogFormat, Overrides, Sources, parse_address},
};

const EXAMPLES: &str = "\
Examples:
  wharf serve                                 Docker Hub on port 5000, data in ./wharf-data
  wharf serve --config /etc/wharf/config.toml
  kill -HUP $(pidof wharf)                    read the configuration again

SIGTERM and SIGINT end it when open pulls are done, a second one at once. SIGHUP has it read its configuration again:
the log says which keys changed, and which of them wait for the next start.";

/// Run the daemon
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFile,
    /// Where clients pull from; may be repeated [default: 0.0.0.0:5000]
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    listen: Vec<SocketAddr>,
    /// Where images are kept [default: $STATE_DIRECTORY, else ./wharf-data]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// "text" or "json" [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { config, listen, dir, log_format } = self;
        let sources = config.sources(Overrides { listen, dir, log_format });
        let loaded = load(&sources)?;
        let log = Log::start(&loaded.config.log);
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        allow_files(&loaded.config);
        let runtime = runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))?;
        let read = Read { sources, config: loaded.config, log };
        let outcome = runtime.block_on(serve(read));
        // What is left after the drain has had its time: a file operation that hangs must not keep us.
        runtime.shutdown_background();
        outcome
    }
}

/// Has the system let this process open as many files as it may at all, and says if these are too few: the usual limit, 1024,
/// is for programs that look at files by `select`.
fn allow_files(config: &Config) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| limit.maximum.is_none_or(|most| current < most)) {
        // If it refuses, what there is has to do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    }
    let Some(may) = getrlimit(Resource::Nofile).current else { return };
    // A socket and a blob for each connection; as many sockets as may be, and a file, for each download.
    let Config { server, pull, .. } = config;
    let downloads = pull.max_downloads * (pull.connections_per_blob + 1);
    let needs = (2 * server.max_connections + downloads + FILES) as u64;
    if may < needs {
        tracing::warn!(
            may,
            needs,
            "this process may open fewer files than it may need: raise the limit (LimitNOFILE of systemd, ulimit -n), or lower \
             [server] max_connections"
        );
    }
}

/// Files besides: tables, logs, listeners, the admin address.
const FILES: usize = 200;

async fn serve(read: Read) -> Result<(), Failure> {
    let deaf = |error| Failure::Failed(format!("cannot listen for signals: {error}"));
    let mut signals = Signals::new().map_err(deaf)?;
    // From now on it ends nothing; what comes before all is up is heard then.
    let hangups = signal(SignalKind::hangup()).map_err(deaf)?;
    let told = Told::by(&read.config);
    let app = tokio::select! {
        app = App::bind(read.config.clone()) => app.map_err(|error| Failure::Usage(error.to_string()))?,
        () = signals.next() => return Ok(()),
    };
    app.metrics().watch_log(read.log.dropped());
    say(&told.usage(app.registry_addrs(), app.admin_addr()));
    tell_systemd(NotifyState::Ready);

    let shutdown = CancellationToken::new();
    let reloading = read.again(hangups, app.reload());
    let serving = app.run(shutdown.clone());
    let running = async {
        tokio::select! {
            () = serving => {}
            never = reloading => match never {},
        }
    };
    attend(running, &shutdown, async || signals.next().await).await
}

/// The configuration that is in force, and what it was read from.
struct Read {
    sources: Sources,
    config: Config,
    log: Log,
}

impl Read {
    /// Reads it again at each hangup, and certificates when they were renewed.
    async fn again(mut self, mut hangups: Signal, reload: Reload) -> Infallible {
        let mut renewal = Renewal::default();
        loop {
            let hangup = tokio::select! {
                hangup = hangups.recv() => hangup,
                never = renewal.watch(&self.config, || reload.now()) => match never {},
            };
            if hangup.is_none() {
                // The runtime is ending, and this with it.
                std::future::pending::<()>().await;
            }
            tell_systemd_of_reload();
            self.once(&reload).await;
            tell_systemd(NotifyState::Ready);
        }
    }

    async fn once(&mut self, reload: &Reload) {
        let sources = self.sources.clone();
        let loaded = match spawn_blocking(move || Config::load(&sources)).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(error)) => return stays(&error),
            Err(error) => return stays(&error),
        };
        if let Some(list) = self.config.has_better_list(&loaded.config, reload.now()) {
            tracing::error!(
                "the configuration stays as it was: client_crl holds a list of revoked certificates {list}: have that \
                 authority issue another, and write that one"
            );
            return;
        }
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let changes = self.config.changes(&loaded.config);
        self.config.adopt(&loaded.config);
        self.log.set_level(&self.config.log.level);
        reload.apply(&self.config);
        say_changes(&changes);
    }
}

fn stays(error: &dyn std::error::Error) {
    tracing::error!("the configuration stays as it was: {error}");
}

fn say_changes(changes: &Changes) {
    let Changes { at_once, at_start } = changes;
    if at_once.is_empty() && at_start.is_empty() {
        tracing::info!("the configuration was read again: nothing has changed");
    }
    for (key, value) in at_once {
        tracing::info!(%key, %value, "the configuration was read again, and changed");
    }
    for key in at_start {
        tracing::warn!(%key, "changed in the configuration: this takes effect when wharf is restarted");
    }
}

/// Waits for `running`; the first signal asks it to end, the second one ends it.
async fn attend(
    running: impl Future<Output = ()>,
    shutdown: &CancellationToken,
    mut signalled: impl AsyncFnMut(),
) -> Result<(), Failure> {
    let mut running = std::pin::pin!(running);
    tokio::select! {
        () = &mut running => return Ok(()),
        () = signalled() => {}
    }
    tell_systemd(NotifyState::Stopping);
    tracing::info!("stopping: open pulls may finish, a second signal stops at once");
    shutdown.cancel();
    tokio::select! {
        () = &mut running => Ok(()),
        () = signalled() => {
            Err(Failure::Failed("stopped before open pulls had finished".to_owned()))
        }
    }
}

/// The signals that ask wharf to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What the operator is told at the start, as far as the configuration knows it.
#[derive(Clone)]
struct Told {
    registries: String,
    dir: PathBuf,
    /// How each registry address is asked by Docker Engines; `None`: not at all, because it would have their users' passwords.
    schemes: Vec<Option<&'static str>>,
}

impl Told {
    fn by(config: &Config) -> Self {
        let names: Vec<_> =
            config.upstreams.iter().map(|upstream| upstream.registry.as_str()).collect();
        let schemes = config.doors().flat_map(|(addresses, door, _)| {
            let scheme = if door.tls.is_some() { "https" } else { "http" };
            addresses.iter().map(move |_| (!door.sign_in).then_some(scheme))
        });
        Self {
            registries: names.join(", "),
            dir: config.store.dir.clone(),
            schemes: schemes.collect(),
        }
    }

    /// How to use the wharf that listens on `registry`, with its metrics on `admin`.
    fn usage(&self, registry: &[SocketAddr], admin: Option<SocketAddr>) -> String {
        let host = lan_address();
        let listens: Vec<_> = registry.iter().map(ToString::to_string).collect();
        let mirrors: Vec<_> = registry
            .iter()
            .zip(&self.schemes)
            .filter_map(|(address, scheme)| Some((address, (*scheme)?)))
            .map(|(address, scheme)| format!("\"{scheme}://{}\"", reachable(*address, host)))
            .collect();
        let metrics = match admin {
            Some(address) => format!("Metrics: http://{}/metrics", reachable(address, host)),
            None => "Metrics: off".to_owned(),
        };
        let use_it = if mirrors.is_empty() {
            let names = registry.iter().map(|address| reachable(*address, host).to_string());
            format!(
                "Clients have to sign in before they pull, such as by\n\
                 \x20 docker login {names}",
                names = names.collect::<Vec<_>>().join(", or ")
            )
        } else {
            format!(
                "Put this into /etc/docker/daemon.json on each device, then restart Docker:\n\
                 \x20 {{ \"registry-mirrors\": [{mirrors}] }}",
                mirrors = mirrors.join(", ")
            )
        };
        format!(
            "wharf {version} serves {registries} on {listens}, data in {dir}\n{use_it}\n{metrics}",
            version = env!("CARGO_PKG_VERSION"),
            registries = self.registries,
            listens = listens.join(", "),
            dir = self.dir.display(),
        )
    }
}

/// The address under which the local network most likely sees this machine: the one that the default
/// route would send from. Connecting a UDP socket looks the route up and sends nothing; 192.0.2.1 is
/// nobody's (RFC 5737).
pub(super) fn lan_address() -> IpAddr {
    let looked_up = || -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    looked_up().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Says to systemd that the configuration is being read; [`NotifyState::Ready`] ends that.
fn tell_systemd_of_reload() {
    let told = NotifyState::monotonic_usec_now()
        .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now]));
    if let Err(error) = told {
        tracing::warn!(%error, "systemd could not be told");
    }
}

/// Says `state` to systemd; without systemd there is nobody to tell.
fn tell_systemd(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

#[cfg(test)]
mod tests {
    use std::{future, path::Path};

    use super::*;

    #[tokio::test]
    async fn the_first_signal_asks_and_the_second_ends() {
        let shutdown = CancellationToken::new();
        let patient = attend(shutdown.clone().cancelled_owned(), &shutdown, async || {
            // One signal only: it is not what ends this.
            if shutdown.is_cancelled() {
                future::pending::<()>().await;
            }
        });
        assert_eq!(patient.await, Ok(()));

        let shutdown = CancellationToken::new();
        let stubborn = attend(future::pending(), &shutdown, async || {}).await;
        assert!(matches!(stubborn, Err(Failure::Failed(_))), "{stubborn:?}");
        assert!(shutdown.is_cancelled(), "it was asked first");
    }

    #[test]
    fn tells_what_to_paste() {
        let told = Told {
            registries: "docker.io, ghcr.io".into(),
            dir: Path::new("./d").into(),
            schemes: vec![Some("http"), Some("http")],
        };
        let said = told.usage(
            &["10.0.0.2:5000".parse().expect("an address"), "[::1]:80".parse().expect("one")],
            Some("127.0.0.1:5001".parse().expect("an address")),
        );
        let mirrors = r#"{ "registry-mirrors": ["http://10.0.0.2:5000", "http://[::1]:80"] }"#;
        assert!(said.contains(mirrors), "{said}");
        assert!(said.contains("serves docker.io, ghcr.io on 10.0.0.2:5000, [::1]:80, data in ./d"));
        assert!(said.ends_with("Metrics: http://127.0.0.1:5001/metrics"), "{said}");
        assert!(told.usage(&[], None).ends_with("Metrics: off"));
        let asking = Told { schemes: vec![None, None], ..told.clone() };
        let said = asking.usage(&["10.0.0.2:5443".parse().expect("an address")], None);
        assert!(said.contains("have to sign in") && said.contains("docker login 10.0.0.2:5443"));
        assert!(!said.contains("registry-mirrors"), "old engines would send it other passwords");

        let told = Told { schemes: vec![Some("https"), None], ..told };
        let said = told.usage(
            &["10.0.0.2:5000", "10.0.0.2:5443"].map(|it| it.parse().expect("an address")),
            Some("127.0.0.1:5001".parse().expect("an address")),
        );
        assert!(said.contains(r#"{ "registry-mirrors": ["https://10.0.0.2:5000"] }"#), "{said}");
        assert!(said.ends_with("Metrics: http://127.0.0.1:5001/metrics"), "{said}");
    }

    #[test]
    fn every_address_is_told_as_one_that_can_be_reached() {
        let lan = "192.168.1.5".parse().expect("an address");
        for (listens, told) in [
            ("0.0.0.0:5000", "192.168.1.5:5000"),
            ("[::]:5000", "192.168.1.5:5000"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
        ] {
            let address = listens.parse().expect("an address");
            assert_eq!(reachable(address, lan).to_string(), told);
        }
    }
}
