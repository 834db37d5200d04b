//! When memory is given back: once after the start, and when a burst is over.

use std::time::Duration;

use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

use super::Cache;
use crate::memory;

/// After this, what the start needed is free.
const START: Duration = Duration::from_secs(1);

/// How often it is looked whether a burst is over.
const LOOKS: Duration = Duration::from_secs(5);

/// The least time between two walks through the heap, which take some 10 ms.
const LEAST_PAUSE: Duration = Duration::from_secs(20);

/// Connections and tasks less than at the most: with fewer, there is not much to give back.
const BURST: u64 = 32;

/// What has been, and whether it is over.
#[derive(Debug, Default)]
struct Leisure {
    /// The most that was open since memory was last given back.
    most: u64,
    /// Whether it was quiet at the last look already.
    is_quiet: bool,
    given_back: Option<Instant>,
}

impl Leisure {
    /// Whether now is the time: so much is `open`, and `most` was since the last look.
    ///
    /// Quiet is when no more than a quarter of the most is left, at two looks, in between which nothing else came.
    fn is_due(&mut self, now: Instant, open: u64, most: u64) -> bool {
        let Some(before) = self.given_back else {
            (self.given_back, self.most) = (Some(now), open);
            return true;
        };
        self.most = self.most.max(most);
        let is_over = |open: u64| open <= self.most / 4 && self.most - open >= BURST;
        let was_quiet = std::mem::replace(&mut self.is_quiet, is_over(open));
        let is_due = was_quiet && is_over(most) && now - before >= LEAST_PAUSE;
        if is_due {
            *self = Self { most: open, is_quiet: false, given_back: Some(now) };
        }
        is_due
    }
}

/// Gives memory back whenever it is time.
pub(super) async fn give_back(cache: Cache, shutdown: CancellationToken) {
    let mut leisure = Leisure::default();
    let mut looks = interval_at(Instant::now() + START, LOOKS);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Some(now) = shutdown.run_until_cancelled(looks.tick()).await {
        let tasks = cache.pull.open() as u64;
        let (open, most) = cache.metrics.connections();
        if leisure.is_due(now, open + tasks, most + tasks) {
            // It ends by itself, within milliseconds.
            let gave_back = spawn_blocking(memory::give_back).await.unwrap_or_default();
            tracing::debug!(gave_back, took = ?now.elapsed(), "gave memory back that was free");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every five seconds at so much; at which of them memory is given back.
    fn due(looks: &[(u64, u64)]) -> Vec<usize> {
        let (mut leisure, start) = (Leisure::default(), Instant::now());
        let at = |look: usize| start + START + LOOKS * u32::try_from(look).expect("few");
        let due = looks.iter().enumerate();
        due.filter(|(look, (open, most))| leisure.is_due(at(*look), *open, *most))
            .map(|(look, _)| look)
            .collect()
    }

    #[test]
    fn it_is_due_after_the_start_and_when_a_burst_is_over_for_a_while() {
        assert_eq!(due(&[(0, 0); 1000]), [0], "nothing happened since");
        let mut looks = vec![(0, 0); 20];
        looks.extend([(900, 1000), (1000, 1000), (2, 1000), (2, 2), (2, 2), (2, 2)]);
        assert_eq!(due(&looks), [0, 23]);
        // It came and went between two looks.
        let mut looks = vec![(0, 0); 20];
        looks.extend([(0, 1000), (0, 0), (0, 0)]);
        assert_eq!(due(&looks), [0, 21]);
    }

    #[test]
    fn what_goes_on_or_was_little_makes_none_due() {
        let mut looks = vec![(0, 0); 20];
        looks.extend([(1000, 1000); 20]);
        looks.extend([(300, 1000); 20]);
        assert_eq!(due(&looks), [0], "more than a quarter is there still");
        let mut looks = vec![(0, 0); 20];
        looks.extend([(BURST - 1, BURST - 1), (0, BURST - 1), (0, 0), (0, 0)]);
        assert_eq!(due(&looks), [0], "there is not much to give back");
        let mut looks = vec![(0, 0); 20];
        looks.extend([(0, 1000); 20]);
        assert_eq!(due(&looks), [0], "one burst after the other");
    }

    #[test]
    fn it_is_due_at_most_every_twenty_seconds() {
        let burst = [(1000, 1000), (0, 1000), (0, 0)];
        let looks: Vec<_> = burst.iter().copied().cycle().take(90).collect();
        let due = due(&looks);
        assert!(due.len() > 5, "{due:?}");
        assert!(due.windows(2).all(|pair| pair[1] - pair[0] >= 4), "{due:?}");
        // One that is over before is remembered until then.
        let looks = [vec![(0, 0), (0, 1000)], vec![(0, 0); 20]].concat();
        assert_eq!(self::due(&looks), [0, 4]);
    }
}
