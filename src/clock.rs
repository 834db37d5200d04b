//! The one source of "now" for everything that expires, so that tests move time instead of sleeping.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{sync::Notify, time::Instant};

/// Monotonic and wall-clock time. Clones share the same time.
///
/// Deadlines of waits use tokio's timers directly; this is for what is remembered (how fresh a tag is,
/// when a token expires, until when an endpoint rests), and for what is looked at again after a while.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Milliseconds by which [`Clock::advance`] has moved time on.
    ahead: Arc<AtomicU64>,
    /// Told when it did.
    advanced: Arc<Notify>,
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

    /// Waits until this clock is `pause` further, be it because time passes or because it is moved on.
    pub async fn sleep(&self, pause: Duration) {
        let until = self.now() + pause;
        loop {
            let advanced = self.advanced.notified();
            let left = until.saturating_duration_since(self.now());
            if left.is_zero() || tokio::time::timeout(left, advanced).await.is_err() {
                return;
            }
        }
    }

    /// Moves time on by `step` for this clock and its clones: for tests and simulations.
    pub fn advance(&self, step: Duration) {
        let millis = u64::try_from(step.as_millis()).unwrap_or(u64::MAX);
        self.ahead.fetch_add(millis, Ordering::Relaxed);
        self.advanced.notify_waiters();
    }

    fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sleep_ends_when_its_time_has_passed_or_was_moved_on() {
        let clock = Clock::system();
        let mut asleep = pin!(clock.sleep(Duration::from_secs(10)));
        assert!(poll!(&mut asleep).is_pending());
        clock.advance(Duration::from_secs(6));
        assert!(poll!(&mut asleep).is_pending());
        let begun = Instant::now();
        asleep.await;
        assert_eq!(begun.elapsed().as_secs(), 4);
        let mut asleep = pin!(clock.sleep(Duration::from_secs(10)));
        assert!(poll!(&mut asleep).is_pending());
        clock.advance(Duration::from_secs(10));
        assert!(poll!(&mut asleep).is_ready());
    }
}
