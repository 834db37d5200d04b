//! How many connections to one registry make a download faster.

use tokio::time::Instant;

use super::PIECE_BYTES;

/// What twice as many connections must bring to be worth it.
const GAIN: f64 = 1.15;

/// One, two, four, …: each is tried, and the next as long as it brings something.
#[derive(Debug)]
pub(super) struct Ladder {
    most: usize,
    width: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing came yet.
    New,
    /// Connections gather speed: until so many bytes have come.
    Settling { until: u64, before: Option<f64> },
    /// Since that moment, when so many bytes had come; with the rate of the width before.
    Measuring { since: Instant, from: u64, before: Option<f64> },
    /// Nothing more is tried.
    Found,
}

impl Ladder {
    /// Of up to `most` connections.
    pub(super) const fn new(most: usize) -> Self {
        Self { most, width: 1, state: State::New }
    }

    /// How many pieces are to be on their way; `None` when it turned out that one is as good as several.
    pub(super) const fn width(&self) -> Option<usize> {
        match self.state {
            State::Found if self.width == 1 => None,
            _ => Some(self.width),
        }
    }

    /// So many bytes have come by `now`, all together.
    pub(super) fn came(&mut self, bytes: u64, now: Instant) {
        let step = self.width as u64 * PIECE_BYTES;
        self.state = match self.state {
            State::New => State::Settling { until: bytes + step, before: None },
            State::Settling { until, before } if bytes >= until => {
                State::Measuring { since: now, from: bytes, before }
            }
            State::Measuring { since, from, before } if bytes >= from + step => {
                let took = now.duration_since(since).as_secs_f64().max(1e-6);
                let rate = (bytes - from) as f64 / took;
                if before.is_some_and(|before| rate < GAIN * before) {
                    self.width /= 2;
                    State::Found
                } else if self.width * 2 > self.most {
                    State::Found
                } else {
                    self.width *= 2;
                    State::Settling { until: bytes + step, before: Some(rate) }
                }
            }
            State::Settling { .. } | State::Measuring { .. } | State::Found => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// The width that is found on a line where `rate` tells what so many connections bring, in bytes a second.
    fn found(most: usize, rate: impl Fn(usize) -> f64) -> Option<usize> {
        let mut ladder = Ladder::new(most);
        let (mut now, mut bytes) = (Instant::now(), 0);
        for _ in 0..10_000 {
            let width = ladder.width()?;
            now += Duration::from_secs_f64(64.0 * 1024.0 / rate(width));
            bytes += 64 * 1024;
            ladder.came(bytes, now);
            let most = if most < 8 { 45 } else { 93 };
            assert!(bytes < most << 20 || matches!(ladder.state, State::Found), "it takes long");
        }
        ladder.width()
    }

    #[test]
    fn climbs_as_long_as_it_brings_something() {
        assert_eq!(found(4, |_| 1e7), None, "a line that one connection fills");
        assert_eq!(found(4, |width| 1e7 * width as f64), Some(4));
        assert_eq!(found(8, |width| 1e7 * width.min(4) as f64), Some(4));
        assert_eq!(found(2, |width| 1e7 * width as f64), Some(2));
        assert_eq!(found(3, |width| 1e7 * width as f64), Some(2));
        assert_eq!(found(4, |width| 1e7 / width as f64), None, "each takes from the others");
    }

    proptest! {
        #[test]
        fn is_never_wider_than_it_may_be(most in 1_usize..=8, rates in proptest::collection::vec(1e3..1e9, 9)) {
            let width = found(most, |width| rates[width]);
            prop_assert!(width.is_none_or(|width| (1..=most).contains(&width)));
        }
    }
}
