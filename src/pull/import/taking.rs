//! [`Taking`]: the store as an archive's reader sees it.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::Imported;
use crate::{
    bundle::Sink,
    oci::{Digest, MANIFEST_MAX_BYTES},
    pull::Inner,
    store::{Held, Intake},
};

/// Puts blobs into the store, and holds each until it is dropped. Lives on a thread that may block.
pub(super) struct Taking {
    pull: Arc<Inner>,
    runtime: Handle,
    current: Option<(Intake, u64)>,
    held: Vec<Held>,
    added: HashSet<Digest>,
    bytes: u64,
    known: u64,
}

impl Taking {
    pub(super) fn new(pull: Arc<Inner>, runtime: Handle) -> Self {
        Self {
            pull,
            runtime,
            current: None,
            held: Vec::new(),
            added: HashSet::new(),
            bytes: 0,
            known: 0,
        }
    }

    /// No more comes: what is half there is deleted, on this thread.
    pub(super) fn abandoned(&mut self) {
        self.current = None;
    }

    /// What was counted so far.
    pub(super) fn told(&self) -> Imported {
        let (blobs, bytes, known) = (self.added.len() as u64, self.bytes, self.known);
        Imported { blobs, bytes, known, ..Imported::default() }
    }

    /// The blobs that were not here before, which are held no more.
    pub(super) fn into_added(self) -> HashSet<Digest> {
        self.added
    }

    fn len(&self, digest: &Digest) -> Result<Option<u64>, String> {
        let sizes = self.runtime.block_on(self.pull.store.sizes(vec![*digest]));
        let sizes = sizes.map_err(|error| error.to_string())?;
        Ok(sizes.into_iter().next().flatten())
    }
}

impl Sink for Taking {
    fn begin(&mut self, digest: Option<&Digest>, size: u64) -> Result<bool, String> {
        if let Some(digest) = digest {
            self.held.push(self.pull.store.hold(digest));
            if self.len(digest)? == Some(size) {
                self.known += 1;
                return Ok(false);
            }
        }
        let begun = self.runtime.block_on(self.pull.store.intake(size));
        self.current = Some((begun.map_err(|error| error.to_string())?, size));
        Ok(true)
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<(), String> {
        match &mut self.current {
            Some((intake, _)) => intake.write(bytes).map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    fn end(&mut self, digest: &Digest) -> Result<(), String> {
        let Some((intake, size)) = self.current.take() else { return Ok(()) };
        // One that had no name until now, or is here under it already.
        self.held.push(self.pull.store.hold(digest));
        if self.len(digest)? == Some(size) {
            self.known += 1;
            return Ok(());
        }
        intake.finish(digest).map_err(|error| error.to_string())?;
        self.pull.store.blob_kept();
        self.bytes += size;
        self.added.insert(*digest);
        Ok(())
    }

    fn abandon(&mut self) {
        self.current = None;
    }

    fn size(&mut self, digest: &Digest) -> Result<Option<u64>, String> {
        self.held.push(self.pull.store.hold(digest));
        self.len(digest)
    }

    fn document(&mut self, digest: &Digest) -> Result<Option<Bytes>, String> {
        if self.len(digest)?.is_none_or(|size| size > MANIFEST_MAX_BYTES as u64) {
            return Ok(None);
        }
        let read = self.runtime.block_on(self.pull.store.manifest(digest));
        read.map_err(|error| error.to_string())
    }
}
