//! Manifests under every type that a registry may give them.
#![no_main]

use std::fmt;

use libfuzzer_sys::fuzz_target;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use wharf::oci::{Manifest, media_type, nests_within};

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
    if let Ok(Depth(depth)) = serde_json::from_slice(bytes) {
        assert!(nests_within(bytes, depth), "not within {depth}");
        assert!(depth == 0 || !nests_within(bytes, depth - 1), "within {}", depth - 1);
    }
    if let Ok(manifest) = Manifest::parse(&media_type, bytes) {
        let _ = manifest.config();
        let _ = manifest.references().len();
    }
});

/// How many arrays and objects any place of a document is in, by serde_json, which goes 127 deep itself.
struct Depth(u32);

impl<'de> Deserialize<'de> for Depth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Depths)
    }
}

struct Depths;

impl<'de> Visitor<'de> for Depths {
    type Value = Depth;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Depth, E> {
        Ok(Depth(0))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Depth, E> {
        Ok(Depth(0))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Depth, E> {
        Ok(Depth(0))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Depth, E> {
        Ok(Depth(0))
    }

    fn visit_str<E>(self, _: &str) -> Result<Depth, E> {
        Ok(Depth(0))
    }

    fn visit_unit<E>(self) -> Result<Depth, E> {
        Ok(Depth(0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Depth, A::Error> {
        let mut most = 0;
        while let Some(Depth(inner)) = values.next_element()? {
            most = most.max(inner);
        }
        Ok(Depth(most + 1))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut values: A) -> Result<Depth, A::Error> {
        let mut most = 0;
        while let Some((IgnoredAny, Depth(inner))) = values.next_entry()? {
            most = most.max(inner);
        }
        Ok(Depth(most + 1))
    }
}
