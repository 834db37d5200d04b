//! How what is fetched ahead gives way: to clients, and to the rate that the operator allows it.

use std::time::Duration;

use leaky_bucket::RateLimiter;
use tokio::{sync::watch, time::timeout};

use super::in_flight::Interest;

/// Bytes of a download that nobody waits for yet which come as fast as they can, whatever else runs: by then the
/// registry has been asked, has redirected, and has answered, and a small layer is here.
const HEAD_START: u64 = 1024 * 1024;

/// How long a piece of it waits while clients' downloads run. A registry that could not send for long would hang up.
const STEP: Duration = Duration::from_secs(1);

/// How often the allowance is filled up.
const REFILL: Duration = Duration::from_millis(100);

/// The pace of downloads that no client waits for.
#[derive(Debug)]
pub(super) struct Pace {
    rate: Option<RateLimiter>,
    /// Downloads that run and that a client waits for.
    wanted: watch::Receiver<usize>,
}

impl Pace {
    /// At most `rate` bytes a second, and only what `wanted` leaves.
    pub(super) fn new(rate: Option<u64>, wanted: watch::Receiver<usize>) -> Self {
        let limiter = |rate: u64| {
            let each = usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1);
            // A second's worth may come at once; pieces are not small against a thin line's rate.
            let most = each.saturating_mul(10);
            RateLimiter::builder().initial(most).max(most).refill(each).interval(REFILL).build()
        };
        Self { rate: rate.map(limiter), wanted }
    }

    /// Waits before the next piece of a download that has `written` bytes, `moved` of them just now. Ends at once when
    /// a client wants it.
    pub(super) async fn give_way(&self, interest: &Interest, written: u64, moved: u64) {
        if interest.is_wanted() {
            return;
        }
        let wait = async {
            if let Some(rate) = &self.rate {
                rate.acquire(usize::try_from(moved).unwrap_or(usize::MAX)).await;
            }
            if written >= HEAD_START {
                let mut wanted = self.wanted.clone();
                // Whether clients are served or the step is over: the next piece comes.
                let _ = timeout(STEP, wanted.wait_for(|running| *running == 0)).await;
            }
        };
        tokio::select! {
            () = wait => {}
            () = interest.wanted() => {}
        }
    }
}
