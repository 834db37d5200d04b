//! The bytes of a composed index: the same on every wharf that composes the same manifests.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;

use crate::oci::{Descriptor, Platform, media_type};

/// An image index, its keys in the order of the specification.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(flatten)]
    manifest: &'a Descriptor,
    platform: Runs<'a>,
}

#[derive(Serialize)]
struct Runs<'a> {
    architecture: &'a str,
    os: &'a str,
    #[serde(rename = "os.version", skip_serializing_if = "Option::is_none")]
    os_version: Option<&'a str>,
    #[serde(rename = "os.features", skip_serializing_if = "Vec::is_empty")]
    os_features: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn of((platform, manifest): (&'a Platform, &'a Descriptor)) -> Self {
        let platform = Runs {
            architecture: platform.architecture(),
            os: platform.os(),
            os_version: platform.os_version(),
            os_features: platform.os_features().collect(),
            variant: platform.variant(),
        };
        Self { manifest, platform }
    }
}

/// The image index that lists these manifests, in the order of their platforms.
pub(super) fn write(manifests: &BTreeMap<Platform, Descriptor>) -> Bytes {
    let document = Document {
        schema_version: 2,
        media_type: media_type::OCI_INDEX,
        manifests: manifests.iter().map(Entry::of).collect(),
    };
    serde_json::to_vec(&document).expect("strings and numbers serialise").into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::{Digest, Manifest};

    const PLATFORMS: [&str; 8] = [
        "linux/amd64",
        "linux/amd64/v3",
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/arm64",
        "linux/s390x",
        "windows(10.0.20348.2113)/amd64",
        "windows(10.0.17763+win32k)/amd64",
    ];

    fn manifest(number: u64) -> Descriptor {
        Descriptor {
            media_type: media_type::DOCKER_MANIFEST.parse().expect("a media type"),
            digest: Digest::sha256(&number.to_be_bytes()),
            size: number,
        }
    }

    #[test]
    fn the_form_never_changes() {
        let parts = ["linux/arm/v7", "linux/amd64"].map(|name| name.parse().expect("a platform"));
        let parts: BTreeMap<Platform, _> = parts.into_iter().zip([1, 2].map(manifest)).collect();
        let entry = |number, platform| {
            let digest = manifest(number).digest;
            format!(
                r#"{{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"{digest}","size":{number},"platform":{platform}}}"#
            )
        };
        let expected = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{},{}]}}"#,
            entry(2, r#"{"architecture":"amd64","os":"linux"}"#),
            entry(1, r#"{"architecture":"arm","os":"linux","variant":"v7"}"#),
        );
        assert_eq!(write(&parts), expected);
    }

    proptest! {
        #[test]
        fn what_went_in_is_read_again_whatever_the_order_of_declaration(
            declared in proptest::sample::subsequence(&PLATFORMS[..], 1..=PLATFORMS.len())
                .prop_shuffle(),
            size in 1..=u64::MAX / 2,
        ) {
            let platform = |name: &&str| name.parse::<Platform>().expect("a platform");
            let place = |name: &&str| PLATFORMS.iter().position(|known| known == name);
            let part = |name: &&str| {
                (platform(name), manifest(size + place(name).unwrap_or_default() as u64))
            };
            let parts: BTreeMap<_, _> = declared.iter().map(part).collect();
            let bytes = write(&parts);
            let backwards: BTreeMap<_, _> = declared.iter().rev().map(part).collect();
            prop_assert_eq!(&bytes, &write(&backwards));
            let kind = media_type::OCI_INDEX.parse().expect("a media type");
            let Ok(Manifest::Index(index)) = Manifest::parse(&kind, &bytes) else {
                return Err(TestCaseError::fail("no index"));
            };
            let read = index.entries.into_iter().map(|entry| (entry.platform, entry.descriptor));
            let read: Vec<_> = read.collect();
            let expected = parts.into_iter().map(|(platform, part)| (Some(platform), part));
            prop_assert_eq!(read, expected.collect::<Vec<_>>());
        }
    }
}
