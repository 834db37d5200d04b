//! When images were last pulled, as long as that is in memory only.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use foldhash::quality::RandomState;

use super::Fact;
use crate::oci::{Digest, Repository};

/// Images whose pull is remembered until the next flush; more are forgotten.
const PULLED_MAX: usize = 10_000;

type Times = HashMap<(Repository, Digest), u64, RandomState>;

/// Times of pulls in seconds since 1970. Written by requests, emptied by the flush.
#[derive(Debug, Default)]
pub(super) struct Pulled(Mutex<Times>);

impl Pulled {
    /// The image was pulled at this time.
    pub(super) fn note(&self, repository: &Repository, manifest: &Digest, at: u64) {
        let mut times = self.lock();
        if times.len() < PULLED_MAX {
            times.insert((repository.clone(), *manifest), at);
        }
    }

    /// When the image was pulled, if that is not written down yet.
    pub(super) fn at(&self, repository: &Repository, manifest: &Digest) -> Option<u64> {
        self.lock().get(&(repository.clone(), *manifest)).copied()
    }

    /// All of it, to be written down.
    pub(super) fn facts(&self) -> Vec<Fact> {
        let times = self.lock();
        let fact = |((repository, manifest), at): (&(Repository, Digest), &u64)| Fact::Pulled {
            repository: repository.clone(),
            manifest: *manifest,
            at: *at,
        };
        times.iter().map(fact).collect()
    }

    /// Forgets what stands in `facts`, unless it was pulled again meanwhile.
    pub(super) fn forget(&self, facts: &[Fact]) {
        let mut times = self.lock();
        for fact in facts {
            let Fact::Pulled { repository, manifest, at } = fact else { continue };
            let key = (repository.clone(), *manifest);
            if times.get(&key) == Some(at) {
                times.remove(&key);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
