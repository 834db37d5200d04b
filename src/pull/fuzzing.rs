//! What fuzz targets call, which is nobody else's to see.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Asker, Platforms, Resolution, ScrubStatus, client::Clients, learned::Learned, prefetch,
    scrub::Scrubber,
};
use crate::oci::Digest;

/// Where everybody may say what he is.
static CLIENTS: LazyLock<Clients> = LazyLock::new(|| {
    let header_from = vec!["0.0.0.0/0".parse().expect("a network")];
    Clients::new(Platforms { header_from, ..Platforms::default() })
});

/// What a client runs.
pub fn resolve(asker: &Asker) -> Arc<Resolution> {
    CLIENTS.resolve(asker)
}

/// How many clients are known by what was written down, the most platforms that one of them has, and what is written down
/// of them.
pub fn learned(bytes: &[u8]) -> (usize, usize, Option<Bytes>) {
    let learned = Learned::default();
    learned.restore(bytes);
    let all = learned.all();
    let most = all.iter().map(|client| client.platforms.len()).max();
    learned.not_written();
    (all.len(), most.unwrap_or(0), learned.unwritten())
}

/// How many jobs are read in what was written down, and what is written down of them.
pub fn jobs(bytes: &[u8]) -> (usize, Option<Bytes>) {
    prefetch::fuzzing::jobs(bytes)
}

/// How the check of all blobs goes on from what was written down, when one more was read that is damaged; and what is
/// written down of that.
pub fn scrubbed(bytes: &[u8]) -> (Option<ScrubStatus>, Option<Bytes>) {
    let (_running, wanted) = watch::channel(0);
    let scrubber = Scrubber::new(Some(Duration::from_secs(1)), wanted);
    scrubber.restore(bytes);
    scrubber.read(Digest::sha256(b""), 1, true);
    (scrubber.status(), scrubber.unwritten())
}
