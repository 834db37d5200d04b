//! Which child of an index is meant for whom, and what happens to those that the site does not run.

use std::{borrow::Cow, sync::Arc};

use super::{
    Asker, Error, Inner, ManifestAnswer, Others, Outcome, Pull, Resolution, Want,
    config::AnswerWith,
};
use crate::{
    oci::{Descriptor, Digest, ImageIndex, IndexEntry, Manifest, Platform, Repository, Rules},
    on_demand::OnDemand,
};

/// Indexes looked into for one answer, the first included: nesting has no bound in the specification.
const INDEXES_MAX: usize = 8;

/// Platforms named in an error.
const NAMED_MAX: usize = 20;

/// Entries of the indexes that are kept in memory as they were read, each of some 400 bytes. A longer index is read each
/// time it is needed.
const ENTRIES_MAX: u64 = 16_384;

/// Indexes as they were read lately: an index of 4 MiB is not to be read for every request.
#[derive(Debug)]
pub(super) struct Indexes(OnDemand<Digest, Arc<ImageIndex>>);

/// What happens to a manifest under `[platforms] keep` and `others`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Keep,
    Relay(Platform),
    Refuse(Platform),
}

impl Policy {
    /// The word for the API.
    pub(super) const fn as_str(&self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Relay(_) => "relay",
            Self::Refuse(_) => "refuse",
        }
    }
}

impl Pull {
    /// The answer to a request for a tag: the index as it is, or in its stead the manifest for this client's platform,
    /// if the client can read no index or the operator wants it so.
    pub(super) async fn for_client(
        &self,
        repository: &Repository,
        answer: ManifestAnswer,
        want: Want,
        asker: &Asker,
        who: &Resolution,
    ) -> Result<ManifestAnswer, Error> {
        let pull = &self.0;
        let by_child = !asker.reads_index || pull.config.platforms.answer == AnswerWith::Manifest;
        if !by_child || !answer.descriptor.media_type.is_index() {
            return Ok(answer);
        }
        Box::pin(self.child_for_client(repository, answer, want, who)).await
    }

    async fn child_for_client(
        &self,
        repository: &Repository,
        mut answer: ManifestAnswer,
        want: Want,
        who: &Resolution,
    ) -> Result<ManifestAnswer, Error> {
        let pull = &self.0;
        // Their room is given back before there may be a wait for the child's.
        let index = {
            let index = match answer.bytes.take() {
                Some(bytes) => bytes,
                None => self.document(repository, &answer.descriptor.digest).await?,
            };
            pull.indexes.read(&answer.descriptor, &index)?
        };
        let child = pull.child(repository, &index, &who.platforms, who.rules).await?;
        let Some(child) = child else {
            let mut offered = index.platforms();
            offered.truncate(NAMED_MAX);
            return Err(Error::NoPlatform { wanted: who.platforms.clone(), offered });
        };
        // Its type and length are what its registry says, not what the index does: the same for `HEAD` and `GET`.
        let answered = self.with_digest(repository, &child.descriptor.digest, want).await?;
        let outcome = match (answer.outcome, answered.outcome) {
            (Outcome::Stale, Outcome::Hit) => Outcome::Stale,
            (_, outcome) => outcome,
        };
        Ok(ManifestAnswer { outcome, stale_for: answer.stale_for, ..answered })
    }

    /// The document of a manifest that is kept or can be had.
    pub(super) async fn document(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<bytes::Bytes, Error> {
        let answer = self.by_digest(repository, digest, Want::Content).await?;
        answer.bytes.ok_or(Error::Busy)
    }
}

impl Inner {
    /// The entry that a client of `platforms` takes from `index`, the first of them that is there; into nested indexes,
    /// too, if need be.
    ///
    /// # Errors
    /// When a nested index cannot be had.
    pub(super) async fn child(
        self: &Arc<Self>,
        repository: &Repository,
        index: &ImageIndex,
        platforms: &[Platform],
        rules: Rules,
    ) -> Result<Option<IndexEntry>, Error> {
        let mut queue = vec![Cow::Borrowed(index)];
        let mut nameless = None;
        for _ in 0..INDEXES_MAX {
            let Some(index) = queue.pop() else { break };
            let named = platforms.iter().find_map(|platform| {
                index.select(platform, rules).filter(|entry| entry.platform.is_some())
            });
            let nested: Vec<&IndexEntry> = match named {
                Some(entry) if !entry.descriptor.media_type.is_index() => {
                    return Ok(Some(entry.clone()));
                }
                Some(entry) => vec![entry],
                None => {
                    let unnamed = || index.images().filter(|entry| entry.platform.is_none());
                    let plain = unnamed().find(|entry| !entry.descriptor.media_type.is_index());
                    nameless = nameless.or_else(|| plain.cloned());
                    unnamed().filter(|entry| entry.descriptor.media_type.is_index()).collect()
                }
            };
            // The last to be put there is the first to be looked into.
            for entry in nested.into_iter().take(INDEXES_MAX).rev() {
                let pull = Pull(Arc::clone(self));
                let document = pull.document(repository, &entry.descriptor.digest).await?;
                queue.push(Cow::Owned(read_index(&entry.descriptor, &document)?));
            }
        }
        Ok(nameless)
    }

    /// What happens to the manifest `digest` of `repository`: all is kept but the entries of an index that no platform
    /// in `keep` takes.
    pub(super) async fn policy(&self, repository: &Repository, digest: &Digest) -> Policy {
        let config = &self.config.platforms;
        if config.keep.is_empty() || config.others == Others::Keep {
            return Policy::Keep;
        }
        let Some((repository, listed)) = self.listing(repository, digest) else {
            return Policy::Keep;
        };
        // An attestation goes where the manifest goes that it speaks of.
        let about = match listed.attests {
            Some(about) => self.store.listed(repository, &about).map(|listed| (about, listed)),
            None => Some((*digest, listed)),
        };
        let Some((digest, listed)) = about else { return Policy::Keep };
        let Some(platform) = listed.platform else { return Policy::Keep };
        let index = Box::pin(self.kept_index(repository, &listed.index)).await;
        let taken = |keep: &Platform, rules| match &index {
            Some(index) => {
                index.select(keep, rules).is_some_and(|entry| entry.descriptor.digest == digest)
            }
            None => keep.runs(&platform, rules),
        };
        let kept = config.keep.iter().any(|keep| {
            *keep == platform
                || taken(keep, Rules::Containerd)
                || taken(keep, Rules::ContainersImage)
        });
        match config.others {
            _ if kept => Policy::Keep,
            Others::Refuse => Policy::Refuse(platform),
            _ => Policy::Relay(platform),
        }
    }

    /// Whether a blob of which no kept manifest knows is kept: where only some platforms are, it may be another's.
    pub(super) fn keeps_unlinked(&self) -> bool {
        let config = &self.config.platforms;
        config.keep.is_empty() || config.others == Others::Keep
    }

    /// An index that is kept, read.
    pub(super) async fn kept_index(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Option<Arc<ImageIndex>> {
        let link = self.store.link(repository, digest)?;
        let bytes = self.store.manifest(digest).await.unwrap_or_else(|error| {
            self.read_failed(repository, &error);
            None
        })?;
        self.indexes.read(&link, &bytes).ok()
    }
}

impl Indexes {
    /// The index that `bytes` are, which match the digest of `descriptor`.
    ///
    /// # Errors
    /// When they are none.
    pub(super) fn read(
        &self,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> Result<Arc<ImageIndex>, Error> {
        // Of what type a document is depends on who names it.
        if !descriptor.media_type.is_index() {
            return read_index(descriptor, bytes).map(Arc::new);
        }
        if let Some(read) = self.0.get(&descriptor.digest) {
            return Ok(read);
        }
        let read = Arc::new(read_index(descriptor, bytes)?);
        self.0.insert(descriptor.digest, Arc::clone(&read));
        Ok(read)
    }
}

impl Default for Indexes {
    fn default() -> Self {
        let weigh = |_: &Digest, index: &Arc<ImageIndex>| {
            u32::try_from(index.entries.len()).unwrap_or(u32::MAX).saturating_add(1)
        };
        Self(OnDemand::weighing(ENTRIES_MAX, weigh))
    }
}

/// The index that `bytes` are, which were served as `descriptor` says.
pub(super) fn read_index(descriptor: &Descriptor, bytes: &[u8]) -> Result<ImageIndex, Error> {
    match Manifest::parse(&descriptor.media_type, bytes) {
        Ok(Manifest::Index(index)) => Ok(index),
        Ok(_) => Err(Error::ManifestInvalid("it is not an index".to_owned())),
        Err(error) => Err(Error::ManifestInvalid(error.to_string())),
    }
}
