//! One download per digest at a time: who asks first causes it, who asks meanwhile follows it.
//!
//! A download belongs to nobody: its task runs on when every client has gone, and tells all who follow, also those who
//! come later, how far it is through a [`Flight`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{Semaphore, watch};

use super::Error;
use crate::{
    oci::{Digest, Hasher, Repository},
    store::BlobFile,
};

/// Downloads that wait for their turn, for each that may run; more are refused.
const WAITING_PER_RUNNING: usize = 16;

/// The downloads that run or wait for their turn.
#[derive(Debug)]
pub(super) struct InFlight {
    flights: Arc<Mutex<HashMap<Digest, Flight>>>,
    /// One permit for each connection to an upstream that carries a blob.
    pub(super) turns: Arc<Semaphore>,
    most: usize,
}

/// A download as its followers see it.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    /// On whose word it was begun: others are told of its bytes, not of its failures.
    pub(super) origin: Repository,
    pub(super) progress: watch::Receiver<Progress>,
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
    /// The disk does not take the bytes: whoever needs more than is published asks the registry alone.
    Detached { total: Option<u64>, file: Option<BlobFile>, hasher: Hasher },
    /// It failed; whoever still reads is cut off.
    Failed(Error),
}

/// The right, and the duty, to run one download; when it is dropped the digest is free again.
#[derive(Debug)]
pub(super) struct Lead {
    flights: Arc<Mutex<HashMap<Digest, Flight>>>,
    digest: Digest,
    progress: watch::Sender<Progress>,
}

impl InFlight {
    /// Room for `running` downloads at once.
    pub(super) fn new(running: usize) -> Self {
        Self {
            flights: Arc::default(),
            turns: Arc::new(Semaphore::new(running)),
            most: running.saturating_mul(WAITING_PER_RUNNING),
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
    ) -> Result<(Flight, Option<Lead>), Error> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(digest) {
            return Ok((flight.clone(), None));
        }
        if flights.len() >= self.most {
            return Err(Error::Busy);
        }
        let (sender, progress) = watch::channel(Progress { published: 0, phase: Phase::Asking });
        let flight = Flight { origin: origin.clone(), progress };
        flights.insert(*digest, flight.clone());
        let lead = Lead { flights: Arc::clone(&self.flights), digest: *digest, progress: sender };
        Ok((flight, Some(lead)))
    }

    /// How many downloads run or wait.
    pub(super) fn open(&self) -> usize {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Lead {
    pub(super) const fn digest(&self) -> &Digest {
        &self.digest
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
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.digest);
        self.progress.send_modify(|progress| {
            // Abandoned: by a panic, or because the daemon ends.
            if matches!(progress.phase, Phase::Asking | Phase::Streaming { .. }) {
                progress.phase = Phase::Failed(Error::Busy);
            }
        });
    }
}
