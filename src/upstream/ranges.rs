//! Whether a registry takes requests for parts of a blob.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::clock::Clock;

/// How long a registry that dislikes them is asked for none.
const DISLIKED: Duration = Duration::from_secs(60 * 60);

/// What is known of one registry.
pub(super) struct Ranges {
    clock: Clock,
    disliked: Mutex<Option<Instant>>,
}

impl Ranges {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), disliked: Mutex::default() }
    }

    pub(super) fn are_taken(&self) -> bool {
        let disliked = *self.disliked.lock().unwrap_or_else(PoisonError::into_inner);
        disliked.is_none_or(|at| self.clock.now().duration_since(at) >= DISLIKED)
    }

    pub(super) fn are_disliked(&self) {
        *self.disliked.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.clock.now());
    }
}
