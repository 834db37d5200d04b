//! Which images there are, which blobs each needs, and what of these is missing.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    oci::{Descriptor, Digest, Manifest, Platform, Repository},
    pull::{Error, Inner, platform::Policy},
    store,
};

/// Repositories that are looked up at once.
const PAGE: usize = 100;

/// How many indexes lead to an image, one in the other: none that is known has more than two.
const DEPTH_MAX: usize = 4;

/// Images that are named where a blob belongs to many.
const NAMES_MAX: usize = 32;

/// All images that are kept, as they were when it was looked.
#[derive(Default)]
pub(in crate::pull) struct Survey {
    /// Full names: `docker.io/library/alpine:3.20`, and with a digest those of manifests without a tag.
    names: Vec<String>,
    pub(super) parts: Vec<Part>,
    /// Which names need a blob.
    needed: HashMap<Digest, Vec<usize>>,
    /// Manifests that were found damaged on the way, and are put aside.
    pub(super) damaged: Vec<Damaged>,
}

/// One manifest of an image that leads to no others.
pub(super) struct Part {
    name: usize,
    pub(super) repository: Repository,
    pub(super) manifest: Descriptor,
    pub(super) platform: Option<Platform>,
    /// Whether the manifest could be read, and so what it needs is known.
    is_known: bool,
}

pub(super) struct Damaged {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) why: String,
}

/// What is here of a part.
pub(super) struct State {
    /// What is not, each blob once. The manifest alone, when that is missing: it would say what else is.
    pub(super) missing: Vec<Descriptor>,
    /// Whether the manifest is among what is missing.
    pub(super) manifest_is_missing: bool,
    /// Whether more is here than the manifest and one blob, its config: so that the rest was wanted here, too.
    pub(super) is_begun: bool,
    /// Whether the image is larger than all that may be kept.
    pub(super) is_oversized: bool,
}

/// A manifest that is yet to be looked at.
struct Below {
    manifest: Descriptor,
    platform: Option<Platform>,
    depth: usize,
}

impl Survey {
    pub(super) fn name(&self, part: &Part) -> &str {
        &self.names[part.name]
    }

    /// Whether any image needs the blob.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.needed.contains_key(digest)
    }

    /// Those that images are kept of, each once.
    pub(super) fn repositories(&self) -> impl Iterator<Item = &Repository> {
        let mut seen = HashSet::new();
        self.parts.iter().map(|part| &part.repository).filter(move |of| seen.insert(*of))
    }

    fn needs(&mut self, digest: &Digest, name: usize) {
        let names = self.needed.entry(*digest).or_default();
        // One image is looked at after the other.
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
}

impl State {
    pub(super) fn missing_bytes(&self) -> u64 {
        self.missing.iter().fold(0, |sum, blob| sum.saturating_add(blob.size))
    }

    /// Whether something is missing that was here: what is in `gone`, or a manifest, which is only known once it is kept.
    pub(super) fn has_lost(&self, gone: &HashSet<Digest>) -> bool {
        self.manifest_is_missing || self.missing.iter().any(|blob| gone.contains(&blob.digest))
    }
}

impl Inner {
    /// The full names of images that need the blob, not more than a few dozen.
    ///
    /// When none is known to, those whose manifest cannot be read any more, and whose repository has the blob.
    pub(in crate::pull) fn images_of(&self, survey: &Survey, digest: &Digest) -> Vec<String> {
        let may_need =
            |part: &&Part| !part.is_known && self.store.link(&part.repository, digest).is_some();
        let names: Vec<usize> = match survey.needed.get(digest) {
            Some(names) => names.iter().copied().take(NAMES_MAX).collect(),
            None => {
                let parts = survey.parts.iter().filter(may_need);
                parts.map(|part| part.name).take(NAMES_MAX).collect()
            }
        };
        names.into_iter().map(|name| survey.names[name].clone()).collect()
    }

    /// Looks at every manifest that is kept.
    ///
    /// # Errors
    /// When the disk fails.
    pub(in crate::pull) async fn survey(self: &Arc<Self>) -> Result<Survey, Error> {
        let mut survey = Survey::default();
        let mut last = None;
        loop {
            let repositories = self.store.repositories(last.as_deref(), PAGE);
            let Some(end) = repositories.last() else { break };
            last = Some(end.to_string());
            for repository in &repositories {
                for tag in self.store.tags(repository) {
                    let Some((top, _)) = self.store.tag(repository, &tag) else { continue };
                    self.add(&mut survey, format!("{repository}:{tag}"), repository, top).await?;
                }
            }
        }
        // Indexes first: what they lead to is theirs.
        let (indexes, others): (Vec<_>, Vec<_>) = self
            .store
            .manifests()
            .await?
            .into_iter()
            .partition(|(_, manifest)| manifest.media_type.is_index());
        for (repository, manifest) in indexes.into_iter().chain(others) {
            if !survey.needed.contains_key(&manifest.digest) {
                let name = format!("{repository}@{}", manifest.digest);
                self.add(&mut survey, name, &repository, manifest).await?;
            }
        }
        Ok(survey)
    }

    async fn add(
        self: &Arc<Self>,
        survey: &mut Survey,
        name: String,
        repository: &Repository,
        top: Descriptor,
    ) -> Result<(), Error> {
        let (number, mut seen) = (survey.names.len(), HashSet::new());
        survey.names.push(name);
        let mut waiting = vec![Below { manifest: top, platform: None, depth: 0 }];
        while let Some(Below { manifest, platform, depth }) = waiting.pop() {
            if !seen.insert((manifest.digest, platform.clone())) {
                continue;
            }
            survey.needs(&manifest.digest, number);
            let document = match self.document(&manifest).await {
                Err(store::Error::Damaged { digest, why }) => {
                    survey.damaged.push(Damaged { digest, size: manifest.size, why });
                    None
                }
                // The reading of all blobs comes by it, and says so.
                Err(_) => None,
                Ok(read) => read,
            };
            let is_known = document.is_some();
            match document {
                Some(Manifest::Index(index)) if depth < DEPTH_MAX => {
                    for entry in index.entries.into_iter().rev() {
                        let digest = &entry.descriptor.digest;
                        let home = self.home(repository, digest);
                        if self.store.has_manifest(&home, digest) {
                            let platform = entry.platform.or_else(|| platform.clone());
                            let manifest = entry.descriptor;
                            waiting.push(Below { manifest, platform, depth: depth + 1 });
                        }
                    }
                    continue;
                }
                Some(Manifest::Image { blobs }) => {
                    for blob in blobs {
                        survey.needs(&blob.digest, number);
                    }
                }
                _ => {}
            }
            let repository = repository.clone();
            survey.parts.push(Part { name: number, repository, manifest, platform, is_known });
        }
        Ok(())
    }

    /// What is here of a part now.
    pub(super) async fn look_at(self: &Arc<Self>, part: &Part) -> Result<State, Error> {
        let Ok(Some(document)) = self.document(&part.manifest).await else {
            let missing = vec![part.manifest.clone()];
            let (manifest_is_missing, is_begun, is_oversized) = (true, false, false);
            return Ok(State { missing, manifest_is_missing, is_begun, is_oversized });
        };
        let is_oversized = self.is_oversized(&document);
        let (blobs, digests) = named_once(document);
        let sizes = self.store.sizes(digests).await?;
        let all = blobs.len();
        let mut missing = Vec::new();
        for (blob, size) in blobs.into_iter().zip(sizes) {
            if size != Some(blob.size) {
                missing.push(blob);
            }
        }
        let is_begun = all - missing.len() > 1;
        Ok(State { missing, manifest_is_missing: false, is_begun, is_oversized })
    }

    /// Whether the part is kept still: it may have been removed since the survey.
    pub(super) fn is_there(&self, part: &Part) -> bool {
        let digest = &part.manifest.digest;
        self.store.has_manifest(&self.home(&part.repository, digest), digest)
    }

    /// Whether what a part lacks is fetched again: not what is gone meanwhile, or would not be kept if it were pulled now.
    pub(super) async fn is_to_be_kept(self: &Arc<Self>, part: &Part) -> bool {
        let digest = &part.manifest.digest;
        let home = self.home(&part.repository, digest);
        self.is_there(part) && self.policy(&home, digest).await == Policy::Keep
    }

    /// What a kept manifest says; `None` when it is missing.
    async fn document(&self, manifest: &Descriptor) -> Result<Option<Manifest>, store::Error> {
        let bytes = self.store.manifest(&manifest.digest).await;
        if let Err(error @ store::Error::Damaged { .. }) = &bytes {
            self.damaged(error);
        }
        // A document that is not of the type that its index says is as good as opaque.
        let parse = |bytes: &[u8]| Manifest::parse(&manifest.media_type, bytes);
        Ok(bytes?.map(|bytes| parse(&bytes).unwrap_or(Manifest::Opaque)))
    }
}

/// The blobs that a manifest names, each once, and their digests.
fn named_once(document: Manifest) -> (Vec<Descriptor>, Vec<Digest>) {
    let Manifest::Image { mut blobs } = document else { return (Vec::new(), Vec::new()) };
    let mut seen = HashSet::new();
    blobs.retain(|blob| seen.insert(blob.digest));
    let digests = blobs.iter().map(|blob| blob.digest).collect();
    (blobs, digests)
}
