//! [`Volumes`]: what came of a set of volumes of which not all are here. Whole blobs lie under their digests already, held by
//! whoever knows that the set waits for them; here are the parts of those that a volume's end cut, and what is known of them.
//!
//! ```text
//! <dir>/wharf/volumes/<hex>/                the SHA-256 of the contents document
//! <dir>/wharf/volumes/<hex>/contents.json   that document, as it came
//! <dir>/wharf/volumes/<hex>/state.json      what was verified of the set, replaced atomically
//! <dir>/wharf/volumes/<hex>/<alg>-<hex>     the bytes of a cut blob, each at its place, with holes
//! ```
//!
//! A part is synced before the state tells of it: what the state tells survives a kill and a power cut, and what it does not
//! tell is written again, over what may lie there. A blob of which all parts are here is hashed, and put in its place by
//! rename. Nothing that the state tells of is ever written again.

#[cfg(fuzzing)]
pub(super) mod fuzzing;
mod join;
mod part;
mod ranges;
mod restore;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    ops::Range,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

pub use self::{
    join::Join,
    part::{Part, Room},
};
use self::{
    ranges::Ranges,
    restore::{clear, sets},
};
use super::{
    Error, Store,
    disk::DiskFile,
    layout::Layout,
    ledger::{Ledger, Promise},
};
use crate::oci::Digest;

/// Runs of bytes and of volumes that one state tells of: some hundred KiB of it. Volumes in their order have one each.
const RUNS_MAX: usize = 20_000;

/// As many volumes as a bundle may have.
const VOLUMES_MAX: u32 = 100_000;

/// The form of the state that is written here.
const FORM: u32 = 1;

const CONTENTS: &str = "contents.json";
const STATE: &str = "state.json";

/// A set of volumes, for the one who adds to it.
#[derive(Debug)]
pub struct Volumes {
    layout: Arc<Layout>,
    ledger: Arc<Ledger>,
    set: Digest,
    state: State,
    /// Bytes that the account has of each file.
    counted: HashMap<PathBuf, u64>,
}

/// What is known of a set. A file of another form, or that cannot be read, is of no set.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    form: u32,
    /// How many volumes there are.
    of: u32,
    /// When something was last added, in seconds since 1970.
    touched: u64,
    /// The volumes that are in.
    taken: Ranges,
    cut: BTreeMap<Digest, Cut>,
}

/// A blob of which parts are here.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cut {
    /// Its bytes that are here.
    bytes: Ranges,
    /// The volumes that they came in.
    volumes: Ranges,
}

impl State {
    /// What is known of a set; `None` for a file that is of none.
    fn read(bytes: &[u8]) -> Option<Self> {
        let state: Self = serde_json::from_slice(bytes).ok()?;
        (state.form == FORM && state.is_sound()).then_some(state)
    }

    /// Whether all volumes that it tells of are of the set: they are gone through one by one.
    fn is_sound(&self) -> bool {
        let numbers = 1..u64::from(self.of) + 1;
        let mut told = self.cut.values().map(|cut| &cut.volumes).chain([&self.taken]);
        self.of <= VOLUMES_MAX && told.all(|volumes| volumes.lie_within(&numbers))
    }
}

impl Store {
    /// The sets that are not whole, each with its contents document. What is left of others is deleted. To be called once,
    /// before anything may go: what a set waits with is held by nobody yet.
    pub async fn volume_sets(&self) -> Vec<(Volumes, Bytes)> {
        let (layout, ledger) = (Arc::clone(&self.layout), Arc::clone(&self.ledger));
        let reading = spawn_blocking(move || sets(&layout, &ledger));
        reading.await.unwrap_or_default()
    }

    /// Begins a set of `of` volumes, which `document` of that digest tells the contents of. Durable when this returns.
    ///
    /// # Errors
    /// [`Error::NoRoom`], and when the disk does not take it.
    pub async fn begin_volumes(
        &self,
        set: &Digest,
        document: Bytes,
        of: u32,
    ) -> Result<Volumes, Error> {
        let mut promise = self.promise(document.len() as u64, true).await?;
        let (layout, set) = (Arc::clone(&self.layout), *set);
        let touched = self.clock.unix_seconds();
        let beginning = spawn_blocking(move || {
            let state = State { form: FORM, of, touched, ..State::default() };
            let ledger = Arc::clone(promise.ledger());
            let mut volumes = Volumes { layout, ledger, set, state, counted: HashMap::new() };
            match volumes.begin_document(&document, &mut promise) {
                Ok(()) => Ok(volumes),
                Err(error) => {
                    volumes.delete();
                    Err(error)
                }
            }
        });
        beginning.await.map_err(Error::join)?.map_err(Error::write)
    }

    /// Has room for `bytes` of a part.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub async fn room(&self, bytes: u64) -> Result<Room, Error> {
        self.promise(bytes, true).await.map(Room)
    }
}

// All of these block.
impl Volumes {
    /// Which set it is: the SHA-256 of its contents document.
    pub const fn set(&self) -> &Digest {
        &self.set
    }

    /// How many volumes it has.
    pub const fn of(&self) -> u32 {
        self.state.of
    }

    /// When something was last added, in seconds since 1970.
    pub const fn touched(&self) -> u64 {
        self.state.touched
    }

    /// How many volumes are in.
    pub fn here(&self) -> u32 {
        u32::try_from(self.state.taken.total()).unwrap_or(u32::MAX)
    }

    /// The numbers of the volumes that are not in, in their order.
    pub fn missing(&self) -> impl Iterator<Item = u32> {
        let gaps = self.state.taken.gaps(1..u64::from(self.state.of) + 1);
        gaps.into_iter().flatten().filter_map(|number| u32::try_from(number).ok())
    }

    /// Bytes of parts that were verified.
    pub fn part_bytes(&self) -> u64 {
        self.state.cut.values().map(|cut| cut.bytes.total()).fold(0, u64::saturating_add)
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.state.cut.is_empty() && self.state.taken.runs() == 0
    }

    /// Volumes of a set of `of` are about to be added. Where it was made anew with another number of them, those that came
    /// before have no number in it; their bytes stay.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn resume(&mut self, of: u32, now: u64) -> Result<(), Error> {
        if self.state.of != of {
            self.state.taken = Ranges::default();
            self.state.of = of;
            self.state.cut.values_mut().for_each(|cut| cut.volumes = Ranges::default());
        }
        self.state.touched = now;
        self.write().map_err(Error::write)
    }

    /// How many bytes of a part are not here; `None` for a part that would be one too many to keep track of.
    pub fn lacking(&self, digest: &Digest, range: Range<u64>) -> Option<u64> {
        let runs = self.state.cut.values().map(|cut| 1 + cut.bytes.runs() + cut.volumes.runs());
        if runs.sum::<usize>() + self.state.taken.runs() >= RUNS_MAX {
            return None;
        }
        let gaps = self.gaps(digest, range);
        Some(gaps.iter().map(|gap| gap.end - gap.start).sum())
    }

    /// Whether parts with all of so many bytes of a blob are here.
    pub fn has_all(&self, digest: &Digest, size: u64) -> bool {
        self.state.cut.get(digest).is_some_and(|cut| cut.bytes.cover(0..size))
    }

    /// The blobs of which parts are here.
    pub fn cut(&self) -> Vec<Digest> {
        self.state.cut.keys().copied().collect()
    }

    /// Begins a part, in room for what is lacking of it.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn begin(&self, digest: &Digest, range: Range<u64>, room: Room) -> Result<Part, Error> {
        let file = self.layout.disk().open(&self.file(digest)).map_err(Error::write)?;
        let (digest, at) = (*digest, range.start);
        let gaps = self.gaps(&digest, range.clone());
        Ok(Part { file, digest, range, gaps, at, written: 0, room })
    }

    /// Keeps a part that was found right, and came in this volume. Durable when this returns.
    ///
    /// # Errors
    /// When the disk does not take it: then it has not come.
    pub fn keep(&mut self, part: Part, volume: u32) -> Result<(), Error> {
        let kept = part.file.sync().and_then(|()| {
            // The file's name, too.
            self.layout.disk().sync_parent(&self.file(&part.digest))?;
            let cut = self.state.cut.entry(part.digest).or_default();
            let before = (cut.bytes.clone(), cut.volumes.clone());
            cut.bytes.insert(part.range.clone());
            cut.volumes.insert(u64::from(volume)..u64::from(volume) + 1);
            let written = self.write();
            if let (Err(_), Some(cut)) = (&written, self.state.cut.get_mut(&part.digest)) {
                (cut.bytes, cut.volumes) = before;
            }
            written
        });
        self.give_up(part);
        kept.map_err(Error::write)
    }

    /// Ends a part, of which nothing more counts than the state tells.
    pub fn give_up(&mut self, part: Part) {
        let Part { file, digest, written, room, .. } = part;
        drop(room);
        let path = self.file(&digest);
        *self.counted.entry(path).or_default() += written;
        if self.state.cut.get(&digest).is_none_or(|cut| cut.bytes.runs() == 0) {
            drop(file);
            self.forget(&digest);
        } else {
            self.settle(&digest, &file);
        }
    }

    /// Notes that a volume is in. Durable when this returns.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn taken(&mut self, volume: u32) -> Result<(), Error> {
        let number = u64::from(volume);
        if self.state.taken.cover(number..number + 1) {
            return Ok(());
        }
        self.state.taken.insert(number..number + 1);
        let written = self.write();
        if written.is_err() {
            self.state.taken.remove(number);
        }
        written.map_err(Error::write)
    }

    /// No volume counts as being in any more; what was verified stays.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn recall(&mut self) -> Result<(), Error> {
        self.state.taken = Ranges::default();
        self.write().map_err(Error::write)
    }

    /// Deletes what is known of a cut blob, which is here whole, or of which nothing was verified.
    pub fn forget(&mut self, digest: &Digest) {
        let path = self.file(digest);
        self.remove(&path);
        self.state.cut.remove(digest);
    }

    /// Deletes all of it. What cannot be deleted is at the next start.
    pub fn delete(mut self) {
        let dir = self.dir();
        // The state first: without it, the rest is nothing.
        self.remove(&dir.join(STATE));
        let files: Vec<PathBuf> = self.counted.keys().cloned().collect();
        files.iter().for_each(|path| self.remove(path));
        if let Err(error) = clear(&self.layout, &dir) {
            tracing::warn!(?dir, %error, "what is left of a set of volumes could not be deleted");
        }
    }

    fn begin_document(&mut self, document: &[u8], promise: &mut Promise) -> io::Result<()> {
        let path = self.dir().join(CONTENTS);
        self.layout.disk().make_dir(&self.dir())?;
        self.layout.replace(&path, document)?;
        promise.written(document.len() as u64);
        self.counted.insert(path, document.len() as u64);
        self.write()
    }

    fn gaps(&self, digest: &Digest, range: Range<u64>) -> Vec<Range<u64>> {
        let none = Ranges::default();
        self.state.cut.get(digest).map_or(&none, |cut| &cut.bytes).gaps(range)
    }

    /// Cuts off what lies behind the last byte that counts, and has the account know what the file takes.
    fn settle(&mut self, digest: &Digest, file: &DiskFile) {
        let Some(cut) = self.state.cut.get(digest) else { return };
        let (end, least) = (cut.bytes.end(), cut.bytes.total());
        let cut_off = file.len().and_then(|len| if len > end { file.set_len(end) } else { Ok(()) });
        if let Err(error) = cut_off {
            tracing::debug!(%digest, %error, "what was not verified of a cut blob stays behind it");
        }
        let now = file
            .file()
            .metadata()
            .map_or(least, |about| about.len().min(about.blocks().saturating_mul(512)).max(least));
        let before = self.counted.insert(self.file(digest), now).unwrap_or(0);
        self.ledger.partial_changed(before, now);
    }

    fn remove(&mut self, path: &Path) {
        let counted = self.counted.remove(path);
        match self.layout.disk().remove(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(?path, %error, "a file of volumes could not be deleted"),
        }
        self.ledger.partial_shrank(counted.unwrap_or(0));
    }

    fn write(&mut self) -> io::Result<()> {
        let state = serde_json::to_vec(&self.state).expect("strings and numbers serialise");
        let path = self.dir().join(STATE);
        self.layout.replace(&path, &state)?;
        let now = state.len() as u64;
        let before = self.counted.insert(path, now).unwrap_or(0);
        self.ledger.partial_changed(before, now);
        Ok(())
    }

    fn dir(&self) -> PathBuf {
        self.layout.volume_set(&self.set)
    }

    fn file(&self, digest: &Digest) -> PathBuf {
        self.dir().join(format!("{}-{}", digest.algorithm().as_str(), digest.encoded()))
    }
}
