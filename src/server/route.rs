//! From a request's path to what is asked: the endpoints of the distribution specification
//! ([spec.md, "Endpoints"](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#endpoints)),
//! and which registry they mean.
//!
//! Clients write the same question in several ways, depending on how their mirror is configured:
//!
//! ```text
//! /v2/library/alpine/manifests/3.20                        the default registry, docker.io
//! /v2/library/alpine/manifests/3.20?ns=docker.io           containerd, Docker's containerd store
//! /v2/docker.io/library/alpine/manifests/3.20              podman, BuildKit: mirror "host:5000/docker.io"
//! /docker.io/v2/library/alpine/manifests/3.20              Docker 24+: mirror "http://host:5000/docker.io"
//! ```
//!
//! Before the registry, in any of these places, may stand `platform/linux-arm-v7`: the platform of the client that has
//! this address in its configuration.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::oci::{Digest, ErrorCode, NameError, Platform, Reference, RegistryName, Repository};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// `/v2/_catalog`: what is cached here.
    Catalog,
    /// end-1: `/v2/`.
    Ping,
    /// end-2: a blob.
    Blob(Repository, Digest),
    /// end-3: a manifest.
    Manifest(Repository, Reference),
    /// end-8: tags.
    Tags(Repository),
    /// end-12: referrers.
    Referrers(Repository, Digest),
}

/// A request's address, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) endpoint: Endpoint,
    /// The registry that `?ns=` named, to be echoed in `OCI-Namespace`.
    pub(super) namespace: Option<RegistryName>,
    /// What stood before `/v2/`, and before the repository's name behind it, for links back here.
    pub(super) prefix: Prefix,
    /// The platform that the path named, and where.
    pub(super) platform: Option<Platform>,
    pub(super) platform_at: Prefix,
    /// `n` of a list.
    pub(super) n: Option<u32>,
    /// `last` of a list.
    pub(super) last: Option<String>,
    /// `artifactType` of a referrers list.
    pub(super) artifact_type: Option<String>,
}

/// Where in the path the registry, or the platform, stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Prefix {
    /// Nowhere, or in `?ns=`.
    None,
    /// `/<registry>/v2/…`, `/platform/<platform>/v2/…`
    BeforeV2,
    /// `/v2/<registry>/…`, `/v2/platform/<platform>/…`
    AfterV2,
}

/// Why an address cannot be answered: the specification's code, and a sentence for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RouteError {
    pub(super) code: ErrorCode,
    pub(super) message: String,
}

/// Longest `last` and `artifactType` taken.
const QUERY_VALUE_MAX: usize = 255;

/// Parts of a path, as a rule at most.
const SEGMENTS_USUAL: usize = 8;

/// Most characters of a name that an error repeats.
const SHOWN_MAX: usize = 80;

impl Route {
    /// Reads path and query; `serves` tells which registries are configured.
    pub(super) fn parse(
        path: &str,
        query: Option<&str>,
        serves: impl Fn(&RegistryName) -> bool,
    ) -> Result<Self, RouteError> {
        let query = Query::parse(query)?;
        let namespace = query.ns.as_deref().map(|ns| known(ns, &serves)).transpose()?;
        let path = path.strip_prefix('/').ok_or_else(unknown_address)?;
        let decoded: Vec<Cow<'_, str>>;
        let mut segments: Vec<&str> = Vec::with_capacity(SEGMENTS_USUAL);
        if path.contains('%') {
            decoded = path.split('/').map(decode).collect::<Result<_, _>>()?;
            segments.extend(decoded.iter().map(AsRef::as_ref));
        } else {
            segments.extend(path.split('/'));
        }
        let (outer_platform, segments) = match segments.as_slice() {
            ["platform", platform, rest @ ..] => (Some(platform_of(platform)?), rest),
            segments => (None, segments),
        };
        let (before, segments) = match segments {
            ["v2", rest @ ..] => (None, rest),
            [registry, "v2", rest @ ..] => (Some(known(registry, &serves)?), rest),
            _ => return Err(unknown_address()),
        };
        // A repository may be called so; no registry has one whose second part is a platform.
        let inner_platform = match segments {
            ["platform", platform, _, ..] => Platform::from_path_segment(platform).ok(),
            _ => None,
        };
        let segments = if inner_platform.is_some() { &segments[2..] } else { segments };
        let platform_at = match (&outer_platform, &inner_platform) {
            (Some(_), _) => Prefix::BeforeV2,
            (None, Some(_)) => Prefix::AfterV2,
            (None, None) => Prefix::None,
        };
        let platform = outer_platform.or(inner_platform);
        let route = |endpoint, prefix| Self {
            endpoint,
            namespace: namespace.clone(),
            prefix,
            platform: platform.clone(),
            platform_at,
            n: query.n,
            last: query.last.clone(),
            artifact_type: query.artifact_type.clone(),
        };
        let outer = if before.is_some() { Prefix::BeforeV2 } else { Prefix::None };
        match segments {
            [] | [""] => return Ok(route(Endpoint::Ping, outer)),
            ["_catalog"] => return Ok(route(Endpoint::Catalog, outer)),
            // Some clients check for a registry below the path prefix of a mirror.
            [registry, ""] if known(registry, &serves).is_ok() => {
                return Ok(route(Endpoint::Ping, Prefix::AfterV2));
            }
            _ => {}
        }
        let [name @ .., kind, last] = segments else { return Err(unknown_address()) };
        let (registry, name, prefix) =
            place(namespace.as_ref().or(before.as_ref()), name, &serves)?;
        let prefix = if before.is_some() { outer } else { prefix };
        let repository = || {
            Repository::new(registry.clone(), &name.join("/")).map_err(|error| RouteError {
                code: ErrorCode::NameInvalid,
                message: format!("{}: {error}", shown(&name.join("/"))),
            })
        };
        let digest =
            || last.parse::<Digest>().map_err(|error| invalid_digest(last, &error.to_string()));
        let endpoint = match (*kind, *last) {
            ("blobs", _) => Endpoint::Blob(repository()?, digest()?),
            ("manifests", _) => Endpoint::Manifest(repository()?, reference(last)?),
            ("referrers", _) => Endpoint::Referrers(repository()?, digest()?),
            ("tags", "list") => Endpoint::Tags(repository()?),
            _ => return Err(unknown_address()),
        };
        Ok(route(endpoint, prefix))
    }
}

impl Endpoint {
    /// Tag or digest for the log; empty where the endpoint has none.
    pub(super) fn reference(&self) -> String {
        match self {
            Self::Catalog | Self::Ping | Self::Tags(_) => String::new(),
            Self::Blob(_, digest) | Self::Referrers(_, digest) => digest.to_string(),
            Self::Manifest(_, reference) => reference.to_string(),
        }
    }

    /// The repository that it is in; `None` where it is in none.
    pub(super) const fn repository(&self) -> Option<&Repository> {
        match self {
            Self::Catalog | Self::Ping => None,
            Self::Blob(repository, _)
            | Self::Manifest(repository, _)
            | Self::Tags(repository)
            | Self::Referrers(repository, _) => Some(repository),
        }
    }

    /// The word for metrics and logs.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Ping => "ping",
            Self::Blob(..) => "blob",
            Self::Manifest(..) => "manifest",
            Self::Tags(_) => "tags",
            Self::Referrers(..) => "referrers",
        }
    }
}

/// Which registry a name belongs to, and the name without it.
///
/// `given` is what `?ns=` or the path before `/v2/` said; a name that repeats it loses the repetition
/// (BuildKit with mirror `host/docker.io` sends both).
fn place<'a>(
    given: Option<&RegistryName>,
    name: &'a [&'a str],
    serves: impl Fn(&RegistryName) -> bool,
) -> Result<(RegistryName, &'a [&'a str], Prefix), RouteError> {
    let first = name.first().copied().unwrap_or_default();
    let named = first.parse::<RegistryName>().ok().filter(|_| name.len() > 1);
    match (given, named) {
        (Some(given), Some(named)) if *given == named && RegistryName::looks_like_one(first) => {
            Ok((named, &name[1..], Prefix::AfterV2))
        }
        (Some(given), _) => Ok((given.clone(), name, Prefix::None)),
        (None, Some(named)) if serves(&named) => Ok((named, &name[1..], Prefix::AfterV2)),
        // Docker Hub has no names with a dot or a colon in the first component: a registry is meant.
        (None, Some(named)) if RegistryName::looks_like_one(first) => Err(unknown_registry(&named)),
        (None, _) => Ok((RegistryName::docker_hub(), name, Prefix::None)),
    }
}

fn known(text: &str, serves: impl Fn(&RegistryName) -> bool) -> Result<RegistryName, RouteError> {
    let registry: RegistryName = text.parse().map_err(|error: NameError| RouteError {
        code: ErrorCode::NameUnknown,
        message: error.to_string(),
    })?;
    if serves(&registry) { Ok(registry) } else { Err(unknown_registry(&registry)) }
}

fn platform_of(segment: &str) -> Result<Platform, RouteError> {
    Platform::from_path_segment(segment).map_err(|error| RouteError {
        code: ErrorCode::NameUnknown,
        message: format!(
            "{}: {error}; in an address with - for /, such as /platform/linux-arm-v7/v2/",
            shown(segment)
        ),
    })
}

/// Decodes one segment once; a slash that was hidden in it is none of the grammar's.
fn decode(segment: &str) -> Result<Cow<'_, str>, RouteError> {
    let decoded = percent_decode_str(segment).decode_utf8().map_err(|_| unknown_address())?;
    if decoded.contains('/') {
        let message = "an encoded slash is not part of any name".to_owned();
        return Err(RouteError { code: ErrorCode::NameInvalid, message });
    }
    Ok(decoded)
}

fn reference(text: &str) -> Result<Reference, RouteError> {
    text.parse().map_err(|error: NameError| match error {
        NameError::Digest(error) => invalid_digest(text, &error.to_string()),
        // An impossible tag is a tag that does not exist.
        error => RouteError { code: ErrorCode::ManifestUnknown, message: error.to_string() },
    })
}

fn invalid_digest(text: &str, why: &str) -> RouteError {
    RouteError { code: ErrorCode::DigestInvalid, message: format!("{}: {why}", shown(text)) }
}

/// A text of the client's choosing for a message: not all of a long one, and nothing that steers a terminal.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect()
}

fn unknown_registry(registry: &RegistryName) -> RouteError {
    RouteError {
        code: ErrorCode::NameUnknown,
        message: format!(
            "registry {registry} is not configured here; add [[upstream]] registry = \"{registry}\""
        ),
    }
}

fn unknown_address() -> RouteError {
    RouteError {
        code: ErrorCode::NameUnknown,
        message: "not an address of the distribution API, such as /v2/<name>/manifests/<reference>"
            .to_owned(),
    }
}

/// The query parameters that mean something here; others are left unread.
#[derive(Default)]
struct Query {
    ns: Option<String>,
    n: Option<u32>,
    last: Option<String>,
    artifact_type: Option<String>,
}

impl Query {
    fn parse(query: Option<&str>) -> Result<Self, RouteError> {
        let mut parsed = Self::default();
        for (key, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !matches!(&*key, "ns" | "n" | "last" | "artifactType") {
                continue;
            }
            if value.len() > QUERY_VALUE_MAX && key != "ns" {
                return Err(malformed(format!(
                    "the value of {key} is longer than {QUERY_VALUE_MAX} bytes"
                )));
            }
            match &*key {
                "ns" => parsed.ns = Some(value.into_owned()),
                "last" => parsed.last = Some(value.into_owned()),
                "artifactType" => parsed.artifact_type = Some(value.into_owned()),
                _ => {
                    let n = value.parse().map_err(|_| malformed("n is not a number".to_owned()))?;
                    parsed.n = Some(n);
                }
            }
        }
        Ok(parsed)
    }
}

fn malformed(message: String) -> RouteError {
    RouteError { code: ErrorCode::PaginationNumberInvalid, message }
}
