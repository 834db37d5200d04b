//! [`Gets`]: what a row must get, and whether an answer is that.

use wharf::oci::{ErrorBody, ErrorCode};

use crate::support::client::Answer;

/// What a row must get.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gets {
    pub(super) status: u16,
    /// The code of the error body; `None` if there is to be no error.
    code: Option<ErrorCode>,
    /// Headers and their values; an empty value stands for no such header.
    headers: &'static [(&'static str, &'static str)],
    /// The body breaks off before its end.
    cut: bool,
}

impl Gets {
    pub(super) const fn error(status: u16, code: ErrorCode) -> Self {
        Self { status, code: Some(code), headers: &[], cut: false }
    }

    pub(super) const fn ok(status: u16) -> Self {
        Self { status, code: None, headers: &[], cut: false }
    }

    /// A good head, and a body that breaks off: it turned out late that the answer is not good. Where it did not,
    /// the registry's fault is told in a 502.
    pub(super) const CUT: Self = Self { status: 200, code: None, headers: &[], cut: true };

    pub(super) const fn with(self, headers: &'static [(&'static str, &'static str)]) -> Self {
        Self { headers, ..self }
    }

    /// Whether the answer is what was asked for.
    pub(super) const fn is_good(&self) -> bool {
        self.code.is_none() && !self.cut
    }

    pub(super) const fn is_cut(&self) -> bool {
        self.cut
    }

    /// Says what is wrong with `answer`, if anything is.
    pub(super) fn check(&self, answer: &Answer, to_head: bool) -> Result<(), String> {
        if self.cut && answer.status == 502 {
            return Self::error(502, ErrorCode::Unknown).check(answer, to_head);
        }
        let differs = |what: &str| Err(format!("{what}, wanted {self:?}, got {answer:?}"));
        if answer.status != self.status {
            return differs("status");
        }
        if answer.header("docker-distribution-api-version") != Some("registry/2.0") {
            return differs("no registry's answer");
        }
        for never in ["www-authenticate", "content-encoding", "set-cookie"] {
            if answer.headers.contains_key(never) {
                return differs(never);
            }
        }
        for (name, value) in self.headers {
            if answer.header(name).unwrap_or_default() != *value {
                return differs(name);
            }
        }
        let body = match (&answer.body, self.cut) {
            (Ok(body), false) => body,
            (Err(_), true) => return Ok(()),
            _ => return differs("the body's end"),
        };
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        if to_head {
            if !body.is_empty()
                || (self.code.is_some() && length.is_none_or(|length: usize| length == 0))
            {
                return differs("a HEAD's body or length");
            }
            return Ok(());
        }
        if length.is_some_and(|length| length != body.len()) {
            return differs("content-length");
        }
        let Some(code) = self.code else { return Ok(()) };
        if answer.header("content-type") != Some("application/json") || length.is_none() {
            return differs("the error's headers");
        }
        let Ok(ErrorBody { errors }) = serde_json::from_slice(body) else {
            return differs("no error body");
        };
        match errors.as_slice() {
            [error] if error.code == code && is_a_sentence(&error.message) => Ok(()),
            _ => differs("the error"),
        }
    }
}

/// For a person, and neither a dump nor a stack.
fn is_a_sentence(message: &str) -> bool {
    let is_plain = message.chars().all(|c| !c.is_control());
    let tells_of_here = ["src/", "panicked", "/tmp/", ".rs:"];
    is_plain
        && (1..1000).contains(&message.len())
        && !tells_of_here.iter().any(|part| message.contains(part))
}
