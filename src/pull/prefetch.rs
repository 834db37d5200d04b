//! Fetching ahead: what a client's platform needs of an image, before the client asks for its parts.
//!
//! A job is an image of one platform. It is begun when a list or manifest is served (or for an image that is kept warm),
//! fetches what is missing through the same downloads as clients do, gives way to them ([`super::pace`]), and is tried
//! again when it fails. Jobs that are not done are written down and taken up at the next start.

mod follow;
#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod jobs;
mod run;
mod warm;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use foldhash::quality::RandomState;
use tokio::sync::Semaphore;

use self::jobs::Jobs;
pub(super) use self::warm::Schedule;
use super::{config, in_flight::Interest};
use crate::{
    metrics::Metrics,
    oci::{Descriptor, Digest, Platform, Repository, Rules},
    on_demand::OnDemand,
};

/// Images remembered as complete, so that serving them again costs no look at the disk.
const COMPLETE_MAX: u64 = 10_000;

/// For how long; what is gone from the disk by then is fetched again.
const COMPLETE_TTL: Duration = Duration::from_secs(10 * 60);

/// Jobs that are tried at one time. A manifest of 4 MiB may name some 35,000 blobs.
const ATTEMPTS_MAX: usize = 8;

/// Blobs that were fetched ahead and not asked for yet, of which it is noticed when they are.
const UNUSED_MAX: u64 = 20_000;

/// What is fetched ahead, and what became of it.
pub(super) struct Prefetcher {
    pub(super) config: config::Prefetch,
    /// One permit for each request of the prefetch that is open at a registry.
    turns: Arc<Semaphore>,
    /// One for each job that is being tried, and has a manifest in memory.
    attempts: Semaphore,
    jobs: Jobs,
    complete: OnDemand<Target, (), RandomState>,
    /// How often everything was forgotten of it.
    forgotten: AtomicU64,
    unused: OnDemand<Digest, u64>,
    metrics: Metrics,
}

/// What a job is about: an index for a platform, or a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    repository: Repository,
    digest: Digest,
    platform: Option<Platform>,
    rules: Rules,
}

/// How a job ended, or what it waits for: the label of `wharf_prefetch_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Something was fetched, and all is here.
    Fetched,
    /// All was here already.
    Kept,
    /// The image has nothing for the platform, or it is one that is not kept.
    Skipped,
}

impl Prefetcher {
    pub(super) fn new(config: config::Prefetch, metrics: &Metrics) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(config.concurrency)),
            attempts: Semaphore::new(ATTEMPTS_MAX.max(config.concurrency)),
            config,
            jobs: Jobs::default(),
            complete: OnDemand::new(COMPLETE_MAX).for_as_long_as(COMPLETE_TTL),
            forgotten: AtomicU64::new(0),
            unused: OnDemand::new(UNUSED_MAX),
            metrics: metrics.clone(),
        }
    }

    /// Something was removed: nothing is known to be complete.
    pub(super) fn forget_complete(&self) {
        self.complete.invalidate_all();
        self.forgotten.fetch_add(1, Ordering::AcqRel);
    }

    /// How often nothing was known to be complete any more: what was known before one time may not be so after it.
    pub(super) fn edition(&self) -> u64 {
        self.forgotten.load(Ordering::Acquire)
    }

    /// How many jobs are asleep until their next try.
    pub(super) fn asleep(&self) -> usize {
        self.jobs.asleep()
    }

    /// A download has ended well.
    pub(super) fn came(&self, digest: &Digest, size: u64, interest: &Interest) {
        if !interest.began_ahead() {
            return;
        }
        if interest.is_wanted() {
            self.metrics.prefetch_used(size);
        } else {
            self.unused.insert(*digest, size);
        }
    }

    /// A client asked for a blob that is kept.
    pub(super) fn used(&self, digest: &Digest) {
        if let Some(size) = self.unused.remove(digest) {
            self.metrics.prefetch_used(size);
        }
    }

    /// Whether all of it is known to be here.
    pub(super) fn is_complete(
        &self,
        repository: &Repository,
        manifest: &Descriptor,
        platform: Option<&Platform>,
        rules: Rules,
    ) -> bool {
        self.complete.contains_key(&Self::target(repository, manifest, platform, rules))
    }

    fn target(
        repository: &Repository,
        manifest: &Descriptor,
        platform: Option<&Platform>,
        rules: Rules,
    ) -> Target {
        let platform = platform.filter(|_| manifest.media_type.is_index()).cloned();
        let rules = if platform.is_some() { rules } else { Rules::default() };
        Target { repository: repository.clone(), digest: manifest.digest, platform, rules }
    }
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Kept => "kept",
            Self::Skipped => "skipped",
        }
    }
}
