//! What wharf is told: defaults, then a TOML file, then the environment, then the command line.
//!
//! Each layer is read into [`raw::Raw`], the file's own form, whose value types refuse what cannot be
//! meant; what comes out is one checked configuration per layer of the program. Every default and every
//! message about a key stands in this folder; `config.toml` at the top of the source tree is its manual.

mod access;
mod accounts;
mod changes;
mod compose;
mod env;
mod error;
mod files;
mod listeners;
mod platforms;
mod prefetch;
mod raw;
mod tls;
mod upstreams;
mod values;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    iter,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use toml::Spanned;

pub use changes::Changes;
pub use env::Environment;
pub use error::ConfigError;
pub use tls::Stamps;
pub use values::{LogFormat, parse_address, parse_rate, parse_size};

use crate::{
    oci::RegistryName,
    pull,
    server::{self, Access, Door},
    store, upstream,
};

/// In what time all that is kept is read once, to find what has rotted.
const SCRUB: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients pull from by the rules of `server.door` (`[server] listen`).
    pub listen: Vec<SocketAddr>,
    /// Whether registries are asked (`[server] mode`).
    pub mode: upstream::Mode,
    /// Where what `server.door` asks was read from.
    pub door_files: DoorFiles,
    /// Where clients pull from besides (`[[listener]]`). There is at least one address in all.
    pub listeners: Vec<Listener>,
    /// Where metrics and health are served (`[admin] listen`); `None`: nowhere.
    pub admin: Option<SocketAddr>,
    /// `[cache]`, as far as it is about the disk; and which of `[[prefetch.image]]` are pinned.
    pub store: store::Config,
    /// `[cache]`, as far as it is about when to ask upstream; `[platforms]`, `[prefetch]` and `[[compose]]`.
    pub pull: pull::Config,
    /// `[limits]` on what registries send in one piece.
    pub documents: upstream::Limits,
    /// `[server]`, and `[limits]` on what one client sends and holds; and `[[access]]`.
    pub server: server::Config,
    /// `[[upstream]]`: every registry served, Docker Hub always among them, no registry twice.
    pub upstreams: Vec<upstream::Config>,
    /// Where the certificates in `upstreams` were read from.
    pub upstream_files: BTreeMap<RegistryName, UpstreamFiles>,
    /// `[log]`.
    pub log: LogConfig,
}

/// The files that belong to one registry, by absolute path.
#[derive(Clone, Debug, Default)]
pub struct UpstreamFiles {
    /// Holds PEM certificates to trust.
    pub ca: Option<PathBuf>,
}

/// An address with rules of its own.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Where clients pull from.
    pub address: SocketAddr,
    /// What is asked of them there.
    pub door: Door,
    /// Where that was read from.
    pub files: DoorFiles,
}

/// The files that say what is asked at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorFiles {
    /// Of [`Door::tls`].
    pub tls: Option<TlsFiles>,
    /// Of [`Door::users`].
    pub users: Option<UsersFile>,
}

/// An htpasswd file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsersFile {
    /// Its absolute path.
    pub path: PathBuf,
    /// Whether the operator knows that its users' passwords come over plain HTTP.
    pub without_tls: bool,
}

/// The files with which the registry addresses speak TLS, by absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Holds the PEM certificate of this server, and those that lead from it to its authority.
    pub cert: PathBuf,
    /// Holds its PEM key.
    pub key: PathBuf,
    /// Holds the PEM certificates of clients' authorities, and whether clients need one of theirs.
    pub client_ca: Option<(PathBuf, server::ClientAuth)>,
    /// Holds PEM lists of the certificates that these have taken back.
    pub client_crl: Option<PathBuf>,
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// One line of text or one JSON object per event.
    pub format: LogFormat,
    /// A level, or `target=level` directives separated by commas.
    pub level: String,
}

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The TOML file; `None`: defaults only, whatever `WHARF_CONFIG` says.
    pub file: Option<PathBuf>,
    /// Laid over the file.
    pub environment: Environment,
    /// Laid over both.
    pub overrides: Overrides,
}

/// What the command line may say; an empty value says nothing.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Replaces `[server] listen`.
    pub listen: Vec<SocketAddr>,
    /// Replaces `[cache] dir`.
    pub dir: Option<PathBuf>,
    /// Replaces `[log] format`.
    pub log_format: Option<LogFormat>,
}

/// A configuration that can be run, and what an operator should know about it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// One sentence each.
    pub warnings: Vec<String>,
}

/// Tables that may come several times, which stand in the file alone.
struct Tables {
    listeners: Vec<Spanned<raw::Listener>>,
    access: Vec<Spanned<raw::Access>>,
    upstreams: Vec<Spanned<raw::Upstream>>,
    clients: Vec<Spanned<raw::Client>>,
    images: Vec<Spanned<raw::WarmImage>>,
    compose: Vec<Spanned<raw::Composed>>,
}

impl Config {
    /// Reads and checks everything that `sources` name, the files it points to included.
    ///
    /// # Errors
    /// One sentence with the file and line (or the variable), the key, and what to write instead.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let mut config = Self::default();
        config.pull.platforms.host = files::host();
        if let Some(dir) = sources.environment.state_directory() {
            config.store.dir = dir;
        }
        // No file says what an empty one says.
        let path = sources.file.as_deref().unwrap_or_else(|| Path::new(""));
        let text = match &sources.file {
            Some(path) => files::read_text(path, files::CONFIG_MAX_BYTES)
                .map_err(|problem| ConfigError::file(path, format!("the file {problem}")))?,
            None => String::new(),
        };
        let file = raw::Document { path, text: &text };
        let mut warnings = Vec::new();
        let mut raw = file.parse()?;
        let users = raw.server.users.clone();
        let door = listeners::RawDoor {
            tls: raw.server.tls.take(),
            users: raw.server.users.take(),
            sign_in: raw.server.sign_in.take(),
            users_without_tls: raw.server.users_without_tls.take(),
        };
        let by_claim = raw.upstream.iter().any(|upstream| upstream.get_ref().is_by_claim());
        (config.server.door, config.door_files) =
            listeners::door(&file, door, by_claim, &mut warnings)?;
        if !raw.listener.is_empty() {
            // Who writes where to listen does not want what is open to all by default.
            config.listen.clear();
        } else if let Some(none) =
            raw.server.listen.as_ref().filter(|list| list.get_ref().0.is_empty())
        {
            return Err(ConfigError::at(&file, none.span(), NOWHERE.to_owned()));
        }
        let tables = config.apply(raw);
        for layer in sources.environment.layers()? {
            config.apply(layer);
        }
        config.overrule(&sources.overrides);
        config.check_addresses()?;
        if let Some(users) = &users {
            let door = (&*config.listen, &config.server.door, &config.door_files);
            listeners::check_passwords(&file, users, door, &mut warnings)?;
        }
        config.take_in(&file, &sources.environment, tables, &mut warnings)?;
        Ok(Loaded { config, warnings })
    }

    /// The effective configuration in the file's form, every key that has a value written out.
    /// Passwords appear as the path of their file or the name of their variable. Read again, it gives the same configuration.
    pub fn show(&self) -> String {
        toml::to_string(&raw::Raw::from(self)).expect("plain tables, keys and values")
    }

    /// Takes over what one layer says, its files apart, and hands back its tables that may come several times.
    fn apply(&mut self, raw: raw::Raw) -> Tables {
        let raw::Raw {
            server,
            limits,
            admin,
            cache,
            platforms,
            prefetch,
            airgap,
            log,
            listener,
            access,
            upstream,
            compose,
        } = raw;
        set(&mut self.listen, server.listen.map(Spanned::into_inner));
        set(&mut self.server.door.allow_clients, server.allow_clients);
        set(&mut self.mode, server.mode);
        set(&mut self.server.max_connections, server.max_connections);
        set(&mut self.server.max_connections_per_client, server.max_connections_per_client);
        set(&mut self.server.max_requests_per_client, server.max_requests_per_client);
        set(&mut self.server.header_timeout, server.header_timeout);
        set(&mut self.server.client_timeout, server.client_timeout);
        set(&mut self.server.drain, server.drain);
        set(&mut self.server.send_buffer, server.send_buffer);
        set(&mut self.server.headers, limits.headers);
        set(&mut self.server.header_bytes, limits.header_bytes);
        set(&mut self.server.document_room_per_client, limits.document_room_per_client);
        set(&mut self.server.misses_per_client, limits.misses_per_client);
        let documents = &mut self.documents;
        set(&mut documents.document_room, limits.document_room);
        set(&mut documents.manifest_bytes, limits.manifest_bytes);
        set(&mut documents.json_depth, limits.json_depth.map(|count| count.0));
        set(&mut documents.token_bytes, limits.token_bytes);
        set(&mut documents.error_bytes, limits.error_bytes);
        let bounds = &mut self.pull.limits;
        set(&mut bounds.list_entries, limits.list_entries.map(|count| count.0));
        set(&mut bounds.unknown_names, limits.unknown_names);
        set(&mut bounds.questions, limits.questions);
        set(&mut bounds.questions_per_registry, limits.questions_per_registry);
        set(&mut bounds.waiting_downloads, limits.waiting_downloads);
        set(&mut bounds.waiting_readers, limits.waiting_readers);
        set(&mut bounds.manifest_entries, limits.manifest_entries);
        set(&mut bounds.verdicts, limits.verdicts);
        set(&mut self.admin, admin.listen);
        set(&mut self.store.dir, cache.dir);
        set(&mut self.store.limits.max_size, cache.max_size);
        set(&mut self.store.limits.min_free, cache.min_free);
        set(&mut self.pull.scrub, cache.scrub);
        set(&mut self.pull.tag_ttl, cache.tag_ttl);
        set(&mut self.pull.unknown_ttl, cache.unknown_ttl);
        set(&mut self.pull.serve_stale, cache.serve_stale);
        set(&mut self.pull.revalidate_timeout, cache.revalidate_timeout);
        set(&mut self.pull.max_downloads, cache.max_downloads);
        set(&mut self.pull.connections_per_blob, cache.connections_per_blob);
        let kept = &mut self.pull.platforms;
        set(&mut kept.keep, platforms.keep);
        set(&mut kept.default, platforms.default.map(|platform| Some(platform.0)));
        set(&mut kept.others, platforms.others);
        set(&mut kept.answer, platforms.answer);
        set(&mut kept.header_from, platforms.header_from);
        let ahead = &mut self.pull.prefetch;
        set(&mut ahead.on_pull, prefetch.on_pull);
        set(&mut ahead.concurrency, prefetch.concurrency);
        set(&mut ahead.rate, prefetch.rate.map(|rate| Some(rate.0)));
        set(&mut ahead.follow, prefetch.follow);
        set(&mut ahead.quota_floor, prefetch.quota_floor);
        set(&mut self.pull.airgap.trusted, airgap.trusted_keys);
        set(&mut self.pull.airgap.watch, airgap.watch.map(|path| Some(path.0)));
        set(&mut self.pull.airgap.volumes_kept, airgap.volumes_kept);
        set(&mut self.log.format, log.format);
        set(&mut self.log.level, log.level);
        Tables {
            listeners: listener,
            access,
            upstreams: upstream,
            clients: platforms.client,
            images: prefetch.image,
            compose,
        }
    }

    /// Takes over the tables of `file`, which are about what every layer has said, and warns of what is odd.
    fn take_in(
        &mut self,
        file: &raw::Document<'_>,
        environment: &Environment,
        tables: Tables,
        warnings: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        let Tables { listeners, access, upstreams, clients, images, compose } = tables;
        let by_claim = upstreams.iter().any(|upstream| upstream.get_ref().is_by_claim());
        self.listeners = listeners::build(file, listeners, &self.listen, by_claim, warnings)?;
        self.check_admin()?;
        self.server.access = Access::new(access::build(file, &access, self)?);
        let open = |registry: &RegistryName| self.open_to_all(registry, &self.server.access);
        (self.upstreams, self.upstream_files) =
            upstreams::build(file, environment, upstreams, open, warnings)?;
        access::check_served(file, &access, &self.upstreams)?;
        self.pull.platforms.clients = platforms::build(file, clients, self)?;
        (self.pull.prefetch.images, self.store.pinned) =
            prefetch::build(file, images, &self.upstreams)?;
        self.pull.compose = compose::build(file, compose, &self.upstreams)?;
        platforms::warn(&self.pull, warnings);
        Ok(())
    }

    /// Every address at which clients pull, what is asked there, and where that was read from.
    pub fn doors(&self) -> impl Iterator<Item = (&[SocketAddr], &Door, &DoorFiles)> {
        let own = self.listeners.iter().map(|listener| {
            (std::slice::from_ref(&listener.address), &listener.door, &listener.files)
        });
        iter::once((&*self.listen, &self.server.door, &self.door_files)).chain(own)
    }

    /// Every address at which clients pull.
    fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.doors().flat_map(|(addresses, ..)| addresses).copied()
    }

    /// An address at which anybody who reaches it may, by `access`, pull what he likes of `registry`.
    fn open_to_all(&self, registry: &RegistryName, access: &Access) -> Option<SocketAddr> {
        let open = self.doors().filter(|(_, door, _)| door.is_open());
        let mut far = open
            .flat_map(|(addresses, ..)| addresses.iter().copied())
            .filter(|address| !address.ip().to_canonical().is_loopback());
        far.find(|address| access.opens(registry, *address))
    }

    fn overrule(&mut self, overrides: &Overrides) {
        if !overrides.listen.is_empty() {
            self.listen.clone_from(&overrides.listen);
        }
        set(&mut self.store.dir, overrides.dir.clone());
        set(&mut self.log.format, overrides.log_format);
    }

    /// Two layers may name one address for two listeners: only here are both known.
    fn check_addresses(&self) -> Result<(), ConfigError> {
        if let Some(twice) = values::first_repeated(&self.listen) {
            let problem = format!("{twice} is given twice: write each address once");
            return Err(ConfigError::key("server.listen", problem));
        }
        Ok(())
    }

    fn check_admin(&self) -> Result<(), ConfigError> {
        let Some(admin) = self.admin.filter(|admin| admin.port() != 0) else { return Ok(()) };
        if !self.addresses().any(|address| address == admin) {
            return Ok(());
        }
        let other = if self.listen.contains(&admin) { "server.listen" } else { "a [[listener]]" };
        let problem = format!(
            "{admin} is also in {other}: write another port, or \"off\" for no metrics and health address"
        );
        Err(ConfigError::key("admin.listen", problem))
    }
}

/// What is said of a configuration without any address.
const NOWHERE: &str = "nowhere to listen: write at least one address, such as [\"0.0.0.0:5000\"]";

impl Default for Config {
    /// What wharf does when told nothing: Docker Hub for everyone on port 5000.
    fn default() -> Self {
        let upstream = raw::Upstream::of(RegistryName::docker_hub());
        Self {
            listen: vec![(Ipv4Addr::UNSPECIFIED, 5000).into()],
            door_files: DoorFiles::default(),
            listeners: Vec::new(),
            mode: upstream::Mode::default(),
            admin: Some((Ipv4Addr::LOCALHOST, 5001).into()),
            store: store::Config::at(Path::new("wharf-data")),
            pull: pull::Config {
                tag_ttl: Duration::from_secs(60),
                unknown_ttl: Duration::from_secs(30),
                serve_stale: true,
                revalidate_timeout: Duration::from_secs(5),
                max_downloads: 64,
                connections_per_blob: 4,
                scrub: Some(SCRUB),
                limits: pull::Limits::default(),
                platforms: pull::Platforms::default(),
                prefetch: pull::Prefetch::default(),
                compose: Vec::new(),
                airgap: pull::Airgap::default(),
            },
            documents: upstream::Limits::default(),
            server: server::Config {
                door: Door::default(),
                access: Access::default(),
                headers: 100,
                header_bytes: 32 * 1024,
                document_room_per_client: 8 * 1024 * 1024,
                misses_per_client: 100,
                max_connections: 4096,
                max_connections_per_client: 256,
                max_requests_per_client: 32,
                header_timeout: Duration::from_secs(30),
                client_timeout: Duration::from_secs(60),
                drain: Duration::from_secs(25),
                send_buffer: None,
            },
            upstreams: vec![upstreams::without_files(upstream)],
            upstream_files: BTreeMap::new(),
            log: LogConfig { format: LogFormat::Text, level: "info".to_owned() },
        }
    }
}

/// A layer that does not name a key leaves it as it is.
fn set<T, V: Into<T>>(place: &mut T, value: Option<V>) {
    if let Some(value) = value {
        *place = value.into();
    }
}
