//! Small files of what is worth keeping and can be done without: lost or damaged, they are begun anew.

use std::{fs, io, path::Path, sync::Arc};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{Error, Store};

/// Longest file of state.
pub const STATE_MAX_BYTES: u64 = 4 * 1024 * 1024;

impl Store {
    /// A small file of what is worth keeping and can be done without: its content as last written.
    pub async fn read_state(&self, name: &'static str) -> Option<Bytes> {
        let path = self.layout.state(name);
        let read = spawn_blocking(move || read_bounded(&path)).await;
        read.ok()?
            .inspect_err(|error| tracing::warn!(%error, "wharf/{name} cannot be read"))
            .ok()?
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

fn read_bounded(path: &Path) -> io::Result<Option<Bytes>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, STATE_MAX_BYTES), &mut bytes)?;
    Ok(Some(bytes.into()))
}
