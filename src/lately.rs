//! [`Lately`]: what was made lately of what comes again and again, so that it need not be made anew.

use std::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher, Hash},
    sync::Mutex,
};

use foldhash::quality::RandomState;

/// A place for each of so many keys; a newer one takes the place of another. Of values that follow from their keys alone.
///
/// Nobody waits here: a place that is in use is none, and its value is made anew.
pub struct Lately<K, V> {
    places: Box<[Place<K, V>]>,
    hasher: RandomState,
}

type Place<K, V> = Mutex<Option<(K, V)>>;

impl<K, V> fmt::Debug for Lately<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lately").field("places", &self.places.len()).finish_non_exhaustive()
    }
}

impl<K: Hash + Eq, V: Clone> Lately<K, V> {
    /// `count` places, at least one.
    pub fn new(count: usize) -> Self {
        let places = (0..count.max(1)).map(|_| Mutex::default()).collect();
        Self { places, hasher: RandomState::default() }
    }

    /// What was made of `key`, if it has its place.
    pub fn get<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.find(key, |known| known.borrow() == key)
    }

    /// The same of a key that is not at hand as such: of what has the same hash as the key, and how it is told.
    pub fn find(&self, hash: &(impl Hash + ?Sized), is_it: impl FnOnce(&K) -> bool) -> Option<V> {
        let place = self.place(hash).try_lock().ok()?;
        let (known, value) = place.as_ref()?;
        is_it(known).then(|| value.clone())
    }

    /// Remembers what was made of `key`.
    pub fn put(&self, key: K, value: V) {
        if let Ok(mut place) = self.place(&key).try_lock() {
            *place = Some((key, value));
        }
    }

    fn place<Q: Hash + ?Sized>(&self, key: &Q) -> &Place<K, V> {
        let at = self.hasher.hash_one(key) % self.places.len() as u64;
        &self.places[at as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_of_its_key_and_bounded() {
        let lately = Lately::<Box<str>, usize>::new(8);
        let key = |n: usize| n.to_string();
        for n in 0..1000 {
            lately.put(key(n).into(), n);
            assert_eq!(lately.get(&*key(n)), Some(n));
        }
        let known: Vec<_> = (0..1000).filter_map(|n| Some((n, lately.get(&*key(n))?))).collect();
        assert!((1..=8).contains(&known.len()) && known.iter().all(|(n, value)| n == value));
    }

    #[test]
    fn nobody_waits_for_a_place() {
        let lately = Lately::<Box<str>, usize>::new(1);
        lately.put("a".into(), 1);
        let held = lately.places[0].lock().expect("whole");
        assert_eq!(lately.get("a"), None);
        lately.put("b".into(), 2);
        drop(held);
        assert_eq!((lately.get("a"), lately.get("b")), (Some(1), None));
    }
}
