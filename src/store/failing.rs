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
    pub async fn try_again(&self) {
        if self.failing().is_none() {
            return;
        }
        let layout = Arc::clone(&self.layout);
        let tried = spawn_blocking(move || layout.try_write(&vec![0; TRIAL_BYTES])).await;
        if let Ok(Ok(())) = tried {
            self.worked(Write::Blob);
        }
    }

    /// Why the last write failed; `None` while writes succeed.
    pub fn failing(&self) -> Option<String> {
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        failing.as_ref().map(|(_, why)| why.clone())
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
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.is_none() {
            tracing::error!(%error, "the cache does not take writes; pulls go on as relays");
        }
        let greatest = failing.as_ref().map_or(write, |(failed, _)| write.max(*failed));
        *failing = Some((greatest, error.to_string()));
    }
}
