//! What the hub saw, and how much of each body it really wrote.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering},
};

use http::{HeaderMap, header};
use tokio::sync::watch;
use wharf::oci::Digest;

use super::hub::Host;

/// One request, and how far its answer came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) host: Host,
    pub(crate) method: String,
    pub(crate) path: String,
    /// Without the `?`; empty if there was none.
    pub(crate) query: String,
    pub(crate) range: Option<String>,
    /// Whether there was an `Authorization` of any kind.
    pub(crate) authorization: bool,
    /// The media types of all `Accept` lines, in their order.
    pub(crate) accept: Vec<String>,
    pub(crate) accept_encoding: Option<String>,
    pub(crate) headers: HeaderMap,
    /// What the answer says; `None` if it has no head.
    pub(crate) status: Option<u16>,
    /// Bytes of the body that the socket took, framing not counted.
    pub(crate) body_bytes_sent: u64,
}

impl Seen {
    /// A request for a manifest that was not answered with a challenge.
    pub(crate) fn is_manifest(&self) -> bool {
        self.path.contains("/manifests/") && self.status != Some(401)
    }

    /// A question whether the registry is there.
    pub(crate) fn is_ping(&self) -> bool {
        self.path == "/v2/"
    }

    /// A request whose answer carries bytes of the blob.
    pub(crate) fn is_blob_body(&self, digest: &Digest) -> bool {
        let named = self.path.contains("/blobs/") && self.path.contains(&digest.encoded());
        named && matches!(self.status, Some(200 | 206))
    }
}

/// The log of all three hosts.
#[derive(Default)]
pub(super) struct Log {
    entries: Mutex<Vec<Arc<Entry>>>,
    changed: watch::Sender<()>,
}

/// A request that is being answered. Its owner reports what it writes.
pub(super) struct Entry {
    seen: Seen,
    sent: AtomicU64,
}

impl Log {
    pub(super) fn begin(&self, seen: Seen) -> Arc<Entry> {
        let entry = Arc::new(Entry { seen, sent: AtomicU64::new(0) });
        self.entries().push(Arc::clone(&entry));
        self.changed.send_replace(());
        entry
    }

    pub(super) fn sent(&self, entry: &Entry, bytes: usize) {
        entry.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.changed.send_replace(());
    }

    pub(super) fn snapshot(&self) -> Vec<Seen> {
        let snapshot = |entry: &Arc<Entry>| Seen {
            body_bytes_sent: entry.sent.load(Ordering::Relaxed),
            ..entry.seen.clone()
        };
        self.entries().iter().map(snapshot).collect()
    }

    pub(super) fn clear(&self) {
        self.entries().clear();
    }

    pub(super) async fn until(&self, holds: impl Fn(&[Seen]) -> bool) {
        let mut changed = self.changed.subscribe();
        while !holds(&self.snapshot()) {
            changed.changed().await.expect("the log outlives its readers");
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Entry>>> {
        self.entries.lock().expect("no panic while the log is locked")
    }
}

/// The text of the header `name`, if there is one and it is text.
pub(super) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The media types of all `Accept` lines, without parameters.
pub(super) fn accepted(headers: &HeaderMap) -> Vec<String> {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let types = lines.flat_map(|line| line.split(','));
    types.map(|kind| kind.split(';').next().unwrap_or_default().trim().to_owned()).collect()
}
