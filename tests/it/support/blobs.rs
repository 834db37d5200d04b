//! What the tests of blobs ask of both sides, and how each of them ends.

use std::path::PathBuf;

use bytes::Bytes;
use wharf::oci::Digest;

use super::{
    client::{self, Stream},
    deadline,
    hub::{FakeHub, Host},
    log::Seen,
    wharf::Wharf,
};

/// Where a registry has a blob.
pub(crate) fn blob_path(repository: &str, digest: &Digest) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

impl FakeHub {
    /// The requests that were answered with bytes of the blob, in the order of arrival.
    pub(crate) fn blob_gets(&self, digest: &Digest) -> Vec<Seen> {
        let mut log = self.log();
        log.retain(|seen| seen.is_blob_body(digest) && seen.method == "GET");
        log
    }

    /// `HEAD`s by which the registry itself was asked for a blob of `repository`, with or without success.
    pub(crate) fn blob_heads(&self, repository: &str) -> usize {
        let path = format!("/v2/{repository}/blobs/");
        self.count(|seen| {
            let asked = seen.host == Host::Registry && seen.status != Some(401);
            asked && seen.method == "HEAD" && seen.path.starts_with(&path)
        })
    }
}

impl Wharf {
    /// Begins a `GET` at the registry address; its head is there when this returns.
    pub(crate) async fn open(&self, path: &str, headers: client::Headers<'_>) -> Stream {
        client::open("GET", self.addr, path, headers).await.expect("an answer begins")
    }

    /// Where the blob is, if it is kept.
    pub(crate) fn blob_file(&self, digest: &Digest) -> PathBuf {
        self.cache().join("blobs").join(digest.algorithm().as_str()).join(digest.encoded())
    }

    /// Waits until wharf knows that every client has gone.
    pub(crate) async fn deserted(&self) {
        deadline("wharf to notice that its clients have gone", async {
            while self.metric("wharf_open_connections") > 0.0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Ends a test: all is quiet, nothing half is left behind, and wharf stops.
    pub(crate) async fn end(self) {
        self.quiet().await;
        assert_eq!(self.partials(), [""; 0], "a partial file was left");
        self.stop().await;
    }
}

impl Stream {
    /// Reads what is left of the body, which must be these bytes, without holding more than a piece of it.
    pub(crate) async fn expect(mut self, bytes: &Bytes) {
        let mut at = 0;
        while let Some(piece) = self.chunk().await {
            let piece = piece.unwrap_or_else(|error| panic!("cut at {at}: {error}"));
            let end = at + piece.len();
            assert!(bytes.get(at..end) == Some(&*piece), "other bytes than {at}..{end}");
            at = end;
        }
        assert_eq!(at, bytes.len(), "the body's length");
    }
}
