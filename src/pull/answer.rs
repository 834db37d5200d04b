//! What is asked of a manifest, and what is answered.

use std::time::Duration;

use bytes::Bytes;

use super::{Outcome, Resolution};
use crate::oci::{Descriptor, Platform};

/// What the client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// The document (`GET`).
    Content,
    /// What it is (`HEAD`).
    Descriptor,
}

/// The answer to a request for a manifest.
#[derive(Clone, Debug)]
pub struct ManifestAnswer {
    /// Its type, digest and length; the same for `HEAD` and `GET`.
    pub descriptor: Descriptor,
    /// The document; always there when it was wanted.
    pub bytes: Option<Bytes>,
    /// How the answer came about.
    pub outcome: Outcome,
    /// For a stale answer: how long ago the tag was last confirmed.
    pub stale_for: Option<Duration>,
    /// Which platform the client was taken to have.
    pub resolution: Option<Resolution>,
    /// The platform of the manifest, where the client cannot run it.
    pub mismatch: Option<Platform>,
}

impl ManifestAnswer {
    pub(super) const fn new(
        descriptor: Descriptor,
        bytes: Option<Bytes>,
        outcome: Outcome,
    ) -> Self {
        Self { descriptor, bytes, outcome, stale_for: None, resolution: None, mismatch: None }
    }
}
