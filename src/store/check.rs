//! Blobs that are looked at again: which there are, and whether they are still what their names say.

use std::{collections::BinaryHeap, io, sync::Arc};

use rustix::io::Errno;
use tokio::task::spawn_blocking;

use super::{
    Error, Store,
    blobs::{BlobFile, StoredBlob},
    disk::is_damage,
    layout::Layout,
    quarantine::Seen,
};
use crate::oci::{Algorithm, Digest, Hasher};

/// Bytes that are read and hashed at once, on a thread that may block: between two pieces, others have the disk.
const PIECE_BYTES: u64 = 1024 * 1024;

/// What became of a kept blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It is not kept.
    Missing,
    /// It is what its name says, and so many bytes long.
    Right(u64),
    /// It is not; it is so many bytes long.
    Wrong {
        /// Its length on disk in bytes; 0 when not even that can be read.
        size: u64,
        /// What is wrong with it, in a few words.
        why: String,
        /// The file that was read, for [`Store::quarantine`]; `None` when it could not be opened.
        seen: Option<Seen>,
    },
    /// The system does not let it be read, in a few words why: that may be no fault of the disk, and it stays where it is.
    Unreadable(String),
}

impl Store {
    /// Up to `n` kept blobs that come after `last` in the order of their digests, and how long they are on disk in bytes:
    /// 0 of one that is removed meanwhile, or cannot be looked at. None are left when these are none.
    ///
    /// Reads the names of all blobs, and has no more than `n` of them in memory.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn blobs_after(
        &self,
        last: Option<&Digest>,
        n: usize,
    ) -> Result<Vec<(Digest, u64)>, Error> {
        let (layout, last) = (Arc::clone(&self.layout), last.copied());
        let listing = spawn_blocking(move || blobs_after(&layout, last, n));
        listing.await.map_err(Error::join)?.map_err(Error::read)
    }

    /// Reads a kept blob and compares it with its name. `pace` is told after each piece how many bytes were read, and
    /// waited for.
    ///
    /// # Errors
    /// When the daemon is ending, or has no file handle left. A blob that the disk does not give is a wrong one.
    pub async fn check(
        &self,
        digest: &Digest,
        mut pace: impl AsyncFnMut(u64),
    ) -> Result<Checked, Error> {
        let (layout, path) = (Arc::clone(&self.layout), self.layout.blob(digest));
        let opening = spawn_blocking(move || StoredBlob::open(layout.disk(), &path));
        let blob = match opening.await.map_err(Error::join)? {
            Ok(Some(blob)) => blob,
            Ok(None) => return Ok(Checked::Missing),
            Err(error) if is_damage(&error) => {
                let size = self.sizes(vec![*digest]).await.ok();
                let size = size.and_then(|sizes| sizes.first().copied().flatten()).unwrap_or(0);
                return Ok(Checked::Wrong { size, why: unreadable(&error), seen: None });
            }
            Err(error) if is_want_of_handles(&error) => return Err(Error::read(error)),
            Err(error) => return Ok(Checked::Unreadable(unreadable(&error))),
        };
        let wrong = |why| {
            let seen = blob.file().seen();
            Ok(Checked::Wrong { size: blob.size(), why, seen })
        };
        let mut hashing = Hashing::of(blob.file(), digest.algorithm());
        while hashing.at < blob.size() {
            let before = hashing.at;
            hashing = match hashing.to(before + PIECE_BYTES).await {
                Ok(further) => further,
                Err(error) if is_damage(&error) => return wrong(unreadable(&error)),
                // The thread's own end is no word of the system's.
                Err(error) if error.raw_os_error().is_none() => return Err(Error::read(error)),
                Err(error) => return Ok(Checked::Unreadable(unreadable(&error))),
            };
            if hashing.at == before {
                return wrong("it ends early".to_owned());
            }
            pace(hashing.at - before).await;
        }
        if hashing.hasher.finish() != *digest {
            return wrong("its bytes do not match its digest".to_owned());
        }
        Ok(Checked::Right(blob.size()))
    }
}

impl BlobFile {
    /// The hash of the first `end` bytes, which are read for it.
    ///
    /// # Errors
    /// What the disk says, or `UnexpectedEof` if there are fewer.
    pub async fn hash(&self, algorithm: Algorithm, end: u64) -> io::Result<Hasher> {
        let mut hashing = Hashing::of(self, algorithm);
        while hashing.at < end {
            let before = hashing.at;
            hashing = hashing.to(end.min(before + PIECE_BYTES)).await?;
            if hashing.at == before {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(hashing.hasher)
    }
}

/// Whether this process has no file handle left: that says nothing of the file, and passes.
fn is_want_of_handles(error: &io::Error) -> bool {
    let handles = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| handles.map(Errno::raw_os_error).contains(&code))
}

/// What is wrong with a blob that cannot be read.
pub(super) fn unreadable(error: &io::Error) -> String {
    format!("it cannot be read: {error}")
}

/// A file that is read from its beginning, piece by piece.
struct Hashing {
    file: BlobFile,
    hasher: Hasher,
    /// The next byte to read.
    at: u64,
    buffer: Vec<u8>,
}

impl Hashing {
    fn of(file: &BlobFile, algorithm: Algorithm) -> Self {
        Self { file: file.clone(), hasher: Hasher::new(algorithm), at: 0, buffer: Vec::new() }
    }

    /// Reads on, at most to `end` and not always as far; no further than before at the file's end.
    async fn to(mut self, end: u64) -> io::Result<Self> {
        let reading = spawn_blocking(move || {
            let want = usize::try_from(end - self.at).unwrap_or(usize::MAX);
            self.buffer.resize(want, 0);
            let read = self.file.read_at(&mut self.buffer, self.at)?;
            self.hasher.update(&self.buffer[..read]);
            self.at += read as u64;
            Ok(self)
        });
        reading.await.map_err(io::Error::other)?
    }
}

fn blobs_after(layout: &Layout, last: Option<Digest>, n: usize) -> io::Result<Vec<(Digest, u64)>> {
    // The least digests of those after `last`, the greatest of them on top.
    let mut least: BinaryHeap<Digest> = BinaryHeap::with_capacity(n.saturating_add(1).min(4096));
    for algorithm in Algorithm::ALL {
        for entry in layout.disk().list(&layout.blobs(algorithm))? {
            let name = entry?.file_name();
            let named = name.to_str().map(|name| format!("{}:{name}", algorithm.as_str()));
            let Some(digest) = named.and_then(|named| named.parse::<Digest>().ok()) else {
                continue;
            };
            let is_least = least.len() < n || least.peek().is_some_and(|most| digest < *most);
            if is_least && Some(digest) > last {
                least.push(digest);
                if least.len() > n {
                    least.pop();
                }
            }
        }
    }
    let size = |digest: &Digest| layout.disk().len(&layout.blob(digest)).ok().flatten();
    let sized = least.into_sorted_vec().into_iter();
    Ok(sized.map(|digest| (digest, size(&digest).unwrap_or(0))).collect())
}
