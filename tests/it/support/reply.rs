//! [`Reply`]: an answer, and how it is to be sent.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::gate::Gate;

/// An answer and how it is to be sent.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Where `body` begins in the blob that it is a piece of.
    pub(super) offset: u64,
    pub(super) opening: Opening,
    pub(super) length: Length,
    pub(super) limit: Option<(u64, Limit)>,
    pub(super) hold: Option<Gate>,
    pub(super) gate: Option<Gate>,
    /// Bytes per second.
    pub(super) pace: Option<u64>,
}

impl Reply {
    pub(super) fn new(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            offset: 0,
            opening: Opening::Head,
            length: Length::Exact,
            limit: None,
            hold: None,
            gate: None,
            pace: None,
        }
    }

    pub(super) fn header(mut self, name: impl Into<HeaderName>, value: &str) -> Self {
        self.headers.insert(name.into(), HeaderValue::from_str(value).expect("a header value"));
        self
    }

    pub(super) fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Changes the byte at `at` of the blob, if this answer carries it.
    pub(super) fn flip(&mut self, at: u64) {
        let index = at.checked_sub(self.offset).and_then(|index| usize::try_from(index).ok());
        let mut body = self.body.to_vec();
        if let Some(byte) = index.and_then(|index| body.get_mut(index)) {
            *byte ^= 1;
        }
        self.body = body.into();
    }

    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        Self::new(status).header(header::CONTENT_TYPE, "application/json").body(body.to_string())
    }

    pub(super) fn error(status: StatusCode, code: &str) -> Self {
        let message = code.to_lowercase().replace('_', " ");
        Self::json(status, &json!({ "errors": [{ "code": code, "message": message }] }))
    }
}

/// How an answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Head,
    Stall,
    Close,
    Garbage,
}

/// How a body's length is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Exact,
    Off(i64),
    Chunked,
}

/// What happens where a body is left off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Stall,
    Cut,
}
