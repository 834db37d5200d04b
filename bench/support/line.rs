//! A line of a known rate, shared by all that goes through it.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{now, pause};

/// How far the line may lag behind its schedule before the time is lost: a sender that the scheduler woke late
/// catches up, one that had nothing to send does not.
const CATCH_UP: Duration = Duration::from_millis(4);

/// How fast an upstream sends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// As fast as the loopback takes it.
    Unlimited,
    /// So many megabits (10^6) a second, bodies alone.
    Megabits(u32),
}

/// A token bucket that is never more than [`CATCH_UP`] full.
#[derive(Debug)]
pub(crate) struct Line {
    rate: Rate,
    /// When everything accepted so far will be through.
    busy_until: Mutex<Instant>,
    /// How many have something to send.
    senders: AtomicUsize,
}

/// Somebody who has something to send over a line, until it is dropped.
pub(crate) struct Sender<'a>(&'a Line);

impl Line {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, busy_until: Mutex::new(now()), senders: AtomicUsize::new(0) }
    }

    /// Somebody begins to send: a line on which nobody did has no time to make up.
    pub(crate) fn enter(&self) -> Sender<'_> {
        if self.senders.fetch_add(1, Ordering::Relaxed) == 0 {
            let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
            *busy_until = now().max(*busy_until);
        }
        Sender(self)
    }

    /// Bytes that go through at once: about an eighth of a millisecond's worth at 1 Gbit/s.
    pub(crate) fn grain(&self) -> usize {
        match self.rate {
            Rate::Unlimited => 256 * 1024,
            Rate::Megabits(_) => 16 * 1024,
        }
    }

    /// Blocks until `bytes` more are through.
    pub(crate) fn pass(&self, bytes: usize) {
        let Rate::Megabits(megabits) = self.rate else { return };
        let takes = Duration::from_secs_f64(bytes as f64 * 8e-6 / f64::from(megabits));
        let through = {
            let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
            let begins = now().checked_sub(CATCH_UP).map_or(*busy_until, |at| at.max(*busy_until));
            *busy_until = begins + takes;
            *busy_until
        };
        let early = through.saturating_duration_since(now());
        if !early.is_zero() {
            pause(early);
        }
    }
}

impl Drop for Sender<'_> {
    fn drop(&mut self) {
        self.0.senders.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlimited => write!(f, "bare loopback"),
            Self::Megabits(megabits) if megabits % 1000 == 0 => {
                write!(f, "{} Gbit/s", megabits / 1000)
            }
            Self::Megabits(megabits) => write!(f, "{megabits} Mbit/s"),
        }
    }
}
