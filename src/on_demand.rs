//! [`OnDemand`]: a cache that takes no memory before something is put into it.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, OnceLock},
};

use moka::sync::Cache;

/// A cache that is made when something is first put into it.
///
/// One of moka's takes 28 KiB while it is empty, most of it for two queues of 384 places (moka 0.12.16, by Valgrind's DHAT),
/// and wharf has more than twenty, of which a site without composed images, accounts of clients or damage fills a few.
pub struct OnDemand<C> {
    made: OnceLock<C>,
    make: Box<dyn Fn() -> C + Send + Sync>,
}

/// One of those that never wait.
pub type OnDemandCache<K, V, S = RandomState> = OnDemand<Cache<K, V, S>>;

impl<C> OnDemand<C> {
    /// A cache that `make` makes, later.
    pub fn new(make: impl Fn() -> C + Send + Sync + 'static) -> Self {
        Self { made: OnceLock::new(), make: Box::new(make) }
    }

    /// The cache, to put something in.
    pub fn made(&self) -> &C {
        self.made.get_or_init(&self.make)
    }

    /// The cache, to look for what was put in; `None` when nothing ever was.
    pub fn filled(&self) -> Option<&C> {
        self.made.get()
    }
}

impl<K, V, S> OnDemandCache<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    /// What is kept under `key`; it counts as used.
    pub fn get(&self, key: &K) -> Option<V> {
        self.filled()?.get(key)
    }

    /// Whether something is kept under `key`; it does not count as used.
    pub fn contains_key(&self, key: &K) -> bool {
        self.filled().is_some_and(|cache| cache.contains_key(key))
    }

    /// Keeps `value`, and makes the cache if this is the first.
    pub fn insert(&self, key: K, value: V) {
        self.made().insert(key, value);
    }

    /// Takes out what is kept under `key`.
    pub fn remove(&self, key: &K) -> Option<V> {
        self.filled()?.remove(key)
    }

    /// Drops what is kept under `key`.
    pub fn invalidate(&self, key: &K) {
        if let Some(cache) = self.filled() {
            cache.invalidate(key);
        }
    }

    /// Drops everything.
    pub fn invalidate_all(&self) {
        if let Some(cache) = self.filled() {
            cache.invalidate_all();
        }
    }

    /// All that is kept, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Arc<K>, V)> + '_ {
        self.filled().into_iter().flat_map(Cache::iter)
    }
}

impl<C> fmt::Debug for OnDemand<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand").field("is_made", &self.made.get().is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_made_when_something_is_put_in_and_not_before() {
        let cache = OnDemand::new(|| Cache::<u8, u8>::new(10));
        assert_eq!((cache.get(&1), cache.remove(&1), cache.contains_key(&1)), (None, None, false));
        cache.invalidate(&1);
        cache.invalidate_all();
        assert_eq!(cache.iter().count(), 0);
        assert!(cache.filled().is_none());
        cache.insert(1, 2);
        assert!(cache.filled().is_some());
        assert_eq!((cache.get(&1), cache.contains_key(&1)), (Some(2), true));
        assert_eq!(cache.iter().map(|(key, value)| (*key, value)).collect::<Vec<_>>(), [(1, 2)]);
        assert_eq!((cache.remove(&1), cache.get(&1)), (Some(2), None));
        cache.insert(2, 3);
        cache.invalidate(&2);
        assert_eq!(cache.get(&2), None);
        cache.insert(3, 4);
        cache.invalidate_all();
        assert_eq!(cache.get(&3), None);
    }
}
