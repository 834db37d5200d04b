//! The journal: facts newer than `index.json`, appended and synced one by one.
//!
//! A line is 16 hex digits of the SHA-256 of what follows, a space, and the fact as JSON. A line that a power
//! cut tore does not match its checksum and is skipped, as is everything that is not of this form.

use std::{io, path::Path};

use super::{
    disk::{Disk, DiskFile},
    facts::Fact,
};
use crate::oci::Digest;

const CHECKSUM_DIGITS: usize = 16;

/// An open journal, at whose end facts are put.
#[derive(Debug)]
pub(super) struct Journal {
    file: DiskFile,
    len: u64,
}

impl Journal {
    /// Opens or creates the journal at `path` and reads its facts from byte `from` on.
    ///
    /// A torn last line is cut off, so that the next fact starts on a line of its own.
    pub(super) fn open(disk: &Disk, path: &Path, from: u64) -> io::Result<(Self, Vec<Fact>)> {
        let file = disk.open(path)?;
        file.seek(from)?;
        let bytes = file.read_to_end()?;
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |newline| newline + 1);
        let len = from + whole as u64;
        if whole < bytes.len() {
            tracing::warn!(bytes = bytes.len() - whole, "cut off a torn line at the journal's end");
            file.set_len(len)?;
        }
        let mut facts = Vec::new();
        for line in bytes[..whole].split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
            match read_line(line) {
                Some(fact) => facts.push(fact),
                None => tracing::warn!(bytes = line.len(), "skipped a damaged line of the journal"),
            }
        }
        Ok((Self { file, len }, facts))
    }

    /// Appends `facts` with one write and makes them durable.
    ///
    /// # Errors
    /// The journal is as before: what a failed write left behind is cut off again, here or at the next start.
    pub(super) fn append(&mut self, facts: &[Fact]) -> io::Result<()> {
        let lines: Vec<u8> = facts.iter().flat_map(write_line).collect();
        let appended = self.file.write_all_at(&lines, self.len).and_then(|()| self.file.sync());
        if let Err(error) = appended {
            let _ = self.file.set_len(self.len);
            return Err(error);
        }
        self.len += lines.len() as u64;
        Ok(())
    }

    /// Bytes of whole lines.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }
}

pub(super) fn write_line(fact: &Fact) -> Vec<u8> {
    let json = serde_json::to_string(fact).expect("facts hold only strings and numbers");
    format!("{} {json}\n", checksum(json.as_bytes())).into_bytes()
}

pub(super) fn read_line(line: &[u8]) -> Option<Fact> {
    let (sum, json) = line.split_at_checked(CHECKSUM_DIGITS)?;
    let json = json.strip_prefix(b" ")?;
    if checksum(json).as_bytes() != sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

pub(super) fn checksum(json: &[u8]) -> String {
    let mut encoded = Digest::sha256(json).encoded();
    encoded.truncate(CHECKSUM_DIGITS);
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oci::{MediaType, RegistryName, Repository};

    fn fact(n: u64) -> Fact {
        Fact::Pulled {
            repository: Repository::new(RegistryName::docker_hub(), "alpine").expect("a name"),
            manifest: Digest::sha256(&n.to_be_bytes()),
            at: n,
        }
    }

    #[test]
    fn gives_back_what_was_appended() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("journal-1");
        let (mut journal, facts) =
            Journal::open(&Disk::default(), &path, 0).expect("a new journal");
        assert!(facts.is_empty());
        journal.append(&[fact(1), fact(2)]).expect("appended");
        let middle = journal.len();
        journal.append(&[fact(3)]).expect("appended");
        let (_, facts) = Journal::open(&Disk::default(), &path, 0).expect("reopened");
        assert_eq!(facts, [fact(1), fact(2), fact(3)]);
        let (_, facts) = Journal::open(&Disk::default(), &path, middle).expect("reopened");
        assert_eq!(facts, [fact(3)]);
    }

    #[test]
    fn a_manifest_fact_keeps_the_registrys_media_type() {
        let media_type: MediaType = "application/vnd.oci.image.index.v1+json".parse().expect("one");
        let fact = Fact::Manifest {
            repository: Repository::new(RegistryName::docker_hub(), "alpine").expect("a name"),
            manifest: crate::oci::Descriptor { media_type, digest: Digest::sha256(b""), size: 7 },
        };
        assert_eq!(read_line(write_line(&fact).trim_ascii_end()), Some(fact));
    }

    proptest! {
        #[test]
        fn a_torn_or_damaged_line_costs_only_itself(cut in 1usize..300, flip in 0usize..300) {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let path = dir.path().join("journal-1");
            let (mut journal, _) = Journal::open(&Disk::default(), &path, 0).expect("a new journal");
            journal.append(&[fact(1), fact(2), fact(3)]).expect("appended");
            let mut bytes = std::fs::read(&path).expect("readable");
            let line = bytes.len() / 3;
            let flip = flip % line;
            bytes[line + flip] ^= 1;
            bytes.truncate(bytes.len() - cut.min(line - 1));
            std::fs::write(&path, &bytes).expect("writable");
            let (mut journal, facts) = Journal::open(&Disk::default(), &path, 0).expect("opened");
            // A flip in the newline joins two lines: then both are lost, and never anything wrong is read.
            prop_assert!(facts.first() == Some(&fact(1)) && facts.len() == 1);
            journal.append(&[fact(4)]).expect("appended");
            let (_, facts) = Journal::open(&Disk::default(), &path, 0).expect("opened");
            prop_assert_eq!(facts, [fact(1), fact(4)]);
        }
    }
}
