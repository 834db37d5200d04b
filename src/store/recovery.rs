//! `index.json` is lost: what it said stands in the look-up tables, too, if these are there.

use std::collections::HashSet;

use super::{
    facts::{Fact, Facts},
    index::Index,
    layout::Layout,
    links::Link,
};
use crate::oci::{Descriptor, Digest, Repository};

/// All facts that the tables hold, of what is kept.
pub(super) fn facts(layout: &Layout, index: &Index) -> Facts {
    let mut facts = Facts::default();
    let mut named: HashSet<(Repository, Digest)> = HashSet::new();
    for (repository, key, _) in index.records(b'm') {
        let Some(digest) = Digest::from_bytes(&key) else { continue };
        let Some(manifest) = index.read_link(&repository, &digest) else { continue };
        if !layout.has_blob(&digest) {
            continue;
        }
        let document = super::catalog::document(layout, &manifest);
        let links = document.iter().flat_map(|said| Link::all(&repository, &digest, said));
        named.extend(links.map(|link| (link.repository, link.shown.digest)));
        let at = index.pulled(&repository, &digest);
        facts.apply(Fact::Manifest { repository: repository.clone(), manifest });
        if let Some(at) = at {
            facts.apply(Fact::Pulled { repository, manifest: digest, at });
        }
    }
    for (repository, key, value) in index.records(b't') {
        let tag = std::str::from_utf8(&key).ok().and_then(|tag| tag.parse().ok());
        let meant = serde_json::from_slice::<(Descriptor, u64)>(&value).ok();
        if let (Some(tag), Some((manifest, at))) = (tag, meant) {
            if layout.has_blob(&manifest.digest) {
                facts.apply(Fact::Tag { repository, tag, manifest, at });
            }
        }
    }
    for (repository, key, _) in index.records(b'k') {
        let reference = std::str::from_utf8(&key).ok().and_then(|text| text.parse().ok());
        if let Some(reference) = reference {
            facts.apply(Fact::Pinned { repository, reference, pinned: true });
        }
    }
    for (repository, key, value) in index.records(b'r') {
        let subject = Digest::from_bytes(&key);
        if let (Some(subject), Ok(index)) = (subject, serde_json::from_slice(&value)) {
            facts.apply(Fact::Referrers { repository, subject, index });
        }
    }
    for (repository, key, _) in index.records(b'l') {
        let Some(digest) = Digest::from_bytes(&key) else { continue };
        let told = (repository, digest);
        // What no manifest names is there on the registry's own word; of the rest it may have given that, too.
        let is_named = named.contains(&told) || facts.manifests.contains_key(&told);
        if is_named && !index.vouchers(&digest).contains(&told.0) {
            continue;
        }
        if let Some(blob) = index.read_link(&told.0, &digest) {
            facts.apply(Fact::Blob { repository: told.0, blob });
        }
    }
    facts
}
