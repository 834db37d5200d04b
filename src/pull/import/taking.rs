//! [`Taking`]: the store as an archive's reader sees it.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::Imported;
use crate::{
    bundle::{Blob, Contents, Joined, Segment, Sink, Volume},
    oci::{Digest, MANIFEST_MAX_BYTES},
    pull::{
        Inner,
        volumes::{Taken, needed},
    },
    store::{AllHeld, Error, Held, Intake, Join, Part},
};

/// Puts blobs into the store, and holds each until it is dropped. Lives on a thread that may block.
pub(super) struct Taking {
    pull: Arc<Inner>,
    runtime: Handle,
    /// Whether nobody waits any more.
    is_given_up: Arc<AtomicBool>,
    current: Option<Current>,
    held: Vec<Held>,
    volume: Option<Arrived>,
    added: HashSet<Digest>,
    bytes: u64,
    known: u64,
}

/// What is on its way in.
enum Current {
    Blob(Intake, u64),
    Part(Part),
}

/// The volume that the archive is.
struct Arrived {
    number: u32,
    /// How long the blobs are of which it brings parts.
    sizes: HashMap<Digest, u64>,
    set: Set,
}

enum Set {
    /// It waits for this or other volumes.
    Waits { taken: Taken, is_new: bool, is_whole: bool },
    /// Everything was here before, and is held until the images have their names.
    Here { _held: AllHeld },
}

/// What is left of a set when its volume was read.
pub(super) struct Left {
    pub(super) taken: Taken,
    /// It was begun for this volume, of which nothing was right.
    pub(super) is_empty: bool,
    /// All of its volumes are in.
    pub(super) is_whole: bool,
}

impl Taking {
    pub(super) fn new(pull: Arc<Inner>, runtime: Handle, is_given_up: Arc<AtomicBool>) -> Self {
        Self {
            pull,
            runtime,
            is_given_up,
            current: None,
            held: Vec::new(),
            volume: None,
            added: HashSet::new(),
            bytes: 0,
            known: 0,
        }
    }

    /// No more comes: what is half there is deleted, on this thread.
    pub(super) fn abandoned(&mut self) {
        self.abandon();
    }

    /// What was counted so far.
    pub(super) fn told(&self) -> Imported {
        let (blobs, bytes, known) = (self.added.len() as u64, self.bytes, self.known);
        Imported { blobs, bytes, known, ..Imported::default() }
    }

    /// The set that the archive was a volume of, unless everything was here before.
    pub(super) fn take_left(&mut self) -> Option<Left> {
        let Some(Arrived { set: Set::Waits { mut taken, is_new, is_whole }, .. }) =
            self.volume.take()
        else {
            return None;
        };
        let is_empty = is_new && self.added.is_empty() && taken.volumes().is_empty();
        Some(Left { taken, is_empty, is_whole })
    }

    /// The blobs that were not here before, which are held no more.
    pub(super) fn into_added(self) -> HashSet<Digest> {
        self.added
    }

    fn len(&self, digest: &Digest) -> Result<Option<u64>, String> {
        let sizes = self.runtime.block_on(self.pull.store.sizes(vec![*digest]));
        let sizes = sizes.map_err(said)?;
        Ok(sizes.into_iter().next().flatten())
    }

    /// The set that the archive is a volume of, while it waits for anything.
    fn set(&mut self) -> Option<&mut Taken> {
        match &mut self.volume {
            Some(Arrived { set: Set::Waits { taken, .. }, .. }) => Some(taken),
            _ => None,
        }
    }

    fn added(&mut self, digest: &Digest, size: u64) {
        self.pull.store.blob_kept();
        self.bytes += size;
        self.added.insert(*digest);
        if let Some(taken) = self.set() {
            taken.whole_bytes = taken.whole_bytes.saturating_add(size);
        }
    }

    /// Has all of a blob's parts be the blob.
    fn join(&mut self, digest: &Digest, size: u64) -> Result<Joined, String> {
        self.held.push(self.pull.store.hold(digest));
        let is_given_up = Arc::clone(&self.is_given_up);
        let Some(taken) = self.set() else { return Ok(Joined::Waits) };
        let goes_on = || !is_given_up.load(Ordering::Relaxed);
        match taken.volumes().join(digest, size, goes_on).map_err(said)? {
            Join::Kept => {
                self.added(digest, size);
                Ok(Joined::Whole)
            }
            Join::Wrong { found, volumes } => Ok(Joined::Wrong { found, volumes }),
        }
    }
}

impl Sink for Taking {
    fn begin(&mut self, digest: Option<&Digest>, size: u64) -> Result<bool, String> {
        if let Some(digest) = digest {
            self.held.push(self.pull.store.hold(digest));
            if self.len(digest)? == Some(size) {
                self.known += 1;
                return Ok(false);
            }
        }
        let begun = self.runtime.block_on(self.pull.store.intake(size));
        self.current = Some(Current::Blob(begun.map_err(said)?, size));
        Ok(true)
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<(), String> {
        match &mut self.current {
            Some(Current::Blob(intake, _)) => intake.write(bytes).map_err(said),
            Some(Current::Part(part)) => part.write(bytes).map_err(said),
            None => Ok(()),
        }
    }

    fn end(&mut self, digest: &Digest) -> Result<(), String> {
        let Some(Current::Blob(intake, size)) = self.current.take() else { return Ok(()) };
        // One that had no name until now, or is here under it already.
        self.held.push(self.pull.store.hold(digest));
        if self.len(digest)? == Some(size) {
            self.known += 1;
            return Ok(());
        }
        intake.finish(digest).map_err(said)?;
        self.added(digest, size);
        Ok(())
    }

    fn abandon(&mut self) {
        if let Some(Current::Part(part)) = self.current.take() {
            if let Some(taken) = self.set() {
                taken.volumes().give_up(part);
            }
        }
    }

    fn size(&mut self, digest: &Digest) -> Result<Option<u64>, String> {
        self.held.push(self.pull.store.hold(digest));
        self.len(digest)
    }

    fn document(&mut self, digest: &Digest) -> Result<Option<Bytes>, String> {
        if self.len(digest)?.is_none_or(|size| size > MANIFEST_MAX_BYTES as u64) {
            return Ok(None);
        }
        let read = self.runtime.block_on(self.pull.store.manifest(digest));
        read.map_err(said)
    }

    fn begin_volume(
        &mut self,
        volume: &Volume,
        contents: &Contents,
        document: &[u8],
    ) -> Result<(), String> {
        let Volume { set, number, of, segments } = volume;
        let pull = Arc::clone(&self.pull);
        let cut: HashSet<Digest> = segments.iter().map(|part| part.digest).collect();
        let blobs = contents.blobs.iter().filter(|blob| cut.contains(&blob.digest));
        let sizes = blobs.map(|blob| (blob.digest, blob.size)).collect();
        let held = pull.store.hold_all(needed(contents));
        let whole_bytes = self.runtime.block_on(pull.whole_bytes(contents));
        let known = pull.sets.take(set, whole_bytes.unwrap_or_else(|| contents.carried_bytes()))?;
        let (mut taken, is_new) = match (known, whole_bytes) {
            (Some(taken), _) => (taken, false),
            (None, None) => {
                let set = Set::Here { _held: held };
                self.volume = Some(Arrived { number: *number, sizes, set });
                return Ok(());
            }
            (None, Some(bytes)) => {
                let document = Bytes::copy_from_slice(document);
                let begun = pull.sets.begin(&pull.store, set, contents, document, (*of, bytes));
                (self.runtime.block_on(begun)?, true)
            }
        };
        taken.volumes().resume(*of, pull.clock.unix_seconds()).map_err(said)?;
        // A stop came between the last part and the joining.
        let cut: HashSet<Digest> = taken.volumes().cut().into_iter().collect();
        let blobs = contents.blobs.iter().filter(|blob| cut.contains(&blob.digest));
        let unjoined = blobs.filter(|blob| taken.volumes().has_all(&blob.digest, blob.size));
        let unjoined: Vec<Blob> = unjoined.copied().collect();
        let set = Set::Waits { taken, is_new, is_whole: false };
        self.volume = Some(Arrived { number: *number, sizes, set });
        for Blob { digest, size } in unjoined {
            if let Joined::Wrong { found, volumes } = self.join(&digest, size)? {
                tracing::warn!(%digest, %found, ?volumes, "parts of a blob were not what they should be");
            }
        }
        Ok(())
    }

    fn begin_part(&mut self, part: &Segment) -> Result<bool, String> {
        let Segment { digest, .. } = part;
        let size = self.volume.as_ref().and_then(|volume| volume.sizes.get(digest)).copied();
        self.held.push(self.pull.store.hold(digest));
        let is_here = size.is_some() && self.len(digest)? == size;
        let pull = Arc::clone(&self.pull);
        let runtime = self.runtime.clone();
        let Some(taken) = self.set() else {
            return if is_here { Ok(false) } else { Err(format!("{digest} is gone meanwhile")) };
        };
        if is_here {
            // It came whole by another way.
            taken.volumes().forget(digest);
            return Ok(false);
        }
        let lacking = taken.volumes().lacking(digest, part.range()).ok_or(
            "more parts of blobs are here than are kept track of: bring the volumes in their order",
        )?;
        if lacking == 0 {
            return Ok(false);
        }
        let room = runtime.block_on(pull.store.room(lacking)).map_err(said)?;
        let begun = taken.volumes().begin(digest, part.range(), room).map_err(said)?;
        self.current = Some(Current::Part(begun));
        Ok(true)
    }

    fn end_part(&mut self, part: &Segment) -> Result<Joined, String> {
        let Some(Current::Part(came)) = self.current.take() else { return Ok(Joined::Waits) };
        let Some(Arrived { number, sizes, set: Set::Waits { taken, .. } }) = &mut self.volume
        else {
            return Ok(Joined::Waits);
        };
        let (volumes, size) = (taken.volumes(), sizes.get(&part.digest).copied());
        volumes.keep(came, *number).map_err(said)?;
        match size {
            Some(size) if volumes.has_all(&part.digest, size) => self.join(&part.digest, size),
            _ => Ok(Joined::Waits),
        }
    }

    fn end_volume(&mut self) -> Result<Vec<u32>, String> {
        let Some(Arrived { number, set: Set::Waits { taken, is_whole, .. }, .. }) =
            &mut self.volume
        else {
            return Ok(Vec::new());
        };
        taken.volumes().taken(*number).map_err(said)?;
        let missing: Vec<u32> = taken.volumes().missing().collect();
        *is_whole = missing.is_empty();
        Ok(missing)
    }

    fn recall_volumes(&mut self) -> Result<(), String> {
        if let Some(Arrived { set: Set::Waits { taken, is_whole, .. }, .. }) = &mut self.volume {
            *is_whole = false;
            taken.volumes().recall().map_err(said)?;
        }
        Ok(())
    }
}

fn said(error: Error) -> String {
    error.to_string()
}
