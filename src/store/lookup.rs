//! What is known of repositories, tags and manifests.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::{Error, Listed, Shown, Store, catalog};
use crate::oci::{Descriptor, Digest, Manifest, Repository, Tag};

impl Store {
    /// What `repository` may show under `digest`, as far as this wharf knows, with its type and length.
    pub fn link(&self, repository: &Repository, digest: &Digest) -> Option<Descriptor> {
        self.index.link(repository, digest)
    }

    /// How often anything changed of what is known: what was looked up before one change may be old after it.
    pub fn edition(&self) -> u64 {
        self.index.edition()
    }

    /// All that is known of what `repository` may show under `digest`.
    pub fn shown(&self, repository: &Repository, digest: &Digest) -> Option<Arc<Shown>> {
        self.index.shown(repository, digest)
    }

    /// Under which repositories a registry itself has shown the blob, as far as that was written down.
    pub fn vouchers(&self, digest: &Digest) -> Vec<Repository> {
        self.index.vouchers(digest)
    }

    /// Whether the manifest was kept or taken for `repository`, rather than only named by an index of it.
    pub fn has_manifest(&self, repository: &Repository, digest: &Digest) -> bool {
        self.index.has_manifest(repository, digest)
    }

    /// What a tag meant when it was last confirmed, and when that was (seconds since 1970).
    pub fn tag(&self, repository: &Repository, tag: &Tag) -> Option<(Descriptor, u64)> {
        self.index.tag(repository, tag)
    }

    /// The tags kept of a repository, in order.
    pub fn tags(&self, repository: &Repository) -> Vec<Tag> {
        self.index.tags(repository)
    }

    /// Up to `n` repositories of which a tag is kept, in order, that come after `last`.
    pub fn repositories(&self, last: Option<&str>, n: usize) -> Vec<Repository> {
        self.index.repositories(last, n)
    }

    /// The kept list of what refers to `subject`.
    pub fn referrers(&self, repository: &Repository, subject: &Digest) -> Option<Descriptor> {
        self.index.referrers(repository, subject)
    }

    /// How an index that is kept of `repository` lists `manifest`: of several, the one kept last. `None` when none does.
    ///
    /// When the tables were made anew, the one whose tag was confirmed last, and of equals the greatest digest.
    pub fn listed(&self, repository: &Repository, manifest: &Digest) -> Option<Listed> {
        self.index.listed(repository, manifest)
    }

    /// Whether an index that is kept of `repository` says that `manifest` is as long as it says here. Reads all of them:
    /// to be asked when one says something else.
    ///
    /// # Errors
    /// When the daemon is ending.
    pub async fn is_listed_as(
        &self,
        repository: &Repository,
        manifest: Digest,
        size: u64,
    ) -> Result<bool, Error> {
        let (layout, index) = (Arc::clone(&self.layout), self.index.clone());
        let repository = repository.clone();
        let looking = spawn_blocking(move || {
            index.manifests(&repository).iter().any(|kept| {
                let kept = index.read_link(&repository, kept);
                let kept = kept.filter(|kept| kept.media_type.is_index());
                let document = kept.and_then(|kept| catalog::document(&layout, &kept));
                let mut listed = document.iter().flat_map(Manifest::references);
                listed.any(|listed| (listed.digest, listed.size) == (manifest, size))
            })
        });
        looking.await.map_err(Error::join)
    }

    /// When the image was last pulled by a client, in seconds since 1970; `None`: not yet, or it was not kept.
    ///
    /// Of a manifest that only an index leads to, the time is lost with the tables, once the journal is folded.
    pub fn last_pulled(&self, repository: &Repository, manifest: &Digest) -> Option<u64> {
        self.index.pulled(repository, manifest).max(self.pulled.at(repository, manifest))
    }

    /// All manifests that were kept, tagged or not, in no order. Those of which the registry's word is lost are left out.
    ///
    /// # Errors
    /// When the daemon is ending.
    pub async fn manifests(&self) -> Result<Vec<(Repository, Descriptor)>, Error> {
        let index = self.index.clone();
        let listing = spawn_blocking(move || {
            let records = index.records(b'm').filter_map(|(repository, key, _)| {
                let manifest = index.read_link(&repository, &Digest::from_bytes(&key)?)?;
                Some((repository, manifest))
            });
            records.collect()
        });
        listing.await.map_err(Error::join)
    }

    /// How long the blobs kept under these digests are, in bytes; `None` for one that is not kept, or cannot be looked at.
    ///
    /// # Errors
    /// When the daemon is ending.
    pub async fn sizes(&self, digests: Vec<Digest>) -> Result<Vec<Option<u64>>, Error> {
        let (layout, ledger) = (Arc::clone(&self.layout), Arc::clone(&self.ledger));
        let size = move |digest: &Digest| {
            let len = layout.disk().len(&layout.blob(digest)).ok().flatten();
            len.filter(|_| !ledger.is_condemned(digest))
        };
        let looking = spawn_blocking(move || digests.iter().map(size).collect());
        looking.await.map_err(Error::join)
    }
}
