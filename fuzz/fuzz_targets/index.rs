//! Indexes, and what clients of this and that platform take from them.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use wharf::oci::{Manifest, MediaType, Platform, Rules, media_type};

static INDEX: LazyLock<MediaType> = LazyLock::new(|| media_type::OCI_INDEX.parse().expect("a media type"));
static HOSTS: LazyLock<Vec<Platform>> = LazyLock::new(|| {
    let hosts = ["linux/amd64", "linux/arm64", "linux/arm/v6", "linux/arm/v7", "windows/amd64"];
    hosts.into_iter().map(|host| host.parse().expect("a platform")).collect()
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(Manifest::Index(index)) = Manifest::parse(&INDEX, bytes) else { return };
    for host in HOSTS.iter() {
        for rules in [Rules::Containerd, Rules::ContainersImage] {
            let Some(entry) = index.select(host, rules) else { continue };
            assert!(index.images().any(|image| image.descriptor == entry.descriptor));
            let _ = index.attestations(&entry.descriptor.digest).count();
        }
    }
    let _ = index.platforms();
});
