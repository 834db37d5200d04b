//! Reading: blobs that are kept, and the bytes that a download has written so far.

use std::{io, ops::Range, os::fd::AsFd, path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use rustix::io::ReadWriteFlags;
use tokio::task::spawn_blocking;

use super::disk::{Disk, DiskFile};

/// Bytes read at once: memory for each reader, and the grain at which readers follow a download.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// How far apart the bytes are by which it is told whether a part of a file is in memory. What was read in turn is evicted in
/// turn, so what is missing is long, as a rule; what is missed of it, up to so much between two looks, the thread that sends it
/// waits for. A look takes half a microsecond; at half the distance there were ten more of them for 5 MiB, a hundredth of the
/// time.
const LOOK_BYTES: usize = 512 * 1024;

/// Bytes that are read at once of a part that is not.
const LOAD_BYTES: usize = 256 * 1024;

/// An open blob file. It stays readable when the blob is removed or renamed meanwhile.
#[derive(Clone, Debug)]
pub struct BlobFile(Arc<DiskFile>);

/// A blob that is kept: whole, and verified when it was written.
///
/// Made only by opening a file under its digest, or by committing a download that matched it.
#[derive(Clone, Debug)]
pub struct StoredBlob {
    file: BlobFile,
    size: u64,
}

impl BlobFile {
    pub(super) fn new(file: Arc<DiskFile>) -> Self {
        Self(file)
    }

    /// The file at `path`, whatever it is.
    #[cfg(test)]
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Disk::default().open_read(path).map(|file| Self(Arc::new(file)))
    }

    pub(super) const fn file(&self) -> &Arc<DiskFile> {
        &self.0
    }

    /// Reads bytes from `offset` on, as many as there are and have room. Waits for the disk, unless they are [`load`]ed.
    ///
    /// # Errors
    /// What the disk says.
    ///
    /// [`load`]: Self::load
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    /// The bytes from `offset` on, at most `end - offset` and at most 64 KiB; never none of them.
    ///
    /// Bytes in the page cache are read at once; for others a thread that may block is asked, so that a slow
    /// disk holds up nobody else.
    ///
    /// # Errors
    /// What the disk says, or `UnexpectedEof` if the file ends before `end`.
    pub async fn read(&self, offset: u64, end: u64) -> io::Result<Bytes> {
        let want = usize::try_from(end - offset).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let mut buffer = BytesMut::zeroed(want);
        let read = match self.read_cached(&mut buffer, offset) {
            Some(read) => read?,
            None => {
                let file = Arc::clone(&self.0);
                let blocking = spawn_blocking(move || {
                    let read = file.read_at(&mut buffer, offset)?;
                    Ok::<_, io::Error>((buffer, read))
                });
                let (back, read) = blocking.await.map_err(io::Error::other)??;
                buffer = back;
                read
            }
        };
        if read == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.truncate(read);
        Ok(buffer.freeze())
    }

    /// Has the bytes in memory, so that whoever sends them in a moment does not wait for the disk, nor is failed by it.
    ///
    /// # Errors
    /// What the disk says, or `UnexpectedEof` if the file ends before `range` does.
    pub async fn load(&self, range: Range<u64>) -> io::Result<()> {
        if self.is_loaded(&range) {
            return Ok(());
        }
        let file = Arc::clone(&self.0);
        let loading = spawn_blocking(move || {
            let mut buffer = vec![0; LOAD_BYTES];
            let mut at = range.start;
            while at < range.end {
                let most =
                    usize::try_from(range.end - at).map_or(LOAD_BYTES, |n| n.min(LOAD_BYTES));
                match file.read_at(&mut buffer[..most], at)? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => at += read as u64,
                }
            }
            Ok(())
        });
        loading.await.map_err(io::Error::other)?
    }

    /// Whether the bytes are in memory, as far as a look at some of them tells.
    fn is_loaded(&self, range: &Range<u64>) -> bool {
        let last = range.end.saturating_sub(1);
        let mut looks = range.clone().step_by(LOOK_BYTES).chain([last]);
        looks.all(|at| matches!(self.read_cached(&mut [0], at), Some(Ok(1))))
    }

    /// Sends up to `most` bytes from `at` on to a socket, without their coming by this process: how many it took.
    ///
    /// # Errors
    /// What the system says: `WouldBlock` when the socket has no room.
    pub fn send(&self, socket: &impl AsFd, at: u64, most: usize) -> io::Result<usize> {
        let mut at = at;
        Ok(rustix::fs::sendfile(socket, self.0.std(), Some(&mut at), most)?)
    }

    /// Reads without waiting for the disk; `None` where that cannot be had.
    ///
    /// Only a read that waits may say that a file ends or is damaged: Linux 5.9 and 5.10 answer such reads with 0 bytes
    /// before the end (preadv2(2), BUGS).
    fn read_cached(&self, buffer: &mut [u8], offset: u64) -> Option<io::Result<usize>> {
        let mut slices = [io::IoSliceMut::new(buffer)];
        let read = self.0.read_by(|file| {
            match rustix::io::preadv2(file, &mut slices, offset, ReadWriteFlags::NOWAIT) {
                Ok(read) if read > 0 => Ok(Some(read)),
                _ => Ok(None),
            }
        });
        read.transpose()
    }
}

impl StoredBlob {
    /// Opens the file at `path`; `None` when there is none. Blocks.
    pub(super) fn open(disk: &Disk, path: &Path) -> io::Result<Option<Self>> {
        match disk.open_read(path) {
            Ok(file) => {
                let size = file.len()?;
                Ok(Some(Self { file: BlobFile::new(Arc::new(file)), size }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// As [`StoredBlob::open`], if that waits for no disk; `None` when it might.
    pub(super) fn open_at_once(disk: &Disk, path: &Path) -> Option<Option<Self>> {
        let Some(file) = disk.open_read_at_once(path)? else { return Some(None) };
        let size = file.len().ok()?;
        Some(Some(Self { file: BlobFile::new(Arc::new(file)), size }))
    }

    pub(super) const fn committed(file: BlobFile, size: u64) -> Self {
        Self { file, size }
    }

    /// Length in bytes.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The file, for reading.
    pub const fn file(&self) -> &BlobFile {
        &self.file
    }
}
