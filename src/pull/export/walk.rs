//! What images need, in the order in which it is told: the same for the same images, whoever asks and when.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

use super::{DockerImage, ExportEvent};
use crate::{
    bundle::{Image, Named},
    oci::{
        Descriptor, Digest, ImageIndex, ImageName, Manifest, Platform, Reference, Repository, Tag,
    },
    pull::{Error, Inner},
    store::{self, Held},
};

/// Manifests of one image, with what is attached to it; what is behind them is left out.
const MANIFESTS_MAX: usize = 10_000;

/// How many indexes lead to an image, one in the other: none that is known has more than two.
const DEPTH_MAX: usize = 4;

/// Most layers that Docker can use of one image, and some.
const LAYERS_MAX: usize = 512;

/// The tags under which signatures and attestations of a manifest are found: `sha256-<hex>` and one of these
/// ([cosign, SIGNATURE_SPEC.md](https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md#discovery)).
const ATTACHED: [&str; 3] = ["sig", "att", "sbom"];

/// What is told so far.
#[derive(Default)]
pub(super) struct Walk {
    told: Vec<ExportEvent>,
    held: HashMap<Digest, Held>,
    names: HashSet<String>,
}

/// The blobs of one image, each once.
#[derive(Default)]
struct Parts {
    blobs: Vec<(Descriptor, bool)>,
    seen: HashSet<Digest>,
    /// What somebody may have signed, or refer to: where it is kept.
    subjects: VecDeque<(Repository, Digest)>,
}

impl Walk {
    /// All events, and what keeps their blobs from eviction.
    pub(super) fn finish(self) -> (Vec<ExportEvent>, HashMap<Digest, Held>) {
        let mut told = self.told;
        told.push(ExportEvent::Ready);
        (told, self.held)
    }

    /// An image of one manifest.
    pub(super) async fn manifest_alone(
        &mut self,
        pull: &Arc<Inner>,
        name: &ImageName,
        top: Descriptor,
    ) -> Result<(), Error> {
        let mut parts = Parts::default();
        let document = parts.manifest(pull, &name.repository, &top, name).await?;
        let platform = pull.config_platform(&name.repository, &document).await;
        let docker = docker_image(&document);
        let platforms = platform.map(|platform| platform.plain()).into_iter().collect();
        self.take(pull, name, top, platforms, docker, &mut parts).await
    }

    /// An index, and of its children those that were chosen.
    pub(super) async fn image(
        &mut self,
        pull: &Arc<Inner>,
        name: &ImageName,
        top: Descriptor,
        index: &ImageIndex,
        chosen: Vec<(Platform, Descriptor)>,
    ) -> Result<(), Error> {
        let repository = &name.repository;
        let mut parts = Parts::default();
        parts.add(&top, true);
        parts.subjects.push_back((repository.clone(), top.digest));
        let indexes = parts.nested(pull, index).await?;
        let (mut platforms, mut docker, mut digests) = (Vec::new(), None, HashSet::new());
        for (platform, child) in &chosen {
            let whose = format!("{name} for {platform}");
            let document = parts.manifest(pull, repository, child, &whose).await?;
            docker = docker.or_else(|| docker_image(&document));
            digests.insert(child.digest);
            platforms.push(platform.clone());
            for entry in indexes.iter().chain([index]).flat_map(|i| i.attestations(&child.digest)) {
                let whose = format!("the attestations of {whose}");
                parts.manifest(pull, repository, &entry.descriptor, &whose).await?;
            }
        }
        self.take(pull, name, top, platforms, docker, &mut parts).await?;
        let left = left_out(pull, index, &digests).await?;
        self.told.push(left);
        Ok(())
    }

    /// Tells of an image and of what is attached to it.
    async fn take(
        &mut self,
        pull: &Arc<Inner>,
        name: &ImageName,
        top: Descriptor,
        platforms: Vec<Platform>,
        docker: Option<DockerImage>,
        parts: &mut Parts,
    ) -> Result<(), Error> {
        let named = Named::Image(name.clone());
        self.tell(pull, named, top, platforms, docker, false, parts);
        let mut asked = HashSet::new();
        while let Some((repository, digest)) = parts.subjects.pop_front() {
            if !asked.insert(digest) || asked.len() > MANIFESTS_MAX {
                continue;
            }
            let home = pull.home(&repository, &digest);
            for suffix in ATTACHED {
                let tag = format!("{}-{}.{suffix}", digest.algorithm().as_str(), digest.encoded());
                let Ok(tag) = tag.parse::<Tag>() else { continue };
                let Some((manifest, _)) = pull.store.tag(&home, &tag) else { continue };
                let reference = Reference::Tag(tag);
                let name = ImageName { repository: home.clone(), reference };
                let mut attached = Parts::default();
                if attached.whole(pull, &home, &manifest).await? {
                    parts.subjects.append(&mut attached.subjects);
                    let named = Named::Image(name);
                    self.tell(pull, named, manifest, Vec::new(), None, true, &attached);
                }
            }
            self.referrers(pull, &home, &digest, &mut parts.subjects).await?;
        }
        Ok(())
    }

    /// The kept list of what refers to a manifest, and those of them that are kept whole.
    async fn referrers(
        &mut self,
        pull: &Arc<Inner>,
        repository: &Repository,
        subject: &Digest,
        subjects: &mut VecDeque<(Repository, Digest)>,
    ) -> Result<(), Error> {
        let Some(list) = pull.store.referrers(repository, subject) else { return Ok(()) };
        let Some(Manifest::Index(index)) = document(pull, &list).await? else { return Ok(()) };
        let mut parts = Parts::default();
        parts.add(&list, true);
        for entry in &index.entries {
            parts.whole(pull, repository, &entry.descriptor).await?;
        }
        subjects.append(&mut parts.subjects);
        let reference = Reference::Digest(*subject);
        let named = Named::ReferrersOf(ImageName { repository: repository.clone(), reference });
        self.tell(pull, named, list, Vec::new(), None, true, &parts);
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn tell(
        &mut self,
        pull: &Inner,
        named: Named,
        top: Descriptor,
        platforms: Vec<Platform>,
        docker: Option<DockerImage>,
        attached: bool,
        parts: &Parts,
    ) {
        // What is attached may be attached to several, and images may mean the same.
        if !self.names.insert(named.to_string()) {
            return;
        }
        let Descriptor { media_type, digest, size } = top;
        let image = Image { named, digest, media_type, size, platforms };
        self.told.push(ExportEvent::Image { image, attached, docker });
        for (Descriptor { digest, size, .. }, document) in &parts.blobs {
            let (digest, size, document) = (*digest, *size, *document);
            self.held.entry(digest).or_insert_with(|| pull.hold(&digest));
            self.told.push(ExportEvent::Blob { digest, size, document });
        }
    }
}

impl Parts {
    fn add(&mut self, blob: &Descriptor, is_document: bool) {
        if self.seen.insert(blob.digest) {
            self.blobs.push((blob.clone(), is_document));
        }
    }

    /// Takes a manifest and all it names.
    ///
    /// # Errors
    /// When not all of it is here: it is `whose`.
    async fn manifest(
        &mut self,
        pull: &Arc<Inner>,
        repository: &Repository,
        manifest: &Descriptor,
        whose: &(impl std::fmt::Display + ?Sized),
    ) -> Result<Manifest, Error> {
        let lacks = |what: String| Error::NotWhole(format!("{whose} is not whole here: {what}"));
        let Some(document) = document(pull, manifest).await? else {
            return Err(lacks(format!("its manifest {} is missing", manifest.digest)));
        };
        let missing = self.missing(pull, &document).await?;
        if !missing.is_empty() {
            let bytes = missing.iter().fold(0, |sum: u64, blob| sum.saturating_add(blob.size));
            let (count, first) = (missing.len(), missing[0].digest);
            return Err(lacks(format!(
                "{count} of its blobs ({bytes} B) are missing, {first} first"
            )));
        }
        self.keep(repository, manifest, &document);
        Ok(document)
    }

    /// The same if all of it is here; whether it is.
    async fn whole(
        &mut self,
        pull: &Arc<Inner>,
        repository: &Repository,
        manifest: &Descriptor,
    ) -> Result<bool, Error> {
        let Some(document) = document(pull, manifest).await? else { return Ok(false) };
        let is_whole = self.missing(pull, &document).await?.is_empty();
        if is_whole {
            self.keep(repository, manifest, &document);
        }
        Ok(is_whole)
    }

    fn keep(&mut self, repository: &Repository, manifest: &Descriptor, document: &Manifest) {
        self.add(manifest, true);
        self.subjects.push_back((repository.clone(), manifest.digest));
        if let Manifest::Image { blobs } = document {
            let config = document.config().map(|config| config.digest);
            for blob in blobs {
                self.add(blob, Some(blob.digest) == config);
            }
        }
    }

    /// What a manifest names and is not here, each blob once.
    async fn missing(
        &self,
        pull: &Arc<Inner>,
        document: &Manifest,
    ) -> Result<Vec<Descriptor>, Error> {
        let Manifest::Image { blobs } = document else { return Ok(Vec::new()) };
        let mut seen = HashSet::new();
        let once: Vec<_> = blobs.iter().filter(|blob| seen.insert(blob.digest)).collect();
        let sizes = pull.store.sizes(once.iter().map(|blob| blob.digest).collect()).await?;
        let missing = once.into_iter().zip(sizes).filter(|(blob, size)| *size != Some(blob.size));
        Ok(missing.map(|(blob, _)| blob.clone()).collect())
    }

    /// Takes the indexes that `index` leads to and that are kept, and reads them.
    async fn nested(
        &mut self,
        pull: &Arc<Inner>,
        index: &ImageIndex,
    ) -> Result<Vec<ImageIndex>, Error> {
        let (mut level, mut all) = (vec![index.clone()], Vec::new());
        for _ in 0..DEPTH_MAX {
            let mut next = Vec::new();
            let entries = level.iter().flat_map(|index| &index.entries);
            for entry in entries.filter(|entry| entry.descriptor.media_type.is_index()) {
                if self.seen.contains(&entry.descriptor.digest) || self.seen.len() > MANIFESTS_MAX {
                    continue;
                }
                if let Some(Manifest::Index(index)) = document(pull, &entry.descriptor).await? {
                    self.add(&entry.descriptor, true);
                    next.push(index);
                }
            }
            all.extend(next.iter().cloned());
            level = next;
        }
        Ok(all)
    }
}

/// What a kept manifest says; `None` when it is not kept, or damaged.
async fn document(pull: &Inner, manifest: &Descriptor) -> Result<Option<Manifest>, Error> {
    let bytes = match pull.store.manifest(&manifest.digest).await {
        Ok(bytes) => bytes,
        Err(error @ store::Error::Damaged { .. }) => {
            pull.damaged(&error);
            None
        }
        Err(error) => return Err(error.into()),
    };
    let Some(bytes) = bytes.filter(|bytes| bytes.len() as u64 == manifest.size) else {
        return Ok(None);
    };
    Ok(Some(Manifest::parse(&manifest.media_type, &bytes).unwrap_or(Manifest::Opaque)))
}

fn docker_image(document: &Manifest) -> Option<DockerImage> {
    let (config, Manifest::Image { blobs }) = (document.config()?, document) else { return None };
    let layers: Vec<Digest> = blobs.iter().skip(1).map(|blob| blob.digest).collect();
    (layers.len() <= LAYERS_MAX).then_some(DockerImage { config: config.digest, layers })
}

/// What an index has for other platforms than the manifests that were chosen.
async fn left_out(
    pull: &Arc<Inner>,
    index: &ImageIndex,
    chosen: &HashSet<Digest>,
) -> Result<ExportEvent, Error> {
    let (mut platforms, mut bytes, mut known) = (0, 0_u64, 0);
    let mut seen = HashSet::new();
    for entry in index.images() {
        let digest = entry.descriptor.digest;
        if chosen.contains(&digest) || entry.platform.is_none() || !seen.insert(digest) {
            continue;
        }
        platforms += 1;
        if let Some(Manifest::Image { blobs }) = document(pull, &entry.descriptor).await? {
            let mut once = HashSet::new();
            let blobs = blobs.iter().filter(|blob| once.insert(blob.digest));
            bytes = blobs.fold(bytes, |sum, blob| sum.saturating_add(blob.size));
            known += 1;
        }
    }
    Ok(ExportEvent::Left { platforms, bytes, known })
}
