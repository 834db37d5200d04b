//! Manifests and image indexes: what they refer to, read without changing a byte of them.
//!
//! Long by its tests.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    Digest, ImageIndex,
    outline::{DESCRIPTORS_MAX, Entry, Outline},
};

/// Largest manifest or index taken from anywhere: 4 MiB, what registries must accept and what clients
/// read at most ([spec.md, "Pushing Manifests"](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests)).
pub const MANIFEST_MAX_BYTES: usize = 4 * 1024 * 1024;

/// The media types that matter to a cache.
pub mod media_type {
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image manifest, version 2 schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// OCI image config.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Docker image config.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Any blob.
    pub const OCTET_STREAM: &str = "application/octet-stream";
}

/// A media type as a registry names it, without parameters: `type/subtype`
/// ([RFC 6838 §4.2](https://www.rfc-editor.org/rfc/rfc6838#section-4.2)).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct MediaType(Arc<str>);

impl MediaType {
    /// The type, such as `application/vnd.oci.image.index.v1+json`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a document of this type lists manifests.
    pub fn is_index(&self) -> bool {
        matches!(self.as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST)
    }

    /// Whether a document of this type belongs under `manifests/`: one of the four types that clients pull, an
    /// older schema, or an artifact's; not a web page of a captive portal.
    pub fn names_a_manifest(&self) -> bool {
        self.is_manifest()
            || self.as_str().contains(".manifest.")
            || self.as_str().contains(".index.")
    }

    /// Whether this is one of the four types that clients pull.
    pub fn is_manifest(&self) -> bool {
        self.well_known().is_some()
    }

    /// The type, if it is one of the four that clients pull.
    pub fn well_known(&self) -> Option<&'static str> {
        use media_type::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
        let types = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST];
        types.into_iter().find(|known| *known == self.as_str())
    }
}

impl FromStr for MediaType {
    type Err = ManifestError;

    /// Reads a `Content-Type`; parameters (`; charset=…`) are dropped.
    fn from_str(text: &str) -> Result<Self, ManifestError> {
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let name_ok = |name: &str| {
            (1..=127).contains(&name.len())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
        };
        match essence.split_once('/') {
            Some((kind, subtype)) if name_ok(kind) && name_ok(subtype) => Ok(Self(essence.into())),
            _ => Err(ManifestError::MediaType),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for MediaType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MediaType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// What one document says of another
/// ([image-spec, descriptor.md](https://github.com/opencontainers/image-spec/blob/main/descriptor.md)).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the content.
    pub media_type: MediaType,
    /// The content's name.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size: u64,
}

/// A document under `manifests/`, read only as far as a cache needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// An image manifest: its config and layers.
    Image {
        /// The config first, then the layers, in their order.
        blobs: Vec<Descriptor>,
    },
    /// An image index or manifest list.
    Index(ImageIndex),
    /// A document that lists nothing wharf understands (Docker schema 1, an unknown type): kept and
    /// served, followed nowhere.
    Opaque,
}

/// Why a document is not a manifest that may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Lists manifests and layers: two clients would read two images out of it (CVE-2021-41190).
    #[error(
        "the manifest lists both manifests and layers, so clients would disagree on what it is"
    )]
    Ambiguous,
    /// A key twice, or in a case that Go's clients take for the right one: two clients would read two documents.
    #[error("the manifest has a key twice, or misspelt, so clients would disagree on what it says")]
    Keys,
    /// Says another type than it was served as (CVE-2021-41190).
    #[error("the manifest says another mediaType than the one it was served as")]
    OtherType,
    /// Lists more than this, which is more than any client could use, or than the operator lets through.
    #[error("the manifest lists more than {0} others")]
    TooMany(usize),
    /// Not JSON, or not of the specification's form.
    #[error("the manifest is not a JSON document of the image specification")]
    Form,
    /// Not `type/subtype`.
    #[error("not a media type")]
    MediaType,
}

impl Manifest {
    /// Reads the document `bytes`, which the registry served as `media_type`.
    ///
    /// # Errors
    /// When clients could take it for two documents, and when a document of one of the four manifest types is not of that
    /// type's form.
    pub fn parse(media_type: &MediaType, bytes: &[u8]) -> Result<Self, ManifestError> {
        Self::parse_within(media_type, bytes, DESCRIPTORS_MAX)
    }

    /// The same of one that lists at most so many manifests, or layers.
    ///
    /// # Errors
    /// As [`Self::parse`], and `TooMany`.
    pub fn parse_within(
        media_type: &MediaType,
        bytes: &[u8],
        entries: usize,
    ) -> Result<Self, ManifestError> {
        if !media_type.is_manifest() {
            // A client that knows its type may know one of the four as well.
            if bytes.trim_ascii_start().starts_with(b"{") {
                Outline::read(media_type, bytes)?;
            }
            return Ok(Self::Opaque);
        }
        let outline = Outline::read(media_type, bytes)?;
        if media_type.is_index() {
            let entries = outline.list("manifests", entries)?.ok_or(ManifestError::Form)?;
            return Ok(Self::Index(ImageIndex { entries }));
        }
        let config = outline.get::<RawDescriptor<'_>>("config")?.ok_or(ManifestError::Form)?;
        let layers = outline.list::<Descriptor>("layers", entries)?.unwrap_or_default();
        let blobs = Descriptor::verifiable(config).into_iter().chain(layers);
        Ok(Self::Image { blobs: blobs.collect() })
    }

    /// The config of an image that runs, rather than of an artifact.
    pub fn config(&self) -> Option<&Descriptor> {
        let Self::Image { blobs } = self else { return None };
        let is_config = |blob: &&Descriptor| {
            matches!(blob.media_type.as_str(), media_type::OCI_CONFIG | media_type::DOCKER_CONFIG)
        };
        // Where its digest could not be verified, a layer stands first.
        blobs.first().filter(is_config)
    }

    /// Everything the document refers to and wharf can verify.
    pub fn references(&self) -> Vec<&Descriptor> {
        match self {
            Self::Image { blobs } => blobs.iter().collect(),
            Self::Index(index) => index.entries.iter().map(|entry| &entry.descriptor).collect(),
            Self::Opaque => Vec::new(),
        }
    }
}

/// A descriptor before it is known whether its digest can be verified here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawDescriptor<'a> {
    #[serde(borrow)]
    pub(super) media_type: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) digest: Cow<'a, str>,
    pub(super) size: u64,
}

impl<'de> Entry<'de> for Descriptor {
    type Raw = RawDescriptor<'de>;

    fn verifiable(raw: RawDescriptor<'de>) -> Option<Self> {
        let octets = || MediaType(media_type::OCTET_STREAM.into());
        Some(Self {
            digest: raw.digest.parse().ok()?,
            media_type: raw.media_type.parse().unwrap_or_else(|_| octets()),
            size: raw.size,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn media(text: &str) -> MediaType {
        text.parse().expect("a media type")
    }

    fn descriptor(size: u64) -> String {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{size}}}"#,
            Digest::sha256(&size.to_be_bytes())
        )
    }

    #[test]
    fn reads_images_and_indexes_and_leaves_the_rest_alone() {
        let image = format!(r#"{{"config":{},"layers":[{}]}}"#, descriptor(1), descriptor(2));
        let parsed =
            Manifest::parse(&media(media_type::OCI_MANIFEST), image.as_bytes()).expect("good");
        assert_eq!(parsed.references().iter().map(|d| d.size).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(parsed.config().map(|config| config.size), Some(1));

        let index = format!(r#"{{"manifests":[{}]}}"#, descriptor(3));
        let parsed =
            Manifest::parse(&media(media_type::DOCKER_LIST), index.as_bytes()).expect("good");
        assert_eq!(parsed.references().len(), 1);

        let schema1 = media("application/vnd.docker.distribution.manifest.v1+prettyjws");
        assert_eq!(Manifest::parse(&schema1, b"anything"), Ok(Manifest::Opaque));
    }

    #[test]
    fn refuses_what_clients_would_read_two_ways() {
        let both = format!(r#"{{"manifests":[],"config":{}}}"#, descriptor(1));
        for kind in [media_type::OCI_INDEX, media_type::OCI_MANIFEST] {
            assert_eq!(
                Manifest::parse(&media(kind), both.as_bytes()),
                Err(ManifestError::Ambiguous)
            );
        }
    }

    #[test]
    fn ghsa_qq97_vm5h_rrhg_go_2022_0360_cve_2021_41190_a_document_is_of_the_type_it_is_served_as() {
        let document = |kind: &str, said: &str| {
            let body = match media(kind).is_index() {
                true => r#""manifests":[]"#.to_owned(),
                false => format!(r#""config":{}"#, descriptor(1)),
            };
            format!(r#"{{"schemaVersion":2,{said}{body}}}"#)
        };
        let parse = |kind: &str, said: &str| {
            Manifest::parse(&media(kind), document(kind, said).as_bytes()).map(drop)
        };
        let artifact = "application/vnd.oci.artifact.manifest.v1+json";
        for kind in [
            media_type::OCI_INDEX,
            media_type::OCI_MANIFEST,
            media_type::DOCKER_LIST,
            media_type::DOCKER_MANIFEST,
            artifact,
        ] {
            let own = format!(r#""mediaType":"{kind}","#);
            for good in ["", r#""mediaType":null,"#, r#""mediaType":"","#, &own] {
                assert_eq!(parse(kind, good), Ok(()), "{good} as {kind}");
                assert_eq!(parse(&format!("{kind}; charset=utf-8"), good), Ok(()), "{good}");
            }
            let other = match kind == media_type::OCI_INDEX {
                true => media_type::OCI_MANIFEST,
                false => media_type::OCI_INDEX,
            };
            for other in [other, "application/json", "none", &kind.to_ascii_uppercase()] {
                let said = format!(r#""mediaType":"{other}","#);
                assert_eq!(parse(kind, &said), Err(ManifestError::OtherType), "{said} as {kind}");
            }
            for bad in ["3", "[]", "{}", "true"] {
                let said = format!(r#""mediaType":{bad},"#);
                assert_eq!(parse(kind, &said), Err(ManifestError::OtherType), "{said} as {kind}");
            }
        }
    }

    #[test]
    fn cve_2021_41190_keys_are_the_same_for_every_client() {
        let (one, image) = (descriptor(1), media_type::OCI_MANIFEST);
        let artifact = "application/vnd.oci.artifact.manifest.v1+json";
        let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        for key in
            ["schemaVersion", "mediaType", "manifests", "config", "layers", "subject", "fsLayers"]
        {
            let mut capital = key.to_owned();
            capital[..1].make_ascii_uppercase();
            let mut spellings = vec![
                capital,
                key.to_ascii_uppercase(),
                key.to_ascii_lowercase(),
                key.replace('s', "ſ"),
            ];
            spellings.push(key.replacen('e', "\\u0045", 1));
            spellings.retain(|spelling| spelling != key);
            for spelling in spellings {
                let body = format!(r#"{{"config":{one},"{spelling}":null}}"#);
                for kind in [image, artifact, schema1] {
                    let refused = Manifest::parse(&media(kind), body.as_bytes());
                    assert_eq!(refused, Err(ManifestError::Keys), "{body} as {kind}");
                }
            }
            for kind in [image, artifact, schema1] {
                let twice = format!(r#"{{"x":{one},"{key}":null,"{key}":null,"x":1}}"#);
                let refused = Manifest::parse(&media(kind), twice.as_bytes());
                assert_eq!(refused, Err(ManifestError::Keys), "{twice} as {kind}");
            }
        }
        let other = format!(r#"{{"config":{one},"Configs":1,"layer":2,"Name":3,"x":4,"x":5}}"#);
        assert!(Manifest::parse(&media(image), other.as_bytes()).is_ok());
    }

    #[test]
    fn cve_2021_41190_a_type_that_is_not_known_may_be_one_of_the_known_ones() {
        let artifact = media("application/vnd.oci.artifact.manifest.v1+json");
        let parse = |body: &str| Manifest::parse(&artifact, body.as_bytes());
        for ambiguous in [
            r#"{"manifests":[],"layers":[]}"#,
            r#" {"config":{},"x":[[]],"manifests":[]}"#,
            r#"{"fsLayers":[],"layers":[]}"#,
            r#"{"manifests":[],"fsLayers":[]}"#,
        ] {
            assert_eq!(parse(ambiguous), Err(ManifestError::Ambiguous), "{ambiguous}");
        }
        // Which of them a client sees before it gives up, nobody knows.
        for half in [r#"{"manifests":[],"config":{}"#, "{", "\n{}{}"] {
            assert_eq!(parse(half), Err(ManifestError::Form), "{half}");
        }
        for opaque in
            ["", "text", "[1]", r#"{"manifests":3}"#, r#"{"schemaVersion":1,"fsLayers":[]}"#]
        {
            assert_eq!(parse(opaque), Ok(Manifest::Opaque), "{opaque}");
        }
    }

    #[test]
    fn no_document_lists_more_than_any_client_could_use() {
        let one = descriptor(1);
        for count in [DESCRIPTORS_MAX, DESCRIPTORS_MAX + 1] {
            let many = vec![one.as_str(); count].join(",");
            let expected = if count > DESCRIPTORS_MAX {
                Err(ManifestError::TooMany(DESCRIPTORS_MAX))
            } else {
                Ok(())
            };
            for (kind, body) in [
                (media_type::OCI_INDEX, format!(r#"{{"manifests":[{many}]}}"#)),
                (media_type::OCI_MANIFEST, format!(r#"{{"config":{one},"layers":[{many}]}}"#)),
            ] {
                let parsed = Manifest::parse(&media(kind), body.as_bytes());
                assert_eq!(parsed.map(drop), expected, "{count} as {kind}");
            }
        }
    }

    #[test]
    fn refuses_what_is_not_of_its_type() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let negative = format!(r#"{{"config":{}}}"#, descriptor(1).replace(":1}", ":-1}"));
        for bad in ["", "null", "[]", "{}", r#"{"config":3}"#, deep.as_str(), negative.as_str()] {
            assert_eq!(
                Manifest::parse(&media(media_type::OCI_MANIFEST), bad.as_bytes()),
                Err(ManifestError::Form),
                "{}",
                &bad[..bad.len().min(40)]
            );
        }
    }

    #[test]
    fn leaves_out_entries_that_cannot_be_verified() {
        let index = r#"{"manifests":[{"mediaType":"a/b","digest":"blake3:00","size":1}]}"#;
        let parsed =
            Manifest::parse(&media(media_type::OCI_INDEX), index.as_bytes()).expect("good");
        assert!(parsed.references().is_empty());
    }

    #[test]
    fn a_content_type_loses_its_parameters() {
        assert_eq!(media("Application/JSON; charset=utf-8").as_str(), "application/json");
        for bad in ["", "json", "a/", "/b", "a/b c", "a/b\r\nx: y"] {
            assert!(bad.parse::<MediaType>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_on_any_document(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for kind in [media_type::OCI_INDEX, media_type::OCI_MANIFEST] {
                let _ = Manifest::parse(&media(kind), &bytes);
            }
        }
    }
}
