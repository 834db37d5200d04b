//! Bundles of which some volumes are here, and others are not: what of them is here stays until the rest comes, or nobody
//! brings anything for a long time.
//!
//! A set belongs to one import at a time. Its blobs are nobody's until all are here, and held as long as the set is known.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{Error, Inner, Pull, VolumeSet};
use crate::{
    bundle::Contents,
    oci::Digest,
    store::{AllHeld, Store, Volumes},
};

/// Sets that are known at one time.
const SETS_MAX: usize = 16;

/// Blobs of all of them, of which each is remembered: as many as the longest contents document lists.
const BLOBS_MAX: usize = 600_000;

/// Names of images, and numbers of volumes, that are told of one.
const NAMES_TOLD: usize = 3;
const NUMBERS_TOLD: usize = 100;

/// Fewest hex digits that a set is called by.
const SHORTEST_NAME: usize = 4;

/// What is known of all sets. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Sets(Arc<Mutex<BTreeMap<Digest, Set>>>);

#[derive(Debug)]
struct Set {
    told: VolumeSet,
    /// `None` while somebody adds to it.
    here: Option<Volumes>,
    held: AllHeld,
}

/// A set in the hands of one who adds to it. It goes back when this is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    sets: Sets,
    /// `None` once it is given back, or ended.
    volumes: Option<Volumes>,
    /// Bytes of blobs of it that are here whole.
    pub(super) whole_bytes: u64,
}

impl Sets {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.lock().len() as u64
    }

    /// All of them, by their names.
    pub(super) fn told(&self) -> Vec<VolumeSet> {
        self.lock().values().map(|set| set.told.clone()).collect()
    }

    /// Takes a set into one's hands; `None` if there is no such set.
    ///
    /// # Errors
    /// When somebody has it: in a sentence.
    pub(super) fn take(&self, set: &Digest, whole_bytes: u64) -> Result<Option<Taken>, String> {
        let mut sets = self.lock();
        let Some(known) = sets.get_mut(set) else { return Ok(None) };
        let volumes = known.here.take().ok_or(
            "another volume of its set is being taken in: bring it again when that is done",
        )?;
        Ok(Some(Taken { sets: self.clone(), volumes: Some(volumes), whole_bytes }))
    }

    /// Begins a set, of which `whole_bytes` are here. To be polled to its end: until then the set belongs to this.
    ///
    /// # Errors
    /// When there are too many, or the disk does not take it: in a sentence.
    pub(super) async fn begin(
        &self,
        store: &Store,
        set: &Digest,
        contents: &Contents,
        document: Bytes,
        (of, whole_bytes): (u32, u64),
    ) -> Result<Taken, String> {
        self.insert(set, contents, of, store.hold_all(needed(contents)))?;
        match store.begin_volumes(set, document, of).await {
            Ok(volumes) => Ok(Taken { sets: self.clone(), volumes: Some(volumes), whole_bytes }),
            Err(error) => {
                self.lock().remove(set);
                Err(error.to_string())
            }
        }
    }

    fn insert(
        &self,
        set: &Digest,
        contents: &Contents,
        of: u32,
        held: AllHeld,
    ) -> Result<(), String> {
        let mut sets = self.lock();
        let blobs = sets.values().map(|set| set.held.count()).sum::<usize>() + held.count();
        if sets.len() >= SETS_MAX || (blobs > BLOBS_MAX && !sets.is_empty()) {
            return Err(format!(
                "{} other bundles wait for volumes, and no more may: bring what they wait for, or drop one with wharf \
                 import --drop (wharf status tells which there are)",
                sets.len()
            ));
        }
        let names = contents.images.iter().map(|image| image.named.to_string());
        let told = VolumeSet {
            set: *set,
            images: names.take(NAMES_TOLD).collect(),
            more_images: contents.images.len().saturating_sub(NAMES_TOLD) as u64,
            of,
            here: 0,
            missing: Vec::new(),
            bytes: 0,
            parts: 0,
            size: contents.carried_bytes(),
            touched: 0,
        };
        sets.insert(*set, Set { told, here: None, held });
        Ok(())
    }

    /// Ends a set that nobody has in his hands: its volumes, and what they held.
    fn end(&self, set: &Digest) -> Option<(VolumeSet, Volumes, AllHeld)> {
        let mut sets = self.lock();
        let volumes = sets.get_mut(set)?.here.take()?;
        let Set { told, held, .. } = sets.remove(set)?;
        Some((told, volumes, held))
    }

    fn put_back(&self, volumes: Volumes, whole_bytes: u64) {
        let mut sets = self.lock();
        let Some(Set { told, here, .. }) = sets.get_mut(volumes.set()) else { return };
        told.of = volumes.of();
        told.here = volumes.here();
        told.missing = volumes.missing().take(NUMBERS_TOLD).collect();
        told.parts = volumes.part_bytes();
        told.bytes = whole_bytes.saturating_add(told.parts);
        told.touched = volumes.touched();
        *here = Some(volumes);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Digest, Set>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// The set. Blocking calls on it are for a thread that may.
    pub(super) fn volumes(&mut self) -> &mut Volumes {
        self.volumes.as_mut().expect("given back when this is dropped, and not before")
    }

    /// Ends the set: what is named by now stays, and of the rest, unless it is `whole`, what nothing else leads to goes.
    pub(super) async fn end(mut self, store: &Store, whole: bool) {
        let Some(volumes) = self.volumes.take() else { return };
        let set = *volumes.set();
        self.sets.put_back(volumes, self.whole_bytes);
        self.sets.drop_set(store, &set, !whole).await;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(volumes) = self.volumes.take() {
            self.sets.put_back(volumes, self.whole_bytes);
        }
    }
}

impl Sets {
    /// Deletes a set, and if asked what only it needed; `None` if there is no such set, or somebody has it.
    async fn drop_set(&self, store: &Store, set: &Digest, blobs: bool) -> Option<VolumeSet> {
        let (told, volumes, held) = self.end(set)?;
        // Done to its end, also when nobody waits any more.
        let deleting = spawn_blocking(move || {
            volumes.delete();
            let digests: HashSet<Digest> = held.digests().iter().copied().collect();
            digests
        });
        let digests = deleting.await.unwrap_or_default();
        if blobs {
            if let Err(error) = store.drop_unnamed(&digests).await {
                tracing::warn!(%error, "what is left of a set of volumes stays until the next sweep");
            }
        }
        Some(told)
    }
}

impl Pull {
    /// Drops what is here of a bundle of which not all volumes are: `name` is its digest, or the first digits of it.
    ///
    /// # Errors
    /// When there is no such one, or several, or a volume of it is being taken in.
    pub async fn drop_volumes(&self, name: &str) -> Result<VolumeSet, Error> {
        let sets = &self.0.sets;
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        let is_meant = |set: &VolumeSet| set.set.encoded().starts_with(digits);
        let named: Vec<VolumeSet> = sets.told().into_iter().filter(is_meant).collect();
        let set = match named.as_slice() {
            [one] if digits.len() >= SHORTEST_NAME => one.set,
            _ => {
                let sentence = format!(
                    "no one bundle that waits for volumes is called {name:?}: wharf status tells what they are called"
                );
                return Err(Error::Volumes(sentence));
            }
        };
        let dropped = sets.drop_set(&self.0.store, &set, true).await;
        self.0.tell_usage();
        dropped.ok_or_else(|| {
            let sentence = "a volume of it is being taken in: ask again when that is done";
            Error::Volumes(sentence.to_owned())
        })
    }

    /// Drops the sets to which nobody has added anything for long. To be called every minute or so.
    pub async fn expire_volumes(&self) {
        let (sets, kept) = (&self.0.sets, self.0.config.airgap.volumes_kept.as_secs());
        let now = self.0.clock.unix_seconds();
        let told = sets.told();
        let expired = told.iter().filter(|set| now >= set.touched.saturating_add(kept));
        for VolumeSet { set, .. } in expired {
            if let Some(VolumeSet { here, of, .. }) = sets.drop_set(&self.0.store, set, true).await
            {
                tracing::warn!(%set, here, of, "nobody brought the rest of a bundle's volumes: dropped");
            }
        }
    }
}

impl Inner {
    /// Recalls the sets that were not whole at the last stop. To be called before anything may go.
    pub(super) async fn recall_volumes(&self) {
        for (volumes, document) in self.store.volume_sets().await {
            let set = *volumes.set();
            let parsed = spawn_blocking(move || Contents::parse(&document)).await;
            let Some(contents) = parsed.ok().and_then(Result::ok) else {
                let _ = spawn_blocking(move || volumes.delete()).await;
                continue;
            };
            let whole_bytes = self.whole_bytes(&contents).await.unwrap_or(0);
            let held = self.store.hold_all(needed(&contents));
            // More than there may be cannot have been begun.
            if self.sets.insert(&set, &contents, volumes.of(), held).is_ok() {
                self.sets.put_back(volumes, whole_bytes);
            }
        }
        self.metrics.volume_sets(self.sets.count());
    }

    /// Bytes of the blobs that a bundle carries and are here; `None` when all are.
    pub(super) async fn whole_bytes(&self, contents: &Contents) -> Option<u64> {
        let digests = contents.blobs.iter().map(|blob| blob.digest).collect();
        let Ok(sizes) = self.store.sizes(digests).await else { return Some(0) };
        let here = contents.blobs.iter().zip(sizes).filter(|(blob, size)| *size == Some(blob.size));
        let (count, bytes) =
            here.fold((0, 0_u64), |(count, sum), (blob, _)| (count + 1, sum + blob.size));
        (count < contents.blobs.len()).then_some(bytes)
    }
}

/// What a set is not to lose meanwhile: what it carries, and what it takes for granted.
pub(super) fn needed(contents: &Contents) -> Vec<Digest> {
    let base = contents.base.iter().map(|base| base.digest);
    contents.blobs.iter().map(|blob| blob.digest).chain(base).collect()
}
