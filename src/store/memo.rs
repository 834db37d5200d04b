//! Records of the look-up tables as they were last read and taken apart: what is asked for again and again is not to be
//! found, copied and parsed each time.
//!
//! Nothing here is ever told to forget one record. Each change of the tables begins a new edition, and what was read for an
//! older one counts no more.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use moka::sync::Cache;

use super::links::Listed;
use crate::oci::{Descriptor, Digest, Repository, Tag};

/// Records remembered of each kind, of some 300 bytes each.
const RECORDS_MAX: u64 = 2048;

/// What was read lately, and of which edition of the tables.
#[derive(Debug)]
pub(super) struct Memo {
    edition: AtomicU64,
    shown: Cache<(Repository, Digest), Read<Shown>>,
    tags: Cache<(Repository, Tag), Read<(Descriptor, u64)>>,
}

/// Something that was read, for one edition.
#[derive(Debug)]
struct Read<T>(u64, Arc<T>);

/// What the tables say of what a repository may show under a digest.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its type and length.
    pub link: Descriptor,
    /// Whether it is a manifest that was taken into the repository itself.
    pub is_taken: bool,
    /// How an index lists it.
    pub listed: Option<Listed>,
}

impl Memo {
    /// The tables were changed, all of them: nothing that was read before counts. To be called before anybody is told of the
    /// change.
    pub(super) fn changed(&self) {
        self.edition.fetch_add(1, Ordering::AcqRel);
    }

    /// What may be shown under a digest, by `read` if it was not read since the last change. What is not there is not
    /// remembered: clients could invent it without end.
    pub(super) fn shown(
        &self,
        repository: &Repository,
        digest: &Digest,
        read: impl FnOnce() -> Option<Shown>,
    ) -> Option<Arc<Shown>> {
        self.remembered(&self.shown, (repository.clone(), *digest), read)
    }

    /// What a tag means, and since when; likewise.
    pub(super) fn tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        read: impl FnOnce() -> Option<(Descriptor, u64)>,
    ) -> Option<Arc<(Descriptor, u64)>> {
        self.remembered(&self.tags, (repository.clone(), tag.clone()), read)
    }

    fn remembered<K: Hash + Eq + Send + Sync + 'static, T: Send + Sync + 'static>(
        &self,
        records: &Cache<K, Read<T>>,
        key: K,
        read: impl FnOnce() -> Option<T>,
    ) -> Option<Arc<T>> {
        // Before the look: what changes meanwhile makes it one of an older edition.
        let edition = self.edition.load(Ordering::Acquire);
        match records.get(&key) {
            Some(Read(of, found)) if of == edition => return Some(found),
            _ => {}
        }
        let found = Arc::new(read()?);
        records.insert(key, Read(edition, Arc::clone(&found)));
        Some(found)
    }
}

impl Default for Memo {
    fn default() -> Self {
        let (shown, tags) = (Cache::new(RECORDS_MAX), Cache::new(RECORDS_MAX));
        Self { edition: AtomicU64::new(0), shown, tags }
    }
}

impl<T> Clone for Read<T> {
    fn clone(&self) -> Self {
        Self(self.0, Arc::clone(&self.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::media_type;

    fn shown(size: u64) -> Option<Shown> {
        let media_type = media_type::OCI_MANIFEST.parse().expect("a media type");
        let link = Descriptor { media_type, digest: Digest::sha256(b"a"), size };
        Some(Shown { link, is_taken: true, listed: None })
    }

    #[test]
    fn a_change_while_it_is_read_counts() {
        let (memo, digest) = (Memo::default(), Digest::sha256(b"a"));
        let repository: Repository = "docker.io/library/busybox".parse().expect("a name");
        let size = |read: &dyn Fn() -> Option<Shown>| {
            memo.shown(&repository, &digest, read).map(|shown| shown.link.size)
        };
        assert_eq!(size(&|| None), None);
        let old = || {
            let old = shown(1);
            memo.changed();
            old
        };
        assert_eq!(size(&old), Some(1));
        assert_eq!(
            size(&|| shown(2)),
            Some(2),
            "what was read before the change is not given out again"
        );
        assert_eq!(size(&|| shown(3)), Some(2), "and what was read after it is");
        memo.changed();
        assert_eq!(size(&|| None), None);
    }
}
