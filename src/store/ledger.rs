//! The account: how many bytes are kept, how many are promised to downloads, and how many there may be.
//!
//! It is filled by a count of the blobs' files, behind the start where there are many, and kept up with each file that
//! comes or goes. What is promised goes back when its [`Promise`] is dropped, whichever way a download ends.
//!
//! Long by its tests.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::watch;

use super::{
    budget::{Limits, Share, Usage},
    disk::{Space, is_damage},
    layout::Layout,
};
use crate::oci::{Algorithm, Digest};

/// The account of one cache directory.
#[derive(Debug)]
pub(super) struct Ledger {
    account: Mutex<Account>,
    /// Held while the file of a whole blob comes or goes, so that the account learns of it in the same order.
    files: Mutex<()>,
    condemned: Condemned,
    /// Held while the files are counted.
    counting: Mutex<()>,
    counted: watch::Sender<bool>,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct Account {
    limits: Limits,
    /// As the file system last said.
    space: Option<Space>,
    bytes: u64,
    blobs: u64,
    partial: u64,
    quarantined: u64,
    reserved: u64,
    /// While the files are counted: the lengths of those that came since that began; `None` for those that went.
    since: Option<HashMap<Digest, Option<u64>>>,
}

/// Blobs that are damaged, and that the disk did not let be put aside. They count as missing until a file comes to their
/// name, or the damaged one goes.
#[derive(Debug, Default)]
struct Condemned {
    /// Whether there may be any: almost never, and that costs no lock.
    any: AtomicBool,
    digests: Mutex<HashSet<Digest>>,
}

/// The file of a whole blob that comes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    /// How long it is in bytes.
    pub(super) size: u64,
    /// How many of these were an unfinished download's.
    pub(super) partial: u64,
}

/// Bytes that a download may write. When it is dropped, those that were not written are free for others.
#[derive(Debug)]
pub(super) struct Promise {
    ledger: Arc<Ledger>,
    left: u64,
}

/// Blobs that are remembered as damaged in their place. Of more than these, the next reading finds that out again.
const CONDEMNED_MAX: usize = 65_536;

impl Condemned {
    fn forget(&self, digest: &Digest) {
        if self.any.load(Ordering::Acquire) {
            let mut digests = self.lock();
            digests.remove(digest);
            self.any.store(!digests.is_empty(), Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// An account of which whole blobs are yet to be counted; the others are, which are few.
    pub(super) fn open(layout: &Layout, limits: Limits) -> Arc<Self> {
        let lengths = |dir: &Path| {
            let entries = layout.disk().list(dir).into_iter().flatten().filter_map(Result::ok);
            let files = entries.filter(|entry| {
                entry.path().extension().is_none_or(|extension| extension != "json")
            });
            files.filter_map(|file| Some(file.metadata().ok()?.len())).fold(0, u64::saturating_add)
        };
        let account = Account {
            limits,
            space: layout.space().ok(),
            partial: lengths(&layout.partials()),
            quarantined: lengths(&layout.quarantine_dir()),
            ..Account::default()
        };
        Arc::new(Self {
            account: Mutex::new(account),
            files: Mutex::default(),
            condemned: Condemned::default(),
            counting: Mutex::default(),
            counted: watch::Sender::new(false),
            stop: AtomicBool::new(false),
        })
    }

    /// Counts the files of whole blobs, unless there are more than `most`: whether it did. Blocks. Those that come and go
    /// meanwhile are counted right.
    pub(super) fn count(&self, layout: &Layout, most: usize) -> io::Result<bool> {
        let _counting = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let _files = self.files();
            self.account().since = Some(HashMap::new());
        }
        let seen = self.list(layout, most);
        let _files = self.files();
        let mut account = self.account();
        let since = account.since.take().unwrap_or_default();
        let Some(mut seen) = seen? else { return Ok(false) };
        let changed: HashSet<u64> = since.keys().map(short).collect();
        seen.retain(|(digest, _)| !changed.contains(digest));
        let lengths = seen.into_iter().map(|(_, len)| len).chain(since.into_values().flatten());
        let (bytes, blobs) =
            lengths.fold((0_u64, 0), |(bytes, blobs), len| (bytes.saturating_add(len), blobs + 1));
        let before = (account.bytes, account.blobs);
        (account.bytes, account.blobs) = (bytes, blobs);
        drop(account);
        if self.counted.send_replace(true) && before != (bytes, blobs) {
            tracing::warn!(bytes, blobs, ?before, "the account of the cache was wrong");
        }
        Ok(true)
    }

    /// The blobs' digests, [`short`], and their lengths.
    fn list(&self, layout: &Layout, most: usize) -> io::Result<Option<Vec<(u64, u64)>>> {
        let mut seen = Vec::new();
        for algorithm in Algorithm::ALL {
            for entry in layout.disk().list(&layout.blobs(algorithm))? {
                if seen.len() >= most || self.stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let entry = entry?;
                let Some(digest) = layout.named(algorithm, &entry.file_name()) else { continue };
                match entry.metadata() {
                    Ok(metadata) => seen.push((short(&digest), metadata.len())),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    // Neither a start nor the budget fails for one bad sector.
                    Err(error) if is_damage(&error) => {
                        tracing::warn!(%digest, %error, "a blob cannot be looked at, and is not counted");
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Some(seen))
    }

    /// Ends a count that runs.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Tells when the blobs were counted.
    pub(super) fn counted(&self) -> watch::Receiver<bool> {
        self.counted.subscribe()
    }

    pub(super) fn set_limits(&self, limits: Limits) {
        self.account().limits = limits;
    }

    /// What the file system now says of itself.
    pub(super) fn set_space(&self, space: Option<Space>) {
        self.account().space = space;
    }

    pub(super) fn usage(&self) -> Usage {
        self.account().usage()
    }

    /// Promises `wanted` bytes.
    ///
    /// # Errors
    /// How many bytes must go first.
    pub(super) fn promise(self: &Arc<Self>, wanted: u64) -> Result<Promise, u64> {
        let is_counted = *self.counted.borrow();
        let mut account = self.account();
        match account.missing(wanted, is_counted) {
            0 => {
                account.reserved = account.reserved.saturating_add(wanted);
                drop(account);
                Ok(Promise { ledger: Arc::clone(self), left: wanted })
            }
            missing => Err(missing),
        }
    }

    /// How many bytes must go for the budget to be met.
    pub(super) fn excess(&self) -> u64 {
        self.account().missing(0, *self.counted.borrow())
    }

    /// How many bytes are kept beyond the most that may be.
    pub(super) fn over(&self) -> u64 {
        let usage = self.usage();
        usage.bytes.saturating_add(usage.reserved).saturating_sub(usage.limit)
    }

    /// So many bytes that were kept went: whatever the file system says until it has noticed.
    pub(super) fn freed(&self, bytes: u64) {
        if let Some(space) = &mut self.account().space {
            space.free = space.free.saturating_add(bytes);
        }
    }

    /// Has the file of a whole blob come by `come`, which must replace what is there.
    pub(super) fn comes(
        &self,
        layout: &Layout,
        digest: &Digest,
        came: Came,
        come: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let Came { size, partial } = came;
        let _files = self.files();
        // Of what cannot be looked at, the next count knows.
        let before = layout.disk().len(&layout.blob(digest)).ok().flatten();
        come()?;
        self.condemned.forget(digest);
        let mut account = self.account();
        account.bytes = account.bytes.saturating_sub(before.unwrap_or(0)).saturating_add(size);
        account.blobs += u64::from(before.is_none());
        account.partial = account.partial.saturating_sub(partial);
        account.note(digest, Some(size));
        Ok(())
    }

    /// Has the file of a whole blob go by `go`: how long it was, if it was there.
    pub(super) fn goes(
        &self,
        layout: &Layout,
        digest: &Digest,
        go: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Option<u64>> {
        let _files = self.files();
        let Some(size) = layout.disk().len(&layout.blob(digest))? else { return Ok(None) };
        go()?;
        self.condemned.forget(digest);
        let mut account = self.account();
        account.bytes = account.bytes.saturating_sub(size);
        account.blobs = account.blobs.saturating_sub(1);
        account.note(digest, None);
        Ok(Some(size))
    }

    /// Has the file of a whole blob put aside by `put`, which tells how many bytes it holds and how many of what was aside
    /// before are gone; `None`, if it was not done.
    pub(super) fn puts_aside(
        &self,
        digest: &Digest,
        put: impl FnOnce() -> io::Result<Option<(u64, u64)>>,
    ) -> io::Result<bool> {
        let _files = self.files();
        let Some((size, before)) = put()? else { return Ok(false) };
        self.condemned.forget(digest);
        let mut account = self.account();
        account.bytes = account.bytes.saturating_sub(size);
        account.blobs = account.blobs.saturating_sub(1);
        account.quarantined = account.quarantined.saturating_sub(before).saturating_add(size);
        account.note(digest, None);
        Ok(true)
    }

    /// The damaged file of a blob stays under its name. To be called where the files are held.
    pub(super) fn condemn(&self, digest: &Digest) {
        let mut digests = self.condemned.lock();
        if digests.len() < CONDEMNED_MAX {
            digests.insert(*digest);
            self.condemned.any.store(true, Ordering::Release);
        }
    }

    /// Whether the file of the blob is known to be damaged.
    pub(super) fn is_condemned(&self, digest: &Digest) -> bool {
        self.condemned.any.load(Ordering::Acquire) && self.condemned.lock().contains(digest)
    }

    pub(super) fn condemned(&self) -> Vec<Digest> {
        self.condemned.lock().iter().copied().collect()
    }

    /// So many bytes of unfinished downloads are gone.
    pub(super) fn partial_shrank(&self, bytes: u64) {
        let mut account = self.account();
        account.partial = account.partial.saturating_sub(bytes);
    }

    /// An unfinished file that took `before` bytes takes `now`.
    pub(super) fn partial_changed(&self, before: u64, now: u64) {
        let mut account = self.account();
        account.partial = account.partial.saturating_add(now).saturating_sub(before);
    }

    /// So many bytes that were put aside are gone.
    pub(super) fn aside_went(&self, bytes: u64) {
        let mut account = self.account();
        account.quarantined = account.quarantined.saturating_sub(bytes);
    }

    fn files(&self) -> MutexGuard<'_, ()> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn usage(&self) -> Usage {
        let used = self.bytes.saturating_add(self.partial).saturating_add(self.quarantined);
        Usage {
            bytes: used,
            blobs: self.blobs,
            partial: self.partial,
            quarantined: self.quarantined,
            reserved: self.reserved,
            limit: self.share(self.limits.max_size, u64::MAX),
            free: self.space.map(|space| space.free),
            min_free: self.share(self.limits.min_free, 0),
        }
    }

    /// How many bytes must go before `wanted` more fit. Before the blobs are counted, the file system's free space alone
    /// decides.
    fn missing(&self, wanted: u64, is_counted: bool) -> u64 {
        let Usage { bytes, reserved, limit, free, min_free, .. } = self.usage();
        let promised = reserved.saturating_add(wanted);
        let over = bytes.saturating_add(promised).saturating_sub(limit);
        let short = free.map_or(0, |free| min_free.saturating_add(promised).saturating_sub(free));
        if is_counted { over.max(short) } else { short }
    }

    /// A share in bytes; `unknown` where it is a part of a file system that does not tell how large it is.
    fn share(&self, share: Share, unknown: u64) -> u64 {
        match (share, self.space) {
            (Share::Bytes(bytes), _) => bytes,
            (Share::Percent(percent), Some(space)) => {
                let bytes = u128::from(space.size) * u128::from(percent.min(100)) / 100;
                // At most the size.
                u64::try_from(bytes).unwrap_or(space.size)
            }
            (Share::Percent(_), None) => unknown,
        }
    }

    fn note(&mut self, digest: &Digest, size: Option<u64>) {
        if let Some(since) = &mut self.since {
            since.insert(*digest, size);
        }
    }
}

impl Promise {
    /// So many bytes were written: they are an unfinished download's now. Nobody sees them counted twice.
    pub(super) fn written(&mut self, bytes: u64) {
        self.spend(bytes, bytes);
    }

    fn spend(&mut self, bytes: u64, partial: u64) {
        let spent = bytes.min(self.left);
        self.left -= spent;
        let mut account = self.ledger.account();
        account.reserved = account.reserved.saturating_sub(spent);
        account.partial = account.partial.saturating_add(partial);
    }

    /// How many bytes may still be written.
    pub(super) const fn left(&self) -> u64 {
        self.left
    }

    /// Takes over what was promised besides.
    pub(super) fn join(&mut self, mut other: Self) {
        self.left = self.left.saturating_add(other.left);
        other.left = 0;
    }

    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.spend(self.left, 0);
    }
}

/// The first 8 bytes of a digest, by which millions of blobs are told apart in a few megabytes. Two of the same would be
/// counted as one until the next count.
fn short(digest: &Digest) -> u64 {
    digest.as_bytes().first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::Disk;

    fn ledger(limits: Limits) -> (tempfile::TempDir, Arc<Layout>, Arc<Ledger>) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let layout = Arc::new(Layout::open(dir.path(), Disk::default()).expect("a new directory"));
        let ledger = Ledger::open(&layout, limits);
        (dir, layout, ledger)
    }

    fn limits(max_size: u64) -> Limits {
        Limits { max_size: Share::Bytes(max_size), min_free: Share::Bytes(0) }
    }

    #[test]
    fn what_is_promised_goes_back_unless_it_is_written() {
        let (_dir, layout, ledger) = ledger(limits(100));
        assert!(ledger.count(&layout, 10).expect("counted"));
        let mut promise = ledger.promise(60).expect("room");
        assert_eq!(ledger.promise(41).map(drop), Err(1));
        promise.written(50);
        assert_eq!((ledger.usage().bytes, ledger.usage().reserved), (50, 10));
        promise.join(ledger.promise(40).expect("room"));
        assert_eq!((promise.left(), ledger.usage().reserved), (50, 50));
        promise.spend(u64::MAX, 0);
        assert_eq!(ledger.usage().reserved, 0);
        drop(promise);
        assert_eq!(ledger.usage().reserved, 0);
        assert_eq!(ledger.promise(u64::MAX).map(drop), Err(u64::MAX - 100));
    }

    #[test]
    fn free_space_and_parts_of_a_file_system() {
        let (_dir, layout, ledger) =
            ledger(Limits { max_size: Share::Percent(50), min_free: Share::Percent(10) });
        ledger.set_space(Some(Space { size: 1000, free: 300 }));
        assert_eq!((ledger.usage().limit, ledger.usage().min_free), (500, 100));
        assert_eq!(ledger.promise(201).map(drop), Err(1), "also before the blobs are counted");
        assert!(ledger.count(&layout, 10).expect("counted"));
        let promise = ledger.promise(150).expect("room");
        assert_eq!(ledger.promise(51).map(drop), Err(1), "what is promised is as good as written");
        drop(promise);
        ledger.set_space(Some(Space { size: u64::MAX, free: u64::MAX }));
        assert_eq!(ledger.usage().limit, u64::MAX / 2);
        ledger.set_space(None);
        assert_eq!((ledger.usage().limit, ledger.usage().min_free), (u64::MAX, 0));
        assert_eq!(ledger.excess(), 0);
    }

    #[test]
    fn blobs_that_come_and_go_under_a_count_are_counted_right() {
        let (_dir, layout, ledger) = ledger(limits(1000));
        let digests: Vec<Digest> = (0..5_u8).map(|n| Digest::sha256(&[n])).collect();
        let write = |digest: &Digest, len: usize| {
            let path = layout.blob(digest);
            let came = Came { size: len as u64, partial: 0 };
            ledger.comes(&layout, digest, came, || std::fs::write(path, vec![0; len]))
        };
        for digest in &digests[..3] {
            write(digest, 10).expect("written");
        }
        assert!(!ledger.count(&layout, 2).expect("looked"), "there are more");
        ledger.account().since = Some(HashMap::new());
        let seen = ledger.list(&layout, 10).expect("listed").expect("all");
        assert_eq!(seen.len(), 3);
        write(&digests[3], 7).expect("written");
        write(&digests[0], 20).expect("written");
        let gone = |digest: &Digest| {
            ledger.goes(&layout, digest, || std::fs::remove_file(layout.blob(digest)))
        };
        assert_eq!(gone(&digests[1]).expect("removed"), Some(10));
        assert_eq!(gone(&digests[4]).expect("looked"), None);
        let usage = ledger.usage();
        assert_eq!((usage.bytes, usage.blobs), (37, 3));
        assert!(ledger.count(&layout, 10).expect("counted"));
        assert_eq!(ledger.usage(), usage);
    }
}
