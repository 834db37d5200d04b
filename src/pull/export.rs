//! What a bundle is to bring: `wharf export` fetches what is missing of its images, is told of what there is, and reads
//! it blob by blob while it cannot be evicted.

mod event;
mod walk;

use std::{collections::HashSet, sync::Arc};

use tokio::sync::mpsc;

pub use self::event::{DockerImage, ExportEvent};
use self::walk::Walk;
use super::{Error, Inner, Pull, PullEvent, platform::read_index};
use crate::{
    oci::{Descriptor, Digest, ImageName, Platform, Reference, Rules},
    store::{Held, StoredBlob},
};

/// Events of the fetching that wait to be passed on.
const STEPS: usize = 16;

/// Images that are named when something is missing of them.
const NAMED_MAX: usize = 20;

impl Pull {
    /// Fetches what is missing of `images` for `platforms`, and tells what an export of them holds, image by image in
    /// the order of their names. Then keeps all of it from eviction until nobody listens any more.
    ///
    /// Without `platforms`: for those in `[platforms] keep` that an image has, else for those of which it is kept whole,
    /// else for the site's default. What no registry gives must be here already.
    ///
    /// # Errors
    /// When something is neither here nor to be had; it says what, of all images.
    pub async fn export(
        &self,
        images: &[ImageName],
        platforms: &[Platform],
        events: &mpsc::Sender<ExportEvent>,
    ) -> Result<(), Error> {
        let mut names: Vec<&ImageName> = images.iter().collect();
        names.sort_by_cached_key(|name| name.to_string());
        names.dedup();
        let (mut walk, mut missing) = (Walk::default(), Vec::new());
        for name in names {
            let fetched = self.fetch_for_export(name, platforms, events).await;
            let found = match self.0.top(name) {
                Some(top) => self.0.gather(&mut walk, name, top, platforms).await,
                None => Err(Error::NotKept(name.to_string())),
            };
            let Some(why) = found.err().map(|error| match (error, fetched) {
                // What is missing is so because it could not be fetched.
                (error @ Error::NotWhole(_), Err(why)) => format!("{error}: {why}"),
                (Error::NotKept(name), Err(why)) => format!("{name}: {why}"),
                (error, _) => error.to_string(),
            }) else {
                continue;
            };
            missing.push(why);
        }
        if !missing.is_empty() {
            let more = missing.len().saturating_sub(NAMED_MAX);
            missing.truncate(NAMED_MAX);
            if more > 0 {
                missing.push(format!("and {more} more images"));
            }
            return Err(Error::NotWhole(missing.join("; ")));
        }
        let (told, _held) = walk.finish();
        for event in told {
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
        // The one who listens reads the blobs meanwhile, and hangs up when that is done.
        events.closed().await;
        Ok(())
    }

    /// The blob that is kept under `digest`, for who reads it from any place on.
    ///
    /// # Errors
    /// When it is not kept, or the disk fails.
    pub async fn kept_file(&self, digest: &Digest) -> Result<StoredBlob, Error> {
        match self.0.store.blob(digest).await? {
            Some(blob) => Ok(blob),
            None => Err(Error::BlobUnknown),
        }
    }

    /// Up to `n` kept blobs that come after `last` in the order of their digests, and their lengths in bytes.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn kept_blobs(
        &self,
        last: Option<&Digest>,
        n: usize,
    ) -> Result<Vec<(Digest, u64)>, Error> {
        Ok(self.0.store.blobs_after(last, n).await?)
    }

    /// Fetches what is missing of one image, and passes on how that goes.
    async fn fetch_for_export(
        &self,
        name: &ImageName,
        platforms: &[Platform],
        events: &mpsc::Sender<ExportEvent>,
    ) -> Result<(), Error> {
        let mut wanted = platforms.to_vec();
        if wanted.is_empty() && self.0.config.platforms.keep.is_empty() {
            wanted = self.0.whole_platforms(name).await?;
        }
        let (steps, mut told) = mpsc::channel(STEPS);
        let fetching = async {
            let brought = self.bring(name, &wanted, &steps).await;
            drop(steps);
            brought
        };
        let passing_on = async {
            while let Some(step) = told.recv().await {
                // Who asked may be gone: what was begun is fetched all the same.
                let _ = events.send(ExportEvent::Fetch { step }).await;
            }
        };
        let (brought, ()) = tokio::join!(fetching, passing_on);
        if let Err(error) = &brought {
            let (name, why) = (name.to_string(), error.to_string());
            let step = PullEvent::Failed { name, why };
            let _ = events.send(ExportEvent::Fetch { step }).await;
        }
        brought
    }
}

impl Inner {
    /// What a name means, by what is kept.
    fn top(&self, name: &ImageName) -> Option<Descriptor> {
        let ImageName { repository, reference } = name;
        match reference {
            Reference::Tag(tag) => self.store.tag(repository, tag).map(|(top, _)| top),
            Reference::Digest(digest) => {
                let home = self.home(repository, digest);
                let link = self.store.link(&home, digest);
                link.filter(|_| self.store.has_manifest(&home, digest))
            }
        }
    }

    /// The platforms of which a kept image is whole; none when it is no list, or not kept.
    async fn whole_platforms(self: &Arc<Self>, name: &ImageName) -> Result<Vec<Platform>, Error> {
        let Some(top) = self.top(name).filter(|top| top.media_type.is_index()) else {
            return Ok(Vec::new());
        };
        let Some(bytes) = self.store.manifest(&top.digest).await? else { return Ok(Vec::new()) };
        let index = read_index(&top, &bytes)?;
        let mut whole = Vec::new();
        for entry in index.images() {
            let Some(platform) = &entry.platform else { continue };
            let is_whole = Pull(Arc::clone(self)).is_whole(&entry.descriptor).await?;
            if is_whole && !whole.contains(platform) {
                whole.push(platform.clone());
            }
        }
        Ok(whole)
    }

    /// Takes one image up into what is told.
    async fn gather(
        self: &Arc<Self>,
        walk: &mut Walk,
        name: &ImageName,
        top: Descriptor,
        platforms: &[Platform],
    ) -> Result<(), Error> {
        let _held = self.store.hold(&top.digest);
        if !top.media_type.is_index() {
            return walk.manifest_alone(self, name, top).await;
        }
        let bytes = self.store.manifest(&top.digest).await?;
        let bytes = bytes.ok_or_else(|| Error::NotKept(name.to_string()))?;
        let index = read_index(&top, &bytes)?;
        let mut wanted = platforms.to_vec();
        if wanted.is_empty() {
            wanted.clone_from(&self.config.platforms.keep);
        }
        if wanted.is_empty() {
            wanted = self.whole_platforms(name).await?;
        }
        if wanted.is_empty() {
            wanted = self.site_platforms();
        }
        let (mut chosen, mut absent, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for platform in &wanted {
            let one = std::slice::from_ref(platform);
            match self.child(&name.repository, &index, one, Rules::Containerd).await? {
                Some(child) if seen.insert(child.descriptor.digest) => {
                    chosen.push((platform.clone(), child.descriptor));
                }
                Some(_) => {}
                None => absent.push(platform.clone()),
            }
        }
        if chosen.is_empty() || (!absent.is_empty() && !platforms.is_empty()) {
            return Err(Error::NotWhole(format!(
                "{name}: {}",
                Error::NoPlatform { wanted: absent, offered: index.platforms() }
            )));
        }
        walk.image(self, name, top, &index, chosen).await
    }

    /// Keeps a blob from eviction while the export goes on.
    fn hold(&self, digest: &Digest) -> Held {
        self.store.hold(digest)
    }
}
