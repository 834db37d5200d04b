//! What wharf tells of itself: the rows of `wharf ls`, `inspect`, `explain` and `pull`, and of the API.
//!
//! These types are the stable form of `--json`: a field may be added, none changes its meaning.
//!
//! Long, because it is words alone: what is told, and nothing that tells it.

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
    /// Whether it stays when room is needed: somebody pinned it, or `[[prefetch.image]]` names it.
    #[serde(default)]
    pub pinned: bool,
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

/// `wharf pin` and `wharf unpin`: what holds of an image now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedImage {
    /// The full name.
    pub name: String,
    /// Whether it stays whatever room is needed.
    pub pinned: bool,
    /// Whether it did not before, or did.
    pub changed: bool,
}

/// `wharf rm`: what was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedImage {
    /// The full name.
    pub name: String,
    /// Bytes that are free now: what it shares with other images stays.
    pub freed: u64,
    /// Blobs that went, manifests included.
    pub blobs: u64,
}

/// `wharf gc`: what was freed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Full names of the images that were evicted to meet the budget.
    pub images: Vec<String>,
    /// Bytes that went with them.
    pub evicted: u64,
    /// Blobs that nothing referred to, unfinished downloads and quarantined blobs that nobody waits for.
    pub swept: u64,
    /// Bytes of those.
    pub swept_bytes: u64,
    /// Bytes that are kept now.
    pub bytes: u64,
    /// The budget in bytes.
    pub limit: u64,
}

/// One step of `wharf verify`; the last is [`VerifyEvent::Done`] or [`VerifyEvent::Failed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum VerifyEvent {
    /// So much has been read.
    Progress {
        /// Blobs that were read, manifests included.
        blobs: u64,
        /// Of so many.
        of_blobs: u64,
        /// Their bytes.
        bytes: u64,
        /// Of so many.
        of_bytes: u64,
    },
    /// A kept blob is not what its name says; it is kept no longer.
    Bad {
        /// Its name.
        digest: Digest,
        /// Its length on disk in bytes.
        size: u64,
        /// What is wrong with it, in a few words.
        why: String,
        /// The images that name it.
        images: Vec<String>,
        /// Whether it was put aside. Else it stays where it is: the disk did not let it be moved, and it is passed over for
        /// as long as this wharf runs, or the system does not let it be read at all.
        aside: bool,
    },
    /// A blob that was bad is right again.
    Repaired {
        /// Which.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
    },
    /// A blob that is missing could not be fetched.
    Unrepaired {
        /// Which.
        digest: Digest,
        /// Why, in a sentence.
        why: String,
    },
    /// Of a platform of a kept image, something is missing.
    Incomplete {
        /// The image's full name.
        name: String,
        /// The platform; `None` where nothing says.
        #[serde(default, deserialize_with = "any_platform")]
        platform: Option<Platform>,
        /// Its manifest.
        digest: Digest,
        /// Blobs that are missing.
        missing: u64,
        /// Bytes of those.
        missing_bytes: u64,
        /// Whether it was whole before: something of it was damaged or lost.
        lost: bool,
    },
    /// Everything was looked at.
    Done {
        /// Blobs that were read.
        blobs: u64,
        /// Their bytes.
        bytes: u64,
        /// Of them, not what their name says.
        bad: u64,
        /// Blobs that were missing or bad and are right again.
        repaired: u64,
        /// Platforms of images of which something was damaged or lost, and still is.
        lost: u64,
    },
    /// It could not be done.
    Failed {
        /// Why, in a sentence.
        why: String,
    },
}

/// `wharf status`: how this wharf is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// `auto`, `online` or `offline`: whether registries are asked (`[server] mode`).
    #[serde(default)]
    pub mode: String,
    /// Why it does not keep what it fetches; `None` while it does.
    pub degraded: Option<String>,
    /// What is kept.
    pub cache: CacheStatus,
    /// The slow check of all blobs; `None` when it is off.
    pub scrub: Option<ScrubStatus>,
    /// Bundles of which some volumes are here, and others are not.
    #[serde(default)]
    pub volume_sets: Vec<VolumeSet>,
    /// The registries, by name.
    pub upstreams: Vec<UpstreamStatus>,
    /// Blob downloads that run or wait for their turn.
    pub downloads: u64,
}

/// A bundle that waits for volumes. What is here of it counts in the budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSet {
    /// What all of its volumes have in common: the digest of its contents.
    pub set: Digest,
    /// The first of the images that it brings.
    pub images: Vec<String>,
    /// How many others it brings.
    pub more_images: u64,
    /// How many volumes it has.
    pub of: u32,
    /// How many of them are here.
    pub here: u32,
    /// The first of the numbers of the others, in their order.
    pub missing: Vec<u32>,
    /// Bytes of its blobs that are here.
    pub bytes: u64,
    /// Of these, in parts of blobs that are not whole yet.
    pub parts: u64,
    /// Bytes of all of its blobs.
    pub size: u64,
    /// When the last volume came, in seconds since 1970.
    pub touched: u64,
}

/// How much is kept, and how much may be. All sizes are in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStatus {
    /// Of all blobs, unfinished downloads and quarantined blobs.
    pub bytes: u64,
    /// Whole blobs, manifests included.
    pub blobs: u64,
    /// Image names.
    pub images: u64,
    /// Of these bytes, in unfinished downloads.
    pub partial: u64,
    /// Of these bytes, in quarantine: damaged, and never served.
    pub quarantined: u64,
    /// Promised to downloads that run, and not written yet.
    pub reserved: u64,
    /// The budget (`[cache] max_size`).
    pub limit: u64,
    /// Free on the file system; `None` when it cannot be asked.
    pub free: Option<u64>,
    /// What is to be left free there (`[cache] min_free`).
    pub min_free: u64,
}

/// The slow check of all blobs (`[cache] scrub`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Seconds in which all are to be read once.
    pub period: u64,
    /// When this round began, in seconds since 1970.
    pub since: u64,
    /// Bytes read in this round.
    pub bytes: u64,
    /// Blobs read in this round.
    pub blobs: u64,
    /// Blobs that were not what their name says, in this round and the one before it.
    pub bad: u64,
    /// When the last round ended, in seconds since 1970.
    pub finished: Option<u64>,
}

/// One registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub registry: String,
    /// Whether it answered when it was last asked; `None`: not asked yet. One that does not is looked for until it does,
    /// unless wharf is offline.
    pub up: Option<bool>,
    /// Since when that holds, in seconds since 1970.
    #[serde(default)]
    pub since: Option<u64>,
    /// Pulls left in its window with all accounts together, as it last said.
    pub pulls_left: Option<u64>,
    /// wharf's own accounts there, in their order.
    #[serde(default)]
    pub accounts: Vec<AccountStatus>,
}

/// An account of wharf's own at a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountStatus {
    /// What the configuration calls it.
    pub name: String,
    /// Pulls left to it, as the registry said within the last hour.
    pub pulls_left: Option<u64>,
    /// Whether the registry, or its token service, answered it with 401 when it was last shown: as a rule its password is wrong,
    /// or has expired.
    #[serde(default)]
    pub refused: bool,
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
