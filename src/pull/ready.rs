//! Answers that can be given again: what is asked for again and again takes one look-up, and no other is made for it.
//!
//! Nothing here is ever told to forget one answer. What was found holds as long as nothing has changed since, neither in the
//! tables nor in what registries said of tags; a tag's, no longer than its registry's word.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use foldhash::quality::RandomState;
use tokio::time::Instant;

use super::{Inner, ManifestAnswer, Outcome};
use crate::{
    lately::Lately,
    oci::{Descriptor, Platform, Reference, Repository, Rules},
    on_demand::OnDemand,
    store::Listed,
};

/// Memory for them, in bytes; the documents are the same that the store has in memory, as a rule.
const READY_BYTES: u64 = 4 * 1024 * 1024;

/// How often, at the least, it is looked up whether all is here of an image that is asked for again and again.
const AHEAD_SECONDS: u64 = 60;

/// Bytes of one, besides its document.
const READY_OVERHEAD: usize = 512;

/// Of those, the ones asked for last are looked up first in places of their own: so many, of 64 KiB each at most.
const LAST: usize = 64;

/// Manifests that were answered as they are kept, by what they were asked for.
#[derive(Debug)]
pub(super) struct Ready {
    last: Lately<Name, Arc<Found>>,
    all: OnDemand<Name, Arc<Found>, RandomState>,
}

type Name = (Repository, Reference);

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
    /// The last second since 1970 in which it was written down that it was pulled.
    noted: AtomicU64,
    ahead: Mutex<Option<Ahead>>,
}

/// What was found to be all here of an image.
#[derive(Debug, PartialEq, Eq)]
struct Ahead {
    platform: Option<Platform>,
    rules: Rules,
    /// Of what is known to be complete.
    edition: u64,
    /// Of [`AHEAD_SECONDS`] since 1970.
    period: u64,
}

/// How often the tables changed, and what is known of tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Editions {
    tables: u64,
    tags: u64,
}

impl Default for Ready {
    fn default() -> Self {
        let weigh = |_: &Name, found: &Arc<Found>| {
            u32::try_from(READY_OVERHEAD + found.bytes.len()).unwrap_or(u32::MAX)
        };
        Self { last: Lately::new(LAST), all: OnDemand::weighing(READY_BYTES, weigh) }
    }
}

impl Found {
    /// The same answer once more.
    pub(super) fn answer(self: &Arc<Self>) -> ManifestAnswer {
        let bytes = Some(self.bytes.clone());
        let answer = ManifestAnswer::new(self.descriptor.clone(), bytes, Outcome::Hit);
        ManifestAnswer { found: Some(Arc::clone(self)), ..answer }
    }

    /// Whether this second is the first in which it is pulled.
    pub(super) fn is_first_in(&self, second: u64) -> bool {
        self.noted.swap(second, Ordering::Relaxed) != second
    }

    /// Whether all that is fetched ahead of the image is known to be here, at this `second`. Nobody waits for others who ask.
    pub(super) fn is_all_here(
        &self,
        platform: Option<&Platform>,
        rules: Rules,
        edition: u64,
        second: u64,
    ) -> bool {
        let Ok(known) = self.ahead.try_lock() else { return false };
        known.as_ref().is_some_and(|known| {
            (known.rules, known.edition, known.period) == (rules, edition, second / AHEAD_SECONDS)
                && known.platform.as_ref() == platform
        })
    }

    /// It was looked up, and is.
    pub(super) fn all_is_here(
        &self,
        platform: Option<Platform>,
        rules: Rules,
        edition: u64,
        second: u64,
    ) {
        if let Ok(mut known) = self.ahead.try_lock() {
            *known = Some(Ahead { platform, rules, edition, period: second / AHEAD_SECONDS });
        }
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
        let holds = |found: &Arc<Found>| {
            found.editions == editions && found.until.is_none_or(|until| self.clock.now() < until)
        };
        let is_it = |known: &Name| known.0 == *repository && known.1 == *reference;
        let last = self.ready.last.find(&(repository, reference), is_it);
        if let Some(last) = last.filter(holds) {
            return Some(last);
        }
        let name = (repository.clone(), reference.clone());
        let found = self.ready.all.get(&name).filter(holds)?;
        self.ready.last.put(name, Arc::clone(&found));
        Some(found)
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
        let (noted, ahead) = (AtomicU64::new(0), Mutex::default());
        let found = Arc::new(Found { editions, until, descriptor, bytes, listed, noted, ahead });
        let name = (repository.clone(), reference.clone());
        self.ready.last.put(name.clone(), Arc::clone(&found));
        self.ready.all.insert(name, found);
    }
}
