//! Tags that clients resolved by `HEAD`, for the clients that need no more than that: an engine that removed an image may have
//! kept its manifests (Docker 20.10 for a moment, containerd until it collects its garbage), and goes on with their blobs, or,
//! if it has the list alone, with its own entry of it.
//!
//! wharf would have blobs without an image then, or a manifest without a tag: no name for them, and the first to be swept. So
//! when a client asks for what nothing here names, the image that it resolved before is looked at first, as if it had asked
//! for its manifests: if they name it, it is that image's from there on. Who asks by `HEAD` alone costs no pull, as ever.

use std::{slice, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{Error, Inner, Pull, Resolution, Want, whose::Whose};
use crate::{
    oci::{Descriptor, Digest, Manifest, Platform, Repository, Rules},
    on_demand::OnDemand,
};

/// Clients, each in one repository, that are remembered.
const CLIENTS_MAX: u64 = 10_000;

/// Images that each is remembered by: several engines may be one client, and have several tags of one repository.
const IMAGES_MAX: usize = 4;

/// For how long: a pull goes on with its blobs at once, but with the last of them only when the others are there.
const TTL: Duration = Duration::from_secs(15 * 60);

/// What clients resolved, and were not sent, the latest first.
#[derive(Debug)]
pub(super) struct Headed(OnDemand<(Whose, Repository), Arc<Vec<Resolved>>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Resolved {
    manifest: Descriptor,
    /// `None` where `manifest` is no index.
    platform: Option<Platform>,
    rules: Rules,
}

impl Default for Headed {
    fn default() -> Self {
        Self(OnDemand::new(CLIENTS_MAX).for_as_long_as(TTL))
    }
}

impl Headed {
    fn of(&self, repository: &Repository) -> Arc<Vec<Resolved>> {
        self.0.get(&(Whose::now(), repository.clone())).unwrap_or_default()
    }

    /// One of two that change at the same time may be lost: it is as if its client had asked for its blobs alone.
    fn change(&self, repository: &Repository, change: impl FnOnce(&mut Vec<Resolved>)) {
        let mut images = self.of(repository);
        change(Arc::make_mut(&mut images));
        self.0.insert((Whose::now(), repository.clone()), images);
    }
}

impl Inner {
    /// A client was told what a tag means, and not sent it.
    pub(super) fn headed(&self, repository: &Repository, manifest: &Descriptor, who: &Resolution) {
        let has_default = self.clients.default().is_some();
        let platform =
            who.fetched_ahead(has_default).filter(|_| manifest.media_type.is_index()).cloned();
        let is_resolved = platform.is_some() || !manifest.media_type.is_index();
        let (manifest, rules) = (manifest.clone(), who.rules);
        if !is_resolved
            || self.is_composed(repository)
            || self.prefetch.is_complete(repository, &manifest, platform.as_ref(), rules)
        {
            return;
        }
        let resolved = Resolved { manifest, platform, rules };
        self.headed.change(repository, |images| {
            images.retain(|image| *image != resolved);
            images.insert(0, resolved);
            images.truncate(IMAGES_MAX);
        });
    }
}

impl Pull {
    /// Has a manifest that its client asks for by digest listed by an index, if it is of an image that the client resolved and
    /// has the list of.
    pub(super) async fn list_first(&self, repository: &Repository, manifest: &Digest) {
        let pull = &self.0;
        let images = pull.headed.of(repository);
        // Who asks for what the tag means has nothing of it.
        let asks_for_all = images.iter().any(|image| image.manifest.digest == *manifest);
        let latest = images.first().filter(|image| image.platform.is_some() && !asks_for_all);
        let Some(image) = latest else { return };
        if pull.store.shown(repository, manifest).is_some() {
            return;
        }
        let document = self.document(repository, &image.manifest.digest);
        // Whether or not it lists this, it is kept under its tag, once.
        if !matches!(timeout(pull.config.revalidate_timeout, document).await, Ok(Ok(_))) {
            pull.headed.change(repository, |images| images.retain(|other| other != image));
        }
    }

    /// Has a blob that its client asks for named by a manifest, if it is of an image that the client resolved and has the
    /// manifests of.
    pub(super) async fn name_first(&self, repository: &Repository, blob: &Digest) {
        let pull = &self.0;
        for image in pull.headed.of(repository).iter() {
            // As long as for anything that can be done without.
            let patience = pull.config.revalidate_timeout;
            let named = timeout(patience, self.names(repository, image, blob)).await;
            // Also one that cannot be had: the next blob need not wait for it again.
            pull.headed.change(repository, |images| images.retain(|other| other != image));
            if matches!(named, Ok(Ok(true))) {
                if pull.prefetch.config.on_pull {
                    let Resolved { manifest, platform, rules } = image;
                    pull.fetch_ahead(repository, manifest, platform.as_ref(), *rules);
                }
                return;
            }
        }
    }

    /// Whether what the client has of the image names the blob; as a client's, its manifests are kept, if they are to be.
    async fn names(
        &self,
        repository: &Repository,
        image: &Resolved,
        blob: &Digest,
    ) -> Result<bool, Error> {
        let pull = &self.0;
        let mut manifest = image.manifest.clone();
        if let Some(platform) = &image.platform {
            let document = self.document(repository, &manifest.digest).await?;
            let index = pull.indexes.read(&manifest, &document)?;
            let platforms = slice::from_ref(platform);
            let Some(child) = pull.child(repository, &index, platforms, image.rules).await? else {
                return Ok(false);
            };
            manifest = child.descriptor;
        }
        let answer = self.by_digest(repository, &manifest.digest, Want::Content).await?;
        let bytes = answer.bytes.unwrap_or_default();
        let document = Manifest::parse(&answer.descriptor.media_type, &bytes)
            .map_err(|error| Error::ManifestInvalid(error.to_string()))?;
        Ok(document.references().into_iter().any(|named| named.digest == *blob))
    }
}
