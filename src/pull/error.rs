//! Why a pull cannot be answered; whose side failed is in the variant.

use std::time::Duration;

use super::absent::{Absent, Lacking};
use crate::{
    documents::Full,
    oci::{Platform, RegistryName, Repository},
    store, upstream,
};

/// Why there is no answer. `server/respond.rs` alone turns this into a status and an OCI error.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// An archive is not taken in.
    #[error("{0}")]
    Archive(String),
    /// The registry has no such blob in that repository.
    #[error("the registry has no such blob in this repository")]
    BlobUnknown,
    /// Too much is going on here at once, or the daemon is shutting down.
    #[error("too many requests are waiting here")]
    Busy,
    /// The registry refuses this wharf's account.
    #[error("the registry denies access")]
    Denied,
    /// The registry served a manifest that clients must not be given.
    #[error("the registry's manifest was refused: {0}")]
    ManifestInvalid(String),
    /// The registry has no such manifest in that repository.
    #[error("the registry has no such manifest in this repository")]
    ManifestUnknown,
    /// The registry knows no such repository, or hides it from this wharf's account.
    #[error(
        "the registry knows no such repository, or shows it only to an account that wharf does not have"
    )]
    NameUnknown,
    /// No tag of the repository is what was asked for by a pattern.
    #[error("{0} has no tag that matches {1}")]
    NoTag(Repository, String),
    /// The image is not made for the client's platform.
    #[error("the image has no manifest for {}; it has {}", listed(wanted), listed(offered))]
    NoPlatform {
        /// What the client runs.
        wanted: Vec<Platform>,
        /// What there is.
        offered: Vec<Platform>,
    },
    /// The operator refuses images of this platform.
    #[error("images for {0} are refused here ([platforms] keep and others)")]
    PlatformRefused(Platform),
    /// A part of a composed image does not have what it was declared to have.
    #[error("{part}, a part of {composed}, is a list without {platform}: correct [[compose]]")]
    PartWithout {
        /// The composed image.
        composed: String,
        /// The part.
        part: String,
        /// The platform that the part was declared for.
        platform: String,
    },
    /// What is asked to be kept is not kept: images of this platform are passed on only.
    #[error(
        "images for {0} are not kept here: add it to [platforms] keep, or set others = \"keep\""
    )]
    PlatformNotKept(Platform),
    /// What is to be changed is not kept.
    #[error("{0} is not kept here; `wharf ls` lists what is, `wharf pull` fetches it")]
    NotKept(String),
    /// The operator has it served to nobody.
    #[error("{0} is not served here ([[upstream]] allow and deny)")]
    NotServed(Repository),
    /// It is not kept, and no registry is to be asked.
    #[error("{0}")]
    Offline(Box<Absent>),
    /// What is to be exported is not all here.
    #[error("{0}")]
    NotWhole(String),
    /// What is asked to be kept was fetched, and the cache directory did not take it.
    #[error("what was fetched is not kept: {0}")]
    NotTaken(String),
    /// What is to be removed is pinned.
    #[error("{0} is pinned: `wharf unpin` it first")]
    Pinned(String),
    /// What is to be removed or unpinned is pinned by the configuration.
    #[error(
        "{0} is pinned by the configuration: take pinned = true out of its [[prefetch.image]], and reload or restart \
         wharf"
    )]
    PinnedByConfiguration(String),
    /// The registry's pull limit is reached.
    #[error("the registry's pull limit is reached")]
    RateLimited {
        /// When to ask again, if it said.
        retry_after: Option<Duration>,
    },
    /// The registry is not configured here.
    #[error("registry {0} is not configured here")]
    RegistryUnknown(RegistryName),
    /// The registry wants to know who asks, and does not take what the client brought.
    #[error(
        "{0} asks for an account: sign in to wharf with the name and password of one that may pull this"
    )]
    SignIn(RegistryName),
    /// The cache failed and the registry could not stand in for it.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A bundle that waits for volumes is not dropped.
    #[error("{0}")]
    Volumes(String),
    /// The registry could not be reached, failed, or answered nonsense.
    #[error("the registry did not answer: {0}")]
    Unavailable(String),
}

impl Error {
    /// What a failed question about a manifest means.
    pub(super) fn of_manifest(error: upstream::Error) -> Self {
        Self::of(error, Self::ManifestUnknown)
    }

    /// What a failed question about a blob means.
    pub(super) fn of_blob(error: upstream::Error) -> Self {
        Self::of(error, Self::BlobUnknown)
    }

    fn of(error: upstream::Error, unknown: Self) -> Self {
        match error {
            upstream::Error::NotFound => unknown,
            upstream::Error::Unauthorized => Self::NameUnknown,
            upstream::Error::Denied => Self::Denied,
            upstream::Error::RateLimited { retry_after } => Self::RateLimited { retry_after },
            upstream::Error::Unavailable { reason } | upstream::Error::Protocol { reason } => {
                Self::Unavailable(reason)
            }
            upstream::Error::Busy => Self::Busy,
            upstream::Error::Offline if matches!(unknown, Self::BlobUnknown) => {
                Lacking::Blob.offline()
            }
            upstream::Error::Offline => Lacking::Manifest.offline(),
            error @ upstream::Error::BeyondEnd => Self::Unavailable(error.to_string()),
        }
    }

    /// When to ask again, if the registry said so.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => *retry_after,
            _ => None,
        }
    }

    /// Whether the registry will most likely not give the next thing either.
    pub(super) const fn is_silence(&self) -> bool {
        matches!(self, Self::Offline(_) | Self::RateLimited { .. } | Self::Unavailable(_))
    }

    /// Whether a kept answer may stand in: nobody said no, there was just no good answer.
    pub(super) const fn is_outage(&self) -> bool {
        match self {
            Self::Busy
            | Self::ManifestInvalid(_)
            | Self::NotTaken(_)
            | Self::Offline(_)
            | Self::RateLimited { .. }
            | Self::Store(_)
            | Self::Unavailable(_) => true,
            Self::Archive(_)
            | Self::BlobUnknown
            | Self::Denied
            | Self::ManifestUnknown
            | Self::NameUnknown
            | Self::NoPlatform { .. }
            | Self::NoTag(..)
            | Self::NotKept(_)
            | Self::NotServed(_)
            | Self::NotWhole(_)
            | Self::PartWithout { .. }
            | Self::Pinned(_)
            | Self::PinnedByConfiguration(_)
            | Self::PlatformNotKept(_)
            | Self::PlatformRefused(_)
            | Self::RegistryUnknown(_)
            | Self::SignIn(_)
            | Self::Volumes(_) => false,
        }
    }
}

impl From<Full> for Error {
    fn from(_: Full) -> Self {
        Self::Busy
    }
}

/// The names in a sentence.
fn listed(platforms: &[Platform]) -> String {
    let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
    if names.is_empty() { "none that is named".to_owned() } else { names.join(", ") }
}
