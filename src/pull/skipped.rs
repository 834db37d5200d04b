//! What never crossed the uplink: the images of an index that nobody asked for.
//!
//! How large they are is not known without fetching their manifests, which would cost pulls: each counts as much as the
//! images of that index that were taken, on the average, and at least its own length.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    oci::{Digest, ImageIndex, Repository},
    on_demand::OnDemand,
};

/// Indexes watched at one time, their entries altogether, and indexes remembered as counted.
const WATCHED_MAX: usize = 1024;
const ENTRIES_MAX: usize = 16_384;
const COUNTED_MAX: u64 = 10_000;

/// After how long nobody is expected to ask for another platform of an index: then it is counted, once.
const SETTLED: Duration = Duration::from_secs(10 * 60);

type Key = (Repository, Digest);

/// The indexes that were served lately.
#[derive(Debug)]
pub(super) struct Skipped {
    watched: Mutex<HashMap<Key, Watched>>,
    counted: OnDemand<Key, ()>,
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
    /// Whether this index was not served yet.
    pub(super) fn is_new(&self, repository: &Repository, digest: &Digest) -> bool {
        !self.counted.contains_key(&(repository.clone(), *digest))
    }

    /// Whether it is not known yet that this manifest was taken from an index that is watched.
    pub(super) fn awaits(
        &self,
        repository: &Repository,
        index: &Digest,
        manifest: &Digest,
    ) -> bool {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let watched = watched.get(&(repository.clone(), *index));
        watched.is_some_and(|watched| watched.left.contains_key(manifest))
    }

    /// An index was served. What is watched already leaves room for so many others only.
    pub(super) fn served(
        &self,
        repository: &Repository,
        digest: &Digest,
        index: &ImageIndex,
        now: Instant,
    ) {
        let key = (repository.clone(), *digest);
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.contains_key(&key) || !self.is_new(repository, digest) {
            return;
        }
        self.counted.insert(key.clone(), ());
        let images = index.images().filter(|entry| entry.platform.is_some());
        let left: HashMap<Digest, u64> =
            images.map(|entry| (entry.descriptor.digest, entry.descriptor.size)).collect();
        let entries: usize = watched.values().map(|watched| watched.left.len()).sum();
        if watched.len() >= WATCHED_MAX || entries + left.len() > ENTRIES_MAX {
            return;
        }
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

    /// The bytes of the indexes that have settled by now, without the manifests that were fetched all the same; each is
    /// told once.
    pub(super) fn settled(
        &self,
        now: Instant,
        is_kept: impl Fn(&Repository, &Digest) -> bool,
    ) -> u64 {
        let mut settled = Vec::new();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|(repository, _), watched| {
            let is_settled = now.saturating_duration_since(watched.since) >= SETTLED;
            if is_settled {
                let left = std::mem::take(&mut watched.left);
                let average = watched.bytes.checked_div(watched.taken).unwrap_or(0);
                settled.push((repository.clone(), left, average));
            }
            !is_settled
        });
        drop(watched);
        let mut sum = 0_u64;
        for (repository, left, average) in settled {
            let left = left.iter().filter(|(manifest, _)| !is_kept(&repository, manifest));
            sum = left.fold(sum, |sum, (_, own)| sum.saturating_add(average.max(*own)));
        }
        sum
    }
}

impl Default for Skipped {
    fn default() -> Self {
        Self { watched: Mutex::default(), counted: OnDemand::new(COUNTED_MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Descriptor, IndexEntry, Platform, media_type};

    fn repository() -> Repository {
        "docker.io/library/busybox".parse().expect("a name")
    }

    fn digest(name: &str) -> Digest {
        Digest::sha256(name.as_bytes())
    }

    /// An index of manifests called so, each of 1000 bytes.
    fn index(names: &[&str]) -> ImageIndex {
        let entry = |name: &&str| IndexEntry {
            descriptor: Descriptor {
                media_type: media_type::OCI_MANIFEST.parse().expect("a media type"),
                digest: digest(name),
                size: 1000,
            },
            platform: Some(Platform::new("linux", name, None)),
            attests: None,
        };
        ImageIndex { entries: names.iter().map(entry).collect() }
    }

    fn serve(skipped: &Skipped, name: &str, index: &ImageIndex, now: Instant) {
        skipped.served(&repository(), &digest(name), index, now);
    }

    const fn nothing_is_kept(_: &Repository, _: &Digest) -> bool {
        false
    }

    #[test]
    fn what_nobody_took_counts_as_much_as_what_was_taken_on_the_average() {
        let (skipped, start) = (Skipped::default(), Instant::now());
        let take = |name: &str, bytes| {
            let (repository, index) = (repository(), digest("index"));
            let awaited = skipped.awaits(&repository, &index, &digest(name));
            skipped.taken(&repository, &index, &digest(name), bytes);
            awaited
        };
        let list = index(&["amd64", "arm64", "386", "arm", "s390x"]);
        assert!(skipped.is_new(&repository(), &digest("index")));
        assert!(!take("amd64", 50_000), "nothing was served yet");
        serve(&skipped, "index", &list, start);
        assert!(!skipped.is_new(&repository(), &digest("index")));
        assert!(take("amd64", 50_000));
        assert!(take("arm64", 30_000));
        assert!(!take("arm64", 30_000), "once");
        assert!(!take("another", 30_000));
        let almost = start + SETTLED - Duration::from_millis(1);
        assert_eq!(skipped.settled(almost, nothing_is_kept), 0);
        // One came ahead, and is no client's yet.
        let is_kept = |_: &Repository, manifest: &Digest| *manifest == digest("arm");
        assert_eq!(skipped.settled(start + SETTLED, is_kept), 2 * 40_000);
        // Once, however often it is served.
        serve(&skipped, "index", &list, start + SETTLED);
        assert_eq!(skipped.settled(start + SETTLED * 3, nothing_is_kept), 0);
    }

    #[test]
    fn of_what_nobody_took_anything_each_manifest_counts_its_own_length() {
        let (skipped, start) = (Skipped::default(), Instant::now());
        serve(&skipped, "index", &index(&["amd64", "arm64"]), start);
        assert_eq!(skipped.settled(start + SETTLED, nothing_is_kept), 2000);
    }

    #[test]
    fn lists_without_number_and_lists_without_end_are_watched_up_to_a_bound() {
        let (skipped, start) = (Skipped::default(), Instant::now());
        let names: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
        let long = index(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let short = index(&["amd64"]);
        for n in 0..100 {
            serve(&skipped, &format!("long {n}"), &long, start);
        }
        for n in 0..2 * WATCHED_MAX {
            serve(&skipped, &format!("short {n}"), &short, start);
        }
        let watched = skipped.watched.lock().expect("not poisoned");
        assert_eq!(watched.len(), WATCHED_MAX);
        let entries: usize = watched.values().map(|watched| watched.left.len()).sum();
        assert!(entries <= ENTRIES_MAX, "{entries}");
        drop(watched);
        // What was watched makes room.
        assert!(skipped.settled(start + SETTLED, nothing_is_kept) > 10_000 * 1000);
        serve(&skipped, "later", &short, start + SETTLED);
        assert_eq!(skipped.settled(start + SETTLED * 2, nothing_is_kept), 1000);
    }
}
