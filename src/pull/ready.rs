//! Answers that can be given again: what is asked for again and again takes one look-up, and no other is made for it.
//!
//! Nothing here is ever told to forget one answer. What was found holds as long as nothing has changed since, neither in the
//! tables nor in what registries said of tags; a tag's, no longer than its registry's word.

use std::sync::Arc;

use bytes::Bytes;
use moka::sync::Cache;
use tokio::time::Instant;

use super::{Inner, ManifestAnswer, Outcome};
use crate::{
    oci::{Descriptor, Reference, Repository},
    store::Listed,
};

/// Memory for them, in bytes; the documents are the same that the store has in memory, as a rule.
const READY_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes of one, besides its document.
const READY_OVERHEAD: usize = 512;

/// Manifests that were answered as they are kept, by what they were asked for.
#[derive(Debug)]
pub(super) struct Ready(Cache<(Repository, Reference), Arc<Found>>);

/// What was answered from the cache, and of when.
#[derive(Debug)]
pub(super) struct Found {
    editions: Editions,
    /// For a tag: until when its registry need not be asked what it means.
    until: Option<Instant>,
    pub(super) descriptor: Descriptor,
    bytes: Bytes,
    /// How an index lists it.
    pub(super) listed: Option<Listed>,
}

/// How often the tables changed, and what is known of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Editions {
    tables: u64,
    tags: u64,
}

impl Default for Ready {
    fn default() -> Self {
        let weigh = |_: &(Repository, Reference), found: &Arc<Found>| {
            u32::try_from(READY_OVERHEAD + found.bytes.len()).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(READY_BYTES).weigher(weigh).build())
    }
}

impl Found {
    /// The same answer once more.
    pub(super) fn answer(self: &Arc<Self>) -> ManifestAnswer {
        let bytes = Some(self.bytes.clone());
        let answer = ManifestAnswer::new(self.descriptor.clone(), bytes, Outcome::Hit);
        ManifestAnswer { found: Some(Arc::clone(self)), ..answer }
    }
}

impl Inner {
    /// To be called before anything is looked at that is to be [found](Self::found) again: what changes meanwhile makes it
    /// old.
    pub(super) fn editions(&self) -> Editions {
        Editions { tables: self.store.edition(), tags: self.freshness.edition() }
    }

    /// What `reference` was found to be, if that holds.
    pub(super) fn ready(
        &self,
        repository: &Repository,
        reference: &Reference,
        editions: Editions,
    ) -> Option<Arc<Found>> {
        let found = self.ready.0.get(&(repository.clone(), reference.clone()))?;
        let holds =
            found.editions == editions && found.until.is_none_or(|until| self.clock.now() < until);
        holds.then_some(found)
    }

    /// `answer` was given to `reference`, from what was looked at since there were these `editions`.
    ///
    /// Remembered is only what every client that gets as far is answered: what the repository itself has, whole and small.
    pub(super) fn found(
        &self,
        repository: &Repository,
        reference: &Reference,
        answer: &ManifestAnswer,
        editions: Editions,
    ) {
        let ManifestAnswer { descriptor, bytes: Some(bytes), outcome: Outcome::Hit, .. } = answer
        else {
            return;
        };
        if self.is_composed(repository) || self.upstreams.documents().count(bytes.len()) {
            return;
        }
        let until = match reference {
            Reference::Tag(tag) => {
                // One whose name was removed is to be given it again by whoever asks next.
                let named = self.store.tag(repository, tag);
                let is_named = named.is_some_and(|(meant, _)| meant.digest == descriptor.digest);
                match self.freshness.confirmed_until(repository, tag, &descriptor.digest) {
                    Some(until) if is_named => Some(until),
                    _ => return,
                }
            }
            Reference::Digest(_) => None,
        };
        let Some(shown) = self.store.shown(repository, &descriptor.digest) else { return };
        if !shown.is_taken {
            return;
        }
        let (descriptor, bytes, listed) = (descriptor.clone(), bytes.clone(), shown.listed.clone());
        let found = Found { editions, until, descriptor, bytes, listed };
        self.ready.0.insert((repository.clone(), reference.clone()), Arc::new(found));
    }
}
