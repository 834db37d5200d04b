//! [`Ranges`]: which of the numbers from 0 on are there, as runs.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// Numbers, as the runs that they form: each its first and the one behind its last, in order, with gaps between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds those of `range`.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut from, mut to) = (range.start, range.end);
        // Those that it overlaps or touches.
        let first = self.0.partition_point(|run| run.1 < from);
        let behind = self.0.partition_point(|run| run.0 <= to);
        if let Some(joined) = self.0.get(first..behind).filter(|joined| !joined.is_empty()) {
            from = from.min(joined[0].0);
            to = to.max(joined[joined.len() - 1].1);
        }
        self.0.splice(first..behind, [(from, to)]);
    }

    /// What of `range` is not there, in order.
    pub(super) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let (mut gaps, mut at) = (Vec::new(), range.start);
        let first = self.0.partition_point(|run| run.1 <= range.start);
        for &(from, to) in &self.0[first..] {
            if from >= range.end {
                break;
            }
            if at < from {
                gaps.push(at..from);
            }
            at = to;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Whether all of `range` is there.
    pub(super) fn cover(&self, range: Range<u64>) -> bool {
        self.gaps(range).is_empty()
    }

    /// All of them, one by one.
    pub(super) fn each(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|&(from, to)| from..to)
    }

    /// How many there are.
    pub(super) fn total(&self) -> u64 {
        self.0.iter().map(|(from, to)| to - from).fold(0, u64::saturating_add)
    }

    /// Behind the last.
    pub(super) fn end(&self) -> u64 {
        self.0.last().map_or(0, |run| run.1)
    }

    /// Whether all of them are of `range`.
    pub(super) fn lie_within(&self, range: &Range<u64>) -> bool {
        self.0.first().is_none_or(|run| run.0 >= range.start && self.end() <= range.end)
    }

    /// In how many runs.
    pub(super) fn runs(&self) -> usize {
        self.0.len()
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, number: u64) {
        let Some(at) = self.0.iter().position(|&(from, to)| (from..to).contains(&number)) else {
            return;
        };
        let (from, to) = self.0[at];
        let rest = [(from, number), (number + 1, to)];
        self.0.splice(at..=at, rest.into_iter().filter(|(from, to)| from < to));
    }
}

impl TryFrom<Vec<(u64, u64)>> for Ranges {
    type Error = &'static str;

    fn try_from(runs: Vec<(u64, u64)>) -> Result<Self, Self::Error> {
        let are_runs = runs.iter().all(|(from, to)| from < to);
        if are_runs && runs.windows(2).all(|pair| pair[0].1 < pair[1].0) {
            return Ok(Self(runs));
        }
        Err("these are not runs of numbers in order")
    }
}

impl From<Ranges> for Vec<(u64, u64)> {
    fn from(ranges: Ranges) -> Self {
        ranges.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_the_numbers_that_were_put_in_and_not_taken_out(
            steps in proptest::collection::vec((any::<bool>(), 0_u64..60, 0_u64..20), 0..40),
            asked in (0_u64..60, 0_u64..30),
        ) {
            let (mut ranges, mut numbers) = (Ranges::default(), BTreeSet::new());
            for (goes, from, len) in steps {
                if goes {
                    ranges.remove(from);
                    numbers.remove(&from);
                } else {
                    ranges.insert(from..from + len);
                    numbers.extend(from..from + len);
                }
            }
            prop_assert!(ranges.each().eq(numbers.iter().copied()));
            prop_assert_eq!(ranges.total(), numbers.len() as u64);
            prop_assert_eq!(ranges.end(), numbers.last().map_or(0, |last| last + 1));
            let range = asked.0..asked.0 + asked.1;
            let missing: Vec<u64> = range.clone().filter(|n| !numbers.contains(n)).collect();
            let gaps: Vec<u64> = ranges.gaps(range.clone()).into_iter().flatten().collect();
            prop_assert_eq!(ranges.cover(range), gaps.is_empty());
            prop_assert_eq!(gaps, missing);
            let written = serde_json::to_string(&ranges).expect("numbers");
            prop_assert_eq!(serde_json::from_str::<Ranges>(&written).expect("read"), ranges);
        }
    }

    #[test]
    fn what_are_no_runs_is_not_read() {
        for text in ["[[1,1]]", "[[2,1]]", "[[1,3],[3,4]]", "[[4,5],[1,2]]", "[[1]]", "{}"] {
            assert!(serde_json::from_str::<Ranges>(text).is_err(), "{text}");
        }
    }
}
