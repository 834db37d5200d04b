//! What a composed name is asked for by digest, and its lists: each comes from the part that has it.

use crate::{
    oci::{Digest, Repository},
    pull::{
        BlobAnswer, Error, Inner, ListedTags, ManifestAnswer, Outcome, Pull, Referrers, Want,
        listing::page, platform::Policy,
    },
    store::Listed,
};

impl Pull {
    /// A manifest under a composed name: the index itself, or what a part has.
    pub(in crate::pull) async fn composed_manifest(
        &self,
        repository: &Repository,
        digest: &Digest,
        want: Want,
    ) -> Result<ManifestAnswer, Error> {
        let pull = &self.0;
        if let Policy::Refuse(platform) = pull.policy(repository, digest).await {
            return Err(Error::PlatformRefused(platform));
        }
        if let Some(answer) = pull.kept_answer(repository, digest).await? {
            return Ok(answer);
        }
        if let Some(answer) = pull.composer.unkept.get(&(repository.clone(), *digest)) {
            return Ok(answer);
        }
        let ask = |part: Repository| async move { self.by_digest(&part, digest, want).await };
        let answer = first(pull.holders(repository, digest), ask).await?;
        if answer.is_some() {
            // Kept for the part, it belongs to the index that lists it, too. If there is no room to look, then later.
            let _ = pull.kept(repository, digest).await;
        }
        answer.ok_or(Error::ManifestUnknown)
    }

    pub(in crate::pull) async fn composed_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<BlobAnswer, Error> {
        let pull = &self.0;
        if let Some(link) = pull.store.link(repository, digest) {
            if pull.kept_blob(repository, digest, Some(link.size)).await.is_some() {
                return self.blob_of(repository, digest).await;
            }
        }
        let ask = |part: Repository| async move { self.blob_of(&part, digest).await };
        first(pull.holders(repository, digest), ask).await?.ok_or(Error::BlobUnknown)
    }

    pub(in crate::pull) async fn composed_blob_head(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(u64, Outcome), Error> {
        let pull = &self.0;
        if let Some(link) = pull.store.link(repository, digest) {
            return Ok((link.size, Outcome::Hit));
        }
        let ask = |part: Repository| async move { self.blob_head_of(&part, digest).await };
        first(pull.holders(repository, digest), ask).await?.ok_or(Error::BlobUnknown)
    }

    /// The tags of the first part that answers, of those that have the tag that is asked for. Where only some tags are
    /// composed: the registry's, or else these.
    pub(in crate::pull) async fn composed_tags(
        &self,
        repository: &Repository,
        n: Option<u32>,
        last: Option<&str>,
    ) -> Result<ListedTags, Error> {
        let pull = &self.0;
        let kept = || pull.store.tags(repository);
        let mut composed: Vec<_> =
            pull.composer.named(repository).filter_map(|image| image.tag.clone()).collect();
        composed.sort();
        let ask = |part: Repository| async move { self.tags_of(&part, n, last).await };
        let outage = match first(pull.listers(repository), ask).await {
            Ok(Some(listed)) => return Ok(listed),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        let size = || pull.page_size(n) as usize;
        match (composed.is_empty(), outage) {
            (false, _) => Ok(page(composed, size(), last, Outcome::Hit)),
            (true, Some(error)) if !pull.lists_kept() || kept().is_empty() => Err(error),
            (true, Some(_)) => Ok(page(kept(), size(), last, pull.unconfirmed())),
            (true, None) if kept().is_empty() => Err(Error::NameUnknown),
            (true, None) => Ok(page(kept(), size(), last, Outcome::Hit)),
        }
    }

    pub(in crate::pull) async fn composed_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
    ) -> Result<Referrers, Error> {
        match self.0.holder(repository, subject) {
            Some(part) => self.referrers_of(&part, subject).await,
            None => Ok(Referrers { index: None, outcome: Outcome::Miss }),
        }
    }
}

/// The answer of the first repository that gives one; `None` when all of them say that they have none.
///
/// # Errors
/// The first outage, when none gives an answer: that one might have.
async fn first<T, F>(
    repositories: Vec<Repository>,
    ask: impl Fn(Repository) -> F,
) -> Result<Option<T>, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut outage = None;
    for repository in repositories {
        match ask(repository).await {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) => outage = outage.or_else(|| Some(error).filter(Error::is_outage)),
        }
    }
    outage.map_or(Ok(None), Err)
}

/// How well a repository is known to have what a composed name is asked for, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holds {
    /// Its registry said so.
    Known,
    /// The composed index lists it for the platform of that part.
    Listed,
    /// It is known under the composed name itself, perhaps because the composed index lists it.
    Named,
    Perhaps,
    /// The composed name itself, where not all that it has is composed.
    Hardly,
}

impl Inner {
    /// Whether some tag of `repository` is composed.
    pub(in crate::pull) fn is_composed(&self, repository: &Repository) -> bool {
        self.composer.named(repository).next().is_some()
    }

    /// The repository of a registry that has `digest`, which is asked for as one of `repository`: that itself, unless it
    /// is composed and a part is known to have it.
    pub(in crate::pull) fn home(&self, repository: &Repository, digest: &Digest) -> Repository {
        self.holder(repository, digest).unwrap_or_else(|| repository.clone())
    }

    /// How an index lists the manifest, and whose index: one of `repository` itself, or a composed one of which it is a
    /// part.
    pub(in crate::pull) fn listing<'a>(
        &'a self,
        repository: &'a Repository,
        digest: &Digest,
    ) -> Option<(&'a Repository, Listed)> {
        let composed = self
            .composer
            .images
            .iter()
            .filter(|image| image.parts.values().any(|part| part.repository == *repository));
        let names = std::iter::once(repository).chain(composed.map(|image| &image.repository));
        names.into_iter().find_map(|name| Some((name, self.store.listed(name, digest)?)))
    }

    fn holder(&self, repository: &Repository, digest: &Digest) -> Option<Repository> {
        let (holds, part) = self.ranked(repository, digest).into_iter().next()?;
        (holds <= Holds::Named).then_some(part)
    }

    /// The repositories that may have what a composed name is asked for, the likeliest first.
    fn holders(&self, repository: &Repository, digest: &Digest) -> Vec<Repository> {
        self.ranked(repository, digest).into_iter().map(|(_, part)| part).collect()
    }

    fn ranked(&self, repository: &Repository, digest: &Digest) -> Vec<(Holds, Repository)> {
        if !self.is_composed(repository) {
            return Vec::new();
        }
        let listed = self.listed_part(repository, digest);
        let mut ranked: Vec<(Holds, Repository)> = Vec::new();
        let parts = self.composer.named(repository).flat_map(|image| image.parts.values());
        let own = Some(repository).filter(|_| self.has_others(repository));
        for part in parts.map(|part| &part.repository).chain(own) {
            let known = self.store.link(part, digest).is_some()
                || self.passing.size(part, digest).is_some();
            let holds = match (part == repository, listed.as_ref() == Some(part)) {
                (false, _) if known => Holds::Known,
                (_, true) => Holds::Listed,
                (true, false) if known => Holds::Named,
                (false, false) => Holds::Perhaps,
                (true, false) => Holds::Hardly,
            };
            if !ranked.iter().any(|(_, there)| there == part) {
                ranked.push((holds, part.clone()));
            }
        }
        ranked.sort_by_key(|(holds, _)| *holds);
        ranked
    }

    /// The part for the platform that the composed index gives a manifest.
    fn listed_part(&self, repository: &Repository, digest: &Digest) -> Option<Repository> {
        let listed = self.store.listed(repository, digest)?;
        let platform = listed.platform?;
        let parts = self.composer.named(repository);
        let parts =
            parts.filter_map(|image| Some((image.tag.as_ref(), image.parts.get(&platform)?)));
        let (_, part) = parts.max_by_key(|(tag, _)| {
            let index = tag.and_then(|tag| self.store.tag(repository, tag));
            index.is_some_and(|(index, _)| index.digest == listed.index)
        })?;
        Some(part.repository.clone())
    }

    /// Whether a composed name has tags besides those that are composed: its registry's own.
    fn has_others(&self, repository: &Repository) -> bool {
        self.composer.named(repository).all(|image| image.tag.is_some())
            && self.upstreams.select(&repository.registry).is_some()
    }

    /// The repositories that may list the tags of a composed name.
    fn listers(&self, repository: &Repository) -> Vec<Repository> {
        if self.has_others(repository) {
            return vec![repository.clone()];
        }
        let any = self.composer.named(repository).filter(|image| image.tag.is_none());
        let parts = any.flat_map(|image| image.parts.values()).filter(|part| part.tag.is_none());
        parts.map(|part| part.repository.clone()).collect()
    }
}
