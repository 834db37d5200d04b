//! Small files of what is worth keeping and can be done without: lost or damaged, they are begun anew.

use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{Error, Store};

/// Longest file of state.
pub const STATE_MAX_BYTES: u64 = 4 * 1024 * 1024;

impl Store {
    /// A small file of what is worth keeping and can be done without: its content as last written.
    pub async fn read_state(&self, name: &'static str) -> Option<Bytes> {
        let (layout, path) = (Arc::clone(&self.layout), self.layout.state(name));
        let reading = spawn_blocking(move || layout.disk().read_up_to(&path, STATE_MAX_BYTES));
        let read = reading.await.ok()?;
        let read = read.inspect_err(|error| tracing::warn!(%error, "wharf/{name} cannot be read"));
        Some(read.ok()??.into())
    }

    /// Replaces what [`Store::read_state`] reads; at most [`STATE_MAX_BYTES`].
    ///
    /// # Errors
    /// When the disk does not take it; then the old content stays.
    pub async fn write_state(&self, name: &'static str, bytes: Bytes) -> Result<(), Error> {
        let (layout, path) = (Arc::clone(&self.layout), self.layout.state(name));
        let writing = spawn_blocking(move || layout.replace(&path, &bytes));
        writing.await.map_err(Error::join)?.map_err(Error::write)
    }
}
