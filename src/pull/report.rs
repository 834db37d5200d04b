//! What wharf tells of itself: the rows of `wharf ls`, `inspect`, `explain` and `pull`, and of the API.
//!
//! These types are the stable form of `--json`: a field may be added, none changes its meaning.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::oci::{Digest, MediaType, Platform};

/// One image name that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptImage {
    /// `docker.io/library/alpine:3.20`.
    pub name: String,
    /// What the name means: the digest of an index or manifest.
    pub digest: Digest,
    /// Of what is kept: the document itself and everything below it, bytes shared with other images included.
    pub size: u64,
    /// When the tag began to mean this, in seconds since 1970.
    pub since: u64,
    /// When a client last pulled it, in seconds since 1970; `None`: not yet, or not known.
    pub pulled: Option<u64>,
    /// Its platforms of which something is kept, in the index's order.
    pub platforms: Vec<KeptPlatform>,
}

/// What is kept of one platform of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPlatform {
    /// Which; `None` where nothing says.
    #[serde(default, deserialize_with = "any_platform")]
    pub platform: Option<Platform>,
    /// Its manifest.
    pub digest: Digest,
    /// Whether manifest, config and all layers are kept.
    pub whole: bool,
    /// Bytes kept of manifest, config and layers.
    pub kept: u64,
    /// Bytes of manifest, config and layers; `None` while the manifest is not known.
    pub size: Option<u64>,
}

/// `wharf inspect`: what an image name means, and what of it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// The full name.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
    /// The type of the document.
    pub media_type: MediaType,
    /// The document's length in bytes.
    pub size: u64,
    /// `hit`, `miss`, `coalesced`, `stale` or `relay`: how wharf came by the answer.
    pub outcome: String,
    /// The manifests it lists, itself if it is no list.
    pub manifests: Vec<InspectedManifest>,
}

/// One manifest of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectedManifest {
    /// Its digest.
    pub digest: Digest,
    /// Its type.
    pub media_type: MediaType,
    /// Its own length in bytes.
    pub size: u64,
    /// What it runs on, if the list says.
    #[serde(default, deserialize_with = "any_platform")]
    pub platform: Option<Platform>,
    /// For an attestation: what it speaks of.
    pub attests: Option<Digest>,
    /// Bytes of config and layers together; `None` while the manifest is not kept.
    pub content_size: Option<u64>,
    /// Bytes kept of manifest, config and layers.
    pub kept: u64,
    /// Whether all of it is kept.
    pub whole: bool,
}

/// `wharf explain`: which platform a client gets, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The full image name.
    pub name: String,
    /// The client in question; `None`: one of which nothing is known.
    pub client: Option<IpAddr>,
    /// Its platforms, the most wanted first.
    #[serde(deserialize_with = "any_platforms")]
    pub platforms: Vec<Platform>,
    /// `rule`, `header`, `path`, `learned`, `user_agent` or `default`.
    pub signal: String,
    /// The same in a sentence.
    pub why: String,
    /// The platforms that the image has; empty if it is no list.
    #[serde(deserialize_with = "any_platforms")]
    pub offered: Vec<Platform>,
    /// The manifest that the client gets; `None` when none fits.
    pub manifest: Option<Digest>,
    /// The platform of that manifest, if the list says.
    #[serde(default, deserialize_with = "any_platform")]
    pub platform: Option<Platform>,
    /// Whether it is all in the cache.
    pub whole: bool,
    /// What happens to it under `[platforms] keep` and `others`: `keep`, `relay` or `refuse`.
    pub policy: String,
}

/// A client of which wharf has learned something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownClient {
    /// Its address, or the name in its certificate.
    pub client: String,
    /// Its User-Agent, shortened.
    pub user_agent: String,
    /// The platforms it chose from lists, the latest first.
    #[serde(deserialize_with = "any_platforms")]
    pub platforms: Vec<Platform>,
    /// When it last chose, in seconds since 1970.
    pub seen: u64,
}

/// A client that took a manifest that it cannot run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mismatch {
    /// Its address, or the name in its certificate.
    pub client: String,
    /// What it runs.
    #[serde(deserialize_with = "one_platform")]
    pub runs: Platform,
    /// The image.
    pub name: String,
    /// What that is for.
    #[serde(deserialize_with = "one_platform")]
    pub platform: Platform,
    /// When, in seconds since 1970.
    pub at: u64,
}

/// One step of `wharf pull`; the last is [`PullEvent::Done`] or [`PullEvent::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum PullEvent {
    /// The name was resolved.
    Resolved {
        /// The full name.
        name: String,
        /// What it means.
        digest: Digest,
        /// The platforms that will be fetched; empty for an image that is no list.
        #[serde(deserialize_with = "any_platforms")]
        platforms: Vec<Platform>,
        /// Whether this is what the name last meant, because the registry gave no good answer.
        #[serde(default)]
        stale: bool,
    },
    /// A blob is to be fetched, or is here.
    Blob {
        /// Which.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// For which platform; `None` for an image that is no list.
        #[serde(default, deserialize_with = "any_platform")]
        platform: Option<Platform>,
        /// Bytes here so far.
        here: u64,
        /// Whether it was kept before this pull.
        hit: bool,
    },
    /// All of it is kept.
    Done {
        /// The full name.
        name: String,
        /// What it means.
        digest: Digest,
        /// Bytes of manifests, configs and layers.
        size: u64,
        /// Of these, bytes that came from the registry just now.
        fetched: u64,
    },
    /// It could not be fetched.
    Failed {
        /// The full name.
        name: String,
        /// Why, in a sentence.
        why: String,
    },
}

/// A platform as a list names it, whether anything runs there or not: a report of it is to be read again.
fn one_platform<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Platform, D::Error> {
    read(&String::deserialize(deserializer)?)
}

fn any_platform<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Platform>, D::Error> {
    Option::<String>::deserialize(deserializer)?.as_deref().map(read).transpose()
}

fn any_platforms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Platform>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| read(text)).collect()
}

fn read<E: de::Error>(text: &str) -> Result<Platform, E> {
    Platform::parse_any(text).ok_or_else(|| E::custom("not a platform"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_a_platform_that_nobody_knows_is_read_again() {
        for platform in
            [Platform::new("plan\n9", "", Some("z")), Platform::new("linux", "arm", None)]
        {
            let kept = KeptPlatform {
                platform: Some(platform.clone()),
                digest: Digest::sha256(b""),
                whole: true,
                kept: 1,
                size: None,
            };
            let json = serde_json::to_string(&kept).expect("strings and numbers");
            assert_eq!(serde_json::from_str::<KeptPlatform>(&json).expect(&json), kept);
            let event = PullEvent::Resolved {
                name: "docker.io/library/alpine:latest".to_owned(),
                digest: kept.digest,
                platforms: vec![platform],
                stale: true,
            };
            let json = serde_json::to_string(&event).expect("strings and numbers");
            assert_eq!(serde_json::from_str::<PullEvent>(&json).expect(&json), event);
        }
    }
}
