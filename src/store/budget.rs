//! How much may be kept: the budget, and what is promised to downloads that run.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    thread,
};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{
    AllHeld, Error, Fact, Held, PartialBlob, Store,
    layout::Layout,
    ledger::{Ledger, Promise},
};
use crate::oci::{Digest, Reference, Repository, Tag};

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

/// What was evicted and refused since that was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// Images that went because room was needed.
    pub images: u64,
    /// Bytes that went with them.
    pub bytes: u64,
    /// Reservations for which there was no room.
    pub refused: u64,
}

/// Most bytes that are reserved at one time for a blob of which no manifest says how long it is: nobody's word but a
/// manifest's has images evicted before there are bytes that need their room.
const STEP_BYTES: u64 = 8 * 1024 * 1024;

/// Steps that a budget has at least.
const STEPS: u64 = 64;

/// Blobs that are counted before the first answer. More are counted behind it.
const COUNTED_AT_ONCE: usize = 1000;

/// Counts the blobs; where there are many, on a thread of its own.
pub(super) fn count(
    layout: &Arc<Layout>,
    ledger: &Arc<Ledger>,
) -> Result<Option<thread::JoinHandle<()>>, Error> {
    if ledger.count(layout, COUNTED_AT_ONCE).map_err(Error::read)? {
        return Ok(None);
    }
    let (layout, ledger) = (Arc::clone(layout), Arc::clone(ledger));
    let counting = move || {
        if let Err(error) = ledger.count(&layout, usize::MAX) {
            tracing::warn!(%error, "the blobs could not be counted; that is tried again");
        }
    };
    let thread = thread::Builder::new().name("wharf-count".to_owned()).spawn(counting);
    thread.map(Some).map_err(Error::write)
}

impl Freed {
    pub(super) fn sweeps(&mut self, bytes: u64, blobs: u64) {
        self.swept_bytes = self.swept_bytes.saturating_add(bytes);
        self.swept += blobs;
    }

    pub(super) fn add(&mut self, other: Self) {
        self.images.extend(other.images);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.blobs += other.blobs;
        self.sweeps(other.swept_bytes, other.swept);
    }
}

impl Store {
    /// Changes the budget; [`Store::keep_to_budget`] meets it.
    pub fn set_limits(&self, limits: Limits) {
        self.ledger.set_limits(limits);
    }

    /// How much is kept, and how much may be. The file system's part is as it was at the last reservation.
    pub fn usage(&self) -> Usage {
        self.ledger.usage()
    }

    /// [`Store::usage`], with the file system asked just now.
    pub async fn usage_now(&self) -> Usage {
        self.look_at_space().await;
        self.usage()
    }

    /// How many tags are kept. Looks at all of them.
    pub fn tag_count(&self) -> u64 {
        self.index.tag_count()
    }

    /// What was evicted and refused since the last call.
    pub fn take_evicted(&self) -> Evicted {
        std::mem::take(&mut *self.evicted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts the blobs again, should the account have come to differ from the files.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn recount(&self) -> Result<(), Error> {
        let (layout, ledger) = (Arc::clone(&self.layout), Arc::clone(&self.ledger));
        let counting = spawn_blocking(move || ledger.count(&layout, usize::MAX));
        counting.await.map_err(Error::join)?.map_err(Error::read).map(drop)
    }

    /// Whether the blobs were counted since the start.
    pub fn is_counted(&self) -> bool {
        *self.ledger.counted().borrow()
    }

    /// Keeps `digest`, and the images that lead to it, from eviction.
    pub fn hold(&self, digest: &Digest) -> Held {
        self.holds.hold(digest)
    }

    /// [`Store::hold`] of many.
    pub fn hold_all(&self, digests: Vec<Digest>) -> AllHeld {
        self.holds.hold_all(digests)
    }

    /// Has room for `bytes` more of a download.
    ///
    /// # Errors
    /// [`Error::NoRoom`]; then the download goes on past the disk.
    pub async fn more_room(&self, partial: &mut PartialBlob, bytes: u64) -> Result<(), Error> {
        let (left, keep) = (partial.room().promise.left(), partial.room().keep);
        if bytes <= left {
            return Ok(());
        }
        let needed = bytes - left;
        let more = match self.promise(needed.max(self.step()), keep).await {
            Err(Error::NoRoom { wanted }) if wanted > needed => self.promise(needed, keep).await?,
            promised => promised?,
        };
        partial.room().promise.join(more);
        Ok(())
    }

    /// Bytes to reserve for a blob of which nobody says how long it is.
    pub(super) fn step(&self) -> u64 {
        STEP_BYTES.min(self.usage().limit / STEPS)
    }

    /// Whether the image stays whatever room is needed.
    pub fn is_pinned(&self, repository: &Repository, reference: &Reference) -> bool {
        self.is_pinned_by_configuration(repository, reference)
            || self.index.is_pinned(repository, reference)
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
        // Nothing goes between the look and the fact.
        let _changes = self.changes.read().await;
        let is_kept = match reference {
            Reference::Tag(tag) => self.index.tag(repository, tag).is_some(),
            Reference::Digest(digest) => self.index.has_manifest(repository, digest),
        };
        if !is_kept {
            return Ok(None);
        }
        if self.index.is_pinned(repository, reference) == pinned {
            return Ok(Some(false));
        }
        let meant = match reference {
            Reference::Tag(tag) => self.index.tag(repository, tag).map(|(meant, _)| meant.digest),
            Reference::Digest(digest) => Some(*digest),
        };
        // An eviction that runs has looked at the pins already.
        self.holds.touch(meant.as_ref());
        let (repository, reference) = (repository.clone(), reference.clone());
        self.record(vec![Fact::Pinned { repository, reference, pinned }], Vec::new()).await?;
        self.pins.fetch_add(1, Ordering::Relaxed);
        Ok(Some(true))
    }

    /// What is pinned and would go with the image of this name: a tag that means its digest, or the digest that its tag
    /// means.
    pub fn pinned_with(&self, repository: &Repository, reference: &Reference) -> Option<Reference> {
        let is_pinned = |reference: &Reference| self.is_pinned(repository, reference);
        match reference {
            Reference::Tag(tag) => {
                let (meant, _) = self.index.tag(repository, tag)?;
                Some(Reference::Digest(meant.digest)).filter(is_pinned)
            }
            Reference::Digest(digest) => {
                let means = |tag: &Tag| {
                    self.index
                        .tag(repository, tag)
                        .is_some_and(|(meant, _)| meant.digest == *digest)
                };
                let mut tags = self.index.tags(repository).into_iter().filter(means);
                tags.find_map(|tag| Some(Reference::Tag(tag)).filter(is_pinned))
            }
        }
    }

    /// Removes an image and all that no other needs; `None` when it is not kept. By digest: the manifest that no index
    /// leads to, and the tags that mean it; one platform of an index is not removed alone.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn remove(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Freed>, Error> {
        self.evict_named(repository, reference).await
    }

    /// Evicts images, least recently pulled first, until the budget is met.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn keep_to_budget(&self) -> Result<Freed, Error> {
        if !self.is_counted() {
            // Behind the count of the start, if that still runs.
            self.recount().await?;
        }
        self.look_at_space().await;
        self.forget_seen().await;
        if self.ledger.excess() == 0 {
            return Ok(Freed::default());
        }
        self.evict_excess(false).await
    }

    /// [`Store::keep_to_budget`], and sweeps what nothing refers to.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn collect(&self) -> Result<Freed, Error> {
        self.evict_excess(true).await
    }

    /// Reserves room for a document, which is held meanwhile, so that the index that lists it does not go for it.
    pub(super) async fn room_for(
        &self,
        digest: &Digest,
        bytes: &Bytes,
    ) -> Result<(Held, Promise), Error> {
        let held = self.holds.hold(digest);
        let promise = self.promise(bytes.len() as u64, true).await?;
        Ok((held, promise))
    }
}
