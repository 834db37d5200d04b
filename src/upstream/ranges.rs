//! Whether a registry takes requests for parts of a blob.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::clock::Clock;

/// How long a registry that dislikes them is asked for none.
const DISLIKED: Duration = Duration::from_secs(60 * 60);

/// What is known of one registry.
pub(super) struct Ranges {
    clock: Clock,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    disliked: Option<Instant>,
    /// The last request for a part failed as any may, and one for the whole did not.
    doubted: bool,
}

impl Ranges {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), known: Mutex::default() }
    }

    pub(super) fn are_taken(&self) -> bool {
        self.lock().disliked.is_none_or(|at| self.clock.now().duration_since(at) >= DISLIKED)
    }

    pub(super) fn are_disliked(&self) {
        *self.lock() = Known { disliked: Some(self.clock.now()), doubted: false };
    }

    pub(super) fn are_doubted(&self) {
        if std::mem::replace(&mut self.lock().doubted, true) {
            self.are_disliked();
        }
    }

    pub(super) fn were_taken(&self) {
        self.lock().doubted = false;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
