//! The policy: what is answered, from where, and what is kept of it. Knows neither HTTP nor file names.

mod absent;
mod admission;
mod answer;
mod blob;
mod bring;
mod client;
mod coalesce;
mod compose;
mod config;
mod content;
mod damage;
mod download;
mod error;
mod explain;
mod export;
mod freshness;
#[cfg(fuzzing)]
pub mod fuzzing;
mod headed;
mod import;
mod in_flight;
mod inventory;
mod keeping;
mod kept;
mod learned;
mod listing;
mod manifest;
mod matching;
mod pace;
mod passing;
mod platform;
mod prefetch;
mod ranges;
mod ready;
mod registries;
mod relay;
mod report;
mod scrub;
mod served;
mod shared;
mod shortage;
mod skipped;
mod tasks;
mod turns;
mod upkeep;
mod verify;
mod volumes;
mod whose;

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;

pub use crate::{
    store::{BlobFile, StoredBlob},
    upstream::{Claim, Wanted},
};

pub use self::{
    absent::{Absent, Lacking},
    answer::{ManifestAnswer, Want},
    blob::BlobAnswer,
    client::{Asker, Resolution, Signal},
    config::{
        Airgap, AnswerWith, ClientRule, Composed, Config, Limits, Others, Part, Platforms,
        Prefetch, WarmImage, WarmTags, Window,
    },
    content::{Cut, PART_BYTES, Reader, SendsParts},
    error::Error,
    export::{DockerImage, ExportEvent},
    import::{ImportTerms, Imported, ImportedImage, ImportedVolume},
    listing::{ListedTags, Referrers},
    report::{
        AccountStatus, CacheStatus, Collected, Explanation, InspectedManifest, Inspection,
        KeptImage, KeptPlatform, KnownClient, Mismatch, PinnedImage, PullEvent, RemovedImage,
        ScrubStatus, Status, UpstreamStatus, VerifyEvent, VolumeSet,
    },
    verify::Verify,
    whose::on_behalf_of,
};
use self::{
    admission::Admissions,
    client::Clients,
    coalesce::Coalesced,
    compose::Composer,
    damage::Disputes,
    freshness::Freshness,
    headed::Headed,
    in_flight::InFlight,
    pace::Pace,
    passing::Passing,
    platform::Indexes,
    prefetch::{Prefetcher, Schedule},
    ready::Ready,
    scrub::Scrubber,
    served::{Mismatches, Resolutions},
    skipped::Skipped,
    tasks::Tasks,
    volumes::Sets,
};
use crate::{
    clock::Clock,
    documents::Documents,
    lately::Lately,
    metrics::Metrics,
    oci::{Descriptor, Digest, Repository, Tag},
    store::{self, Store},
    upstream::{Mode, Upstream, Upstreams, Urgency},
};

/// The pull-through: asks the store, then the upstream, and keeps what comes. Clones are the same one.
#[derive(Clone)]
pub struct Pull(Arc<Inner>);

/// Manifests of which it is remembered how long they are.
const LENGTHS: usize = 256;

struct Inner {
    config: Config,
    store: Arc<Store>,
    upstreams: Upstreams,
    metrics: Metrics,
    clock: Clock,
    tasks: Tasks,
    freshness: Freshness,
    headed: Headed,
    ready: Ready,
    admissions: Admissions,
    /// There are repositories that are not for everybody who is served.
    has_closed: bool,
    downloads: InFlight,
    clients: Clients,
    prefetch: Prefetcher,
    schedule: Schedule,
    pace: Pace,
    passing: Passing,
    indexes: Indexes,
    skipped: Skipped,
    mismatches: Mismatches,
    resolutions: Resolutions,
    /// Of manifests that were fetched lately.
    lengths: Lately<Digest, u64>,
    composer: Composer,
    disputes: Disputes,
    scrub: Scrubber,
    sets: Sets,
    tag_checks: Coalesced<(Repository, Tag, Want), Result<manifest::Resolved, Error>>,
    manifest_heads: Coalesced<(Repository, Digest), Result<Descriptor, Error>>,
    manifest_fetches: Coalesced<(Repository, Digest), Result<manifest::Fetched, Error>>,
    blob_heads: Coalesced<(Repository, Digest), Result<u64, Error>>,
    tag_lists: Coalesced<listing::PageKey, Result<ListedTags, Error>>,
    referrer_lists: Coalesced<(Repository, Digest), Option<Bytes>>,
}

/// How an answer came about: the value of the `Wharf-Cache` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Another client's download was joined.
    Coalesced,
    /// From the cache alone, or after the registry confirmed it.
    Hit,
    /// Fetched from the registry, and kept.
    Miss,
    /// Passed on from the registry without being kept.
    Relay,
    /// From the cache, because the registry gave no good answer.
    Stale,
}

impl Outcome {
    /// The word for headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coalesced => "coalesced",
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Relay => "relay",
            Self::Stale => "stale",
        }
    }
}

impl Pull {
    /// A pull-through over `store` and `upstreams`.
    pub fn new(
        config: Config,
        store: Arc<Store>,
        upstreams: Upstreams,
        metrics: &Metrics,
        clock: &Clock,
    ) -> Self {
        let downloads = InFlight::new(
            config.max_downloads,
            upstreams.registries().count(),
            &config.limits,
            metrics,
        );
        let limits = config.limits;
        Self(Arc::new(Inner {
            ready: Ready::default(),
            headed: Headed::default(),
            freshness: Freshness::new(
                clock,
                (config.tag_ttl, config.unknown_ttl),
                limits.unknown_names,
                metrics,
            ),
            admissions: Admissions::new(clock, config.unknown_ttl, &limits, metrics),
            has_closed: upstreams.have_terms(),
            clients: Clients::new(config.platforms.clone()),
            prefetch: Prefetcher::new(config.prefetch.clone(), metrics),
            schedule: Schedule::new(&config.prefetch.images),
            pace: Pace::new(config.prefetch.rate, downloads.wanted()),
            passing: Passing::default(),
            indexes: Indexes::default(),
            skipped: Skipped::default(),
            mismatches: Mismatches::default(),
            resolutions: Resolutions::default(),
            lengths: Lately::new(LENGTHS),
            composer: Composer::new(&config.compose, &limits, metrics),
            disputes: Disputes::new(&limits, metrics),
            scrub: Scrubber::new(config.scrub, downloads.wanted()),
            sets: Sets::default(),
            downloads,
            config,
            store,
            upstreams,
            metrics: metrics.clone(),
            clock: clock.clone(),
            tasks: Tasks::default(),
            tag_checks: Coalesced::new(&limits, metrics),
            manifest_heads: Coalesced::new(&limits, metrics),
            manifest_fetches: Coalesced::new(&limits, metrics),
            blob_heads: Coalesced::new(&limits, metrics),
            tag_lists: Coalesced::new(&limits, metrics),
            referrer_lists: Coalesced::new(&limits, metrics),
        }))
    }

    /// Whether requests for this registry can be answered.
    pub fn serves(&self, registry: &crate::oci::RegistryName) -> bool {
        self.0.upstreams.select(registry).is_some() || self.0.composer.serves(registry)
    }

    /// Where all documents have their room.
    pub fn documents(&self) -> &Documents {
        self.0.upstreams.documents()
    }

    /// Whether this client may announce its platform.
    pub fn hears(&self, client: IpAddr) -> bool {
        self.0.clients.may_announce(client)
    }

    /// Whether it is of any matter by which host name a client calls wharf.
    pub fn heeds_hosts(&self) -> bool {
        self.0.clients.heed_hosts()
    }

    /// Why the cache does not take writes; `None` while it does.
    pub fn failing(&self) -> Option<String> {
        self.0.store.failing()
    }

    /// Has registries asked so from now on.
    pub fn set_mode(&self, mode: Mode) {
        self.0.upstreams.set_mode(mode);
    }

    /// Has files and helpers with the accounts of registries asked anew, before the accounts are used again.
    pub fn reread_accounts(&self) {
        self.0.upstreams.reread_accounts();
    }

    /// Looks for registries that say nothing, for as long as it is polled.
    pub async fn watch_registries(&self) -> std::convert::Infallible {
        self.0.upstreams.watch().await
    }

    /// How many downloads, questions to registries and other tasks are open: zero when all is quiet. What sleeps until
    /// it is tried again is quiet.
    pub fn open(&self) -> usize {
        let pull = &self.0;
        let asleep = pull.prefetch.asleep();
        pull.downloads.open() + pull.tasks.open().saturating_sub(asleep)
    }

    /// Waits up to `deadline` for downloads to end; what has not is dropped, and its bytes on disk wait for
    /// the next start. Then closes the store.
    pub async fn finish(&self, deadline: Duration) {
        self.0.tasks.finish(deadline).await;
        self.write_down().await;
        self.0.store.close().await;
    }
}

impl Inner {
    /// The registry of a repository that may be served: to be asked before anything of it is, kept or not.
    fn upstream(&self, repository: &Repository) -> Result<Arc<Upstream>, Error> {
        let registry = &repository.registry;
        match self.upstreams.select(registry) {
            Some(upstream) if upstream.permits(&repository.name) => Ok(Arc::clone(upstream)),
            Some(_) => Err(Error::NotServed(repository.clone())),
            // Of such a registry, nothing is there but what is composed.
            None if self.is_composed(repository) => Err(Error::ManifestUnknown),
            None => Err(Error::RegistryUnknown(registry.clone())),
        }
    }

    /// Whether no registry is to be asked: what is kept is all there is, and as good as it gets.
    fn is_offline(&self) -> bool {
        self.upstreams.mode() == Mode::Offline
    }

    /// What an answer is that only the cache gave. Offline it is nothing to warn of: clients show warnings with every pull,
    /// and there it could be no other.
    fn unconfirmed(&self) -> Outcome {
        if self.is_offline() { Outcome::Hit } else { Outcome::Stale }
    }

    /// How long to wait for a registry, given whether a kept answer could stand in for its own.
    const fn urgency(&self, kept: bool) -> Urgency {
        if kept && self.config.serve_stale {
            return Urgency::Fallback(self.config.revalidate_timeout);
        }
        Urgency::Must
    }

    /// That something was fetched to be kept, and could not be.
    fn not_taken(&self) -> Error {
        let why = self.store.failing();
        Error::NotTaken(why.unwrap_or_else(|| {
            "there is no room for it ([cache] max_size and min_free)".to_owned()
        }))
    }

    /// Counts a write that the store refused; the answer goes on as a relay. That there is no room is no failure.
    fn not_kept(&self, error: &store::Error) {
        if !matches!(error, store::Error::NoRoom { .. } | store::Error::Gone) {
            self.metrics.store_failed();
        }
        tracing::debug!(%error, "relayed without keeping");
    }
}
