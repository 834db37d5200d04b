//! `[[upstream]]`: from a registry's keys to a [`Config`] of the upstream layer, its files read.

use std::{collections::BTreeMap, net::SocketAddr, ops::Range, time::Duration};

use toml::Spanned;
use url::Url;

use super::{
    ConfigError, Environment, UpstreamFiles, accounts, files,
    raw::{self, Document},
    set,
    values::{AuthWord, Distinct, Endpoint, FilePath, Image, Pattern, Realm},
};
use crate::{
    oci::{DOCKER_HUB, RegistryName},
    upstream::{Config, Host, Patience, RepositoryRules, Terms},
};

/// Where Docker Hub answers the registry protocol: not under the name that images carry.
const DOCKER_HUB_ENDPOINT: &str = "https://registry-1.docker.io";

type Built = (Vec<Config>, BTreeMap<RegistryName, UpstreamFiles>);

/// The registries of `file`, in its order, Docker Hub put first when it is not among them. `open` is where anybody may
/// pull what he likes of a registry, if there is such an address.
pub(super) fn build(
    file: &Document<'_>,
    environment: &Environment,
    raw: Vec<Spanned<raw::Upstream>>,
    open: impl Fn(&RegistryName) -> Option<SocketAddr>,
    warnings: &mut Vec<String>,
) -> Result<Built, ConfigError> {
    let mut configs: Vec<Config> = Vec::new();
    let mut all_files = BTreeMap::new();
    for raw in raw {
        let span = raw.span();
        let raw = raw.into_inner();
        let Some(registry) = &raw.registry else {
            let problem = "a registry without a name: write registry = \"…\", such as \"ghcr.io\"";
            return Err(ConfigError::at(file, span, problem.to_owned()));
        };
        if configs.iter().any(|known| known.registry == *registry.get_ref()) {
            let problem =
                format!("{} is listed twice: write one [[upstream]] for it", registry.get_ref());
            return Err(ConfigError::at(file, registry.span(), problem));
        }
        check_endpoints(file, raw.endpoints.as_ref())?;
        check_globs(file, registry.get_ref(), [&raw.allow, &raw.deny])?;
        check_clients(file, &raw)?;
        let named = raw.account_for.clone().unwrap_or_default();
        let files = files_of(file, &raw);
        let reading = accounts::Reading { file, environment, registry: registry.get_ref() };
        let (accounts, private) = reading.accounts(&raw, warnings)?;
        check_private(file, &raw, private, open(registry.get_ref()))?;
        let ca_pem = match &raw.ca {
            Some(ca) => files::read_ca(&file.beside(ca.get_ref())).map_err(|problem| {
                let problem = format!("{} {problem}", ca.get_ref());
                ConfigError::at(file, ca.span(), problem)
            })?,
            None => Vec::new(),
        };
        let config = Config { accounts, ca_pem, ..without_files(raw) };
        check_account_for(file, &named, &config)?;
        warn_of_account(&config, warnings);
        if files.ca.is_some() {
            all_files.insert(config.registry.clone(), files);
        }
        configs.push(config);
    }
    if !configs.iter().any(|config| config.registry.is_docker_hub()) {
        configs.insert(0, without_files(raw::Upstream::of(RegistryName::docker_hub())));
    }
    Ok((configs, all_files))
}

/// Refuses an image whose registry wharf would never ask.
pub(super) fn check_served(
    file: &Document<'_>,
    image: &Spanned<Image>,
    served: &[Config],
) -> Result<(), ConfigError> {
    let registry = &image.get_ref().repository.registry;
    if served.iter().any(|upstream| upstream.registry == *registry) {
        check_permitted(file, image, served)?;
        return check_not_clients(file, image, served);
    }
    let problem = format!(
        "{registry} is not among the registries: write an [[upstream]] with registry = \"{registry}\" too"
    );
    Err(ConfigError::at(file, image.span(), problem))
}

/// Refuses an image of a registry to which clients bring their own accounts: without a client there is none to ask with.
pub(super) fn check_not_clients(
    file: &Document<'_>,
    image: &Spanned<Image>,
    served: &[Config],
) -> Result<(), ConfigError> {
    let registry = &image.get_ref().repository.registry;
    if !served.iter().any(|known| known.registry == *registry && known.clients.is_some()) {
        return Ok(());
    }
    let problem = format!(
        "{registry} is asked with its clients' own accounts (auth = \"client\"), and here is no client: leave the image \
         out, or give wharf an account of its own there"
    );
    Err(ConfigError::at(file, image.span(), problem))
}

/// Refuses an image that wharf would serve to nobody.
fn check_permitted(
    file: &Document<'_>,
    image: &Spanned<Image>,
    served: &[Config],
) -> Result<(), ConfigError> {
    let repository = &image.get_ref().repository;
    let of_it = |upstream: &&Config| upstream.registry == repository.registry;
    if served.iter().find(of_it).is_none_or(|upstream| upstream.rules.permit(&repository.name)) {
        return Ok(());
    }
    let problem =
        format!("{repository} is not served: its [[upstream]] has it in deny, or not in allow");
    Err(ConfigError::at(file, image.span(), problem))
}

/// What `raw` says, apart from what stands in other files; a missing `registry` is Docker Hub.
pub(super) fn without_files(raw: raw::Upstream) -> Config {
    let registry = raw.registry.map_or_else(RegistryName::docker_hub, Spanned::into_inner);
    let endpoints = match raw.endpoints {
        Some(endpoints) => endpoints.into_inner().into_iter().map(Url::from).collect(),
        None => vec![default_endpoint(&registry)],
    };
    let mut patience = Patience {
        connect: Duration::from_secs(10),
        first_byte: Duration::from_secs(20),
        idle: Duration::from_secs(30),
        least_rate: Some(1024),
        attempts: 4,
    };
    set(&mut patience.connect, raw.connect_timeout);
    set(&mut patience.first_byte, raw.first_byte_timeout);
    set(&mut patience.idle, raw.idle_timeout);
    set(&mut patience.least_rate, raw.least_rate);
    set(&mut patience.attempts, raw.attempts.map(|attempts| attempts.0));
    let globs = |list: Option<Spanned<Distinct<Pattern>>>| {
        list.map(|list| list.into_inner().into()).unwrap_or_default()
    };
    let rules = RepositoryRules { allow: globs(raw.allow), deny: globs(raw.deny) };
    let account_for = raw.account_for.unwrap_or_default().into_iter();
    let clients = raw.auth.is_some_and(|auth| auth.into_inner() == AuthWord::Client);
    let mut terms =
        Terms { ttl: Duration::from_secs(300), offline_grace: Duration::from_secs(12 * 3600) };
    set(&mut terms.ttl, raw.auth_ttl.map(Spanned::into_inner));
    set(&mut terms.offline_grace, raw.offline_grace.map(Spanned::into_inner));
    Config {
        registry,
        rules,
        public: raw.public.unwrap_or_default(),
        endpoints,
        accounts: Vec::new(),
        clients: clients.then_some(terms),
        account_for: account_for.map(Spanned::into_inner).map(Host::from).collect(),
        ca_pem: Vec::new(),
        realms: raw.realms.unwrap_or_default().into_iter().map(Host::from).collect(),
        internal: raw.internal,
        patience,
    }
}

fn default_endpoint(registry: &RegistryName) -> Url {
    let address = match registry.as_str() {
        DOCKER_HUB => DOCKER_HUB_ENDPOINT.to_owned(),
        host => format!("https://{host}"),
    };
    Url::parse(&address).expect("a registry's name is a host and a port")
}

fn check_endpoints(
    file: &Document<'_>,
    endpoints: Option<&Spanned<Vec<Endpoint>>>,
) -> Result<(), ConfigError> {
    let Some(endpoints) = endpoints else { return Ok(()) };
    let list = endpoints.get_ref();
    if list.is_empty() {
        let problem = "no endpoint: write at least one address, or leave the key out";
        return Err(ConfigError::at(file, endpoints.span(), problem.to_owned()));
    }
    let twice = list.iter().enumerate().find(|(at, endpoint)| list[..*at].contains(endpoint));
    twice.map_or(Ok(()), |(_, endpoint)| {
        let problem = format!("{endpoint} is given twice: write each address once");
        Err(ConfigError::at(file, endpoints.span(), problem))
    })
}

/// Refuses patterns that match nothing of that registry.
fn check_globs(
    file: &Document<'_>,
    registry: &RegistryName,
    lists: [&Option<Spanned<Distinct<Pattern>>>; 2],
) -> Result<(), ConfigError> {
    if !registry.is_docker_hub() {
        return Ok(());
    }
    for list in lists.into_iter().flatten() {
        let bare = list.get_ref().0.iter().find(|pattern| !pattern.0.spans_components());
        if let Some(bare) = bare {
            let problem = format!(
                "\"{bare}\" matches nothing: on Docker Hub every repository has a namespace, write \"library/{bare}\" \
                 for official images"
            );
            return Err(ConfigError::at(file, list.span(), problem));
        }
    }
    Ok(())
}

/// Refuses to lend an account to everybody, unless that is said: a cache with an account is a confused deputy.
fn check_private(
    file: &Document<'_>,
    raw: &raw::Upstream,
    private: Option<Range<usize>>,
    open: Option<SocketAddr>,
) -> Result<(), ConfigError> {
    let (Some(account), Some(open)) = (private, open) else { return Ok(()) };
    let allows_some = raw.allow.as_ref().is_some_and(|allow| !allow.get_ref().0.is_empty());
    if allows_some || raw.public == Some(true) {
        return Ok(());
    }
    let problem = format!(
        "whoever reaches {open} could pull every private image that this account can: write here which repositories \
         are served, such as allow = [\"library/*\"], or restrict [server] allow_clients, or say in [[access]] who may \
         pull them, or write public = true if they may"
    );
    Err(ConfigError::at(file, account, problem))
}

/// Refuses what makes no sense beside clients that bring their own accounts, or without them.
fn check_clients(file: &Document<'_>, raw: &raw::Upstream) -> Result<(), ConfigError> {
    let (span, problem) = match &raw.auth {
        Some(auth) if *auth.get_ref() == AuthWord::Client => {
            let Some(account) = accounts::first(raw) else { return Ok(()) };
            let problem = "an account of wharf's own beside auth = \"client\": each client's own is asked for, \
                           leave one of them out";
            (account, problem)
        }
        _ => {
            let ttl = raw.auth_ttl.as_ref().map(Spanned::span);
            let Some(span) = ttl.or_else(|| raw.offline_grace.as_ref().map(Spanned::span)) else {
                return Ok(());
            };
            (
                span,
                "nothing is left to clients' accounts here: write auth = \"client\" too, or leave it out",
            )
        }
    };
    Err(ConfigError::at(file, span, problem.to_owned()))
}

/// Refuses hosts that the account cannot be for, since they are not asked.
fn check_account_for(
    file: &Document<'_>,
    named: &[Spanned<Realm>],
    config: &Config,
) -> Result<(), ConfigError> {
    let is_asked = |host: &Realm| config.endpoints.iter().any(|endpoint| host.0.is_of(endpoint));
    let idle = named.iter().find(|host| !is_asked(host.get_ref()));
    idle.map_or(Ok(()), |host| {
        let problem = format!(
            "{} is no endpoint of {}: write the host of one, and its port if it is not the usual \
             one, or leave it out",
            host.get_ref(),
            config.registry
        );
        Err(ConfigError::at(file, host.span(), problem))
    })
}

/// Warns where the account goes unprotected, and where it does not go although one might think so.
fn warn_of_account(config: &Config, warnings: &mut Vec<String>) {
    if !config.has_account() {
        return;
    }
    let registry = &config.registry;
    let without: Vec<_> = config.endpoints_without_account().collect();
    let mut with = config.endpoints.iter().filter(|endpoint| !without.contains(endpoint));
    if let Some(endpoint) = with.find(|endpoint| endpoint.scheme() == "http") {
        warnings.push(format!(
            "the password for {registry} crosses the network unprotected: {endpoint} is not https"
        ));
    }
    warnings.extend(without.into_iter().map(|endpoint| {
        let host = endpoint.host_str().unwrap_or_default();
        let port = endpoint.port().map_or_else(String::new, |port| format!(":{port}"));
        format!(
            "{endpoint} is asked without the account for {registry}: if it may have the password, \
             write account_for = [\"{host}{port}\"] in the [[upstream]] of {registry}"
        )
    }));
}

fn files_of(file: &Document<'_>, raw: &raw::Upstream) -> UpstreamFiles {
    let path =
        |path: &Option<Spanned<FilePath>>| path.as_ref().map(|path| file.beside(path.get_ref()));
    UpstreamFiles { ca: path(&raw.ca) }
}
