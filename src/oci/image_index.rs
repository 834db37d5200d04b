//! [`ImageIndex`]: the manifests of one image for several platforms.

use super::{Descriptor, Digest, Platform, Rules};

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
    /// What it runs on; `None` where the index does not say.
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
        self.images()
            .find(|entry| entry.platform.as_ref().is_some_and(|image| platform.runs(image, rules)))
    }

    /// The entries that are for running: no attestations, and nothing for `unknown/unknown`.
    pub fn images(&self) -> impl Iterator<Item = &IndexEntry> {
        self.entries.iter().filter(|entry| {
            let unknown = |platform: &Platform| {
                platform.os() == "unknown" || platform.architecture() == "unknown"
            };
            entry.attests.is_none() && !entry.platform.as_ref().is_some_and(unknown)
        })
    }

    /// The platforms that it names, in its order, each once.
    pub fn platforms(&self) -> Vec<Platform> {
        let mut platforms: Vec<Platform> = Vec::new();
        for platform in self.images().filter_map(|entry| entry.platform.as_ref()) {
            if !platforms.contains(platform) {
                platforms.push(platform.clone());
            }
        }
        platforms
    }

    /// The attestation manifests that speak of `manifest`.
    pub fn attestations(&self, manifest: &Digest) -> impl Iterator<Item = &IndexEntry> {
        let manifest = *manifest;
        self.entries.iter().filter(move |entry| entry.attests == Some(manifest))
    }
}
