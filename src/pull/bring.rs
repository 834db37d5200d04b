//! Fetching an image into the cache because somebody says so: `wharf pull`.

use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;

use super::{
    Error, Inner, Pull, PullEvent, Want,
    in_flight::{Phase, Purpose},
    platform::{Policy, read_index},
};
use crate::oci::{Descriptor, ImageName, Manifest, Platform, Reference, Repository, Rules};

/// How often at most it is told how far a blob is.
const STEP_BYTES: u64 = 256 * 1024;

/// Downloads of one blob that may end without the blob being kept.
const ENDS: u32 = 3;

/// One manifest to fetch.
struct Wanted {
    manifest: Descriptor,
    platform: Option<Platform>,
}

/// Bytes of what was wanted, and how many of them came just now.
#[derive(Clone, Copy, Default)]
struct Sum {
    size: u64,
    fetched: u64,
}

impl Pull {
    /// Fetches `image` for `platforms` (none: those in `[platforms] keep`, else the site's default), and tells of it.
    ///
    /// The last event is [`PullEvent::Done`], unless this fails. A receiver that is gone stops nothing that was begun.
    ///
    /// # Errors
    /// When some of it cannot be had or cannot be kept; what could be had is kept.
    pub async fn bring(
        &self,
        image: &ImageName,
        platforms: &[Platform],
        events: &mpsc::Sender<PullEvent>,
    ) -> Result<(), Error> {
        let (pull, repository, name) = (&self.0, &image.repository, image.to_string());
        let answer = match &image.reference {
            Reference::Tag(tag) => self.tagged(repository, tag, Want::Content).await?,
            Reference::Digest(digest) => {
                self.with_digest(repository, digest, Want::Content).await?
            }
        };
        let digest = answer.descriptor.digest;
        let mut sum = Sum::default();
        let wanted = if answer.descriptor.media_type.is_index() {
            let index = read_index(&answer.descriptor, &answer.bytes.ok_or(Error::Busy)?)?;
            sum.size = answer.descriptor.size;
            let platforms = match platforms {
                [] => pull.site_platforms(),
                asked => asked.to_vec(),
            };
            let mut wanted = Vec::new();
            for platform in platforms {
                let one = std::slice::from_ref(&platform);
                let child = pull.child(repository, &index, one, Rules::Containerd).await?;
                let Some(child) = child else {
                    return Err(Error::NoPlatform {
                        wanted: vec![platform],
                        offered: index.platforms(),
                    });
                };
                let attestations = index.attestations(&child.descriptor.digest);
                let attestations = attestations.map(|entry| entry.descriptor.clone());
                for manifest in std::iter::once(child.descriptor.clone()).chain(attestations) {
                    wanted.push(Wanted { manifest, platform: Some(platform.clone()) });
                }
            }
            wanted
        } else {
            vec![Wanted { manifest: answer.descriptor, platform: None }]
        };
        let mut told: Vec<Platform> =
            wanted.iter().filter_map(|one| one.platform.clone()).collect();
        told.dedup();
        tell(events, PullEvent::Resolved { name: name.clone(), digest, platforms: told }).await;
        for one in &wanted {
            let Sum { size, fetched } = pull.bring_manifest(repository, one, events).await?;
            sum = Sum { size: sum.size + size, fetched: sum.fetched + fetched };
        }
        let Sum { size, fetched } = sum;
        tell(events, PullEvent::Done { name, digest, size, fetched }).await;
        Ok(())
    }
}

impl Inner {
    async fn bring_manifest(
        self: &Arc<Self>,
        repository: &Repository,
        wanted: &Wanted,
        events: &mpsc::Sender<PullEvent>,
    ) -> Result<Sum, Error> {
        let digest = &wanted.manifest.digest;
        let repository = &self.home(repository, digest);
        if self.policy(repository, digest).await != Policy::Keep {
            let platform = wanted.platform.clone().unwrap_or_else(Platform::host);
            return Err(Error::PlatformNotKept(platform));
        }
        let here = self.kept(repository, digest).await;
        let fetched = if here.is_some() { 0 } else { wanted.manifest.size };
        let (descriptor, bytes) = match here {
            Some(kept) => kept,
            None => {
                let answer = Pull(Arc::clone(self)).fetch(repository, digest).await?;
                (answer.descriptor, answer.bytes.ok_or(Error::Busy)?)
            }
        };
        let document = Manifest::parse(&descriptor.media_type, &bytes)
            .map_err(|error| Error::ManifestInvalid(error.to_string()))?;
        let mut blobs: Vec<Descriptor> = document.references().into_iter().cloned().collect();
        // A layer may stand in a manifest twice.
        blobs.sort_by_key(|blob| blob.digest);
        blobs.dedup_by_key(|blob| blob.digest);
        let (sum, failed) = stream::iter(blobs)
            .map(async |blob| self.bring_blob(repository, &blob, wanted, events).await)
            .buffer_unordered(self.prefetch.config.concurrency)
            .fold((Sum { size: descriptor.size, fetched }, None), async |(sum, failed), brought| {
                match brought {
                    Ok(Sum { size, fetched }) => {
                        (Sum { size: sum.size + size, fetched: sum.fetched + fetched }, failed)
                    }
                    Err(error) => (sum, failed.or(Some(error))),
                }
            })
            .await;
        failed.map_or(Ok(sum), Err)
    }

    async fn bring_blob(
        self: &Arc<Self>,
        repository: &Repository,
        blob: &Descriptor,
        wanted: &Wanted,
        events: &mpsc::Sender<PullEvent>,
    ) -> Result<Sum, Error> {
        let (digest, size) = (&blob.digest, blob.size);
        let event = |here, hit| PullEvent::Blob {
            digest: *digest,
            size,
            platform: wanted.platform.clone(),
            here,
            hit,
        };
        if self.kept_blob(digest, Some(size)).await.is_some() {
            tell(events, event(size, true)).await;
            return Ok(Sum { size, fetched: 0 });
        }
        tell(events, event(0, false)).await;
        for _ in 0..ENDS {
            let purpose = Purpose { wanted: true, keep: true };
            let (flight, lead) = self.downloads.join(digest, repository, purpose)?;
            if let Some(lead) = lead {
                let download = Arc::clone(self).download(lead, repository.clone(), Some(size));
                self.tasks.spawn(download);
            }
            let foreign = flight.origin != *repository;
            let mut told = 0;
            let mut progress = flight.progress;
            while self.went_on(&mut progress).await? {
                let here = progress.borrow_and_update().published;
                if here >= told + STEP_BYTES {
                    told = here;
                    tell(events, event(here, false)).await;
                }
            }
            if self.kept_blob(digest, Some(size)).await.is_some() {
                tell(events, event(size, false)).await;
                return Ok(Sum { size, fetched: size });
            }
            let phase = progress.borrow().phase.clone();
            match phase {
                Phase::Failed(error) if !foreign => return Err(error),
                Phase::Detached { .. } => return Err(Error::NotTaken),
                _ => {}
            }
        }
        Err(Error::Busy)
    }
}

async fn tell(events: &mpsc::Sender<PullEvent>, event: PullEvent) {
    // Whoever listened may have gone; what was begun goes on.
    let _ = events.send(event).await;
}
