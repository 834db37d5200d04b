//! What may be passed on without being kept: the blobs of manifests that were, for the time of a pull.

use std::time::Duration;

use moka::sync::Cache;

use crate::oci::{Digest, Manifest, Repository};

/// Blobs remembered.
const BLOBS_MAX: u64 = 20_000;

/// How long a pull of what is not kept may take without its manifest being asked for again. Whoever comes later has the
/// registry confirm the blob.
const PULL: Duration = Duration::from_secs(60 * 60);

/// Which repository may show which blob without keeping it, and its length in bytes as the manifest says.
#[derive(Debug)]
pub(super) struct Passing {
    blobs: Cache<(Repository, Digest), u64>,
}

impl Passing {
    /// The registry just sent this manifest of `repository`, and it is not kept.
    pub(super) fn named(&self, repository: &Repository, document: &Manifest) {
        for blob in document.references() {
            self.blobs.insert((repository.clone(), blob.digest), blob.size);
        }
    }

    /// The length of a blob that `repository` may show.
    pub(super) fn size(&self, repository: &Repository, digest: &Digest) -> Option<u64> {
        self.blobs.get(&(repository.clone(), *digest))
    }
}

impl Default for Passing {
    fn default() -> Self {
        let blobs = Cache::builder().max_capacity(BLOBS_MAX).time_to_live(PULL).build();
        Self { blobs }
    }
}
