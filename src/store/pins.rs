//! Which images stay because the configuration says so.

use std::sync::{PoisonError, atomic::Ordering};

use super::Store;
use crate::oci::{Reference, Repository, Tag};

impl Store {
    /// Changes which images stay because the configuration says so, whether they are kept yet or not.
    pub fn set_pinned(&self, pinned: Vec<(Repository, Tag)>) {
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = pinned;
        self.pins.fetch_add(1, Ordering::Relaxed);
    }

    /// All of them.
    pub(super) fn pinned_by_configuration(&self) -> Vec<(Repository, Tag)> {
        self.pinned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the configuration says that this image stays: what [`Store::pin`] cannot change.
    pub fn is_pinned_by_configuration(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> bool {
        let Reference::Tag(tag) = reference else { return false };
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.iter().any(|pin| (&pin.0, &pin.1) == (repository, tag))
    }
}
