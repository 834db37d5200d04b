//! Fetching an image into the cache because somebody says so: `wharf pull`.

mod telling;

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use self::telling::Telling;
use super::{
    Error, Inner, ManifestAnswer, Outcome, Pull, PullEvent, Want,
    in_flight::{Phase, Progress, Purpose},
    platform::{Policy, read_index},
};
use crate::oci::{
    Descriptor, Digest, ImageIndex, ImageName, Manifest, Platform, Reference, Repository, Rules,
};

/// It is told how far a blob is when this much more of it is here, or any more and this time has passed.
const STEP_BYTES: u64 = 256 * 1024;
const STEP_TIME: Duration = Duration::from_secs(1);

/// Downloads of one blob that may end without the blob being kept.
const ENDS: u32 = 3;

/// How long another's download that goes past the disk is given to end.
const DETACHED_PAUSE: Duration = Duration::from_millis(200);

/// A manifest or blob to fetch, and the platform that it was first wanted for.
pub(super) struct Wanted {
    pub(super) content: Descriptor,
    pub(super) platform: Option<Platform>,
}

/// What came of a pull so far: bytes of what was wanted and is kept, and how many of them came just now.
#[derive(Default)]
struct Sum {
    size: u64,
    fetched: u64,
    /// Why it is not all of it: what failed first.
    failed: Option<Error>,
}

impl Pull {
    /// Fetches `image` for `platforms`, and tells of it. Without `platforms`: for those in `[platforms] keep` that the
    /// image has, else for the site's default.
    ///
    /// The last event is [`PullEvent::Done`], unless this fails. A receiver that is slow or gone stops nothing that was
    /// begun.
    ///
    /// # Errors
    /// When some of it cannot be had or cannot be kept; what could be had is kept.
    pub async fn bring(
        &self,
        image: &ImageName,
        platforms: &[Platform],
        events: &mpsc::Sender<PullEvent>,
    ) -> Result<(), Error> {
        let telling = Telling::default();
        let bringing = async {
            let absent = || self.0.absent(&image.repository, &image.reference, platforms);
            let brought = self.bring_image(image, platforms, &telling).await;
            let brought = brought.map_err(|error| error.naming(absent));
            telling.end();
            brought
        };
        tokio::join!(bringing, telling.pass_on(events)).0
    }

    async fn bring_image(
        &self,
        image: &ImageName,
        platforms: &[Platform],
        telling: &Telling,
    ) -> Result<(), Error> {
        let (pull, repository, name) = (&self.0, &image.repository, image.to_string());
        let answer = match &image.reference {
            Reference::Tag(tag) => self.tagged(repository, tag, Want::Content).await?,
            Reference::Digest(digest) => {
                pull.must_keep(repository, digest).await?;
                self.with_digest(repository, digest, Want::Content).await?
            }
        };
        let digest = answer.descriptor.digest;
        let _held = pull.store.hold(&digest);
        let mut sum = Sum::default();
        // What has no room is not begun: its blobs would take that of others.
        sum.add(Ok(pull.came(&answer)?));
        let (manifests, told, blobs) = if answer.descriptor.media_type.is_index() {
            let index = read_index(&answer.descriptor, answer.bytes.as_ref().ok_or(Error::Busy)?)?;
            let (manifests, told, missing) = pull.children(repository, &index, platforms).await?;
            if let Some(wanted) = missing {
                let error = Error::NoPlatform { wanted, offered: index.platforms() };
                if manifests.is_empty() {
                    return Err(error);
                }
                sum.add(Err(error));
            }
            (manifests, told, Vec::new())
        } else {
            pull.must_keep(repository, &digest).await?;
            let alone = Wanted { content: answer.descriptor.clone(), platform: None };
            (Vec::new(), Vec::new(), pull.named(&answer, &alone)?)
        };
        let stale = answer.outcome == Outcome::Stale;
        telling.tell(PullEvent::Resolved { name: name.clone(), digest, platforms: told, stale });
        let blobs = pull.bring_manifests(repository, &manifests, blobs, &mut sum).await;
        pull.bring_blobs(repository, blobs, telling, &mut sum).await;
        let Sum { size, fetched, failed } = sum;
        if let Some(error) = failed {
            return Err(error);
        }
        telling.tell(PullEvent::Done { name, digest, size, fetched });
        Ok(())
    }
}

impl Inner {
    /// The manifests of `index` to fetch, each once: those that `platforms` take, with their attestations. With them
    /// the platforms for which there are some, and those that were asked for in vain.
    async fn children(
        self: &Arc<Self>,
        repository: &Repository,
        index: &ImageIndex,
        platforms: &[Platform],
    ) -> Result<(Vec<Wanted>, Vec<Platform>, Option<Vec<Platform>>), Error> {
        let site = if platforms.is_empty() { self.site_platforms() } else { Vec::new() };
        let (mut seen, mut manifests) = (HashSet::new(), Vec::new());
        let (mut told, mut missing) = (Vec::new(), Vec::new());
        for platform in platforms.iter().chain(&site) {
            let one = std::slice::from_ref(platform);
            let Some(child) = self.child(repository, index, one, Rules::Containerd).await? else {
                missing.push(platform.clone());
                continue;
            };
            if !told.contains(platform) {
                told.push(platform.clone());
            }
            let attestations = index.attestations(&child.descriptor.digest);
            let attestations = attestations.map(|entry| entry.descriptor.clone());
            for content in std::iter::once(child.descriptor.clone()).chain(attestations) {
                if seen.insert(content.digest) {
                    manifests.push(Wanted { content, platform: Some(platform.clone()) });
                }
            }
        }
        // A site of several platforms has images that are for some of them only.
        let in_vain = !missing.is_empty() && (site.is_empty() || manifests.is_empty());
        Ok((manifests, told, in_vain.then_some(missing)))
    }

    /// Fetches manifests; the blobs that they name, besides `blobs`, each once.
    async fn bring_manifests(
        self: &Arc<Self>,
        repository: &Repository,
        manifests: &[Wanted],
        mut blobs: Vec<Wanted>,
        sum: &mut Sum,
    ) -> Vec<Wanted> {
        for wanted in manifests {
            let named = match self.bring_manifest(repository, wanted).await {
                Ok(answer) => self.came(&answer).and_then(|part| {
                    sum.add(Ok(part));
                    self.named(&answer, wanted)
                }),
                Err(error) => Err(error),
            };
            match named {
                Ok(named) => blobs.extend(named),
                Err(error) => sum.add(Err(error)),
            }
        }
        let mut seen = HashSet::new();
        blobs.retain(|blob| seen.insert(blob.content.digest));
        blobs
    }

    pub(super) async fn bring_manifest(
        self: &Arc<Self>,
        repository: &Repository,
        wanted: &Wanted,
    ) -> Result<ManifestAnswer, Error> {
        let digest = &wanted.content.digest;
        let repository = &self.home(repository, digest);
        self.must_keep(repository, digest).await?;
        match self.kept_answer(repository, digest).await? {
            Some(kept) => Ok(kept),
            None => Pull(Arc::clone(self)).fetch(repository, digest).await,
        }
    }

    /// An error unless the manifest is one of those that are kept.
    async fn must_keep(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        match self.policy(repository, digest).await {
            Policy::Keep => Ok(()),
            Policy::Relay(platform) | Policy::Refuse(platform) => {
                Err(Error::PlatformNotKept(platform))
            }
        }
    }

    /// The blobs that a manifest names.
    fn named(&self, answer: &ManifestAnswer, wanted: &Wanted) -> Result<Vec<Wanted>, Error> {
        let bytes = answer.bytes.as_ref().ok_or(Error::Busy)?;
        let document = Manifest::parse(&answer.descriptor.media_type, bytes)
            .map_err(|error| Error::ManifestInvalid(error.to_string()))?;
        if self.is_oversized(&document) {
            return Err(self.not_taken());
        }
        let blobs = document.references().into_iter().cloned();
        Ok(blobs.map(|content| Wanted { content, platform: wanted.platform.clone() }).collect())
    }

    /// How long a manifest is that is kept now, and how much of it came just now.
    pub(super) fn came(&self, answer: &ManifestAnswer) -> Result<(u64, u64), Error> {
        let size = answer.descriptor.size;
        match answer.outcome {
            Outcome::Hit | Outcome::Stale => Ok((size, 0)),
            Outcome::Coalesced | Outcome::Miss => Ok((size, size)),
            Outcome::Relay => Err(self.not_taken()),
        }
    }

    async fn bring_blobs(
        self: &Arc<Self>,
        repository: &Repository,
        blobs: Vec<Wanted>,
        telling: &Telling,
        sum: &mut Sum,
    ) {
        // All are told of before the first is fetched: how much there is to do is known from the beginning.
        let mut missing = Vec::new();
        for blob in blobs {
            let Descriptor { digest, size, .. } = blob.content;
            let hit = self.kept_blob(repository, &digest, Some(size)).await.is_some();
            let here = if hit { size } else { self.begun(&digest).await.min(size) };
            telling.tell(blob.event(here, hit));
            if hit {
                sum.add(Ok((size, 0)));
            } else {
                missing.push((blob, here));
            }
        }
        let mut brought = stream::iter(missing)
            .map(async |(blob, here)| self.bring_blob(repository, &blob, here, telling).await)
            .buffer_unordered(self.prefetch.config.concurrency);
        while let Some(brought) = brought.next().await {
            sum.add(brought);
        }
    }

    /// How many bytes are here of a blob that is not all here, and need not be fetched again.
    async fn begun(&self, digest: &Digest) -> u64 {
        if self.downloads.has(digest) {
            self.store.begun(digest).await
        } else {
            self.store.vouched(digest).await
        }
    }

    /// Fetches a blob, and tells nobody how far it is.
    pub(super) async fn bring_blob_quietly(
        self: &Arc<Self>,
        repository: &Repository,
        blob: &Wanted,
    ) -> Result<(), Error> {
        let telling = Telling::default();
        telling.end();
        self.bring_blob(repository, blob, 0, &telling).await.map(drop)
    }

    /// Fetches a blob of which `begun` bytes are on disk: its length, and how much of it came just now.
    async fn bring_blob(
        self: &Arc<Self>,
        repository: &Repository,
        blob: &Wanted,
        begun: u64,
        telling: &Telling,
    ) -> Result<(u64, u64), Error> {
        let (digest, size) = (&blob.content.digest, blob.content.size);
        let repository = &self.home(repository, digest);
        let mut detached = None;
        for _ in 0..ENDS {
            let purpose = Purpose { wanted: true, keep: true, named: true };
            let (flight, lead) = self.downloads.join(digest, repository, purpose)?;
            let led = lead.is_some();
            if let Some(lead) = lead {
                let download =
                    Arc::clone(self).download(lead, repository.clone(), Some(size), None);
                self.tasks.spawn(download);
            }
            let foreign = flight.origin != *repository;
            let (mut told, mut at) = (begun, Instant::now());
            let mut progress = flight.progress;
            while self.went_on(&mut progress).await? {
                let Progress { published: here, phase } = progress.borrow_and_update().clone();
                if matches!(phase, Phase::Detached { .. }) {
                    // Whoever waits here reads nothing, and would be waited for.
                    break;
                }
                // It goes back if what was on disk was wrong.
                let far = here.abs_diff(told) >= STEP_BYTES;
                if here > 0 && (far || (here != told && at.elapsed() >= STEP_TIME)) {
                    (told, at) = (here, Instant::now());
                    telling.tell_step(digest, blob.event(here, false));
                }
            }
            if self.kept_blob(repository, digest, Some(size)).await.is_some() {
                telling.tell_step(digest, blob.event(size, false));
                return Ok((size, size - begun));
            }
            let phase = progress.borrow().phase.clone();
            match phase {
                // Too many are before it: it waits on.
                Phase::Failed(Error::Busy) => {}
                Phase::Failed(error) if !foreign => return Err(error),
                Phase::Detached { why, .. } if led => return Err(Error::NotTaken(why.to_string())),
                // The disk may have been full when that began.
                Phase::Detached { why, .. } => {
                    drop(progress);
                    detached = Some(why);
                    sleep(DETACHED_PAUSE).await;
                }
                _ => {}
            }
        }
        Err(detached.map_or(Error::Busy, |why| Error::NotTaken(why.to_string())))
    }
}

impl Wanted {
    fn event(&self, here: u64, hit: bool) -> PullEvent {
        let Descriptor { digest, size, .. } = self.content;
        PullEvent::Blob { digest, size, platform: self.platform.clone(), here, hit }
    }
}

impl Sum {
    /// Adds a part: its bytes, and how many of them came just now.
    fn add(&mut self, part: Result<(u64, u64), Error>) {
        match part {
            Ok((size, fetched)) => {
                self.size = self.size.saturating_add(size);
                self.fetched = self.fetched.saturating_add(fetched);
            }
            Err(error) => {
                self.failed.get_or_insert(error);
            }
        }
    }
}
