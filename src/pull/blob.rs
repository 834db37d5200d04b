//! Blobs: from the cache, from the download that runs, or from one that this request begins.

use std::{ops::Range, sync::Arc};

use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    Cut, Error, Inner, Lacking, Outcome, Pull,
    content::{Alone, Reader, STALL_DEADLINE, Source},
    freshness::Kind,
    in_flight::{Flight, Phase, Purpose},
    passing::{Because, Passed},
    whose::Whose,
};
use crate::{
    oci::{Digest, Reference, Repository, Rules},
    store::StoredBlob,
};

/// Downloads led by other repositories that may fail before this request is told to come again.
const FOREIGN_FAILURES: u32 = 3;

/// The answer to a request for a blob: its length, and whence to read it.
pub struct BlobAnswer {
    /// The blob's length in bytes; `None` while only its end will tell.
    pub size: Option<u64>,
    /// How the answer came about.
    pub outcome: Outcome,
    source: BlobSource,
}

enum BlobSource {
    Stored { blob: StoredBlob, alone: Alone },
    Flight { flight: Flight, alone: Alone, place: OwnedSemaphorePermit },
}

impl BlobAnswer {
    /// Reads the bytes in `range`; of the whole blob if `None`. The range must lie within the size.
    pub fn read(self, range: Option<Range<u64>>) -> Reader {
        let size = self.size.unwrap_or(u64::MAX);
        let range = range.unwrap_or(0..size);
        match self.source {
            BlobSource::Stored { blob, mut alone } => {
                alone.whole = range == (0..size);
                Reader::new(range, Source::File { file: blob.file().clone(), size, alone })
            }
            BlobSource::Flight { flight, mut alone, place } => {
                alone.whole = range == (0..size);
                Reader::in_place(range, Source::Flight { flight, alone }, place)
            }
        }
    }
}

impl std::fmt::Debug for BlobAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BlobAnswer")
            .field("size", &self.size)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl Pull {
    /// The blob `digest` of `repository`, as soon as its length and existence are known.
    ///
    /// # Errors
    /// When neither the cache nor the registry has it, or this repository may not show it.
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<BlobAnswer, Error> {
        let absent = |error: Error| error.naming(|| self.0.absent_blob(repository, digest));
        if self.0.is_composed(repository) {
            return Box::pin(self.composed_blob(repository, digest)).await.map_err(absent);
        }
        self.0.upstream(repository)?;
        self.blob_of(repository, digest).await.map_err(absent)
    }

    /// The blob, of a repository that its registry has, composed or not.
    pub(super) async fn blob_of(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<BlobAnswer, Error> {
        let pull = &self.0;
        let mut link = pull.store.link(repository, digest).map(|link| link.size);
        if link.is_none() && !pull.passing.is_named(repository, digest) {
            Box::pin(self.name_first(repository, digest)).await;
            link = pull.store.link(repository, digest).map(|link| link.size);
        }
        let passing = pull.passing.get(repository, digest).filter(|_| link.is_none());
        let because = passing.as_ref().map(|passing| &passing.because);
        let is_passed = matches!(because, Some(Because::Passed));
        let keep = link.is_some() || (!is_passed && pull.keeps_unlinked());
        if let Some(Because::NoRoom(manifest)) = because {
            // Clients that have the manifest do not ask for it again, and there may be room by now.
            if pull.prefetch.config.on_pull {
                pull.fetch_ahead(repository, manifest, None, Rules::default());
            }
        }
        // From here on, what may be shown: because of a manifest that is kept, or of one that is passed on.
        let link = link.or_else(|| passing.map(|passing| passing.size));
        if link.is_none() {
            if let Some(error) = pull.freshness.unknown(repository, Kind::Blob, &(*digest).into()) {
                return Err(error);
            }
        }
        let mut kept = pull.kept_blob(repository, digest, link).await;
        if kept.is_some() && link.is_none() {
            // No manifest tells its length here, but now the registry does.
            let told = Box::pin(self.confirm_blob(repository, digest)).await?;
            kept = pull.kept_blob(repository, digest, Some(told)).await;
        }
        if let Some(blob) = kept {
            pull.prefetch.used(digest);
            let alone = pull.alone(&pull.home(repository, digest), digest);
            let (size, source) = (Some(blob.size()), BlobSource::Stored { blob, alone });
            return Ok(BlobAnswer { size, outcome: Outcome::Hit, source });
        }
        if pull.is_offline() {
            return Err(Lacking::Blob.offline());
        }
        Box::pin(self.downloaded(repository, digest, link, keep)).await
    }

    /// The blob, from the download that runs, or from one that is begun. `size` is what a manifest of this repository says of
    /// its length, which is also its leave to show it.
    async fn downloaded(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: Option<u64>,
        keep: bool,
    ) -> Result<BlobAnswer, Error> {
        let pull = &self.0;
        for _ in 0..FOREIGN_FAILURES {
            let place = pull.downloads.reader()?;
            let purpose = Purpose { wanted: true, keep, named: size.is_some() };
            let (flight, lead) = pull.downloads.join(digest, repository, purpose)?;
            let led = lead.is_some();
            if let Some(lead) = lead {
                let download = Arc::clone(pull).download(lead, repository.clone(), size, None);
                pull.tasks.spawn(download);
            }
            let foreign = flight.origin != *repository;
            if foreign
                && (size.is_none() || self.0.must_confirm(repository, digest, &flight.origin))
            {
                self.confirm_blob(repository, digest).await?;
            }
            match self.joined(repository, digest, flight, led, place).await {
                // Another repository's download may fail for its own reasons; ours is then begun.
                Err(_) if foreign => {}
                Err(error) => {
                    if !error.is_outage() {
                        let name = (*digest).into();
                        pull.remember_unknown(repository, Kind::Blob, &name, &error);
                    }
                    return Err(error);
                }
                Ok(answer) => return Ok(answer),
            }
        }
        Err(Error::Busy)
    }

    /// The length of the blob `digest` of `repository`; downloads nothing.
    ///
    /// # Errors
    /// When neither the cache nor the registry has it, or this repository may not show it.
    pub async fn blob_head(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(u64, Outcome), Error> {
        let absent = |error: Error| error.naming(|| self.0.absent_blob(repository, digest));
        if self.0.is_composed(repository) {
            return Box::pin(self.composed_blob_head(repository, digest)).await.map_err(absent);
        }
        self.0.upstream(repository)?;
        self.blob_head_of(repository, digest).await.map_err(absent)
    }

    /// The length of the blob, of a repository that its registry has, composed or not.
    pub(super) async fn blob_head_of(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(u64, Outcome), Error> {
        let pull = &self.0;
        if let Some(link) = pull.store.link(repository, digest) {
            if pull.is_offline()
                && pull.kept_blob(repository, digest, Some(link.size)).await.is_none()
            {
                return Err(Lacking::Blob.offline());
            }
            return Ok((link.size, Outcome::Hit));
        }
        if let Some(Passed { size, because }) = pull.passing.get(repository, digest) {
            let is_told = matches!(because, Because::Confirmed);
            return Ok((size, if is_told { Outcome::Hit } else { Outcome::Relay }));
        }
        if let Some(error) = pull.freshness.unknown(repository, Kind::Blob, &(*digest).into()) {
            return Err(error);
        }
        Ok((Box::pin(self.confirm_blob(repository, digest)).await?, Outcome::Miss))
    }

    /// Waits until a download can say how long the blob is, or that there is none.
    async fn joined(
        &self,
        repository: &Repository,
        digest: &Digest,
        mut flight: Flight,
        led: bool,
        place: OwnedSemaphorePermit,
    ) -> Result<BlobAnswer, Error> {
        let kept = match (led, flight.interest.keeps()) {
            (false, _) => Outcome::Coalesced,
            (true, true) => Outcome::Miss,
            (true, false) => Outcome::Relay,
        };
        // An empty blob has no last byte to hold back: its head waits until it is verified.
        let ready = |phase: &Phase| match phase {
            Phase::Asking | Phase::Streaming { total: Some(0), .. } => false,
            Phase::Streaming { .. } | Phase::Done { .. } => true,
            Phase::Detached { .. } | Phase::Failed(_) => true,
        };
        let (size, outcome) = {
            let progress = flight.progress.wait_for(|progress| ready(&progress.phase));
            let progress = timeout(STALL_DEADLINE, progress).await.map_err(|_| Error::Busy)?;
            let progress = progress.map_err(|_| Error::Busy)?;
            match &progress.phase {
                Phase::Failed(error) => return Err(error.clone()),
                Phase::Asking => return Err(Error::Busy),
                Phase::Streaming { total, .. } => (*total, kept),
                Phase::Done { .. } => (Some(progress.published), kept),
                Phase::Detached { total, .. } => {
                    (total.filter(|_| progress.published > 0), Outcome::Relay)
                }
            }
        };
        let size = match (size, outcome) {
            // The registry may not have been asked yet: it must know the blob before a client is told so.
            (None, Outcome::Relay) => Some(self.confirm_blob(repository, digest).await?),
            (size, _) => size,
        };
        let alone = self.0.alone(repository, digest);
        Ok(BlobAnswer { size, outcome, source: BlobSource::Flight { flight, alone, place } })
    }

    /// Has the registry confirm that `repository` holds `digest`: bytes are shared, permission is not.
    pub(super) async fn confirm_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<u64, Error> {
        let pull = &self.0;
        let confirm = Arc::clone(pull).confirm_blob(repository.clone(), *digest);
        let key = (repository.clone(), *digest);
        pull.blob_heads.get(key, &pull.tasks, confirm).await?.0
    }
}

impl Inner {
    fn alone(self: &Arc<Self>, repository: &Repository, digest: &Digest) -> Alone {
        Alone {
            pull: Arc::clone(self),
            repository: repository.clone(),
            digest: *digest,
            whole: false,
            whose: Whose::now(),
        }
    }

    pub(super) async fn confirm_blob(
        self: Arc<Self>,
        repository: Repository,
        digest: Digest,
    ) -> Result<u64, Error> {
        let upstream = self.upstream(&repository)?;
        let size = upstream.blob_head(&repository.name, &digest).await.map_err(|error| {
            let error = Error::of_blob(error);
            if !error.is_outage() {
                let name = Reference::Digest(digest);
                self.remember_unknown(&repository, Kind::Blob, &name, &error);
            }
            error
        })?;
        if self.has_closed && self.store.link(&repository, &digest).is_some() {
            self.keep_link(&repository, &digest, size).await;
        } else if self.keeps_unlinked() {
            self.passing.confirmed(&repository, &digest, size);
            self.keep_link(&repository, &digest, size).await;
        }
        Ok(size)
    }
}

/// A body that is cut is an error for whoever sends it on.
impl From<Cut> for std::io::Error {
    fn from(cut: Cut) -> Self {
        Self::other(cut)
    }
}
