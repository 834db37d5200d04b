//! Writing: a blob on its way in. Incomplete and complete are different types, and a rename lies between them.

use std::{io, sync::Arc};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{
    Error,
    blobs::{BlobFile, StoredBlob},
    disk::DiskFile,
    layout::Layout,
    origin::{CHECKPOINT_BYTES, Origin, Said, Sidecar},
};
use crate::oci::{Digest, Hasher, Repository};

/// A blob of which some first bytes are on disk.
///
/// Dropping it keeps those bytes for a later download, with one small write; [`PartialBlob::set_aside`] does that where
/// nobody is held up, and [`PartialBlob::discard`] keeps nothing. There is at most one for a digest at a time, which is
/// for the caller to see to (`pull::in_flight`).
#[derive(Debug)]
pub struct PartialBlob {
    digest: Digest,
    layout: Arc<Layout>,
    file: Arc<DiskFile>,
    /// Where it is written down up to where the bytes are vouched for; `None` once nobody is to find them again.
    sidecar: Option<Sidecar>,
    hasher: Hasher,
    written: u64,
    /// The last checkpoint; at most `CHECKPOINT_BYTES` below `written`, but where one could not be written.
    vouched: u64,
}

/// A blob whose bytes on disk are all there and match its digest, not yet renamed.
#[derive(Debug)]
pub struct VerifiedBlob(PartialBlob);

impl PartialBlob {
    /// Takes up the partial file of `digest` where it is last vouched for, or begins one. Blocks: what is there is
    /// hashed again.
    pub(super) fn begin(
        layout: Arc<Layout>,
        digest: Digest,
        repository: &Repository,
        size: Option<u64>,
        keep: bool,
        now: u64,
    ) -> io::Result<Self> {
        let (path, beside) = (layout.partial(&digest), layout.partial_origin(&digest));
        let origin = Origin { repository: repository.clone(), size, begun: now, passing: !keep };
        let begun = take_up(&layout, &digest, &origin);
        if begun.is_err() && matches!(layout.disk().len(&path), Ok(Some(0))) {
            // Nobody would come back for a file without a byte.
            let _ = layout.disk().remove(&beside);
            let _ = layout.disk().remove(&path);
        }
        let (file, sidecar, hasher, written) = begun?;
        let (file, sidecar) = (Arc::new(file), Some(sidecar));
        Ok(Self { digest, layout, file, sidecar, hasher, written, vouched: written })
    }

    /// How many bytes are on disk.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// The file, for those who read what was written so far.
    pub fn file(&self) -> BlobFile {
        BlobFile::new(Arc::clone(&self.file))
    }

    /// The hash of all bytes that are on disk, for whoever goes on without the disk.
    pub fn hasher(&self) -> Hasher {
        self.hasher.clone()
    }

    /// Writes `chunks` behind what is there.
    ///
    /// # Errors
    /// When the disk does not take them: the value still counts, and hashed, exactly the bytes that it took.
    pub async fn append(mut self, chunks: Vec<Bytes>) -> (Self, Result<(), Error>) {
        let appending = spawn_blocking(move || {
            let appended = chunks.iter().try_for_each(|chunk| self.append_chunk(chunk));
            (self, appended.map_err(Error::write))
        });
        appending.await.expect("appending does not panic, and the runtime outlives its downloads")
    }

    fn append_chunk(&mut self, chunk: &[u8]) -> io::Result<()> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let taken = match self.file.write_at(rest, self.written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.count(&rest[..taken]);
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// Hashes bytes that are on disk, and writes a checkpoint at each multiple of its distance.
    fn count(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = CHECKPOINT_BYTES - self.written % CHECKPOINT_BYTES;
            let (now, later) =
                rest.split_at(rest.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            self.hasher.update(now);
            self.written += now.len() as u64;
            if now.len() as u64 == room {
                self.checkpoint();
            }
            rest = later;
        }
    }

    /// Vouches for all that is on disk. Where that cannot be written down, some more is fetched twice after a kill.
    fn checkpoint(&mut self) {
        let Some(sidecar) = &mut self.sidecar else { return };
        match sidecar.vouch(self.written, self.hasher.clone().finish()) {
            Ok(()) => self.vouched = self.written,
            Err(error) => {
                tracing::debug!(digest = %self.digest, %error, "no checkpoint was written")
            }
        }
    }

    /// Forgets the bytes on disk: the next ones are the blob's first.
    ///
    /// # Errors
    /// When the disk does not do it; the value is as before.
    pub async fn restart(mut self) -> (Self, Result<(), Error>) {
        let restarting = spawn_blocking(move || {
            let emptied = self.file.set_len(0);
            if emptied.is_ok() {
                self.hasher = Hasher::new(self.digest.algorithm());
                (self.written, self.vouched) = (0, 0);
            }
            (self, emptied.map_err(Error::write))
        });
        restarting.await.expect("emptying does not panic, and the runtime outlives its downloads")
    }

    /// Takes the bytes for the whole blob: gives it back verified if they match the digest, else `None`, with
    /// the file deleted.
    pub async fn verify(self) -> Option<VerifiedBlob> {
        if self.hasher.clone().finish() == self.digest {
            return Some(VerifiedBlob(self));
        }
        self.discard().await;
        None
    }

    /// Keeps the bytes for a later download.
    pub async fn set_aside(self) {
        let _ = spawn_blocking(move || drop(self)).await;
    }

    /// Deletes the file; whoever has it open can still read it.
    pub async fn discard(mut self) {
        self.sidecar = None;
        let (layout, digest) = (Arc::clone(&self.layout), self.digest);
        drop(self);
        let discarding = spawn_blocking(move || {
            for path in [layout.partial(&digest), layout.partial_origin(&digest)] {
                if let Err(error) = layout.disk().remove(&path) {
                    tracing::warn!(%digest, %error, "a partial download could not be deleted");
                }
            }
        });
        let _ = discarding.await;
    }
}

impl Drop for PartialBlob {
    /// What was fetched so far is not fetched twice, unless the process is killed or the power goes.
    fn drop(&mut self) {
        if self.written > self.vouched {
            self.checkpoint();
        }
    }
}

impl VerifiedBlob {
    /// Deletes the file, which is then only passed on; whoever has it open can still read it.
    pub async fn discard(self) {
        self.0.discard().await;
    }

    /// Makes the blob durable and puts it under its digest.
    ///
    /// # Errors
    /// When the disk does not take it; the partial file is deleted.
    pub async fn commit(self) -> Result<StoredBlob, Error> {
        let Self(mut partial) = self;
        let committing = spawn_blocking(move || {
            let committed = commit(&partial);
            partial.sidecar = None;
            (partial, committed)
        });
        let (partial, committed) = committing.await.map_err(Error::join)?;
        if let Err(error) = committed {
            partial.discard().await;
            return Err(Error::write(error));
        }
        Ok(StoredBlob::committed(partial.file(), partial.written))
    }
}

fn commit(partial: &PartialBlob) -> io::Result<()> {
    let (layout, digest) = (&partial.layout, &partial.digest);
    let disk = layout.disk();
    partial.file.sync()?;
    disk.rename(&layout.partial(digest), &layout.blob(digest))?;
    disk.sync_parent(&layout.blob(digest))?;
    if let Err(error) = disk.remove(&layout.partial_origin(digest)) {
        tracing::warn!(%digest, %error, "the origin of a finished download could not be deleted");
    }
    Ok(())
}

/// Opens what is there of a blob, and forgets what nothing vouches for: the file, what stands beside it, and the hash and
/// number of its bytes.
fn take_up(
    layout: &Layout,
    digest: &Digest,
    origin: &Origin,
) -> io::Result<(DiskFile, Sidecar, Hasher, u64)> {
    let (disk, beside) = (layout.disk(), layout.partial_origin(digest));
    let file = disk.open(&layout.partial(digest))?;
    let said = Said::read(disk, &beside)?;
    let (hasher, written) = vouched(&file, digest, &said, origin.size)?;
    if file.len()? > written {
        file.set_len(written)?;
    }
    // Not synced: the request to the registry waits for this, and after a power cut it is needed no more than the bytes
    // beside it, which are not synced either.
    let mut sidecar = Sidecar::open(disk, &beside, &said)?;
    let known = said.origin.is_some_and(|said| Origin { begun: origin.begun, ..said } == *origin);
    if written == 0 {
        sidecar.begin(origin)?;
    } else if !origin.passing && !known {
        sidecar.now_from(origin)?;
    }
    Ok((file, sidecar, hasher, written))
}

/// The hash and number of the first bytes, up to `size`, that something vouches for: the greatest checkpoint that matches
/// them, or an origin of the first form.
fn vouched(
    file: &DiskFile,
    digest: &Digest,
    said: &Said,
    size: Option<u64>,
) -> io::Result<(Hasher, u64)> {
    let nothing = || (Hasher::new(digest.algorithm()), 0);
    let len = file.len()?;
    let most = size.unwrap_or(u64::MAX);
    if said.is_old {
        let (mut hasher, none) = nothing();
        let written = if len <= most { hash(file, &mut hasher, len)? } else { none };
        return Ok((hasher, written));
    }
    let (mut found, (mut hasher, mut hashed)) = (nothing(), nothing());
    for checkpoint in said.checkpoints.iter().filter(|point| point.bytes <= len.min(most)) {
        hashed += hash(file, &mut hasher, checkpoint.bytes - hashed)?;
        if hashed == checkpoint.bytes && hasher.clone().finish() == checkpoint.digest {
            found = (hasher.clone(), hashed);
        }
    }
    Ok(found)
}

/// Hashes the next `count` bytes, or as many as there are: how many.
fn hash(file: &DiskFile, hasher: &mut Hasher, count: u64) -> io::Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut left = count;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match file.read(&mut buffer[..most])? {
            0 => break,
            read => {
                hasher.update(&buffer[..read]);
                left -= read as u64;
            }
        }
    }
    Ok(count - left)
}
