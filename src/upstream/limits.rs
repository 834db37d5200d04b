//! [`Limits`]: how much is taken of what comes in one piece.

use crate::oci::{MANIFEST_MAX_BYTES, NESTED_MAX};

/// `[limits]`, as far as they are of what registries and token services send in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory for all documents together, those that clients are answered with included.
    pub document_room: usize,
    /// Bytes of one manifest, index or list; [`MANIFEST_MAX_BYTES`] at most.
    pub manifest_bytes: usize,
    /// Bytes of a token service's answer.
    pub token_bytes: usize,
    /// Bytes of an answer that is no use, of which the rest is not read, to keep its connection.
    pub error_bytes: usize,
    /// Arrays and objects in each other, in a JSON document.
    pub json_depth: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_room: 32 * 1024 * 1024,
            manifest_bytes: MANIFEST_MAX_BYTES,
            token_bytes: 1024 * 1024,
            error_bytes: 64 * 1024,
            json_depth: NESTED_MAX,
        }
    }
}
