//! What the store has of a manifest, and whether it may be shown.

use std::time::Duration;

use bytes::Bytes;

use super::{Error, Inner, Lacking, ManifestAnswer, Outcome, platform::Policy};
use crate::oci::{
    Descriptor, Digest, MANIFEST_MAX_BYTES, Manifest, Platform, Reference, Repository, Tag,
};

impl Inner {
    /// The kept document of a manifest that `repository` may show, and what it is.
    ///
    /// A disk that fails to give it counts as not having it: the registry is asked instead.
    ///
    /// # Errors
    /// When there is no room for it in memory.
    pub(super) async fn kept(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<(Descriptor, Bytes)>, Error> {
        let Some(shown) = self.store.shown(repository, digest) else { return Ok(None) };
        if !shown.link.media_type.names_a_manifest() {
            return Ok(None);
        }
        let Some(bytes) = self.kept_document(repository, &shown.link).await? else {
            return Ok(None);
        };
        let descriptor = Descriptor { size: bytes.len() as u64, ..shown.link.clone() };
        if !shown.is_taken && (self.has_closed || descriptor.size != shown.link.size) {
            // It may be another's alone: this repository's registry shows it, or nobody does. Nor is it what an index names
            // that says another length.
            return Ok(None);
        }
        if !shown.is_taken {
            // Named by an index here, and kept for another repository: what it names belongs here, too. A
            // document that is not of the type that the index says is left to the registry.
            let Ok(document) = Manifest::parse(&descriptor.media_type, &bytes) else {
                return Ok(None);
            };
            if self.policy(repository, digest).await != Policy::Keep || self.is_oversized(&document)
            {
                self.passing.named(repository, &document);
                return Ok(Some((descriptor, bytes)));
            }
            let take = self.store.take_manifest(repository, &descriptor, &document, &[]);
            let taken = Box::pin(take).await;
            taken.unwrap_or_else(|error| self.not_kept(&error));
        }
        Ok(Some((descriptor, bytes)))
    }

    /// What is kept under the digest of `link`, in its room among all documents, in memory as well as read. Each answer
    /// counts, also where several are clones of the same bytes.
    pub(super) async fn kept_document(
        &self,
        repository: &Repository,
        link: &Descriptor,
    ) -> Result<Option<Bytes>, Error> {
        let documents = self.upstreams.documents();
        // The length is an index's word, and may be wrong.
        let size = usize::try_from(link.size).unwrap_or(usize::MAX).min(MANIFEST_MAX_BYTES);
        let room = documents.room(size).await?;
        let bytes = self.store.manifest(&link.digest).await.unwrap_or_else(|error| {
            self.read_failed(repository, &error);
            None
        });
        Ok(bytes.map(|bytes| documents.hold(room, bytes)).transpose()?)
    }

    pub(super) async fn kept_answer(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<ManifestAnswer>, Error> {
        let kept = self.kept(repository, digest).await?;
        Ok(kept
            .map(|(descriptor, bytes)| ManifestAnswer::new(descriptor, Some(bytes), Outcome::Hit)))
    }

    /// What a tag means when no registry is to be asked: what it last meant.
    ///
    /// # Errors
    /// When it is not kept.
    pub(super) async fn only_kept(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<ManifestAnswer, Error> {
        let meant = self.kept_tag(repository, tag).map(|(meant, _)| meant.digest);
        let kept = match meant {
            Some(digest) => self.kept_answer(repository, &digest).await?,
            None => None,
        };
        kept.ok_or_else(|| Lacking::Manifest.offline())
    }

    /// What may be answered for a tag when its registry gives no good answer: what it last meant.
    pub(super) async fn stand_in(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<ManifestAnswer>, Error> {
        let Some((Descriptor { digest, .. }, at)) = self.kept_tag(repository, tag) else {
            return Ok(None);
        };
        let confirmed = self.freshness.confirmed_ago(repository, tag, &digest);
        self.stale(repository, &digest, at, confirmed).await
    }

    /// What a pinned tag meant when its registry had it, now that it says `error`: what somebody brought by hand, or wants to
    /// stay whatever happens, is not taken away by a registry that never had it, or has it no more. Where clients bring their
    /// own accounts, the no is about the client.
    pub(super) async fn pinned_in_spite_of(
        &self,
        repository: &Repository,
        tag: &Tag,
        error: Error,
    ) -> Result<ManifestAnswer, Error> {
        let is_no = matches!(error, Error::ManifestUnknown | Error::NameUnknown | Error::Denied);
        let is_pinned = || self.store.is_pinned(repository, &Reference::Tag(tag.clone()));
        if !is_no || self.terms(repository).is_some() || !is_pinned() {
            return Err(error);
        }
        self.stand_in(repository, tag).await?.ok_or(error)
    }

    /// A kept manifest in the stead of what its tag may mean now. What is written down is when the tag began to mean it
    /// (`at`); how long ago it was `confirmed` is in memory.
    pub(super) async fn stale(
        &self,
        repository: &Repository,
        digest: &Digest,
        at: u64,
        confirmed: Option<Duration>,
    ) -> Result<Option<ManifestAnswer>, Error> {
        if !self.config.serve_stale {
            return Ok(None);
        }
        let Some(kept) = self.kept_answer(repository, digest).await? else { return Ok(None) };
        let since_kept = Duration::from_secs(self.clock.unix_seconds().saturating_sub(at));
        let (outcome, stale_for) = (Outcome::Stale, Some(confirmed.unwrap_or(since_kept)));
        Ok(Some(ManifestAnswer { outcome, stale_for, ..kept }))
    }

    /// What an image runs on by the word of its config, if that is kept and `repository` may show it; nothing is
    /// fetched. What an index says of the image goes before.
    pub(super) async fn config_platform(
        &self,
        repository: &Repository,
        manifest: &Manifest,
    ) -> Option<Platform> {
        let config = manifest.config().filter(|config| config.size <= MANIFEST_MAX_BYTES as u64)?;
        self.store.link(repository, &config.digest)?;
        let read = self.store.manifest(&config.digest).await;
        let bytes = read.inspect_err(|error| self.read_failed(repository, error)).ok()??;
        Platform::from_config(&bytes)
    }
}
