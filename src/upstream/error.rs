//! What a question to a registry can come to, other than its answer.

use std::time::Duration;

use crate::{documents::Full, oci::RegistryName};

/// Why there is no answer, and whose decision that was. No text in here holds a token, a password or the
/// query of an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Every endpoint that answered said that there is no such thing.
    #[error("the registry does not have it")]
    NotFound,
    /// The blob has no bytes from that offset on (416).
    #[error("the registry has nothing at that offset")]
    BeyondEnd,
    /// The registry asks for credentials that are not configured, or does not take those that are.
    #[error("the registry asks for other credentials")]
    Unauthorized,
    /// The registry knows who asks, and refuses.
    #[error("the registry denies access")]
    Denied,
    /// The registry's limit of pulls or requests is used up.
    #[error("the registry's rate limit is used up")]
    RateLimited {
        /// When to ask again, if told; at most an hour.
        retry_after: Option<Duration>,
    },
    /// No usable answer in time: no connection, a time-out, or a failing server.
    #[error("the registry is unavailable: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// There is no room here for the document that the registry sends.
    #[error("too many documents are in memory here")]
    Busy,
    /// Registries are not to be asked ([`Mode::Offline`](super::Mode)); nothing was dialled.
    #[error("wharf is offline ([server] mode)")]
    Offline,
    /// An answer that is not of the specification, or that cannot be trusted.
    #[error("the registry's answer makes no sense: {reason}")]
    Protocol {
        /// What is wrong with it.
        reason: String,
    },
}

/// Why a [`Config`](super::Config) cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The certificates to trust cannot be read.
    #[error("{registry}: the certificates of `ca` cannot be used: {reason}")]
    Ca {
        /// Whose configuration.
        registry: RegistryName,
        /// What is wrong.
        reason: String,
    },
    /// An endpoint is missing or cannot be asked.
    #[error("{registry}: {reason}")]
    Endpoint {
        /// Whose configuration.
        registry: RegistryName,
        /// What is wrong.
        reason: String,
    },
    /// Two configurations for one registry.
    #[error("{registry} is configured twice")]
    Twice {
        /// Which one.
        registry: RegistryName,
    },
}

impl Error {
    /// Whether the registry failed rather than answered, so that a kept answer may stand in.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::BeyondEnd
            | Self::Busy
            | Self::Offline
            | Self::Protocol { .. }
            | Self::RateLimited { .. }
            | Self::Unavailable { .. } => true,
            Self::NotFound | Self::Unauthorized | Self::Denied => false,
        }
    }

    /// When the registry wants to be asked again, if it told.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => *retry_after,
            _ => None,
        }
    }

    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into() }
    }

    pub(super) fn protocol(reason: impl Into<String>) -> Self {
        Self::Protocol { reason: reason.into() }
    }

    /// Whether the endpoint that led to this should rest.
    pub(super) fn is_failure(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unavailable { .. })
    }

    /// How much this tells when endpoints disagree: an outage at one leaves open what it would have said.
    pub(super) fn weight(&self) -> u8 {
        match self {
            Self::Offline => 7,
            Self::Busy => 6,
            Self::RateLimited { .. } => 5,
            Self::Unavailable { .. } => 4,
            Self::BeyondEnd | Self::Protocol { .. } => 3,
            Self::Denied => 2,
            Self::Unauthorized => 1,
            Self::NotFound => 0,
        }
    }
}

impl From<Full> for Error {
    fn from(_: Full) -> Self {
        Self::Busy
    }
}
