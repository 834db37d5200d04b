//! The disk: blobs under their digests, and what is known of images. Knows digests, not registries' hosts.
//!
//! Files are the truth and sled a table made from them; [`layout`] draws the directory. Reading a kept
//! blob is [`Store::blob`]; a new one goes [`Store::begin`] → [`PartialBlob`] → [`VerifiedBlob`] → [`StoredBlob`].

mod blobs;
mod budget;
mod catalog;
mod check;
mod checkpoints;
mod disk;
mod error;
mod eviction;
mod facts;
mod failing;
#[cfg(fuzzing)]
pub mod fuzzing;
mod holds;
mod index;
mod intake;
mod journal;
mod keep;
mod layout;
mod ledger;
mod links;
mod lookup;
mod memo;
mod partial;
mod pins;
mod pulled;
mod quarantine;
mod recorder;
mod recovery;
mod state;
#[cfg(test)]
mod tests;
mod volumes;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    thread,
};

use bytes::Bytes;
use tokio::{
    sync::{Mutex as AsyncMutex, RwLock, mpsc},
    task::spawn_blocking,
};

pub use blobs::{BlobFile, StoredBlob};
pub use budget::{Evicted, Freed, Limits, Share, Usage};
pub use check::Checked;
pub use disk::{Disk, Space, Touch, Watch, is_damage};
pub use error::Error;
pub use facts::Fact;
use failing::Write;
use holds::Holds;
pub use holds::{AllHeld, Held};
pub use intake::Intake;
use layout::Layout;
use ledger::Ledger;
pub use links::Listed;
pub use memo::Shown;
pub use partial::{PartialBlob, VerifiedBlob};
pub use quarantine::Seen;
pub use state::STATE_MAX_BYTES;
pub use volumes::{Join, Part, Room, Volumes};

use crate::{
    clock::Clock,
    oci::{Digest, MANIFEST_MAX_BYTES, Repository, Tag},
    on_demand::OnDemand,
};

/// Memory for manifests that are asked for again and again.
const HOT_BYTES: u64 = 8 * 1024 * 1024;

/// Where the cache is.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cache directory; created if missing.
    pub dir: PathBuf,
    /// How much may be kept.
    pub limits: Limits,
    /// Images that stay whatever room is needed.
    pub pinned: Vec<(Repository, Tag)>,
    /// The file system that the directory lies on.
    pub disk: Disk,
    /// Not all that is kept is for everybody who is served. Then no index tells which manifests a repository has: bytes that
    /// are kept may have come through another one alone.
    pub has_closed: bool,
}

impl Config {
    /// The cache in `dir`, with nothing pinned by configuration, and the budget that holds when nobody says another.
    pub fn at(dir: &Path) -> Self {
        Self {
            dir: dir.into(),
            limits: Limits::default(),
            pinned: Vec::new(),
            disk: Disk::default(),
            has_closed: false,
        }
    }

    /// Where the wharf that has the directory open is reached by commands.
    pub fn control_socket(&self) -> PathBuf {
        layout::control_socket(&self.dir)
    }

    /// The user that the directory belongs to, if it is there and that is not the user of this process: what is written
    /// here would then be in the way of the other's wharf.
    pub fn other_owner(&self) -> Option<u32> {
        layout::other_owner(&self.dir)
    }
}

/// The cache directory, in use by this process.
#[derive(Debug)]
pub struct Store {
    index: index::Index,
    clock: Clock,
    /// To the recorder's thread; `None` once closed.
    recorder: Mutex<Option<mpsc::Sender<recorder::Entry>>>,
    thread: Mutex<Option<thread::JoinHandle<()>>>,
    /// Manifests and configs by digest; each was verified when it was put in.
    hot: Arc<OnDemand<Digest, Bytes>>,
    /// When images were last pulled, until [`Store::flush_pulled`].
    pulled: pulled::Pulled,
    /// Images that stay because the configuration says so.
    pinned: Mutex<Vec<(Repository, Tag)>>,
    /// The greatest kind of write that fails, and why the last one failed; `None` while writes succeed.
    failing: Mutex<Option<(Write, String)>>,
    ledger: Arc<Ledger>,
    /// Counts the blobs behind the start.
    counter: Mutex<Option<thread::JoinHandle<()>>>,
    holds: Holds,
    /// Read while something comes to be kept or named, written while something goes: see [`eviction`].
    changes: RwLock<()>,
    /// Held by the one eviction that runs; what it saw.
    evicting: AsyncMutex<Option<eviction::Eviction>>,
    /// What kept documents named when there last was one.
    names: Mutex<Arc<eviction::Names>>,
    /// How often pins were changed.
    pins: AtomicU64,
    evicted: Mutex<Evicted>,
    /// Last: the directory's lock ends when the tables are closed.
    layout: Arc<Layout>,
}

impl Store {
    /// Opens or creates the cache directory; blocks for as long as its index takes to load.
    ///
    /// # Errors
    /// When the directory cannot be used, in a sentence for its operator.
    pub fn open(config: &Config, clock: &Clock) -> Result<Self, Error> {
        Self::open_folding(config, clock, recorder::FOLD_BYTES)
    }

    fn open_folding(config: &Config, clock: &Clock, fold_bytes: u64) -> Result<Self, Error> {
        let layout = Layout::open(&config.dir, config.disk.clone())?;
        let layout = Arc::new(layout.telling_all(config.has_closed));
        let ledger = Ledger::open(&layout, config.limits);
        let (index, recorder, thread) = recorder::start(&layout, fold_bytes)?;
        let counter = match budget::count(&layout, &ledger) {
            Ok(counter) => counter,
            Err(error) => {
                // Whoever tries again finds the lock free.
                drop(recorder);
                let _ = thread.join();
                return Err(error);
            }
        };
        let weigh =
            |_: &Digest, bytes: &Bytes| u32::try_from(bytes.len() + 128).unwrap_or(u32::MAX);
        Ok(Self {
            layout,
            index,
            clock: clock.clone(),
            recorder: Mutex::new(Some(recorder)),
            thread: Mutex::new(Some(thread)),
            hot: Arc::new(OnDemand::weighing(HOT_BYTES, weigh)),
            pulled: pulled::Pulled::default(),
            pinned: Mutex::new(config.pinned.clone()),
            failing: Mutex::default(),
            ledger,
            counter: Mutex::new(counter),
            holds: Holds::default(),
            changes: RwLock::default(),
            evicting: AsyncMutex::default(),
            names: Mutex::default(),
            pins: AtomicU64::default(),
            evicted: Mutex::default(),
        })
    }

    /// The blob kept under `digest`, if it is.
    ///
    /// # Errors
    /// When the disk fails; [`Error::Damaged`] once if the blob cannot be opened: it is missing then.
    pub async fn blob(&self, digest: &Digest) -> Result<Option<StoredBlob>, Error> {
        if self.is_condemned(digest) {
            return Ok(None);
        }
        let (layout, path) = (Arc::clone(&self.layout), self.layout.blob(digest));
        if let Some(opened) = StoredBlob::open_at_once(layout.disk(), &path) {
            return Ok(opened);
        }
        let opening = spawn_blocking(move || StoredBlob::open(layout.disk(), &path));
        match opening.await.map_err(Error::join)? {
            Ok(opened) => Ok(opened),
            Err(error) => Err(self.unreadable(digest, None, error).await),
        }
    }

    /// The manifest or config kept under `digest`, verified; `None` when it is not kept, or too long for either.
    ///
    /// # Errors
    /// When the disk fails; [`Error::Damaged`] once if it is not what it was: it is missing then.
    pub async fn manifest(&self, digest: &Digest) -> Result<Option<Bytes>, Error> {
        if let Some(bytes) = self.hot.get(digest) {
            return Ok(Some(bytes));
        }
        if self.is_condemned(digest) {
            return Ok(None);
        }
        let (layout, expected) = (Arc::clone(&self.layout), *digest);
        let reading = spawn_blocking(move || read_manifest(&layout, &expected));
        match reading.await.map_err(Error::join)? {
            (_, Ok(Read::Right(bytes))) => {
                self.heat(digest, bytes.clone());
                Ok(Some(bytes))
            }
            (_, Ok(Read::Missing)) => Ok(None),
            (seen, Ok(Read::Wrong)) => {
                let why = "its bytes do not match its digest".to_owned();
                Err(self.damaged(digest, seen, why).await)
            }
            (seen, Err(error)) => Err(self.unreadable(digest, seen, error).await),
        }
    }

    /// Has a document that was just verified answered from memory the next time.
    fn heat(&self, digest: &Digest, bytes: Bytes) {
        let is_long = bytes.len() as u64 > HOT_BYTES / 128;
        self.hot.insert(*digest, bytes);
        if is_long {
            // What is too much is dropped by the hundred by itself, which are of some KiB as a rule.
            self.hot.settle();
        }
    }

    /// What a blob is called that could not be read: damaged, and put aside, if that is why.
    async fn unreadable(&self, digest: &Digest, seen: Option<Seen>, error: io::Error) -> Error {
        if is_damage(&error) {
            return self.damaged(digest, seen, check::unreadable(&error)).await;
        }
        Error::read(error)
    }

    async fn damaged(&self, digest: &Digest, seen: Option<Seen>, why: String) -> Error {
        if let Err(error) = self.quarantine(digest, seen, &why).await {
            tracing::error!(%digest, %error, "a damaged blob could not be put aside");
        }
        Error::Damaged { digest: *digest, why }
    }

    /// Takes up or begins the download of a blob of `size` bytes (if known) from `repository`.
    /// What is not to be kept is forgotten at the next start, should it still be here. Room for it is reserved: for
    /// what is to be kept, images that were pulled longer ago are evicted.
    ///
    /// # Errors
    /// [`Error::NoRoom`], and when the disk does not take it.
    pub async fn begin(
        &self,
        digest: &Digest,
        repository: &Repository,
        size: Option<u64>,
        keep: bool,
    ) -> Result<PartialBlob, Error> {
        // Before there is room: so that an image is not evicted for its own parts.
        let held = self.holds.hold(digest);
        let begun = self.vouched(digest).await;
        let wanted = size.map_or_else(|| self.step(), |size| size.saturating_sub(begun));
        let promise = self.promise(wanted, keep).await?;
        let room = partial::Room { promise, _held: held, keep };
        let (layout, digest, repository) = (Arc::clone(&self.layout), *digest, repository.clone());
        let now = self.clock.unix_seconds();
        let beginning = spawn_blocking(move || {
            PartialBlob::begin(layout, digest, &repository, size, room, now)
        });
        beginning.await.map_err(Error::join)?.map_err(Error::write)
    }

    /// How many bytes are on disk of a blob that is not all there.
    pub async fn begun(&self, digest: &Digest) -> u64 {
        let (layout, path) = (Arc::clone(&self.layout), self.layout.partial(digest));
        let looking = spawn_blocking(move || layout.disk().len(&path));
        looking.await.ok().and_then(Result::ok).flatten().unwrap_or(0)
    }

    /// How many of these the next download need not fetch again, if they are still what they were.
    pub async fn vouched(&self, digest: &Digest) -> u64 {
        let (layout, digest) = (Arc::clone(&self.layout), *digest);
        let looking = spawn_blocking(move || checkpoints::vouched(&layout, &digest));
        looking.await.unwrap_or(0)
    }

    /// Remembers that an image was pulled just now; written down by the next [`Store::flush_pulled`].
    pub fn pulled(&self, repository: &Repository, manifest: &Digest) {
        self.pulled.note(repository, manifest, self.clock.unix_seconds());
    }

    /// Writes down the times of the pulls since the last call: one append, whatever their number.
    ///
    /// # Errors
    /// When the disk does not take it; those times are lost.
    pub async fn flush_pulled(&self) -> Result<(), Error> {
        let facts = self.pulled.facts();
        if facts.is_empty() {
            return Ok(());
        }
        // They stay in memory until the tables tell them: who asks meanwhile sees them, too.
        let recorded = self.record(facts.clone(), Vec::new()).await;
        self.pulled.forget(&facts);
        recorded
    }

    /// Writes down what is only in memory and ends the recorder; later writes fail with [`Error::Closed`].
    pub async fn close(&self) {
        if let Err(error) = self.flush_pulled().await {
            tracing::warn!(%error, "the times of the last pulls are lost");
        }
        drop(self.recorder.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.ledger.stop();
        let counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(counter) = counter {
            let _ = spawn_blocking(move || counter.join()).await;
        }
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = spawn_blocking(move || thread.join()).await;
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.ledger.stop();
        let counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It ends with the file that it looks at.
        let _ = counter.map(thread::JoinHandle::join);
    }
}

/// What lies under the digest of a document.
enum Read {
    /// Nothing, or what is too long for a document: whether that is damaged is not told here.
    Missing,
    Right(Bytes),
    Wrong,
}

/// Reads a document, and tells which file it was.
fn read_manifest(layout: &Layout, expected: &Digest) -> (Option<Seen>, io::Result<Read>) {
    let file = match layout.disk().open_read(&layout.blob(expected)) {
        Ok(file) => Arc::new(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (None, Ok(Read::Missing)),
        Err(error) => return (None, Err(error)),
    };
    let read = file.read_up_to(MANIFEST_MAX_BYTES as u64 + 1).map(|bytes| {
        if bytes.len() > MANIFEST_MAX_BYTES {
            return Read::Missing;
        }
        match Digest::of(expected.algorithm(), &bytes) == *expected {
            true => Read::Right(bytes.into()),
            false => Read::Wrong,
        }
    });
    (quarantine::seen(&file), read)
}
