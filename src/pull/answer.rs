//! What is asked of a manifest, and what is answered.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{Outcome, Resolution, ready::Found};
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
    pub resolution: Option<Arc<Resolution>>,
    /// The platform of the manifest, where the client cannot run it.
    pub mismatch: Option<Platform>,
    /// What it was answered from, if that was [ready](super::ready).
    pub(super) found: Option<Arc<Found>>,
}

impl ManifestAnswer {
    pub(super) const fn new(
        descriptor: Descriptor,
        bytes: Option<Bytes>,
        outcome: Outcome,
    ) -> Self {
        let (stale_for, resolution, mismatch, found) = (None, None, None, None);
        Self { descriptor, bytes, outcome, stale_for, resolution, mismatch, found }
    }
}
