//! Writing: a blob on its way in. Incomplete and complete are different types, and a rename lies between them.

use std::{io, sync::Arc};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{
    Error,
    blobs::{BlobFile, StoredBlob},
    checkpoints::{Checkpoints, Origin},
    disk::DiskFile,
    holds::Held,
    layout::Layout,
    ledger::{Came, Promise},
    quarantine,
};
use crate::oci::{Digest, Hasher, Repository};

/// A blob of which some first bytes are on disk.
///
/// Dropping it keeps those bytes for a later download; [`PartialBlob::discard`] does not. There is at most one
/// for a digest at a time, which is for the caller to see to (`pull::in_flight`).
#[derive(Debug)]
pub struct PartialBlob {
    digest: Digest,
    layout: Arc<Layout>,
    file: Arc<DiskFile>,
    hasher: Hasher,
    written: u64,
    checkpoints: Checkpoints,
    room: Room,
}

/// What a download may write, and that it is not swept away under its hands.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) promise: Promise,
    pub(super) _held: Held,
    /// Whether images may be evicted for it.
    pub(super) keep: bool,
}

/// A blob whose bytes on disk are all there and match its digest, not yet renamed.
#[derive(Debug)]
pub struct VerifiedBlob(PartialBlob);

impl PartialBlob {
    /// Takes up the partial file of `digest` where a checkpoint vouches for it, or begins one. Blocks: what is there is
    /// hashed again.
    pub(super) fn begin(
        layout: Arc<Layout>,
        digest: Digest,
        repository: &Repository,
        size: Option<u64>,
        room: Room,
        now: u64,
    ) -> io::Result<Self> {
        let keep = room.keep;
        let path = layout.partial(&digest);
        let file = layout.disk().open(&path)?;
        let before = file.len()?;
        let origin = Origin { repository: repository.clone(), size, begun: now, passing: !keep };
        let opened = Checkpoints::open(&layout, &digest, &file, &origin);
        let opened = opened.and_then(|(checkpoints, hasher, written)| {
            if before > written {
                file.set_len(written)?;
                room.promise.ledger().partial_shrank(before - written);
            }
            Ok((checkpoints, hasher, written))
        });
        match opened {
            Ok((checkpoints, hasher, written)) => {
                let file = Arc::new(file);
                Ok(Self { digest, layout, file, hasher, written, checkpoints, room })
            }
            Err(error) => {
                if file.len().is_ok_and(|len| len == 0) {
                    // Nobody would come back for a file without a byte.
                    let _ = layout.disk().remove(&layout.partial_origin(&digest));
                    let _ = layout.disk().remove(&path);
                }
                Err(error)
            }
        }
    }

    /// How many bytes are on disk.
    pub const fn written(&self) -> u64 {
        self.written
    }

    pub(super) const fn room(&mut self) -> &mut Room {
        &mut self.room
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
            self.hasher.update(&rest[..taken]);
            self.written += taken as u64;
            self.room.promise.written(taken as u64);
            rest = &rest[taken..];
            if self.checkpoints.are_due(self.written) {
                self.vouch();
            }
        }
        Ok(())
    }

    /// A disk that does not take a checkpoint has its say when it is given the next bytes.
    fn vouch(&mut self) {
        if let Err(error) = self.checkpoints.vouch(self.written, &self.hasher) {
            tracing::debug!(digest = %self.digest, %error, "a checkpoint was not written");
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
                self.room.promise.ledger().partial_shrank(self.written);
                (self.hasher, self.written) = (Hasher::new(self.digest.algorithm()), 0);
                self.checkpoints.clear();
            }
            (self, emptied.map_err(Error::write))
        });
        restarting.await.expect("emptying does not panic, and the runtime outlives its downloads")
    }

    /// Takes the bytes for the whole blob: gives it back verified if they match the digest, else `None`, with
    /// the file deleted.
    ///
    /// From here on its last byte may be given away: whoever is killed before the rename has the whole of it, without the
    /// registry, when it is asked for again.
    pub async fn verify(mut self) -> Option<VerifiedBlob> {
        if self.hasher.clone().finish() != self.digest {
            self.discard().await;
            return None;
        }
        let vouching = spawn_blocking(move || {
            self.vouch();
            self
        });
        let vouched = vouching.await;
        Some(VerifiedBlob(
            vouched.expect("it does not panic, and the runtime outlives its downloads"),
        ))
    }

    /// Leaves the bytes on disk for a later download, which goes on behind the last of them.
    pub async fn leave(self) {
        let _ = spawn_blocking(move || drop(self)).await;
    }

    /// Ends as when the process is killed: with what was written, and no more.
    #[cfg(test)]
    pub(super) fn kill(mut self) {
        self.checkpoints.close();
    }

    /// Deletes the file; whoever has it open can still read it.
    pub async fn discard(mut self) {
        self.checkpoints.close();
        let discarding = spawn_blocking(move || {
            let Self { digest, layout, room, .. } = &self;
            let paths =
                [(layout.partial(digest), self.written), (layout.partial_origin(digest), 0)];
            for (path, bytes) in paths {
                match layout.disk().remove(&path) {
                    Ok(()) => room.promise.ledger().partial_shrank(bytes),
                    Err(error) => {
                        tracing::warn!(%digest, %error, "a partial download could not be deleted");
                    }
                }
            }
        });
        let _ = discarding.await;
    }
}

impl Drop for PartialBlob {
    /// A download that is left, or cut off by a stop, loses nothing. Does one small write into memory, if
    /// [`PartialBlob::leave`] did not.
    fn drop(&mut self) {
        self.vouch();
    }
}

impl VerifiedBlob {
    /// As [`PartialBlob::kill`].
    #[cfg(test)]
    pub(super) fn kill(self) {
        self.0.kill();
    }

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
            partial.checkpoints.close();
            let committed = commit(&partial);
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
    let ledger = partial.room.promise.ledger();
    let from = layout.partial(digest);
    let size = partial.written;
    quarantine::put_in_place(layout, ledger, &from, digest, Came { size, partial: size })?;
    disk.sync_parent(&layout.blob(digest))?;
    if let Err(error) = disk.remove(&layout.partial_origin(digest)) {
        tracing::warn!(%digest, %error, "the origin of a finished download could not be deleted");
    }
    Ok(())
}
