//! Reading a blob's bytes, wherever they are: kept, arriving, or only passed on.

use std::{io, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    Inner,
    damage::leave_file,
    in_flight::{Flight, Phase},
    relay::Relay,
    shared::{Follower, Next},
    whose::Whose,
};
use crate::{
    oci::{Digest, Repository},
    store::BlobFile,
};

/// How long a reader waits for a download that makes no progress. Downloads end by deadlines of their own;
/// this one holds when a disk hangs. Kubernetes gives up on a pull after the same time.
pub(super) const STALL_DEADLINE: Duration = Duration::from_secs(300);

/// Bytes of a file that are given out at once as such, at most. What of them a client that hung up did not take is counted
/// as sent.
pub const PART_BYTES: usize = 2 * 1024 * 1024;

/// Fewer are read: that is measured to be cheaper.
const PART_MIN_BYTES: u64 = 32 * 1024;

/// A body that cannot be finished: the connection must be cut, so that nobody takes it for whole.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cut(pub(super) String);

/// A blob's bytes, one piece after another, at the reader's own pace.
pub struct Reader {
    /// The next byte to give out, and the one behind the last; the end is `u64::MAX` while it is unknown.
    range: Range<u64>,
    source: Source,
    /// Among those who follow downloads, for who began as one.
    _place: Option<OwnedSemaphorePermit>,
}

/// Whoever sends parts of files without their bytes being read.
pub trait SendsParts: Sync {
    /// Bytes that stand for those in `range` of `file`, as many: at most [`PART_BYTES`], and in the system's memory, as far as
    /// can be told. They are given out in their place.
    fn stand_in(&self, file: &BlobFile, range: Range<u64>) -> Bytes;
}

pub(super) enum Source {
    /// A file that holds every byte of the blob, and how many these are.
    File { file: BlobFile, size: u64, alone: Alone },
    /// A download in progress.
    Flight { flight: Flight, alone: Alone },
    /// What others read as well, past the disk; and the blob's length.
    Shared { follower: Follower, alone: Alone, total: Option<u64> },
    /// The registry, past the disk.
    Relay(Box<Relay>),
}

/// What a reader needs to go on when the disk fails it, or the download that it follows.
#[derive(Clone)]
pub(super) struct Alone {
    pub(super) pull: Arc<Inner>,
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    /// Whether the reader wants the blob from its first byte to its last, so that it can be verified.
    pub(super) whole: bool,
    /// For whom it is read: a body goes on behind the request that it answers.
    pub(super) whose: Whose,
}

/// What to do next, as far as the download tells.
enum Step {
    /// From the file up to a byte.
    Read(BlobFile, u64),
    End,
    Follow(Follower, Option<u64>),
    Leave(Box<Relay>),
    Wait,
}

impl Reader {
    pub(super) const fn new(range: Range<u64>, source: Source) -> Self {
        Self { range, source, _place: None }
    }

    /// The same, for one of those who follow downloads.
    pub(super) const fn in_place(
        range: Range<u64>,
        source: Source,
        place: OwnedSemaphorePermit,
    ) -> Self {
        Self { range, source, _place: Some(place) }
    }

    /// The next piece, never an empty one; `None` after the last. Of files, large parts are left to `parts`.
    ///
    /// # Errors
    /// [`Cut`] when the rest cannot be had, or is not what the digest says.
    pub async fn next(&mut self, parts: Option<&dyn SendsParts>) -> Result<Option<Bytes>, Cut> {
        loop {
            if self.range.is_empty() {
                return Ok(None);
            }
            let step = match &mut self.source {
                Source::File { file, .. } => Step::Read(file.clone(), self.range.end),
                Source::Relay(relay) => {
                    let piece = Box::pin(relay.next()).await?;
                    return Ok(piece.inspect(|piece| self.range.start += piece.len() as u64));
                }
                Source::Shared { follower, alone, total } => {
                    match timeout(STALL_DEADLINE, follower.next()).await {
                        Ok(next) => match next? {
                            Next::Piece(mut piece) => {
                                let wanted = self.range.end - self.range.start;
                                piece.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
                                self.range.start += piece.len() as u64;
                                return Ok(Some(piece));
                            }
                            Next::End => Step::End,
                            Next::Left(hasher) => {
                                let hasher = alone.whole.then_some(hasher);
                                let range = self.range.clone();
                                Step::Leave(Box::new(Relay::new(alone, range, *total, hasher)))
                            }
                        },
                        Err(_) => return Err(Cut("the download made no progress".to_owned())),
                    }
                }
                Source::Flight { flight, alone } => step(flight, alone, &self.range)?,
            };
            match step {
                Step::Read(file, end) => {
                    match timeout(STALL_DEADLINE, self.read(&file, end, parts)).await {
                        Ok(Ok(piece)) => {
                            self.range.start += piece.len() as u64;
                            return Ok(Some(piece));
                        }
                        Ok(Err(error)) => Box::pin(self.leave(&file, &error)).await?,
                        Err(_) => return Err(Cut("the disk is too slow".to_owned())),
                    }
                }
                Step::End => return Ok(None),
                Step::Follow(follower, total) => {
                    let Source::Flight { alone, .. } = &self.source else { continue };
                    let alone = alone.clone();
                    self.source = Source::Shared { follower, alone, total };
                }
                Step::Leave(relay) => self.source = Source::Relay(relay),
                Step::Wait => self.wait().await?,
            }
        }
    }

    /// A piece of a file that has the blob's bytes up to `end`.
    async fn read(
        &self,
        file: &BlobFile,
        end: u64,
        parts: Option<&dyn SendsParts>,
    ) -> io::Result<Bytes> {
        let start = self.range.start;
        let Some(parts) = parts.filter(|_| end - start >= PART_MIN_BYTES) else {
            return file.read(start, end).await;
        };
        let part = start..end.min(start + PART_BYTES as u64);
        file.load(part.clone()).await?;
        Ok(parts.stand_in(file, part))
    }

    /// Goes on at the registry, because the disk does not give what is in `file`.
    async fn leave(&mut self, file: &BlobFile, error: &io::Error) -> Result<(), Cut> {
        let (alone, total) = match &self.source {
            Source::File { alone, size, .. } => (alone, Some(*size)),
            Source::Flight { flight, alone } => (alone, flight.progress.borrow().total()),
            Source::Shared { .. } | Source::Relay(_) => return Ok(()),
        };
        let hasher = leave_file(alone, file, self.range.start, error).await?;
        let relay = Relay::new(alone, self.range.clone(), total, hasher);
        self.source = Source::Relay(Box::new(relay));
        Ok(())
    }

    async fn wait(&mut self) -> Result<(), Cut> {
        let Source::Flight { flight, .. } = &mut self.source else { return Ok(()) };
        match timeout(STALL_DEADLINE, flight.progress.changed()).await {
            // An ended download has said how; what it said last is looked at once more.
            Ok(_) => Ok(()),
            Err(_) => Err(Cut("the download made no progress".to_owned())),
        }
    }
}

fn step(flight: &mut Flight, alone: &Alone, range: &Range<u64>) -> Result<Step, Cut> {
    let progress = flight.progress.borrow_and_update();
    let published = progress.published.min(range.end);
    let (file, step) = match &progress.phase {
        Phase::Asking => (None, Step::Wait),
        Phase::Streaming { file, .. } => (Some(file), Step::Wait),
        Phase::Done { file } => (Some(file), Step::End),
        Phase::Failed(error) => return Err(Cut(error.to_string())),
        Phase::Detached { total, file, hasher, shared, .. } => {
            let follow = || shared.as_ref().and_then(|shared| shared.follow(range.start));
            if range.start < published {
                (file.as_ref(), Step::Wait)
            } else if let Some(follower) = follow() {
                (None, Step::Follow(follower, *total))
            } else {
                // Whoever reads the whole blob has read what the hash has seen, so it can go on from there.
                let at_hash = alone.whole && range.start == progress.published;
                let hasher = at_hash.then(|| hasher.clone());
                (None, Step::Leave(Box::new(Relay::new(alone, range.clone(), *total, hasher))))
            }
        }
    };
    match file {
        Some(file) if range.start < published => Ok(Step::Read(file.clone(), published)),
        _ => Ok(step),
    }
}
