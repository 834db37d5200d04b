//! [`OnDemand`]: a cache that takes no memory before something is put into it.

use std::{
    any::Any,
    borrow::Borrow,
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{Arc, OnceLock},
    time::Duration,
};

use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache};

/// A bounded cache, moka's, that is made when something is first put into it.
///
/// An empty one takes 28 KiB, most of it for two queues of 384 places (moka 0.12.16, by Valgrind's DHAT), and wharf has more
/// than twenty, of which a site without composed images, accounts of clients or damage fills a few. And each kind of key and
/// value would be some 90 KiB of program: here there is one kind for each hasher, and what keys and values are is found out
/// when they are read.
pub struct OnDemand<K, V, S = RandomState> {
    made: OnceLock<Cache<AnyKey, AnyValue, S>>,
    most: u64,
    weigh: Option<fn(&K, &V) -> u32>,
    time_to_live: Option<Duration>,
    /// Instead of moka's own, which looks at how often something is asked for as well.
    least_recently_used: bool,
    pushed_out: Option<Arc<dyn Fn() + Send + Sync>>,
}

type AnyValue = Arc<dyn Any + Send + Sync>;

/// A key of whatever kind.
struct AnyKey(Box<dyn Key>);

/// What keys of all kinds can do. In one cache all are of one kind.
trait Key: Any + Send + Sync {
    fn hash_into(&self, hasher: &mut dyn Hasher);

    fn equals(&self, other: &dyn Key) -> bool;

    fn as_any(&self) -> &dyn Any;
}

impl<K, V, S> OnDemand<K, V, S>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Default + Send + Sync + 'static,
{
    /// Room for so many.
    pub fn new(most: u64) -> Self {
        Self {
            made: OnceLock::new(),
            most,
            weigh: None,
            time_to_live: None,
            least_recently_used: false,
            pushed_out: None,
        }
    }

    /// Room for what weighs so much, each as `weigh` says.
    pub fn weighing(most: u64, weigh: fn(&K, &V) -> u32) -> Self {
        Self { weigh: Some(weigh), ..Self::new(most) }
    }

    /// What was put in so long ago is gone.
    pub fn for_as_long_as(self, time_to_live: Duration) -> Self {
        Self { time_to_live: Some(time_to_live), ..self }
    }

    /// When it is full, what was not used for longest makes room.
    pub fn least_recently_used(self) -> Self {
        Self { least_recently_used: true, ..self }
    }

    /// Calls `pushed_out` for each that there is no room for, be it one that was there or the one that was just put in.
    pub fn telling(self, pushed_out: impl Fn() + Send + Sync + 'static) -> Self {
        Self { pushed_out: Some(Arc::new(pushed_out)), ..self }
    }

    /// What is kept under `key`; it counts as used.
    pub fn get(&self, key: &K) -> Option<V> {
        self.made.get()?.get(key as &dyn Key)?.downcast_ref().cloned()
    }

    /// Whether something is kept under `key`; it does not count as used.
    pub fn contains_key(&self, key: &K) -> bool {
        self.made.get().is_some_and(|cache| cache.contains_key(key as &dyn Key))
    }

    /// Keeps `value`.
    pub fn insert(&self, key: K, value: V) {
        self.made().insert(AnyKey(Box::new(key)), Arc::new(value));
    }

    /// Keeps `value` unless something is kept under `key`, which then counts as used. What another puts in at the same moment
    /// may be lost.
    pub fn insert_if_new(&self, key: K, value: V) {
        self.made().entry(AnyKey(Box::new(key))).or_insert(Arc::new(value));
    }

    /// Takes out what is kept under `key`.
    pub fn remove(&self, key: &K) -> Option<V> {
        self.made.get()?.remove(key as &dyn Key)?.downcast_ref().cloned()
    }

    /// Drops what is kept under `key`.
    pub fn invalidate(&self, key: &K) {
        if let Some(cache) = self.made.get() {
            cache.invalidate(key as &dyn Key);
        }
    }

    /// Drops everything.
    pub fn invalidate_all(&self) {
        if let Some(cache) = self.made.get() {
            cache.invalidate_all();
        }
    }

    /// All that is kept, in no order.
    pub fn all(&self) -> Vec<(K, V)>
    where
        K: Clone,
    {
        let all = self.made.get().into_iter().flatten();
        all.filter_map(|(key, value)| {
            Some((key.of::<K>()?.clone(), value.downcast_ref::<V>()?.clone()))
        })
        .collect()
    }

    /// Does at once what is done now and then behind what is asked: drops what there is no room for, and what is too old. How
    /// many are left.
    pub fn settle(&self) -> u64 {
        self.made.get().map_or(0, |cache| {
            cache.run_pending_tasks();
            cache.entry_count()
        })
    }

    fn made(&self) -> &Cache<AnyKey, AnyValue, S> {
        self.made.get_or_init(|| {
            let mut cache = Cache::builder().max_capacity(self.most);
            if let Some(time_to_live) = self.time_to_live {
                cache = cache.time_to_live(time_to_live);
            }
            if self.least_recently_used {
                cache = cache.eviction_policy(EvictionPolicy::lru());
            }
            if let Some(weigh) = self.weigh {
                cache = cache.weigher(move |key: &AnyKey, value: &AnyValue| {
                    let pair = key.of().zip(value.downcast_ref());
                    pair.map_or(u32::MAX, |(key, value)| weigh(key, value))
                });
            }
            if let Some(pushed_out) = self.pushed_out.clone() {
                cache = cache.eviction_listener(move |_, _, cause| {
                    if cause == RemovalCause::Size {
                        pushed_out();
                    }
                });
            }
            cache.build_with_hasher(S::default())
        })
    }
}

impl<K, V, S> fmt::Debug for OnDemand<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnDemand")
            .field("is_made", &self.made.get().is_some())
            .finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Send + Sync + 'static> Key for K {
    fn hash_into(&self, mut hasher: &mut dyn Hasher) {
        self.hash(&mut hasher);
    }

    fn equals(&self, other: &dyn Key) -> bool {
        other.as_any().downcast_ref::<K>() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Hash for dyn Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash_into(state);
    }
}

impl PartialEq for dyn Key {
    fn eq(&self, other: &Self) -> bool {
        self.equals(other)
    }
}

impl Eq for dyn Key {}

impl AnyKey {
    fn of<K: 'static>(&self) -> Option<&K> {
        self.key().as_any().downcast_ref()
    }

    /// The key itself: the box that it lies in could be a key as well.
    fn key(&self) -> &dyn Key {
        &*self.0
    }
}

impl Hash for AnyKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialEq for AnyKey {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for AnyKey {}

impl Borrow<dyn Key> for AnyKey {
    fn borrow(&self) -> &dyn Key {
        self.key()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn a_cache_is_made_when_something_is_put_in_and_not_before() {
        let cache = OnDemand::<u8, u8>::new(10);
        assert_eq!((cache.get(&1), cache.remove(&1), cache.contains_key(&1)), (None, None, false));
        cache.invalidate(&1);
        cache.invalidate_all();
        assert_eq!((cache.all(), cache.settle()), (vec![], 0));
        assert!(cache.made.get().is_none());
        cache.insert(1, 2);
        assert!(cache.made.get().is_some());
    }

    #[test]
    fn what_is_put_in_is_found_by_its_key_alone() {
        let cache = OnDemand::<(String, u8), Vec<u8>>::new(10);
        let key = |name: &str, number| (name.to_owned(), number);
        cache.insert(key("a", 1), vec![1]);
        cache.insert(key("a", 2), vec![2]);
        cache.insert_if_new(key("a", 2), vec![3]);
        cache.insert_if_new(key("b", 1), vec![4]);
        let found = [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
            .map(|(name, number)| cache.get(&key(name, number)));
        assert_eq!(found, [Some(vec![1]), Some(vec![2]), Some(vec![4]), None]);
        assert!(cache.contains_key(&key("a", 1)) && !cache.contains_key(&key("b", 2)));
        assert_eq!(cache.remove(&key("a", 1)), Some(vec![1]));
        cache.invalidate(&key("a", 2));
        assert_eq!(cache.all(), [(key("b", 1), vec![4])]);
        cache.invalidate_all();
        assert_eq!(cache.get(&key("b", 1)), None);
    }

    #[test]
    fn there_is_room_for_so_many_or_so_much_and_what_makes_room_is_told_of() {
        let pushed_out = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&pushed_out);
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        let many = OnDemand::<u32, u32>::new(10).least_recently_used().telling(count);
        (0..100).for_each(|n| many.insert(n, n));
        assert_eq!((many.settle(), pushed_out.load(Ordering::Relaxed)), (10, 90));
        let much = OnDemand::<u32, u32>::weighing(100, |_, weight| *weight);
        (0..100).for_each(|n| much.insert(n, 30));
        assert_eq!(much.settle(), 3);
    }

    #[test]
    fn what_was_put_in_too_long_ago_is_gone() {
        let cache = OnDemand::<u8, u8>::new(10).for_as_long_as(Duration::from_nanos(1));
        cache.insert(1, 1);
        // moka's clock is its own: it need only have ticked.
        while cache.get(&1).is_some() {
            std::hint::spin_loop();
        }
        assert_eq!(cache.settle(), 0);
    }
}
