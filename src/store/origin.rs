//! What stands beside a partial blob: where it comes from, and up to where its bytes are vouched for.
//!
//! Lines of JSON, each appended with one write and none synced. One names the origin (a later one replaces it); the
//! others are checkpoints, `{"bytes":N,"digest":…}`: the digest of the first N bytes, written behind these. Whatever a
//! kill or a power cut makes of the bytes or of these lines, a checkpoint that matches vouches for what it covers, and
//! one that does not costs no more than its own part of the download. A line that is torn is skipped.
//!
//! The first form was one origin without a newline, and no checkpoints.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use super::disk::{Disk, DiskFile};
use crate::oci::{Digest, Repository};

/// Bytes between two checkpoints: half of what a kill may have fetched twice, for what was read ahead of the disk is
/// lost, too.
pub(super) const CHECKPOINT_BYTES: u64 = 512 * 1024;

/// How much of the lines is read: enough for a blob of 70 GiB, of which what is beyond is fetched again.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Where a partial blob comes from, written beside it when it is begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) repository: Repository,
    /// Length of the whole blob in bytes, as the manifest says; absent when no manifest did.
    pub(super) size: Option<u64>,
    /// Seconds since 1970.
    pub(super) begun: u64,
    /// It is only passed on: nobody is to find these bytes again.
    #[serde(default)]
    pub(super) passing: bool,
}

/// The digest of a partial blob's first bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    pub(super) bytes: u64,
    pub(super) digest: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Checkpoint(Checkpoint),
    Origin(Origin),
}

/// What the lines say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) origin: Option<Origin>,
    /// Ordered by bytes; of several for the same ones, any may match.
    pub(super) checkpoints: Vec<Checkpoint>,
    /// They are of the first form: all bytes count, as they did then.
    pub(super) is_old: bool,
    /// Bytes up to the end of the last whole line.
    len: u64,
}

/// The open file of a download that is under way.
#[derive(Debug)]
pub(super) struct Sidecar {
    file: DiskFile,
    /// Where the next line begins.
    len: u64,
}

impl Said {
    /// What stands at `path`; nothing when nothing does.
    pub(super) fn read(disk: &Disk, path: &Path) -> io::Result<Self> {
        Ok(Self::parse(&disk.read_up_to(path, MAX_BYTES)?.unwrap_or_default()))
    }

    /// How many of the first `len` bytes are vouched for, if they are what they were.
    pub(super) fn up_to(&self, len: u64) -> u64 {
        if self.is_old {
            return len;
        }
        let points = self.checkpoints.iter().map(|point| point.bytes);
        points.take_while(|bytes| *bytes <= len).last().unwrap_or(0)
    }

    fn parse(text: &[u8]) -> Self {
        let mut said = Self { is_old: !text.contains(&b'\n'), ..Self::default() };
        let mut end = 0;
        for line in text.split_inclusive(|&b| b == b'\n') {
            end += line.len() as u64;
            match serde_json::from_slice(line) {
                Ok(Line::Origin(origin)) => said.origin = Some(origin),
                Ok(Line::Checkpoint(checkpoint)) => said.checkpoints.push(checkpoint),
                Err(_) => continue,
            }
            said.len = end;
        }
        said.is_old &= said.origin.is_some();
        said.checkpoints.sort_by_key(|checkpoint| checkpoint.bytes);
        said
    }
}

impl Sidecar {
    /// Opens the file at `path`, which says what `said` is, and cuts off what is torn.
    pub(super) fn open(disk: &Disk, path: &Path, said: &Said) -> io::Result<Self> {
        let file = disk.open(path)?;
        let mut sidecar = Self { len: said.len, file };
        if sidecar.file.len()? > said.len {
            sidecar.file.set_len(said.len)?;
        }
        if said.is_old {
            sidecar.append(b"\n")?;
        }
        Ok(sidecar)
    }

    /// Writes down where the bytes come from, and nothing else.
    pub(super) fn begin(&mut self, origin: &Origin) -> io::Result<()> {
        self.file.set_len(0)?;
        self.len = 0;
        self.now_from(origin)
    }

    /// Writes down where the bytes come from from now on.
    pub(super) fn now_from(&mut self, origin: &Origin) -> io::Result<()> {
        self.line(&Line::Origin(origin.clone()))
    }

    /// Vouches for the first `bytes` bytes, which have this digest.
    pub(super) fn vouch(&mut self, bytes: u64, digest: Digest) -> io::Result<()> {
        self.line(&Line::Checkpoint(Checkpoint { bytes, digest }))
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let mut json = serde_json::to_vec(line).expect("strings and numbers serialise");
        json.push(b'\n');
        self.append(&json)
    }

    /// What a failed write left behind is written over by the next.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::RegistryName;

    fn origin(passing: bool) -> Origin {
        let repository = Repository::new(RegistryName::docker_hub(), "alpine").expect("a name");
        Origin { repository, size: Some(9), begun: 7, passing }
    }

    fn said(path: &Path) -> Said {
        Said::read(&Disk::default(), path).expect("readable")
    }

    #[test]
    fn lines_are_read_whatever_is_torn_among_them() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("sha256-aa.json");
        assert_eq!(said(&path), Said::default());
        let open = || Sidecar::open(&Disk::default(), &path, &said(&path)).expect("opened");
        let point = |bytes| Checkpoint { bytes, digest: Digest::sha256(&[7]) };
        let mut sidecar = open();
        sidecar.begin(&origin(true)).expect("written");
        for bytes in [5, 3, 8] {
            sidecar.vouch(bytes, point(bytes).digest).expect("written");
        }
        assert_eq!(said(&path).checkpoints, [point(3), point(5), point(8)]);
        let whole = std::fs::read(&path).expect("readable");
        let line = whole.len() / 4;
        for torn in whole.len() - line / 2..whole.len() - 1 {
            std::fs::write(&path, &whole[..torn]).expect("written");
            assert_eq!(said(&path).checkpoints, [point(3), point(5)], "cut at {torn}");
            open().vouch(6, point(6).digest).expect("written");
            assert_eq!(said(&path).checkpoints, [point(3), point(5), point(6)]);
        }
        let mut zeros = whole.clone();
        let first = whole.iter().position(|&b| b == b'\n').expect("a line") + 1;
        zeros[first + 3..first + 9].fill(0);
        std::fs::write(&path, &zeros).expect("written");
        assert_eq!(said(&path).checkpoints, [point(3), point(8)]);
        open().now_from(&origin(false)).expect("written");
        assert_eq!(said(&path).origin, Some(origin(false)), "the later one counts");
        assert_eq!(said(&path).checkpoints, [point(3), point(8)]);
    }

    #[test]
    fn the_first_form_is_read_and_goes_on_as_this_one() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("sha256-aa.json");
        let json = serde_json::to_vec(&origin(true)).expect("JSON");
        std::fs::write(&path, &json).expect("written");
        assert_eq!((said(&path).origin, said(&path).is_old), (Some(origin(true)), true));
        let mut sidecar = Sidecar::open(&Disk::default(), &path, &said(&path)).expect("opened");
        sidecar.vouch(3, Digest::sha256(b"abc")).expect("written");
        assert_eq!((said(&path).checkpoints.len(), said(&path).is_old), (1, false));
        std::fs::write(&path, &json[..json.len() - 1]).expect("written");
        assert_eq!(said(&path), Said::default(), "nothing is vouched for by half an origin");
    }
}
