//! [`ImageIndex`]: the manifests of one image for several platforms.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Descriptor, Digest, Platform, Rank, Rules,
    manifest::RawDescriptor,
    outline::{Entry, text},
    platform::RawPlatform,
};

/// An image index or manifest list
/// ([image-spec, image-index.md](https://github.com/opencontainers/image-spec/blob/main/image-index.md)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageIndex {
    /// What it lists, in its order. Entries whose digest cannot be verified are left out.
    pub entries: Vec<IndexEntry>,
}

/// One entry of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The manifest.
    pub descriptor: Descriptor,
    /// What it runs on; `None` where the index does not say, `unknown/unknown` where what it says cannot be read.
    pub platform: Option<Platform>,
    /// For an attestation manifest: the manifest that it speaks of
    /// ([attestation storage](https://docs.docker.com/build/metadata/attestations/attestation-storage/)).
    pub attests: Option<Digest>,
}

impl ImageIndex {
    /// The entry that a host of `platform` takes: the best match, and of equal ones the first.
    ///
    /// Nested indexes are entries like others: one that names no platform is taken only when nothing else matches.
    pub fn select(&self, platform: &Platform, rules: Rules) -> Option<&IndexEntry> {
        let fitting = self.images().filter_map(|entry| {
            let rank = match &entry.platform {
                Some(image) => Choice::Said(platform.rank(image, rules)?),
                None => Choice::Unsaid,
            };
            Some((rank, entry))
        });
        fitting.min_by_key(|(rank, _)| *rank).map(|(_, entry)| entry)
    }

    /// The entries that are for running: no attestations, and nothing for `unknown/unknown`.
    pub fn images(&self) -> impl Iterator<Item = &IndexEntry> {
        self.entries.iter().filter(|entry| entry.is_image())
    }

    /// The platforms that it names, in its order, each once.
    pub fn platforms(&self) -> Vec<Platform> {
        let mut seen = HashSet::new();
        let named = self.images().filter_map(|entry| entry.platform.as_ref());
        named.filter(|platform| seen.insert(*platform)).cloned().collect()
    }

    /// The attestation manifests that speak of `manifest`.
    pub fn attestations(&self, manifest: &Digest) -> impl Iterator<Item = &IndexEntry> {
        let manifest = *manifest;
        self.entries.iter().filter(move |entry| entry.attests == Some(manifest))
    }
}

impl IndexEntry {
    /// Whether it is for running: no attestation, and not for `unknown/unknown`.
    pub fn is_image(&self) -> bool {
        self.attests.is_none() && !self.platform.as_ref().is_some_and(Platform::is_unknown)
    }
}

/// The better the less.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Choice<'a> {
    Said(Rank<'a>),
    Unsaid,
}

/// An entry of an index before its digest is known to be verifiable.
///
/// Its platform and annotations are no reason to refuse the index: clients differ in what they put up with.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawEntry<'a> {
    #[serde(borrow)]
    media_type: Cow<'a, str>,
    #[serde(borrow)]
    digest: Cow<'a, str>,
    size: u64,
    #[serde(borrow)]
    platform: Option<&'a RawValue>,
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawAnnotations<'a> {
    #[serde(borrow, rename = "vnd.docker.reference.type")]
    reference_type: Option<&'a RawValue>,
    #[serde(borrow, rename = "vnd.docker.reference.digest")]
    reference_digest: Option<&'a RawValue>,
}

impl<'de> Entry<'de> for IndexEntry {
    type Raw = RawEntry<'de>;

    fn verifiable(raw: RawEntry<'de>) -> Option<Self> {
        let RawEntry { media_type, digest, size, platform, annotations } = raw;
        let unknown = || Platform::new("unknown", "unknown", None);
        Some(Self {
            descriptor: Descriptor::verifiable(RawDescriptor { media_type, digest, size })?,
            platform: platform.map(|raw| {
                serde_json::from_str::<RawPlatform>(raw.get())
                    .map_or_else(|_| unknown(), |raw| raw.platform())
            }),
            attests: annotations.and_then(attests),
        })
    }
}

/// The manifest of which one with these annotations is an attestation.
fn attests(annotations: &RawValue) -> Option<Digest> {
    let annotations: RawAnnotations<'_> = serde_json::from_str(annotations.get()).ok()?;
    let kind = text(annotations.reference_type?)?;
    let digest = text(annotations.reference_digest?)?;
    (kind == "attestation-manifest").then(|| digest.parse().ok())?
}
