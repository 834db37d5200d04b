//! The jobs that are not done: each once, bounded in number, and in a form that can be written down.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::Target;
use crate::{
    oci::{Descriptor, Platform, Repository, Rules},
    pull::config::Window,
};

/// Jobs that may wait; what comes beyond them is fetched when a client asks for it.
const JOBS_MAX: usize = 1024;

/// One image to fetch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) repository: Repository,
    /// An index, of which the platform's manifest is fetched, or a manifest.
    pub(super) manifest: Descriptor,
    pub(super) platform: Option<Platform>,
    /// Chosen as containers/image chooses.
    #[serde(default)]
    pub(super) containers_image: bool,
    /// The part of the day in which it may be fetched: the first and the last minute, the last not included.
    #[serde(default)]
    pub(super) window: Option<(u16, u16)>,
}

/// All jobs that are not done.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    waiting: Mutex<HashMap<Target, Arc<Waiting>>>,
    /// Jobs that are asleep until their next try.
    asleep: AtomicUsize,
    /// Something changed that was not written down.
    changed: AtomicBool,
}

/// A job and the way to wake it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) job: Job,
    /// Told when somebody asks for the image again: its next try is now.
    pub(super) again: Notify,
}

impl Job {
    pub(super) const fn rules(&self) -> Rules {
        if self.containers_image { Rules::ContainersImage } else { Rules::Containerd }
    }

    pub(super) fn window(&self) -> Option<Window> {
        self.window.map(|(from, to)| Window { from, to })
    }

    pub(super) fn target(&self) -> Target {
        super::Prefetcher::target(&self.repository, &self.manifest, self.platform.as_ref())
    }
}

impl Jobs {
    /// Takes up a job; `None` when there is no room, or it is there already, and is then tried at once.
    pub(super) fn add(&self, job: Job) -> Option<Arc<Waiting>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let target = job.target();
        if let Some(there) = waiting.get(&target) {
            there.again.notify_waiters();
            return None;
        }
        if waiting.len() >= JOBS_MAX {
            return None;
        }
        let added = Arc::new(Waiting { job, again: Notify::new() });
        waiting.insert(target, Arc::clone(&added));
        self.changed.store(true, Ordering::Relaxed);
        Some(added)
    }

    /// The job is done, or given up.
    pub(super) fn remove(&self, target: &Target) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(target);
        self.changed.store(true, Ordering::Relaxed);
    }

    /// Counts a job as asleep until the value is dropped.
    pub(super) fn sleep(&self) -> Asleep<'_> {
        self.asleep.fetch_add(1, Ordering::Relaxed);
        Asleep(&self.asleep)
    }

    pub(super) fn asleep(&self) -> usize {
        self.asleep.load(Ordering::Relaxed)
    }

    /// What is to be written down; `None` when it was.
    pub(super) fn unwritten(&self) -> Option<Bytes> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return None;
        }
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let jobs: Vec<&Job> = waiting.values().map(|waiting| &waiting.job).collect();
        serde_json::to_vec(&jobs).map(Bytes::from).ok()
    }

    /// It was not written down after all.
    pub(super) fn not_written(&self) {
        self.changed.store(true, Ordering::Relaxed);
    }

    /// The jobs that were written down. What cannot be read is forgotten.
    pub(super) fn read(bytes: &[u8]) -> Vec<Job> {
        let mut jobs: Vec<Job> = serde_json::from_slice(bytes).unwrap_or_else(|error| {
            tracing::warn!(%error, "what was being fetched ahead cannot be read, and is forgotten");
            Vec::new()
        });
        jobs.truncate(JOBS_MAX);
        jobs
    }
}

/// A job that waits for its next try.
pub(super) struct Asleep<'a>(&'a AtomicUsize);

impl Drop for Asleep<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
