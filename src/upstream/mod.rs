//! The upstream edge: one registry, spoken to politely.
//!
//! Nothing above this layer sees HTTP: a question goes in with the specification's names, and a manifest,
//! a blob's body or an [`Error`] that says whose fault it was comes out.

mod account;
mod attempt;
mod auth;
mod body;
mod claim;
mod client;
mod credentials;
mod dial;
mod error;
#[cfg(test)]
mod fake;
#[cfg(fuzzing)]
pub mod fuzzing;
mod headers;
mod health;
mod inside;
mod kin;
mod limits;
mod line;
mod pace;
mod presence;
mod ranges;
mod retry;
mod rules;
mod tags;
#[cfg(test)]
mod tests;
mod tls;
mod token;

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use serde::de::IgnoredAny;
use url::Url;

use crate::{
    clock::Clock,
    documents::Documents,
    metrics::{Limit, Metrics},
    oci::{Digest, MediaType, Reference, RegistryName, RepositoryName, Tag},
};
pub use account::{Account, AccountLeft};
use attempt::Document;
use auth::Auth;
pub use body::BlobBody;
pub use claim::{Claim, Terms, Wanted};
use client::{Answer, Http, Question, Shared};
pub use credentials::{Helper, HelperName, Password, Source, read_password};
pub use error::{ConfigError, Error};
use headers::ContentRange;
use health::Endpoint;
pub use kin::Host;
pub use limits::Limits;
pub use line::Mode;
use line::{Line, Switch};
use pace::OpenBodies;
use ranges::Ranges;
pub use rules::{RepositoryGlob, RepositoryRules};

/// What clients pull; a registry that is not told of lists answers with some platform's manifest.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
const BLOBS: &str = "*/*";
const TAGS: &str = "application/json";
const REFERRERS: &str = "application/vnd.oci.image.index.v1+json, application/json";

/// One registry and how to reach it; every value is already checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name that clients use.
    pub registry: RegistryName,
    /// Which of its repositories are served.
    pub rules: RepositoryRules,
    /// Whether whoever reaches wharf may pull what its accounts can.
    pub public: bool,
    /// Base addresses (`https://registry-1.docker.io`, with a path if it has one), tried in order; at least one.
    pub endpoints: Vec<Url>,
    /// wharf's own, used in turn; none: it is asked without one. Shown to this registry's own endpoints and token service
    /// only, and to its only endpoint.
    pub accounts: Vec<Account>,
    /// Where clients bring their own accounts: on which terms. There are no `accounts` then.
    pub clients: Option<Terms>,
    /// Hosts of other endpoints that may be sent the credentials and tokens that were given for them.
    pub account_for: Vec<Host>,
    /// PEM certificates to trust besides Mozilla's roots, already read; empty: none.
    pub ca_pem: Vec<u8>,
    /// Hosts besides the registry's own domain whose token service may be sent the credentials.
    pub realms: Vec<Host>,
    /// Whether redirects and token services may be on the site's own network; `None`: those of an endpoint that is
    /// written as an address there.
    pub internal: Option<bool>,
    /// Limits on waiting.
    pub patience: Patience,
}

/// A text that no log, error or `Debug` prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// How long to wait for an upstream, and how often to ask again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To a connection, its TLS handshake included.
    pub connect: Duration,
    /// From a request to the head of its answer.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// Bytes per second of a body, over a minute of waiting for it: one that comes slower is given up, and what is missing
    /// asked for again. The bodies that are open at the same time share it, so that a thin line is not taken for a registry
    /// that drips. `None`: none is given up.
    pub least_rate: Option<u64>,
    /// Tries of one request at one endpoint, the first included; at least 1.
    pub attempts: u32,
}

/// How much a question is worth waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// There is a kept answer to fall back on: ask each endpoint that is not resting once, and give up after
    /// this long altogether, or at once while no endpoint says anything.
    Fallback(Duration),
    /// There is nothing else: all endpoints, all attempts.
    Must,
}

/// The answer to `HEAD …/manifests/<reference>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// What the registry says the manifest's digest is.
    pub digest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// Its length in bytes, if told.
    pub size: Option<u64>,
}

/// The answer to `GET …/manifests/<reference>`: at most [`crate::oci::MANIFEST_MAX_BYTES`], not verified.
#[derive(Clone, Debug)]
pub struct FetchedManifest {
    /// The type the registry named.
    pub media_type: MediaType,
    /// The document, to the byte.
    pub bytes: Bytes,
}

/// One page of a tag list, and where the next begins.
#[derive(Clone, Debug)]
pub struct TagPage {
    /// The tags, in the registry's order.
    pub tags: Vec<Tag>,
    /// The `last` and `n` of the page that follows, if one does.
    pub next: Option<(String, Option<u32>)>,
}

impl Config {
    /// Whether there is an account that may do more than nobody's.
    pub fn has_account(&self) -> bool {
        self.accounts.iter().any(|account| !matches!(account.source, Source::Anonymous))
    }
}

impl Secret {
    /// Takes a text that is not to be shown.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, to be sent to whom it is for.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl Urgency {
    /// What is left of it after some of the time was spent.
    pub(crate) const fn after(self, spent: Duration) -> Self {
        match self {
            Self::Fallback(patience) => Self::Fallback(patience.saturating_sub(spent)),
            Self::Must => Self::Must,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Every configured registry.
pub struct Upstreams {
    /// A few: found sooner by comparing than by hashing.
    by_name: BTreeMap<RegistryName, Arc<Upstream>>,
    documents: Documents,
    switch: Switch,
    metrics: Metrics,
}

/// One registry, and what is known of its endpoints' health and of the account there.
///
/// Every future may be dropped at any point: what it has begun is then as if the connection had broken.
pub struct Upstream {
    registry: RegistryName,
    rules: RepositoryRules,
    endpoints: Vec<Arc<Endpoint>>,
    attempts: u32,
    clients: Option<Terms>,
    http: Http,
    line: Line,
    auth: Auth,
    ranges: Ranges,
    part_patience: Duration,
    metrics: Metrics,
}

impl Upstreams {
    /// Readies a client for each registry; nothing is dialled.
    ///
    /// # Errors
    /// When a registry is there twice, has no endpoint to ask, or certificates that cannot be read.
    pub fn new(
        configs: Vec<Config>,
        limits: Limits,
        metrics: &Metrics,
        clock: &Clock,
    ) -> Result<Self, ConfigError> {
        let counted = metrics.clone();
        let full = move || counted.limit_reached(Limit::DocumentRoom);
        let documents = Documents::new(limits.document_room, full);
        let (switch, open_bodies) = (Switch::default(), OpenBodies::default());
        let shared = Shared { documents: documents.clone(), open_bodies, limits };
        let mut by_name = BTreeMap::new();
        for config in configs {
            let registry = config.registry.clone();
            let upstream = Arc::new(Upstream::new(config, metrics, clock, &shared, &switch)?);
            if by_name.insert(registry.clone(), upstream).is_some() {
                return Err(ConfigError::Twice { registry });
            }
        }
        let upstreams = Self { by_name, documents, switch, metrics: metrics.clone() };
        upstreams.set_mode(Mode::default());
        Ok(upstreams)
    }

    /// Whether registries are asked.
    pub fn mode(&self) -> Mode {
        self.switch.mode()
    }

    /// Has registries asked so from now on: what is being asked of them ends when they are not to be.
    pub fn set_mode(&self, mode: Mode) {
        self.switch.set(mode);
        self.metrics.mode(&Mode::ALL.map(|each| (each.as_str(), each == mode)));
    }

    /// The registry of that name, if it is configured.
    pub fn select(&self, registry: &RegistryName) -> Option<&Arc<Upstream>> {
        self.by_name.get(registry)
    }

    /// Has the sources of all accounts asked anew before they are used again.
    pub fn reread_accounts(&self) {
        for upstream in self.by_name.values() {
            upstream.auth.accounts().reread();
        }
    }

    /// Where all documents have their room: those that come from registries, and those that are answered.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Whether there is a registry to which clients bring their own accounts.
    pub fn have_terms(&self) -> bool {
        self.by_name.values().any(|upstream| upstream.clients.is_some())
    }

    /// The names of all configured registries, in no order.
    pub fn registries(&self) -> impl Iterator<Item = &RegistryName> {
        self.by_name.keys()
    }
}

impl Upstream {
    fn new(
        config: Config,
        metrics: &Metrics,
        clock: &Clock,
        shared: &Shared,
        switch: &Switch,
    ) -> Result<Self, ConfigError> {
        let registry = config.registry.clone();
        let usable = |url: &Url| {
            // An account in an address would be written to the log with it.
            let no_account = url.username().is_empty() && url.password().is_none();
            matches!(url.scheme(), "http" | "https") && url.has_host() && no_account
        };
        if config.endpoints.is_empty() || !config.endpoints.iter().all(usable) {
            let reason = "endpoints are http or https addresses without a user name, at least one"
                .to_owned();
            return Err(ConfigError::Endpoint { registry, reason });
        }
        let line = Line::new(&registry, clock, switch);
        let http = Http::new(&config, metrics, clock, shared, &line)
            .map_err(|reason| ConfigError::Ca { registry: registry.clone(), reason })?;
        let auth = Auth::new(&config, metrics, clock);
        let part_patience = config.patience.connect + config.patience.first_byte;
        let endpoint = |base| Arc::new(Endpoint::new(base, clock.clone()));
        Ok(Self {
            registry,
            rules: config.rules,
            endpoints: config.endpoints.into_iter().map(endpoint).collect(),
            attempts: config.patience.attempts,
            clients: config.clients,
            http,
            line,
            auth,
            ranges: Ranges::new(clock),
            part_patience,
            metrics: metrics.clone(),
        })
    }

    /// Whether that repository of it may be served, kept or not.
    pub fn permits(&self, name: &RepositoryName) -> bool {
        self.rules.permit(name)
    }

    /// On which terms clients bring their own accounts, if they do.
    pub const fn terms(&self) -> Option<Terms> {
        self.clients
    }

    /// Asks whether whoever claims `claim` may see `wanted`.
    ///
    /// # Errors
    /// [`Error`]; `Unauthorized` when the registry wants another account.
    pub async fn admits(
        &self,
        name: &RepositoryName,
        wanted: &Wanted,
        claim: &Claim,
        urgency: Urgency,
    ) -> Result<(), Error> {
        let mut query = None;
        let (question, path) = match wanted {
            Wanted::Manifest(reference) => {
                let question = Question::get("manifest", MANIFESTS).head_only();
                (question, format!("/v2/{name}/manifests/{reference}"))
            }
            Wanted::Blob(digest) => {
                (Question::get("blob", BLOBS).head_only(), format!("/v2/{name}/blobs/{digest}"))
            }
            Wanted::Tags => {
                query = Some("n=1");
                (Question::get("tags", TAGS), format!("/v2/{name}/tags/list"))
            }
        };
        self.ask_as(claim, &question, name, (&path, query), urgency).await
    }

    /// From now on, what is asked of the repository is asked with this account, which the registry let in.
    pub fn lend(&self, name: &RepositoryName, claim: &Claim) {
        self.auth.lend(name, claim);
    }

    /// Whether an endpoint answered when it was last asked, and since when that is so, in seconds since 1970; `None` when
    /// none was asked yet.
    pub fn seen(&self) -> Option<(bool, u64)> {
        let seen = || self.endpoints.iter().filter_map(|endpoint| endpoint.seen());
        let answers = seen().filter(|(up, _)| *up).min_by_key(|(_, at)| *at);
        answers.or_else(|| seen().max_by_key(|(_, at)| *at))
    }

    /// Whether it is of no use to ask: wharf is offline, or no endpoint says anything and one is being looked for.
    pub fn is_away(&self) -> bool {
        self.line.is_offline() || self.line.is_away()
    }

    /// Waits until it is of use to ask; whether the registry was away for certain, and came back.
    pub async fn present(&self) -> bool {
        self.line.present().await
    }

    /// Waits until the registry was away, and is back.
    pub async fn returned(&self) {
        self.line.returned().await;
    }

    /// How many pulls the registry still allows this wharf, as it said within the last hour; `None` where it did not.
    pub fn pulls_left(&self) -> Option<u64> {
        self.auth.accounts().pulls_left()
    }

    /// The same of each account that is configured, in its order.
    pub fn accounts_left(&self) -> Vec<AccountLeft> {
        self.auth.accounts().each_left()
    }

    /// What the manifest is, without fetching it: free on Docker Hub, which counts `GET`s.
    ///
    /// # Errors
    /// [`Error`]; `Protocol` also when the registry does not name the digest that a tag stands for.
    pub async fn manifest_head(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        urgency: Urgency,
    ) -> Result<ManifestHead, Error> {
        let question = Question::get("manifest", MANIFESTS).head_only();
        let path = format!("/v2/{name}/manifests/{reference}");
        let read = |answer: Answer, _: &Arc<Endpoint>| {
            let told = headers::content_digest(&answer.headers);
            let digest = match (reference, told) {
                // Another algorithm's digest of the same bytes is fine; the name is the one asked for.
                (Reference::Digest(asked), Ok(Some(told)))
                    if told != *asked && told.algorithm() == asked.algorithm() =>
                {
                    return Err(Error::protocol("the manifest of another digest"));
                }
                (Reference::Digest(asked), _) => *asked,
                (Reference::Tag(_), told) => {
                    told?.ok_or_else(|| Error::protocol("no Docker-Content-Digest for a tag"))?
                }
            };
            let media_type = headers::media_type(&answer.headers)?;
            Ok(ManifestHead { digest, media_type, size: headers::content_length(&answer.headers) })
        };
        self.ask_head(&question, name, &path, urgency, read).await
    }

    /// The manifest, of at most [`crate::oci::MANIFEST_MAX_BYTES`]. Its bytes are the registry's word, not yet verified.
    ///
    /// # Errors
    /// [`Error`]; `Protocol` also when it is too long.
    pub async fn manifest(
        &self,
        name: &RepositoryName,
        reference: &Reference,
        urgency: Urgency,
    ) -> Result<FetchedManifest, Error> {
        let question = Question::get("manifest", MANIFESTS);
        let path = format!("/v2/{name}/manifests/{reference}");
        let read = |document: Document| {
            let media_type = headers::media_type(&document.headers)?;
            let said = headers::content_digest(&document.headers).ok().flatten();
            if let (Reference::Tag(_), Some(said)) = (reference, said) {
                // A tag has nothing else to tell whether a byte was lost on the way.
                if Digest::of(said.algorithm(), &document.bytes) != said {
                    return Err(Error::protocol(
                        "a manifest that is not what its digest header says",
                    ));
                }
            }
            Ok(FetchedManifest { media_type, bytes: document.bytes })
        };
        self.ask_document(&question, name, &path, None, urgency, read).await
    }

    /// The length of a blob in bytes.
    ///
    /// # Errors
    /// [`Error`]; `Protocol` also when the registry does not tell.
    pub async fn blob_head(&self, name: &RepositoryName, digest: &Digest) -> Result<u64, Error> {
        let question = Question::get("blob", BLOBS).head_only();
        let path = format!("/v2/{name}/blobs/{digest}");
        let read = |answer: Answer, _: &Arc<Endpoint>| {
            headers::content_length(&answer.headers)
                .ok_or_else(|| Error::protocol("no Content-Length of a blob"))
        };
        self.ask_head(&question, name, &path, Urgency::Must, read).await
    }

    /// The bytes of a blob from offset `from` on. Offsets at or behind the end are `BeyondEnd`.
    ///
    /// A body that breaks off makes its endpoint rest, so that the next call prefers another.
    ///
    /// # Errors
    /// [`Error`]; `Protocol` also when the registry sends another range than the one asked for.
    pub async fn blob(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: u64,
    ) -> Result<BlobBody, Error> {
        self.blob_from(name, digest, from, None, Urgency::Must).await
    }

    /// The bytes of a blob in `range`, which is not empty and lies within it; from its start to the blob's end where the
    /// registry takes no such requests, which [`BlobBody::is_part`] tells. Each endpoint that does not rest is asked once:
    /// a part is worth no more, since the blob can be asked for at once.
    ///
    /// # Errors
    /// As [`Upstream::blob`].
    pub async fn blob_part(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<BlobBody, Error> {
        let urgency = Urgency::Fallback(self.part_patience);
        let body = self.blob_from(name, digest, range.start, Some(range.end), urgency).await?;
        if body.is_part() {
            self.ranges.were_taken();
        }
        Ok(body)
    }

    /// Whether the registry may be asked for parts of blobs.
    pub fn takes_ranges(&self) -> bool {
        self.ranges.are_taken()
    }

    /// The registry did not take a request for a part of a blob: it is asked for none for an hour.
    pub fn dislikes_ranges(&self) {
        self.ranges.are_disliked();
    }

    /// A request for a part of a blob failed as any may, and the one for the whole behind it did not: when that comes twice
    /// with no part between, the registry dislikes them.
    pub fn doubts_ranges(&self) {
        self.ranges.are_doubted();
    }

    async fn blob_from(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        from: u64,
        until: Option<u64>,
        urgency: Urgency,
    ) -> Result<BlobBody, Error> {
        let question = Question { from, until, ..Question::get("blob", BLOBS) };
        let path = format!("/v2/{name}/blobs/{digest}");
        let read = |answer: Answer, endpoint: &Arc<Endpoint>| {
            let length = headers::content_length(&answer.headers);
            let endpoint = Arc::clone(endpoint);
            if answer.status == StatusCode::PARTIAL_CONTENT {
                let range = headers::content_range(&answer.headers);
                let is_it = |range: &ContentRange| {
                    range.first == from && until.is_none_or(|until| range.last == until - 1)
                };
                let range = range.filter(is_it).ok_or_else(|| {
                    Error::protocol(format!("another range than from byte {from} on"))
                })?;
                let total = match until {
                    None => range.total.or_else(|| from.checked_add(length?)),
                    Some(_) => range.total,
                };
                return Ok(BlobBody::part(answer.body, endpoint, from, until, total));
            }
            if length.is_some_and(|total| total < from) {
                return Err(Error::protocol("the blob ends before the offset"));
            }
            Ok(BlobBody::whole(answer.body, endpoint, from, length))
        };
        self.ask_head(&question, name, &path, urgency, read).await
    }

    /// One page of the repository's tags: at most `n` of them, if given, behind the tag `last`, if given, whatever the
    /// registry makes of these.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tags(
        &self,
        name: &RepositoryName,
        n: Option<u32>,
        last: Option<&str>,
        urgency: Urgency,
    ) -> Result<TagPage, Error> {
        let question = Question::get("tags", TAGS);
        let path = format!("/v2/{name}/tags/list");
        let query = page_query(n, last);
        let read = |document: Document| {
            let page = tags::read(&document.bytes, n, last)?;
            let next = match page.is_cut {
                // The registry's own next page is behind all that it sent.
                true => page.tags.last().map(|last| (last.to_string(), n)),
                false => headers::next_page(&document.headers, &document.url),
            };
            Ok(TagPage { tags: page.tags, next })
        };
        self.ask_document(&question, name, &path, query.as_deref(), urgency, read).await
    }

    /// The index of what refers to a manifest, as JSON of at most [`crate::oci::MANIFEST_MAX_BYTES`].
    ///
    /// # Errors
    /// [`Error`]; `NotFound` where the registry has no such API.
    pub async fn referrers(
        &self,
        name: &RepositoryName,
        digest: &Digest,
        urgency: Urgency,
    ) -> Result<Bytes, Error> {
        let question = Question::get("referrers", REFERRERS);
        let path = format!("/v2/{name}/referrers/{digest}");
        let read = |document: Document| match serde_json::from_slice::<IgnoredAny>(&document.bytes)
        {
            Ok(_) => Ok(document.bytes),
            Err(_) => Err(Error::protocol("the list of referrers is not JSON")),
        };
        self.ask_document(&question, name, &path, None, urgency, read).await
    }
}

/// `n=…&last=…`, as far as they are given.
fn page_query(n: Option<u32>, last: Option<&str>) -> Option<String> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(n.map(|n| ("n", n.to_string())));
    query.extend_pairs(last.map(|last| ("last", last)));
    Some(query.finish()).filter(|query| !query.is_empty())
}
