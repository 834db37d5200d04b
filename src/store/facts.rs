//! [`Fact`]: what wharf writes down about images, and [`Facts`]: all of them together.
//!
//! `index.json` and the journal hold facts; everything else that is looked up is derived from them and
//! from the manifests in `blobs/`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::oci::{Descriptor, Digest, Reference, Repository, Tag};

/// One thing learned from a registry, or from a pull.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "lowercase")]
pub enum Fact {
    /// The registry confirmed that the repository holds a blob that no manifest kept of it refers to.
    Blob {
        /// Who may read it.
        repository: Repository,
        /// What it is.
        blob: Descriptor,
    },
    /// A manifest of the repository was kept.
    Manifest {
        /// Where it came from.
        repository: Repository,
        /// What it is; the media type is the registry's own word.
        manifest: Descriptor,
    },
    /// An image stays whatever room is needed, or no longer.
    Pinned {
        /// Of this repository.
        repository: Repository,
        /// Which one.
        reference: Reference,
        /// Whether it stays.
        pinned: bool,
    },
    /// An image was last pulled at this time (seconds since 1970).
    Pulled {
        /// Of this repository.
        repository: Repository,
        /// The manifest or index that was asked for.
        manifest: Digest,
        /// When.
        at: u64,
    },
    /// Images were removed: of the repository, these names and digests are known no more. Written before the files go.
    Removed {
        /// Of this repository.
        repository: Repository,
        /// Names, with their pins.
        tags: Vec<Tag>,
        /// Manifests and blobs, and the lists of what refers to them.
        digests: Vec<Digest>,
        /// When, in seconds since 1970.
        at: u64,
    },
    /// The registry's list of what refers to a manifest.
    Referrers {
        /// Of this repository.
        repository: Repository,
        /// The manifest referred to.
        subject: Digest,
        /// The image index that lists its referrers.
        index: Descriptor,
    },
    /// A tag means this manifest, as confirmed at this time (seconds since 1970).
    Tag {
        /// Of this repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
        /// What it means; a [`Fact::Manifest`] of the same digest goes before.
        manifest: Descriptor,
        /// When the registry said so.
        at: u64,
    },
}

impl Fact {
    /// Whether it says that something is known no more.
    pub(super) const fn removes(&self) -> bool {
        matches!(self, Self::Removed { .. })
    }
}

/// All facts, as the files hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// What each tag means, and since when that is known.
    pub(super) tags: BTreeMap<(Repository, Tag), (Descriptor, u64)>,
    /// Every manifest kept, and when it was last pulled (0: not yet).
    pub(super) manifests: BTreeMap<(Repository, Digest), (Descriptor, u64)>,
    /// Referrers lists, by subject.
    pub(super) referrers: BTreeMap<(Repository, Digest), Descriptor>,
    /// Blobs confirmed by the registry alone.
    pub(super) blobs: BTreeMap<(Repository, Digest), Descriptor>,
    /// What stays whatever room is needed.
    pub(super) pinned: BTreeSet<(Repository, Reference)>,
}

impl Facts {
    /// Takes in one fact; a later one about the same thing replaces the earlier.
    pub(super) fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::Blob { repository, blob } => {
                self.blobs.insert((repository, blob.digest), blob);
            }
            Fact::Manifest { repository, manifest } => {
                let key = (repository, manifest.digest);
                let pulled = self.manifests.get(&key).map_or(0, |(_, pulled)| *pulled);
                self.manifests.insert(key, (manifest, pulled));
            }
            Fact::Pinned { repository, reference, pinned: true } => {
                self.pinned.insert((repository, reference));
            }
            Fact::Pinned { repository, reference, pinned: false } => {
                self.pinned.remove(&(repository, reference));
            }
            Fact::Pulled { repository, manifest, at } => {
                if let Some((_, pulled)) = self.manifests.get_mut(&(repository, manifest)) {
                    *pulled = at.max(*pulled);
                }
            }
            Fact::Referrers { repository, subject, index } => {
                self.referrers.insert((repository, subject), index);
            }
            Fact::Removed { repository, tags, digests, .. } => {
                for tag in tags {
                    self.tags.remove(&(repository.clone(), tag.clone()));
                    self.pinned.remove(&(repository.clone(), tag.into()));
                }
                for digest in digests {
                    let key = (repository.clone(), digest);
                    self.manifests.remove(&key);
                    self.referrers.remove(&key);
                    self.blobs.remove(&key);
                    self.pinned.remove(&(repository.clone(), digest.into()));
                }
            }
            Fact::Tag { repository, tag, manifest, at } => {
                self.tags.insert((repository, tag), (manifest, at));
            }
        }
    }
}
