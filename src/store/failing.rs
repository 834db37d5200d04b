//! Whether the disk takes writes: told at once when it stops, and when it does again.

use std::sync::{Arc, PoisonError};

use tokio::task::spawn_blocking;

use super::{Error, Store};

/// Bytes that are written to see whether the disk is well again.
const TRIAL_BYTES: usize = 1024 * 1024;

/// What is written, by how much it takes: where a lesser thing fits, a greater one may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Write {
    /// A few bytes at the journal's end.
    Facts,
    /// A manifest or a list.
    Document,
    /// A blob, from its beginning to its commit.
    Blob,
}

impl Store {
    /// Notes that a blob could not be written, wherever that showed, for [`Store::failing`].
    pub fn blob_failed(&self, error: &Error) {
        self.failed(Write::Blob, error);
    }

    /// Notes that a blob was written as a whole. Its first pieces prove nothing: a full disk may take them.
    pub fn blob_kept(&self) {
        self.worked(Write::Blob);
    }

    /// While writes fail: tries one, so that [`Store::failing`] ends without a pull when the disk is well again.
    /// Whether writes succeed.
    pub async fn try_again(&self) -> bool {
        if self.failing().is_none() {
            return true;
        }
        if !self.disk_could_take(TRIAL_BYTES as u64).await {
            return false;
        }
        let layout = Arc::clone(&self.layout);
        let tried = spawn_blocking(move || layout.try_write(&vec![0; TRIAL_BYTES])).await;
        let works = matches!(tried, Ok(Ok(())));
        if works {
            self.worked(Write::Blob);
        }
        works
    }

    /// Why the last write failed; `None` while writes succeed.
    pub fn failing(&self) -> Option<String> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.as_ref().map(|(_, why)| why.clone())
    }

    /// Notes that the file system has no room for a blob that the budget would allow, whatever is evicted.
    pub(super) fn disk_is_full(&self, wanted: u64, free: u64, min_free: u64) {
        self.fails(
            Write::Blob,
            format!(
                "No space left for {wanted} bytes: the file system has {free} bytes free, of which [cache] min_free \
                 leaves {min_free} alone, and nothing that is kept makes room enough"
            ),
        );
    }

    pub(super) fn noted(&self, write: Write, written: Result<(), Error>) -> Result<(), Error> {
        match &written {
            Ok(()) => self.worked(write),
            Err(error) => self.failed(write, error),
        }
        written
    }

    fn worked(&self, write: Write) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.as_ref().is_some_and(|(failed, _)| *failed <= write) {
            tracing::info!("the cache takes writes again");
            *failing = None;
        }
    }

    fn failed(&self, write: Write, error: &Error) {
        self.fails(write, error.to_string());
    }

    fn fails(&self, write: Write, why: String) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.is_none() {
            tracing::error!(error = why, "the cache does not take writes; pulls go on as relays");
        }
        let greatest = failing.as_ref().map_or(write, |(failed, _)| write.max(*failed));
        *failing = Some((greatest, why));
    }
}
