//! What stays and what goes because somebody says so: `wharf pin`, `unpin`, `rm` and `gc`; and how much there is.

use std::collections::HashSet;

use super::{CacheStatus, Collected, Error, Inner, Pull, RemovedImage, Status};
use crate::{
    oci::{ImageName, Manifest},
    store::{self, Evicted, Freed},
};

impl Pull {
    /// Has a kept image stay whatever room is needed, or no longer; whether that is new.
    ///
    /// # Errors
    /// When it is not kept, stays because the configuration says so, or the disk does not take it.
    pub async fn pin(&self, image: &ImageName, pinned: bool) -> Result<bool, Error> {
        let store = &self.0.store;
        let ImageName { repository, reference, .. } = image;
        if !pinned && store.is_pinned_by_configuration(repository, reference) {
            return Err(Error::PinnedByConfiguration(image.to_string()));
        }
        match store.pin(repository, reference, pinned).await? {
            Some(new) => Ok(new),
            None => Err(Error::NotKept(image.to_string())),
        }
    }

    /// Removes a kept image: its name, and all that no other image needs.
    ///
    /// # Errors
    /// When it is not kept or is pinned, or the disk does not take it.
    pub async fn remove(&self, image: &ImageName) -> Result<RemovedImage, Error> {
        let store = &self.0.store;
        let ImageName { repository, reference, .. } = image;
        if store.is_pinned_by_configuration(repository, reference) {
            return Err(Error::PinnedByConfiguration(image.to_string()));
        }
        if store.is_pinned(repository, reference) {
            return Err(Error::Pinned(image.to_string()));
        }
        if let Some(reference) = store.pinned_with(repository, reference) {
            return Err(Error::Pinned(ImageName { reference, ..image.clone() }.to_string()));
        }
        match store.remove(repository, reference).await? {
            Some(freed) => {
                self.0.prefetch.forget_complete();
                self.0.tell_usage();
                let (name, freed, blobs) = (image.to_string(), freed.bytes, freed.blobs);
                Ok(RemovedImage { name, freed, blobs })
            }
            None => Err(Error::NotKept(image.to_string())),
        }
    }

    /// Evicts to the budget, and sweeps what nothing refers to.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn collect(&self) -> Result<Collected, Error> {
        self.expire_volumes().await;
        let freed = self.0.store.collect().await?;
        self.0.tell_all();
        let store::Usage { bytes: kept, limit, .. } = self.0.store.usage();
        let Freed { images, bytes: evicted, swept, swept_bytes, .. } = freed;
        Ok(Collected { images, evicted, swept, swept_bytes, bytes: kept, limit })
    }

    /// Evicts to the budget. To be called every minute, and when the budget was changed.
    pub async fn keep_to_budget(&self) {
        match self.0.store.keep_to_budget().await {
            Ok(freed) if freed == Freed::default() => {}
            Ok(Freed { images, bytes, swept_bytes, .. }) => {
                tracing::info!(images = images.len(), bytes, swept_bytes, "evicted to the budget");
            }
            Err(error) => tracing::warn!(%error, "the budget could not be met"),
        }
        self.0.tell_all();
    }

    /// Counts what is kept by looking at every blob file, should the account have come to differ.
    pub async fn recount(&self) {
        if let Err(error) = self.0.store.recount().await {
            tracing::warn!(%error, "the cache could not be counted");
        }
        self.0.tell_all();
    }

    /// How this wharf is.
    pub async fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: self.0.upstreams.mode().as_str().to_owned(),
            degraded: self.failing(),
            cache: self.0.cache_status().await,
            scrub: self.scrub_status(),
            volume_sets: self.0.sets.told(),
            upstreams: self.0.registries(),
            downloads: self.0.downloads.open() as u64,
        }
    }
}

impl Inner {
    /// Whether an image is larger than all that may be kept, so that nothing is to be evicted for its parts.
    pub(super) fn is_oversized(&self, document: &Manifest) -> bool {
        let Manifest::Image { blobs } = document else { return false };
        let mut seen = HashSet::new();
        let once = blobs.iter().filter(|blob| seen.insert(blob.digest));
        let sum = once.fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
        sum > self.store.usage().limit
    }

    /// Has the metrics tell how much is kept.
    pub(super) fn tell_usage(&self) {
        let store::Usage { blobs, bytes, reserved, limit, .. } = self.store.usage();
        self.metrics.cache_holds(blobs, bytes, reserved, limit);
        self.metrics.volume_sets(self.sets.count());
        let Evicted { images, bytes, refused } = self.store.take_evicted();
        self.metrics.evicted(images, bytes, refused);
        if images > 0 {
            self.prefetch.forget_complete();
        }
    }

    /// The same, and how many names are kept, for which all are looked at.
    fn tell_all(&self) {
        self.tell_usage();
        self.metrics.cache_names(self.store.tag_count());
    }

    async fn cache_status(&self) -> CacheStatus {
        let usage = self.store.usage_now().await;
        CacheStatus {
            bytes: usage.bytes,
            blobs: usage.blobs,
            images: self.store.tag_count(),
            partial: usage.partial,
            quarantined: usage.quarantined,
            reserved: usage.reserved,
            limit: usage.limit,
            free: usage.free,
            min_free: usage.min_free,
        }
    }
}
