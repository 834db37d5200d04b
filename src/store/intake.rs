//! [`Intake`]: bytes that come from elsewhere than a registry. They are put under their digest when all are there and whoever
//! brings them has found them right, and are nobody's until a manifest names them: what is held stays meanwhile.

use std::{collections::HashSet, io, path::PathBuf, sync::Arc};

use tokio::task::spawn_blocking;

use super::{
    Error, Store,
    disk::DiskFile,
    failing::Write,
    layout::Layout,
    ledger::{Came, Promise},
    quarantine,
};
use crate::oci::Digest;

/// A file on its way in, with its room reserved. Dropping it deletes what was written; a kill leaves nothing that counts.
#[derive(Debug)]
pub struct Intake {
    layout: Arc<Layout>,
    file: DiskFile,
    path: PathBuf,
    written: u64,
    promise: Promise,
    is_placed: bool,
}

impl Store {
    /// Reserves room for `size` bytes, for which images may have to go, and begins a file.
    ///
    /// # Errors
    /// [`Error::NoRoom`], and when the disk does not take it.
    pub async fn intake(&self, size: u64) -> Result<Intake, Error> {
        let promise = self.promise(size, true).await?;
        let layout = Arc::clone(&self.layout);
        let beginning = spawn_blocking(move || {
            let path = layout.temporary();
            let file = layout.disk().create(&path)?;
            Ok(Intake { layout, file, path, written: 0, promise, is_placed: false })
        });
        match beginning.await.map_err(Error::join)?.map_err(Error::write) {
            Ok(begun) => Ok(begun),
            Err(error) => self.noted(Write::Document, Err(error)).and(Err(Error::Closed)),
        }
    }

    /// Deletes those of `digests` to which nothing leads.
    ///
    /// # Errors
    /// When the disk cannot be looked at.
    pub async fn drop_unnamed(&self, digests: &HashSet<Digest>) -> Result<(), Error> {
        if digests.is_empty() {
            return Ok(());
        }
        let mut seen = self.evicting.lock().await;
        let eviction = self.survey(&mut seen).await?;
        let unnamed = eviction.unnamed().iter().filter(|digest| digests.contains(*digest));
        self.unlink(unnamed.copied().collect()).await?;
        Ok(())
    }
}

impl Intake {
    /// Writes the next bytes. Blocks.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file.write_all_at(bytes, self.written).map_err(Error::write)?;
        self.written += bytes.len() as u64;
        self.promise.written(bytes.len() as u64);
        Ok(())
    }

    /// Puts the file under `digest`, which its bytes were found to have, durably. Blocks.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn finish(mut self, digest: &Digest) -> Result<(), Error> {
        self.place(digest).map_err(Error::write)
    }

    fn place(&mut self, digest: &Digest) -> io::Result<()> {
        self.file.sync()?;
        let (size, ledger) = (self.written, self.promise.ledger());
        let came = Came { size, partial: size };
        quarantine::put_in_place(&self.layout, ledger, &self.path, digest, came)?;
        self.is_placed = true;
        self.layout.disk().sync_parent(&self.layout.blob(digest))
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if self.is_placed {
            return;
        }
        self.promise.ledger().partial_shrank(self.written);
        if let Err(error) = self.layout.disk().remove(&self.path) {
            tracing::warn!(path = ?self.path, %error, "what was not taken in could not be deleted");
        }
    }
}
