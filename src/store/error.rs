//! Why the store could not do its part.

use std::{io, path::PathBuf, sync::Arc};

use crate::oci::Digest;

/// Why the store could not do its part.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The daemon is shutting down.
    #[error("the cache is being closed")]
    Closed,
    /// A kept blob is not what its name says, or the disk does not give it; it is put aside, if the disk let it be.
    #[error("the kept blob {digest} is damaged: {why}")]
    Damaged {
        /// Its name.
        digest: Digest,
        /// What is wrong with it, in a few words.
        why: String,
    },
    /// Another process holds the lock.
    #[error(
        "{dir:?} is in use by another wharf; stop it, or give this one a directory of its own with --dir"
    )]
    InUse {
        /// The cache directory.
        dir: PathBuf,
    },
    /// The look-up tables failed.
    #[error("the look-up tables failed: {0}")]
    Index(String),
    /// What was to be taken into use was removed a moment ago.
    #[error("it was removed from the cache a moment ago")]
    Gone,
    /// There is no room, whatever is evicted.
    #[error("{wanted} bytes have no room in the cache ([cache] max_size and min_free)")]
    NoRoom {
        /// How many bytes were to be written.
        wanted: u64,
    },
    /// The directory cannot be used.
    #[error(
        "the cache directory {dir:?} cannot {what}: {source}; choose another with --dir or [cache] dir"
    )]
    Open {
        /// What was tried.
        what: &'static str,
        /// The cache directory.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A file could not be read.
    #[error("the cache could not be read: {0}")]
    Read(#[source] Arc<io::Error>),
    /// Written by a later wharf.
    #[error(
        "{dir:?} was written by another version of wharf (its form is {found:?}, this one knows \"1\" and \"2\"); use that version, or another --dir"
    )]
    Version {
        /// The cache directory.
        dir: PathBuf,
        /// What its version file says.
        found: String,
    },
    /// A write failed: disk full, read-only, failing.
    #[error("the cache could not be written: {0}")]
    Write(#[source] Arc<io::Error>),
}

impl Error {
    pub(super) fn read(source: io::Error) -> Self {
        Self::Read(Arc::new(source))
    }

    pub(super) fn write(source: io::Error) -> Self {
        Self::Write(Arc::new(source))
    }

    pub(super) fn join(error: tokio::task::JoinError) -> Self {
        Self::Read(Arc::new(io::Error::other(error)))
    }
}
