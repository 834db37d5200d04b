//! The right answer to each request, as Docker Hub, its token service and its CDN give it.

use http::{HeaderMap, HeaderName, StatusCode, header};
use serde_json::{Value, json};
use url::form_urlencoded;
use wharf::oci::{Digest, media_type};

use super::{
    hub::{Challenge, Host, Shared},
    log::accepted,
    reply::Reply,
    store::{Manifest, Store},
};

/// A request's head.
pub(super) struct Request {
    pub(super) host: Host,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

/// What a request is for, once it is known to be allowed.
pub(super) enum Target {
    /// Not allowed: the registry asks for credentials.
    Challenge {
        repo: Option<String>,
    },
    Ping,
    Token,
    Manifest {
        repo: String,
        reference: String,
    },
    /// A blob that another host has.
    BlobRedirect {
        repo: String,
        digest: Digest,
    },
    /// A blob, on the host that has it.
    Blob {
        repo: String,
        digest: Digest,
    },
    Tags {
        repo: String,
    },
    Referrers {
        repo: String,
        digest: Digest,
    },
    /// Refused with this status and code.
    Refused(StatusCode, &'static str),
}

impl Target {
    pub(super) fn of(request: &Request, shared: &Shared) -> Self {
        let is_form = request.method == "POST" && request.host == Host::Auth;
        if !is_form && !matches!(request.method.as_str(), "GET" | "HEAD") {
            return Self::Refused(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED");
        }
        match request.host {
            Host::Registry => Self::at_registry(request, shared),
            Host::Auth if request.path == "/token" => Self::Token,
            Host::Auth => Self::Refused(StatusCode::NOT_FOUND, "UNKNOWN"),
            Host::Cdn => Self::at_cdn(request, &shared.store()),
        }
    }

    fn at_registry(request: &Request, shared: &Shared) -> Self {
        let target = Self::under_v2(&request.path, shared.redirect);
        let store = shared.store();
        let repo = match &target {
            Self::Manifest { repo, .. }
            | Self::BlobRedirect { repo, .. }
            | Self::Blob { repo, .. }
            | Self::Tags { repo }
            | Self::Referrers { repo, .. } => Some(repo.as_str()),
            _ => None,
        };
        let known = repo.is_none_or(|repo| store.find(repo).is_some());
        // Whoever may not read a repository does not learn whether it is there.
        if !allowed(request, shared.challenge, &store, repo)
            || (!known && shared.challenge != Challenge::None)
        {
            return Self::Challenge { repo: repo.map(str::to_owned) };
        }
        if known { target } else { Self::Refused(StatusCode::NOT_FOUND, "NAME_UNKNOWN") }
    }

    fn under_v2(path: &str, redirect: bool) -> Self {
        let not_found = Self::Refused(StatusCode::NOT_FOUND, "UNSUPPORTED");
        let Some(rest) = path.strip_prefix("/v2/") else { return not_found };
        if rest.is_empty() {
            return Self::Ping;
        }
        if let Some(repo) = rest.strip_suffix("/tags/list") {
            return Self::Tags { repo: repo.to_owned() };
        }
        let mut parts = rest.rsplitn(3, '/');
        let (Some(last), Some(kind), Some(repo)) = (parts.next(), parts.next(), parts.next())
        else {
            return not_found;
        };
        let repo = repo.to_owned();
        match (kind, last.parse::<Digest>()) {
            ("manifests", _) => Self::Manifest { repo, reference: last.to_owned() },
            ("blobs", Ok(digest)) if redirect => Self::BlobRedirect { repo, digest },
            ("blobs", Ok(digest)) => Self::Blob { repo, digest },
            ("referrers", Ok(digest)) => Self::Referrers { repo, digest },
            ("blobs" | "referrers", Err(_)) => {
                Self::Refused(StatusCode::BAD_REQUEST, "DIGEST_INVALID")
            }
            _ => not_found,
        }
    }

    /// As S3 and R2 behind Hub: a signature in the query is the only way in, and two ways are an error.
    fn at_cdn(request: &Request, store: &Store) -> Self {
        if request.headers.contains_key(header::AUTHORIZATION) {
            return Self::Refused(StatusCode::BAD_REQUEST, "ONLY_ONE_AUTH_MECHANISM_ALLOWED");
        }
        let signature = request.parameter("X-Signature").unwrap_or_default();
        match store.signed(&signature) {
            Some((repo, digest)) if request.path == cdn_path(digest) => {
                Self::Blob { repo: repo.clone(), digest: *digest }
            }
            _ => Self::Refused(StatusCode::FORBIDDEN, "DENIED"),
        }
    }

    /// The right answer. `range` is the request's, or `None` where it is to be ignored.
    pub(super) fn answer(&self, request: &Request, range: Option<&str>, shared: &Shared) -> Reply {
        let mut store = shared.store();
        let reply = match self {
            Self::Challenge { repo } => challenge(request, repo.as_deref(), shared),
            Self::Ping => Reply::json(StatusCode::OK, &json!({})),
            Self::Token => token(request, &mut store),
            Self::Manifest { repo, reference } => manifest(request, repo, reference, &mut store),
            Self::BlobRedirect { repo, digest } => redirect(repo, *digest, shared, &mut store),
            Self::Blob { repo, digest } => blob(request.host, repo, *digest, range, &store),
            Self::Tags { repo } => tags(request, repo, &store),
            Self::Referrers { repo, digest } => referrers(repo, *digest, &store),
            Self::Refused(status, code) => Reply::error(*status, code),
        };
        match request.host {
            Host::Registry => reply.header(VERSION, "registry/2.0"),
            Host::Auth | Host::Cdn => reply,
        }
    }
}

const VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

fn allowed(request: &Request, challenge: Challenge, store: &Store, repo: Option<&str>) -> bool {
    let sent = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match challenge {
        Challenge::None => true,
        Challenge::Basic => match store.rights_of(sent) {
            None => sent.is_some() && sent == store.basic.as_deref(),
            Some(rights) => rights.is_ok_and(|may| {
                sent.is_some() && repo.is_none_or(|repo| may.iter().any(|known| known == repo))
            }),
        },
        Challenge::Bearer => {
            let token = sent.and_then(|sent| sent.strip_prefix("Bearer "));
            token.is_some_and(|token| store.admits(token, repo))
        }
    }
}

fn challenge(request: &Request, repo: Option<&str>, shared: &Shared) -> Reply {
    let mut challenge = match shared.challenge {
        Challenge::None | Challenge::Basic => r#"Basic realm="fake hub""#.to_owned(),
        Challenge::Bearer => {
            let realm = shared.url(Host::Auth);
            format!(r#"Bearer realm="{realm}/token",service="registry.docker.io""#)
        }
    };
    if let (Challenge::Bearer, Some(repo)) = (shared.challenge, repo) {
        challenge = format!(r#"{challenge},scope="repository:{repo}:pull""#);
        if request.headers.contains_key(header::AUTHORIZATION) {
            challenge = format!(r#"{challenge},error="insufficient_scope""#);
        }
    }
    Reply::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED")
        .header(header::WWW_AUTHENTICATE, &challenge)
}

fn token(request: &Request, store: &mut Store) -> Reply {
    let sent = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let asked = if request.method == "POST" { &*request.body } else { request.query.as_bytes() };
    if let Some(identity) = &store.identity {
        let field = |name: &str, value: &str| {
            form_urlencoded::parse(&request.body).any(|(key, had)| key == name && had == value)
        };
        let is_form = request
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == "application/x-www-form-urlencoded");
        let wanted = [
            ("grant_type", "refresh_token"),
            ("service", "registry.docker.io"),
            ("refresh_token", identity),
        ];
        if !is_form || sent.is_some() || !wanted.iter().all(|(name, value)| field(name, value)) {
            return Reply::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
        }
    }
    if store.basic.is_some() && sent != store.basic.as_deref() {
        return Reply::json(
            StatusCode::UNAUTHORIZED,
            &json!({ "details": "incorrect username or password" }),
        );
    }
    let repository = |(key, value): (_, std::borrow::Cow<'_, str>)| {
        let scope = (key == "scope").then_some(value)?;
        let (repo, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
        actions.split(',').any(|action| action == "pull").then(|| repo.to_owned())
    };
    let mut repositories: Vec<String> =
        form_urlencoded::parse(asked).filter_map(repository).collect();
    match store.rights_of(sent) {
        None => {}
        Some(Err(())) => return Reply::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
        // As Hub does: a token for what one may not pull is given, and opens nothing.
        Some(Ok(may)) => repositories.retain(|repo| may.contains(repo)),
    }
    let token = store.token(repositories);
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    Reply::json(
        StatusCode::OK,
        &json!({ "token": token, "access_token": token, "expires_in": 300, "issued_at": now }),
    )
}

fn manifest(request: &Request, repo: &str, reference: &str, store: &mut Store) -> Reply {
    let accept = accepted(&request.headers);
    let Some((digest, Manifest { media_type, bytes })) = find(store, repo, reference, &accept)
    else {
        return Reply::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    };
    let sent = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (limit, remaining) = match sent.and_then(|sent| store.limits.get_mut(sent)) {
        Some((limit, pulls)) => {
            if *pulls >= *limit && !request.is_head() {
                return Reply::error(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS")
                    .header(header::RETRY_AFTER, "3600");
            }
            *pulls += u64::from(!request.is_head());
            (*limit, *limit - *pulls)
        }
        None => {
            store.pulls += u64::from(!request.is_head());
            (100, 100u64.saturating_sub(store.pulls))
        }
    };
    Reply::new(StatusCode::OK)
        .header(header::CONTENT_TYPE, &media_type)
        .header(CONTENT_DIGEST, &digest.to_string())
        .header(header::ETAG, &format!("\"{digest}\""))
        .header(HeaderName::from_static("ratelimit-limit"), &format!("{limit};w=21600"))
        .header(HeaderName::from_static("ratelimit-remaining"), &format!("{remaining};w=21600"))
        .header(HeaderName::from_static("docker-ratelimit-source"), "127.0.0.1")
        .body(bytes)
}

/// By tag, whoever does not say that it reads lists gets the amd64 image out of one.
fn find(
    store: &Store,
    repo: &str,
    reference: &str,
    accept: &[String],
) -> Option<(Digest, Manifest)> {
    let lists = [media_type::OCI_INDEX, media_type::DOCKER_LIST];
    let repository = store.find(repo)?;
    let by_tag = repository.tags.get(reference).copied();
    let digest = by_tag.or_else(|| reference.parse().ok())?;
    let manifest = repository.manifests.get(&digest)?;
    let reads_lists = accept.iter().any(|kind| lists.contains(&kind.as_str()));
    if by_tag.is_none() || reads_lists || !lists.contains(&manifest.media_type.as_str()) {
        return Some((digest, manifest.clone()));
    }
    let index: Value = serde_json::from_slice(&manifest.bytes).ok()?;
    let entries = index["manifests"].as_array()?;
    let amd64 = entries.iter().find(|entry| entry["platform"]["architecture"] == "amd64")?;
    let digest = amd64["digest"].as_str()?.parse().ok()?;
    Some((digest, repository.manifests.get(&digest)?.clone()))
}

fn cdn_path(digest: &Digest) -> String {
    let encoded = digest.encoded();
    format!("/registry-v2/blobs/{}/{}/{encoded}/data", digest.algorithm().as_str(), &encoded[..2])
}

fn redirect(repo: &str, digest: Digest, shared: &Shared, store: &mut Store) -> Reply {
    if !store.find(repo).is_some_and(|repository| repository.blobs.contains_key(&digest)) {
        return Reply::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
    }
    let (cdn, path, signature) =
        (shared.url(Host::Cdn), cdn_path(&digest), store.sign(repo, digest));
    Reply::new(StatusCode::TEMPORARY_REDIRECT)
        .header(header::LOCATION, &format!("{cdn}{path}?X-Expires=1200&X-Signature={signature}"))
        .header(CONTENT_DIGEST, &digest.to_string())
}

fn blob(host: Host, repo: &str, digest: Digest, range: Option<&str>, store: &Store) -> Reply {
    let found = store.find(repo).and_then(|repository| repository.blobs.get(&digest));
    let Some(bytes) = found else {
        return Reply::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN");
    };
    let total = bytes.len();
    let reply = match range.and_then(|range| single_range(range, total)) {
        None => Reply::new(StatusCode::OK).body(bytes.clone()),
        Some((start, end)) if start >= end => {
            return Reply::new(StatusCode::RANGE_NOT_SATISFIABLE)
                .header(header::CONTENT_RANGE, &format!("bytes */{total}"));
        }
        Some((start, end)) => Reply {
            offset: start as u64,
            ..Reply::new(StatusCode::PARTIAL_CONTENT)
                .header(header::CONTENT_RANGE, &format!("bytes {start}-{}/{total}", end - 1))
                .body(bytes.slice(start..end))
        },
    };
    let reply = reply
        .header(header::CONTENT_TYPE, media_type::OCTET_STREAM)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::ETAG, &format!("\"{}\"", digest.encoded()));
    match host {
        Host::Registry => reply.header(CONTENT_DIGEST, &digest.to_string()),
        Host::Auth | Host::Cdn => reply,
    }
}

/// The first byte and the one behind the last; not first before last if the range is not satisfiable.
/// `None` if it is not one range of bytes, and so to be ignored (RFC 9110 §14.2).
fn single_range(range: &str, total: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let count: usize = last.parse().ok()?;
        return Some((total.saturating_sub(count), total));
    }
    let first: usize = first.parse().ok()?;
    if last.is_empty() {
        return Some((first, total));
    }
    let last: usize = last.parse().ok()?;
    (first <= last).then(|| (first, last.saturating_add(1).min(total)))
}

fn tags(request: &Request, repo: &str, store: &Store) -> Reply {
    let limit = request.parameter("n").map_or(usize::MAX, |n| n.parse().unwrap_or(usize::MAX));
    let last = request.parameter("last").unwrap_or_default();
    let tags = store.find(repo).map(|repository| &repository.tags);
    let mut rest = tags.into_iter().flat_map(|tags| tags.keys()).filter(|tag| **tag > last);
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let reply = Reply::json(StatusCode::OK, &json!({ "name": repo, "tags": page }));
    match (page.last(), rest.next()) {
        (Some(last), Some(_)) => reply.header(
            header::LINK,
            &format!(r#"</v2/{repo}/tags/list?last={last}&n={limit}>; rel="next""#),
        ),
        _ => reply,
    }
}

fn referrers(repo: &str, digest: Digest, store: &Store) -> Reply {
    match store.find(repo).and_then(|repository| repository.referrers.get(&digest)) {
        Some(index) => Reply::new(StatusCode::OK)
            .header(header::CONTENT_TYPE, media_type::OCI_INDEX)
            .body(index.clone()),
        None => Reply::error(StatusCode::NOT_FOUND, "UNSUPPORTED"),
    }
}
