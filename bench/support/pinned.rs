//! Files that stay in memory: what a warm row serves is not to be fetched from a disk because others needed room.

use std::{fs::File, path::Path};

use memmap2::Mmap;

use super::Result;

/// A file all of whose pages stay in memory until this is dropped.
pub(crate) struct Pinned(Option<Mmap>);

impl Pinned {
    /// Maps the file and locks the pages; where that is not allowed (`RLIMIT_MEMLOCK`), nothing is pinned.
    #[expect(unsafe_code, reason = "a mapping is the only way to lock a file's pages")]
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        // SAFETY: bytes of a mapping may change when another writes to its file, which would break a reference to them.
        // Nobody gets one: the mapping is private to this type, which locks it and never reads from it; and the files are
        // of whole blobs, which no server here writes to again.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self(map.lock().is_ok().then_some(map)))
    }

    pub(crate) fn holds(&self) -> bool {
        self.0.is_some()
    }
}
