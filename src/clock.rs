//! The one source of "now" for everything that expires, so that tests move time instead of sleeping.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;

/// Monotonic and wall-clock time. Clones share the same time.
///
/// Deadlines of waits use tokio's timers directly; this is for what is remembered: how fresh a tag is,
/// when a token expires, until when an endpoint rests.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Milliseconds by which [`Clock::advance`] has moved time on.
    ahead: Arc<AtomicU64>,
}

impl Clock {
    /// The system's time.
    pub fn system() -> Self {
        Self::default()
    }

    /// A point in monotonic time.
    pub fn now(&self) -> Instant {
        Instant::now() + self.ahead()
    }

    /// Whole seconds since 1970-01-01T00:00:00Z, for what is written down.
    pub fn unix_seconds(&self) -> u64 {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (since_1970 + self.ahead()).as_secs()
    }

    /// The minute of the day by this machine's local time, 0 to 1439.
    pub fn minute_of_day(&self) -> u16 {
        let seconds = i64::try_from(self.unix_seconds()).unwrap_or(i64::MAX);
        let now = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
        let local = now.to_zoned_datetime(jiff::tz::TimeZone::system());
        u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs())
    }

    /// Moves time on by `step` for this clock and its clones: for tests and simulations.
    pub fn advance(&self, step: Duration) {
        let millis = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
        self.ahead.fetch_add(millis, Ordering::Relaxed);
    }

    fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead.load(Ordering::Relaxed))
    }
}
