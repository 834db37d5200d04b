//! Blobs that are put aside because they are not what their names say: an operator may look at them, nobody is served
//! of them, and they go when the blob is kept again.
//!
//! A blob is put aside by its name, after a look whether the file of that name is still the one that was found wrong.
//! Between the look and the rename nobody may put a right file there: it would be put aside in its stead, though a
//! client was told that it is kept. So both are done while the account of files is held, by which everybody goes who
//! renames a file to the name of a blob, or away from it ([`Ledger::comes`], [`Ledger::goes`], [`Ledger::puts_aside`]). A
//! right file then came before the look, and is not the one that was seen; or it comes after the rename, finds its name
//! free, and deletes what was put aside.

use std::{io, path::Path, sync::Arc};

use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{
    Error, Store,
    blobs::BlobFile,
    disk::{Disk, DiskFile, is_damage},
    layout::Layout,
    ledger::{Came, Ledger},
};
use crate::oci::Digest;

/// One very file, whatever lies under its name by now.
///
/// It is held open, so that no other file gets its inode meanwhile.
#[derive(Clone, Debug)]
pub struct Seen {
    identity: (u64, u64),
    open: Arc<DiskFile>,
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

impl Store {
    /// Puts a kept blob aside, for its operator to look at: it counts as missing from now on. Whether it was.
    ///
    /// It is done only if the blob still is the file that was `seen`; with `None`, if it cannot be opened.
    ///
    /// # Errors
    /// When the disk does not do it. The blob counts as missing all the same, for as long as this process remembers.
    pub async fn quarantine(
        &self,
        digest: &Digest,
        seen: Option<Seen>,
        why: &str,
    ) -> Result<bool, Error> {
        let (layout, digest, why) = (Arc::clone(&self.layout), *digest, why.to_owned());
        let ledger = Arc::clone(&self.ledger);
        let (hot, now) = (Arc::clone(&self.hot), self.clock.unix_seconds());
        // Done to its end, also when nobody waits any more.
        let moving = spawn_blocking(move || {
            let moved = put_aside(&layout, &ledger, &digest, seen.as_ref(), &why, now);
            hot.invalidate(&digest);
            moved
        });
        moving.await.map_err(Error::join)?.map_err(Error::write)
    }

    /// The blobs that were put aside, or should have been, and are missing still, in the order of their digests.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn quarantined(&self) -> Result<Vec<Digest>, Error> {
        let (layout, ledger) = (Arc::clone(&self.layout), Arc::clone(&self.ledger));
        let listing = spawn_blocking(move || {
            let mut found = Vec::new();
            for entry in layout.disk().list(&layout.quarantine_dir())? {
                found.extend(digest_of(&entry?.path()));
            }
            found.retain(|digest| !layout.has_blob(digest));
            found.extend(ledger.condemned());
            found.sort_unstable();
            found.dedup();
            Ok(found)
        });
        listing.await.map_err(Error::join)?.map_err(Error::read)
    }

    /// Whether the blob is damaged, and the disk did not let it be put aside: it counts as missing.
    pub fn is_condemned(&self, digest: &Digest) -> bool {
        self.ledger.is_condemned(digest)
    }

    /// Bytes of the blobs that were put aside.
    pub fn quarantine_holds(&self) -> u64 {
        self.ledger.usage().quarantined
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
    Some(Seen { identity, open: Arc::clone(file) })
}

/// Moves the blob into the quarantine if it is the file that was seen, or, with `None`, cannot be opened. Blocks.
fn put_aside(
    layout: &Layout,
    ledger: &Ledger,
    digest: &Digest,
    seen: Option<&Seen>,
    why: &str,
    now: u64,
) -> io::Result<bool> {
    let (from, to) = (layout.blob(digest), layout.quarantined(digest));
    let disk = layout.disk();
    let moved = ledger.puts_aside(digest, || {
        if !is_the_wrong_one(disk, &from, seen)? {
            return Ok(None);
        }
        let before = len(disk, &to);
        match disk.rename(&from, &to) {
            Ok(()) => {}
            // Evicted since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                ledger.condemn(digest);
                return Err(error);
            }
        }
        let size = seen.and_then(|seen| seen.open.len().ok()).unwrap_or_else(|| len(disk, &to));
        Ok(Some((size, before)))
    })?;
    if !moved {
        return Ok(false);
    }
    // Should a power cut undo the rename, whoever reads the blob next does it again.
    disk.sync_parent(&to)?;
    disk.sync_parent(&from)?;
    let note = serde_json::to_vec(&Note { why, at: now }).expect("strings and numbers serialise");
    // It is for people; a full disk does not keep a damaged blob in its place.
    if let Err(error) = layout.replace(&layout.quarantine_note(digest), &note) {
        tracing::warn!(%digest, %error, "why a blob was put aside could not be written beside it");
    }
    ledger.puts_aside(digest, || {
        if matches!(disk.len(&to), Ok(None)) {
            // Kept again meanwhile, and the damaged one deleted.
            let _ = disk.remove(&layout.quarantine_note(digest));
        }
        Ok(None)
    })?;
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

/// Puts a right file under its digest, and deletes what was put aside of it. Blocks.
pub(super) fn put_in_place(
    layout: &Layout,
    ledger: &Ledger,
    file: &Path,
    digest: &Digest,
    came: Came,
) -> io::Result<()> {
    let disk = layout.disk();
    ledger.comes(layout, digest, came, || {
        disk.rename(file, &layout.blob(digest))?;
        let aside = layout.quarantined(digest);
        // Almost always, nothing is there, and one look tells.
        let Ok(Some(size)) = disk.len(&aside) else { return Ok(()) };
        // The note goes last: while the blob is there, it says why.
        match disk.remove(&aside) {
            Ok(()) => {
                ledger.aside_went(size);
                let _ = disk.remove(&layout.quarantine_note(digest));
            }
            // Not synced, nor worth an error: the next start deletes it.
            Err(error) => {
                tracing::warn!(%digest, %error, "a blob that was put aside could not be deleted");
            }
        }
        Ok(())
    })
}

/// Deletes what was put aside of blobs that are kept again, and notes without a blob. Blocks.
pub(super) fn sweep(layout: &Layout) -> io::Result<()> {
    let disk = layout.disk();
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
        }
    }
    Ok(())
}

/// The digest that a file in the quarantine is named after; `None` of a note.
fn digest_of(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.replacen('-', ":", 1).parse().ok()
}

fn len(disk: &Disk, path: &Path) -> u64 {
    disk.len(path).ok().flatten().unwrap_or(0)
}
