//! What follows from a manifest that is kept: what its repository may show, and how an index lists its manifests.

use std::collections::HashSet;

use crate::oci::{Descriptor, Digest, Manifest, Platform, Repository};

/// How an index lists a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The index.
    pub index: Digest,
    /// What the manifest runs on, if the index says.
    pub platform: Option<Platform>,
    /// For an attestation: the manifest that it speaks of.
    pub attests: Option<Digest>,
}

/// Something that a repository may show because a manifest of it names it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) repository: Repository,
    pub(super) shown: Descriptor,
    /// Where an index names it; for an index that names it more than once, the first time.
    pub(super) listed: Option<Listed>,
}

impl Link {
    /// All that `repository` may show because of `document`, whose digest is `manifest`.
    pub(super) fn all(
        repository: &Repository,
        manifest: &Digest,
        document: &Manifest,
    ) -> Vec<Self> {
        let link = |shown: &Descriptor, listed| Self {
            repository: repository.clone(),
            shown: shown.clone(),
            listed,
        };
        let Manifest::Index(index) = document else {
            return document.references().into_iter().map(|shown| link(shown, None)).collect();
        };
        let mut seen = HashSet::new();
        let entries = index.entries.iter().map(|entry| {
            let listed = seen.insert(entry.descriptor.digest).then(|| Listed {
                index: *manifest,
                platform: entry.platform.clone(),
                attests: entry.attests,
            });
            link(&entry.descriptor, listed)
        });
        entries.collect()
    }
}

impl Listed {
    /// Two digests (the second of length 0 if there is none), each behind its length in one byte, and the platform as
    /// text, empty for none.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(80);
        for digest in [Some(&self.index), self.attests.as_ref()] {
            let digest = digest.map_or(&[][..], Digest::as_bytes);
            // At most 64 bytes.
            bytes.push(digest.len() as u8);
            bytes.extend_from_slice(digest);
        }
        let platform = self.platform.as_ref().map(ToString::to_string).unwrap_or_default();
        bytes.extend_from_slice(platform.as_bytes());
        bytes
    }

    /// Reads what [`Listed::to_bytes`] wrote.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (index, rest) = split_digest(bytes)?;
        let (attests, platform) = split_digest(rest)?;
        let platform = std::str::from_utf8(platform).ok()?;
        Some(Self {
            index: Digest::from_bytes(index)?,
            platform: if platform.is_empty() { None } else { Some(Platform::parse_any(platform)?) },
            attests: if attests.is_empty() { None } else { Some(Digest::from_bytes(attests)?) },
        })
    }
}

fn split_digest(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let (short, long) = (Digest::sha256(b"a"), Digest::of(Algorithm::Sha512, b"b"));
        for platform in [None, Some(""), Some("linux"), Some("unknown")] {
            let platform = platform.map(|os| Platform::new(os, "arm", None).with_os_version("1"));
            for (index, attests) in [(short, None), (long, Some(short)), (short, Some(long))] {
                let listed = Listed { index, platform: platform.clone(), attests };
                let bytes = listed.to_bytes();
                assert_eq!(Listed::from_bytes(&bytes).as_ref(), Some(&listed));
                for cut in 0..=index.as_bytes().len() {
                    assert_eq!(Listed::from_bytes(&bytes[..cut]), None);
                }
            }
        }
    }
}
