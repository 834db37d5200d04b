//! What is kept and no longer what it was: never served on, put aside, and had from the registry instead.

use std::{io, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    Inner, Limits,
    coalesce::Coalesced,
    content::{Alone, Cut},
};
use crate::{
    metrics::Metrics,
    oci::{Digest, Hasher, Repository},
    on_demand::OnDemand,
    store::{self, BlobFile, Checked, Seen, StoredBlob},
};

/// How long a client waits while what it has of a blob is read once more, when the disk fails under it. At the 20 MB a
/// second of a poor card, that is 1.2 GB.
const REREAD_DEADLINE: Duration = Duration::from_secs(60);

/// Blobs whose true length is remembered because somebody tells another.
const LENGTHS_MAX: u64 = 1024;

/// Blobs of whose length there are two opinions: that of the disk, and that of a manifest or registry.
#[derive(Debug)]
pub(super) struct Disputes {
    checks: Coalesced<Digest, ()>,
    /// Lengths of those that were hashed, and are right on the disk.
    right: OnDemand<Digest, u64>,
}

impl Disputes {
    pub(super) fn new(limits: &Limits, metrics: &Metrics) -> Self {
        Self { checks: Coalesced::new(limits, metrics), right: OnDemand::new(LENGTHS_MAX) }
    }
}

impl Inner {
    /// The kept blob, if the disk gives it and it is `size` bytes long, as far as that is known. It counts as missing
    /// otherwise, and is put aside if the disk is to blame; also where it came through a repository that is not for everybody,
    /// and the registry does not confirm that this one has it.
    pub(super) async fn kept_blob(
        self: &Arc<Self>,
        repository: &Repository,
        digest: &Digest,
        size: Option<u64>,
    ) -> Option<StoredBlob> {
        let kept = self.store.blob(digest).await.unwrap_or_else(|error| {
            self.read_failed(repository, &error);
            None
        })?;
        if self.needs_word(repository, digest) && !self.has_word(repository, digest).await {
            return None;
        }
        match size {
            Some(told) if told != kept.size() => {
                Box::pin(self.dispute(repository, digest, kept.size(), told)).await;
                None
            }
            _ => Some(kept),
        }
    }

    /// Finds out who is wrong about a blob's length. Any manifest can say what it likes of another's blob, and must not
    /// thereby take it from those who have the truth: so the bytes decide, which takes one reading of the file for all
    /// who ask meanwhile, and none for those who ask later.
    async fn dispute(
        self: &Arc<Self>,
        repository: &Repository,
        digest: &Digest,
        on_disk: u64,
        told: u64,
    ) {
        if self.disputes.right.get(digest) == Some(on_disk) {
            return;
        }
        let (pull, repository, digest) = (Arc::clone(self), repository.clone(), *digest);
        let check = async move {
            match pull.store.check(&digest, async |_| ()).await {
                Ok(Checked::Missing) => {}
                Ok(Checked::Right(size)) => {
                    tracing::warn!(%digest, %repository, size, told, "a blob is said to have another length than it has");
                    pull.disputes.right.insert(digest, size);
                }
                Ok(Checked::Wrong { size, seen, .. }) => {
                    let why = format!("it is {size} bytes long instead of {told}");
                    pull.put_aside(&repository, &digest, seen, &why).await;
                }
                Ok(Checked::Unreadable(why)) => {
                    tracing::error!(%digest, %repository, why, "the registry is asked for what cannot be read here");
                }
                Err(error) => pull.read_failed(&repository, &error),
            }
        };
        // Who waits in vain has it from the registry all the same.
        let _ = self.disputes.checks.get(digest, &self.tasks, check).await;
    }

    /// Takes a damaged blob out of the cache, if it still is the file that was `seen`: whoever asks next fetches it anew.
    pub(super) async fn put_aside(
        &self,
        repository: &Repository,
        digest: &Digest,
        seen: Option<Seen>,
        why: &str,
    ) {
        match self.store.quarantine(digest, seen, why).await {
            Ok(true) => {
                self.metrics.verify_failed("kept");
                tracing::error!(%digest, %repository, why, "a kept blob is damaged; it was put aside");
            }
            Ok(false) => {
                tracing::debug!(%digest, %repository, why, "a damaged blob has gone already");
            }
            Err(error) => {
                self.metrics.verify_failed("kept");
                tracing::error!(%digest, %repository, why, %error, "a kept blob is damaged, and could not be put aside");
            }
        }
    }

    /// Says, and counts, that the cache did not give something of `repository`: it counts as missing.
    pub(super) fn read_failed(&self, repository: &Repository, error: &store::Error) {
        if let store::Error::Damaged { digest, .. } = error {
            tracing::error!(%digest, %repository, "the registry is asked for what is damaged here");
            self.damaged(error);
        } else {
            tracing::error!(%repository, %error, "the cache could not be read; the registry is asked instead");
        }
    }

    /// Says, and counts, that the store found something damaged and put it aside.
    pub(super) fn damaged(&self, error: &store::Error) {
        self.metrics.verify_failed("kept");
        tracing::error!(%error, "something kept was put aside, and counts as missing");
    }
}

/// The disk fails a reader at the byte `at`, of a file that was to be served: the blob is put aside, and the hash of the
/// bytes before told for the reader that wants all of them, so that it can go on at the registry and still be given no
/// whole body that is wrong.
///
/// Nothing is hashed while a kept file is served: that would cost every warm pull what a disk that fails once in its life
/// costs here. What the reader was given is read once more instead, mostly from memory. If that fails, too, or takes too
/// long, the reader is cut off: it comes again, and finds the blob missing, and then fetched. A reader of a range goes on
/// without a verdict, as ranges do anyway.
///
/// # Errors
/// [`Cut`] when a whole blob cannot be gone on with.
pub(super) async fn leave_file(
    alone: &Alone,
    file: &BlobFile,
    at: u64,
    error: &io::Error,
) -> Result<Option<Hasher>, Cut> {
    let Alone { pull, repository, digest, whole, .. } = alone;
    tracing::error!(%digest, %repository, at, %error, "the disk failed a client, which goes on at the registry");
    if store::is_damage(error) {
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("it ends at {at}"),
            _ => format!("it cannot be read at {at}: {error}"),
        };
        // A download's file that has not got its blob's name yet is not found under it, and stays.
        if let Some(seen) = file.seen() {
            pull.put_aside(repository, digest, Some(seen), &why).await;
        }
    }
    if !whole {
        return Ok(None);
    }
    let again = timeout(REREAD_DEADLINE, file.hash(digest.algorithm(), at)).await;
    match again {
        Ok(Ok(hasher)) => Ok(Some(hasher)),
        Ok(Err(error)) => Err(Cut(format!("the disk failed: {error}"))),
        Err(_) => Err(Cut("the disk is too slow".to_owned())),
    }
}
