//! What the tests of blobs ask of both sides, and how each of them ends.

use std::path::PathBuf;

use bytes::Bytes;
use wharf::oci::Digest;

use super::{
    client::{self, Answer, Stream},
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
}

impl Answer {
    /// The body must be these bytes, which are too many to be printed.
    pub(crate) fn expect(&self, bytes: &[u8]) {
        let (got, want) = (self.bytes().len(), bytes.len());
        assert!(self.bytes() == bytes, "{got} other bytes than the {want} expected");
    }

    /// What came of a body that broke off before its end.
    ///
    /// # Panics
    /// If it did not.
    pub(crate) fn cut(&self) -> &Bytes {
        match &self.body {
            Err(cut) => &cut.received,
            Ok(body) => panic!("{} with a whole body of {} bytes", self.status, body.len()),
        }
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
