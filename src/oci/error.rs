//! The error body of the distribution specification
//! ([spec.md, "Error Codes"](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes)).

use serde::{Deserialize, Serialize};

/// An error code of the distribution specification (code-1 … code-14), as far as a read-only registry uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// code-1: no such blob.
    BlobUnknown,
    /// code-12: access to the resource is denied.
    Denied,
    /// code-4: the digest is malformed or cannot be verified.
    DigestInvalid,
    /// code-6: the upstream's manifest is not one.
    ManifestInvalid,
    /// code-7: no such manifest.
    ManifestUnknown,
    /// code-8: the repository name is malformed.
    NameInvalid,
    /// code-9: no such repository, or no such registry here.
    NameUnknown,
    /// Of the Docker registry: `n` or `last` of a list cannot be used.
    PaginationNumberInvalid,
    /// code-14: too many requests.
    #[serde(rename = "TOOMANYREQUESTS")]
    TooManyRequests,
    /// code-11: who asks has to say who it is.
    Unauthorized,
    /// `UNKNOWN` of the Docker registry: a failure that no code of the specification names.
    Unknown,
    /// code-13: the operation is not supported.
    Unsupported,
}

impl ErrorCode {
    /// The code as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::Denied => "DENIED",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::PaginationNumberInvalid => "PAGINATION_NUMBER_INVALID",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unknown => "UNKNOWN",
            Self::Unsupported => "UNSUPPORTED",
        }
    }
}

/// The JSON body of an error answer: `{"errors":[{"code","message"}]}`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// At least one error.
    pub errors: Vec<ErrorEntry>,
}

/// One entry of an [`ErrorBody`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorEntry {
    /// Which of the specification's codes.
    pub code: ErrorCode,
    /// One sentence for a person.
    #[serde(default)]
    pub message: String,
}

impl ErrorBody {
    /// A body of one error.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { errors: vec![ErrorEntry { code, message: message.into() }] }
    }

    /// The body's bytes.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and unit variants always serialise")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_on_the_wire_as_the_spec_says() {
        let body = ErrorBody::new(ErrorCode::TooManyRequests, "slow down");
        assert_eq!(
            String::from_utf8(body.to_json()).expect("JSON is UTF-8"),
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#
        );
    }

    #[test]
    fn every_code_has_one_spelling() {
        for code in [
            ErrorCode::BlobUnknown,
            ErrorCode::Denied,
            ErrorCode::DigestInvalid,
            ErrorCode::ManifestInvalid,
            ErrorCode::ManifestUnknown,
            ErrorCode::NameInvalid,
            ErrorCode::NameUnknown,
            ErrorCode::PaginationNumberInvalid,
            ErrorCode::TooManyRequests,
            ErrorCode::Unknown,
            ErrorCode::Unsupported,
        ] {
            assert_eq!(serde_json::to_value(code).expect("a unit variant"), code.as_str());
        }
    }
}
