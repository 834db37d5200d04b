//! Records of the look-up tables as they were last read and taken apart: what is asked for again and again is not to be
//! found, copied and parsed each time.
//!
//! Nothing here is ever told to forget one record. Each change of the tables begins a new edition, and what was read for an
//! older one counts no more.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use foldhash::quality::RandomState;

use super::links::Listed;
use crate::{
    oci::{Descriptor, Digest, Repository},
    on_demand::OnDemand,
};

/// Records remembered, of some 350 bytes each.
const RECORDS_MAX: u64 = 2048;

/// What was read lately, and of which edition of the tables.
#[derive(Debug)]
pub(super) struct Memo {
    edition: AtomicU64,
    /// With the edition that each was read of.
    shown: OnDemand<(Repository, Digest), (u64, Arc<Shown>), RandomState>,
}

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
        // Before the look: what changes meanwhile makes it one of an older edition.
        let edition = self.edition();
        let key = (repository.clone(), *digest);
        match self.shown.get(&key) {
            Some((of, found)) if of == edition => return Some(found),
            _ => {}
        }
        let found = Arc::new(read()?);
        self.shown.insert(key, (edition, Arc::clone(&found)));
        Some(found)
    }

    /// How often the tables were changed.
    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }
}

impl Default for Memo {
    fn default() -> Self {
        Self { edition: AtomicU64::new(0), shown: OnDemand::new(RECORDS_MAX) }
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
