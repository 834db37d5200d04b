//! What never crossed the uplink: the images of an index that nobody asked for.
//!
//! How large they are is not known without fetching their manifests, which would cost pulls: each counts as much as the
//! images of that index that were taken, on the average, and at least its own length.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use moka::sync::Cache;
use tokio::time::Instant;

use crate::oci::{Digest, ImageIndex, Repository};

/// Indexes watched at one time, and remembered as counted.
const WATCHED_MAX: usize = 1024;
const COUNTED_MAX: u64 = 10_000;

/// After how long nobody is expected to ask for another platform of an index: then it is counted, once.
const SETTLED: Duration = Duration::from_secs(10 * 60);

type Key = (Repository, Digest);

/// The indexes that were served lately.
#[derive(Debug)]
pub(super) struct Skipped {
    watched: Mutex<HashMap<Key, Watched>>,
    counted: Cache<Key, ()>,
}

#[derive(Debug)]
struct Watched {
    since: Instant,
    /// Manifests that nobody asked for so far, and their own lengths in bytes.
    left: HashMap<Digest, u64>,
    /// Images taken, and their bytes: manifest, config and layers.
    taken: u64,
    bytes: u64,
}

impl Skipped {
    /// An index was served.
    pub(super) fn served(
        &self,
        repository: &Repository,
        digest: &Digest,
        index: &ImageIndex,
        now: Instant,
    ) {
        let key = (repository.clone(), *digest);
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.len() >= WATCHED_MAX
            || watched.contains_key(&key)
            || self.counted.contains_key(&key)
        {
            return;
        }
        self.counted.insert(key.clone(), ());
        let images = index.images().filter(|entry| entry.platform.is_some());
        let left = images.map(|entry| (entry.descriptor.digest, entry.descriptor.size)).collect();
        watched.insert(key, Watched { since: now, left, taken: 0, bytes: 0 });
    }

    /// An image of `bytes` altogether was taken from an index.
    pub(super) fn taken(
        &self,
        repository: &Repository,
        index: &Digest,
        manifest: &Digest,
        bytes: u64,
    ) {
        let key = (repository.clone(), *index);
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(watched) = watched.get_mut(&key) else { return };
        if watched.left.remove(manifest).is_some() {
            watched.taken += 1;
            watched.bytes = watched.bytes.saturating_add(bytes);
        }
    }

    /// The bytes of the indexes that have settled by now; each is told once.
    pub(super) fn settled(&self, now: Instant) -> u64 {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = 0_u64;
        watched.retain(|_, watched| {
            let settled = now.saturating_duration_since(watched.since) >= SETTLED;
            if settled {
                let average = watched.bytes.checked_div(watched.taken).unwrap_or(0);
                let left = watched.left.values().map(|own| average.max(*own));
                sum = left.fold(sum, u64::saturating_add);
            }
            !settled
        });
        sum
    }
}

impl Default for Skipped {
    fn default() -> Self {
        Self { watched: Mutex::default(), counted: Cache::new(COUNTED_MAX) }
    }
}
