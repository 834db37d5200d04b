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
        Self { rate: rate.map(limiter), wanted }
    }

    /// Waits until the rate allows the `moved` bytes that a download just brought. Ends at once when a client wants it.
    pub(super) async fn spend(&self, interest: &Interest, moved: u64) {
        let Some(rate) = self.rate.as_ref().filter(|_| !interest.is_wanted()) else { return };
        tokio::select! {
            () = rate.acquire(usize::try_from(moved).unwrap_or(usize::MAX)) => {}
            () = interest.wanted() => {}
        }
    }

    /// Waits before the next piece of a download that has `written` bytes: until no client's download runs, or for a
    /// while. Ends at once when a client wants it.
    pub(super) async fn give_way(&self, interest: &Interest, written: u64) {
        if interest.is_wanted() || written < HEAD_START {
            return;
        }
        let mut wanted = self.wanted.clone();
        tokio::select! {
            // Whether clients are served or the step is over: the next piece comes.
            _ = timeout(STEP, wanted.wait_for(|running| *running == 0)) => {}
            () = interest.wanted() => {}
        }
    }
}

/// Bytes per second that are not exceeded.
pub(super) struct Rate(RateLimiter);

impl Rate {
    /// At most `rate` bytes a second.
    pub(super) fn new(rate: u64) -> Self {
        Self(limiter(rate))
    }

    /// Waits until the rate allows the `moved` bytes that were just read.
    pub(super) async fn spend(&self, moved: u64) {
        self.0.acquire(usize::try_from(moved).unwrap_or(usize::MAX)).await;
    }
}

fn limiter(rate: u64) -> RateLimiter {
    let each = usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1);
    // A second's worth may come at once; pieces are not small against a thin line's rate.
    let most = each.saturating_mul(10);
    RateLimiter::builder().initial(most).max(most).refill(each).interval(REFILL).build()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;
    use crate::{
        metrics::Metrics,
        oci::{Digest, Repository},
        pull::{
            Limits,
            in_flight::{InFlight, Lead, Purpose},
        },
    };

    const AHEAD: Purpose = Purpose { wanted: false, keep: true, named: true };
    const WANTED: Purpose = Purpose { wanted: true, keep: true, named: true };

    fn repository() -> Repository {
        "docker.io/library/busybox".parse().expect("a name")
    }

    fn begin(flights: &InFlight, name: &str, purpose: Purpose) -> Lead {
        let digest = Digest::sha256(name.as_bytes());
        flights.join(&digest, &repository(), purpose).expect("room").1.expect("the first")
    }

    fn join(flights: &InFlight, name: &str) {
        let digest = Digest::sha256(name.as_bytes());
        assert!(flights.join(&digest, &repository(), WANTED).expect("room").1.is_none());
    }

    async fn took(wait: impl Future<Output = ()>) -> Duration {
        let begun = Instant::now();
        wait.await;
        begun.elapsed()
    }

    fn flights() -> InFlight {
        InFlight::new(4, 1, &Limits::default(), &Metrics::new())
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_by_all_downloads_together() {
        let flights = flights();
        let pace = Pace::new(Some(100_000), flights.wanted());
        let (one, two) = (begin(&flights, "one", AHEAD), begin(&flights, "two", AHEAD));
        // A second's worth comes at once; a piece may be larger than that.
        let spent = took(async {
            for _ in 0..10 {
                pace.spend(one.interest(), 50_000).await;
                pace.spend(two.interest(), 250_000).await;
            }
        });
        let seconds = spent.await.as_secs_f64();
        assert!((28.5..30.5).contains(&seconds), "3 MB in {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_rate_is_slow_and_ends() {
        let flights = flights();
        let pace = Pace::new(Some(1), flights.wanted());
        let lead = begin(&flights, "one", AHEAD);
        pace.spend(lead.interest(), 10).await;
        let spent = took(pace.spend(lead.interest(), 100)).await;
        assert!((Duration::from_secs(9)..Duration::from_secs(12)).contains(&spent), "{spent:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_client_nothing_waits() {
        let flights = flights();
        let pace = Pace::new(None, flights.wanted());
        let (lead, _other) = (begin(&flights, "one", AHEAD), begin(&flights, "two", AHEAD));
        let waited = took(async {
            pace.spend(lead.interest(), u64::MAX).await;
            pace.give_way(lead.interest(), u64::MAX).await;
        });
        assert_eq!(waited.await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_gives_way_to_clients_for_a_while_or_until_they_are_served() {
        let flights = flights();
        let pace = Pace::new(None, flights.wanted());
        let (ahead, client) = (begin(&flights, "ahead", AHEAD), begin(&flights, "client", WANTED));
        assert_eq!(took(pace.give_way(ahead.interest(), HEAD_START - 1)).await, Duration::ZERO);
        assert_eq!(took(pace.give_way(ahead.interest(), HEAD_START)).await, STEP);
        assert_eq!(took(pace.give_way(client.interest(), HEAD_START)).await, Duration::ZERO);
        let half = STEP / 2;
        let served = async {
            tokio::time::sleep(half).await;
            drop(client);
        };
        let (waited, ()) = tokio::join!(took(pace.give_way(ahead.interest(), HEAD_START)), served);
        assert_eq!(waited, half);
        assert_eq!(took(pace.give_way(ahead.interest(), HEAD_START)).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_comes_ends_every_wait() {
        let flights = Arc::new(flights());
        let pace = Pace::new(Some(1), flights.wanted());
        let _client = begin(&flights, "client", WANTED);
        for name in ["rate", "way"] {
            let lead = begin(&flights, name, AHEAD);
            let waits = async {
                match name {
                    "rate" => pace.spend(lead.interest(), 1_000_000).await,
                    _ => pace.give_way(lead.interest(), HEAD_START).await,
                }
            };
            let comes = async {
                tokio::task::yield_now().await;
                join(&flights, name);
            };
            let (waited, ()) = tokio::join!(took(waits), comes);
            assert_eq!(waited, Duration::ZERO, "{name}");
            assert!(lead.interest().is_wanted());
        }
        // A wait that was given up took nothing from those that follow: ten bytes come each second.
        let lead = begin(&flights, "next", AHEAD);
        assert!(took(pace.spend(lead.interest(), 20)).await <= Duration::from_secs(3));
    }

    #[test]
    fn downloads_that_clients_wait_for_are_counted_once_and_until_they_end() {
        let flights = flights();
        let counted = flights.wanted();
        let (one, two) = (begin(&flights, "one", AHEAD), begin(&flights, "two", WANTED));
        assert_eq!(*counted.borrow(), 1);
        for _ in 0..3 {
            join(&flights, "one");
            join(&flights, "two");
        }
        assert_eq!(*counted.borrow(), 2);
        drop(one);
        assert_eq!(*counted.borrow(), 1);
        // The same digest again is another download.
        let again = begin(&flights, "one", AHEAD);
        drop(two);
        drop(again);
        assert_eq!((*counted.borrow(), flights.open()), (0, 0));
    }
}
