//! Taking in an archive that came by hand: blobs first, which are nobody's until every one that an image needs is here, then
//! the image, its documents before its name.

mod taking;

use std::{
    collections::BTreeSet,
    io::{self, Read},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::{runtime::Handle, task::spawn_blocking};

use self::taking::Taking;
use super::{Error, Inner, Pull};
use crate::{
    bundle::{
        BroughtImage, Named, PublicKey, ReadError, TakenVolume, Terms, Why, listed_numbers, read,
    },
    oci::{Digest, ImageName, Manifest, Reference},
};

/// How an archive is to be taken in.
#[derive(Clone, Debug, Default)]
pub struct ImportTerms {
    /// What an image is called that has no name in the archive; where it has a tag alone, of this repository.
    pub name: Option<ImageName>,
    /// Whether the images are not pinned.
    pub unpinned: bool,
    /// Whose signature is needed, besides what the configuration says; empty: nobody's.
    pub trusted: Vec<PublicKey>,
}

/// What an archive brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The images, in the archive's order.
    pub images: Vec<ImportedImage>,
    /// Blobs that were not here before.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs of the archive that were here.
    pub known: u64,
    /// Registries of images that are not served, since they are not configured.
    pub unserved: Vec<String>,
    /// Of a volume of a bundle: which. Without the others there is no image yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<ImportedVolume>,
}

/// One volume of a bundle, and what of the bundle is not here yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedVolume {
    /// What all volumes of the bundle have in common: the digest of its contents.
    pub set: Digest,
    /// Which it is.
    pub number: u32,
    /// Of how many.
    pub of: u32,
    /// The numbers of those that are not here yet, in their order. The images come with the last.
    pub missing: Vec<u32>,
}

impl ImportedVolume {
    /// What is still to be brought, in a few words.
    pub fn rest(&self) -> String {
        match self.missing.as_slice() {
            [] => "all are here".to_owned(),
            [one] => format!("{one} is not here yet"),
            many => format!("{} are not here yet", listed_numbers(many)),
        }
    }
}

/// One image that an archive brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedImage {
    /// Its full name, or of what it is the list of referrers.
    pub name: String,
    /// Of its index or manifest.
    pub digest: String,
    /// The manifests in it that can be run, or that speak of such.
    pub manifests: u64,
}

impl Pull {
    /// Where archives that appear are to be taken in.
    pub fn drop_folder(&self) -> Option<PathBuf> {
        self.0.config.airgap.watch.clone()
    }

    /// Takes in an archive: each of its images whole, or nothing. What is read again after a kill is not written again.
    /// What was verified of a volume of a bundle stays, and waits for the others.
    ///
    /// `archive` is read on a thread that may block; when it fails, nothing was taken.
    ///
    /// # Errors
    /// When the archive is not to be taken, in one sentence; when there is no room, or the disk fails.
    pub async fn import(
        &self,
        archive: impl Read + Send + 'static,
        terms: ImportTerms,
    ) -> Result<Imported, Error> {
        let imported = self.0.take_in(archive, terms).await;
        self.0.tell_usage();
        match &imported {
            Ok(imported) => {
                let Imported { images, blobs, bytes, known, volume, .. } = imported;
                let waits = volume.as_ref().filter(|volume| !volume.missing.is_empty());
                self.0.metrics.imported(if waits.is_some() { "volume" } else { "taken" });
                if let Some(ImportedVolume { set, number, of, .. }) = waits {
                    tracing::info!(%set, number, of, blobs, bytes, known, "a volume was taken in");
                } else {
                    tracing::info!(
                        images = images.len(),
                        blobs,
                        bytes,
                        known,
                        "an archive was taken in"
                    );
                }
            }
            Err(error) => {
                let outcome = if matches!(error, Error::Archive(_)) { "refused" } else { "failed" };
                self.0.metrics.imported(outcome);
                tracing::warn!(%error, "an archive was not taken in");
            }
        }
        imported
    }
}

impl Inner {
    async fn take_in(
        self: &Arc<Self>,
        archive: impl Read + Send + 'static,
        terms: ImportTerms,
    ) -> Result<Imported, Error> {
        let ImportTerms { name, unpinned, trusted } = terms;
        let trusted = self.trusted(trusted)?;
        let reading = Terms { bytes: self.store.usage().limit, name, trusted };
        let given_up = GivenUp::default();
        let is_given_up = Arc::clone(&given_up.0);
        let mut taking = Taking::new(Arc::clone(self), Handle::current(), is_given_up);
        let archive = Watched { archive, is_given_up: Arc::clone(&given_up.0) };
        let read = spawn_blocking(move || {
            let brought = read(archive, &reading, &mut taking);
            taking.abandoned();
            (brought, taking)
        });
        let (brought, taking) = read.await.map_err(|_| Error::Busy)?;
        let (images, volume, mut taking) = match brought {
            Ok(brought) => (brought.images, brought.volume, taking),
            Err(error) => return Err(self.refused(&error, taking).await),
        };
        let mut imported = taking.told();
        imported.volume = volume.map(|TakenVolume { set, number, of, missing }| ImportedVolume {
            set,
            number,
            of,
            missing,
        });
        let mut unserved = BTreeSet::new();
        for image in &images {
            self.keep_image(image, unpinned).await?;
            let name = image.named.image();
            if self.upstreams.select(&name.repository.registry).is_none()
                && !self.is_composed(&name.repository)
            {
                unserved.insert(name.repository.registry.to_string());
            }
            imported.images.push(ImportedImage {
                name: image.named.to_string(),
                digest: image.root.digest.to_string(),
                manifests: image.documents.iter().filter(|(_, document)| is_image(document)).count()
                    as u64,
            });
        }
        imported.unserved = unserved.into_iter().collect();
        if let Some(left) = taking.take_left().filter(|left| left.is_whole) {
            left.taken.end(&self.store, true).await;
        }
        // Held until here: nothing of it went before it had its name.
        drop(taking);
        Ok(imported)
    }

    /// What becomes of that which was read of an archive that is not taken in.
    async fn refused(&self, error: &ReadError, mut taking: Taking) -> Error {
        let is_ours = match error {
            ReadError::Member { why, .. } | ReadError::Whole(why) => matches!(**why, Why::Sink(_)),
            _ => false,
        };
        match taking.take_left() {
            // What was verified stays; but contents that are wrong with all of their blobs are never right.
            Some(left) => {
                drop(taking);
                if left.is_empty || (left.is_whole && !is_ours) {
                    left.taken.end(&self.store, false).await;
                }
            }
            None => {
                if let Err(error) = self.store.drop_unnamed(&taking.into_added()).await {
                    tracing::warn!(%error, "what was read of a refused archive stays until the next sweep");
                }
            }
        }
        if is_ours { Error::NotTaken(error.to_string()) } else { Error::Archive(error.to_string()) }
    }

    /// The keys of which one must have signed: those of the configuration, or of them those that are asked for.
    fn trusted(&self, asked: Vec<PublicKey>) -> Result<Vec<PublicKey>, Error> {
        let configured = &self.config.airgap.trusted;
        if configured.is_empty() || asked.is_empty() {
            return Ok(if asked.is_empty() { configured.clone() } else { asked });
        }
        let both: Vec<_> = asked.into_iter().filter(|key| configured.contains(key)).collect();
        if both.is_empty() {
            let sentence = "the key is not among [airgap] trusted_keys";
            return Err(Error::Archive(sentence.to_owned()));
        }
        Ok(both)
    }

    /// Writes down that an image is here, all of which is. Its name comes last.
    async fn keep_image(&self, image: &BroughtImage, unpinned: bool) -> Result<(), Error> {
        let ImageName { repository, reference } = image.named.image();
        if let Named::ReferrersOf(_) = &image.named {
            let Reference::Digest(subject) = reference else { return Ok(()) };
            let bytes =
                self.store.manifest(&image.root.digest).await?.ok_or(Error::ManifestUnknown)?;
            for (descriptor, document) in image.documents.iter().rev().skip(1).rev() {
                self.store.take_manifest(repository, descriptor, document, &[]).await?;
            }
            self.store.keep_referrers(repository, subject, &image.root, &bytes).await?;
            return Ok(());
        }
        let tag = match reference {
            Reference::Tag(tag) => Some(tag.clone()),
            Reference::Digest(_) => None,
        };
        for (descriptor, document) in &image.documents {
            let is_root = descriptor.digest == image.root.digest;
            let tags = tag.as_slice();
            let tags = if is_root { tags } else { &[] };
            self.store.take_manifest(repository, descriptor, document, tags).await?;
            if let (true, Manifest::Image { blobs }) = (self.has_closed, document) {
                // Who imports vouches for what it brings.
                for blob in blobs {
                    self.store.keep_link(repository, blob).await?;
                }
            }
        }
        if !unpinned {
            self.store.pin(repository, reference, true).await?;
        }
        if let Some(tag) = &tag {
            self.freshness.known_again(repository, tag);
        }
        Ok(())
    }
}

/// Says when it is dropped that nobody waits for an archive any more: its thread ends at the next read.
#[derive(Default)]
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Watched<R> {
    archive: R,
    is_given_up: Arc<AtomicBool>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_given_up.load(Ordering::Relaxed) {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        self.archive.read(buffer)
    }
}

fn is_image(document: &Manifest) -> bool {
    matches!(document, Manifest::Image { .. })
}
