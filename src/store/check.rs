//! Blobs that are looked at again: whether they are still what their name says, and what is done with those that are not.

use super::{Error, Store};
use crate::oci::Digest;

/// What became of a kept blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It is not kept.
    Missing,
    /// It is what its name says, and so many bytes long.
    Right(u64),
    /// It is not; it is so many bytes long.
    Wrong {
        /// Its length on disk in bytes.
        size: u64,
        /// What is wrong with it, in a few words.
        why: String,
    },
}

impl Store {
    /// Up to `n` kept blobs that come after `last` in the order of their digests, and how long they are on disk in bytes.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn blobs_after(
        &self,
        last: Option<&Digest>,
        n: usize,
    ) -> Result<Vec<(Digest, u64)>, Error> {
        let _ = (last, n);
        Ok(Vec::new())
    }

    /// Reads a kept blob and compares it with its name. `pace` is told after each piece how many bytes were read, and
    /// waited for.
    ///
    /// # Errors
    /// When the daemon is ending. A blob that cannot be read is a wrong one.
    pub async fn check(
        &self,
        digest: &Digest,
        pace: impl AsyncFnMut(u64),
    ) -> Result<Checked, Error> {
        let _ = (digest, pace);
        Ok(Checked::Missing)
    }

    /// Puts a kept blob aside, for its operator to look at: it counts as missing from now on. Whether it was there.
    ///
    /// # Errors
    /// When the disk does not do it.
    pub async fn quarantine(&self, digest: &Digest, why: &str) -> Result<bool, Error> {
        let _ = (digest, why);
        Ok(false)
    }

    /// The blobs that were put aside and are missing still.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn quarantined(&self) -> Result<Vec<Digest>, Error> {
        Ok(Vec::new())
    }
}
