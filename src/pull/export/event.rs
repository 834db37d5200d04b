//! What an export tells, step by step.

use serde::{Deserialize, Serialize};

use crate::{bundle::Image, oci::Digest, pull::PullEvent};

/// One step of an export; the last is [`ExportEvent::Failed`], or [`ExportEvent::Ready`], behind which nothing comes for as
/// long as somebody listens: that is how long it is kept from eviction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum ExportEvent {
    /// Something missing is being fetched first.
    Fetch {
        /// How that goes.
        step: PullEvent,
    },
    /// An image of the export; what it needs follows.
    Image {
        /// Its name, digest and platforms.
        image: Image,
        /// Whether it is not for running: a signature or attestation that came along.
        attached: bool,
        /// What Docker calls the image, of the first of its platforms.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        docker: Option<DockerImage>,
    },
    /// A blob that the image before needs. Each is told once for each image.
    Blob {
        /// Its name.
        digest: Digest,
        /// Its length in bytes.
        size: u64,
        /// Whether it is an index, a manifest or a config.
        document: bool,
    },
    /// What the image before has for other platforms.
    Left {
        /// How many they are.
        platforms: u64,
        /// Bytes of those of which the manifest is kept, so that it is known.
        bytes: u64,
        /// How many of them these are.
        known: u64,
    },
    /// All is told and here.
    Ready,
    /// It cannot be exported.
    Failed {
        /// Why, in a sentence.
        why: String,
    },
}

/// An image as Docker's `manifest.json` names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerImage {
    /// Its config.
    pub config: Digest,
    /// Its layers, from the lowest.
    pub layers: Vec<Digest>,
}
