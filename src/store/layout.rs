//! Where things lie in the cache directory, and how a small file is replaced without ever being half there.
//!
//! ```text
//! <dir>/oci-layout            marks an OCI image layout
//! <dir>/index.json            the images kept: names in annotations, replaced atomically
//! <dir>/blobs/sha256/<hex>    manifests, configs and layers; a file here is whole and was verified
//! <dir>/blobs/sha512/<hex>
//! <dir>/control.sock          how commands reach the wharf that has the directory open (`admin/control.rs`)
//! <dir>/wharf/version         the form of what is below wharf/
//! <dir>/wharf/lock            held by the one wharf that uses the directory
//! <dir>/wharf/journal-<n>     facts newer than index.json, one checksummed line each
//! <dir>/wharf/partial/        downloads in progress, and where each comes from
//! <dir>/wharf/volumes/        what came of bundles of which volumes are not here yet (`store/volumes.rs`)
//! <dir>/wharf/quarantine/     blobs that are not what their names say, and why each was put here
//! <dir>/wharf/index.sled/     look-up tables made from the files above; may be deleted
//! <dir>/wharf/index.sled.new/ the same, after those failed: until the next start
//! ```

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{
    Error,
    checkpoints::is_passing,
    disk::{Disk, DiskFile, Space},
    quarantine,
};
use crate::oci::{Algorithm, Digest};

/// The form of `wharf/` that this version writes. 2 came with removals and pins in the journal, checkpoints beside
/// partial files, and the quarantine: what an older wharf would not heed.
const VERSION: &str = "2\n";

/// The forms that it reads, too, and makes its own by writing what it knows beyond them.
const OLDER_VERSIONS: [&str; 1] = ["1\n"];

/// How the names of temporary files begin.
const TEMPORARY: &str = ".new-";

/// Content of `oci-layout` ([image-spec, image-layout.md](https://github.com/opencontainers/image-spec/blob/main/image-layout.md)).
const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The cache directory, locked for this process.
#[derive(Debug)]
pub(super) struct Layout {
    dir: PathBuf,
    disk: Disk,
    /// How many temporary files were begun.
    temporaries: AtomicU64,
    /// Every manifest that a repository has is told of in `index.json`, those that its indexes list as well.
    tells_all: bool,
    _lock: Lock,
}

impl Layout {
    /// Creates what is missing of the directory and locks it.
    ///
    /// # Errors
    /// When it cannot be written, is used by another wharf, or was written by a later one.
    pub(super) fn open(dir: &Path, disk: Disk) -> Result<Self, Error> {
        let failed = |what: &'static str| {
            move |source: io::Error| Error::Open { what, dir: dir.into(), source: source.into() }
        };
        let wharf = dir.join("wharf");
        for own in ["partial", "quarantine"] {
            disk.make_dir(&wharf.join(own)).map_err(failed("be created"))?;
        }
        for algorithm in Algorithm::ALL {
            let blobs = dir.join("blobs").join(algorithm.as_str());
            disk.make_dir(&blobs).map_err(failed("be created"))?;
        }
        let lock = disk.open(&wharf.join("lock")).map_err(failed("be written"))?;
        let lock = Lock::exclusively(lock, dir)?;
        let layout = Self {
            dir: dir.into(),
            disk,
            temporaries: AtomicU64::new(0),
            tells_all: false,
            _lock: lock,
        };
        let version = wharf.join("version");
        let marked = || layout.replace(&version, VERSION.as_bytes()).map_err(failed("be written"));
        match layout.disk.read(&version) {
            Ok(found) if found == VERSION.as_bytes() => {}
            // Before anything is written that only this form has.
            Ok(found) if OLDER_VERSIONS.iter().any(|older| found == older.as_bytes()) => marked()?,
            Ok(found) => {
                let found = String::from_utf8_lossy(&found).trim().to_owned();
                return Err(Error::Version { dir: dir.into(), found });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => marked()?,
            Err(error) => return Err(failed("be read")(error)),
        }
        layout.sweep_temporaries().map_err(failed("be written"))?;
        quarantine::sweep(&layout).map_err(failed("be written"))?;
        let marker = dir.join("oci-layout");
        if !marker.exists() {
            layout.replace(&marker, OCI_LAYOUT.as_bytes()).map_err(failed("be written"))?;
        }
        Ok(layout)
    }

    /// Puts `bytes` under `path` so that a reader, also after a power cut, sees the old file or the new one:
    /// a temporary file of the same file system, synced, renamed, and the directory synced.
    pub(super) fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace_by(|temporary| self.disk.rename(temporary, path), path, bytes)
    }

    /// Keeps `bytes`, which match `digest`, in the same way; `put` gives the temporary file its name.
    pub(super) fn replace_blob(
        &self,
        digest: &Digest,
        bytes: &[u8],
        put: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        self.replace_by(put, &self.blob(digest), bytes)
    }

    fn replace_by(
        &self,
        rename: impl FnOnce(&Path) -> io::Result<()>,
        path: &Path,
        bytes: &[u8],
    ) -> io::Result<()> {
        let temporary = self.temporary();
        let replaced = self
            .write_synced(&temporary, bytes)
            .and_then(|()| rename(&temporary))
            .and_then(|()| self.disk.sync_parent(path));
        if replaced.is_err() {
            let _ = self.disk.remove(&temporary);
        }
        replaced
    }

    /// Puts `bytes` under `path` so that a reader, also after this process was killed, sees the old file or the new one. After a
    /// power cut it may be neither.
    pub(super) fn place(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.temporary();
        let written = self.disk.create(&temporary).and_then(|file| file.write_all_at(bytes, 0));
        let placed = written.and_then(|()| self.disk.rename(&temporary, path));
        if placed.is_err() {
            let _ = self.disk.remove(&temporary);
        }
        placed
    }

    fn write_synced(&self, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.disk.create(temporary)?;
        file.write_all_at(bytes, 0)?;
        file.sync()
    }

    /// The same, of which `index.json` tells all if that is so, and nothing is made out from indexes.
    pub(super) fn telling_all(self, tells_all: bool) -> Self {
        Self { tells_all, ..self }
    }

    pub(super) const fn tells_all(&self) -> bool {
        self.tells_all
    }

    /// A name that is alone in its directory, thanks to the lock; what an earlier process left was swept.
    pub(super) fn temporary(&self) -> PathBuf {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        self.partials().join(format!("{TEMPORARY}{number}"))
    }

    /// Writes `bytes` to the disk and deletes them.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.temporary();
        let file = self.disk.create(&temporary)?;
        let written = file.write_all_at(bytes, 0).and_then(|()| file.sync());
        self.disk.remove(&temporary).and(written)
    }

    /// Deletes what was left behind when a process was killed: of a replacement, its temporary file; of a blob that was
    /// just put in its place, where it came from; and what was only passed on. Also what a power cut may leave: bytes that
    /// nothing vouches for, because the file beside them is lost, and the old name of a blob that has its new one, so that
    /// no download writes into the blob.
    fn sweep_temporaries(&self) -> io::Result<()> {
        for entry in self.disk.list(&self.partials())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            if name.starts_with(TEMPORARY.as_bytes()) {
                self.disk.remove(&path)?;
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let partial = path.with_extension("");
                if partial.exists() && is_passing(&self.disk, &path) {
                    self.disk.remove(&partial)?;
                }
                if !partial.exists() {
                    self.disk.remove(&path)?;
                }
            } else if is_useless(&path) {
                self.disk.remove(&path)?;
            }
        }
        Ok(())
    }

    /// The file system that it lies on.
    pub(super) const fn disk(&self) -> &Disk {
        &self.disk
    }

    /// The file of a blob that is kept.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest.algorithm()).join(digest.encoded())
    }

    /// Whether such a blob is kept; no, when that cannot be seen.
    pub(super) fn has_blob(&self, digest: &Digest) -> bool {
        self.disk.len(&self.blob(digest)).is_ok_and(|len| len.is_some())
    }

    /// The directory of the blobs named in `algorithm`.
    pub(super) fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.dir.join("blobs").join(algorithm.as_str())
    }

    /// The digest that a file in the directory of blobs is named after.
    pub(super) fn named(&self, algorithm: Algorithm, name: &OsStr) -> Option<Digest> {
        format!("{}:{}", algorithm.as_str(), name.to_str()?).parse().ok()
    }

    /// The digest that a file in the directory of downloads holds the first bytes of.
    pub(super) fn begun(&self, name: &OsStr) -> Option<Digest> {
        name.to_str()?.replacen('-', ":", 1).parse().ok()
    }

    /// How large the file system is.
    pub(super) fn space(&self) -> io::Result<Space> {
        self.disk.space(&self.dir)
    }

    /// The bytes of a blob that is still being downloaded.
    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.partials().join(format!("{}-{}", digest.algorithm().as_str(), digest.encoded()))
    }

    /// Where the download of that blob comes from.
    pub(super) fn partial_origin(&self, digest: &Digest) -> PathBuf {
        self.partial(digest).with_extension("json")
    }

    /// The directory of downloads in progress.
    pub(super) fn partials(&self) -> PathBuf {
        self.dir.join("wharf/partial")
    }

    /// A blob that was put aside.
    pub(super) fn quarantined(&self, digest: &Digest) -> PathBuf {
        self.quarantine_dir().join(format!("{}-{}", digest.algorithm().as_str(), digest.encoded()))
    }

    /// Why it was.
    pub(super) fn quarantine_note(&self, digest: &Digest) -> PathBuf {
        self.quarantined(digest).with_extension("json")
    }

    /// The directory of blobs that were put aside.
    pub(super) fn quarantine_dir(&self) -> PathBuf {
        self.dir.join("wharf/quarantine")
    }

    /// The directory of sets of volumes of which not all are here; made when there is one.
    pub(super) fn volume_sets(&self) -> PathBuf {
        self.dir.join("wharf/volumes")
    }

    /// The directory of one of them.
    pub(super) fn volume_set(&self, set: &Digest) -> PathBuf {
        self.volume_sets().join(set.encoded())
    }

    /// `index.json`.
    pub(super) fn index_json(&self) -> PathBuf {
        self.dir.join("index.json")
    }

    /// The journal of one generation.
    pub(super) fn journal(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("wharf/journal-{generation}"))
    }

    /// The generations of all journals that are there.
    pub(super) fn journals(&self) -> io::Result<Vec<u64>> {
        let mut generations = Vec::new();
        for entry in self.disk.list(&self.dir.join("wharf"))? {
            let name = entry?.file_name();
            let generation = name.to_str().and_then(|name| name.strip_prefix("journal-"));
            generations.extend(generation.and_then(|generation| generation.parse::<u64>().ok()));
        }
        Ok(generations)
    }

    /// A small file of what can be done without.
    pub(super) fn state(&self, name: &str) -> PathBuf {
        self.dir.join("wharf").join(name)
    }

    /// The directory of the look-up tables.
    pub(super) fn sled(&self) -> PathBuf {
        self.dir.join("wharf/index.sled")
    }

    /// Where they are made anew while those that failed are still read; gone at the next start.
    pub(super) fn spare_sled(&self) -> PathBuf {
        self.dir.join("wharf/index.sled.new")
    }
}

/// The socket of the wharf that holds the lock.
pub(super) fn control_socket(dir: &Path) -> PathBuf {
    dir.join("control.sock")
}

/// The owner of `dir`, if that is not the user of this process.
pub(super) fn other_owner(dir: &Path) -> Option<u32> {
    let owner = fs::metadata(dir).ok()?.uid();
    (owner != rustix::process::geteuid().as_raw()).then_some(owner)
}

/// Whether no download can go on from this file of one: its origin is lost, or it is a kept blob, too.
fn is_useless(partial: &Path) -> bool {
    let Some(metadata) = fs::metadata(partial).ok().filter(fs::Metadata::is_file) else {
        return false;
    };
    metadata.nlink() > 1 || !partial.with_extension("json").exists()
}

/// The directory's lock, which ends with this.
#[derive(Debug)]
struct Lock(DiskFile);

impl Lock {
    fn exclusively(file: DiskFile, dir: &Path) -> Result<Self, Error> {
        match flock(file.file(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(file)),
            Err(Errno::WOULDBLOCK) => Err(Error::InUse { dir: dir.into() }),
            Err(errno) => Err(Error::Open {
                what: "be locked",
                dir: dir.into(),
                source: io::Error::from(errno).into(),
            }),
        }
    }
}

impl Drop for Lock {
    /// A program that another thread starts in this moment has the file, too, until it runs: closing it here would leave
    /// the lock to that one.
    fn drop(&mut self) {
        // What fails here ends with the process.
        let _ = flock(self.0.file(), FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_ends_with_its_owner_though_a_program_that_is_about_to_run_has_the_file() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let lock = || {
            let file = Disk::default().open(&dir.path().join("lock")).expect("it is made");
            Lock::exclusively(file, dir.path())
        };
        let first = lock().expect("nobody holds it");
        let _theirs = first.0.file().try_clone().expect("descriptors are left");
        assert!(matches!(lock(), Err(Error::InUse { .. })));
        drop(first);
        lock().expect("nobody holds it any more");
    }
}
