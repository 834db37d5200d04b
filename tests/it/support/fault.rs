//! Misbehaviour on purpose: which requests ([`On`]) and what goes wrong ([`Fault`]).

use std::sync::Mutex;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use wharf::oci::Digest;

use super::{
    gate::Gate,
    reply::{Length, Limit, Opening, Reply},
    serve::{Request, Target},
};

/// The requests that a fault is for.
///
/// All but [`On::Any`] and [`On::Challenges`] see only requests that pass the registry's challenge, so that
/// a fault for the next request is not spent on the attempt without a token.
#[derive(Clone, Debug)]
pub(crate) enum On {
    /// Every request to any of the three hosts.
    Any,
    /// Registry requests that get a 401.
    Challenges,
    /// `GET` and `HEAD` of manifests.
    Manifests,
    /// `HEAD` of manifests only.
    ManifestHeads,
    /// The registry's redirects of blobs to the CDN.
    BlobRedirects,
    /// Where a blob's bytes are served: the CDN, or the registry if it does not redirect.
    Blobs,
    /// As [`On::Blobs`], for one blob.
    Blob(Digest),
    /// The token service.
    Token,
    /// Paths that contain this.
    Path(&'static str),
}

/// What goes wrong with an answer. Counts of bytes begin anew with each answer's body.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Another answer: status, headers, body.
    Status(u16, Vec<(&'static str, String)>, Bytes),
    /// Takes the request and never answers.
    Stall,
    /// Stops after this many bytes of the body, and keeps the connection.
    StallAfter(u64),
    /// Closes the connection after this many bytes of the body, if there are more.
    CutAfter(u64),
    /// Says a `Content-Length` that is off by this much; the whole body, then the end of the connection.
    WrongLength(i64),
    /// The byte at this offset of the whole blob is another one, in ranges as well.
    FlipByte(u64),
    /// `Docker-Content-Digest` names another digest.
    LieDigest(Digest),
    /// No `Docker-Content-Digest` and no `ETag`.
    NoDigestHeader,
    /// No `Content-Length`: a chunked body.
    NoLength,
    /// The whole body, with status 200, to a request for a range.
    IgnoreRange,
    /// This for a `Content-Range`; the body stays.
    WrongContentRange(&'static str),
    /// This for a `Content-Encoding`; the body stays.
    ContentEncoding(&'static str),
    /// A redirect to the very same address.
    RedirectLoop,
    /// A redirect to this address.
    RedirectTo(String),
    /// Takes the request and closes the connection.
    CloseBeforeHead,
    /// Answers with what is not HTTP.
    GarbageHead,
    /// One more header line, of this many bytes.
    HugeHeader(usize),
    /// A body of this many spaces, under the headers of the right one.
    HugeBody(usize),
    /// Sends nothing, not even the head, until the gate is open.
    Hold(Gate),
    /// Sends the head at once and as much of the body as the gate allows.
    Gate(Gate),
    /// At most this many bytes of the body per second.
    Pace(u64),
    /// All of these, in this order.
    All(Vec<Self>),
}

impl Fault {
    /// An answer of this status with an error body.
    pub(crate) fn status(code: u16) -> Self {
        let body = r#"{"errors":[{"code":"UNKNOWN","message":"no"}]}"#;
        Self::Status(code, Vec::new(), body.into())
    }

    /// 429 as Hub sends it when the quota is used up, with this `Retry-After`.
    pub(crate) fn too_many_requests(retry_after: &str) -> Self {
        let headers = vec![("retry-after", retry_after.to_owned())];
        let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
        Self::Status(429, headers, body.into())
    }

    /// Whether the answer is to be made as if the request had no `Range`.
    pub(super) fn ignores_range(&self) -> bool {
        match self {
            Self::IgnoreRange => true,
            Self::All(faults) => faults.iter().any(Self::ignores_range),
            _ => false,
        }
    }

    /// Spoils `reply`, the right answer to a request for `url`.
    pub(super) fn apply(self, reply: &mut Reply, url: &str) {
        let digest_header = HeaderName::from_static("docker-content-digest");
        let value = |text: &str| HeaderValue::from_str(text).expect("a header value");
        match self {
            Self::Status(code, headers, body) => {
                let status = StatusCode::from_u16(code).expect("a status");
                let json = Reply::new(status).header(header::CONTENT_TYPE, "application/json");
                *reply = json.body(body);
                for (name, text) in headers {
                    reply.headers.insert(HeaderName::from_static(name), value(&text));
                }
            }
            Self::Stall => reply.opening = Opening::Stall,
            Self::StallAfter(bytes) => reply.limit = Some((bytes, Limit::Stall)),
            Self::CutAfter(bytes) => reply.limit = Some((bytes, Limit::Cut)),
            Self::WrongLength(off) => reply.length = Length::Off(off),
            Self::FlipByte(at) => reply.flip(at),
            Self::LieDigest(digest) => {
                reply.headers.insert(digest_header, value(&digest.to_string()));
            }
            Self::NoDigestHeader => {
                reply.headers.remove(digest_header);
                reply.headers.remove(header::ETAG);
            }
            Self::NoLength => reply.length = Length::Chunked,
            Self::IgnoreRange => {}
            Self::WrongContentRange(range) => {
                reply.headers.insert(header::CONTENT_RANGE, value(range));
            }
            Self::ContentEncoding(encoding) => {
                reply.headers.insert(header::CONTENT_ENCODING, value(encoding));
            }
            Self::RedirectLoop => Self::RedirectTo(url.to_owned()).apply(reply, url),
            Self::RedirectTo(to) => {
                *reply = Reply::new(StatusCode::TEMPORARY_REDIRECT).header(header::LOCATION, &to);
            }
            Self::CloseBeforeHead => reply.opening = Opening::Close,
            Self::GarbageHead => reply.opening = Opening::Garbage,
            Self::HugeHeader(bytes) => {
                let padding = HeaderName::from_static("x-padding");
                reply.headers.insert(padding, value(&"x".repeat(bytes)));
            }
            Self::HugeBody(bytes) => reply.body = vec![b' '; bytes].into(),
            Self::Hold(gate) => reply.hold = Some(gate),
            Self::Gate(gate) => reply.gate = Some(gate),
            Self::Pace(bytes_per_second) => reply.pace = Some(bytes_per_second),
            Self::All(faults) => faults.into_iter().for_each(|fault| fault.apply(reply, url)),
        }
    }
}

/// The faults in force, in the order in which they were asked for.
#[derive(Default)]
pub(super) struct Script(Mutex<Vec<Rule>>);

struct Rule {
    /// How many requests it is still for; `None` is any number.
    left: Option<u32>,
    on: On,
    fault: Fault,
}

impl Script {
    pub(super) fn add(&self, left: Option<u32>, on: On, fault: Fault) {
        if left != Some(0) {
            self.rules().push(Rule { left, on, fault });
        }
    }

    pub(super) fn clear(&self) {
        self.rules().clear();
    }

    /// The fault for this request, which is thereby spent once.
    pub(super) fn take(&self, request: &Request, target: &Target) -> Option<Fault> {
        let mut rules = self.rules();
        let at = rules.iter().position(|rule| rule.on.matches(request, target))?;
        let rule = &mut rules[at];
        let fault = rule.fault.clone();
        rule.left = rule.left.map(|left| left - 1);
        if rule.left == Some(0) {
            rules.remove(at);
        }
        Some(fault)
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Vec<Rule>> {
        self.0.lock().expect("no panic while the script is locked")
    }
}

impl On {
    fn matches(&self, request: &Request, target: &Target) -> bool {
        let challenged = matches!(target, Target::Challenge { .. });
        let manifest = matches!(target, Target::Manifest { .. });
        match self {
            Self::Any => true,
            Self::Challenges => challenged,
            Self::Manifests => manifest,
            Self::ManifestHeads => manifest && request.is_head(),
            Self::BlobRedirects => matches!(target, Target::BlobRedirect { .. }),
            Self::Blobs => matches!(target, Target::Blob { .. }),
            Self::Blob(wanted) => {
                matches!(target, Target::Blob { digest, .. } if digest == wanted)
            }
            Self::Token => matches!(target, Target::Token),
            Self::Path(part) => !challenged && request.path.contains(part),
        }
    }
}
