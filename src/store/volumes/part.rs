//! [`Part`]: a part of a cut blob on its way to its place.

use std::ops::Range;

use crate::{
    oci::Digest,
    store::{Error, disk::DiskFile, ledger::Promise},
};

/// Room in the cache for bytes that are to come. Given back when it is dropped.
#[derive(Debug)]
pub struct Room(pub(in crate::store) Promise);

/// A part of a blob that is being written; of a range that is here in part, only what is not.
#[derive(Debug)]
pub struct Part {
    pub(super) file: DiskFile,
    pub(super) digest: Digest,
    pub(super) range: Range<u64>,
    pub(super) gaps: Vec<Range<u64>>,
    pub(super) at: u64,
    pub(super) written: u64,
    pub(super) room: Room,
}

impl Part {
    /// Writes the next bytes of the part, those that are here excepted. Blocks.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let coming = self.at..self.at.saturating_add(bytes.len() as u64);
        for gap in &self.gaps {
            let (from, to) = (gap.start.max(coming.start), gap.end.min(coming.end));
            if from >= to {
                continue;
            }
            let piece = bytes.get((from - coming.start) as usize..(to - coming.start) as usize);
            self.file.write_all_at(piece.unwrap_or_default(), from).map_err(Error::write)?;
            self.written += to - from;
            self.room.0.written(to - from);
        }
        self.at = coming.end;
        Ok(())
    }
}
