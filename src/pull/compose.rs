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
use moka::sync::Cache;
use tokio::time::{Instant, timeout};

use super::{
    Composed, Error, Inner, ManifestAnswer, Outcome, Part, Pull, Want, coalesce::Coalesced,
    platform::read_index,
};
use crate::oci::{
    Descriptor, Digest, ImageName, Manifest, Platform, Reference, Repository, Rules, Tag,
    media_type,
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
    confirmed: Cache<(Repository, Tag), (Digest, Instant)>,
    /// What the log was last told of a part.
    told: Cache<(Repository, Tag, Platform), Trouble>,
    unkept: Cache<(Repository, Digest), ManifestAnswer>,
}

/// What may be wrong with a part while nothing is wrong with its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// There is no such tag.
    Missing,
    /// The tag means this index, which has nothing for the platform.
    Without(Digest),
}

/// What a part's tag means.
struct Found {
    manifest: Descriptor,
    /// How long ago the tag was last confirmed, if its registry gave no good answer now.
    stale_for: Option<Duration>,
}

impl Composer {
    pub(super) fn new(images: &[Composed]) -> Self {
        Self {
            images: images.iter().cloned().map(Arc::new).collect(),
            making: Coalesced::default(),
            confirmed: Cache::new(TAGS_MAX),
            told: Cache::new(TAGS_MAX),
            unkept: Cache::new(UNKEPT_MAX),
        }
    }

    /// How many indexes are being made.
    pub(super) fn open(&self) -> usize {
        self.making.open()
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
                pull.stale(repository, &kept.digest, at, ago).await.ok_or(error)
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
        self.composer.images.iter().any(|image| {
            let is_part = |part: &Part| {
                let only = part.tag.as_ref().or(image.tag.as_ref());
                part.repository == *repository && only.is_none_or(|only| only == tag)
            };
            let composed = image.tag.as_ref().unwrap_or(tag);
            image.parts.values().any(is_part)
                && self.store.tag(&image.repository, composed).is_some()
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
        let (mut manifests, mut stale_for) = (BTreeMap::new(), None);
        let parts = image.parts.iter();
        let parts = parts.map(|(platform, part)| self.part(&image, &tag, platform, part));
        for (platform, found) in image.parts.keys().zip(join_all(parts).await) {
            let Some(found) = found? else { continue };
            manifests.insert(platform.clone(), found.manifest);
            stale_for = stale_for.max(found.stale_for);
        }
        if manifests.is_empty() {
            return Err(Error::ManifestUnknown);
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

    /// What a part means now; `None` if its registry says that it has none.
    async fn part(
        self: &Arc<Self>,
        image: &Composed,
        asked: &Tag,
        platform: &Platform,
        part: &Part,
    ) -> Result<Option<Found>, Error> {
        let tag = part.tag.as_ref().unwrap_or(asked);
        let name = named(&part.repository, tag);
        let found = self.find(image, asked, platform, &part.repository, tag).await;
        let trouble = match &found {
            Ok(Ok(_)) => None,
            Ok(Err(index)) => Some(Trouble::Without(*index)),
            Err(Error::ManifestUnknown | Error::NameUnknown | Error::Denied) => {
                Some(Trouble::Missing)
            }
            Err(_) => return found.map(Result::ok),
        };
        let key = (image.repository.clone(), asked.clone(), platform.clone());
        let Some(trouble) = trouble else {
            self.composer.told.invalidate(&key);
            return found.map(Result::ok);
        };
        let new = self.composer.told.get(&key) != Some(trouble);
        self.composer.told.insert(key, trouble);
        let composed = named(&image.repository, asked);
        match found {
            Err(error) => {
                if new {
                    tracing::warn!(%composed, part = %name, %platform, %error, "left out of a composed image");
                }
                Ok(None)
            }
            Ok(_) => {
                let (composed, part) = (composed.to_string(), name.to_string());
                let error = Error::PartWithout { composed, part, platform: platform.to_string() };
                if new {
                    tracing::warn!("{error}");
                }
                Err(error)
            }
        }
    }

    /// The manifest that `tag` of a part means for its platform, or the index that has none.
    async fn find(
        self: &Arc<Self>,
        image: &Composed,
        asked: &Tag,
        platform: &Platform,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Result<Found, Digest>, Error> {
        let pull = Pull(Arc::clone(self));
        let meant = pull.by_tag(repository, tag, Want::Descriptor).await?;
        let ManifestAnswer { descriptor, bytes, stale_for, .. } = meant;
        if !descriptor.media_type.is_manifest() {
            let problem = format!("{} is {}", named(repository, tag), descriptor.media_type);
            return Err(Error::ManifestInvalid(problem));
        }
        if !descriptor.media_type.is_index() {
            let digest = &descriptor.digest;
            // A part that is kept by its tag is fetched before it is told that it moved: its registry may refuse it.
            // This one is kept by the composed index alone.
            if *repository == image.repository
                && self.store.tag(&image.repository, asked).is_some()
                && self.store.link(repository, digest).is_none()
            {
                pull.document(repository, digest).await?;
            }
            return Ok(Ok(Found { manifest: descriptor, stale_for }));
        }
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => pull.document(repository, &descriptor.digest).await?,
        };
        let index = read_index(&descriptor, &bytes)?;
        let platforms = std::slice::from_ref(platform);
        let child = self.child(repository, &index, platforms, Rules::Containerd).await?;
        Ok(child
            .map(|child| Found { manifest: child.descriptor, stale_for })
            .ok_or(descriptor.digest))
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
        if before.as_ref() == Some(&descriptor) && self.kept(repository, &digest).await.is_some() {
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
        self.metrics.cache_grew(size);
        if let Some(before) = before.filter(|before| before.digest != digest) {
            self.follow(repository, &before, &digest);
        }
        Ok(answer(Outcome::Miss))
    }
}

fn named(repository: &Repository, tag: &Tag) -> ImageName {
    ImageName { repository: repository.clone(), reference: Reference::Tag(tag.clone()) }
}
