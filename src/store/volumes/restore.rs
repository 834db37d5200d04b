//! What a start finds of sets of volumes, and the deleting of what is of no set.

use std::{
    collections::HashMap,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{CONTENTS, STATE, State, Volumes};
use crate::{
    oci::{Algorithm, Digest},
    store::{layout::Layout, ledger::Ledger, state::STATE_MAX_BYTES},
};

/// Longest contents document that is read, in bytes: as long as one that anybody takes.
const DOCUMENT_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The sets in the directory; blocks.
pub(super) fn sets(layout: &Arc<Layout>, ledger: &Arc<Ledger>) -> Vec<(Volumes, Bytes)> {
    let dirs = layout.disk().list(&layout.volume_sets());
    let dirs = dirs.into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = dirs.map(|entry| entry.path()).collect();
    dirs.sort_unstable();
    let found = dirs.into_iter().filter_map(|dir| match open(layout, ledger, &dir) {
        Ok(Some(set)) => Some(set),
        Ok(None) => {
            if let Err(error) = clear(layout, &dir) {
                tracing::warn!(?dir, %error, "what is left of a set of volumes cannot be deleted");
            }
            None
        }
        Err(error) => {
            tracing::warn!(?dir, %error, "a set of volumes cannot be read");
            None
        }
    });
    found.collect()
}

/// The set in this directory; `None` if it is none, or no more.
fn open(
    layout: &Arc<Layout>,
    ledger: &Arc<Ledger>,
    dir: &Path,
) -> io::Result<Option<(Volumes, Bytes)>> {
    let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Ok(set) = format!("{}:{name}", Algorithm::Sha256.as_str()).parse::<Digest>() else {
        return Ok(None);
    };
    let disk = layout.disk();
    let Some(state) = disk.read_up_to(&dir.join(STATE), STATE_MAX_BYTES)? else { return Ok(None) };
    let Some(document) = disk.read_up_to(&dir.join(CONTENTS), DOCUMENT_MAX_BYTES)? else {
        return Ok(None);
    };
    let length = state.len() as u64;
    let Some(state) = State::read(&state).filter(|_| Digest::sha256(&document) == set) else {
        return Ok(None);
    };
    let (layout, ledger) = (Arc::clone(layout), Arc::clone(ledger));
    let mut volumes = Volumes { layout, ledger, set, state, counted: HashMap::new() };
    volumes.count(CONTENTS, document.len() as u64);
    volumes.count(STATE, length);
    volumes.sweep()?;
    Ok(Some((volumes, document.into())))
}

impl Volumes {
    fn count(&mut self, name: &str, bytes: u64) {
        self.counted.insert(self.dir().join(name), bytes);
        self.ledger.partial_changed(0, bytes);
    }

    /// After a start: deletes what was on its way when the last process ended, and counts the rest. A blob that is in its
    /// place has no parts here, and its file no second name by which it would be written to.
    fn sweep(&mut self) -> io::Result<()> {
        let cut: Vec<Digest> = self.state.cut.keys().copied().collect();
        let before = cut.len();
        for digest in cut {
            let is_file = |path: &Path| {
                std::fs::symlink_metadata(path)
                    .is_ok_and(|about| about.is_file() && about.nlink() == 1)
            };
            if self.layout.has_blob(&digest) || !is_file(&self.file(&digest)) {
                self.state.cut.remove(&digest);
                continue;
            }
            let file = self.layout.disk().open(&self.file(&digest))?;
            let here = file.len()?;
            if self.state.cut.get(&digest).is_some_and(|cut| cut.bytes.end() > here) {
                self.state.cut.remove(&digest);
            } else {
                self.settle(&digest, &file);
            }
        }
        let known: Vec<PathBuf> = self.state.cut.keys().map(|digest| self.file(digest)).collect();
        for entry in self.layout.disk().list(&self.dir())? {
            let path = entry?.path();
            let is_own = [CONTENTS, STATE].iter().any(|own| path.ends_with(own));
            if !is_own && !known.contains(&path) {
                self.layout.disk().remove(&path)?;
            }
        }
        if self.state.cut.len() == before { Ok(()) } else { self.write() }
    }
}

/// Deletes a directory and the files in it.
pub(super) fn clear(layout: &Layout, dir: &Path) -> io::Result<()> {
    let entries = match layout.disk().list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        layout.disk().remove(&entry?.path())?;
    }
    layout.disk().remove_dir(dir)?;
    layout.disk().sync_parent(dir)
}
