//! What vouches for the bytes of an unfinished download: a file beside it, which says where they come from and, about every
//! half mebibyte, what the hash of all bytes up to there was.
//!
//! Nothing here is synced, and neither are the bytes: a card would wear out of it. After a power cut the file may hold zeros or
//! old blocks where bytes were; what a checkpoint's digest does not match is then fetched again, and nothing else is.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    disk::{Disk, DiskFile},
    layout::Layout,
};
use crate::oci::{Digest, Hasher, Repository};

/// Bytes from one checkpoint to the next, as soon as the piece that crosses it is written: so that a killed wharf fetches
/// less than a mebibyte again.
pub(super) const CHECKPOINT_BYTES: u64 = 512 * 1024;

/// Where a partial blob comes from: the first line of the file.
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

/// One of the other lines: the digest of the first so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    bytes: u64,
    digest: Digest,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Checkpoints {
    file: DiskFile,
    /// Length of the first line, and of all that count.
    first: u64,
    end: u64,
    /// Bytes of the blob that the last of them vouches for.
    vouched: u64,
}

/// What the file said, and where each line ended.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) origin: Option<(Origin, u64)>,
    pub(super) checkpoints: Vec<(Checkpoint, u64)>,
}

/// Whether what the partial file with this origin holds was only to be passed on.
pub(super) fn is_passing(disk: &Disk, path: &Path) -> bool {
    let lines = disk.read(path).map(|bytes| Lines::parse(&bytes)).unwrap_or_default();
    lines.origin.is_some_and(|(origin, _)| origin.passing)
}

/// How many bytes of a partial blob the last checkpoint vouches for.
pub(super) fn vouched(layout: &Layout, digest: &Digest) -> u64 {
    let lines = layout.disk().read(&layout.partial_origin(digest));
    let last = lines.ok().and_then(|bytes| Lines::parse(&bytes).checkpoints.pop());
    let Some((checkpoint, _)) = last else { return 0 };
    let len = layout.disk().len(&layout.partial(digest)).ok().flatten().unwrap_or(0);
    checkpoint.bytes.min(len)
}

impl Checkpoints {
    /// Reads what vouches for the bytes in `partial`, and hashes these as far as it does: the file, with the hash and number
    /// of bytes that are right. Nothing behind these counts. An `origin` that is to be kept replaces one that was not.
    pub(super) fn open(
        layout: &Layout,
        digest: &Digest,
        partial: &DiskFile,
        origin: &Origin,
    ) -> io::Result<(Self, Hasher, u64)> {
        let (path, disk) = (layout.partial_origin(digest), layout.disk());
        let lines = match disk.read(&path) {
            Ok(bytes) => Lines::parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Lines::default(),
            Err(error) => return Err(error),
        };
        let (hasher, found) = match &lines.origin {
            Some(_) => right(partial, digest, &lines.checkpoints, origin.size)?,
            None => (Hasher::new(digest.algorithm()), None),
        };
        let vouched = found.map_or(0, |(checkpoint, _)| checkpoint.bytes);
        let (first, end) = match &lines.origin {
            Some((known, first)) if vouched > 0 && (origin.passing || !known.passing) => {
                (*first, found.map_or(*first, |(_, end)| end))
            }
            _ => {
                let mut text = line(origin);
                let first = text.len() as u64;
                found.iter().for_each(|(checkpoint, _)| text.extend(line(checkpoint)));
                // By way of another file: a wharf that is killed in between still knows what was right.
                layout.place(&path, &text)?;
                (first, text.len() as u64)
            }
        };
        let file = disk.open(&path)?;
        if file.len()? > end {
            file.set_len(end)?;
        }
        Ok((Self { file, first, end, vouched }, hasher, vouched))
    }

    /// Whether so many bytes are far enough from the last checkpoint.
    pub(super) const fn are_due(&self, written: u64) -> bool {
        written.saturating_sub(self.vouched) >= CHECKPOINT_BYTES
    }

    /// Vouches for the first `bytes` bytes, which `hasher` has seen.
    ///
    /// # Errors
    /// When the disk does not take it: the last checkpoint counts on.
    pub(super) fn vouch(&mut self, bytes: u64, hasher: &Hasher) -> io::Result<()> {
        if bytes <= self.vouched {
            return Ok(());
        }
        let text = line(&Checkpoint { bytes, digest: hasher.clone().finish() });
        self.file.write_all_at(&text, self.end)?;
        self.end += text.len() as u64;
        self.vouched = bytes;
        Ok(())
    }

    /// Takes back all that was vouched for. What of it stays on disk does not match the bytes that come now.
    pub(super) fn clear(&mut self) {
        let cleared = self.file.set_len(self.first);
        if let Err(error) = cleared {
            tracing::debug!(%error, "old checkpoints stay");
        }
        (self.end, self.vouched) = (self.first, 0);
    }

    /// No more are needed.
    pub(super) const fn close(&mut self) {
        self.vouched = u64::MAX;
    }
}

impl Lines {
    /// Lines behind one that cannot be read do not count.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let mut lines = Self::default();
        let mut end = 0;
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            end += line.len() as u64;
            // A wharf of the form 1 wrote one line, without its end, and no checkpoints.
            if lines.origin.is_none() {
                let Ok(origin) = serde_json::from_slice(line) else { break };
                lines.origin = Some((origin, end));
            } else {
                let checkpoint = line.ends_with(b"\n").then(|| serde_json::from_slice(line).ok());
                let Some(checkpoint) = checkpoint.flatten() else { break };
                lines.checkpoints.push((checkpoint, end));
            }
        }
        lines
    }
}

/// The last of the `checkpoints` that the bytes of `partial` match, and their hash up to there. Those of a blob of `size`
/// bytes are not more than these.
fn right(
    partial: &DiskFile,
    digest: &Digest,
    checkpoints: &[(Checkpoint, u64)],
    size: Option<u64>,
) -> io::Result<(Hasher, Option<(Checkpoint, u64)>)> {
    let mut hasher = Hasher::new(digest.algorithm());
    let (mut right, mut found) = (hasher.clone(), None);
    let mut buffer = vec![0; 256 * 1024];
    let mut at = 0;
    for (checkpoint, end) in checkpoints {
        if checkpoint.bytes <= at || size.is_some_and(|size| checkpoint.bytes > size) {
            break;
        }
        while at < checkpoint.bytes {
            let wanted = usize::try_from(checkpoint.bytes - at).unwrap_or(usize::MAX);
            let room = buffer.len().min(wanted);
            match partial.read_at(&mut buffer[..room], at)? {
                0 => return Ok((right, found)),
                read => {
                    hasher.update(&buffer[..read]);
                    at += read as u64;
                }
            }
        }
        if hasher.clone().finish() != checkpoint.digest {
            break;
        }
        (right, found) = (hasher.clone(), Some((*checkpoint, *end)));
    }
    Ok((right, found))
}

pub(super) fn line(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("strings and numbers serialise");
    text.push(b'\n');
    text
}
