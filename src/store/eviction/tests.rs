//! The choice of what goes, against what a plain count says.

use std::collections::{BTreeSet, HashSet};

use proptest::prelude::*;

use super::world::World;

const BLOBS: usize = 12;

/// What each unit leads to, when it was used, whether it stays.
type Units = Vec<(Vec<usize>, u64, bool)>;

fn units() -> impl Strategy<Value = Units> {
    let reach = proptest::collection::btree_set(0..BLOBS, 1..5);
    let unit = (reach, 0..6_u64, proptest::bool::weighted(0.25));
    let unit = unit.prop_map(|(reach, used, stays)| (reach.into_iter().collect(), used, stays));
    proptest::collection::vec(unit, 0..10)
}

/// Bytes of the blobs that only `chosen` lead to.
fn freed(sizes: &[u64], units: &Units, chosen: &BTreeSet<usize>) -> u64 {
    let goes = |blob: &usize| {
        let mut leads = units.iter().enumerate().filter(|(_, unit)| unit.0.contains(blob));
        let first = leads.next();
        first.into_iter().chain(leads).map(|(n, _)| chosen.contains(&n)).reduce(|all, is| all && is)
            == Some(true)
    };
    (0..BLOBS).filter(goes).map(|blob| sizes[blob]).sum()
}

proptest! {
    #[test]
    fn as_few_as_do_go_least_recently_pulled_first_and_nothing_that_stays_loses_a_blob(
        sizes in proptest::collection::vec(0..100_u64, BLOBS),
        units in units(),
        need in 1..500_u64,
    ) {
        let mut world = World::of(&sizes, &units);
        let candidates = world.candidates();
        let all: BTreeSet<usize> = candidates.iter().copied().collect();
        let Some(plan) = world.plan(need) else {
            prop_assert!(freed(&sizes, &units, &all) < need, "there was room to be made");
            return Ok(());
        };
        let chosen: BTreeSet<usize> = plan.iter().copied().collect();
        prop_assert!(freed(&sizes, &units, &chosen) >= need);
        prop_assert!(chosen.is_subset(&all), "what stays was chosen");
        let last = *plan.last().expect("something is needed");
        let mut fewer = chosen.clone();
        fewer.remove(&last);
        prop_assert!(freed(&sizes, &units, &fewer) < need, "more than was needed");
        for older in candidates.iter().take_while(|n| **n != last) {
            // What is older than the last to go, and stays, would free nothing of its own.
            let mut with = chosen.clone();
            with.insert(*older);
            prop_assert_eq!(freed(&sizes, &units, &with), freed(&sizes, &units, &chosen));
        }
        let mut went = 0;
        for n in &plan {
            let gone: HashSet<_> = world.alone(*n).into_iter().collect();
            went += gone.iter().map(|digest| world.size(digest)).sum::<u64>();
            let lost = world.lost(*n);
            world.went(*n, &gone, &lost);
        }
        prop_assert_eq!(went, freed(&sizes, &units, &chosen));
        for (n, unit) in units.iter().enumerate().filter(|(n, _)| !chosen.contains(n)) {
            let left = world.units[n].reach.iter().map(|digest| world.size(digest)).sum::<u64>();
            prop_assert_eq!(left, unit.0.iter().map(|blob| sizes[*blob]).sum::<u64>());
        }
    }
}
