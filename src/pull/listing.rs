//! Lists: tags, referrers, and the repositories that are kept.

use std::sync::Arc;

use bytes::Bytes;

use super::{Error, Inner, Lacking, Outcome, Pull};
use crate::{
    metrics::Limit,
    oci::{Descriptor, Digest, Manifest, Repository, Tag, media_type},
    upstream::Urgency,
};

/// How many repositories at least are looked at in one go: of many, few may be served to who asks.
const LOOKED_AT: usize = 100;

/// Where a page begins and how long it is.
pub(super) type PageKey = (Repository, u32, Option<String>);

/// One page of a repository's tags.
#[derive(Clone, Debug)]
pub struct ListedTags {
    /// The tags.
    pub tags: Vec<Tag>,
    /// The `last` of the page that follows, if one does.
    pub next: Option<String>,
    /// How the answer came about.
    pub outcome: Outcome,
}

/// What refers to a manifest: an image index, to the byte as the registry sent it; `None`: nothing known.
#[derive(Clone, Debug)]
pub struct Referrers {
    /// The index.
    pub index: Option<Bytes>,
    /// How the answer came about.
    pub outcome: Outcome,
}

impl Pull {
    /// One page of the tags of `repository`: the registry's, or the kept ones when it gives no good answer.
    ///
    /// # Errors
    /// When the registry says no, or nothing is kept to stand in for it.
    pub async fn tags(
        &self,
        repository: &Repository,
        n: Option<u32>,
        last: Option<&str>,
    ) -> Result<ListedTags, Error> {
        let listed = match self.0.is_composed(repository) {
            true => self.composed_tags(repository, n, last).await,
            false => self.tags_of(repository, n, last).await,
        };
        listed.map_err(|error| error.naming(|| self.0.absent_repository(repository)))
    }

    /// The tags that the registry has in `repository`, composed or not.
    pub(super) async fn tags_of(
        &self,
        repository: &Repository,
        n: Option<u32>,
        last: Option<&str>,
    ) -> Result<ListedTags, Error> {
        let pull = &self.0;
        pull.upstream(repository)?;
        let n = pull.page_size(n);
        if pull.is_offline() {
            let kept = pull.store.tags(repository);
            return match kept.is_empty() {
                true => Err(Lacking::Repository.offline()),
                false => Ok(page(kept, n as usize, last, Outcome::Hit)),
            };
        }
        let key = (repository.clone(), n, last.map(str::to_owned));
        let list = Arc::clone(pull).list_tags(key.clone());
        let (listed, _) = pull.tag_lists.get(key, &pull.tasks, list).await?;
        match listed {
            Err(error) if error.is_outage() && pull.config.serve_stale => {
                let kept = pull.store.tags(repository);
                match kept.is_empty() {
                    true => Err(error),
                    false => Ok(page(kept, n as usize, last, Outcome::Stale)),
                }
            }
            listed => listed,
        }
    }

    /// What refers to the manifest `subject`: what the registry says, else what was kept, else nothing.
    ///
    /// # Errors
    /// Only for a registry that is not configured: Docker 29.1 and later goes to Docker Hub when this fails.
    pub async fn referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, Error> {
        if self.0.is_composed(repository) {
            return self.composed_referrers(repository, subject).await;
        }
        self.referrers_of(repository, subject).await
    }

    /// What the registry knows of in `repository`, composed or not.
    pub(super) async fn referrers_of(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, Error> {
        let pull = &self.0;
        pull.upstream(repository)?;
        if !pull.is_offline() {
            let list = Arc::clone(pull).list_referrers(repository.clone(), *subject);
            let key = (repository.clone(), *subject);
            let (index, _) = pull.referrer_lists.get(key, &pull.tasks, list).await?;
            if let Some(index) = index {
                return Ok(Referrers { index: Some(index), outcome: Outcome::Miss });
            }
        }
        let Some(kept) = pull.store.referrers(repository, subject) else {
            let outcome = if pull.is_offline() { Outcome::Hit } else { Outcome::Miss };
            return Ok(Referrers { index: None, outcome });
        };
        // Where there is no room for it, as where the disk fails: an empty list is better than none.
        let index = pull.kept_document(repository, &kept).await.unwrap_or_default();
        Ok(Referrers { index, outcome: pull.unconfirmed() })
    }

    /// Up to `n` repositories of which a tag is kept, and which `permits` says may be told, in order, that come after `last`,
    /// and whether more do.
    pub fn catalog(
        &self,
        n: Option<u32>,
        last: Option<&str>,
        permits: impl Fn(&Repository) -> bool,
    ) -> (Vec<Repository>, bool) {
        let n = self.0.page_size(n) as usize;
        let (mut found, mut last) = (Vec::new(), last.map(str::to_owned));
        while found.len() <= n {
            let kept = self.0.store.repositories(last.as_deref(), (n + 1).max(LOOKED_AT));
            let Some(end) = kept.last() else { break };
            last = Some(end.to_string());
            found.extend(kept.into_iter().filter(|it| self.0.is_served(it) && permits(it)));
        }
        let more = found.len() > n;
        found.truncate(n);
        (found, more)
    }
}

impl Inner {
    /// How many names a page has of which a client wants `n`.
    pub(super) fn page_size(&self, n: Option<u32>) -> u32 {
        let most = self.config.limits.list_entries;
        if n.is_some_and(|n| n > most) {
            self.metrics.limit_reached(Limit::ListEntries);
        }
        n.unwrap_or(most).min(most)
    }

    /// Whether the kept tags may stand in for those that a registry has.
    pub(super) fn lists_kept(&self) -> bool {
        self.config.serve_stale || self.is_offline()
    }

    /// Whether everybody may know that it is here.
    fn is_served(&self, repository: &Repository) -> bool {
        let is_everybodys = self.terms(repository).is_none();
        (is_everybodys && self.upstream(repository).is_ok()) || self.is_composed(repository)
    }

    async fn list_tags(
        self: Arc<Self>,
        (repository, n, last): PageKey,
    ) -> Result<ListedTags, Error> {
        let upstream = self.upstream(&repository)?;
        let urgency = self.urgency(!self.store.tags(&repository).is_empty());
        let page = upstream.tags(&repository.name, Some(n), last.as_deref(), urgency).await;
        let page = page.map_err(|error| match Error::of_manifest(error) {
            Error::ManifestUnknown => Error::NameUnknown,
            error => error,
        })?;
        let next = page.next.map(|(last, _)| last);
        Ok(ListedTags { tags: page.tags, next, outcome: Outcome::Miss })
    }

    /// The registry's list, kept; `None` when it has none to give.
    async fn list_referrers(
        self: Arc<Self>,
        repository: Repository,
        subject: Digest,
    ) -> Option<Bytes> {
        let upstream = self.upstream(&repository).ok()?;
        // Docker asks for every attestation it pulls, and an empty answer is as good: never wait long for it.
        let urgency = Urgency::Fallback(self.config.revalidate_timeout);
        let listed = upstream.referrers(&repository.name, &subject, urgency).await;
        let bytes = listed
            .inspect_err(
                |error| tracing::debug!(%repository, %subject, %error, "no referrers list"),
            )
            .ok()?;
        let media_type = media_type::OCI_INDEX.parse().expect("a media type");
        if !matches!(self.listed_within(&media_type, &bytes), Ok(Manifest::Index(_))) {
            return None;
        }
        if self.store.link(&repository, &subject).is_none() {
            // A registry answers for any digest, and a client can think of any number of them.
            return Some(bytes);
        }
        let index =
            Descriptor { media_type, digest: Digest::sha256(&bytes), size: bytes.len() as u64 };
        let kept = self.store.keep_referrers(&repository, &subject, &index, &bytes).await;
        if let Err(error) = kept {
            self.not_kept(&error);
        }
        Some(bytes)
    }
}

/// The page of `tags`, which are in order, that comes after `last`.
pub(super) fn page(tags: Vec<Tag>, n: usize, last: Option<&str>, outcome: Outcome) -> ListedTags {
    let mut tags: Vec<Tag> =
        tags.into_iter().filter(|tag| last.is_none_or(|last| tag.as_str() > last)).collect();
    let more = tags.len() > n;
    tags.truncate(n);
    let next = tags.last().filter(|_| more).map(ToString::to_string);
    ListedTags { tags, next, outcome }
}
