//! What is kept of manifests, tags and the registry's word: written down, durable, and then known.

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::{sync::oneshot, task::spawn_blocking};

use super::{
    Error, Fact, Store,
    failing::Write,
    ledger::{Came, Promise},
    links::Link,
    quarantine, recorder,
};
use crate::oci::{Descriptor, Digest, Manifest, Repository, Tag};

impl Store {
    /// Keeps a manifest of `repository`, and the tags that mean it. Durable when this returns.
    ///
    /// `bytes` must be what `manifest.digest` names, and `document` what they say.
    ///
    /// # Errors
    /// When the disk does not take it; then nothing of it counts.
    pub async fn keep_manifest(
        &self,
        repository: &Repository,
        manifest: &Descriptor,
        document: &Manifest,
        bytes: &Bytes,
        tags: &[Tag],
    ) -> Result<(), Error> {
        let (_held, room) = self.room_for(&manifest.digest, bytes).await?;
        let _changes = self.changes.read().await;
        self.touch(manifest, document);
        self.write_document(&manifest.digest, bytes, room).await?;
        self.record_manifest(repository, manifest, document, tags).await?;
        // A copy: `bytes` may be part of something longer, or be counted for as long as a clone is there.
        self.heat(&manifest.digest, Bytes::copy_from_slice(bytes));
        Ok(())
    }

    /// Records that a manifest that is kept already is one of `repository`, too, and the tags that mean it.
    ///
    /// # Errors
    /// When the disk does not take it, or it is kept no more.
    pub async fn take_manifest(
        &self,
        repository: &Repository,
        manifest: &Descriptor,
        document: &Manifest,
        tags: &[Tag],
    ) -> Result<(), Error> {
        let _changes = self.changes.read().await;
        self.touch(manifest, document);
        self.must_be_kept(&manifest.digest).await?;
        self.record_manifest(repository, manifest, document, tags).await
    }

    async fn record_manifest(
        &self,
        repository: &Repository,
        manifest: &Descriptor,
        document: &Manifest,
        tags: &[Tag],
    ) -> Result<(), Error> {
        let mut facts =
            vec![Fact::Manifest { repository: repository.clone(), manifest: manifest.clone() }];
        facts.extend(tags.iter().map(|tag| self.tag_fact(repository, tag, manifest)));
        self.record(facts, Link::all(repository, &manifest.digest, document)).await
    }

    /// Records that `tag` means a manifest that the repository has already.
    ///
    /// # Errors
    /// When the disk does not take it; [`Error::Gone`] when the repository has the manifest no more, be it kept for others.
    pub async fn keep_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        manifest: &Descriptor,
    ) -> Result<(), Error> {
        let _changes = self.changes.read().await;
        self.holds.touch([&manifest.digest]);
        self.must_be_kept(&manifest.digest).await?;
        if !self.has_manifest(repository, &manifest.digest) {
            return Err(Error::Gone);
        }
        self.record(vec![self.tag_fact(repository, tag, manifest)], Vec::new()).await
    }

    /// Records that the registry itself says that `repository` holds `blob`, which is kept.
    ///
    /// # Errors
    /// When the disk does not take it; [`Error::Gone`] when it is not kept.
    pub async fn keep_link(&self, repository: &Repository, blob: &Descriptor) -> Result<(), Error> {
        let _changes = self.changes.read().await;
        self.holds.touch([&blob.digest]);
        // There is no end of blobs that a registry has.
        self.must_be_kept(&blob.digest).await?;
        let fact = Fact::Blob { repository: repository.clone(), blob: blob.clone() };
        self.record(vec![fact], Vec::new()).await
    }

    /// Keeps the registry's list of what refers to `subject`.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub async fn keep_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        index: &Descriptor,
        bytes: &Bytes,
    ) -> Result<(), Error> {
        // It may have been damaged, and put aside.
        let is_known = self.index.referrers(repository, subject).as_ref() == Some(index);
        if is_known && self.sizes(vec![index.digest]).await? == [Some(bytes.len() as u64)] {
            return Ok(());
        }
        let (_held, room) = self.room_for(&index.digest, bytes).await?;
        let _changes = self.changes.read().await;
        self.holds.touch([&index.digest, subject]);
        self.write_document(&index.digest, bytes, room).await?;
        let (repository, index) = (repository.clone(), index.clone());
        self.record(vec![Fact::Referrers { repository, subject: *subject, index }], Vec::new())
            .await
    }

    async fn write_document(
        &self,
        digest: &Digest,
        bytes: &Bytes,
        mut room: Promise,
    ) -> Result<(), Error> {
        let (layout, ledger) = (Arc::clone(&self.layout), Arc::clone(&self.ledger));
        let (digest, bytes) = (*digest, bytes.clone());
        let writing = spawn_blocking(move || {
            let size = bytes.len() as u64;
            layout.replace_blob(&digest, &bytes, |temporary| {
                // Until it has its name it counts as unfinished: at no time twice.
                room.written(size);
                let came = Came { size, partial: size };
                let put = quarantine::put_in_place(&layout, &ledger, temporary, &digest, came);
                put.inspect_err(|_| ledger.partial_shrank(size))
            })
        });
        let written = writing.await.map_err(Error::join)?.map_err(Error::write);
        self.noted(Write::Document, written)
    }

    fn tag_fact(&self, repository: &Repository, tag: &Tag, manifest: &Descriptor) -> Fact {
        Fact::Tag {
            repository: repository.clone(),
            tag: tag.clone(),
            manifest: manifest.clone(),
            at: self.clock.unix_seconds(),
        }
    }

    /// Something is about to refer to the manifest, and so to all that it names.
    fn touch(&self, manifest: &Descriptor, document: &Manifest) {
        let named = document.references().into_iter().map(|named| &named.digest);
        self.holds.touch(named.chain([&manifest.digest]));
    }

    /// An error if an eviction was faster. Only while nothing goes.
    async fn must_be_kept(&self, digest: &Digest) -> Result<(), Error> {
        let (layout, digest) = (Arc::clone(&self.layout), *digest);
        let looking = spawn_blocking(move || {
            let path = layout.blob(&digest);
            let found = layout.disk().len(&path)?;
            // Whoever put it there may not have synced its name yet, and the fact is durable in a moment.
            found.map(|_| layout.disk().sync_parent(&path)).transpose()
        });
        let found = looking.await.map_err(Error::join)?.map_err(Error::read)?;
        found.map(drop).ok_or(Error::Gone)
    }

    pub(super) async fn record(&self, facts: Vec<Fact>, links: Vec<Link>) -> Result<(), Error> {
        let recorded = self.send(facts, links).await;
        self.noted(Write::Facts, recorded)
    }

    /// Has the recorder take facts; returns when the tables have these and all that were sent before.
    pub(super) async fn send(&self, facts: Vec<Fact>, links: Vec<Link>) -> Result<(), Error> {
        let (done, recorded) = oneshot::channel();
        let recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let recorder = recorder.ok_or(Error::Closed)?;
        recorder.send(recorder::Entry { facts, links, done }).await.map_err(|_| Error::Closed)?;
        recorded.await.unwrap_or(Err(Error::Closed))
    }
}
