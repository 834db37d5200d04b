//! Composed images (`[[compose]]`): one name for images of one platform each that have names of their own.
//!
//! A composed tag means an index that is made here of what the tags of its parts mean. It is kept under the composed
//! name like any other, and made anew whenever the tag is asked for: what costs something, asking the parts' registries,
//! is done as seldom as for any tag. All else is asked of the parts: bytes and permission stay theirs.
//!
//! The name may be its own part. The kept tag is then the composed index, never what the registry means by it.

mod document;
mod parts;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::{
    Composed, Error, Inner, Limits, ManifestAnswer, Outcome, Part, Pull, Want, coalesce::Coalesced,
    platform::read_index,
};
use crate::{
    metrics::Metrics,
    oci::{
        Descriptor, Digest, ImageName, Manifest, Platform, Reference, Repository, Rules, Tag,
        media_type,
    },
    on_demand::OnDemand,
};

/// Composed tags, and parts of them, of which something is remembered: clients choose the tags.
const TAGS_MAX: u64 = 10_000;

/// Composed indexes that the disk did not take, each as long as its declaration.
const UNKEPT_MAX: u64 = 256;

/// The composed images, and what is remembered of them until the next start.
pub(super) struct Composer {
    images: Vec<Arc<Composed>>,
    making: Coalesced<(Repository, Tag), Result<ManifestAnswer, Error>>,
    /// What a tag was made into when all its parts were last confirmed.
    confirmed: OnDemand<(Repository, Tag), (Digest, Instant)>,
    /// What the log was last told of a part.
    told: OnDemand<(Repository, Tag, Platform), Trouble>,
    unkept: OnDemand<(Repository, Digest), ManifestAnswer>,
}

/// What may be wrong with a part while nothing is wrong with its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// There is no such tag.
    Missing,
    /// The tag means a list that has nothing for the platform.
    Without,
}

/// What a part's tag means.
struct Found {
    manifest: Descriptor,
    /// How long ago the tag was last confirmed, if its registry gave no good answer now.
    stale_for: Option<Duration>,
}

impl Composer {
    pub(super) fn new(images: &[Composed], limits: &Limits, metrics: &Metrics) -> Self {
        Self {
            images: images.iter().cloned().map(Arc::new).collect(),
            making: Coalesced::new(limits, metrics),
            confirmed: OnDemand::new(TAGS_MAX),
            told: OnDemand::new(TAGS_MAX),
            unkept: OnDemand::new(UNKEPT_MAX),
        }
    }

    /// Whether an image is composed whose name is of this registry.
    pub(super) fn serves(&self, registry: &crate::oci::RegistryName) -> bool {
        self.images.iter().any(|image| image.repository.registry == *registry)
    }

    /// The image that is composed under `tag` of `repository`.
    pub(super) fn tagged(&self, repository: &Repository, tag: &Tag) -> Option<&Arc<Composed>> {
        self.images.iter().find(|image| {
            image.repository == *repository && image.tag.as_ref().is_none_or(|only| only == tag)
        })
    }

    /// The images that are composed under tags of `repository`: several if each has only one tag.
    fn named<'a>(&'a self, name: &'a Repository) -> impl Iterator<Item = &'a Arc<Composed>> {
        self.images.iter().filter(move |image| image.repository == *name)
    }
}

impl Pull {
    /// What `tag` of a composed image means: the index that its parts make now, or the last one while a part gives no
    /// good answer.
    pub(super) async fn composed(
        &self,
        image: &Arc<Composed>,
        tag: &Tag,
    ) -> Result<ManifestAnswer, Error> {
        let (pull, repository) = (&self.0, &image.repository);
        if pull.is_offline() {
            if let Some((kept, _)) = pull.store.tag(repository, tag) {
                if let Some(answer) = pull.kept_answer(repository, &kept.digest).await? {
                    return Ok(answer);
                }
            }
        }
        let make = Arc::clone(pull).compose(Arc::clone(image), tag.clone());
        let key = (repository.clone(), tag.clone());
        let made = async {
            let (made, asked) = pull.composer.making.get(key, &pull.tasks, make).await?;
            let coalesced = |outcome| match outcome {
                Outcome::Miss if !asked => Outcome::Coalesced,
                outcome => outcome,
            };
            made.map(|made| ManifestAnswer { outcome: coalesced(made.outcome), ..made })
        };
        let Some((kept, at)) = pull.store.tag(repository, tag).filter(|_| pull.config.serve_stale)
        else {
            return made.await;
        };
        let made = timeout(pull.config.revalidate_timeout, made).await;
        match made.unwrap_or_else(|_| Err(Error::Unavailable("no answer in time".to_owned()))) {
            Err(error) if error.is_outage() => {
                let ago = pull.composed_ago(repository, tag, &kept.digest);
                pull.stale(repository, &kept.digest, at, ago).await?.ok_or(error)
            }
            made => made,
        }
    }
}

impl Inner {
    /// What is kept of a tag that means what its registry says. A part of the composed name itself has no such tag: the
    /// kept one is the composed index.
    pub(super) fn kept_tag(&self, repository: &Repository, tag: &Tag) -> Option<(Descriptor, u64)> {
        if self.composer.tagged(repository, tag).is_some() {
            return None;
        }
        self.store.tag(repository, tag)
    }

    /// Whether a kept composed index could stand in for what this tag means.
    pub(super) fn is_kept_composed(&self, repository: &Repository, tag: &Tag) -> bool {
        let composed_of = |image: &Composed, part: &Part| match (&image.tag, &part.tag) {
            (Some(composed), part) if part.as_ref().unwrap_or(composed) == tag => {
                self.store.tag(&image.repository, composed).is_some()
            }
            (None, None) => self.store.tag(&image.repository, tag).is_some(),
            (None, Some(part)) if part == tag => !self.store.tags(&image.repository).is_empty(),
            _ => false,
        };
        self.composer.images.iter().any(|image| {
            let parts = image.parts.values().filter(|part| part.repository == *repository);
            parts.into_iter().any(|part| composed_of(image, part))
        })
    }

    /// How long ago all parts of a composed tag were confirmed to make this index, if that is what they last made.
    fn composed_ago(&self, repository: &Repository, tag: &Tag, index: &Digest) -> Option<Duration> {
        let (made, at) = self.composer.confirmed.get(&(repository.clone(), tag.clone()))?;
        (made == *index).then(|| self.clock.now().duration_since(at))
    }

    async fn compose(
        self: Arc<Self>,
        image: Arc<Composed>,
        tag: Tag,
    ) -> Result<ManifestAnswer, Error> {
        let (mut manifests, mut missing, mut stale_for) = (BTreeMap::new(), Vec::new(), None);
        let parts = image.parts.iter();
        let parts = parts.map(|(platform, part)| self.part(&image, &tag, platform, part));
        for ((platform, part), found) in image.parts.iter().zip(join_all(parts).await) {
            match found {
                Ok(found) => {
                    manifests.insert(platform.clone(), found.manifest);
                    stale_for = stale_for.max(found.stale_for);
                }
                Err(error @ (Error::ManifestUnknown | Error::NameUnknown | Error::Denied)) => {
                    missing.push((platform, part, error));
                }
                Err(error) => {
                    if matches!(error, Error::PartWithout { .. })
                        && self.is_news(&image, &tag, platform, Some(Trouble::Without))
                    {
                        tracing::warn!("{error}");
                    }
                    return Err(error);
                }
            }
        }
        if manifests.is_empty() {
            // Clients may ask for any tag: one that no part has is not worth a line.
            return Err(Error::ManifestUnknown);
        }
        for platform in manifests.keys() {
            self.is_news(&image, &tag, platform, None);
        }
        for (platform, part, error) in missing {
            if self.is_news(&image, &tag, platform, Some(Trouble::Missing)) {
                let composed = named(&image.repository, &tag);
                let part = named(&part.repository, part.tag.as_ref().unwrap_or(&tag));
                tracing::warn!(%composed, %part, %platform, %error, "a part is missing, and is left out");
            }
        }
        let bytes = document::write(&manifests);
        let made = self.keep_composed(&image.repository, &tag, bytes).await?;
        if stale_for.is_some() {
            return Ok(ManifestAnswer { outcome: Outcome::Stale, stale_for, ..made });
        }
        let now = (made.descriptor.digest, self.clock.now());
        self.composer.confirmed.insert((image.repository.clone(), tag), now);
        Ok(made)
    }

    /// Whether the log was not told yet of this state of a part. Counts it as told.
    fn is_news(
        &self,
        image: &Composed,
        tag: &Tag,
        platform: &Platform,
        trouble: Option<Trouble>,
    ) -> bool {
        let key = (image.repository.clone(), tag.clone(), platform.clone());
        let before = self.composer.told.get(&key);
        match trouble {
            None => self.composer.told.invalidate(&key),
            Some(trouble) => self.composer.told.insert(key, trouble),
        }
        before != trouble
    }

    /// The manifest that a part means for its platform.
    async fn part(
        self: &Arc<Self>,
        image: &Composed,
        asked: &Tag,
        platform: &Platform,
        part: &Part,
    ) -> Result<Found, Error> {
        let (repository, tag) = (&part.repository, part.tag.as_ref().unwrap_or(asked));
        let pull = Pull(Arc::clone(self));
        let meant = pull.by_tag(repository, tag, Want::Descriptor).await?;
        let ManifestAnswer { descriptor, bytes, stale_for, .. } = meant;
        if !descriptor.media_type.is_manifest() {
            let problem = format!("{} is {}", named(repository, tag), descriptor.media_type);
            return Err(Error::ManifestInvalid(problem));
        }
        if !descriptor.media_type.is_index() {
            // A part that is kept by its tag is fetched before it is told that it moved: its registry may refuse it.
            // One of the composed name itself is kept by the composed index alone.
            let own = *repository == image.repository;
            if own
                && self.store.tag(&image.repository, asked).is_some()
                && self.store.link(repository, &descriptor.digest).is_none()
            {
                pull.document(repository, &descriptor.digest).await?;
            }
            return Ok(Found { manifest: descriptor, stale_for });
        }
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => pull.document(repository, &descriptor.digest).await?,
        };
        let index = read_index(&descriptor, &bytes)?;
        let platforms = std::slice::from_ref(platform);
        let child = self.child(repository, &index, platforms, Rules::Containerd).await?;
        let child = child.ok_or_else(|| Error::PartWithout {
            composed: named(&image.repository, asked).to_string(),
            part: named(repository, tag).to_string(),
            platform: platform.to_string(),
        })?;
        Ok(Found { manifest: child.descriptor, stale_for })
    }

    /// Keeps a composed index under its tag, unless that is what is kept.
    async fn keep_composed(
        self: &Arc<Self>,
        repository: &Repository,
        tag: &Tag,
        bytes: Bytes,
    ) -> Result<ManifestAnswer, Error> {
        let media_type = media_type::OCI_INDEX.parse().expect("a media type");
        let (digest, size) = (Digest::sha256(&bytes), bytes.len() as u64);
        let descriptor = Descriptor { media_type, digest, size };
        let before = self.store.tag(repository, tag).map(|(before, _)| before);
        if before.as_ref() == Some(&descriptor) && self.kept(repository, &digest).await?.is_some() {
            return Ok(ManifestAnswer::new(descriptor, Some(bytes), Outcome::Hit));
        }
        let document = Manifest::parse(&descriptor.media_type, &bytes)
            .map_err(|error| Error::ManifestInvalid(error.to_string()))?;
        let tags = std::slice::from_ref(tag);
        let kept = self.store.keep_manifest(repository, &descriptor, &document, &bytes, tags).await;
        let answer =
            |outcome| ManifestAnswer::new(descriptor.clone(), Some(bytes.clone()), outcome);
        if let Err(error) = kept {
            self.not_kept(&error);
            let made = answer(Outcome::Relay);
            self.composer.unkept.insert((repository.clone(), digest), made.clone());
            return Ok(made);
        }
        self.tell_usage();
        if let Some(before) = before.filter(|before| before.digest != digest) {
            self.follow(repository, &before, &descriptor);
        }
        Ok(answer(Outcome::Miss))
    }
}

fn named(repository: &Repository, tag: &Tag) -> ImageName {
    ImageName { repository: repository.clone(), reference: Reference::Tag(tag.clone()) }
}
