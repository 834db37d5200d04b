//! Writing: a blob on its way in. Incomplete and complete are different types, and a rename lies between them.

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::{
    Error,
    blobs::{BlobFile, StoredBlob},
    disk::{Disk, DiskFile},
    layout::Layout,
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
}

/// A blob whose bytes on disk are all there and match its digest, not yet renamed.
#[derive(Debug)]
pub struct VerifiedBlob(PartialBlob);

/// Where a partial blob comes from, written beside it when it is begun.
#[derive(Debug, Serialize, Deserialize)]
struct Origin {
    repository: Repository,
    /// Length of the whole blob in bytes, as the manifest says; absent when no manifest did.
    size: Option<u64>,
    /// Seconds since 1970.
    begun: u64,
    /// It is only passed on: nobody is to find these bytes again.
    #[serde(default)]
    passing: bool,
}

/// Whether what the partial file with this origin holds was only to be passed on.
pub(super) fn is_passing(disk: &Disk, origin: &Path) -> bool {
    let origin = disk.read(origin).ok();
    origin
        .and_then(|json| serde_json::from_slice(&json).ok())
        .is_some_and(|Origin { passing, .. }| passing)
}

impl PartialBlob {
    /// Takes up the partial file of `digest` where it ends, or begins one. Blocks: what is there is hashed again.
    pub(super) fn begin(
        layout: Arc<Layout>,
        digest: Digest,
        repository: &Repository,
        size: Option<u64>,
        keep: bool,
        now: u64,
    ) -> io::Result<Self> {
        let path = layout.partial(&digest);
        let file = layout.disk().open(&path)?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut written = hash(&file, &mut hasher)?;
        if size.is_some_and(|size| written > size) {
            file.set_len(0)?;
            (hasher, written) = (Hasher::new(digest.algorithm()), 0);
        }
        if written == 0 || keep {
            let origin =
                Origin { repository: repository.clone(), size, begun: now, passing: !keep };
            let json = serde_json::to_vec(&origin).expect("strings and numbers serialise");
            // Not synced: the request to the registry waits for this, and after a power cut it is needed no more than
            // the bytes beside it, which are not synced either.
            let written_down = layout
                .disk()
                .create(&layout.partial_origin(&digest))
                .and_then(|origin| origin.write_all_at(&json, 0));
            if let Err(error) = written_down {
                if written == 0 {
                    // Nobody would come back for a file without a byte.
                    let _ = layout.disk().remove(&layout.partial_origin(&digest));
                    let _ = layout.disk().remove(&path);
                }
                return Err(error);
            }
        }
        Ok(Self { digest, layout, file: Arc::new(file), hasher, written })
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
            self.hasher.update(&rest[..taken]);
            self.written += taken as u64;
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// Forgets the bytes on disk: the next ones are the blob's first.
    ///
    /// # Errors
    /// When the disk does not do it; the value is as before.
    pub async fn restart(mut self) -> (Self, Result<(), Error>) {
        let restarting = spawn_blocking(move || {
            let emptied = self.file.set_len(0);
            if emptied.is_ok() {
                (self.hasher, self.written) = (Hasher::new(self.digest.algorithm()), 0);
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

    /// Deletes the file; whoever has it open can still read it.
    pub async fn discard(self) {
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
        let Self(partial) = self;
        let committing = spawn_blocking(move || {
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
    quarantine::put_in_place(layout, &layout.partial(digest), digest)?;
    disk.sync_parent(&layout.blob(digest))?;
    if let Err(error) = disk.remove(&layout.partial_origin(digest)) {
        tracing::warn!(%digest, %error, "the origin of a finished download could not be deleted");
    }
    Ok(())
}

fn hash(file: &DiskFile, hasher: &mut Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(total),
            read => {
                hasher.update(&buffer[..read]);
                total += read as u64;
            }
        }
    }
}
