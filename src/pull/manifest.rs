//! Manifests: a tag is confirmed by `HEAD` once its time to live is over, content is fetched once and kept.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::{
    Asker, Error, Inner, Lacking, ManifestAnswer, Outcome, Pull, Want, freshness::Kind,
    platform::Policy,
};
use crate::{
    metrics::Limit,
    oci::{Descriptor, Digest, Manifest, ManifestError, MediaType, Reference, Repository, Tag},
    store,
    upstream::{FetchedManifest, ManifestHead, Upstream, Urgency},
};

/// What the registry says a tag means.
#[derive(Clone, Debug)]
pub(super) enum Resolved {
    /// By `HEAD`.
    Confirmed(Descriptor),
    /// By sending it.
    Fetched(Fetched),
}

/// A manifest that was just fetched and verified.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    descriptor: Descriptor,
    bytes: Bytes,
    kept: bool,
}

impl Pull {
    /// The manifest that `reference` means in `repository`, for the client that asks.
    ///
    /// # Errors
    /// When neither the cache nor the registry has it, or it has none for this client.
    pub async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
        want: Want,
        asker: &Asker,
    ) -> Result<ManifestAnswer, Error> {
        let who = self.0.clients.resolve(asker);
        let answer = async {
            let answer = self.meant(repository, reference, want).await?;
            match reference {
                Reference::Tag(_) => self.for_client(repository, answer, want, asker, &who).await,
                Reference::Digest(_) => Ok(answer),
            }
        };
        let absent = || self.0.absent_for(repository, reference, &who);
        let answer = answer.await.map_err(|error| error.naming(absent))?;
        self.served(repository, reference, answer, want, asker, who).await
    }

    /// What `reference` means to any client, from what is ready if it is.
    async fn meant(
        &self,
        repository: &Repository,
        reference: &Reference,
        want: Want,
    ) -> Result<ManifestAnswer, Error> {
        let pull = &self.0;
        let editions = pull.editions();
        if let Some(found) = pull.ready(repository, reference, editions) {
            pull.upstream(repository)?;
            return Ok(found.answer());
        }
        // What is answered from memory has room for no more than that, and so has a connection.
        let looked_up = Box::pin(async {
            match reference {
                Reference::Tag(tag) => self.tagged(repository, tag, want).await,
                Reference::Digest(digest) => {
                    self.list_first(repository, digest).await;
                    self.with_digest(repository, digest, want).await
                }
            }
        });
        let answer = looked_up.await?;
        pull.found(repository, reference, &answer, editions);
        Ok(answer)
    }

    /// What a tag means: an index as it is.
    pub(super) async fn tagged(
        &self,
        repository: &Repository,
        tag: &Tag,
        want: Want,
    ) -> Result<ManifestAnswer, Error> {
        if let Some(image) = self.0.composer.tagged(repository, tag) {
            return Box::pin(self.composed(image, tag)).await;
        }
        self.0.upstream(repository)?;
        let answer = self.by_tag(repository, tag, want).await?;
        match self.0.policy(repository, &answer.descriptor.digest).await {
            Policy::Refuse(platform) => Err(Error::PlatformRefused(platform)),
            Policy::Keep | Policy::Relay(_) => Ok(answer),
        }
    }

    /// The manifest of that digest.
    pub(super) async fn with_digest(
        &self,
        repository: &Repository,
        digest: &Digest,
        want: Want,
    ) -> Result<ManifestAnswer, Error> {
        if self.0.is_composed(repository) {
            return Box::pin(self.composed_manifest(repository, digest, want)).await;
        }
        self.0.upstream(repository)?;
        self.by_digest(repository, digest, want).await
    }

    /// What the registry means by a tag, composed or not.
    pub(super) async fn by_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        want: Want,
    ) -> Result<ManifestAnswer, Error> {
        let pull = &self.0;
        let confirmed = pull.freshness.confirmed(repository, tag).or_else(|| {
            // Some registries count these questions, too.
            let is_spared = pull.near_limit(repository);
            is_spared.then(|| pull.freshness.confirmed_lately(repository, tag)).flatten()
        });
        if let Some(descriptor) = &confirmed {
            if let Some(answer) = pull.kept_answer(repository, &descriptor.digest).await? {
                pull.name_again(repository, tag, &answer.descriptor).await;
                return Ok(answer);
            }
        }
        // What is answered from memory has room for no more than that, and so has a connection.
        Box::pin(self.confirmed_by_tag(repository, tag, want, confirmed)).await
    }

    /// What the registry means by a tag that is not known, or not kept, just now.
    async fn confirmed_by_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        want: Want,
        confirmed: Option<Descriptor>,
    ) -> Result<ManifestAnswer, Error> {
        let pull = &self.0;
        if pull.is_offline() {
            return pull.only_kept(repository, tag).await;
        }
        let name = Reference::Tag(tag.clone());
        if let Some(error) = pull.freshness.unknown(repository, Kind::Manifest, &name) {
            return pull.pinned_in_spite_of(repository, tag, error).await;
        }
        let stand_in = pull.stand_in(repository, tag).await?;
        let ask = self.ask_by_tag(repository, tag, want, confirmed, stand_in.is_some());
        let Some(stand_in) = stand_in else { return ask.await };
        let asked = timeout(pull.config.revalidate_timeout, ask).await;
        match asked.unwrap_or_else(|_| Err(Error::Unavailable("no answer in time".to_owned()))) {
            Err(error) if error.is_outage() => {
                // Its new manifest may be refused: the next client asks for the tag, when the endpoint has rested.
                pull.freshness.forget_unless(repository, tag, &stand_in.descriptor.digest);
                Ok(stand_in)
            }
            Err(error) => pull.pinned_in_spite_of(repository, tag, error).await,
            asked => asked,
        }
    }

    async fn ask_by_tag(
        &self,
        repository: &Repository,
        tag: &Tag,
        want: Want,
        confirmed: Option<Descriptor>,
        has_stand_in: bool,
    ) -> Result<ManifestAnswer, Error> {
        let pull = &self.0;
        let descriptor = match confirmed {
            Some(descriptor) => {
                // It was evicted: when it is kept again, it has its name again.
                pull.freshness.wait_for(repository, &descriptor.digest, tag);
                descriptor
            }
            None => {
                // A kept tag is confirmed by `HEAD`, whatever is wanted: all who wait share it.
                let kept = pull.kept_tag(repository, tag).is_some();
                let want = if kept { Want::Descriptor } else { want };
                let check = Arc::clone(pull).check_tag(repository.clone(), tag.clone(), want);
                let key = (repository.clone(), tag.clone(), want);
                match pull.tag_checks.get(key, &pull.tasks, check).await? {
                    (Ok(Resolved::Confirmed(descriptor)), _) => descriptor,
                    (Ok(Resolved::Fetched(fetched)), asked) => return Ok(fetched.answer(asked)),
                    (Err(error), _) => return Err(error),
                }
            }
        };
        if let Some(answer) = pull.kept_answer(repository, &descriptor.digest).await? {
            return Ok(answer);
        }
        // A registry's pull limit confirms by HEAD and refuses the GET. Nobody is told of what it may refuse while
        // there is something older that can be had.
        if want == Want::Descriptor && !has_stand_in {
            return Ok(ManifestAnswer::new(descriptor, None, Outcome::Miss));
        }
        let fetched = self.fetch(repository, &descriptor.digest).await;
        fetched.inspect_err(|_| pull.freshness.forget(repository, tag))
    }

    pub(super) async fn by_digest(
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
        if pull.is_offline() {
            return Err(Lacking::Manifest.offline());
        }
        if let Some(error) = pull.freshness.unknown(repository, Kind::Manifest, &(*digest).into()) {
            return Err(error);
        }
        Box::pin(self.asked_by_digest(repository, digest, want)).await
    }

    async fn asked_by_digest(
        &self,
        repository: &Repository,
        digest: &Digest,
        want: Want,
    ) -> Result<ManifestAnswer, Error> {
        let pull = &self.0;
        if want == Want::Content {
            return self.fetch(repository, digest).await;
        }
        let head = Arc::clone(pull).manifest_head(repository.clone(), *digest);
        let key = (repository.clone(), *digest);
        let (head, asked) = pull.manifest_heads.get(key, &pull.tasks, head).await?;
        let outcome = if asked { Outcome::Miss } else { Outcome::Coalesced };
        Ok(ManifestAnswer::new(head?, None, outcome))
    }

    /// Fetches a manifest by digest, once for all who wait, and keeps it.
    pub(super) async fn fetch(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<ManifestAnswer, Error> {
        let pull = &self.0;
        let fetch = Arc::clone(pull).fetch_by_digest(repository.clone(), *digest);
        let key = (repository.clone(), *digest);
        let (fetched, asked) = pull.manifest_fetches.get(key, &pull.tasks, fetch).await?;
        Ok(fetched?.answer(asked))
    }
}

impl Inner {
    /// Asks the registry what a tag means.
    async fn check_tag(
        self: Arc<Self>,
        repository: Repository,
        tag: Tag,
        want: Want,
    ) -> Result<Resolved, Error> {
        let upstream = self.upstream(&repository)?;
        let kept = self.kept_tag(&repository, &tag);
        let reference = Reference::Tag(tag.clone());
        if kept.is_none() && want == Want::Content {
            return self.fetch_by_tag(&upstream, &repository, &tag, Urgency::Must).await;
        }
        let fallback = kept.is_some() || self.is_kept_composed(&repository, &tag);
        let (begun, urgency) = (Instant::now(), self.urgency(fallback));
        match upstream.manifest_head(&repository.name, &reference, urgency).await {
            Ok(head) => match kept {
                Some((kept, _)) if kept.digest == head.digest => {
                    self.freshness.confirm(&repository, &tag, &kept);
                    Ok(Resolved::Confirmed(kept))
                }
                moved => {
                    let resolved = self.take_up(&repository, &tag, head).await?;
                    if let Some((old, _)) = moved {
                        self.follow(&repository, &old, resolved.descriptor());
                    }
                    Ok(resolved)
                }
            },
            // A registry without a usable HEAD: the document itself tells.
            Err(crate::upstream::Error::Protocol { .. }) => {
                let urgency = urgency.after(begun.elapsed());
                self.fetch_by_tag(&upstream, &repository, &tag, urgency).await
            }
            Err(error) => self.answered(&repository, &reference, Err(error)),
        }
    }

    /// Writes a tag down whose name was removed since its registry confirmed it, but not the manifest, which has others.
    async fn name_again(&self, repository: &Repository, tag: &Tag, manifest: &Descriptor) {
        let is_named = self.store.tag(repository, tag).is_some();
        if is_named
            || self.composer.tagged(repository, tag).is_some()
            || !self.store.has_manifest(repository, &manifest.digest)
        {
            return;
        }
        let kept = Box::pin(self.store.keep_tag(repository, tag, manifest)).await;
        kept.unwrap_or_else(|error| self.not_kept(&error));
    }

    /// The registry says by `HEAD` that a tag means something new here.
    async fn take_up(
        self: &Arc<Self>,
        repository: &Repository,
        tag: &Tag,
        head: ManifestHead,
    ) -> Result<Resolved, Error> {
        let ManifestHead { digest, media_type, size } = head;
        let told = size.map(|size| Descriptor { media_type, digest, size });
        if let Some(descriptor) = &told {
            // Before the look below: a fetch that ends meanwhile finds the tag waiting, or is found.
            self.freshness.confirm(repository, tag, descriptor);
            self.freshness.wait_for(repository, &digest, tag);
        }
        let (descriptor, fetched) = match (self.kept_answer(repository, &digest).await?, told) {
            (Some(kept), _) => (kept.descriptor, None),
            (None, Some(descriptor)) => return Ok(Resolved::Confirmed(descriptor)),
            // Without a length there is nothing to answer with: the document itself tells.
            (None, None) => {
                let fetched = Arc::clone(self).fetch_by_digest(repository.clone(), digest).await?;
                (fetched.descriptor.clone(), Some(fetched))
            }
        };
        let composed = self.composer.tagged(repository, tag).is_some();
        if !composed && fetched.as_ref().is_none_or(|fetched| fetched.kept) {
            let kept = self.store.keep_tag(repository, tag, &descriptor).await;
            kept.unwrap_or_else(|error| self.not_kept(&error));
        }
        self.freshness.confirm(repository, tag, &descriptor);
        Ok(fetched.map_or(Resolved::Confirmed(descriptor), Resolved::Fetched))
    }

    async fn fetch_by_tag(
        &self,
        upstream: &Upstream,
        repository: &Repository,
        tag: &Tag,
        urgency: Urgency,
    ) -> Result<Resolved, Error> {
        let reference = Reference::Tag(tag.clone());
        let fetched = upstream.manifest(&repository.name, &reference, urgency).await;
        let fetched = self.answered(repository, &reference, fetched)?;
        let digest = Digest::sha256(&fetched.bytes);
        let fetched = match self.policy(repository, &digest).await {
            Policy::Keep => self.keep(repository, digest, fetched, Some(tag)).await?,
            Policy::Relay(_) | Policy::Refuse(_) => self.pass_on(repository, digest, fetched)?,
        };
        self.freshness.confirm(repository, tag, &fetched.descriptor);
        Ok(Resolved::Fetched(fetched))
    }

    async fn fetch_by_digest(
        self: Arc<Self>,
        repository: Repository,
        digest: Digest,
    ) -> Result<Fetched, Error> {
        if let Some((descriptor, bytes)) = self.kept(&repository, &digest).await? {
            // Kept by a fetch that ended between this request's look and its turn.
            return Ok(Fetched { descriptor, bytes, kept: true });
        }
        if let Some(size) = self.lengths.get(&digest) {
            // Its registry would send the same once more.
            self.as_long_as_listed(&repository, &digest, size).await?;
        }
        let upstream = self.upstream(&repository)?;
        let reference = Reference::Digest(digest);
        let fetched = upstream.manifest(&repository.name, &reference, Urgency::Must).await;
        let fetched = self.answered(&repository, &reference, fetched)?;
        if Digest::of(digest.algorithm(), &fetched.bytes) != digest {
            self.metrics.verify_failed("manifest");
            return Err(Error::Unavailable("it sent a manifest of another digest".to_owned()));
        }
        let size = fetched.bytes.len() as u64;
        self.lengths.put(digest, size);
        let as_listed = self.as_long_as_listed(&repository, &digest, size).await;
        as_listed.inspect_err(|_| self.metrics.verify_failed("manifest"))?;
        match self.policy(&repository, &digest).await {
            Policy::Keep => self.keep(&repository, digest, fetched, None).await,
            Policy::Relay(_) | Policy::Refuse(_) => self.pass_on(&repository, digest, fetched),
        }
    }

    async fn manifest_head(
        self: Arc<Self>,
        repository: Repository,
        digest: Digest,
    ) -> Result<Descriptor, Error> {
        let upstream = self.upstream(&repository)?;
        let reference = Reference::Digest(digest);
        let head = upstream.manifest_head(&repository.name, &reference, Urgency::Must).await;
        let head = self.answered(&repository, &reference, head)?;
        match head.size {
            Some(size)
                if head.digest == digest
                    && self.as_long_as_listed(&repository, &digest, size).await.is_ok() =>
            {
                Ok(Descriptor { media_type: head.media_type, digest, size })
            }
            _ => Ok(self.fetch_by_digest(repository, digest).await?.descriptor),
        }
    }

    /// Puts a fetched manifest into the store, under the tags that mean it.
    ///
    /// A store that does not take it makes the answer a relay, not an error.
    async fn keep(
        &self,
        repository: &Repository,
        digest: Digest,
        fetched: FetchedManifest,
        tag: Option<&Tag>,
    ) -> Result<Fetched, Error> {
        let (descriptor, bytes, document) = self.read(digest, fetched)?;
        if self.is_oversized(&document) {
            tracing::debug!(%repository, %digest, "larger than the whole budget: passed on");
            self.passing.named(repository, &document);
            return Ok(Fetched { descriptor, bytes, kept: false });
        }
        let mut tags = self.freshness.waited_for(repository, &digest);
        tags.extend(tag.cloned());
        tags.retain(|tag| self.composer.tagged(repository, tag).is_none());
        let tags: Vec<Tag> = tags.into_iter().collect();
        let kept =
            self.store.keep_manifest(repository, &descriptor, &document, &bytes, &tags).await;
        if let Err(error) = &kept {
            self.not_kept(error);
            if matches!(error, store::Error::NoRoom { .. }) {
                self.passing.has_no_room(repository, &descriptor, &document);
            }
        }
        self.tell_usage();
        Ok(Fetched { descriptor, bytes, kept: kept.is_ok() })
    }

    /// A fetched manifest that is not kept. For a while, what it names may be passed on through the repository, too.
    fn pass_on(
        &self,
        repository: &Repository,
        digest: Digest,
        fetched: FetchedManifest,
    ) -> Result<Fetched, Error> {
        let (descriptor, bytes, document) = self.read(digest, fetched)?;
        self.passing.named(repository, &document);
        Ok(Fetched { descriptor, bytes, kept: false })
    }

    /// Refuses a manifest that has another length than an index of `repository` says, unless another one says so, or a tag
    /// means it: the image specification (descriptor.md, `size`) has nobody trust it, and containerd takes none.
    async fn as_long_as_listed(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<(), Error> {
        let link = self.store.link(repository, digest);
        let linked = link.filter(|link| link.media_type.names_a_manifest()).map(|link| link.size);
        let passed = || {
            let is_named = self.passing.is_named(repository, digest);
            is_named.then(|| self.passing.size(repository, digest)).flatten()
        };
        let Some(listed) = linked.or_else(passed).filter(|listed| *listed != size) else {
            return Ok(());
        };
        if self.freshness.is_meant(repository, digest)
            || self.store.is_listed_as(repository, *digest, size).await?
        {
            return Ok(());
        }
        let why = format!("it has {size} bytes, where an index that lists it says {listed}");
        Err(Error::ManifestInvalid(why))
    }

    /// What was fetched, if it is a manifest that may be handed out.
    fn read(
        &self,
        digest: Digest,
        fetched: FetchedManifest,
    ) -> Result<(Descriptor, Bytes, Manifest), Error> {
        let FetchedManifest { media_type, bytes } = fetched;
        if !media_type.names_a_manifest() {
            return Err(Error::Unavailable(format!("it sent {media_type} instead of a manifest")));
        }
        let document = self
            .listed_within(&media_type, &bytes)
            .map_err(|error| Error::ManifestInvalid(error.to_string()))?;
        Ok((Descriptor { media_type, digest, size: bytes.len() as u64 }, bytes, document))
    }

    /// A registry's document, if it lists no more than it may.
    pub(super) fn listed_within(
        &self,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<Manifest, ManifestError> {
        let most = self.config.limits.manifest_entries;
        let document = Manifest::parse_within(media_type, bytes, most);
        if matches!(document, Err(ManifestError::TooMany(_))) {
            self.metrics.limit_reached(Limit::ManifestEntries);
        }
        document
    }

    /// Remembers a definite no.
    fn answered<T>(
        &self,
        repository: &Repository,
        reference: &Reference,
        answer: Result<T, crate::upstream::Error>,
    ) -> Result<T, Error> {
        answer.map_err(|error| {
            let error = Error::of_manifest(error);
            if !error.is_outage() {
                self.remember_unknown(repository, Kind::Manifest, reference, &error);
            }
            error
        })
    }
}

impl Resolved {
    /// What the tag means.
    const fn descriptor(&self) -> &Descriptor {
        match self {
            Self::Confirmed(descriptor) | Self::Fetched(Fetched { descriptor, .. }) => descriptor,
        }
    }
}

impl Fetched {
    fn answer(self, asked: bool) -> ManifestAnswer {
        let outcome = match (self.kept, asked) {
            (false, _) => Outcome::Relay,
            (true, true) => Outcome::Miss,
            (true, false) => Outcome::Coalesced,
        };
        ManifestAnswer::new(self.descriptor, Some(self.bytes), outcome)
    }
}
