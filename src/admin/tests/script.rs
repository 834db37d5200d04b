//! Images that say what a test wants them to say.

use std::{
    collections::VecDeque,
    future,
    io::Read,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::mpsc;

use crate::{
    admin::Images,
    oci::{Digest, ImageName, Platform, Reference, Repository, Tag, TagPattern, media_type},
    pull::{
        Asker, CacheStatus, Collected, Error, Explanation, ExportEvent, ImportTerms, Imported,
        Inspection, KeptImage, KnownClient, Mismatch, PullEvent, RemovedImage, Status, StoredBlob,
        Verify, VerifyEvent, VolumeSet,
    },
};

pub(super) const DIGEST: &str =
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Knows one image, and fails by name.
#[derive(Default)]
pub(super) struct Script {
    /// What each pull tells, in the order of the pulls; one that is not here fails.
    pulls: Mutex<VecDeque<mpsc::Receiver<PullEvent>>>,
    /// What each check of all blobs tells; one that is not here ends at once.
    checks: Mutex<VecDeque<mpsc::Receiver<VerifyEvent>>>,
    /// How the checks were to be done.
    pub(super) checked: Mutex<Vec<Verify>>,
    /// What was asked for by pulls: the image, then its platforms.
    pub(super) brought: Mutex<Vec<String>>,
}

impl Script {
    /// The events of the next pull: it goes on until the sender is dropped. Each is taken before the one after the next
    /// can be sent.
    pub(super) fn next_pull(&self) -> mpsc::Sender<PullEvent> {
        let (sender, receiver) = mpsc::channel(1);
        self.pulls.lock().unwrap_or_else(PoisonError::into_inner).push_back(receiver);
        sender
    }
}

impl Script {
    /// As [`Script::next_pull`], of a check.
    pub(super) fn next_check(&self) -> mpsc::Sender<VerifyEvent> {
        let (sender, receiver) = mpsc::channel(1);
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).push_back(receiver);
        sender
    }
}

/// The one bundle that waits for volumes.
pub(super) fn volume_set() -> VolumeSet {
    VolumeSet {
        set: DIGEST.parse().expect("a digest"),
        images: vec!["docker.io/library/alpine:3".into()],
        more_images: 0,
        of: 3,
        here: 1,
        missing: vec![1, 3],
        bytes: 7,
        parts: 2,
        size: 20,
        touched: 5,
    }
}

/// What the name of an image makes of a question about it.
async fn fate(image: &ImageName) -> Result<(), Error> {
    Err(match image.repository.name.as_str() {
        "library/blob" => Error::BlobUnknown,
        "library/busy" => Error::Busy,
        "library/denied" => Error::Denied,
        "library/invalid" => Error::ManifestInvalid("it is upside down".into()),
        "library/unknown" => Error::ManifestUnknown,
        "library/nameless" => Error::NameUnknown,
        "library/limited" => Error::RateLimited { retry_after: Some(Duration::from_secs(7)) },
        "library/elsewhere" => Error::RegistryUnknown(image.repository.registry.clone()),
        "library/closed" => Error::Store(crate::store::Error::Closed),
        "library/offline" => Error::Unavailable("no route".into()),
        "library/pinned" => Error::Pinned(image.to_string()),
        "library/configured" => Error::PinnedByConfiguration(image.to_string()),
        "library/gone" => Error::NotKept(image.to_string()),
        "library/never" => future::pending().await,
        _ => return Ok(()),
    })
}

impl Images for Script {
    fn images(&self) -> BoxFuture<'_, Result<Vec<KeptImage>, Error>> {
        future::ready(Ok(vec![KeptImage {
            name: "docker.io/library/alpine:3.20".into(),
            digest: DIGEST.parse().expect("a digest"),
            size: 3_400_000,
            since: 1000,
            pulled: None,
            pinned: false,
            platforms: Vec::new(),
        }]))
        .boxed()
    }

    fn matching<'a>(
        &'a self,
        repository: &'a Repository,
        tags: &'a TagPattern,
        most: usize,
    ) -> BoxFuture<'a, Result<Vec<ImageName>, Error>> {
        let names = ["1.28", "1.27"].into_iter().map(|tag| {
            let tag: Tag = tag.parse().expect("a tag");
            assert!(tags.matches(&tag));
            ImageName { repository: repository.clone(), reference: Reference::Tag(tag) }
        });
        future::ready(Ok(names.take(most).collect())).boxed()
    }

    fn inspect<'a>(&'a self, image: &'a ImageName) -> BoxFuture<'a, Result<Inspection, Error>> {
        async move {
            fate(image).await?;
            Ok(Inspection {
                name: image.to_string(),
                digest: DIGEST.parse().expect("a digest"),
                media_type: media_type::OCI_INDEX.parse().expect("a type"),
                size: 2,
                outcome: "hit".into(),
                manifests: Vec::new(),
            })
        }
        .boxed()
    }

    fn explain<'a>(
        &'a self,
        asker: &'a Asker,
        image: &'a ImageName,
    ) -> BoxFuture<'a, Result<Explanation, Error>> {
        async move {
            fate(image).await?;
            Ok(Explanation {
                name: image.to_string(),
                client: Some(asker.address),
                platforms: vec![Platform::host()],
                signal: "default".into(),
                why: format!("it says \"{}\"", asker.user_agent),
                offered: Vec::new(),
                manifest: None,
                platform: None,
                whole: false,
                policy: "keep".into(),
            })
        }
        .boxed()
    }

    fn clients(&self) -> Vec<KnownClient> {
        vec![KnownClient {
            client: "10.0.7.12".into(),
            user_agent: "docker".into(),
            platforms: Vec::new(),
            seen: 5,
        }]
    }

    fn mismatches(&self) -> Vec<Mismatch> {
        Vec::new()
    }

    fn bring<'a>(
        &'a self,
        image: &'a ImageName,
        platforms: &'a [Platform],
        events: &'a mpsc::Sender<PullEvent>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        let next = self.pulls.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let asked =
            [image.to_string()].into_iter().chain(platforms.iter().map(ToString::to_string));
        let asked = asked.collect::<Vec<_>>().join(" ");
        self.brought.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
        async move {
            let mut told = next.ok_or(Error::ManifestUnknown)?;
            while let Some(event) = told.recv().await {
                // Who asked may be gone: that ends nothing.
                let _ = events.send(event).await;
            }
            fate(image).await
        }
        .boxed()
    }

    fn pin<'a>(&'a self, image: &'a ImageName, pinned: bool) -> BoxFuture<'a, Result<bool, Error>> {
        async move { fate(image).await.map(|()| pinned) }.boxed()
    }

    fn remove<'a>(&'a self, image: &'a ImageName) -> BoxFuture<'a, Result<RemovedImage, Error>> {
        async move {
            fate(image).await?;
            Ok(RemovedImage { name: image.to_string(), freed: 3_400_000, blobs: 4 })
        }
        .boxed()
    }

    fn collect(&self) -> BoxFuture<'_, Result<Collected, Error>> {
        future::ready(Ok(Collected { bytes: 7, limit: 100, ..Collected::default() })).boxed()
    }

    fn verify<'a>(
        &'a self,
        how: Verify,
        events: &'a mpsc::Sender<VerifyEvent>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner).push(how);
        let next = self.checks.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        async move {
            let Some(mut told) = next else {
                return Err(Error::Store(crate::store::Error::Closed));
            };
            while let Some(event) = told.recv().await {
                let _ = events.send(event).await;
            }
            Ok(())
        }
        .boxed()
    }

    fn export<'a>(
        &'a self,
        images: &'a [ImageName],
        _: &'a [Platform],
        events: &'a mpsc::Sender<ExportEvent>,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            for image in images {
                fate(image).await?;
            }
            let _ = events.send(ExportEvent::Ready).await;
            events.closed().await;
            Ok(())
        }
        .boxed()
    }

    fn kept_file<'a>(&'a self, _: &'a Digest) -> BoxFuture<'a, Result<StoredBlob, Error>> {
        future::ready(Err(Error::BlobUnknown)).boxed()
    }

    fn kept_blobs<'a>(
        &'a self,
        last: Option<&'a Digest>,
        _: usize,
    ) -> BoxFuture<'a, Result<Vec<(Digest, u64)>, Error>> {
        let one = (DIGEST.parse().expect("a digest"), 0);
        future::ready(Ok(if last.is_none() { vec![one] } else { Vec::new() })).boxed()
    }

    fn import(
        &self,
        mut archive: Box<dyn Read + Send>,
        _: ImportTerms,
    ) -> BoxFuture<'_, Result<Imported, Error>> {
        async move {
            let read = tokio::task::spawn_blocking(move || {
                std::io::copy(&mut archive, &mut std::io::sink())
            });
            let read =
                read.await.expect("reads").map_err(|error| Error::Archive(error.to_string()))?;
            Ok(Imported { bytes: read, ..Imported::default() })
        }
        .boxed()
    }

    fn drop_volumes<'a>(&'a self, set: &'a str) -> BoxFuture<'a, Result<VolumeSet, Error>> {
        let named = set.strip_prefix("e3b0").map(|_| volume_set());
        future::ready(named.ok_or_else(|| Error::Volumes(format!("no {set}")))).boxed()
    }

    fn status(&self) -> BoxFuture<'_, Status> {
        let status = Status {
            version: "1.2.3".into(),
            mode: "auto".into(),
            degraded: None,
            cache: CacheStatus { bytes: 7, limit: 100, ..CacheStatus::default() },
            scrub: None,
            volume_sets: Vec::new(),
            upstreams: Vec::new(),
            downloads: 0,
        };
        future::ready(status).boxed()
    }
}
