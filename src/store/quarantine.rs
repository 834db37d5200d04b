//! Blobs that are put aside because they are not what their names say: an operator may look at them, nobody is served
//! of them, and they go when the blob is kept again.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{
    Error, Store,
    blobs::BlobFile,
    disk::{Disk, DiskFile, is_damage},
    layout::Layout,
};
use crate::oci::Digest;

/// One very file, whatever lies under its name by now.
///
/// It is held open, so that no other file gets its inode meanwhile.
#[derive(Clone, Debug)]
pub struct Seen {
    identity: (u64, u64),
    _open: Arc<DiskFile>,
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for Seen {}

/// What stands beside a blob that was put aside.
#[derive(Debug, Serialize)]
struct Note<'a> {
    why: &'a str,
    /// Seconds since 1970.
    at: u64,
}

/// What is in quarantine, and who may put files under digests or take them away.
///
/// A blob is put aside by its name, after a look whether the file of that name is still the one that was found wrong.
/// Between the look and the rename nobody may put a right file there: it would be put aside in its stead, though a
/// client was told that it is kept. So everybody who renames a file to the name of a blob, or away from it, holds
/// `names` meanwhile. A right file then came before the look, and is not the one that was seen; or it comes after the
/// rename, finds its name free, and deletes what was put aside. `names` is taken in blocking code alone, for a few calls
/// that look at directory entries or change them; never while bytes are written or synced, and never across an await.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    names: Mutex<()>,
    /// Bytes of all that is put aside.
    bytes: AtomicU64,
}

impl Store {
    /// Puts a kept blob aside, for its operator to look at: it counts as missing from now on. Whether it was.
    ///
    /// It is done only if the blob still is the file that was `seen`; with `None`, if it cannot be opened.
    ///
    /// # Errors
    /// When the disk does not do it.
    pub async fn quarantine(
        &self,
        digest: &Digest,
        seen: Option<Seen>,
        why: &str,
    ) -> Result<bool, Error> {
        let (layout, digest, why) = (Arc::clone(&self.layout), *digest, why.to_owned());
        let (hot, now) = (self.hot.clone(), self.clock.unix_seconds());
        // Done to its end, also when nobody waits any more.
        let moving = spawn_blocking(move || {
            let moved = put_aside(&layout, &digest, seen.as_ref(), &why, now);
            hot.invalidate(&digest);
            moved
        });
        moving.await.map_err(Error::join)?.map_err(Error::write)
    }

    /// The blobs that were put aside and are missing still, in the order of their digests.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn quarantined(&self) -> Result<Vec<Digest>, Error> {
        let layout = Arc::clone(&self.layout);
        let listing = spawn_blocking(move || {
            let mut found = Vec::new();
            for entry in layout.disk().list(&layout.quarantine_dir())? {
                found.extend(digest_of(&entry?.path()));
            }
            found.retain(|digest| !layout.has_blob(digest));
            found.sort_unstable();
            Ok(found)
        });
        listing.await.map_err(Error::join)?.map_err(Error::read)
    }

    /// Bytes of the blobs that were put aside.
    pub fn quarantine_holds(&self) -> u64 {
        self.layout.quarantine.bytes.load(Ordering::Relaxed)
    }
}

impl BlobFile {
    /// This very file; `None` when the system does not tell which it is.
    pub fn seen(&self) -> Option<Seen> {
        seen(self.file())
    }
}

pub(super) fn seen(file: &Arc<DiskFile>) -> Option<Seen> {
    let identity = file.identity().ok()?;
    Some(Seen { identity, _open: Arc::clone(file) })
}

/// Moves the blob into the quarantine if it is the file that was seen, or, with `None`, cannot be opened. Blocks.
pub(super) fn put_aside(
    layout: &Layout,
    digest: &Digest,
    seen: Option<&Seen>,
    why: &str,
    now: u64,
) -> io::Result<bool> {
    let (from, to) = (layout.blob(digest), layout.quarantined(digest));
    let disk = layout.disk();
    {
        let _names = layout.quarantine.lock();
        if !is_the_wrong_one(disk, &from, seen)? {
            return Ok(false);
        }
        let before = len(disk, &to);
        match disk.rename(&from, &to) {
            Ok(()) => {}
            // Evicted since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        layout.quarantine.replaced(before, len(disk, &to));
    }
    // Should a power cut undo the rename, whoever reads the blob next does it again.
    disk.sync_parent(&to)?;
    disk.sync_parent(&from)?;
    let note = serde_json::to_vec(&Note { why, at: now }).expect("strings and numbers serialise");
    // It is for people; a full disk does not keep a damaged blob in its place.
    if let Err(error) = layout.replace(&layout.quarantine_note(digest), &note) {
        tracing::warn!(%digest, %error, "why a blob was put aside could not be written beside it");
    }
    let _names = layout.quarantine.lock();
    if matches!(disk.len(&to), Ok(None)) {
        // Kept again meanwhile, and the damaged one deleted.
        let _ = disk.remove(&layout.quarantine_note(digest));
    }
    Ok(true)
}

fn is_the_wrong_one(disk: &Disk, path: &Path, seen: Option<&Seen>) -> io::Result<bool> {
    let Some(seen) = seen else {
        return match disk.open_read(path) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) if is_damage(&error) => Ok(true),
            Err(error) => Err(error),
        };
    };
    match disk.identity(path) {
        Ok(found) => Ok(found == Some(seen.identity)),
        // Not even that can be read of it: no right file was put there.
        Err(error) if is_damage(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

impl Quarantine {
    /// Held while a file gets the name of a blob, or loses it.
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn replaced(&self, before: u64, after: u64) {
        self.bytes.fetch_add(after, Ordering::Relaxed);
        self.bytes.fetch_sub(before, Ordering::Relaxed);
    }
}

/// Puts a right file under its digest, and deletes what was put aside of it. Blocks.
pub(super) fn put_in_place(layout: &Layout, file: &Path, digest: &Digest) -> io::Result<()> {
    let disk = layout.disk();
    let blob = layout.blob(digest);
    let _names = layout.quarantine.lock();
    disk.rename(file, &blob)?;
    let aside = layout.quarantined(digest);
    // Almost always, nothing is there, and one look tells.
    let Ok(Some(size)) = disk.len(&aside) else { return Ok(()) };
    // The note goes last: while the blob is there, it says why.
    match disk.remove(&aside) {
        Ok(()) => {
            layout.quarantine.replaced(size, 0);
            let _ = disk.remove(&layout.quarantine_note(digest));
        }
        // Not synced, nor worth an error: the next start deletes it.
        Err(error) => {
            tracing::warn!(%digest, %error, "a blob that was put aside could not be deleted");
        }
    }
    Ok(())
}

/// Deletes what was put aside of blobs that are kept again, and notes without a blob; counts the rest. Blocks.
pub(super) fn sweep(layout: &Layout) -> io::Result<()> {
    let disk = layout.disk();
    let mut bytes = 0;
    for entry in disk.list(&layout.quarantine_dir())? {
        let path = entry?.path();
        let orphan = path.extension().is_some_and(|extension| extension == "json")
            && !path.with_extension("").exists();
        let kept_again = digest_of(&path).is_some_and(|digest| layout.has_blob(&digest));
        if orphan || kept_again {
            // What cannot be deleted is in nobody's way: no start fails for it.
            if let Err(error) = disk.remove(&path) {
                tracing::warn!(?path, %error, "what was put aside could not be deleted");
            } else if kept_again {
                let _ = disk.remove(&path.with_extension("json"));
            }
        } else if digest_of(&path).is_some() {
            bytes += len(disk, &path);
        }
    }
    layout.quarantine.replaced(0, bytes);
    Ok(())
}

/// The digest that a file in the quarantine is named after; `None` of a note.
fn digest_of(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.replacen('-', ":", 1).parse().ok()
}

fn len(disk: &Disk, path: &Path) -> u64 {
    disk.len(path).ok().flatten().unwrap_or(0)
}
