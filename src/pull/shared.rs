//! One stream from the registry for all who read a blob that the disk does not take: a window in memory that moves on with
//! the slowest of them, and leaves behind who holds up the others for too long.
//!
//! Long by its tests.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::content::Cut;
use crate::oci::Hasher;

/// Bytes in memory for each blob that is passed on; one piece more where the pieces are larger.
const WINDOW_BYTES: u64 = 512 * 1024;

/// For how long, all together, a reader may hold up others before it goes on alone.
const PATIENCE: Duration = Duration::from_secs(2);

/// For how long, all together, it waits for readers who are not here yet: who reads on disk what the disk has taken.
const LATE_READERS: Duration = Duration::from_secs(2);

/// How often it is looked whether they are still expected.
const LATE_LOOK: Duration = Duration::from_millis(50);

/// The window. Owned by the download that fills it and by its readers.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Counts what readers should look at.
    grown: watch::Sender<u64>,
    /// That a reader came, went on or left.
    moved: Notify,
}

#[derive(Debug)]
struct State {
    /// Offset of the first piece, and of what will be put behind the last.
    start: u64,
    end: u64,
    pieces: VecDeque<Bytes>,
    /// The hash of everything before `start`.
    behind: Hasher,
    readers: HashMap<u64, Place>,
    /// How many came so far.
    came: u64,
    /// For how long readers who are not here yet may still hold up the others.
    late: Duration,
    /// How the stream ended.
    over: Option<Result<(), Cut>>,
    /// It ended because nobody read, or the daemon stops.
    given_up: bool,
}

/// Where a reader is.
#[derive(Debug)]
enum Place {
    /// The next byte it reads, and how long it may still hold up others.
    At { next: u64, patience: Duration },
    /// The window went on without it; the hash of everything before the window as it was then.
    Left(Hasher),
}

/// The filling side: when it is dropped, the stream is over.
#[derive(Debug)]
pub(super) struct Filler(Arc<Shared>);

/// One reader's place in the window.
#[derive(Debug)]
pub(super) struct Follower {
    shared: Arc<Shared>,
    number: u64,
    grown: watch::Receiver<u64>,
}

/// What there is for a reader.
#[derive(Debug)]
pub(super) enum Next {
    /// Bytes.
    Piece(Bytes),
    /// That was all, and it matched its digest.
    End,
    /// The window went on without it; the hash of what lies before the reader if it read from the first byte on.
    Left(Hasher),
}

impl Shared {
    /// A window that begins at `start`; `hasher` has seen all before it.
    pub(super) fn begin(start: u64, hasher: Hasher) -> (Arc<Self>, Filler) {
        let state = State {
            start,
            end: start,
            pieces: VecDeque::new(),
            behind: hasher,
            readers: HashMap::new(),
            came: 0,
            late: LATE_READERS,
            over: None,
            given_up: false,
        };
        let (grown, moved) = (watch::Sender::new(0), Notify::new());
        let shared = Arc::new(Self { state: Mutex::new(state), grown, moved });
        (Arc::clone(&shared), Filler(shared))
    }

    /// A place at `next`, if that byte is in the window or soon will be.
    pub(super) fn follow(self: &Arc<Self>, next: u64) -> Option<Follower> {
        let mut state = self.lock();
        let soon = state.end + WINDOW_BYTES;
        if next < state.start || next > soon || state.given_up {
            return None;
        }
        let number = state.came;
        state.came += 1;
        state.readers.insert(number, Place::At { next, patience: PATIENCE });
        drop(state);
        self.moved.notify_one();
        Some(Follower { shared: Arc::clone(self), number, grown: self.grown.subscribe() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, how: Result<(), Cut>) {
        self.lock().over.get_or_insert(how);
        self.grown.send_modify(|count| *count += 1);
    }
}

impl Filler {
    /// Puts a piece into the window as soon as there is room. Whether anybody reads. `expected` tells how many readers may
    /// still come.
    pub(super) async fn push(&self, piece: Bytes, expected: impl Fn() -> usize) -> bool {
        loop {
            let moved = self.0.moved.notified();
            let expected = expected();
            let wait = match self.0.lock().take(&piece, expected) {
                Room::Taken => {
                    self.0.grown.send_modify(|count| *count += 1);
                    return true;
                }
                Room::Nobody => return false,
                Room::Full { patience } => patience,
                Room::Late => LATE_LOOK,
            };
            let (begun, is_held_up) = (Instant::now(), self.0.lock().holds_up_somebody());
            let _ = timeout(wait, moved).await;
            self.0.lock().waited(begun.elapsed(), expected > 0, is_held_up);
            self.0.grown.send_modify(|count| *count += 1);
        }
    }

    /// There is no more, and this is how it ended.
    pub(super) fn end(self, how: Result<(), Cut>) {
        self.0.end(how);
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.given_up = state.over.is_none();
        drop(state);
        self.0.end(Err(Cut("the download was given up".to_owned())));
    }
}

/// Whether a piece found room.
enum Room {
    Taken,
    /// There is no reader, and none is expected any more.
    Nobody,
    /// A reader has not read the first piece; for so long it may be waited for.
    Full {
        patience: Duration,
    },
    /// Readers are expected who would miss the first piece.
    Late,
}

impl State {
    fn take(&mut self, piece: &Bytes, expected: usize) -> Room {
        let late = expected > 0 && !self.late.is_zero();
        // Who was expected has come, or has gone: nobody is told of the stream before it is expected.
        if self.there() == 0 && !late && (self.came > 0 || expected == 0) {
            return Room::Nobody;
        }
        while self.end - self.start + piece.len() as u64 > WINDOW_BYTES {
            let Some(first) = self.pieces.front() else { break };
            let behind = self.start + first.len() as u64;
            if late {
                return Room::Late;
            }
            if self.came == 0 {
                return Room::Late;
            }
            if let Some(patience) = self.patience_for(behind) {
                return Room::Full { patience };
            }
            self.behind.update(first);
            self.start = behind;
            self.pieces.pop_front();
        }
        self.end += piece.len() as u64;
        self.pieces.push_back(piece.clone());
        Room::Taken
    }

    /// How long those who have not read up to `to` may still be waited for; `None` when all have. Who is alone holds up
    /// nobody: it is waited for again and again.
    fn patience_for(&self, to: u64) -> Option<Duration> {
        let slow = self.readers.values().filter_map(|place| match place {
            Place::At { next, patience } if *next < to => Some(*patience),
            _ => None,
        });
        let least = slow.min()?;
        Some(if self.there() > 1 { least } else { PATIENCE })
    }

    /// How many readers the window has not left behind.
    fn there(&self) -> usize {
        self.readers.values().filter(|place| matches!(place, Place::At { .. })).count()
    }

    /// Whether a reader has read all there is, and waits for more.
    fn holds_up_somebody(&self) -> bool {
        let at_end = |place: &Place| matches!(place, Place::At { next, .. } if *next >= self.end);
        self.readers.values().any(at_end)
    }

    /// The stream waited so long for whoever has not read the first piece. If that held up another reader, those whose
    /// patience is over are left behind.
    fn waited(&mut self, long: Duration, late: bool, is_held_up: bool) {
        if late {
            self.late = self.late.saturating_sub(long);
        }
        if !is_held_up {
            return;
        }
        let first = self.pieces.front().map_or(0, |first| first.len() as u64);
        let behind = self.start + first;
        let there = self.there();
        for place in self.readers.values_mut() {
            match place {
                Place::At { next, patience } if *next < behind && there > 1 => {
                    *patience = patience.saturating_sub(long);
                    if patience.is_zero() {
                        *place = Place::Left(self.behind.clone());
                    }
                }
                _ => {}
            }
        }
    }
}

impl Follower {
    /// What there is to read next, as soon as there is something.
    ///
    /// # Errors
    /// When the stream ended before its end, or does not match its digest.
    pub(super) async fn next(&mut self) -> Result<Next, Cut> {
        loop {
            self.grown.mark_unchanged();
            if let Some(next) = self.look()? {
                return Ok(next);
            }
            // The window tells of its end before it goes.
            let _ = self.grown.changed().await;
        }
    }

    fn look(&self) -> Result<Option<Next>, Cut> {
        let mut state = self.shared.lock();
        let State { start, pieces, readers, over, .. } = &mut *state;
        let next = match readers.get_mut(&self.number) {
            Some(Place::At { next, .. }) => next,
            Some(Place::Left(hasher)) => return Ok(Some(Next::Left(hasher.clone()))),
            None => return Err(Cut("the reader has no place in the stream".to_owned())),
        };
        let mut at = *start;
        for piece in pieces.iter() {
            let behind = at + piece.len() as u64;
            if *next < behind {
                // Less than the piece's length, which is one of memory.
                let rest = piece.slice((*next - at) as usize..);
                *next = behind;
                drop(state);
                self.shared.moved.notify_one();
                return Ok(Some(Next::Piece(rest)));
            }
            at = behind;
        }
        match over {
            Some(Ok(())) => Ok(Some(Next::End)),
            Some(Err(cut)) => Err(cut.clone()),
            None => Ok(None),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.lock().readers.remove(&self.number);
        self.shared.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, Digest};

    const PIECE: usize = 64 * 1024;

    fn begin() -> (Arc<Shared>, Filler) {
        Shared::begin(0, Hasher::new(Algorithm::Sha256))
    }

    fn piece(n: u8) -> Bytes {
        Bytes::from(vec![n; PIECE])
    }

    async fn read(follower: &mut Follower) -> Bytes {
        match follower.next().await {
            Ok(Next::Piece(piece)) => piece,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_up_others_is_left_behind_and_can_go_on_alone() {
        let (shared, filler) = begin();
        let mut fast = shared.follow(0).expect("it is in time");
        let mut slow = shared.follow(0).expect("it is in time");
        let filling = async {
            for n in 0..40 {
                assert!(filler.push(piece(n), || 0).await);
            }
            filler.end(Ok(()));
        };
        let reading = async {
            assert_eq!(read(&mut slow).await, piece(0));
            for n in 0..40 {
                assert_eq!(read(&mut fast).await, piece(n));
            }
            assert!(matches!(fast.next().await, Ok(Next::End)));
        };
        let begun = Instant::now();
        tokio::join!(filling, reading);
        assert!(begun.elapsed() >= PATIENCE && begun.elapsed() < 2 * PATIENCE);
        let Ok(Next::Left(hasher)) = slow.next().await else { panic!("it is not left behind") };
        assert_eq!(hasher.finish(), Digest::sha256(&piece(0)), "of what it has read");
        assert!(shared.follow(0).is_none(), "that is in the window no more");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_is_waited_for() {
        let (shared, filler) = begin();
        let mut alone = shared.follow(0).expect("it is in time");
        let filling = async {
            for n in 0..40 {
                assert!(filler.push(piece(n), || 0).await);
            }
        };
        let reading = async {
            for n in 0..40 {
                tokio::time::sleep(10 * PATIENCE).await;
                assert_eq!(read(&mut alone).await, piece(n));
            }
        };
        tokio::join!(filling, reading);
        drop(alone);
        assert!(!filler.push(piece(40), || 0).await, "nobody reads any more");
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_who_are_both_slow_none_is_left_behind() {
        let (shared, filler) = begin();
        let filling = async {
            for n in 0..40 {
                assert!(filler.push(piece(n), || 0).await);
            }
            filler.end(Ok(()));
        };
        let reading = async |mut reader: Follower| {
            for n in 0..40 {
                tokio::time::sleep(PATIENCE / 2).await;
                assert_eq!(read(&mut reader).await, piece(n));
            }
            assert!(matches!(reader.next().await, Ok(Next::End)));
        };
        let readers = [(), ()].map(|()| shared.follow(0).expect("it is in time"));
        let [first, second] = readers.map(reading);
        tokio::join!(filling, first, second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_nobody_reads_ends() {
        let (shared, filler) = begin();
        let begun = Instant::now();
        let minute = Duration::from_secs(60);
        let mut pushed = 0;
        while filler.push(piece(0), || usize::from(begun.elapsed() < minute)).await {
            pushed += 1;
        }
        assert_eq!(pushed, WINDOW_BYTES as usize / PIECE, "bytes in memory have a bound");
        assert!(begun.elapsed() >= minute && begun.elapsed() < minute + 2 * LATE_LOOK);
        let mut late = shared.follow(0).expect("the beginning is there still");
        drop(filler);
        for _ in 0..pushed {
            read(&mut late).await;
        }
        assert!(late.next().await.is_err());
        assert!(shared.follow(0).is_none());
        let (_, filler) = begin();
        assert!(!filler.push(piece(0), || 0).await, "nobody will ever come");
    }

    #[tokio::test(start_paused = true)]
    async fn readers_who_are_expected_are_waited_for_a_while() {
        let (shared, filler) = begin();
        let mut first = shared.follow(0).expect("it is in time");
        let filling = async {
            for n in 0..40 {
                assert!(filler.push(piece(n), || 1).await);
            }
        };
        let reading = async {
            for n in 0..40 {
                assert_eq!(read(&mut first).await, piece(n));
            }
        };
        let begun = Instant::now();
        let coming = async {
            tokio::time::sleep(LATE_READERS / 2).await;
            let mut second = shared.follow(0).expect("it is in time, too");
            for n in 0..40 {
                assert_eq!(read(&mut second).await, piece(n));
            }
        };
        tokio::join!(filling, reading, coming);
        assert!(begun.elapsed() < 2 * LATE_READERS, "others are not held up for ever");
    }
}
