//! The end of a cut blob: all of its parts are here.

use std::{io, path::Path};

use super::Volumes;
use crate::{
    oci::{Algorithm, Digest, Hasher},
    store::{Error, ledger::Came, quarantine},
};

/// Bytes that are hashed at once.
const HASHED_BYTES: usize = 256 * 1024;

/// How the joining of a blob's parts ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Join {
    /// It is kept.
    Kept,
    /// It has another digest: its parts are deleted, and the volumes that brought them count no more.
    Wrong {
        /// Which.
        found: Digest,
        /// Those volumes, in their order.
        volumes: Vec<u32>,
    },
}

impl Volumes {
    /// Puts a blob that is all here in its place, if it is what it is called. `goes_on` is asked now and then.
    ///
    /// # Errors
    /// When the disk fails; its parts stay.
    pub fn join(
        &mut self,
        digest: &Digest,
        size: u64,
        goes_on: impl Fn() -> bool,
    ) -> Result<Join, Error> {
        let path = self.file(digest);
        let found = self.hash(&path, digest.algorithm(), size, goes_on).map_err(Error::read)?;
        if found != *digest {
            let volumes = self.state.cut.get(digest).map(|cut| cut.volumes.clone());
            let volumes: Vec<u64> = volumes.unwrap_or_default().each().collect();
            volumes.iter().for_each(|number| self.state.taken.remove(*number));
            self.state.cut.remove(digest);
            self.write().map_err(Error::write)?;
            self.forget(digest);
            let volumes = volumes.into_iter().filter_map(|number| u32::try_from(number).ok());
            return Ok(Join::Wrong { found, volumes: volumes.collect() });
        }
        self.put_in_place(&path, digest, size).map_err(Error::write)?;
        Ok(Join::Kept)
    }

    fn hash(
        &self,
        path: &Path,
        algorithm: Algorithm,
        size: u64,
        goes_on: impl Fn() -> bool,
    ) -> io::Result<Digest> {
        let file = self.layout.disk().open_read(path)?;
        let (mut hasher, mut buffer, mut at) =
            (Hasher::new(algorithm), vec![0; HASHED_BYTES], 0_u64);
        while at < size {
            if !goes_on() {
                return Err(io::Error::other("nobody waits for it any more"));
            }
            let most =
                usize::try_from(size - at).map_or(buffer.len(), |left| left.min(buffer.len()));
            match file.read_at(&mut buffer[..most], at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    hasher.update(&buffer[..read]);
                    at += read as u64;
                }
            }
        }
        Ok(hasher.finish())
    }

    fn put_in_place(&mut self, path: &Path, digest: &Digest, size: u64) -> io::Result<()> {
        let disk = self.layout.disk();
        let file = disk.open(path)?;
        if file.len()? != size {
            file.set_len(size)?;
        }
        file.sync()?;
        let came = Came { size, partial: self.counted.get(path).copied().unwrap_or(0) };
        quarantine::put_in_place(&self.layout, &self.ledger, path, digest, came)?;
        self.counted.remove(path);
        self.state.cut.remove(digest);
        disk.sync_parent(&self.layout.blob(digest))?;
        disk.sync_parent(path)?;
        self.write()
    }
}
