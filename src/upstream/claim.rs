//! [`Claim`]: what a client brings to prove to a registry who it is, where clients have accounts of their own.

use std::{fmt, time::Duration};

use http::HeaderValue;

use super::token::secret;
use crate::oci::Digest;

/// The client's `Authorization`, of a scheme that registries take; or none.
///
/// It is meant for the registry alone, and goes where an account of wharf's own would. No `Debug`, log or error shows it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Claim(Option<Shown>);

#[derive(Clone, PartialEq, Eq)]
enum Shown {
    /// A user name and password (RFC 7617), as the header to send.
    Basic(HeaderValue),
    /// A token that the registry's token service gave the client, likewise (RFC 6750).
    Bearer(HeaderValue),
    /// What the token service gives tokens for, and no registry takes (RFC 6749 §6, a refresh token).
    Identity(String),
}

/// On which terms clients bring their own accounts (`auth = "client"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long the registry's yes to a client counts for a repository.
    pub ttl: Duration,
    /// How long it counts while the registry does not answer.
    pub offline_grace: Duration,
}

/// What a client wants to see, and the registry is asked to show it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A manifest, by tag or digest.
    Manifest(crate::oci::Reference),
    /// A blob.
    Blob(Digest),
    /// The list of tags.
    Tags,
}

impl Claim {
    /// What the value of an `Authorization` header claims; nothing where no registry could make anything of it.
    pub fn of(authorization: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(authorization) else { return Self::default() };
        let Some((scheme, rest)) = text.split_once(' ') else { return Self::default() };
        let rest = rest.trim_matches(' ');
        if rest.is_empty() {
            return Self::default();
        }
        // Written anew, so that what is sent is one scheme and one credential.
        Self(if scheme.eq_ignore_ascii_case("basic") {
            secret(&format!("Basic {rest}")).map(Shown::Basic)
        } else if scheme.eq_ignore_ascii_case("bearer") {
            secret(&format!("Bearer {rest}")).map(Shown::Bearer)
        } else {
            None
        })
    }

    /// A user name and password; nothing where they cannot be sent.
    pub(super) fn password(username: &str, password: &str) -> Self {
        Self::of(http_auth::basic::encode_credentials(username, password).as_bytes())
    }

    /// An identity token; nothing where it is empty.
    pub(super) fn with_identity(token: &str) -> Self {
        Self((!token.is_empty()).then(|| Shown::Identity(token.to_owned())))
    }

    /// Stands for the claim where it is to be known again. What it was cannot be told from it.
    pub fn id(&self) -> Digest {
        match &self.0 {
            None => Digest::sha256(b""),
            Some(Shown::Basic(value) | Shown::Bearer(value)) => Digest::sha256(value.as_bytes()),
            Some(Shown::Identity(token)) => Digest::sha256(format!("Identity {token}").as_bytes()),
        }
    }

    /// Whether nothing is claimed.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// A user name and password, as the header to send.
    pub(super) fn basic(&self) -> Option<&HeaderValue> {
        match &self.0 {
            Some(Shown::Basic(value)) => Some(value),
            _ => None,
        }
    }

    /// A token, as the header to send.
    pub(super) fn bearer(&self) -> Option<&HeaderValue> {
        match &self.0 {
            Some(Shown::Bearer(value)) => Some(value),
            _ => None,
        }
    }

    /// An identity token, for the token service.
    pub(super) fn identity(&self) -> Option<&str> {
        match &self.0 {
            Some(Shown::Identity(token)) => Some(token),
            _ => None,
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            None => "nobody",
            Some(Shown::Basic(_)) => "Basic …",
            Some(Shown::Bearer(_)) => "Bearer …",
            Some(Shown::Identity(_)) => "Identity …",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_registries_take_is_claimed_and_nothing_else() {
        for (header, shown) in [
            ("Basic YWxpY2U6c2VjcmV0", "Basic …"),
            ("basic   YWxpY2U6c2VjcmV0 ", "Basic …"),
            ("BEARER abc.def", "Bearer …"),
            ("Digest username=\"x\"", "nobody"),
            ("Basic", "nobody"),
            ("Basic ", "nobody"),
            ("Bearer    ", "nobody"),
            ("", "nobody"),
            ("Basic a\r\nX-Evil: 1", "nobody"),
            ("Basic \u{fc}\u{0}", "nobody"),
        ] {
            assert_eq!(format!("{:?}", Claim::of(header.as_bytes())), shown, "{header:?}");
        }
        assert!(Claim::of(b"Basic \xff").is_none());
    }

    #[test]
    fn the_same_claim_is_known_again_and_another_is_not() {
        let [alice, again, bob, token] =
            [&b"Basic YQ=="[..], b"basic YQ==", b"Basic Yg==", b"Bearer YQ=="].map(Claim::of);
        assert_eq!(alice.id(), again.id());
        assert_ne!(alice.id(), bob.id());
        assert_ne!(alice.id(), token.id());
        assert_ne!(alice.id(), Claim::default().id());
    }
}
