//! A wharf that has seen one image, for rows that must not reach its registry.

use std::{fs, path::Path};

use bytes::Bytes;
use wharf::oci::Digest;

use super::{Gets, raw};
use crate::support::{FakeHub, Wharf, blob_path};

pub(super) const REPO: &str = "library/busybox";

/// The length of the image's layer.
pub(super) const SIZE: usize = 1000;

/// A hub with an image, and a wharf that keeps it.
pub(super) struct Site {
    pub(super) hub: FakeHub,
    pub(super) wharf: Wharf,
    pub(super) layer: Bytes,
    /// The path of the layer.
    pub(super) blob: String,
    pub(super) manifest: Digest,
    kept: Vec<String>,
}

/// What a client sends, and what it must get.
pub(super) struct Row {
    pub(super) what: String,
    /// The methods of the requests in `bytes`, in their order.
    pub(super) methods: Vec<&'static str>,
    pub(super) bytes: Vec<u8>,
    /// One for each method.
    pub(super) gets: Vec<Gets>,
}

impl Row {
    pub(super) fn new(what: impl Into<String>, bytes: impl Into<Vec<u8>>, gets: Gets) -> Self {
        Self { what: what.into(), methods: vec!["GET"], bytes: bytes.into(), gets: vec![gets] }
    }
}

impl Site {
    pub(super) async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub(super) async fn start_with(change: impl FnOnce(&mut wharf::config::Config)) -> Self {
        let hub = FakeHub::start().await;
        let image = hub.push_single(REPO, "latest", ("linux", "arm64", None), &[SIZE]);
        let wharf = Wharf::start_with(&hub, change).await;
        let blob = blob_path(REPO, &image.layers[0].digest);
        wharf.get(&format!("/v2/{REPO}/manifests/latest")).await.bytes();
        wharf.get(&blob).await.bytes();
        wharf.quiet().await;
        hub.clear_log();
        let kept = kept(wharf.cache());
        let (layer, manifest) = (image.layers[0].bytes.clone(), image.manifest.digest);
        Self { hub, wharf, layer, blob, manifest, kept }
    }

    /// Sends what the row sends. Its answers are what it must get; the registry hears nothing of it, and nothing
    /// of it is kept.
    pub(super) async fn check(&self, row: &Row) -> Result<(), String> {
        self.answered(row).await.map_err(|wrong| format!("- {}: {wrong}", row.what))
    }

    async fn answered(&self, row: &Row) -> Result<(), String> {
        let heard = raw::exchange(self.wharf.addr, &row.bytes).await?;
        for ((answer, gets), method) in
            raw::answers(&heard, &row.methods)?.iter().zip(&row.gets).zip(&row.methods)
        {
            gets.check(answer, *method == "HEAD")?;
        }
        self.wharf.quiet().await;
        if self.hub.count(|_| true) > 0 {
            self.hub.clear_log();
            return Err("it reached the registry".to_owned());
        }
        if kept(self.wharf.cache()) != self.kept {
            return Err("something of it is kept".to_owned());
        }
        Ok(())
    }

    /// Every connection is closed and nothing half is left.
    pub(super) async fn end(self) {
        self.wharf.deserted().await;
        self.wharf.end().await;
    }
}

/// Every file under `blobs` and `wharf/partial`.
pub(super) fn kept(cache: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for dir in ["blobs/sha256", "blobs/sha512", "wharf/partial"] {
        let Ok(entries) = fs::read_dir(cache.join(dir)) else { continue };
        let entries = entries.map(|entry| entry.expect("readable").file_name());
        names.extend(entries.map(|name| format!("{dir}/{}", name.to_string_lossy())));
    }
    names.sort();
    names
}
