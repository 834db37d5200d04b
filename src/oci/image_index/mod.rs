//! [`ImageIndex`]: the manifests of one image for several platforms.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde::{Deserialize, de::IgnoredAny};

use super::{
    Descriptor, Digest, Platform, Rank, Rules, manifest::RawDescriptor, platform::RawPlatform,
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
pub(super) struct RawEntry {
    #[serde(flatten)]
    descriptor: RawDescriptor,
    platform: Option<Lenient<RawPlatform>>,
    annotations: Option<Lenient<RawAnnotations>>,
}

#[derive(Deserialize)]
struct RawAnnotations {
    #[serde(rename = "vnd.docker.reference.type")]
    reference_type: Option<Lenient<String>>,
    #[serde(rename = "vnd.docker.reference.digest")]
    reference_digest: Option<Lenient<String>>,
}

/// A value, or something of another form in its place.
#[derive(Deserialize)]
#[serde(untagged)]
enum Lenient<T> {
    Read(T),
    Other(IgnoredAny),
}

impl RawEntry {
    /// The entry, if its digest can be verified.
    pub(super) fn verifiable(self) -> Option<IndexEntry> {
        Some(IndexEntry {
            descriptor: self.descriptor.verifiable()?,
            platform: self.platform.map(|raw| match raw {
                Lenient::Read(raw) => raw.platform(),
                Lenient::Other(_) => Platform::new("unknown", "unknown", None),
            }),
            attests: self.annotations.and_then(Lenient::read).and_then(RawAnnotations::attests),
        })
    }
}

impl RawAnnotations {
    fn attests(self) -> Option<Digest> {
        let kind = self.reference_type.and_then(Lenient::read)?;
        let digest = self.reference_digest.and_then(Lenient::read)?;
        (kind == "attestation-manifest").then(|| digest.parse().ok())?
    }
}

impl<T> Lenient<T> {
    fn read(self) -> Option<T> {
        match self {
            Self::Read(value) => Some(value),
            Self::Other(_) => None,
        }
    }
}
