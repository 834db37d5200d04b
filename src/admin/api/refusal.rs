//! Answers that say no: a status, and `{"error":"…"}` with one sentence.

use std::time::Duration;

use hyper::{
    Response, StatusCode,
    header::{ALLOW, HeaderValue, RETRY_AFTER},
};

use super::{JSON, json};
use crate::{
    admin::{body::Body, respond::with_type},
    pull::Error,
};

/// When who came at a busy time should come again.
const BUSY_RETRY: Duration = Duration::from_secs(5);

/// Why there is no better answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    sentence: String,
    allow: Option<&'static str>,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(status: StatusCode, sentence: impl Into<String>) -> Self {
        Self { status, sentence: sentence.into(), allow: None, retry_after: None }
    }

    /// What was asked makes no sense.
    pub(super) fn bad(sentence: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, sentence)
    }

    pub(super) fn nothing_here() -> Self {
        Self::new(StatusCode::NOT_FOUND, "nothing here; / lists what there is")
    }

    /// Another method was needed: one of `allow`.
    pub(super) fn method(allow: &'static str, sentence: &str) -> Self {
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, sentence) }
    }

    pub(super) fn control_only() -> Self {
        let sentence = "this address only tells; what is to be done is asked for on the control \
                        socket, control.sock in the cache directory";
        Self::new(StatusCode::FORBIDDEN, sentence)
    }

    /// So many pulls run already.
    pub(super) fn pulls(most: usize) -> Self {
        let sentence = format!("{most} pulls are running already: ask again when one has ended");
        let busy = Self::new(StatusCode::SERVICE_UNAVAILABLE, sentence);
        Self { retry_after: Some(BUSY_RETRY), ..busy }
    }

    /// So many exports run already.
    pub(super) fn exports(most: usize) -> Self {
        let sentence = format!("{most} exports are running already: ask again when one has ended");
        let busy = Self::new(StatusCode::SERVICE_UNAVAILABLE, sentence);
        Self { retry_after: Some(BUSY_RETRY), ..busy }
    }

    /// As many archives are taken in as may be at one time.
    pub(super) fn imports(most: usize) -> Self {
        let sentence = format!("{most} archives are being taken in already: ask again when one is");
        let busy = Self::new(StatusCode::SERVICE_UNAVAILABLE, sentence);
        Self { retry_after: Some(BUSY_RETRY), ..busy }
    }

    /// A check of all blobs runs already.
    pub(super) fn checking() -> Self {
        let sentence = "all blobs are being checked already: ask again when that has ended";
        let busy = Self::new(StatusCode::SERVICE_UNAVAILABLE, sentence);
        Self { retry_after: Some(BUSY_RETRY), ..busy }
    }

    /// Something died that should not.
    pub(super) fn died() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this died half-way; the log says why")
    }

    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "wharf is stopping")
    }

    /// The answer took more than `patience`.
    pub(super) fn late(patience: Duration) -> Self {
        let sentence = format!("no answer within {} s", patience.as_secs());
        Self::new(StatusCode::GATEWAY_TIMEOUT, sentence)
    }

    /// The body did not come within `patience`.
    pub(super) fn slow(patience: Duration) -> Self {
        let sentence = format!("the body did not come within {} s", patience.as_secs());
        Self::new(StatusCode::REQUEST_TIMEOUT, sentence)
    }

    /// The body is longer than `most` bytes.
    pub(super) fn long(most: usize) -> Self {
        let sentence = format!("the body is longer than {} KiB", most / 1024);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, sentence)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let body = json(&serde_json::json!({ "error": self.sentence }));
        let mut response = with_type(self.status, JSON, Body::whole(body));
        let headers = response.headers_mut();
        headers.extend(self.allow.map(|allow| (ALLOW, HeaderValue::from_static(allow))));
        let seconds = self.retry_after.map(|after| after.as_secs().max(1));
        headers.extend(seconds.map(|seconds| (RETRY_AFTER, HeaderValue::from(seconds))));
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Archive(_) => StatusCode::BAD_REQUEST,
            Error::BlobUnknown
            | Error::ManifestUnknown
            | Error::NameUnknown
            | Error::NotKept(_)
            | Error::NotWhole(_)
            | Error::NoPlatform { .. }
            | Error::NoTag(..)
            | Error::Offline(_)
            | Error::RegistryUnknown(_) => StatusCode::NOT_FOUND,
            Error::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Error::Pinned(_) | Error::PinnedByConfiguration(_) | Error::Volumes(_) => {
                StatusCode::CONFLICT
            }
            Error::Denied
            | Error::NotServed(_)
            | Error::PlatformNotKept(_)
            | Error::PlatformRefused(_)
            | Error::SignIn(_) => StatusCode::FORBIDDEN,
            Error::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Error::NotTaken(_) | Error::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Error::ManifestInvalid(_) | Error::PartWithout { .. } | Error::Unavailable(_) => {
                StatusCode::BAD_GATEWAY
            }
        };
        let retry_after = match &error {
            Error::Busy => Some(BUSY_RETRY),
            Error::RateLimited { retry_after } => *retry_after,
            _ => None,
        };
        Self { retry_after, ..Self::new(status, error.to_string()) }
    }
}
