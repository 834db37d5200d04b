//! What must not go just now: blobs that somebody holds, and those that came to be named since an eviction began.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::oci::Digest;

/// Digests remembered while an eviction runs; with more, it gives up.
const TOUCHED_MAX: usize = 100_000;

/// What is held and touched. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Holds(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    held: HashMap<Digest, usize>,
    /// What was kept, taken or named since the eviction that runs began.
    touched: Option<Touched>,
}

#[derive(Debug, Default)]
struct Touched {
    digests: HashSet<Digest>,
    /// More than is remembered.
    all: bool,
}

/// Keeps a digest, and the images that lead to it, from eviction until it is dropped.
#[derive(Debug)]
pub struct Held {
    digest: Digest,
    holds: Holds,
}

/// [`Held`] for many digests.
#[derive(Debug)]
pub struct AllHeld {
    digests: Vec<Digest>,
    holds: Holds,
}

/// An eviction runs, until this is dropped.
#[derive(Debug)]
pub(super) struct Watching(Holds);

impl Holds {
    pub(super) fn hold(&self, digest: &Digest) -> Held {
        *self.lock().held.entry(*digest).or_default() += 1;
        Held { digest: *digest, holds: self.clone() }
    }

    pub(super) fn hold_all(&self, digests: Vec<Digest>) -> AllHeld {
        let mut state = self.lock();
        for digest in &digests {
            *state.held.entry(*digest).or_default() += 1;
        }
        drop(state);
        AllHeld { digests, holds: self.clone() }
    }

    /// Something is about to refer to these.
    pub(super) fn touch<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) {
        if let Some(touched) = &mut self.lock().touched {
            touched.digests.extend(digests);
            touched.all |= touched.digests.len() > TOUCHED_MAX;
        }
    }

    /// Remembers what is touched from now on.
    pub(super) fn watch(&self) -> Watching {
        self.lock().touched = Some(Touched::default());
        Watching(self.clone())
    }

    /// All that is held now.
    pub(super) fn held(&self) -> HashSet<Digest> {
        self.lock().held.keys().copied().collect()
    }

    /// Whether it is held now.
    pub(super) fn is_held(&self, digest: &Digest) -> bool {
        self.lock().held.contains_key(digest)
    }

    /// Whether it was touched since the eviction that runs began.
    pub(super) fn is_touched(&self, digest: &Digest) -> bool {
        let state = self.lock();
        let touched = state.touched.as_ref();
        touched.is_some_and(|touched| touched.all || touched.digests.contains(digest))
    }

    /// Does `remove` unless the digest is held or was touched. Nobody comes to hold or touch it meanwhile: who does so
    /// afterwards sees that it is gone. `remove` must not take long.
    pub(super) fn unless_wanted<T>(
        &self,
        digest: &Digest,
        remove: impl FnOnce() -> T,
    ) -> Option<T> {
        let state = self.lock();
        let touched = state.touched.as_ref();
        let is_touched =
            touched.is_some_and(|touched| touched.all || touched.digests.contains(digest));
        (!is_touched && !state.held.contains_key(digest)).then(remove)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn release(&mut self, digest: &Digest) {
        if let Some(count) = self.held.get_mut(digest) {
            *count -= 1;
            if *count == 0 {
                self.held.remove(digest);
            }
        }
    }
}

impl AllHeld {
    /// How many digests are held by it.
    pub fn count(&self) -> usize {
        self.digests.len()
    }

    /// Which.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.holds.lock().release(&self.digest);
    }
}

impl Drop for AllHeld {
    fn drop(&mut self) {
        let mut state = self.holds.lock();
        self.digests.iter().for_each(|digest| state.release(digest));
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.lock().touched = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_or_touched_stays() {
        let holds = Holds::default();
        let [first, second] = [b"1", b"2"].map(|bytes| Digest::sha256(bytes));
        let (once, twice) = (holds.hold(&first), holds.hold(&first));
        drop(once);
        assert!(holds.is_held(&first) && holds.unless_wanted(&first, || ()).is_none());
        drop(twice);
        assert!(holds.held().is_empty() && holds.unless_wanted(&first, || ()).is_some());
        holds.touch([&second]);
        assert!(!holds.is_touched(&second), "no eviction runs");
        let watching = holds.watch();
        holds.touch([&second]);
        assert!(holds.is_touched(&second) && holds.unless_wanted(&second, || ()).is_none());
        assert!(holds.unless_wanted(&first, || ()).is_some());
        drop(watching);
        assert!(holds.unless_wanted(&second, || ()).is_some());
        let (all, one) = (holds.hold_all(vec![first, second]), holds.hold(&second));
        assert_eq!(all.count(), 2);
        drop(all);
        assert!(!holds.is_held(&first) && holds.is_held(&second));
        drop(one);
        assert!(holds.held().is_empty());
    }
}
