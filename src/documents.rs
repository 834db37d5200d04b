//! [`Documents`]: room in memory for what comes and goes in one piece, manifests, indexes and lists.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// A document up to here is not counted: most are of a few KiB, and are answered in microseconds. As many of these as
/// there may be connections would take 256 MiB.
const SMALL_BYTES: usize = 64 * 1024;

/// What room is counted in.
const UNIT_BYTES: usize = 4 * 1024;

/// How long anybody waits for room: as a rule others are done in a moment, and who does not read may never be.
const PATIENCE: Duration = Duration::from_secs(3);

/// The room that there is for documents of more than some KiB: for all of them, or for those that one client is answered
/// with. Clones share it.
///
/// Room is taken before there are bytes, for all that there may be, and given back with the last clone of these. It is
/// never added to by waiting, and who waits for room for a second document gives up as all do: nobody holds up all others
/// for ever.
#[derive(Clone)]
pub struct Documents(Arc<Rooms>);

struct Rooms {
    free: Arc<Semaphore>,
    /// All that there is.
    units: usize,
    /// Told whenever there is none.
    full: Box<dyn Fn() + Send + Sync>,
}

/// Room for one document; none is taken for a small one.
#[derive(Debug, Default)]
pub struct Room(Option<OwnedSemaphorePermit>);

/// There is no room for another document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no room in memory for another document")]
pub struct Full;

impl Documents {
    /// Room for `bytes` together, some KiB at least. `full` is told whenever somebody got none.
    pub fn new(bytes: usize, full: impl Fn() + Send + Sync + 'static) -> Self {
        let units = (bytes / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(units));
        Self(Arc::new(Rooms { free, units, full: Box::new(full) }))
    }

    /// Whether a document of so many bytes takes room.
    pub const fn count(&self, bytes: usize) -> bool {
        bytes > SMALL_BYTES
    }

    /// Room for a document of up to `bytes`, waited for if need be.
    ///
    /// # Errors
    /// When none came within a few seconds.
    pub async fn room(&self, bytes: usize) -> Result<Room, Full> {
        if !self.count(bytes) {
            return Ok(Room::default());
        }
        let taking = Arc::clone(&self.0.free).acquire_many_owned(self.units(bytes));
        // What is answered from memory has no room for this.
        let taken = Box::pin(timeout(PATIENCE, taking)).await;
        match taken {
            Ok(Ok(permit)) => Ok(Room(Some(permit))),
            _ => Err(self.full()),
        }
    }

    /// The same, if it is there now.
    ///
    /// # Errors
    /// When it is not.
    pub fn room_now(&self, bytes: usize) -> Result<Room, Full> {
        self.free_now(bytes).ok_or_else(|| self.full())
    }

    /// The same, for who waits when it is not there.
    pub fn free_now(&self, bytes: usize) -> Option<Room> {
        if !self.count(bytes) {
            return Some(Room::default());
        }
        let taken = Arc::clone(&self.0.free).try_acquire_many_owned(self.units(bytes));
        taken.map(|permit| Room(Some(permit))).ok()
    }

    /// `bytes` that have this room until their last clone is gone. What they do not need of it is given back; more than
    /// that, if they turn out to be longer, is taken now.
    ///
    /// # Errors
    /// When that is not there.
    pub fn hold(&self, room: Room, bytes: Bytes) -> Result<Bytes, Full> {
        if !self.count(bytes.len()) {
            return Ok(bytes);
        }
        let needed = self.units(bytes.len()) as usize;
        let room = match room.0.filter(|permit| permit.num_permits() >= needed) {
            Some(permit) => Room(Some(permit)),
            None => self.room_now(bytes.len())?,
        };
        let Room(Some(mut permit)) = room else { return Ok(bytes) };
        drop(permit.split(permit.num_permits() - needed));
        Ok(Bytes::from_owner(Held { bytes, _permit: permit }))
    }

    /// No more than there are at all.
    fn units(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT_BYTES).min(self.0.units)).unwrap_or(u32::MAX)
    }

    fn full(&self) -> Full {
        (self.0.full)();
        Full
    }

    /// How many bytes of room are taken.
    #[cfg(test)]
    fn taken(&self) -> usize {
        (self.0.units - self.0.free.available_permits()) * UNIT_BYTES
    }
}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Documents").field(&self.0.free).finish()
    }
}

struct Held {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;
    const ROOM_BYTES: usize = 32 * MIB;

    fn documents() -> Documents {
        Documents::new(ROOM_BYTES, || ())
    }

    fn document(bytes: usize) -> Bytes {
        vec![0; bytes].into()
    }

    #[tokio::test]
    async fn room_is_given_back_with_the_last_clone() {
        let documents = documents();
        let room = documents.room(4 * MIB).await.expect("room");
        assert_eq!(documents.taken(), 4 * MIB);
        let held = documents.hold(room, document(MIB)).expect("less than was taken");
        assert_eq!(documents.taken(), MIB);
        let part = held.slice(5..6);
        drop(held);
        assert_eq!(documents.taken(), MIB);
        drop(part);
        assert_eq!(documents.taken(), 0);
    }

    #[tokio::test]
    async fn a_small_document_takes_none_and_waits_for_none() {
        let documents = documents();
        let all = documents.room_now(ROOM_BYTES).expect("room");
        let room = documents.room(SMALL_BYTES).await.expect("none is needed");
        assert!(documents.hold(room, document(SMALL_BYTES)).is_ok());
        assert!(documents.room_now(SMALL_BYTES).is_ok());
        assert!(documents.room_now(SMALL_BYTES + 1).is_err());
        drop(all);
        // It was said to be small.
        let room = documents.room(10).await.expect("none is needed");
        let held = documents.hold(room, document(MIB)).expect("room");
        assert_eq!((documents.taken(), held.len()), (MIB, MIB));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_room_for_ever_and_whoever_gets_it_goes_on() {
        let documents = documents();
        let all = documents.room(2 * ROOM_BYTES).await.expect("all that there is");
        assert_eq!(documents.taken(), ROOM_BYTES);
        let begun = tokio::time::Instant::now();
        assert_eq!(documents.room(MIB).await.err(), Some(Full));
        assert_eq!(begun.elapsed(), PATIENCE);
        let waiting = documents.room(MIB);
        tokio::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(all);
        assert!(waiting.await.is_ok());
        assert_eq!(documents.taken(), 0);
    }
}
