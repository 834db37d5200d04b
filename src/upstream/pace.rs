//! Whether a body comes too slowly to be waited for ([`Pace`]): of a registry that sends a byte now and then, and never an end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::clock::Clock;

/// Over how much waiting a body's rate is looked at.
const WINDOW: Duration = Duration::from_secs(60);

/// How many bodies are open, of all registries: as far as it is known here, they share one line. Clones are the same count.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenBodies(Arc<AtomicU64>);

/// How fast a body comes while it is waited for: who takes it at leisure, or pauses, is not held against the registry.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes per second of all bodies that share the line; `None`: any will do.
    least: Option<u64>,
    clock: Clock,
    open: OpenBodies,
    /// Of this window: how long it was waited, for how many bytes, and how many bodies shared the line at most.
    waited: Duration,
    bytes: u64,
    sharers: u64,
    is_too_slow: bool,
}

impl Pace {
    /// Of a body that begins now.
    pub(super) fn begin(least: Option<u64>, open: &OpenBodies, clock: &Clock) -> Self {
        open.0.fetch_add(1, Ordering::Relaxed);
        Self {
            least,
            clock: clock.clone(),
            open: open.clone(),
            waited: Duration::ZERO,
            bytes: 0,
            sharers: 1,
            is_too_slow: false,
        }
    }

    /// When a wait begins.
    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// So many bytes came after a wait that began then.
    pub(super) fn came(&mut self, bytes: usize, begun: Instant) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        self.waited += self.now().saturating_duration_since(begun);
        self.sharers = self.sharers.max(self.open.0.load(Ordering::Relaxed));
        if self.waited < WINDOW {
            return;
        }
        let due = |least: u64| least.saturating_mul(self.waited.as_secs()) / self.sharers;
        self.is_too_slow = self.least.is_some_and(|least| self.bytes < due(least));
        (self.waited, self.bytes, self.sharers) = (Duration::ZERO, 0, 1);
    }

    /// Whether the body came too slowly in the last window.
    pub(super) fn is_too_slow(&self) -> bool {
        self.is_too_slow
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.open.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a body that brings `bytes` every so often has brought when it is given up; `None` when it never is, for an hour.
    fn given_up(pace: &mut Pace, bytes: usize, every: Duration) -> Option<usize> {
        let mut received = 0;
        for _ in 0..3600 * 1000 / every.as_millis() {
            let begun = pace.now();
            pace.clock.advance(every);
            pace.came(bytes, begun);
            received += bytes;
            if pace.is_too_slow() {
                return Some(received);
            }
        }
        None
    }

    fn alone(least: Option<u64>) -> Pace {
        Pace::begin(least, &OpenBodies::default(), &Clock::system())
    }

    #[test]
    fn a_body_that_drips_is_given_up_after_a_minute_of_waiting() {
        assert_eq!(given_up(&mut alone(Some(10)), 1, Duration::from_secs(2)), Some(30));
        assert_eq!(given_up(&mut alone(Some(10)), 19, Duration::from_secs(2)), Some(19 * 30));
        assert_eq!(given_up(&mut alone(Some(10)), 21, Duration::from_secs(2)), None);
        assert_eq!(given_up(&mut alone(None), 1, Duration::from_secs(20)), None);
    }

    #[test]
    fn a_thin_line_that_ten_bodies_share_is_not_taken_for_a_registry_that_drips() {
        let (open, clock) = (OpenBodies::default(), Clock::system());
        let mut bodies: Vec<_> = (0..10).map(|_| Pace::begin(Some(10), &open, &clock)).collect();
        let mut last = bodies.pop().expect("the tenth");
        let half = Duration::from_millis(500);
        assert_eq!(given_up(&mut last, 1, half), None, "two bytes a second for each are enough");
        drop(bodies);
        assert!(given_up(&mut last, 1, half).is_some(), "of one that is alone, they are too few");
    }

    #[test]
    fn those_who_shared_the_line_for_a_part_of_the_minute_count() {
        let (open, clock) = (OpenBodies::default(), Clock::system());
        let mut pace = Pace::begin(Some(10), &open, &clock);
        let others: Vec<_> = (0..9).map(|_| Pace::begin(Some(10), &open, &clock)).collect();
        let wait = |pace: &mut Pace, seconds| {
            let begun = pace.now();
            clock.advance(Duration::from_secs(seconds));
            pace.came(100, begun);
        };
        wait(&mut pace, 50);
        drop(others);
        wait(&mut pace, 10);
        assert!(!pace.is_too_slow());
    }

    #[test]
    fn time_in_which_nobody_waits_does_not_count() {
        let mut pace = alone(Some(10));
        for _ in 0..1000 {
            pace.came(1, pace.now());
            pace.clock.advance(Duration::from_secs(60));
        }
        assert!(!pace.is_too_slow());
    }
}
