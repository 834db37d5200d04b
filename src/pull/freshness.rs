//! What is remembered of names for a short while: tags that were just confirmed, and names that are unknown.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::Error;
use crate::{
    clock::Clock,
    metrics::{Limit, Metrics},
    oci::{Descriptor, Digest, Reference, Repository, Tag},
    on_demand::OnDemand,
};

/// Names remembered of each kind; the least used are forgotten first.
const NAMES_MAX: u64 = 10_000;

/// So many times its time to live a tag is answered without asking, while few pulls are left.
const SPARING: u32 = 10;

/// Tags remembered as waiting for one manifest.
const WAITING_TAGS_MAX: usize = 16;

/// Short-lived knowledge of names; every part is bounded and lost at restart.
#[derive(Debug)]
pub(super) struct Freshness {
    clock: Clock,
    tag_ttl: Duration,
    unknown_ttl: Duration,
    confirmed: OnDemand<(Repository, Tag), (Descriptor, Instant)>,
    /// How often something changed in `confirmed`.
    edition: AtomicU64,
    unknown: OnDemand<(Repository, Kind, Reference), (Error, Instant)>,
    /// Tags that a `HEAD` resolved to a manifest that is not kept yet.
    waiting: OnDemand<(Repository, Digest), Arc<BTreeSet<Tag>>>,
}

/// Under which endpoint a name was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Blob,
    Manifest,
}

impl Freshness {
    pub(super) fn new(
        clock: &Clock,
        (tag_ttl, unknown_ttl): (Duration, Duration),
        unknown_names: u64,
        metrics: &Metrics,
    ) -> Self {
        let metrics = metrics.clone();
        let unknown = OnDemand::new(unknown_names)
            .telling(move || metrics.limit_reached(Limit::UnknownNames));
        Self {
            clock: clock.clone(),
            tag_ttl,
            unknown_ttl,
            confirmed: OnDemand::new(NAMES_MAX),
            edition: AtomicU64::new(0),
            unknown,
            waiting: OnDemand::new(NAMES_MAX),
        }
    }

    /// What the tag means, if the registry said so within the time to live.
    pub(super) fn confirmed(&self, repository: &Repository, tag: &Tag) -> Option<Descriptor> {
        let (manifest, at) = self.confirmed.get(&(repository.clone(), tag.clone()))?;
        (self.clock.now().duration_since(at) < self.tag_ttl).then_some(manifest)
    }

    /// How often what is known of tags has changed.
    pub(super) fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// Until when the registry's word holds that the tag means `manifest`, if that is what it said last.
    pub(super) fn confirmed_until(
        &self,
        repository: &Repository,
        tag: &Tag,
        manifest: &Digest,
    ) -> Option<Instant> {
        let (latest, at) = self.confirmed.get(&(repository.clone(), tag.clone()))?;
        at.checked_add(self.tag_ttl).filter(|_| latest.digest == *manifest)
    }

    /// What the tag means, if the registry said so a few times to live ago at most: for when it is to be asked sparingly.
    pub(super) fn confirmed_lately(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Option<Descriptor> {
        let (manifest, at) = self.confirmed.get(&(repository.clone(), tag.clone()))?;
        let lately = self.tag_ttl.saturating_mul(SPARING);
        (self.clock.now().duration_since(at) < lately).then_some(manifest)
    }

    /// How long ago the registry said that the tag means this manifest, if that is the last it said.
    pub(super) fn confirmed_ago(
        &self,
        repository: &Repository,
        tag: &Tag,
        manifest: &Digest,
    ) -> Option<Duration> {
        let (latest, at) = self.confirmed.get(&(repository.clone(), tag.clone()))?;
        (latest.digest == *manifest).then(|| self.clock.now().duration_since(at))
    }

    /// The registry just said what the tag means.
    pub(super) fn confirm(&self, repository: &Repository, tag: &Tag, manifest: &Descriptor) {
        let value = (manifest.clone(), self.clock.now());
        self.confirmed.insert((repository.clone(), tag.clone()), value);
        self.changed();
    }

    fn changed(&self) {
        self.edition.fetch_add(1, Ordering::AcqRel);
    }

    /// What the registry said of the tag is of no use: it is to be asked again. That the tag means `manifest`
    /// stays known.
    pub(super) fn forget_unless(&self, repository: &Repository, tag: &Tag, manifest: &Digest) {
        let key = (repository.clone(), tag.clone());
        if self.confirmed.get(&key).is_some_and(|(latest, _)| latest.digest != *manifest) {
            self.confirmed.invalidate(&key);
            self.changed();
        }
    }

    /// What the tag was said to mean cannot be had: it is to be asked again.
    pub(super) fn forget(&self, repository: &Repository, tag: &Tag) {
        self.confirmed.invalidate(&(repository.clone(), tag.clone()));
        self.changed();
    }

    /// How asking for a name failed a moment ago.
    pub(super) fn unknown(
        &self,
        repository: &Repository,
        kind: Kind,
        name: &Reference,
    ) -> Option<Error> {
        let (error, at) = self.unknown.get(&(repository.clone(), kind, name.clone()))?;
        (self.clock.now().duration_since(at) < self.unknown_ttl).then_some(error)
    }

    /// The registry just said that there is no such thing, or not for us.
    pub(super) fn remember_unknown(
        &self,
        repository: &Repository,
        kind: Kind,
        name: &Reference,
        error: &Error,
    ) {
        let value = (error.clone(), self.clock.now());
        self.unknown.insert((repository.clone(), kind, name.clone()), value);
    }

    /// It came by hand what a tag means: that nobody had it counts no more.
    pub(super) fn known_again(&self, repository: &Repository, tag: &Tag) {
        let name = Reference::Tag(tag.clone());
        self.unknown.invalidate(&(repository.clone(), Kind::Manifest, name));
    }

    /// A tag means a manifest that is not kept: once it is, the tag is to be written down with it.
    pub(super) fn wait_for(&self, repository: &Repository, manifest: &Digest, tag: &Tag) {
        let key = (repository.clone(), *manifest);
        let mut tags = self.waiting.get(&key).unwrap_or_default();
        if tags.len() < WAITING_TAGS_MAX {
            Arc::make_mut(&mut tags).insert(tag.clone());
            self.waiting.insert(key, tags);
        }
    }

    /// Whether a tag that waits for a manifest means it: its registry has just said so.
    pub(super) fn is_meant(&self, repository: &Repository, manifest: &Digest) -> bool {
        let waiting = self.waiting.get(&(repository.clone(), *manifest));
        waiting.is_some_and(|tags| {
            tags.iter().any(|tag| {
                let latest = self.confirmed.get(&(repository.clone(), tag.clone()));
                latest.is_some_and(|(latest, _)| latest.digest == *manifest)
            })
        })
    }

    /// The tags that waited for a manifest, without those that were confirmed to mean another one since; they
    /// wait no more.
    pub(super) fn waited_for(&self, repository: &Repository, manifest: &Digest) -> BTreeSet<Tag> {
        let waited = self.waiting.remove(&(repository.clone(), *manifest));
        let mut tags = waited.map_or_else(BTreeSet::new, Arc::unwrap_or_clone);
        tags.retain(|tag| {
            let latest = self.confirmed.get(&(repository.clone(), tag.clone()));
            latest.is_some_and(|(latest, _)| latest.digest == *manifest)
        });
        tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_clients_invent_are_not_remembered_without_bound() {
        let (hour, metrics) = (Duration::from_secs(3600), Metrics::new());
        let freshness = Freshness::new(&Clock::system(), (hour, hour), 1000, &metrics);
        let repository: Repository = "docker.io/library/busybox".parse().expect("a name");
        let digest = Digest::sha256(b"a manifest");
        let media_type = crate::oci::media_type::OCI_MANIFEST.parse().expect("a media type");
        let manifest = Descriptor { media_type, digest, size: 1 };
        for number in 0..=NAMES_MAX * 2 {
            let tag: Tag = format!("t{number}").parse().expect("a tag");
            let name = Reference::Tag(tag.clone());
            freshness.remember_unknown(&repository, Kind::Manifest, &name, &Error::NameUnknown);
            freshness.confirm(&repository, &tag, &manifest);
            freshness.wait_for(&repository, &Digest::sha256(&number.to_be_bytes()), &tag);
            freshness.wait_for(&repository, &digest, &tag);
        }
        assert!(freshness.unknown.settle() <= 1000);
        let (text, _) = metrics.render();
        let text = String::from_utf8(text).expect("text");
        let forgotten = format!(
            "wharf_limit_reached_total{{limit=\"unknown_names\"}} {}",
            NAMES_MAX * 2 + 1 - 1000
        );
        assert!(text.contains(&forgotten), "{text}");
        assert!(freshness.confirmed.settle() <= NAMES_MAX);
        assert!(freshness.waiting.settle() <= NAMES_MAX);
        assert!(freshness.waited_for(&repository, &digest).len() <= WAITING_TAGS_MAX);
    }
}
