//! Names: which registry, which repository, which tag or digest.

use std::{
    borrow::Cow,
    fmt,
    str::FromStr,
    sync::{Arc, LazyLock},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Digest, DigestError};

/// The registry that a bare image name means.
pub const DOCKER_HUB: &str = "docker.io";

/// Longest repository name taken. Clients limit host and name together to 255
/// ([spec.md, "Pulling manifests"](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests)).
const NAME_MAX_BYTES: usize = 255;

/// A registry as image names write it: `docker.io`, `ghcr.io`, `localhost:5000`.
///
/// Only a name to look up in the configuration: never an address that is dialled.
/// Docker Hub's other names (`index.docker.io`, `registry-1.docker.io`) are the same registry.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryName(Arc<str>);

/// `<name>` of the distribution specification: lower-case path components.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Arc<str>);

/// A repository of one registry: the unit that permissions and tags belong to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    /// Where it lives.
    pub registry: RegistryName,
    /// What it is called there.
    pub name: RepositoryName,
}

/// `<tag>`: at most 128 characters of `[a-zA-Z0-9_][a-zA-Z0-9._-]*`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Arc<str>);

/// `<reference>`: a tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// A name that may move.
    Tag(Tag),
    /// Content that cannot.
    Digest(Digest),
}

/// Why a string is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a registry host.
    #[error("not a registry host such as docker.io or registry.example:5000")]
    Registry,
    /// Not `<name>` of the specification.
    #[error(
        "not a repository name: path components are lower-case letters and digits, \
         separated inside by '.', '_', '__' or '-'"
    )]
    Repository,
    /// Not `<tag>` of the specification.
    #[error("not a tag: at most 128 of A-Z a-z 0-9 . _ -, not starting with '.' or '-'")]
    Tag,
    /// Sixty-four hex digits: a digest without its algorithm, or an identifier of a local engine.
    #[error("64 hex digits name no image: write name@sha256:…")]
    Identifier,
    /// A reference with a colon that is not a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl RegistryName {
    /// Docker Hub.
    pub fn docker_hub() -> Self {
        static HUB: LazyLock<Arc<str>> = LazyLock::new(|| DOCKER_HUB.into());
        Self(Arc::clone(&HUB))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is Docker Hub, where one-part names live under `library/`.
    pub fn is_docker_hub(&self) -> bool {
        self.as_str() == DOCKER_HUB
    }

    /// Whether Docker's grammar reads `component` as a registry when it stands first in an image name:
    /// a dot, a colon, or `localhost`.
    pub fn looks_like_one(component: &str) -> bool {
        component == "localhost" || component.contains(['.', ':'])
    }
}

impl FromStr for RegistryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let lower = match text.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(text.to_ascii_lowercase()),
            false => Cow::Borrowed(text),
        };
        let (host, port) = match lower.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, Some(port)),
            _ => (&*lower, None),
        };
        let port_ok = port.is_none_or(|port| {
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
        });
        let host_ok = host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        });
        if !port_ok || !host_ok || lower.len() > NAME_MAX_BYTES {
            return Err(NameError::Registry);
        }
        Ok(match &*lower {
            DOCKER_HUB | "index.docker.io" | "registry-1.docker.io" => Self::docker_hub(),
            other => Self(other.into()),
        })
    }
}

impl RepositoryName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_MAX_BYTES || !text.split('/').all(is_path_component) {
            return Err(NameError::Repository);
        }
        Ok(Self(text.into()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let mut separator = "";
    let mut rest = component;
    loop {
        let word = rest.bytes().take_while(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9')).count();
        let separator_ok =
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
        if word == 0 || !separator_ok {
            return false;
        }
        rest = &rest[word..];
        if rest.is_empty() {
            return true;
        }
        let gap = rest.bytes().take_while(|b| matches!(b, b'.' | b'_' | b'-')).count();
        if gap == 0 {
            return false;
        }
        (separator, rest) = rest.split_at(gap);
    }
}

impl Repository {
    /// The repository called `name` at `registry`, with Docker Hub's `library/` put before a one-part name.
    ///
    /// # Errors
    /// When `name` is not `<name>` of the distribution specification.
    pub fn new(registry: RegistryName, name: &str) -> Result<Self, NameError> {
        let name: RepositoryName = name.parse()?;
        if registry.is_docker_hub() && !name.as_str().contains('/') {
            let name = format!("library/{}", name.as_str()).parse()?;
            return Ok(Self { registry, name });
        }
        Ok(Self { registry, name })
    }
}

impl fmt::Display for Repository {
    /// The full name, as containerd writes it: `docker.io/library/alpine`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

impl FromStr for Repository {
    type Err = NameError;

    /// Reads what `Display` writes: the registry always stands first.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (registry, name) = text.split_once('/').ok_or(NameError::Repository)?;
        Self::new(registry.parse()?, name)
    }
}

impl Serialize for Repository {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Repository {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Tag {
    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first_ok = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
        let rest_ok =
            text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !first_ok || !rest_ok || text.len() > 128 {
            return Err(NameError::Tag);
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Reference {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') {
            Ok(Self::Digest(text.parse()?))
        } else {
            Ok(Self::Tag(text.parse()?))
        }
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => fmt::Display::fmt(tag, f),
            Self::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

macro_rules! text_value {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}

text_value!(RegistryName, RepositoryName, Tag);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_the_names_of_the_specification() {
        for good in ["a", "library/alpine", "a/b/c/d", "a.b_c__d-e---f", "0/1", "foo-bar/baz"] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "a._b", "-a", "a-", ".a", "..",
            "../a", "a/../b", "a b", "a%2fb", "é", "a:b", "a@b",
        ] {
            assert_eq!(bad.parse::<RepositoryName>(), Err(NameError::Repository), "{bad:?}");
        }
        assert!("a/".repeat(127).trim_end_matches('/').parse::<RepositoryName>().is_ok());
        assert!("a".repeat(256).parse::<RepositoryName>().is_err());
    }

    #[test]
    fn takes_the_tags_of_the_specification() {
        for good in ["latest", "3.20", "_x", "V1.0-rc.1", "sha256-abc.sig", &"a".repeat(128)] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a b", "a:b", "é", "a\n", &"a".repeat(129)] {
            assert_eq!(bad.parse::<Tag>(), Err(NameError::Tag), "{bad:?}");
        }
    }

    #[test]
    fn takes_registries_and_knows_docker_hub_by_all_its_names() {
        for good in
            ["docker.io", "GHCR.io", "localhost", "localhost:5000", "127.0.0.1:5000", "a-b.c"]
        {
            assert!(good.parse::<RegistryName>().is_ok(), "{good}");
        }
        for bad in [
            "", ":5000", "a:", "a:x", "a:70000", "a:+1", "-a.b", "a..b", "a/b", "u@h", "[::1]",
            "a b",
        ] {
            assert_eq!(bad.parse::<RegistryName>(), Err(NameError::Registry), "{bad:?}");
        }
        for hub in ["docker.io", "index.docker.io", "Registry-1.docker.io"] {
            assert!(hub.parse::<RegistryName>().expect("a registry").is_docker_hub(), "{hub}");
        }
    }

    #[test]
    fn puts_library_before_one_part_names_of_docker_hub_only() {
        let hub = RegistryName::docker_hub();
        let other: RegistryName = "ghcr.io".parse().expect("a registry");
        let full = |registry: &RegistryName, name| {
            Repository::new(registry.clone(), name).expect("a name").to_string()
        };
        assert_eq!(full(&hub, "alpine"), "docker.io/library/alpine");
        assert_eq!(full(&hub, "grafana/loki"), "docker.io/grafana/loki");
        assert_eq!(full(&other, "alpine"), "ghcr.io/alpine");
    }

    proptest! {
        #[test]
        fn never_panics_on_any_text(text in ".{0,300}") {
            let _ = text.parse::<RepositoryName>();
            let _ = text.parse::<RegistryName>();
            let _ = text.parse::<Reference>();
            let _ = text.parse::<Repository>();
        }

        #[test]
        fn a_repository_is_what_the_specs_pattern_says(text in "[a-b0._/-]{0,12}") {
            // The pattern of the specification, spelled out the slow way.
            let component = |c: &str| {
                let words: Vec<&str> = c.split(['.', '_', '-']).collect();
                !c.is_empty()
                    && !words.first().is_none_or(|w| w.is_empty())
                    && !words.last().is_none_or(|w| w.is_empty())
                    && c.split(|x: char| x.is_ascii_alphanumeric())
                        .all(|s| ["", ".", "_", "__"].contains(&s) || s.chars().all(|x| x == '-'))
            };
            prop_assert_eq!(text.parse::<RepositoryName>().is_ok(), text.split('/').all(component));
        }

        #[test]
        fn a_repository_prints_what_it_parsed(name in "[a-z]{1,8}(/[a-z0-9]{1,8}){0,3}") {
            let repository = Repository::new(RegistryName::docker_hub(), &name).expect("a name");
            prop_assert_eq!(repository.to_string().parse::<Repository>(), Ok(repository));
        }
    }
}
