//! The file's own form: every key optional, unknown ones refused at every level.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    Config, ConfigError, access, accounts,
    compose::{self, Parts},
    listeners::{self, RawDoor},
    platforms, prefetch,
    values::{
        self, AdminListen, Age, AnswerWord, AuthWord, ClientAuth, Count, CredentialHelper,
        Distinct, DocumentBytes, DocumentRoom, Endpoint, ErrorBytes, Every, FilePath, Filter,
        HeadBytes, HostName, Image, ImageGlob, Images, LeastRate, Listen, LogFormat, MaxSize,
        Memory, MinFree, ModeWord, NameGlob, Network, OthersWord, Pattern, PlatformName,
        Preference, Rate, Realm, Scrub, SendBuffer, Subject, TrustedKey, Wait, Window,
    },
};
use crate::{oci::RegistryName, upstream::RepositoryGlob};

/// A file's text, and the name it goes by in messages.
pub(super) struct Document<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
pub(super) struct Raw {
    pub(super) server: Server,
    pub(super) limits: Limits,
    pub(super) admin: Admin,
    pub(super) cache: Cache,
    pub(super) platforms: Platforms,
    pub(super) prefetch: Prefetch,
    pub(super) airgap: Airgap,
    pub(super) log: Log,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) listener: Vec<Spanned<Listener>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) access: Vec<Spanned<Access>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) upstream: Vec<Spanned<Upstream>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) compose: Vec<Spanned<Composed>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [server]")]
pub(super) struct Server {
    pub(super) listen: Option<Spanned<Listen>>,
    pub(super) mode: Option<ModeWord>,
    pub(super) allow_clients: Option<Distinct<Network>>,
    pub(super) max_connections: Option<Count<1, 1_000_000>>,
    pub(super) max_connections_per_client: Option<Count<1, 1_000_000>>,
    pub(super) max_requests_per_client: Option<Count<1, 1_000_000>>,
    pub(super) header_timeout: Option<Wait>,
    pub(super) client_timeout: Option<Wait>,
    pub(super) drain: Option<Age>,
    pub(super) send_buffer: Option<SendBuffer>,
    pub(super) users: Option<Spanned<FilePath>>,
    pub(super) sign_in: Option<Spanned<bool>>,
    pub(super) users_without_tls: Option<bool>,
    pub(super) tls: Option<Spanned<Tls>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [limits]")]
pub(super) struct Limits {
    pub(super) headers: Option<Count<16, 1000>>,
    pub(super) header_bytes: Option<HeadBytes>,
    pub(super) list_entries: Option<Count<1, 10_000>>,
    pub(super) unknown_names: Option<Count<1, 1_000_000>>,
    pub(super) misses_per_client: Option<Count<0, 1_000_000>>,
    pub(super) questions: Option<Count<1, 1_000_000>>,
    pub(super) questions_per_registry: Option<Count<1, 4096>>,
    pub(super) waiting_downloads: Option<Count<0, 1_000_000>>,
    pub(super) waiting_readers: Option<Count<1, 1_000_000>>,
    pub(super) document_room: Option<DocumentRoom>,
    pub(super) document_room_per_client: Option<DocumentRoom>,
    pub(super) manifest_bytes: Option<DocumentBytes>,
    pub(super) manifest_entries: Option<Count<16, 16_384>>,
    pub(super) json_depth: Option<Count<8, 1000>>,
    pub(super) token_bytes: Option<DocumentBytes>,
    pub(super) error_bytes: Option<ErrorBytes>,
    pub(super) verdicts: Option<Count<1, 1_000_000>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [[listener]]")]
pub(super) struct Listener {
    pub(super) address: Option<Spanned<values::Listener>>,
    pub(super) allow_clients: Option<Distinct<Network>>,
    pub(super) users: Option<Spanned<FilePath>>,
    pub(super) sign_in: Option<Spanned<bool>>,
    pub(super) users_without_tls: Option<bool>,
    pub(super) tls: Option<Spanned<Tls>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [[access]]")]
pub(super) struct Access {
    pub(super) subject: Option<Spanned<NameGlob>>,
    pub(super) user: Option<Spanned<NameGlob>>,
    pub(super) clients: Option<Spanned<Distinct<Network>>>,
    pub(super) listener: Option<Spanned<values::Listener>>,
    pub(super) allow: Option<Spanned<Distinct<ImageGlob>>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table, such as { cert = \"server.pem\", key = \"server.key\" }"
)]
pub(super) struct Tls {
    pub(super) cert: Option<Spanned<FilePath>>,
    pub(super) key: Option<Spanned<FilePath>>,
    pub(super) client_ca: Option<Spanned<FilePath>>,
    pub(super) client_crl: Option<Spanned<FilePath>>,
    pub(super) client_auth: Option<Spanned<ClientAuth>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [admin]")]
pub(super) struct Admin {
    pub(super) listen: Option<AdminListen>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [cache]")]
pub(super) struct Cache {
    pub(super) dir: Option<FilePath>,
    pub(super) max_size: Option<MaxSize>,
    pub(super) min_free: Option<MinFree>,
    pub(super) scrub: Option<Scrub>,
    pub(super) tag_ttl: Option<Age>,
    pub(super) unknown_ttl: Option<Age>,
    pub(super) serve_stale: Option<bool>,
    pub(super) revalidate_timeout: Option<Wait>,
    pub(super) max_downloads: Option<Count<1, 4096>>,
    pub(super) connections_per_blob: Option<Count<1, 8>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [platforms]")]
pub(super) struct Platforms {
    pub(super) keep: Option<Distinct<PlatformName>>,
    pub(super) default: Option<PlatformName>,
    pub(super) others: Option<OthersWord>,
    pub(super) answer: Option<AnswerWord>,
    pub(super) header_from: Option<Distinct<Network>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) client: Vec<Spanned<Client>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [[platforms.client]]")]
pub(super) struct Client {
    #[serde(rename = "match")]
    pub(super) net: Option<Network>,
    pub(super) subject: Option<Subject>,
    pub(super) listener: Option<Spanned<values::Listener>>,
    pub(super) host: Option<HostName>,
    pub(super) platform: Option<Preference>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [prefetch]")]
pub(super) struct Prefetch {
    pub(super) on_pull: Option<bool>,
    pub(super) concurrency: Option<Count<1, 64>>,
    pub(super) rate: Option<Rate>,
    pub(super) follow: Option<bool>,
    pub(super) quota_floor: Option<Count<0, 1_000_000>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) image: Vec<Spanned<WarmImage>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [[prefetch.image]]")]
pub(super) struct WarmImage {
    pub(super) name: Option<Spanned<Images>>,
    pub(super) newest: Option<Spanned<Count<1, 1000>>>,
    pub(super) platforms: Option<Distinct<PlatformName>>,
    pub(super) every: Option<Every>,
    pub(super) window: Option<Window>,
    pub(super) pinned: Option<bool>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [log]")]
pub(super) struct Log {
    pub(super) format: Option<LogFormat>,
    pub(super) level: Option<Filter>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [airgap]")]
pub(super) struct Airgap {
    pub(super) trusted_keys: Option<Distinct<TrustedKey>>,
    pub(super) watch: Option<FilePath>,
    pub(super) volumes_kept: Option<Wait>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [[upstream]]")]
pub(super) struct Upstream {
    pub(super) registry: Option<Spanned<RegistryName>>,
    pub(super) allow: Option<Spanned<Distinct<Pattern>>>,
    pub(super) deny: Option<Spanned<Distinct<Pattern>>>,
    pub(super) public: Option<bool>,
    pub(super) endpoints: Option<Spanned<Vec<Endpoint>>>,
    pub(super) username: Option<Spanned<String>>,
    pub(super) password_file: Option<Spanned<FilePath>>,
    pub(super) password_env: Option<Spanned<String>>,
    pub(super) docker_config: Option<Spanned<FilePath>>,
    pub(super) credential_helper: Option<Spanned<CredentialHelper>>,
    pub(super) helper_timeout: Option<Spanned<Wait>>,
    pub(super) helper_env: Option<Spanned<Vec<String>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) account: Vec<Spanned<Account>>,
    pub(super) auth: Option<Spanned<AuthWord>>,
    pub(super) auth_ttl: Option<Spanned<Age>>,
    pub(super) offline_grace: Option<Spanned<Age>>,
    pub(super) account_for: Option<Vec<Spanned<Realm>>>,
    pub(super) ca: Option<Spanned<FilePath>>,
    pub(super) realms: Option<Vec<Realm>>,
    pub(super) internal: Option<bool>,
    pub(super) connect_timeout: Option<Wait>,
    pub(super) first_byte_timeout: Option<Wait>,
    pub(super) idle_timeout: Option<Wait>,
    pub(super) least_rate: Option<LeastRate>,
    pub(super) attempts: Option<Count<1, 20>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [[upstream.account]]")]
pub(super) struct Account {
    pub(super) name: Option<Spanned<String>>,
    pub(super) anonymous: Option<bool>,
    pub(super) username: Option<Spanned<String>>,
    pub(super) password_file: Option<Spanned<FilePath>>,
    pub(super) password_env: Option<Spanned<String>>,
    pub(super) docker_config: Option<Spanned<FilePath>>,
    pub(super) credential_helper: Option<Spanned<CredentialHelper>>,
    pub(super) helper_timeout: Option<Spanned<Wait>>,
    pub(super) helper_env: Option<Spanned<Vec<String>>>,
}

#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields, expecting = "a table: [[compose]]")]
pub(super) struct Composed {
    pub(super) name: Option<Spanned<Image>>,
    pub(super) platforms: Option<Spanned<Parts>>,
}

impl Document<'_> {
    /// Reads the document.
    pub(super) fn parse(&self) -> Result<Raw, ConfigError> {
        toml::from_str(self.text).map_err(|error| ConfigError::toml(self, &error))
    }

    /// `path` as seen from the document's directory, absolute so that it means the same from anywhere.
    pub(super) fn beside(&self, path: &FilePath) -> PathBuf {
        let near = self.path.with_file_name(&path.0);
        std::path::absolute(&near).unwrap_or(near)
    }
}

impl Upstream {
    /// A registry of which nothing else is said.
    pub(super) fn of(registry: RegistryName) -> Self {
        Self { registry: Some(anywhere(registry)), ..Self::default() }
    }

    /// Whether its clients bring their own accounts.
    pub(super) fn is_by_claim(&self) -> bool {
        self.auth.as_ref().is_some_and(|auth| *auth.get_ref() == AuthWord::Client)
    }
}

impl From<&Config> for Raw {
    /// Every key with the value it has; the inverse of loading.
    fn from(config: &Config) -> Self {
        let Config {
            listen,
            door_files,
            listeners,
            mode,
            documents,
            admin,
            store,
            pull,
            server,
            upstreams,
            upstream_files,
            log,
        } = config;
        let RawDoor { tls, users, sign_in, users_without_tls } =
            listeners::shown_door(&server.door, door_files);
        let globs = |globs: &[RepositoryGlob]| {
            anywhere(Distinct(globs.iter().cloned().map(Pattern).collect()))
        };
        let upstream = upstreams.iter().map(|upstream| {
            let files = upstream_files.get(&upstream.registry).cloned().unwrap_or_default();
            let (alone, account) = accounts::shown(&upstream.accounts);
            anywhere(Upstream {
                registry: Some(anywhere(upstream.registry.clone())),
                allow: Some(globs(&upstream.rules.allow)),
                deny: Some(globs(&upstream.rules.deny)),
                public: Some(upstream.public),
                endpoints: Some(anywhere(
                    upstream.endpoints.iter().cloned().map(Endpoint).collect(),
                )),
                username: alone.username,
                password_file: alone.password_file,
                password_env: alone.password_env,
                docker_config: alone.docker_config,
                credential_helper: alone.credential_helper,
                helper_timeout: alone.helper_timeout,
                helper_env: alone.helper_env,
                account,
                auth: Some(anywhere(match upstream.clients {
                    Some(_) => AuthWord::Client,
                    None => AuthWord::Wharf,
                })),
                auth_ttl: upstream.clients.map(|terms| anywhere(Age(terms.ttl))),
                offline_grace: upstream.clients.map(|terms| anywhere(Age(terms.offline_grace))),
                account_for: Some(
                    upstream.account_for.iter().cloned().map(Realm).map(anywhere).collect(),
                ),
                ca: files.ca.map(|path| anywhere(FilePath(path))),
                realms: Some(upstream.realms.iter().cloned().map(Realm).collect()),
                internal: upstream.internal,
                connect_timeout: Some(Wait(upstream.patience.connect)),
                first_byte_timeout: Some(Wait(upstream.patience.first_byte)),
                idle_timeout: Some(Wait(upstream.patience.idle)),
                least_rate: Some(LeastRate(upstream.patience.least_rate)),
                attempts: Some(Count(upstream.patience.attempts)),
            })
        });
        Self {
            server: Server {
                listen: Some(anywhere(Listen(listen.clone()))),
                mode: Some(ModeWord(*mode)),
                allow_clients: Some(Distinct(
                    server.door.allow_clients.iter().copied().map(Network).collect(),
                )),
                max_connections: Some(Count::of(server.max_connections)),
                max_connections_per_client: Some(Count::of(server.max_connections_per_client)),
                max_requests_per_client: Some(Count::of(server.max_requests_per_client)),
                header_timeout: Some(Wait(server.header_timeout)),
                client_timeout: Some(Wait(server.client_timeout)),
                drain: Some(Age(server.drain)),
                send_buffer: Some(SendBuffer(server.send_buffer)),
                users,
                sign_in,
                users_without_tls,
                tls,
            },
            limits: Limits {
                headers: Some(Count::of(server.headers)),
                header_bytes: Some(Memory(server.header_bytes)),
                list_entries: Some(Count::of(pull.limits.list_entries)),
                unknown_names: Some(Count::of(pull.limits.unknown_names)),
                misses_per_client: Some(Count::of(server.misses_per_client)),
                questions: Some(Count::of(pull.limits.questions)),
                questions_per_registry: Some(Count::of(pull.limits.questions_per_registry)),
                waiting_downloads: Some(Count::of(pull.limits.waiting_downloads)),
                waiting_readers: Some(Count::of(pull.limits.waiting_readers)),
                document_room: Some(Memory(documents.document_room)),
                document_room_per_client: Some(Memory(server.document_room_per_client)),
                manifest_bytes: Some(Memory(documents.manifest_bytes)),
                manifest_entries: Some(Count::of(pull.limits.manifest_entries)),
                json_depth: Some(Count(documents.json_depth)),
                token_bytes: Some(Memory(documents.token_bytes)),
                error_bytes: Some(Memory(documents.error_bytes)),
                verdicts: Some(Count::of(pull.limits.verdicts)),
            },
            admin: Admin { listen: Some(AdminListen(*admin)) },
            cache: Cache {
                dir: Some(FilePath(store.dir.clone())),
                max_size: Some(MaxSize(store.limits.max_size)),
                min_free: Some(MinFree(store.limits.min_free)),
                scrub: Some(Scrub(pull.scrub)),
                tag_ttl: Some(Age(pull.tag_ttl)),
                unknown_ttl: Some(Age(pull.unknown_ttl)),
                serve_stale: Some(pull.serve_stale),
                revalidate_timeout: Some(Wait(pull.revalidate_timeout)),
                max_downloads: Some(Count::of(pull.max_downloads)),
                connections_per_blob: Some(Count::of(pull.connections_per_blob)),
            },
            platforms: platforms::shown(&pull.platforms),
            prefetch: prefetch::shown(&pull.prefetch, &store.pinned),
            airgap: Airgap {
                trusted_keys: Some(Distinct(
                    pull.airgap.trusted.iter().cloned().map(TrustedKey).collect(),
                )),
                watch: pull.airgap.watch.clone().map(FilePath),
                volumes_kept: Some(Wait(pull.airgap.volumes_kept)),
            },
            log: Log { format: Some(log.format), level: Some(Filter(log.level.clone())) },
            listener: listeners.iter().map(listeners::shown).map(anywhere).collect(),
            access: server.access.rules().iter().map(access::shown).map(anywhere).collect(),
            upstream: upstream.collect(),
            compose: pull.compose.iter().map(compose::shown).map(anywhere).collect(),
        }
    }
}

/// A value that stands in no file.
pub(super) fn anywhere<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
