//! Reading a blob's bytes, wherever they are: kept, arriving, or only passed on.

use std::{io, ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use super::{
    Inner,
    damage::leave_file,
    in_flight::{Flight, Phase},
    relay::Relay,
    shared::{Follower, Next},
};
use crate::{
    oci::{Digest, Repository},
    store::BlobFile,
};

/// How long a reader waits for a download that makes no progress. Downloads end by deadlines of their own;
/// this one holds when a disk hangs. Kubernetes gives up on a pull after the same time.
pub(super) const STALL_DEADLINE: Duration = Duration::from_secs(300);

/// Bytes of a file that are given out at once as such. What of them a client that hung up did not take is counted as sent.
const PART_BYTES: u64 = 2 * 1024 * 1024;

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
    /// Whether large parts of files are given out as such.
    by_file: bool,
}

/// Some of a blob's bytes.
#[derive(Debug)]
pub struct Piece {
    /// The bytes.
    pub bytes: Bytes,
    /// The file that they lie in, and where: then they are better sent from there than looked at, and are in the system's
    /// memory, as far as can be told.
    pub part: Option<(BlobFile, u64)>,
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
}

/// What to do next, as far as the download tells.
enum Step {
    /// From the file up to a byte; and whether its bytes are there to stay.
    Read(BlobFile, u64, bool),
    End,
    Follow(Follower, Option<u64>),
    Leave(Box<Relay>),
    Wait,
}

impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, part: None }
    }
}

impl Reader {
    pub(super) const fn new(range: Range<u64>, source: Source) -> Self {
        Self { range, source, by_file: false }
    }

    /// Gives large parts of files out as such, for whoever can send them without reading them.
    pub fn by_file(self) -> Self {
        Self { by_file: true, ..self }
    }

    /// The next piece; `None` after the last.
    ///
    /// # Errors
    /// [`Cut`] when the rest cannot be had, or is not what the digest says.
    pub async fn next(&mut self) -> Result<Option<Piece>, Cut> {
        loop {
            if self.range.is_empty() {
                return Ok(None);
            }
            let step = match &mut self.source {
                Source::File { file, .. } => Step::Read(file.clone(), self.range.end, true),
                Source::Relay(relay) => {
                    let piece = Box::pin(relay.next()).await?;
                    let piece = piece.inspect(|piece| self.range.start += piece.len() as u64);
                    return Ok(piece.map(Piece::from));
                }
                Source::Shared { follower, alone, total } => {
                    match timeout(STALL_DEADLINE, follower.next()).await {
                        Ok(next) => match next? {
                            Next::Piece(mut piece) => {
                                let wanted = self.range.end - self.range.start;
                                piece.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
                                self.range.start += piece.len() as u64;
                                return Ok(Some(piece.into()));
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
                Step::Read(file, end, stays) => {
                    match timeout(STALL_DEADLINE, self.read(&file, end, stays)).await {
                        Ok(Ok(piece)) => {
                            self.range.start += piece.bytes.len() as u64;
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

    /// A piece of a file that has the blob's bytes up to `end`. Those of a download that runs may be cut back by the next one,
    /// should it fail: they are not for handing out as a part.
    async fn read(&self, file: &BlobFile, end: u64, stays: bool) -> io::Result<Piece> {
        let start = self.range.start;
        if stays && self.by_file && end - start >= PART_MIN_BYTES {
            let part = start..end.min(start + PART_BYTES);
            // On a small system, addresses may run out.
            if let Ok(mapped) = file.map(&part) {
                file.load(part).await?;
                let bytes = Bytes::from_owner(mapped);
                return Ok(Piece { bytes, part: Some((file.clone(), start)) });
            }
        }
        file.read(start, end).await.map(Piece::from)
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
        Some(file) if range.start < published => {
            let stays = matches!(progress.phase, Phase::Done { .. });
            Ok(Step::Read(file.clone(), published, stays))
        }
        _ => Ok(step),
    }
}
