//! Every touch of the file system, in one place: so that a test can have any of them fail, tear, or be lost.
//!
//! The look-up tables are not among them: sled has files of its own, which may be lost at any time.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{Mode, OFlags},
    io::{Errno, retry_on_intr},
};

/// What is about to be done to the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch<'a> {
    /// A directory is made, in one that is there.
    MakeDir(&'a Path),
    /// A file is opened for writing, and made if it is not there.
    Open(&'a Path),
    /// Bytes are written into a file.
    Write {
        /// The file, by the name it was opened under.
        path: &'a Path,
        /// Where in it.
        at: u64,
        /// What.
        bytes: &'a [u8],
    },
    /// A file is cut off, or filled up with zeros.
    SetLen {
        /// The file, by the name it was opened under.
        path: &'a Path,
        /// To this length in bytes.
        len: u64,
    },
    /// A file's bytes and length are made durable.
    Sync(&'a Path),
    /// A directory's entries are made durable.
    SyncDir(&'a Path),
    /// A file gets another name; what had it is gone.
    Rename {
        /// From this one.
        from: &'a Path,
        /// To this one.
        to: &'a Path,
    },
    /// A file is deleted, or an empty directory.
    Remove(&'a Path),
    /// A file is read, or its length.
    Read(&'a Path),
    /// A directory's entries are read.
    List(&'a Path),
}

/// Sees what is about to be done, and may have it fail.
pub trait Watch: Send + Sync + std::fmt::Debug {
    /// Called before each touch. Of a [`Touch::Write`], at most as many bytes are written as this allows.
    ///
    /// # Errors
    /// What the touch then fails with, undone.
    fn before(&self, touch: Touch<'_>) -> io::Result<usize>;

    /// What the file system is said to be like, instead of what it is.
    fn space(&self) -> Option<Space> {
        None
    }
}

/// How large a file system is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub size: u64,
    /// What of it anybody may still write to.
    pub free: u64,
}

/// The file system, watched or not. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Disk(Option<Arc<dyn Watch>>);

/// A file that is open, and the name that it was opened under.
#[derive(Debug)]
pub(super) struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

/// Whether the system says that what lies on the disk is lost, rather than that it cannot be asked just now: an input or
/// output error, a structure that needs cleaning, a checksum that does not fit, or fewer bytes than there were.
pub fn is_damage(error: &io::Error) -> bool {
    let damaged = [Errno::IO, Errno::UCLEAN, Errno::BADMSG, Errno::REMOTEIO];
    let damaged = damaged.map(Errno::raw_os_error);
    error.kind() == io::ErrorKind::UnexpectedEof
        || error.raw_os_error().is_some_and(|code| damaged.contains(&code))
}

impl Disk {
    /// The file system under a watch.
    pub fn watched(watch: Arc<dyn Watch>) -> Self {
        Self(Some(watch))
    }

    /// How large the file system is that `path` lies on.
    pub(super) fn space(&self, path: &Path) -> io::Result<Space> {
        if let Some(said) = self.0.as_ref().and_then(|watch| watch.space()) {
            return Ok(said);
        }
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { size: bytes(found.f_blocks), free: bytes(found.f_bavail) })
    }

    /// Makes a directory, and what is missing above it; durable when this returns.
    pub(super) fn make_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.make_dir(parent(path))?;
        self.before(Touch::MakeDir(path))?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        match self.sync_parent(path) {
            // Somebody may make a directory where he may not open the one above it, which lies outside the cache.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced,
        }
    }

    /// Opens a file for reading and writing, and makes it if it is not there.
    pub(super) fn open(&self, path: &Path) -> io::Result<DiskFile> {
        self.before(Touch::Open(path))?;
        Ok(self.file(open(path, OFlags::RDWR | OFlags::CREATE)?, path))
    }

    /// Makes an empty file of that name, whatever had it, for all to read.
    pub(super) fn create(&self, path: &Path) -> io::Result<DiskFile> {
        self.before(Touch::Open(path))?;
        let file = open(path, OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        Ok(self.file(file, path))
    }

    /// Opens a file for reading.
    pub(super) fn open_read(&self, path: &Path) -> io::Result<DiskFile> {
        self.before(Touch::Read(path))?;
        Ok(self.file(open(path, OFlags::RDONLY)?, path))
    }

    /// Opens a file for reading, or finds that there is none, if that waits for no disk: if the system has in memory what there
    /// is of that name, and can tell (Linux 5.12). `None`: that has to be found out by [`Disk::open_read`].
    pub(super) fn open_read_at_once(&self, path: &Path) -> Option<Option<DiskFile>> {
        use rustix::fs::{CWD, ResolveFlags, openat2};
        self.before(Touch::Read(path)).ok()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = untold(|untold| {
            openat2(CWD, path, flags | untold, Mode::empty(), ResolveFlags::CACHED)
        });
        match opened {
            Ok(opened) => Some(Some(self.file(File::from(opened), path))),
            Err(Errno::NOENT) => Some(None),
            Err(_) => None,
        }
    }

    /// All of a file.
    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.before(Touch::Read(path))?;
        fs::read(path)
    }

    /// Up to `most` bytes of a file; `None` when there is none.
    pub(super) fn read_up_to(&self, path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open_read(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        io::Read::take(&file.file, most).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The length of a file in bytes; `None` when there is none.
    pub(super) fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        self.before(Touch::Read(path))?;
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Which file it is, by device and inode; `None` when there is none.
    pub(super) fn identity(&self, path: &Path) -> io::Result<Option<(u64, u64)>> {
        self.before(Touch::Read(path))?;
        match fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The entries of a directory.
    pub(super) fn list(&self, path: &Path) -> io::Result<fs::ReadDir> {
        self.before(Touch::List(path))?;
        fs::read_dir(path)
    }

    /// Gives a file another name; what had it is gone.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.before(Touch::Rename { from, to })?;
        fs::rename(from, to)
    }

    /// Deletes a file.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.before(Touch::Remove(path))?;
        fs::remove_file(path)
    }

    /// Deletes a directory that is empty.
    pub(super) fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.before(Touch::Remove(path))?;
        fs::remove_dir(path)
    }

    /// Makes a rename or a removal in the directory of `path` durable.
    pub(super) fn sync_parent(&self, path: &Path) -> io::Result<()> {
        self.before(Touch::SyncDir(parent(path)))?;
        File::open(parent(path))?.sync_all()
    }

    fn file(&self, file: File, path: &Path) -> DiskFile {
        DiskFile { file, path: path.to_owned(), disk: self.clone() }
    }

    fn before(&self, touch: Touch<'_>) -> io::Result<usize> {
        self.0.as_ref().map_or(Ok(usize::MAX), |watch| watch.before(touch))
    }
}

/// Opens a file; if it makes one, as the mask for new files says.
fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
    let flags = flags | OFlags::CLOEXEC;
    Ok(untold(|untold| rustix::fs::open(path, flags | untold, mode))?.into())
}

/// What `open` opens, without the file being told when it was last read: nobody asks, it takes time at each read, and at the
/// first read, and then once a day, it would be written to the disk. Only a file's owner may have it so.
fn untold(open: impl Fn(OFlags) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    let open = |flags| retry_on_intr(|| open(flags));
    match open(OFlags::NOATIME) {
        Err(Errno::PERM) => open(OFlags::empty()),
        opened => opened,
    }
}

/// The directory that `path` lies in.
fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

impl DiskFile {
    /// The file itself, for questions that touch nothing.
    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// The length in bytes.
    pub(super) fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Which file it is, by device and inode.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = self.file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Reads the next bytes up to the end, at most `most` of them.
    pub(super) fn read_up_to(&self, most: u64) -> io::Result<Vec<u8>> {
        self.disk.before(Touch::Read(&self.path))?;
        // One more than there are, so that the end is found without growing.
        let len = self.file.metadata()?.len().min(most) as usize + 1;
        let mut bytes = Vec::with_capacity(len);
        io::Read::take(&self.file, most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads all bytes up to the end.
    pub(super) fn read_to_end(&self) -> io::Result<Vec<u8>> {
        self.disk.before(Touch::Read(&self.path))?;
        let mut bytes = Vec::new();
        (&self.file).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads bytes from `offset` on, as many as there are and have room.
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.before(Touch::Read(&self.path))?;
        self.file.read_at(buffer, offset)
    }

    /// The file, for what touches no disk: its part of the system's memory.
    pub(super) const fn std(&self) -> &File {
        &self.file
    }

    /// [`DiskFile::read_at`] by way of `read`, which reads from the file itself.
    pub(super) fn read_by<T>(&self, read: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        self.disk.before(Touch::Read(&self.path))?;
        read(&self.file)
    }

    /// Writes some of `bytes` at `at`: how many.
    pub(super) fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let most = self.disk.before(Touch::Write { path: &self.path, at, bytes })?;
        self.file.write_at(&bytes[..bytes.len().min(most)], at)
    }

    /// Writes all of `bytes` at `at`.
    ///
    /// # Errors
    /// Some of it may be written then.
    pub(super) fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let (mut rest, mut at) = (bytes, at);
        while !rest.is_empty() {
            match self.write_at(rest, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => (rest, at) = (&rest[taken..], at + taken as u64),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Cuts the file off, or fills it up with zeros.
    pub(super) fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.before(Touch::SetLen { path: &self.path, len })?;
        self.file.set_len(len)
    }

    /// The next byte to read is this one.
    pub(super) fn seek(&self, to: u64) -> io::Result<()> {
        (&self.file).seek(SeekFrom::Start(to)).map(drop)
    }

    /// Makes bytes and length durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.before(Touch::Sync(&self.path))?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::FileTimes,
        time::{Duration, SystemTime},
    };

    use super::*;

    #[test]
    fn that_a_file_is_read_is_not_written_into_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("blob");
        fs::write(&path, b"content").expect("written");
        let read_last = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let times = FileTimes::new().set_accessed(read_last);
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_times(times))
            .expect("set");
        let disk = Disk::default();
        let waited = disk.open_read(&path).expect("opened");
        let at_once = disk.open_read_at_once(&path).map(|opened| opened.expect("there"));
        for file in [Some(waited), at_once].into_iter().flatten() {
            assert_eq!(file.read_at(&mut [0; 7], 0).expect("read"), 7);
        }
        let metadata = fs::metadata(&path).expect("there");
        assert_eq!(metadata.accessed().expect("known here"), read_last);
    }

    #[test]
    fn a_file_of_another_owner_is_read_all_the_same() {
        // Root's, who may leave the time out of anybody's file: who runs this as somebody else sees more of it.
        let path = Path::new("/etc/passwd");
        let disk = Disk::default();
        let waited = disk.open_read(path).expect("opened");
        assert_eq!(waited.read_at(&mut [0; 5], 0).expect("read"), 5);
        if let Some(at_once) = disk.open_read_at_once(path) {
            assert_eq!(at_once.expect("there").read_at(&mut [0; 5], 0).expect("read"), 5);
        }
    }
}
