//! A large blob by ranges ([RFC 9110 §14](https://www.rfc-editor.org/rfc/rfc9110#section-14)): piece after piece, over
//! several connections where that is faster.
//!
//! Pieces have an end from the start, so that nothing that a registry sends is thrown away, and are given out in the
//! order of the blob. How many are asked for at a time the [`Ladder`] finds out. Where one connection does as well, the
//! rest of the blob is left to a request of its own, as it is where a registry takes no ranges.

mod ladder;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

use self::ladder::Ladder;
use crate::{
    oci::{Digest, RepositoryName},
    upstream::{BlobBody, Error, Upstream},
};

/// Bytes of a piece: at 100 Mbit/s a third of a second, beside which a round trip is little.
const PIECE_BYTES: u64 = 4 * 1024 * 1024;

/// Blobs of which less is missing are not worth it: the ladder alone takes 44 MiB to its top.
const LARGE_BYTES: u64 = 32 * 1024 * 1024;

/// Pieces that may be in memory before their turn, of all downloads together: 24 MiB.
pub(super) const WAITING_MAX: usize = 6;

/// So many bytes before a piece ends, the next is asked for: at 100 Mbit/s a round trip of 80 ms.
const LOOKAHEAD_BYTES: u64 = 1024 * 1024;

/// Bodies come in chunks of 16 KiB to 128 KiB. So many of a piece may wait while nobody does for the blob, and of one
/// that is to come before its turn.
const FEW_CHUNKS: usize = 4;
/// A whole piece, also where a slow line brings no more than a packet at a time.
const ALL_CHUNKS: usize = 4096;

/// A request that brought less and broke off is followed by one other for the same piece, and no more.
const PROGRESS_BYTES: u64 = 64 * 1024;

/// Who is asked for pieces.
pub(super) trait Source: Clone + Send + Sync + 'static {
    type Body: Body;

    /// The bytes of `range`, and no others.
    fn ask(&self, range: Range<u64>) -> impl Future<Output = Result<Self::Body, Error>> + Send;
}

/// What comes of an answer.
pub(super) trait Body: Send + 'static {
    /// The next bytes; `None` at the end of what was asked for. A future that is dropped loses none.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send;
}

/// A blob of a repository, at its registry.
#[derive(Clone)]
pub(super) struct Blob {
    pub(super) upstream: Arc<Upstream>,
    pub(super) name: RepositoryName,
    pub(super) digest: Digest,
}

/// Where the bytes of a download come from.
pub(super) enum Incoming {
    /// One answer.
    Whole(BlobBody),
    /// Several.
    Pieces(Pieces<Blob>),
}

/// The rest of a blob, piece by piece.
pub(super) struct Pieces<S> {
    source: S,
    /// The blob's length.
    total: u64,
    /// The next byte to give out, and the next to ask for.
    at: u64,
    next: u64,
    asked: VecDeque<Piece>,
    ladder: Ladder,
    /// Bytes that came, given out or not.
    received: Arc<AtomicU64>,
    waiting: Arc<Semaphore>,
    end: Option<Result<(), Error>>,
}

/// A piece that was asked for.
struct Piece {
    /// The first byte that was asked for, and the one behind the last.
    begin: u64,
    end: u64,
    /// The request before it brought next to nothing.
    is_last_try: bool,
    chunks: mpsc::Receiver<Result<Bytes, Error>>,
    _task: AbortOnDropHandle<()>,
    permit: Option<OwnedSemaphorePermit>,
}

/// The first piece of what is missing of a blob from byte `from` on, if it is to be fetched by pieces.
pub(super) fn first(from: u64, total: Option<u64>) -> Option<Range<u64>> {
    let left = total?.checked_sub(from)?;
    (left >= LARGE_BYTES).then_some(from..from + PIECE_BYTES)
}

impl<S: Source> Pieces<S> {
    /// Goes on behind `first`, which `body` is, over at most `connections` at a time.
    pub(super) fn begin(
        source: S,
        first: &Range<u64>,
        body: S::Body,
        total: u64,
        connections: usize,
        waiting: &Arc<Semaphore>,
    ) -> Self {
        let received = Arc::default();
        let piece = Piece::of(first, async { Ok(body) }, &received, FEW_CHUNKS, None);
        Self {
            source,
            total,
            at: first.start,
            next: first.end,
            asked: VecDeque::from([piece]),
            ladder: Ladder::new(connections),
            received,
            waiting: Arc::clone(waiting),
            end: None,
        }
    }

    /// The next bytes; `None` at the end of the blob, or where the rest is better asked for at once. After an end or an
    /// error, the same again. A future that is dropped loses no byte. While nobody waits for the blob, it is fetched over
    /// one connection, and next to nothing is held in memory.
    ///
    /// # Errors
    /// As the pieces' bodies; `Protocol` when one is longer than it was to be.
    pub(super) async fn chunk(&mut self, is_wanted: bool) -> Result<Option<Bytes>, Error> {
        loop {
            if let Some(end) = &self.end {
                return end.clone().map(|()| None);
            }
            self.ask(is_wanted);
            let Some(piece) = self.asked.front_mut() else {
                self.end = Some(Ok(()));
                continue;
            };
            let (end, came) = (piece.end, piece.chunks.recv().await);
            match came {
                Some(Ok(bytes)) if bytes.len() as u64 <= end - self.at => {
                    self.at += bytes.len() as u64;
                    if is_wanted {
                        let received = self.received.load(Ordering::Relaxed);
                        self.ladder.came(received, Instant::now());
                    }
                    return Ok(Some(bytes));
                }
                Some(Ok(_)) => {
                    self.fail(Error::Protocol { reason: "a range that is too long".to_owned() })
                }
                Some(Err(error)) => self.broke(error),
                None if self.at == end => drop(self.asked.pop_front()),
                None => {
                    let reason = "a range ended early".to_owned();
                    self.broke(Error::Unavailable { reason });
                }
            }
        }
    }

    /// The first of the pieces did not come to its end: the rest of it is asked for anew, so that the others need not be.
    fn broke(&mut self, error: Error) {
        let Some(piece) = self.asked.front_mut() else { return };
        if piece.end == self.at && matches!(error, Error::Unavailable { .. }) {
            // Its bytes came; only how the answer ends did not.
            self.asked.pop_front();
            return;
        }
        let brought = self.at - piece.begin;
        let is_useless = brought < PROGRESS_BYTES;
        if !matches!(error, Error::Unavailable { .. }) || (is_useless && piece.is_last_try) {
            return self.fail(error);
        }
        let (range, source) = (self.at..piece.end, self.source.clone());
        let asked = range.clone();
        let body = async move { source.ask(asked).await };
        let permit = piece.permit.take();
        *piece = Piece::of(&range, body, &self.received, FEW_CHUNKS, permit);
        piece.is_last_try = is_useless;
    }

    fn fail(&mut self, error: Error) {
        self.asked.clear();
        self.end = Some(Err(error));
    }

    /// Asks for as many pieces as there are to be on their way.
    fn ask(&mut self, is_wanted: bool) {
        while self.next < self.total {
            let width = if is_wanted { self.ladder.width() } else { Some(1) };
            // One is as good as several: what is asked for comes, and the rest is another's.
            let Some(width) = width else { return };
            let is_ending = |front: &Piece| front.end - self.at <= LOOKAHEAD_BYTES;
            let next = width == 1 && self.asked.front().is_some_and(is_ending);
            if self.asked.len() >= width + usize::from(next) {
                return;
            }
            let (mut permit, mut chunks) = (None, FEW_CHUNKS);
            if width > 1 {
                permit = Arc::clone(&self.waiting).try_acquire_owned().ok();
                match permit {
                    Some(_) => chunks = ALL_CHUNKS,
                    None if self.asked.is_empty() => {}
                    None => return,
                }
            }
            let range = self.next..self.total.min(self.next + PIECE_BYTES);
            self.next = range.end;
            let source = self.source.clone();
            let (asked, received) = (range.clone(), &self.received);
            let body = async move { source.ask(asked).await };
            self.asked.push_back(Piece::of(&range, body, received, chunks, permit));
        }
    }
}

impl Piece {
    fn of<B: Body>(
        range: &Range<u64>,
        body: impl Future<Output = Result<B, Error>> + Send + 'static,
        received: &Arc<AtomicU64>,
        chunks: usize,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(chunks);
        let received = Arc::clone(received);
        let fetching = async move {
            let moved = async {
                let mut body = body.await?;
                while let Some(bytes) = body.chunk().await? {
                    received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    if sender.send(Ok(bytes)).await.is_err() {
                        break;
                    }
                }
                Ok(())
            };
            if let Err(error) = moved.await {
                // Who has gone asks no more.
                let _ = sender.send(Err(error)).await;
            }
        };
        let task = AbortOnDropHandle::new(tokio::spawn(fetching));
        let (begin, end) = (range.start, range.end);
        Self { begin, end, is_last_try: false, chunks: receiver, _task: task, permit }
    }
}

impl Incoming {
    /// The next bytes; `None` at the end, or where the rest is to be asked for anew.
    ///
    /// # Errors
    /// As [`BlobBody::chunk`] and [`Pieces::chunk`].
    pub(super) async fn chunk(&mut self, is_wanted: bool) -> Result<Option<Bytes>, Error> {
        match self {
            Self::Whole(body) => body.chunk().await,
            Self::Pieces(pieces) => pieces.chunk(is_wanted).await,
        }
    }
}

impl Source for Blob {
    type Body = BlobBody;

    async fn ask(&self, range: Range<u64>) -> Result<BlobBody, Error> {
        let body = self.upstream.blob_part(&self.name, &self.digest, range).await?;
        match body.is_part() {
            true => Ok(body),
            false => Err(Error::Protocol { reason: "it takes ranges no more".to_owned() }),
        }
    }
}

impl Body for BlobBody {
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, Error>> + Send {
        Self::chunk(self)
    }
}
