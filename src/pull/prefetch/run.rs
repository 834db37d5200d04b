//! One job, from its manifest to its last blob, and again when it fails.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{sleep, timeout},
};

use super::{
    Outcome, Prefetcher,
    jobs::{Job, Jobs, Waiting},
};
use crate::{
    oci::{Descriptor, Digest, Manifest, Platform, Repository, Rules},
    pull::{
        Error, Inner, Pull,
        content::STALL_DEADLINE,
        in_flight::{Phase, Progress, Purpose},
        platform::Policy,
    },
};

/// Tries of one job after the first, each after twice the wait of the one before: with half a minute at first, four days.
const RETRIES: u32 = 13;

/// Times that another's download of a blob may end without the blob being kept.
const FOREIGN_ENDS: u32 = 3;

/// Blobs of one image that are fetched ahead or that clients wait for.
const BLOBS_MAX: usize = 64;

/// How long a job waits when its time of the day is over, or its registry's pull limit near.
const PAUSE: Duration = Duration::from_secs(5 * 60);

impl Inner {
    /// Begins to fetch what `platform` needs of `manifest`, unless that is known to be here.
    pub(in crate::pull) fn fetch_ahead(
        self: &Arc<Self>,
        repository: &Repository,
        manifest: &Descriptor,
        platform: Option<&Platform>,
        rules: Rules,
    ) {
        let repository = &self.home(repository, &manifest.digest);
        let target = Prefetcher::target(repository, manifest, platform);
        if self.prefetch.complete.contains_key(&target) {
            return;
        }
        self.begin(Job {
            repository: repository.clone(),
            manifest: manifest.clone(),
            platform: target.platform,
            containers_image: rules == Rules::ContainersImage,
            window: None,
        });
    }

    /// Takes up the jobs that were not done when they were last written down.
    pub(in crate::pull) fn resume(self: &Arc<Self>, written: &[u8]) {
        for job in Jobs::read(written) {
            self.begin(job);
        }
    }

    /// What of the jobs is to be written down; `None` when it was.
    pub(in crate::pull) fn unwritten_jobs(&self) -> Option<bytes::Bytes> {
        self.prefetch.jobs.unwritten()
    }

    /// It was not written down after all.
    pub(in crate::pull) fn jobs_not_written(&self) {
        self.prefetch.jobs.not_written();
    }

    pub(super) fn begin(self: &Arc<Self>, job: Job) {
        if let Some(waiting) = self.prefetch.jobs.add(job) {
            self.tasks.spawn(Arc::clone(self).pursue(waiting));
        }
    }

    /// Tries a job until it is done or there is no hope. Dropped in between, it stays among the jobs.
    async fn pursue(self: Arc<Self>, waiting: Arc<Waiting>) {
        let (job, target) = (&waiting.job, waiting.job.target());
        let (repository, digest) = (&job.repository, &job.manifest.digest);
        let mut tries = 0;
        loop {
            let again = waiting.again.notified();
            let pause = if self.must_pause(job) {
                self.metrics.prefetched("paused");
                PAUSE
            } else {
                match self.attempt(job).await {
                    Ok(outcome) => {
                        self.metrics.prefetched(outcome.as_str());
                        self.prefetch.complete.insert(target.clone(), ());
                        break;
                    }
                    Err(error) if error.is_outage() && tries < RETRIES => {
                        self.metrics.prefetched("retried");
                        tracing::debug!(%repository, %digest, %error, tries, "to be fetched ahead later");
                        tries += 1;
                        self.prefetch.config.retry_after.saturating_mul(1 << (tries - 1))
                    }
                    Err(error) => {
                        self.metrics.prefetched("failed");
                        tracing::warn!(%repository, %digest, %error, "could not be fetched ahead");
                        break;
                    }
                }
            };
            let _asleep = self.prefetch.jobs.sleep();
            tokio::select! {
                () = sleep(pause) => {}
                () = again => {}
            }
        }
        self.prefetch.jobs.remove(&target);
    }

    /// Whether the job has to wait for its time of the day, or for pulls that its registry allows.
    fn must_pause(&self, job: &Job) -> bool {
        let outside = |window: crate::pull::Window| !window.contains(self.clock.minute_of_day());
        job.window().is_some_and(outside) || self.near_limit(&job.repository)
    }

    /// Whether the registry allows so few more pulls that they are left to clients.
    pub(in crate::pull) fn near_limit(&self, repository: &Repository) -> bool {
        let upstream = self.upstream(repository).ok();
        let left = upstream.and_then(|upstream| upstream.pulls_left());
        left.is_some_and(|left| left < self.prefetch.config.quota_floor)
    }

    async fn attempt(self: &Arc<Self>, job: &Job) -> Result<Outcome, Error> {
        let repository = &job.repository;
        if self.policy(repository, &job.manifest.digest).await != Policy::Keep {
            return Ok(Outcome::Skipped);
        }
        match self.manifest_ahead(repository, &job.manifest.digest).await?.1 {
            Manifest::Image { blobs } => self.image_ahead(job, &blobs).await,
            Manifest::Opaque => Ok(Outcome::Skipped),
            Manifest::Index(index) => {
                let Some(platform) = &job.platform else { return Ok(Outcome::Skipped) };
                let platforms = std::slice::from_ref(platform);
                let child = self.child(repository, &index, platforms, job.rules()).await?;
                let Some(child) = child else { return Ok(Outcome::Skipped) };
                if self.policy(repository, &child.descriptor.digest).await != Policy::Keep {
                    return Ok(Outcome::Skipped);
                }
                let attestations = index.attestations(&child.descriptor.digest).cloned();
                let attestations: Vec<_> = attestations.collect();
                for entry in std::iter::once(child).chain(attestations) {
                    let (manifest, platform) = (entry.descriptor, None);
                    let repository = self.home(repository, &manifest.digest);
                    let job = Job { repository, manifest, platform, ..job.clone() };
                    if !self.prefetch.complete.contains_key(&job.target()) {
                        self.begin(job);
                    }
                }
                Ok(Outcome::Kept)
            }
        }
    }

    /// Fetches the blobs of an image, the first first.
    async fn image_ahead(
        self: &Arc<Self>,
        job: &Job,
        blobs: &[Descriptor],
    ) -> Result<Outcome, Error> {
        // All of them are tried: what can be had is had. Each has its turn before the next one waits for one, so that
        // jobs take turns with each other.
        let (fetched, failed) = stream::iter(blobs.to_vec())
            .then(|blob| {
                let turn = Arc::clone(self).turn_ahead();
                async { (turn.await, blob) }
            })
            .map(async |(turn, blob)| self.blob_in_turn(&job.repository, &blob, turn?).await)
            .buffer_unordered(BLOBS_MAX)
            .fold((0_u64, None), async |(sum, failed), fetched| match fetched {
                Ok(bytes) => (sum.saturating_add(bytes), failed),
                Err(error) => (sum, failed.or(Some(error))),
            })
            .await;
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(if fetched > 0 { Outcome::Fetched } else { Outcome::Kept })
    }

    /// A manifest that is kept, or comes to be; and what it says.
    async fn manifest_ahead(
        self: &Arc<Self>,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(Descriptor, Manifest), Error> {
        let (descriptor, bytes) = match self.kept(repository, digest).await {
            Some(kept) => kept,
            None => {
                let _turn = Arc::clone(self).turn_ahead().await?;
                let answer = Pull(Arc::clone(self)).fetch(repository, digest).await?;
                (answer.descriptor, answer.bytes.ok_or(Error::Busy)?)
            }
        };
        let document = Manifest::parse(&descriptor.media_type, &bytes)
            .map_err(|error| Error::ManifestInvalid(error.to_string()))?;
        Ok((descriptor, document))
    }

    /// Fetches a blob of `repository` unless it is kept, with the turn that the first try needs; the bytes that were
    /// missing. A turn is for what no client waits for: when one does, it goes to the next blob.
    async fn blob_in_turn(
        self: &Arc<Self>,
        repository: &Repository,
        blob: &Descriptor,
        turn: OwnedSemaphorePermit,
    ) -> Result<u64, Error> {
        let mut turn = Some(turn);
        let (digest, size) = (&blob.digest, Some(blob.size));
        let repository = &self.home(repository, digest);
        for _ in 0..FOREIGN_ENDS {
            if self.kept_blob(digest, size).await.is_some() {
                return Ok(0);
            }
            let mut turn = match turn.take() {
                Some(turn) => Some(turn),
                None => Some(Arc::clone(self).turn_ahead().await?),
            };
            let purpose = Purpose { wanted: false, keep: true };
            let (flight, lead) = self.downloads.join(digest, repository, purpose)?;
            if let Some(lead) = lead {
                let (repository, turn) = (repository.clone(), turn.take());
                self.tasks.spawn(Arc::clone(self).download(lead, repository, size, turn));
            }
            let foreign = flight.origin != *repository;
            let mut progress = flight.progress;
            // Until the download's task is gone: what it fetched is then kept, or not.
            loop {
                tokio::select! {
                    () = flight.interest.wanted(), if turn.is_some() => turn = None,
                    went_on = self.went_on(&mut progress) => {
                        if !went_on? {
                            break;
                        }
                        progress.borrow_and_update();
                    }
                }
            }
            if self.kept_blob(digest, size).await.is_some() {
                return Ok(blob.size);
            }
            match &progress.borrow().phase {
                Phase::Failed(error) if !foreign => return Err(error.clone()),
                Phase::Detached { .. } => return Err(self.not_taken()),
                _ => {}
            }
        }
        Err(Error::Busy)
    }

    /// Waits for a download to go on; `false` when its task is gone: what it fetched is then kept, or not.
    pub(in crate::pull) async fn went_on(
        &self,
        progress: &mut watch::Receiver<Progress>,
    ) -> Result<bool, Error> {
        let changed = timeout(STALL_DEADLINE, progress.changed()).await;
        Ok(changed.map_err(|_| Error::Busy)?.is_ok())
    }

    async fn turn_ahead(self: Arc<Self>) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.prefetch.turns).acquire_owned().await.map_err(|_| Error::Busy)
    }
}

impl Inner {
    /// Whether a manifest is kept with all that it names.
    pub(in crate::pull) async fn is_whole(&self, repository: &Repository, digest: &Digest) -> bool {
        let Some((descriptor, bytes)) = self.kept(repository, digest).await else { return false };
        let Ok(Manifest::Image { blobs }) = Manifest::parse(&descriptor.media_type, &bytes) else {
            return false;
        };
        for blob in &blobs {
            if self.kept_blob(&blob.digest, Some(blob.size)).await.is_none() {
                return false;
            }
        }
        true
    }
}
