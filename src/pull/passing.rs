//! What may be shown though nothing that is kept names it: the blobs of manifests that were passed on, and those that the
//! registry was asked for one by one. For the time of a pull.

use std::{sync::Arc, time::Duration};

use crate::{
    oci::{Descriptor, Digest, Manifest, Repository},
    on_demand::OnDemand,
};

/// Blobs remembered.
const BLOBS_MAX: u64 = 20_000;

/// How long a pull of what is not kept may take without its manifest being asked for again. Whoever comes later has the
/// registry confirm the blob.
const PULL: Duration = Duration::from_secs(60 * 60);

/// Which repository may show which blob without keeping it.
#[derive(Debug)]
pub(super) struct Passing {
    blobs: OnDemand<(Repository, Digest), Passed>,
}

/// What is known of a blob that no kept manifest names.
#[derive(Clone, Debug)]
pub(super) struct Passed {
    /// The blob's length in bytes.
    pub(super) size: u64,
    pub(super) because: Because,
}

/// Why a repository may show a blob.
#[derive(Clone, Debug)]
pub(super) enum Because {
    /// A manifest names it that is not to be kept.
    Passed,
    /// A manifest names it that is to be kept, once there is room for it.
    NoRoom(Arc<Descriptor>),
    /// The registry said so when it was asked for the blob.
    Confirmed,
}

impl Passing {
    /// The registry just sent this manifest of `repository`, and it is not to be kept.
    pub(super) fn named(&self, repository: &Repository, document: &Manifest) {
        self.insert(repository, document, &Because::Passed);
    }

    /// The registry just sent this manifest of `repository`, for which there was no room.
    pub(super) fn has_no_room(
        &self,
        repository: &Repository,
        manifest: &Descriptor,
        document: &Manifest,
    ) {
        self.insert(repository, document, &Because::NoRoom(Arc::new(manifest.clone())));
    }

    fn insert(&self, repository: &Repository, document: &Manifest, because: &Because) {
        for blob in document.references() {
            let passed = Passed { size: blob.size, because: because.clone() };
            self.blobs.insert((repository.clone(), blob.digest), passed);
        }
    }

    /// The registry just said that `repository` has the blob, and how long it is. No more than that: what a manifest said
    /// stays.
    pub(super) fn confirmed(&self, repository: &Repository, digest: &Digest, size: u64) {
        let passed = Passed { size, because: Because::Confirmed };
        self.blobs.insert_if_new((repository.clone(), *digest), passed);
    }

    /// Whether a manifest names the blob, and not only its registry's word.
    pub(super) fn is_named(&self, repository: &Repository, digest: &Digest) -> bool {
        let known = self.get(repository, digest);
        known.is_some_and(|known| !matches!(known.because, Because::Confirmed))
    }

    /// What is known of a blob that `repository` may show.
    pub(super) fn get(&self, repository: &Repository, digest: &Digest) -> Option<Passed> {
        self.blobs.get(&(repository.clone(), *digest))
    }

    /// The length of a blob that `repository` may show.
    pub(super) fn size(&self, repository: &Repository, digest: &Digest) -> Option<u64> {
        self.get(repository, digest).map(|passed| passed.size)
    }
}

impl Default for Passing {
    fn default() -> Self {
        Self { blobs: OnDemand::new(BLOBS_MAX).for_as_long_as(PULL) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::media_type;

    fn image(blobs: impl Iterator<Item = u64>) -> Manifest {
        let descriptor = |n: u64| {
            serde_json::json!({
                "mediaType": media_type::OCTET_STREAM, "size": n,
                "digest": Digest::sha256(&n.to_be_bytes()),
            })
        };
        let layers: Vec<_> = blobs.map(descriptor).collect();
        let document = serde_json::json!({
            "schemaVersion": 2, "config": descriptor(0), "layers": layers,
        });
        let document = document.to_string();
        let media_type = media_type::OCI_MANIFEST.parse().expect("a media type");
        Manifest::parse(&media_type, document.as_bytes()).expect("a manifest")
    }

    #[test]
    fn what_a_manifest_names_may_pass_through_its_repository_alone() {
        let passing = Passing::default();
        let [busybox, other]: [Repository; 2] =
            ["docker.io/library/busybox", "docker.io/library/other"]
                .map(|name| name.parse().expect("a name"));
        let blob = |n: u64| Digest::sha256(&n.to_be_bytes());
        passing.named(&busybox, &image([7, 8].into_iter()));
        assert_eq!(passing.size(&busybox, &blob(7)), Some(7));
        assert_eq!(passing.size(&busybox, &blob(8)), Some(8));
        assert_eq!(passing.size(&busybox, &blob(9)), None);
        assert_eq!(passing.size(&other, &blob(7)), None);
    }

    #[test]
    fn manifests_without_end_are_remembered_up_to_a_bound() {
        let passing = Passing::default();
        let repository: Repository = "docker.io/library/busybox".parse().expect("a name");
        for thousand in 0..2 * BLOBS_MAX / 1000 {
            passing.named(&repository, &image(thousand * 1000..(thousand + 1) * 1000));
        }
        let known = passing.blobs.settle();
        assert!(known <= BLOBS_MAX, "{known}");
    }
}
