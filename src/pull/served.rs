//! What follows when a client is served a manifest: it is learned what the client runs, what it needs next is fetched
//! ahead, and it is noticed when it took what it cannot run.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::timeout;

use super::{
    Asker, Error, Inner, ManifestAnswer, Pull, Resolution, Signal, Want, in_flight::Purpose,
    learned::ClientKey, ready::Found, report::Mismatch,
};
use crate::{
    lately::Lately,
    metrics::Count,
    oci::{Descriptor, Digest, MANIFEST_MAX_BYTES, Manifest, Platform, Reference, Repository},
    on_demand::OnDemand,
    store::Listed,
};

/// The latest mismatches, as many as a page shows.
const MISMATCHES_MAX: usize = 100;

/// Manifests of which the platform is remembered that their configs tell.
const TOLD_MAX: u64 = 10_000;

/// For how long: a config that could not be had may be had by then.
const TOLD_TTL: Duration = Duration::from_secs(10 * 60);

/// The latest pulls of what a client cannot run, and what is known of images that no index lists.
#[derive(Debug)]
pub(super) struct Mismatches {
    latest: Mutex<VecDeque<Mismatch>>,
    told: OnDemand<Digest, Option<Platform>>,
}

impl Mismatches {
    pub(super) fn all(&self) -> Vec<Mismatch> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn add(&self, mismatch: Mismatch) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.retain(|known| (&known.client, &known.name) != (&mismatch.client, &mismatch.name));
        latest.push_front(mismatch);
        latest.truncate(MISMATCHES_MAX);
    }
}

impl Default for Mismatches {
    fn default() -> Self {
        let told = OnDemand::new(TOLD_MAX).for_as_long_as(TOLD_TTL);
        Self { latest: Mutex::default(), told }
    }
}

/// Platforms of which it is remembered where their clients are counted: a site has a few.
const RESOLVED: usize = 16;

/// Where clients are counted, by their platform and by what told it.
#[derive(Debug)]
pub(super) struct Resolutions(Lately<Platform, Arc<[OnceLock<Count>; Signal::COUNT]>>);

impl Default for Resolutions {
    fn default() -> Self {
        Self(Lately::new(RESOLVED))
    }
}

impl Pull {
    /// Completes an answer by what is known of its client, and does what follows from it.
    pub(super) async fn served(
        &self,
        repository: &Repository,
        reference: &Reference,
        mut answer: ManifestAnswer,
        want: Want,
        asker: &Asker,
        who: Arc<Resolution>,
    ) -> Result<ManifestAnswer, Error> {
        let pull = &self.0;
        if want == Want::Content {
            let (digest, second) = (answer.descriptor.digest, pull.clock.unix_seconds());
            let found = answer.found.as_deref();
            if found.is_none_or(|found| found.is_first_in(second)) {
                pull.store.pulled(repository, &digest);
            }
            let listed = match found {
                Some(found) => found.listed.clone(),
                None => pull.store.listed(repository, &digest),
            };
            let has_default = pull.clients.default().is_some();
            let platform = who.fetched_ahead(has_default);
            pull.count_resolved(&who);
            let has_parts = platform.is_some() || !answer.descriptor.media_type.is_index();
            if pull.prefetch.config.on_pull && has_parts {
                let (rules, edition) = (who.rules, pull.prefetch.edition());
                let is_all_here =
                    |found: &Found| found.is_all_here(platform, rules, edition, second);
                if !found.is_some_and(is_all_here)
                    && pull.fetch_ahead(repository, &answer.descriptor, platform, rules)
                {
                    if let Some(found) = found {
                        found.all_is_here(platform.cloned(), rules, edition, second);
                    }
                }
            }
            let image = pull.platform_of(repository, &answer, listed.as_ref(), &who).await;
            answer.mismatch = image.filter(|image| who.cannot_run(image));
            if let Some(image) = &answer.mismatch {
                self.mismatched(repository, reference, image, asker, &who);
            }
            if pull.teaches(repository, &answer, listed.as_ref(), &who) {
                let (answer, asker) = (answer.clone(), asker.clone());
                let follows = Arc::clone(pull).follow_up(
                    repository.clone(),
                    answer,
                    asker,
                    Arc::clone(&who),
                    listed,
                );
                pull.tasks.spawn(follows);
            }
        } else if matches!(reference, Reference::Tag(_)) {
            pull.headed(repository, &answer.descriptor, &who);
        }
        answer.resolution = Some(who);
        Ok(answer)
    }

    fn mismatched(
        &self,
        repository: &Repository,
        reference: &Reference,
        image: &Platform,
        asker: &Asker,
        who: &Resolution,
    ) {
        let Some(runs) = who.runs() else { return };
        let client = ClientKey::of(asker).shown();
        let separator = if matches!(reference, Reference::Tag(_)) { ':' } else { '@' };
        let name = format!("{repository}{separator}{reference}");
        tracing::warn!(%client, image = %name, platform = %image, %runs, "a client took an image that it cannot run");
        self.0.metrics.platform_mismatch(&image.label());
        let (runs, platform, at) = (runs.clone(), image.clone(), self.0.clock.unix_seconds());
        self.0.mismatches.add(Mismatch { client, runs, name, platform, at });
    }
}

impl Inner {
    /// Counts that a client was taken to have a platform.
    fn count_resolved(&self, who: &Resolution) {
        let Some(platform) = who.platforms.first() else { return };
        let counts = self.resolutions.0.get(platform).unwrap_or_else(|| {
            let counts = Arc::<[OnceLock<Count>; Signal::COUNT]>::default();
            self.resolutions.0.put(platform.clone(), Arc::clone(&counts));
            counts
        });
        let signal = who.signal.as_str();
        let count = || self.metrics.platform_resolutions(&platform.label(), signal);
        counts[who.signal as usize].get_or_init(count).one();
    }

    /// What a served manifest is for: what its index says, else what its config says, for which this waits no longer than
    /// for a registry that a kept answer could stand in for. Only for clients of which something is known.
    async fn platform_of(
        self: &Arc<Self>,
        repository: &Repository,
        answer: &ManifestAnswer,
        listed: Option<&Listed>,
        who: &Resolution,
    ) -> Option<Platform> {
        if answer.descriptor.media_type.is_index()
            || listed.is_some_and(|listed| listed.attests.is_some())
        {
            return None;
        }
        if let Some(listed) = listed {
            return listed.platform.clone();
        }
        if who.runs.is_empty() {
            return None;
        }
        let digest = answer.descriptor.digest;
        if let Some(told) = self.mismatches.told.get(&digest) {
            return told;
        }
        // Also that nothing was told: nobody waits twice for a config that does not come.
        let told = Box::pin(self.told_by_config(repository, answer)).await;
        self.mismatches.told.insert(digest, told.clone());
        told
    }

    async fn told_by_config(
        self: &Arc<Self>,
        repository: &Repository,
        answer: &ManifestAnswer,
    ) -> Option<Platform> {
        let bytes = answer.bytes.as_ref()?;
        let document = Manifest::parse(&answer.descriptor.media_type, bytes).ok()?;
        let config = document.config().filter(|config| config.size <= MANIFEST_MAX_BYTES as u64)?;
        // The client asks for it next, so that this costs nothing. Whether it comes in time is seen below.
        let _ = timeout(self.config.revalidate_timeout, self.awaited(repository, config)).await;
        self.config_platform(repository, &document).await
    }

    /// Has a blob of `repository` fetched, if need be, because a client waits for it.
    async fn awaited(
        self: &Arc<Self>,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<(), Error> {
        let (digest, size) = (&blob.digest, Some(blob.size));
        if self.kept_blob(repository, digest, size).await.is_some() {
            return Ok(());
        }
        let repository = self.home(repository, digest);
        let purpose = Purpose { wanted: true, keep: true, named: true };
        let (flight, lead) = self.downloads.join(digest, &repository, purpose)?;
        if let Some(lead) = lead {
            self.tasks.spawn(Arc::clone(self).download(lead, repository, size, None));
        }
        let mut progress = flight.progress;
        while self.went_on(&mut progress).await? {
            progress.borrow_and_update();
        }
        Ok(())
    }

    /// Whether anything is to be learned or counted of this answer: of most, once an image is known, there is not.
    fn teaches(
        &self,
        repository: &Repository,
        answer: &ManifestAnswer,
        listed: Option<&Listed>,
        who: &Resolution,
    ) -> bool {
        let Descriptor { media_type, digest, .. } = &answer.descriptor;
        if media_type.is_index() {
            return self.skipped.is_new(repository, digest);
        }
        let Some(listed) = listed.filter(|listed| listed.attests.is_none()) else { return false };
        let learns = |platform: &Platform| self.clients.learns_from(who, platform);
        listed.platform.as_ref().is_some_and(learns)
            || self.skipped.awaits(repository, &listed.index, digest)
    }

    /// What nobody waits for: learning, and the count of what was not fetched.
    async fn follow_up(
        self: Arc<Self>,
        repository: Repository,
        answer: ManifestAnswer,
        asker: Asker,
        who: Arc<Resolution>,
        listed: Option<Listed>,
    ) {
        let descriptor = &answer.descriptor;
        let now = self.clock.now();
        if descriptor.media_type.is_index() {
            let index = answer.bytes.map(|bytes| self.indexes.read(descriptor, &bytes));
            if let Some(Ok(index)) = index {
                self.skipped.served(&repository, &descriptor.digest, &index, now);
            }
            return;
        }
        let Some(listed) = listed else { return };
        if self.skipped.awaits(&repository, &listed.index, &descriptor.digest) {
            let bytes = answer.bytes.as_ref();
            let document = bytes
                .map(|bytes| Manifest::parse(&descriptor.media_type, bytes))
                .and_then(Result::ok);
            if let Some(document) = document {
                let parts = document.references().into_iter().map(|part| part.size);
                let bytes = parts.fold(descriptor.size, u64::saturating_add);
                self.skipped.taken(&repository, &listed.index, &descriptor.digest, bytes);
            }
        }
        let Some(platform) = &listed.platform else { return };
        if self.clients.learns_from(&who, platform) {
            let index = self.kept_index(&repository, &listed.index).await;
            let now = self.clock.unix_seconds();
            self.clients.chose(&asker, &who, index.as_deref(), platform, now);
        }
    }
}
