//! One download per digest at a time: who asks first causes it, who asks meanwhile follows it.
//!
//! A download belongs to nobody: its task runs on when every client has gone, and tells all who follow, also those who
//! come later, how far it is through a [`Flight`].

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SetOnce, watch};

use super::{
    Error, Limits,
    ranges::WAITING_MAX,
    shared::Shared,
    turns::Turns,
    whose::{Crowd, Whose},
};
use crate::{
    metrics::{Limit, Metrics},
    oci::{Digest, Hasher, RegistryName, Repository},
    store::BlobFile,
};

/// The downloads that run or wait for their turn.
#[derive(Debug)]
pub(super) struct InFlight {
    flights: Arc<Mutex<HashMap<Digest, Flight>>>,
    /// One for each connection to an upstream that fills a partial file.
    pub(super) turns: Turns,
    by_registry: Mutex<HashMap<RegistryName, OfRegistry>>,
    /// One for each that serves a single client, at that client's pace: they must not hold up the others.
    pub(super) relay_turns: Turns,
    /// One for each piece of a blob that may be in memory before its turn.
    pub(super) waiting: Arc<Semaphore>,
    /// Downloads that run and that a client waits for.
    wanted: Arc<watch::Sender<usize>>,
    running_each: usize,
    most: usize,
    /// One for each client that may wait for a download, or follow one.
    readers: Arc<Semaphore>,
    metrics: Metrics,
}

/// Of so many downloads that may run, one may be of a blob of which it is not known whether there is such a thing; two at least
/// may be.
const UNNAMED_SHARE: usize = 4;

/// Of so many downloads that may run or wait, one may be of such a blob.
const UNNAMED_WAITING_SHARE: usize = 2;

/// What turns are for that downloads wait for.
const DOWNLOAD: &str = "download";

/// The turns of one registry.
#[derive(Clone, Debug)]
pub(super) struct OfRegistry {
    /// One for each download that may be its own: of one that sends nothing, others are to notice little.
    pub(super) running: Turns,
    /// One for each blob that no manifest names that it may be asked for at once: a client can make up as many as it likes, and
    /// the registry, which works on all that it is asked at the same time, is to have time for what there is.
    pub(super) unnamed: Turns,
}

/// Why somebody joins a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Purpose {
    /// A client waits for it; otherwise it is fetched ahead, and gives way.
    pub(super) wanted: bool,
    /// It is to be kept; otherwise it is passed on and forgotten.
    pub(super) keep: bool,
    /// A manifest tells of it; otherwise it may be made up.
    pub(super) named: bool,
}

/// A download as its followers see it.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// On whose word it was begun: others are told of its bytes, not of its failures.
    pub(super) origin: Repository,
    pub(super) progress: watch::Receiver<Progress>,
    pub(super) interest: Arc<Interest>,
}

/// What those who joined a download want of it: each of these only ever goes from no to yes.
#[derive(Debug)]
pub(super) struct Interest {
    keep: AtomicBool,
    wanted: SetOnce<()>,
    named: SetOnce<()>,
    /// Who waits for it, or did: its turn is the first that any of them has.
    crowd: Arc<Crowd>,
    /// Whether it was begun before any client wanted it.
    ahead: bool,
    /// The count that this download is in while it is wanted and runs.
    running: Arc<watch::Sender<usize>>,
}

/// How far a download is.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Bytes at the file's beginning that may be handed out.
    ///
    /// While the digest is not verified this stays below the blob's length: nobody gets a whole unverified body.
    pub(super) published: u64,
    pub(super) phase: Phase,
}

/// What a download is doing.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// The registry has not answered yet.
    Asking,
    /// Bytes arrive in `file`.
    Streaming { total: Option<u64>, file: BlobFile },
    /// Everything is in `file`, and verified.
    Done { file: BlobFile },
    /// The disk does not take the bytes: whoever needs more than is published follows the stream past the disk, or asks
    /// the registry alone.
    Detached {
        total: Option<u64>,
        file: Option<BlobFile>,
        hasher: Hasher,
        /// The stream past the disk, for those who are there in time.
        shared: Option<Arc<Shared>>,
        /// What the disk said.
        why: Arc<str>,
    },
    /// It failed; whoever still reads is cut off.
    Failed(Error),
}

/// The right, and the duty, to run one download; when it is dropped the digest is free again.
#[derive(Debug)]
pub(super) struct Lead {
    flights: Arc<Mutex<HashMap<Digest, Flight>>>,
    digest: Digest,
    progress: watch::Sender<Progress>,
    interest: Arc<Interest>,
}

impl Progress {
    /// The blob's length in bytes, as far as it is known.
    pub(super) const fn total(&self) -> Option<u64> {
        match &self.phase {
            Phase::Asking | Phase::Failed(_) => None,
            Phase::Streaming { total, .. } | Phase::Detached { total, .. } => *total,
            Phase::Done { .. } => Some(self.published),
        }
    }
}

impl InFlight {
    /// Room for `running` downloads at once, from that many registries.
    pub(super) fn new(
        running: usize,
        registries: usize,
        limits: &Limits,
        metrics: &Metrics,
    ) -> Self {
        // One that is alone need leave nothing to others.
        let running_each = if registries > 1 { running - running / 4 } else { running };
        Self {
            flights: Arc::default(),
            turns: Turns::new(running, DOWNLOAD, metrics),
            by_registry: Mutex::default(),
            relay_turns: Turns::new(running, "relay", metrics),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            wanted: Arc::new(watch::Sender::new(0)),
            running_each,
            most: running.saturating_add(limits.waiting_downloads),
            readers: Arc::new(Semaphore::new(limits.waiting_readers)),
            metrics: metrics.clone(),
        }
    }

    /// The download of `digest`; with a [`Lead`] if there was none, which the caller must now run.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many wait.
    pub(super) fn join(
        &self,
        digest: &Digest,
        origin: &Repository,
        purpose: Purpose,
    ) -> Result<(Flight, Option<Lead>), Error> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(digest) {
            flight.interest.add(purpose);
            return Ok((flight.clone(), None));
        }
        let is_made_up = |flight: &&Flight| !flight.interest.is_named();
        let is_full = flights.len() >= self.most
            || (!purpose.named
                && flights.values().filter(is_made_up).count()
                    >= self.most / UNNAMED_WAITING_SHARE);
        if is_full {
            self.metrics.limit_reached(Limit::WaitingDownloads);
            return Err(Error::Busy);
        }
        let (sender, progress) = watch::channel(Progress { published: 0, phase: Phase::Asking });
        let interest = Arc::new(Interest {
            keep: AtomicBool::new(false),
            wanted: SetOnce::new(),
            named: SetOnce::new(),
            crowd: Arc::new(Crowd::of(Whose::now())),
            ahead: !purpose.wanted,
            running: Arc::clone(&self.wanted),
        });
        interest.add(purpose);
        let flight = Flight { origin: origin.clone(), progress, interest: Arc::clone(&interest) };
        flights.insert(*digest, flight.clone());
        let flights = Arc::clone(&self.flights);
        Ok((flight, Some(Lead { flights, digest: *digest, progress: sender, interest })))
    }

    /// A place among those who wait for downloads, or follow them, for as long as it is held.
    ///
    /// # Errors
    /// [`Error::Busy`] when all are taken.
    pub(super) fn reader(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.readers).try_acquire_owned().map_err(|_| {
            self.metrics.limit_reached(Limit::WaitingReaders);
            Error::Busy
        })
    }

    /// The turns of one registry: one of the unnamed is to be taken before one of the running, and that before one of all. There
    /// are as many registries as are configured.
    pub(super) fn turns_of(&self, registry: &RegistryName) -> OfRegistry {
        let mut turns = self.by_registry.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || OfRegistry {
            running: Turns::new(self.running_each, DOWNLOAD, &self.metrics),
            unnamed: Turns::new(
                (self.running_each / UNNAMED_SHARE).max(2),
                "unnamed",
                &self.metrics,
            ),
        };
        turns.entry(registry.clone()).or_insert_with(fresh).clone()
    }

    /// Whether a download that a client waits for is running.
    pub(super) fn wanted(&self) -> watch::Receiver<usize> {
        self.wanted.subscribe()
    }

    /// Whether that download runs or waits.
    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).contains_key(digest)
    }

    /// How many downloads run or wait.
    pub(super) fn open(&self) -> usize {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Interest {
    fn add(&self, purpose: Purpose) {
        self.crowd.join(Whose::now());
        self.keep.fetch_or(purpose.keep, Ordering::Relaxed);
        if purpose.named {
            self.is_there();
        }
        if purpose.wanted && self.wanted.set(()).is_ok() {
            self.running.send_modify(|running| *running += 1);
        }
    }

    /// For whom it is downloaded.
    pub(super) const fn crowd(&self) -> &Arc<Crowd> {
        &self.crowd
    }

    /// Whether anybody wants the blob to be kept.
    pub(super) fn keeps(&self) -> bool {
        self.keep.load(Ordering::Relaxed)
    }

    /// Whether a client waits for it, or did.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.initialized()
    }

    /// Whether it was begun before any client wanted it.
    pub(super) const fn began_ahead(&self) -> bool {
        self.ahead
    }

    /// Whether a manifest tells of the blob, or the registry has said that there is one.
    pub(super) fn is_named(&self) -> bool {
        self.named.initialized()
    }

    /// There is such a blob.
    pub(super) fn is_there(&self) {
        // It may be known already.
        let _ = self.named.set(());
    }

    /// Waits until it is known that there is such a blob.
    pub(super) async fn named(&self) {
        self.named.wait().await;
    }

    /// Waits until a client wants it.
    pub(super) async fn wanted(&self) {
        self.wanted.wait().await;
    }
}

impl Lead {
    pub(super) fn interest(&self) -> &Interest {
        &self.interest
    }

    pub(super) const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// How many follow the download, or are about to.
    pub(super) fn followers(&self) -> usize {
        // One is kept for those who join.
        self.progress.receiver_count().saturating_sub(1)
    }

    /// Tells the followers.
    pub(super) fn publish(&self, published: u64, phase: Phase) {
        self.progress.send_replace(Progress { published, phase });
    }

    /// Tells the followers that more of the same file may be read.
    pub(super) fn publish_more(&self, published: u64) {
        self.progress.send_modify(|progress| progress.published = published);
    }

    /// Whether some bytes may have been handed out.
    pub(super) fn has_published(&self) -> bool {
        !matches!(self.progress.borrow().phase, Phase::Asking)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // Behind this, nobody joins: the interest is what it was to the end.
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
        if self.interest.is_wanted() {
            self.interest.running.send_modify(|running| *running -= 1);
        }
        self.progress.send_modify(|progress| {
            // Abandoned: by a panic, or because the daemon ends.
            if matches!(progress.phase, Phase::Asking | Phase::Streaming { .. }) {
                progress.phase = Phase::Failed(Error::Busy);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull::on_behalf_of;

    #[tokio::test]
    async fn whoever_joins_a_download_is_one_of_those_whose_turn_it_waits_for() {
        let downloads = InFlight::new(1, 1, &Limits::default(), &Metrics::new());
        let (digest, origin) =
            (Digest::sha256(b"a"), "docker.io/library/app".parse().expect("a name"));
        let join =
            |wanted| downloads.join(&digest, &origin, Purpose { wanted, keep: true, named: true });
        let (flight, lead) = join(false).expect("room");
        let [one, two] = [1, 2].map(|last| std::net::IpAddr::from([10, 0, 0, last]));
        for client in [one, two, one] {
            on_behalf_of(client, async { join(true).map(drop) }).await.expect("room");
        }
        let crowd = flight.interest.crowd().members();
        assert_eq!(*crowd.borrow(), [Whose::Wharf, Whose::Client(one), Whose::Client(two)]);
        drop(lead);
    }
}
