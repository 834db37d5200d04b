//! The upstream edge: one registry, spoken to politely.
//!
//! Nothing above this layer sees HTTP: a question goes in with the specification's names, and a manifest,
//! a blob's body or an [`Error`] that says whose fault it was comes out.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use url::Url;

use crate::{
    clock::Clock,
    metrics::Metrics,
    oci::{Digest, MediaType, Reference, RegistryName, RepositoryName, Tag},
};

/// One registry and how to reach it; every value is already checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The name that clients use.
    pub registry: RegistryName,
    /// Base addresses (`https://registry-1.docker.io`, with a path if it has one), tried in order; at least one.
    pub endpoints: Vec<Url>,
    /// Sent to this registry's endpoints and token service only.
    pub credentials: Option<Credentials>,
    /// PEM certificates to trust besides Mozilla's roots, already read; empty: none.
    pub ca_pem: Vec<u8>,
    /// Hosts besides the registry's own domain whose token service may be sent the credentials.
    pub realms: Vec<String>,
    /// Limits on waiting.
    pub patience: Patience,
}

/// A user name and password or access token.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The account.
    pub username: String,
    /// Its password or token.
    pub password: Secret,
}

/// A text that no log, error or `Debug` prints.
#[derive(Clone)]
pub struct Secret(String);

/// How long to wait for an upstream, and how often to ask again.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// To a connection, its TLS handshake included.
    pub connect: Duration,
    /// From a request to the head of its answer.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// Tries of one request at one endpoint, the first included; at least 1.
    pub attempts: u32,
}

/// How much a question is worth waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// There is a kept answer to fall back on: ask each endpoint that is not resting once, and give up after
    /// this long altogether.
    Fallback(Duration),
    /// There is nothing else: all endpoints, all attempts.
    Must,
}

/// The answer to `HEAD …/manifests/<reference>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestHead {
    /// What the registry says the manifest's digest is.
    pub digest: Digest,
    /// Its media type.
    pub media_type: MediaType,
    /// Its length in bytes, if told.
    pub size: Option<u64>,
}

/// The answer to `GET …/manifests/<reference>`: at most [`crate::oci::MANIFEST_MAX_BYTES`], not verified.
#[derive(Clone, Debug)]
pub struct FetchedManifest {
    /// The type the registry named.
    pub media_type: MediaType,
    /// The document, to the byte.
    pub bytes: Bytes,
}

/// One page of a tag list, and where the next begins.
#[derive(Clone, Debug)]
pub struct TagPage {
    /// The tags, in the registry's order.
    pub tags: Vec<Tag>,
    /// The `last` and `n` of the page that follows, if one does.
    pub next: Option<(String, Option<u32>)>,
}
