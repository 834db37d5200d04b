//! Manifests under every type that a registry may give them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wharf::oci::{Manifest, media_type};

const TYPES: [&str; 5] = [
    media_type::OCI_MANIFEST,
    media_type::OCI_INDEX,
    media_type::DOCKER_MANIFEST,
    media_type::DOCKER_LIST,
    "application/vnd.cncf.oras.artifact.manifest.v1+json",
];

fuzz_target!(|document: (u8, &[u8])| {
    let (which, bytes) = document;
    let media_type = TYPES[usize::from(which) % TYPES.len()].parse().expect("a media type");
    if let Ok(manifest) = Manifest::parse(&media_type, bytes) {
        let _ = manifest.config();
        let _ = manifest.references().len();
    }
});
