//! What is done now and then: images that are kept warm are looked at, and what may be lost, but is better kept, is
//! written down.

use super::Pull;
use crate::oci::{Digest, Repository};

/// What clients chose from lists.
const CLIENTS: &str = "clients.json";

/// How far the scrub is.
const SCRUB: &str = "scrub.json";

/// What is being fetched ahead.
const JOBS: &str = "prefetch.json";

impl Pull {
    /// Recalls what was learned of clients, how far the scrub was, and what waits for volumes. To be called once, before the
    /// first request.
    pub async fn recall(&self) {
        self.0.recall_volumes().await;
        if let Some(bytes) = self.0.store.read_state(CLIENTS).await {
            self.0.clients.learned().restore(&bytes);
        }
        if let Some(bytes) = self.0.store.read_state(SCRUB).await {
            self.0.scrub.restore(&bytes);
        }
    }

    /// Goes on with what was being fetched ahead at the last stop. To be called once, by whoever stays.
    pub async fn resume(&self) {
        if let Some(bytes) = self.0.store.read_state(JOBS).await {
            self.0.resume(&bytes);
        }
    }

    /// To be called every few seconds: what is due is begun, and jobs that are not done are written down, if there are
    /// others than were.
    pub async fn attend(&self) {
        let pull = &self.0;
        pull.warm();
        let is_kept = |repository: &Repository, digest: &Digest| {
            pull.store.has_manifest(&pull.home(repository, digest), digest)
        };
        pull.metrics.platform_skipped(pull.skipped.settled(pull.clock.now(), is_kept));
        self.write_jobs().await;
    }

    async fn write_jobs(&self) {
        let pull = &self.0;
        if let Some(jobs) = pull.unwritten_jobs() {
            if let Err(error) = pull.store.write_state(JOBS, jobs).await {
                tracing::debug!(%error, "what is being fetched ahead was not written down");
                pull.jobs_not_written();
            }
        }
    }

    /// To be called every minute or so, and at a stop: everything that is not written down is.
    pub async fn write_down(&self) {
        let pull = &self.0;
        if let Some(clients) = pull.clients.learned().unwritten() {
            if let Err(error) = pull.store.write_state(CLIENTS, clients).await {
                tracing::debug!(%error, "what was learned of clients was not written down");
                pull.clients.learned().not_written();
            }
        }
        if let Some(round) = pull.scrub.unwritten() {
            if let Err(error) = pull.store.write_state(SCRUB, round).await {
                tracing::debug!(%error, "how far the scrub is was not written down");
                pull.scrub.not_written();
            }
        }
        self.write_jobs().await;
    }
}
