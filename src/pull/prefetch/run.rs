//! One job, from its manifest to its last blob, and again when it fails.

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{sleep, timeout},
};

use super::{
    Outcome, Prefetcher,
    jobs::{Added, Job, Waiting},
};
use crate::{
    oci::{Descriptor, Digest, IndexEntry, Manifest, Platform, Repository, Rules},
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

/// Attestations of one manifest that are fetched with it: builders make one.
const ATTESTATIONS_MAX: usize = 16;

/// The longest wait that a registry may ask for.
const RETRY_MAX: Duration = Duration::from_secs(6 * 60 * 60);

/// Blobs of one image that are fetched ahead or that clients wait for.
const BLOBS_MAX: usize = 64;

/// How long a job waits when its time of the day is over, or its registry's pull limit near.
pub(super) const PAUSE: Duration = Duration::from_secs(5 * 60);

impl Inner {
    /// Begins to fetch what `platform` needs of `manifest`, unless that is known to be here.
    pub(in crate::pull) fn fetch_ahead(
        self: &Arc<Self>,
        repository: &Repository,
        manifest: &Descriptor,
        platform: Option<&Platform>,
        rules: Rules,
    ) -> bool {
        let repository = &self.home(repository, &manifest.digest);
        let target = Prefetcher::target(repository, manifest, platform, rules);
        if self.prefetch.complete.contains_key(&target) {
            return true;
        }
        // Where there is no room, the client gets what it asks for all the same.
        let _ = self.begin(Job {
            repository: repository.clone(),
            manifest: manifest.clone(),
            platform: target.platform,
            containers_image: rules == Rules::ContainersImage,
            window: None,
        });
        false
    }

    /// Takes up the jobs that were not done when they were last written down.
    pub(in crate::pull) fn resume(self: &Arc<Self>, written: &[u8]) {
        for job in self.prefetch.jobs.read(written) {
            // As many as there is room for were written down.
            let _ = self.begin(job);
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

    /// Takes up a job.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many wait.
    pub(super) fn begin(self: &Arc<Self>, job: Job) -> Result<(), Error> {
        match self.prefetch.jobs.add(job) {
            Added::Anew(waiting) => self.tasks.spawn(Arc::clone(self).pursue(waiting)),
            Added::There => {}
            Added::NoRoom => return Err(Error::Busy),
        }
        Ok(())
    }

    /// Tries a job until it is done or there is no hope. Dropped in between, it stays among the jobs.
    async fn pursue(self: Arc<Self>, waiting: Arc<Waiting>) {
        let target = waiting.job().target();
        let mut tries = 0;
        loop {
            let (mut again, job) = (Box::pin(waiting.again.notified()), waiting.job());
            let (repository, digest) = (&job.repository, &job.manifest.digest);
            let mut is_ill = false;
            // What just failed rests, however often it is asked for.
            let (rest, pause) = if self.must_pause(&job) {
                self.metrics.prefetched("paused");
                (Duration::ZERO, PAUSE)
            } else {
                match self.attempt(&job).await {
                    Ok(outcome) => {
                        self.metrics.prefetched(outcome.as_str());
                        self.prefetch.complete.insert(target.clone(), ());
                        break;
                    }
                    Err(error) if error.is_outage() && self.is_away(repository) => {
                        self.metrics.prefetched("paused");
                        tracing::debug!(%repository, %digest, %error, "to be fetched ahead when the registry is back");
                        let _asleep = self.prefetch.jobs.sleep();
                        let _ = timeout(RETRY_MAX, self.present(repository)).await;
                        continue;
                    }
                    Err(error) if error.is_outage() && tries < RETRIES => {
                        self.metrics.prefetched("retried");
                        tracing::debug!(%repository, %digest, %error, tries, "to be fetched ahead later");
                        let rest = self.prefetch.config.retry_after;
                        let asked = error.retry_after().unwrap_or_default().min(RETRY_MAX);
                        let pause = rest.saturating_mul(1 << tries).max(asked);
                        tries += 1;
                        is_ill =
                            matches!(error, Error::NotTaken(_)) && self.store.failing().is_some();
                        (if is_ill { Duration::ZERO } else { rest.max(asked) }, pause)
                    }
                    Err(error) => {
                        self.metrics.prefetched("failed");
                        tracing::warn!(%repository, %digest, %error, "could not be fetched ahead");
                        break;
                    }
                }
            };
            let _asleep = self.prefetch.jobs.sleep();
            let mut returned = pin!(self.returned(repository));
            let is_back = tokio::select! {
                () = sleep(rest) => false,
                () = &mut returned => true,
            };
            // Back again, it is tried at once.
            let pause = if is_back { Duration::ZERO } else { pause.saturating_sub(rest) };
            let mut over = pin!(sleep(pause));
            loop {
                tokio::select! {
                    () = &mut over => break,
                    () = &mut returned, if !is_back => break,
                    () = &mut again => {
                        again.set(waiting.again.notified());
                        // A disk that was full may have room by now, which it tells without a question to the registry.
                        if !is_ill || self.store.try_again().await {
                            // Somebody wants it still: it is not given up before that one's patience is.
                            tries = 0;
                            break;
                        }
                    }
                }
            }
        }
        self.prefetch.jobs.remove(&target);
    }

    /// Whether it is of no use to ask the registry.
    pub(super) fn is_away(&self, repository: &Repository) -> bool {
        self.upstream(repository).is_ok_and(|upstream| upstream.is_away())
    }

    async fn present(&self, repository: &Repository) {
        if let Ok(upstream) = self.upstream(repository) {
            upstream.present().await;
        }
    }

    /// Waits until the registry was away, and is back.
    async fn returned(&self, repository: &Repository) {
        match self.upstream(repository) {
            Ok(upstream) => upstream.returned().await,
            Err(_) => pending().await,
        }
    }

    /// Whether the job has to wait for its time of the day, or for pulls that its registry allows.
    fn must_pause(&self, job: &Job) -> bool {
        self.is_out_of_time(job) || self.near_limit(&job.repository)
    }

    fn is_out_of_time(&self, job: &Job) -> bool {
        job.window().is_some_and(|window| !window.contains(self.clock.minute_of_day()))
    }

    /// Whether the registry allows so few more pulls that they are left to clients.
    pub(in crate::pull) fn near_limit(&self, repository: &Repository) -> bool {
        let upstream = self.upstream(repository).ok();
        let left = upstream.and_then(|upstream| upstream.pulls_left());
        left.is_some_and(|left| left < self.prefetch.config.quota_floor)
    }

    async fn attempt(self: &Arc<Self>, job: &Job) -> Result<Outcome, Error> {
        let _attempt = self.prefetch.attempts.acquire().await.map_err(|_| Error::Busy)?;
        let repository = &job.repository;
        let _held = self.store.hold(&job.manifest.digest);
        if self.policy(repository, &job.manifest.digest).await != Policy::Keep {
            return Ok(Outcome::Skipped);
        }
        match self.manifest_ahead(repository, &job.manifest.digest).await?.1 {
            image @ Manifest::Image { .. } if self.is_oversized(&image) => Ok(Outcome::Skipped),
            Manifest::Image { blobs } => {
                self.attestations_ahead(job).await?;
                self.image_ahead(job, blobs).await
            }
            Manifest::Opaque => Ok(Outcome::Skipped),
            Manifest::Index(index) => {
                let Some(platform) = &job.platform else { return Ok(Outcome::Skipped) };
                let platforms = std::slice::from_ref(platform);
                let child = self.child(repository, &index, platforms, job.rules()).await?;
                let Some(child) = child else { return Ok(Outcome::Skipped) };
                if self.policy(repository, &child.descriptor.digest).await != Policy::Keep {
                    return Ok(Outcome::Skipped);
                }
                self.manifests_ahead(job, std::iter::once(&child))?;
                self.manifests_ahead(job, index.attestations(&child.descriptor.digest))?;
                Ok(Outcome::Kept)
            }
        }
    }

    /// Begins to fetch what an index says of the manifest that the job is about.
    async fn attestations_ahead(self: &Arc<Self>, job: &Job) -> Result<(), Error> {
        let digest = &job.manifest.digest;
        let Some((repository, listed)) = self.listing(&job.repository, digest) else {
            return Ok(());
        };
        match self.kept_index(repository, &listed.index).await {
            Some(index) => {
                let job = Job { repository: repository.clone(), ..job.clone() };
                self.manifests_ahead(&job, index.attestations(digest))
            }
            None => Ok(()),
        }
    }

    /// Begins to fetch entries of an index of the job's repository.
    fn manifests_ahead<'a>(
        self: &Arc<Self>,
        job: &Job,
        entries: impl Iterator<Item = &'a IndexEntry>,
    ) -> Result<(), Error> {
        for entry in entries.take(ATTESTATIONS_MAX) {
            let repository = self.home(&job.repository, &entry.descriptor.digest);
            let (manifest, platform) = (entry.descriptor.clone(), None);
            let job = Job { repository, manifest, platform, ..job.clone() };
            if !self.prefetch.complete.contains_key(&job.target()) {
                self.begin(job)?;
            }
        }
        Ok(())
    }

    /// Fetches the blobs of an image, the first first.
    async fn image_ahead(
        self: &Arc<Self>,
        job: &Job,
        blobs: Vec<Descriptor>,
    ) -> Result<Outcome, Error> {
        // All of them are tried: what can be had is had. Each has its turn before the next one waits for one, so that
        // jobs take turns with each other.
        let (fetched, failed) = stream::iter(blobs)
            .then(|blob| {
                let turn = Arc::clone(self).turn_ahead();
                async { (turn.await, blob) }
            })
            .map(async |(turn, blob)| match self.is_out_of_time(job) {
                // The rest waits for the next day.
                true => Err(Error::Busy),
                false => self.blob_ahead(&job.repository, &blob, turn?).await,
            })
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

    /// A manifest that is kept, or comes to be, unless it is larger than all that may be; and what it says.
    pub(in crate::pull) async fn manifest_ahead(
        self: &Arc<Self>,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(Descriptor, Manifest), Error> {
        let (descriptor, bytes, came) = match self.kept(repository, digest).await? {
            Some((descriptor, bytes)) => (descriptor, bytes, Ok(())),
            None => {
                let _turn = Arc::clone(self).turn_ahead().await?;
                let answer = Pull(Arc::clone(self)).fetch(repository, digest).await?;
                let came = self.came(&answer).map(drop);
                (answer.descriptor, answer.bytes.ok_or(Error::Busy)?, came)
            }
        };
        let document = Manifest::parse(&descriptor.media_type, &bytes)
            .map_err(|error| Error::ManifestInvalid(error.to_string()))?;
        if !self.is_oversized(&document) {
            // Its blobs would take room from what is kept, and be of no image.
            came?;
        }
        Ok((descriptor, document))
    }

    /// Fetches a blob of `repository` unless it is kept; the bytes that were missing. `turn` is for what no client waits
    /// for: when one does, it goes to the next blob.
    pub(in crate::pull) async fn blob_ahead(
        self: &Arc<Self>,
        repository: &Repository,
        blob: &Descriptor,
        turn: OwnedSemaphorePermit,
    ) -> Result<u64, Error> {
        let mut turn = Some(turn);
        let (digest, size) = (&blob.digest, Some(blob.size));
        let repository = &self.home(repository, digest);
        for _ in 0..FOREIGN_ENDS {
            if self.kept_blob(repository, digest, size).await.is_some() {
                return Ok(0);
            }
            let mut turn = match turn.take() {
                Some(turn) => Some(turn),
                None => Some(Arc::clone(self).turn_ahead().await?),
            };
            let purpose = Purpose { wanted: false, keep: true, named: true };
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
                        let goes_on = went_on?;
                        if let Phase::Detached { why, .. } = &progress.borrow_and_update().phase {
                            // Whoever waits here reads nothing, and would be waited for.
                            return Err(Error::NotTaken(why.to_string()));
                        }
                        if !goes_on {
                            break;
                        }
                    }
                }
            }
            if self.kept_blob(repository, digest, size).await.is_some() {
                return Ok(blob.size);
            }
            match &progress.borrow().phase {
                Phase::Failed(error) if !foreign => return Err(error.clone()),
                Phase::Detached { why, .. } => return Err(Error::NotTaken(why.to_string())),
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
        let changed = changed.map_err(|_| Error::Busy)?.is_ok();
        // What goes on past the disk does so for those who read it.
        Ok(changed && !matches!(progress.borrow().phase, Phase::Detached { .. }))
    }

    pub(in crate::pull) async fn turn_ahead(
        self: Arc<Self>,
    ) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.prefetch.turns).acquire_owned().await.map_err(|_| Error::Busy)
    }
}
