//! From what the pull-through says to status, headers and body. The only place where an error becomes a status.

use std::{
    error::Error as _,
    io,
    net::IpAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_RANGES, ALLOW, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
        IF_RANGE, LINK, RANGE, RETRY_AFTER, WARNING, WWW_AUTHENTICATE,
    },
};

use super::{
    body::{Body, Content},
    filter::filtered,
    range::{RangeRequest, Selected},
    record::Record,
    route::{Prefix, Route, RouteError},
};
use crate::{
    documents::{Documents, Full, Room},
    lately::Lately,
    metrics::Limit,
    oci::{Descriptor, Digest, ErrorBody, ErrorCode, Platform, Repository, media_type},
    pull::{
        BlobAnswer, Error, Lacking, ListedTags, ManifestAnswer, Outcome, Referrers, Resolution,
    },
};

/// How an answer came about: `hit`, `miss`, `coalesced`, `stale` or `relay`.
const WHARF_CACHE: HeaderName = HeaderName::from_static("wharf-cache");
/// The digest of what is answered ([spec.md, "Pulling manifests"](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests)).
const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// Says that this is a registry; old Docker Engines look for it.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
/// Echoes `?ns=` ([spec.md, "Registry Proxying"](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#registry-proxying)).
const OCI_NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
/// Which filter a referrers list was put through.
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Digests of which it is remembered how they are written in headers.
const NAMES: usize = 256;

/// When a client that came at a busy time should come again.
const BUSY_RETRY: Duration = Duration::from_secs(5);

/// An answer in the making.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    content: Content,
    outcome: &'static str,
}

impl Answer {
    fn new(status: StatusCode, outcome: &'static str) -> Self {
        let mut headers = HeaderMap::with_capacity(10);
        headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        Self { status, headers, content: Content::Empty, outcome }
    }

    /// Whether it says that there is no such thing.
    pub(super) fn is_miss(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    fn cached(outcome: Outcome) -> Self {
        let mut answer = Self::new(StatusCode::OK, outcome.as_str());
        answer.headers.insert(WHARF_CACHE, HeaderValue::from_static(outcome.as_str()));
        answer
    }

    fn document(mut self, content_type: &'static str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.headers.insert(CONTENT_LENGTH, bytes.len().into());
        self.content = Content::Full(bytes);
        self
    }

    /// The same, with room for its document among all; for what has none yet.
    fn with_room(mut self, documents: &Documents) -> Result<Self, Full> {
        if let Content::Full(bytes) = self.content {
            let room = documents.room_now(bytes.len())?;
            self.content = Content::Full(documents.hold(room, bytes)?);
        }
        Ok(self)
    }

    /// How long the document is that it holds in memory; `None` without one.
    pub(super) fn document_bytes(&self) -> Option<usize> {
        match &self.content {
            Content::Full(bytes) => Some(bytes.len()),
            _ => None,
        }
    }

    /// The same, its document in `room` of `documents` too.
    ///
    /// # Errors
    /// When it is longer than there is room.
    pub(super) fn within(mut self, documents: &Documents, room: Room) -> Result<Self, Full> {
        if let Content::Full(bytes) = self.content {
            self.content = Content::Full(documents.hold(room, bytes)?);
        }
        Ok(self)
    }

    fn text(&mut self, name: impl http::header::IntoHeaderName, value: &str) {
        // What cannot stand in a header is left out; everything put here was parsed or made by wharf.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }

    /// A warning for whoever reads the client's log (RFC 7234 §5.5, kept by the distribution specification).
    pub(super) fn warn(&mut self, sentence: &str) {
        // Nothing here holds a quote: sentences are wharf's own, names are of the specification's grammar.
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{sentence}\"")) {
            self.headers.append(WARNING, value);
        }
    }

    /// The response to `method`; its body's end writes `record`.
    pub(super) fn into_response(
        mut self,
        mut record: Box<Record>,
        route: Option<&Route>,
    ) -> Response<Body> {
        if let Some(namespace) = route.and_then(|route| route.namespace.as_ref()) {
            self.text(OCI_NAMESPACE, namespace.as_str());
        }
        record.status = self.status;
        record.outcome = self.outcome;
        if record.method == Method::HEAD || self.status == StatusCode::NOT_MODIFIED {
            self.content = Content::Empty;
        }
        if matches!(self.content, Content::Empty) {
            record.completed();
        }
        let mut response = Response::new(Body::new(self.content, record));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// end-1: this is a registry, and it asks nobody for a password: an older Docker Engine would answer with
/// its Docker Hub login.
pub(super) fn ping() -> Answer {
    Answer::new(StatusCode::OK, "hit").document("application/json", &b"{}"[..])
}

/// end-3.
///
/// `resolution`: which platform the client was taken to have.
pub(super) fn manifest(
    answer: ManifestAnswer,
    resolution: Option<&Resolution>,
    repository: &Repository,
    request: &HeaderMap,
) -> Answer {
    let ManifestAnswer { descriptor, bytes, outcome, stale_for, mismatch, .. } = answer;
    let digest = descriptor.digest;
    let mut answered = described(descriptor, outcome);
    if let Some(stale_for) = stale_for {
        let minutes = stale_for.as_secs() / 60;
        let registry = &repository.registry;
        answered.warn(&format!(
            "{registry} did not answer; the tag was last confirmed {minutes} min ago"
        ));
    }
    if let (Some(image), Some(runs)) = (mismatch, resolution.and_then(Resolution::runs)) {
        answered.warn(&format!("this image is for {image}, and this host runs {runs}"));
    }
    if let Some(bytes) = bytes {
        answered.content = Content::Full(bytes);
    }
    unless_known(answered, &digest, request)
}

/// What the head of every answer with this manifest says.
fn described(descriptor: Descriptor, outcome: Outcome) -> Answer {
    static HEADS: LazyLock<Lately<(Descriptor, Outcome), Arc<HeaderMap>>> =
        LazyLock::new(|| Lately::new(NAMES));
    let key = (descriptor, outcome);
    if let Some(headers) = HEADS.get(&key) {
        let (status, outcome) = (StatusCode::OK, outcome.as_str());
        return Answer { status, headers: (*headers).clone(), content: Content::Empty, outcome };
    }
    let mut answered = Answer::cached(outcome);
    let Descriptor { media_type, digest, size } = &key.0;
    match media_type.well_known() {
        Some(name) => {
            answered.headers.insert(CONTENT_TYPE, HeaderValue::from_static(name));
        }
        None => answered.text(CONTENT_TYPE, media_type.as_str()),
    }
    answered.headers.insert(CONTENT_LENGTH, (*size).into());
    name_content(&mut answered, digest);
    HEADS.put(key, Arc::new(answered.headers.clone()));
    answered
}

/// end-2, `GET`.
pub(super) fn blob(answer: BlobAnswer, digest: &Digest, request: &HeaderMap) -> Answer {
    let mut answered = Answer::cached(answer.outcome);
    blob_headers(&mut answered, digest);
    if is_known(digest, request) {
        return not_modified(answered);
    }
    let Some(size) = answer.size else {
        answered.content = Content::blob(answer.read(None), None);
        return answered;
    };
    let range = match wanted_range(digest, request).map(|range| range.select(size)) {
        Some(Selected::Unsatisfiable) => {
            let mut refused = error(
                StatusCode::RANGE_NOT_SATISFIABLE,
                ErrorCode::Unsupported,
                &format!("the blob has {size} bytes"),
            );
            refused.text(CONTENT_RANGE, &format!("bytes */{size}"));
            return refused;
        }
        Some(Selected::Part(range)) => {
            let (first, last) = (range.start, range.end - 1);
            answered.status = StatusCode::PARTIAL_CONTENT;
            answered.text(CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
            Some(range)
        }
        None => None,
    };
    let length = range.as_ref().map_or(size, |range| range.end - range.start);
    answered.headers.insert(CONTENT_LENGTH, length.into());
    answered.content = Content::blob(answer.read(range), Some(length));
    answered
}

/// end-2, `HEAD`.
pub(super) fn blob_head(
    size: u64,
    outcome: Outcome,
    digest: &Digest,
    request: &HeaderMap,
) -> Answer {
    let mut answered = Answer::cached(outcome);
    blob_headers(&mut answered, digest);
    answered.headers.insert(CONTENT_LENGTH, size.into());
    unless_known(answered, digest, request)
}

/// end-8.
///
/// # Errors
/// When there is no room for the list.
pub(super) fn tags(
    listed: &ListedTags,
    repository: &Repository,
    route: &Route,
    documents: &Documents,
) -> Result<Answer, Full> {
    let tags: Vec<&str> = listed.tags.iter().map(crate::oci::Tag::as_str).collect();
    let body = serde_json::json!({ "name": repository.name, "tags": tags });
    let mut answered =
        Answer::cached(listed.outcome).document("application/json", body.to_string());
    if listed.outcome == Outcome::Stale {
        let registry = &repository.registry;
        answered.warn(&format!("{registry} did not answer; these are the tags kept"));
    }
    if let Some(next) = &listed.next {
        let base = base(repository, route);
        link_next(&mut answered, &format!("{base}/tags/list"), next, route);
    }
    answered.with_room(documents)
}

/// end-12: always 200, since 404 sends Docker 29.1 and later to Docker Hub.
/// A list is left to the client to
/// filter where there is no room for two.
pub(super) fn referrers(
    listed: Referrers,
    repository: &Repository,
    route: &Route,
    documents: &Documents,
) -> Answer {
    let mut answered = Answer::cached(listed.outcome);
    if listed.outcome == Outcome::Stale {
        let registry = &repository.registry;
        answered.warn(&format!("{registry} did not answer; these are the referrers kept"));
    }
    let index = listed.index.unwrap_or_else(|| {
        let empty = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [],
        });
        empty.to_string().into()
    });
    let filter = |wanted| {
        let room = documents.room_now(index.len()).ok()?;
        documents.hold(room, filtered(&index, wanted)?.into()).ok()
    };
    let Some(filtered) = route.artifact_type.as_deref().and_then(filter) else {
        return answered.document(media_type::OCI_INDEX, index);
    };
    let mut answered = answered.document(media_type::OCI_INDEX, filtered);
    answered.headers.insert(OCI_FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    answered
}

/// `/v2/_catalog`: full names, each of which can be pulled as `<this host>/<name>`.
///
/// # Errors
/// When there is no room for the list.
pub(super) fn catalog(
    repositories: &[Repository],
    more: bool,
    route: &Route,
    documents: &Documents,
) -> Result<Answer, Full> {
    let names: Vec<String> = repositories.iter().map(ToString::to_string).collect();
    let body = serde_json::json!({ "repositories": names });
    let mut answered = Answer::cached(Outcome::Hit).document("application/json", body.to_string());
    if let Some(last) = names.last().filter(|_| more) {
        link_next(&mut answered, "/v2/_catalog", last, route);
    }
    answered.with_room(documents)
}

/// 405 to everything that would write.
pub(super) fn method_not_allowed() -> Answer {
    let mut answered = error(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::Unsupported,
        "this registry is a read-only cache: only GET and HEAD",
    );
    answered.headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answered
}

/// What hyper could not read: 431 to a head that no client of registries sends, 505 to HTTP/2, else 400. `None` to
/// connections that just broke off.
pub(super) fn unreadable(failed: &hyper::Error) -> Option<Answer> {
    let (status, message) = if failed.is_parse_too_large() {
        return Some(too_large());
    } else if failed.is_parse_version_h2() {
        let message =
            "HTTP/2 is spoken here with those who agree on it in TLS (ALPN): use HTTP/1.1";
        (StatusCode::HTTP_VERSION_NOT_SUPPORTED, message)
    } else if failed.is_parse() {
        (StatusCode::BAD_REQUEST, "this is not an HTTP/1.1 request")
    } else {
        return None;
    };
    Some(Answer { outcome: "client_error", ..error(status, ErrorCode::Unsupported, message) })
}

/// 431, to a head that no client of registries sends.
pub(super) fn too_large() -> Answer {
    let message = "the request's address or headers are too many or too long";
    let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    Answer { outcome: "client_error", ..error(status, ErrorCode::Unsupported, message) }
}

/// Which limit ended a connection, if one did.
pub(super) fn limit_of(failed: &hyper::Error) -> Option<Limit> {
    if failed.is_parse_too_large() {
        return Some(Limit::Head);
    }
    if failed.is_timeout() {
        return Some(Limit::HeadTime);
    }
    let mut source = failed.source();
    while let Some(error) = source {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return Some(Limit::AnswerTime);
        }
        source = error.source();
    }
    None
}

/// Plain HTTP where TLS is spoken.
pub(super) fn needs_https() -> Answer {
    let message = "this address speaks https: write https:// in front of it, not http://";
    let status = StatusCode::BAD_REQUEST;
    Answer { outcome: "client_error", ..error(status, ErrorCode::Unsupported, message) }
}

/// To a client that the operator does not have served.
pub(super) fn not_allowed(client: IpAddr) -> Answer {
    let message = format!("{client} is not among the clients served here ([server] allow_clients)");
    error(StatusCode::FORBIDDEN, ErrorCode::Denied, &message)
}

/// To a client that may not pull from there, whether or not there is anything: as what `deny` of a registry refuses, and so
/// that its mirrors' next one is asked.
pub(super) fn not_permitted(repository: &Repository) -> Answer {
    let message = format!("{repository} is not served to this client ([[access]])");
    error(StatusCode::FORBIDDEN, ErrorCode::Denied, &message)
}

/// Asks for a name and a password, where the operator has this address do so; `why` what was sent will not do.
pub(super) fn sign_in(why: &str) -> Answer {
    let message = match why {
        "" => "sign in with a name and a password, such as by docker login or podman login",
        why => why,
    };
    let mut answer = error(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, message);
    let challenge = HeaderValue::from_static("Basic realm=\"wharf\", charset=\"UTF-8\"");
    answer.headers.insert(WWW_AUTHENTICATE, challenge);
    answer
}

/// To a name and a password that are wrong, where nobody is asked for any: a challenge would have old Docker Engines send
/// another password.
pub(super) fn wrong_credentials(why: &str) -> Answer {
    error(StatusCode::FORBIDDEN, ErrorCode::Denied, why)
}

/// To a client whose passwords were wrong too often.
pub(super) fn too_many_failures(client: IpAddr, pause: Duration) -> Answer {
    let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
    let mut answer = too_many(&format!(
        "{client} has sent too many wrong passwords: the next one is looked at in {seconds} s"
    ));
    answer.headers.insert(RETRY_AFTER, seconds.into());
    answer
}

/// To a client that comes while too many passwords are verified.
pub(super) fn too_busy_to_sign_in() -> Answer {
    let (status, code) = (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::TooManyRequests);
    let mut answer = error(status, code, "too many clients are signing in: try again");
    answer.headers.insert(RETRY_AFTER, BUSY_RETRY.as_secs().into());
    answer
}

/// To a client that has all the connections that one may have.
pub(super) fn too_many_connections(client: IpAddr) -> Answer {
    too_many(&format!(
        "{client} has as many connections as one client may have ([server] max_connections_per_client)"
    ))
}

/// To a client that has, or with all others has, as many answers open as there may be.
pub(super) fn too_many_answers(client: IpAddr) -> Answer {
    too_many(&format!(
        "as many answers are open as {client}, or all clients, may have ([server] max_connections_per_client, \
         max_connections)"
    ))
}

/// To a client whose other requests take too long.
pub(super) fn too_many_requests(client: IpAddr) -> Answer {
    too_many(&format!(
        "as many requests of {client} as one client may have are worked on ([server] max_requests_per_client)"
    ))
}

/// To a client that has not taken the documents that it asked for before.
pub(super) fn too_many_documents(client: IpAddr) -> Answer {
    too_many(&format!(
        "{client} has not taken the documents that it asked for before ([limits] document_room_per_client)"
    ))
}

fn too_many(message: &str) -> Answer {
    let mut answer = error(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, message);
    answer.headers.insert(RETRY_AFTER, BUSY_RETRY.as_secs().into());
    answer
}

/// An address that means nothing here.
pub(super) fn bad_address(bad: &RouteError) -> Answer {
    let status = match bad.code {
        ErrorCode::DigestInvalid | ErrorCode::NameInvalid | ErrorCode::PaginationNumberInvalid => {
            StatusCode::BAD_REQUEST
        }
        _ => StatusCode::NOT_FOUND,
    };
    error(status, bad.code, &bad.message)
}

/// A pull that could not be answered.
pub(super) fn failure(failed: &Error) -> Answer {
    let (status, code) = match failed {
        Error::Archive(_) => (StatusCode::BAD_REQUEST, ErrorCode::Unsupported),
        Error::BlobUnknown => (StatusCode::NOT_FOUND, ErrorCode::BlobUnknown),
        Error::Busy => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::TooManyRequests),
        Error::Denied | Error::NotServed(_) => (StatusCode::FORBIDDEN, ErrorCode::Denied),
        Error::ManifestInvalid(_) | Error::PartWithout { .. } => {
            (StatusCode::BAD_GATEWAY, ErrorCode::ManifestInvalid)
        }
        Error::ManifestUnknown | Error::NoPlatform { .. } | Error::NoTag(..) => {
            (StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown)
        }
        // That something is not kept, or pinned, is said to those who ask for it to be (`wharf pull`, `wharf rm`): all but
        // the first of these never come here.
        Error::PlatformRefused(_)
        | Error::PlatformNotKept(_)
        | Error::NotKept(_)
        | Error::NotWhole(_)
        | Error::Pinned(_)
        | Error::Volumes(_)
        | Error::PinnedByConfiguration(_) => (StatusCode::FORBIDDEN, ErrorCode::Denied),
        Error::Offline(absent) => {
            let code = match absent.kind {
                Lacking::Blob => ErrorCode::BlobUnknown,
                Lacking::Manifest => ErrorCode::ManifestUnknown,
                Lacking::Repository => ErrorCode::NameUnknown,
            };
            (StatusCode::NOT_FOUND, code)
        }
        Error::NotTaken(_) => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unknown),
        Error::NameUnknown | Error::RegistryUnknown(_) => {
            (StatusCode::NOT_FOUND, ErrorCode::NameUnknown)
        }
        Error::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests),
        Error::SignIn(_) => (StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized),
        Error::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unknown),
        Error::Unavailable(_) => (StatusCode::BAD_GATEWAY, ErrorCode::Unknown),
    };
    let message = match failed {
        // Paths and system errors are for the log.
        Error::Store(_) => "the cache failed; its log says why".to_owned(),
        failed => failed.to_string(),
    };
    let mut answered = error(status, code, &message);
    let retry_after = match failed {
        Error::Busy => Some(BUSY_RETRY),
        Error::RateLimited { retry_after } => *retry_after,
        _ => None,
    };
    if let Error::SignIn(registry) = failed {
        answered.text(WWW_AUTHENTICATE, &format!("Basic realm=\"{registry}\""));
    }
    if let Some(retry_after) = retry_after {
        answered.headers.insert(RETRY_AFTER, retry_after.as_secs().max(1).into());
    }
    answered
}

fn error(status: StatusCode, code: ErrorCode, message: &str) -> Answer {
    let outcome = if status.is_server_error() { "upstream_error" } else { "client_error" };
    let body = ErrorBody::new(code, message).to_json();
    Answer::new(status, outcome).document("application/json", body)
}

fn etag(digest: &Digest) -> String {
    let mut etag = String::with_capacity(2 + Digest::LONGEST_TEXT);
    etag.push('"');
    digest.append_to(&mut etag);
    etag.push('"');
    etag
}

fn name_content(answered: &mut Answer, digest: &Digest) {
    /// The name, bare and as an entity tag.
    type Names = (HeaderValue, HeaderValue);
    static NAMED: LazyLock<Lately<Digest, Names>> = LazyLock::new(|| Lately::new(NAMES));
    let (bare, etag) = NAMED.get(digest).unwrap_or_else(|| {
        let etag = Bytes::from(etag(digest));
        let bare = etag.slice(1..etag.len() - 1);
        let names = [bare, etag].map(|name| {
            HeaderValue::from_maybe_shared(name).expect("hex digits are a header value")
        });
        let names: Names = names.into();
        NAMED.put(*digest, names.clone());
        names
    });
    answered.headers.insert(DOCKER_CONTENT_DIGEST, bare);
    answered.headers.insert(ETAG, etag);
}

fn blob_headers(answered: &mut Answer, digest: &Digest) {
    answered.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type::OCTET_STREAM));
    answered.headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    name_content(answered, digest);
}

/// The single range that is asked for; `If-Range` of another content asks for everything.
fn wanted_range(digest: &Digest, request: &HeaderMap) -> Option<RangeRequest> {
    let mut headers = request.get_all(RANGE).iter();
    let (header, None) = (headers.next()?, headers.next()) else { return None };
    let same = |known: &HeaderValue| known.as_bytes() == etag(digest).as_bytes();
    if !request.get(IF_RANGE).is_none_or(same) {
        return None;
    }
    RangeRequest::parse(header.to_str().ok()?)
}

/// 304 to a client that has this content already (RFC 9110 §13.1.2).
fn unless_known(answered: Answer, digest: &Digest, request: &HeaderMap) -> Answer {
    if is_known(digest, request) { not_modified(answered) } else { answered }
}

fn is_known(digest: &Digest, request: &HeaderMap) -> bool {
    let mut conditions = request.get_all(IF_NONE_MATCH).iter().peekable();
    if conditions.peek().is_none() {
        return false;
    }
    let etag = etag(digest);
    let known = |header: &HeaderValue| {
        let listed = header.to_str().unwrap_or_default().split(',').map(str::trim);
        listed.map(|tag| tag.trim_start_matches("W/")).any(|tag| tag == "*" || tag == etag)
    };
    conditions.any(known)
}

fn not_modified(mut answered: Answer) -> Answer {
    answered.status = StatusCode::NOT_MODIFIED;
    answered.content = Content::Empty;
    answered.headers.remove(CONTENT_LENGTH);
    answered
}

/// The path of a repository in the shape in which this client wrote it.
fn base(repository: &Repository, route: &Route) -> String {
    let Repository { registry, name } = repository;
    let platform = route.platform.as_ref().map(Platform::to_path_segment).unwrap_or_default();
    let platform = |at| match route.platform_at == at {
        true => format!("/platform/{platform}"),
        false => String::new(),
    };
    let registry = |at| match route.prefix == at {
        true => format!("/{registry}"),
        false => String::new(),
    };
    let (outside, inside) = (platform(Prefix::BeforeV2), platform(Prefix::AfterV2));
    let (before, after) = (registry(Prefix::BeforeV2), registry(Prefix::AfterV2));
    format!("{outside}{before}/v2{inside}{after}/{name}")
}

fn link_next(answered: &mut Answer, path: &str, last: &str, route: &Route) {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(route.n.map(|n| ("n", n.to_string())));
    query.append_pair("last", last);
    query.extend_pairs(route.namespace.as_ref().map(|namespace| ("ns", namespace.as_str())));
    answered.text(LINK, &format!("<{path}?{}>; rel=\"next\"", query.finish()));
}
