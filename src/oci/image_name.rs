//! [`ImageName`]: what people write for an image.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{NameError, Reference, RegistryName, Repository, Tag};

/// An image as a person names it: `alpine`, `ghcr.io/owner/app:1.2`, `alpine@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageName {
    /// The repository; Docker Hub's where no registry stands first.
    pub repository: Repository,
    /// The tag or digest; `latest` where none is given. A tag beside a digest says nothing, and is left out.
    pub reference: Reference,
}

impl FromStr for ImageName {
    type Err = NameError;

    /// Reads a name by Docker's rules: the first component is a registry if it has a dot or a colon, or is `localhost`;
    /// a digest goes before a tag. A scheme, such as `https://`, is no part of a name.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (name, None),
        };
        let tag: Tag = tag.unwrap_or("latest").parse()?;
        let reference = match digest {
            Some(digest) => Reference::Digest(digest.parse()?),
            None => Reference::Tag(tag),
        };
        let repository = match name.split_once('/') {
            Some((registry, rest)) if RegistryName::looks_like_one(registry) => {
                Repository::new(registry.parse()?, rest)?
            }
            None if is_identifier(name) => return Err(NameError::Identifier),
            _ => Repository::new(RegistryName::docker_hub(), name)?,
        };
        Ok(Self { repository, reference })
    }
}

fn is_identifier(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for ImageName {
    /// The full name: `docker.io/library/alpine:3.20`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match self.reference {
            Reference::Tag(_) => ':',
            Reference::Digest(_) => '@',
        };
        write!(f, "{}{separator}{}", self.repository, self.reference)
    }
}

impl Serialize for ImageName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::{Digest, DigestError};

    #[test]
    fn a_short_name_means_a_full_one() {
        let digest = Digest::sha256(b"");
        let (long, tag) = ("a".repeat(255 - "library/".len()), "t".repeat(128));
        for (short, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("grafana/loki:3.1", "docker.io/grafana/loki:3.1"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("docker.io/library/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/alpine:3", "docker.io/library/alpine:3"),
            ("registry-1.docker.io/grafana/loki", "docker.io/grafana/loki:latest"),
            ("docker.io", "docker.io/library/docker.io:latest"),
            ("localhost:5000", "docker.io/library/localhost:5000"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x/y:1", "localhost:5000/x/y:1"),
            ("GHCR.io/owner/app:1.2", "ghcr.io/owner/app:1.2"),
            ("host:5000/x", "host:5000/x:latest"),
            ("127.0.0.1:5000/x:tag", "127.0.0.1:5000/x:tag"),
            ("host/x", "docker.io/host/x:latest"),
            (&format!("alpine@{digest}"), &format!("docker.io/library/alpine@{digest}")),
            (&format!("host:5000/x:tag@{digest}"), &format!("host:5000/x@{digest}")),
            (&format!("quay.io/{long}:{tag}"), &format!("quay.io/{long}:{tag}")),
            (&long, &format!("docker.io/library/{long}:latest")),
            (&"f".repeat(63), &format!("docker.io/library/{}:latest", "f".repeat(63))),
        ] {
            let name: ImageName = short.parse().expect(short);
            assert_eq!(name.to_string(), full, "{short}");
        }
    }

    #[test]
    fn what_is_no_name_is_told_why() {
        use NameError::{Identifier, Registry, Repository, Tag};
        for (text, why) in [
            ("", Repository),
            (" alpine", Repository),
            ("Alpine", Repository),
            ("docker.io/", Repository),
            ("docker.io/Alpine", Repository),
            ("/alpine", Repository),
            ("alpine/", Repository),
            ("a//b", Repository),
            (":3.20", Repository),
            ("a:b:c", Repository),
            (&"a".repeat(256), Repository),
            (&"a".repeat(250), Repository),
            ("https://docker.io/alpine", Registry),
            ("user@host.example/x", NameError::Digest(DigestError::Form)),
            ("host:port/x", Registry),
            ("host:70000/x", Registry),
            ("-host.example/x", Registry),
            ("[::1]:5000/x", Registry),
            (&format!("{}.example/x", "h".repeat(255)), Registry),
            ("alpine:", Tag),
            ("alpine:.3", Tag),
            (&format!("alpine:{}", "t".repeat(129)), Tag),
            ("alpine:@sha256:0", Tag),
            ("alpine@", NameError::Digest(DigestError::Form)),
            ("alpine@3.20", NameError::Digest(DigestError::Form)),
            ("alpine@md5:0", NameError::Digest(DigestError::Algorithm)),
            ("alpine@sha256:0", NameError::Digest(DigestError::Encoded(64))),
            (&"0a".repeat(32), Identifier),
        ] {
            assert_eq!(text.parse::<ImageName>(), Err(why), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_full_name_is_read_again(
            text in "((localhost|[a-z]{1,5}[.:][1-9]{1,3})/)?[a-z0-9]{1,6}(/[a-z0-9._-]{1,6}){0,2}(:[a-zA-Z0-9._-]{1,6})?",
            digest in any::<bool>(),
        ) {
            let digest = if digest { format!("@{}", Digest::sha256(b"")) } else { String::new() };
            if let Ok(name) = format!("{text}{digest}").parse::<ImageName>() {
                prop_assert_eq!(name.to_string().parse(), Ok(name));
            }
        }

        #[test]
        fn never_panics_on_any_text(text in ".{0,300}|[a-z:/@.]{0,30}") {
            let _ = text.parse::<ImageName>();
        }
    }
}
