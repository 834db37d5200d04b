//! What is kept, looked at: the images, and how much of each platform of them.

use std::collections::{HashMap, HashSet};

use super::{
    Error, Inner, InspectedManifest, Inspection, KeptImage, KeptPlatform, ManifestAnswer, Pull,
    Want,
};
use crate::{
    oci::{
        Descriptor, Digest, ImageIndex, ImageName, Manifest, Platform, Reference, Repository, Tag,
    },
    store,
};

/// Repositories that are looked up at once.
const PAGE: usize = 100;

/// How many indexes lead to an image, one in the other: none that is known has more than two.
const DEPTH_MAX: usize = 4;

/// Documents of one image that are looked at; what is behind them is not reported.
const DOCUMENTS_MAX: usize = 10_000;

impl Pull {
    /// All images that are kept, by name.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn images(&self) -> Result<Vec<KeptImage>, Error> {
        let store = &self.0.store;
        let (mut images, mut last) = (Vec::new(), None);
        loop {
            let repositories = store.repositories(last.as_deref(), PAGE);
            let Some(end) = repositories.last() else { return Ok(images) };
            last = Some(end.to_string());
            for repository in &repositories {
                for tag in store.tags(repository) {
                    images.extend(self.kept_image(repository, &tag).await?);
                }
            }
        }
    }

    /// What an image name means, asked of its registry as a pull would, and what of it is kept.
    ///
    /// Nothing but the document that the name means is fetched. Of an index in an index, only itself is looked at.
    ///
    /// # Errors
    /// When neither the cache nor the registry has it.
    pub async fn inspect(&self, image: &ImageName) -> Result<Inspection, Error> {
        let repository = &image.repository;
        let answer = self.looked_up(image).await?;
        let ManifestAnswer { descriptor, bytes, outcome, .. } = answer;
        let document = Manifest::parse(&descriptor.media_type, &bytes.unwrap_or_default());
        let mut on_disk = OnDisk::new(&self.0);
        let manifests = match document.unwrap_or(Manifest::Opaque) {
            Manifest::Index(index) => inspect_index(&mut on_disk, index).await?,
            document => {
                let holding = on_disk.holding(&descriptor.digest, &document).await?;
                let platform = self.0.config_platform(repository, &document).await;
                vec![holding.inspected(descriptor.clone(), platform, None)]
            }
        };
        Ok(Inspection {
            name: image.to_string(),
            digest: descriptor.digest,
            media_type: descriptor.media_type,
            size: descriptor.size,
            outcome: outcome.as_str().to_owned(),
            manifests,
        })
    }

    /// Whether a manifest is kept with all that it names.
    pub(super) async fn is_whole(&self, manifest: &Descriptor) -> Result<bool, Error> {
        let mut on_disk = OnDisk::new(&self.0);
        on_disk.look(vec![manifest.digest]).await?;
        match on_disk.document(manifest).await? {
            Some(document) => Ok(on_disk.holding(&manifest.digest, &document).await?.whole),
            None => Ok(false),
        }
    }

    /// The document that a name means. No client asked for it, so it does not count as a pull of the image.
    async fn looked_up(&self, image: &ImageName) -> Result<ManifestAnswer, Error> {
        let repository = &image.repository;
        let answer = match &image.reference {
            Reference::Tag(tag) => self.tagged(repository, tag, Want::Content).await,
            Reference::Digest(digest) => self.with_digest(repository, digest, Want::Content).await,
        };
        answer.map_err(|error| error.naming(|| self.0.absent(repository, &image.reference, &[])))
    }

    async fn kept_image(
        &self,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<Option<KeptImage>, Error> {
        let store = &self.0.store;
        let Some((top, since)) = store.tag(repository, tag) else { return Ok(None) };
        let digest = top.digest;
        let mut on_disk = OnDisk::new(&self.0);
        let platforms = self.kept_platforms(&mut on_disk, repository, top).await?;
        Ok(Some(KeptImage {
            name: format!("{repository}:{tag}"),
            digest,
            size: on_disk.total(),
            since,
            pulled: store.last_pulled(repository, &digest),
            pinned: store.is_pinned(repository, &Reference::Tag(tag.clone())),
            platforms,
        }))
    }

    /// Looks at `top` and all that is kept below it.
    async fn kept_platforms(
        &self,
        on_disk: &mut OnDisk<'_>,
        repository: &Repository,
        top: Descriptor,
    ) -> Result<Vec<KeptPlatform>, Error> {
        let mut platforms = Vec::new();
        // What was looked at; `None` for an index.
        let mut known: HashMap<Digest, Option<Holding>> = HashMap::new();
        on_disk.look(vec![top.digest]).await?;
        let mut waiting = vec![Below { manifest: top, platform: None, is_image: true, depth: 0 }];
        for _ in 0..DOCUMENTS_MAX {
            let Some(Below { manifest, platform, is_image, depth }) = waiting.pop() else { break };
            let digest = manifest.digest;
            if let Some(holding) = known.get(&digest) {
                // Listed once more: for another platform, or for nothing.
                let again = platform.zip(holding.as_ref()).filter(|_| is_image);
                platforms.extend(
                    again.map(|(image, holding)| holding.kept_platform(digest, Some(image))),
                );
                continue;
            }
            let Some(document) = on_disk.document(&manifest).await? else { continue };
            if let Manifest::Index(index) = document {
                known.insert(digest, None);
                if depth < DEPTH_MAX {
                    on_disk.look(digests(&index)).await?;
                    let kept = index.entries.into_iter().rev();
                    let kept =
                        kept.filter(|entry| on_disk.size(&entry.descriptor.digest).is_some());
                    waiting.extend(kept.map(|entry| Below {
                        is_image: is_image && entry.is_image(),
                        manifest: entry.descriptor,
                        platform: entry.platform.or_else(|| platform.clone()),
                        depth: depth + 1,
                    }));
                }
                continue;
            }
            let holding = on_disk.holding(&digest, &document).await?;
            if is_image {
                let platform = match platform {
                    Some(platform) => Some(platform),
                    None => self.0.config_platform(repository, &document).await,
                };
                platforms.push(holding.kept_platform(digest, platform));
            }
            known.insert(digest, Some(holding));
        }
        Ok(platforms)
    }
}

/// A document that is yet to be looked at.
struct Below {
    manifest: Descriptor,
    /// What the nearest index says that says anything.
    platform: Option<Platform>,
    /// Whether it is for running, rather than an attestation.
    is_image: bool,
    /// How many indexes led here.
    depth: usize,
}

/// How much of one manifest is kept, in bytes; a blob that it names twice counts once.
#[derive(Clone, Copy)]
struct Holding {
    /// On disk, of manifest, config and layers.
    kept: u64,
    /// The manifest's own length; `None` while it is not kept.
    own: Option<u64>,
    /// Of config and layers, as the manifest says; `None` where it is not kept, or says nothing of blobs.
    content: Option<u64>,
    whole: bool,
}

impl Holding {
    const fn nothing() -> Self {
        Self { kept: 0, own: None, content: None, whole: false }
    }

    fn kept_platform(&self, digest: Digest, platform: Option<Platform>) -> KeptPlatform {
        let size = self.own.zip(self.content).map(|(own, content)| own.saturating_add(content));
        KeptPlatform { platform, digest, whole: self.whole, kept: self.kept, size }
    }

    fn inspected(
        &self,
        manifest: Descriptor,
        platform: Option<Platform>,
        attests: Option<Digest>,
    ) -> InspectedManifest {
        InspectedManifest {
            digest: manifest.digest,
            media_type: manifest.media_type,
            size: manifest.size,
            platform,
            attests,
            content_size: self.content,
            kept: self.kept,
            whole: self.whole,
        }
    }
}

async fn inspect_index(
    on_disk: &mut OnDisk<'_>,
    index: ImageIndex,
) -> Result<Vec<InspectedManifest>, Error> {
    on_disk.look(digests(&index)).await?;
    let (mut manifests, mut known) = (Vec::with_capacity(index.entries.len()), HashMap::new());
    for entry in index.entries {
        let digest = entry.descriptor.digest;
        let holding = match known.get(&digest) {
            Some(holding) => *holding,
            None => match on_disk.document(&entry.descriptor).await? {
                Some(document) => on_disk.holding(&digest, &document).await?,
                None => Holding::nothing(),
            },
        };
        known.insert(digest, holding);
        manifests.push(holding.inspected(entry.descriptor, entry.platform, entry.attests));
    }
    Ok(manifests)
}

fn digests(index: &ImageIndex) -> Vec<Digest> {
    index.entries.iter().map(|entry| entry.descriptor.digest).collect()
}

/// The blobs that were looked at below one image, each once, and how long they are; `None`: not kept.
struct OnDisk<'a> {
    pull: &'a Inner,
    sizes: HashMap<Digest, Option<u64>>,
}

impl<'a> OnDisk<'a> {
    fn new(pull: &'a Inner) -> Self {
        Self { pull, sizes: HashMap::new() }
    }

    async fn look(&mut self, mut digests: Vec<Digest>) -> Result<(), Error> {
        digests.retain(|digest| !self.sizes.contains_key(digest));
        if !digests.is_empty() {
            let sizes = self.pull.store.sizes(digests.clone()).await?;
            self.sizes.extend(digests.into_iter().zip(sizes));
        }
        Ok(())
    }

    /// The length of a blob that was looked at.
    fn size(&self, digest: &Digest) -> Option<u64> {
        self.sizes.get(digest).copied().flatten()
    }

    /// Bytes of all that were looked at.
    fn total(&self) -> u64 {
        self.sizes.values().flatten().fold(0, |sum, size| sum.saturating_add(*size))
    }

    /// What a manifest that was looked at says; `None` when it is not kept.
    async fn document(&mut self, manifest: &Descriptor) -> Result<Option<Manifest>, Error> {
        if self.size(&manifest.digest).is_none() {
            return Ok(None);
        }
        let bytes = match self.pull.store.manifest(&manifest.digest).await {
            Ok(bytes) => bytes,
            Err(error @ store::Error::Damaged { .. }) => {
                self.pull.damaged(&error);
                self.sizes.insert(manifest.digest, None);
                None
            }
            Err(error) => return Err(error.into()),
        };
        // A document that is not of the type that its index says is as good as opaque.
        let parse = |bytes: &[u8]| Manifest::parse(&manifest.media_type, bytes);
        Ok(bytes.map(|bytes| parse(&bytes).unwrap_or(Manifest::Opaque)))
    }

    /// How much is kept of a manifest that says `document`.
    async fn holding(&mut self, manifest: &Digest, document: &Manifest) -> Result<Holding, Error> {
        let blobs: &[Descriptor] = match document {
            Manifest::Image { blobs } => blobs,
            _ => &[],
        };
        let named = blobs.iter().map(|blob| blob.digest).chain([*manifest]);
        self.look(named.collect()).await?;
        let own = self.size(manifest);
        let mut seen = HashSet::new();
        let (mut content, mut kept, mut whole) = (0_u64, own.unwrap_or(0), own.is_some());
        for blob in blobs.iter().filter(|blob| seen.insert(blob.digest)) {
            content = content.saturating_add(blob.size);
            if self.size(&blob.digest) == Some(blob.size) {
                kept = kept.saturating_add(blob.size);
            } else {
                whole = false;
            }
        }
        let is_image = own.is_some() && matches!(document, Manifest::Image { .. });
        Ok(Holding { kept, own, content: is_image.then_some(content), whole: whole && is_image })
    }
}
